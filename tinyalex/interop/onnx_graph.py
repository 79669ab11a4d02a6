"""Reads an ONNX file as a chain of layers, each with its constants, from one image to the outputs.

The file is data: nothing in it is run, no tensor is larger than the bytes that it has, and a file of external data has
to lie in the folder of the ONNX file. What computes with constants only, weights that are transposed or the shape of a
Reshape, is computed here. A node that reads anything but constants and the output of the node before it ends the chain
with an error that names it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from tinyalex.errors import CheckpointError
from tinyalex.interop.imported import one_line

LIMIT = 1 << 31  # bytes: protobuf reads no larger message
_NUMBERS = 1 << 28  # of the largest constant
_MADE = 1 << 29  # numbers of all constants that nodes compute
_FEW = 1 << 12  # numbers that a node may compute a new constant from, such as a shape
_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
_KINDS = {*_FLOATS, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL}
BATCH = -1  # for the number of images, which a Reshape may read

Shape = tuple[int, ...]  # of one image: (c, h, w) or (m,)


@dataclass(frozen=True)
class Step:
    """A node of the chain: its operator, its name for messages, the shapes before and after it, and its settings."""

    kind: str
    name: str
    before: Shape
    after: Shape
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Chain:
    """The layers between a graph's image and its output.

    Attributes
    ----------
    shape : tuple of int
        (3, S, S) of the image.
    steps : list of Step
    producer : str
        What wrote the file, as it says.
    """

    shape: Shape
    steps: list[Step]
    producer: str


def parse(path: str | Path) -> ModelProto:
    """Read an ONNX file.

    Raises
    ------
    CheckpointError
        If it is none, is larger than 2 GB, or is truncated.
    """
    path = Path(path)
    try:
        if path.stat().st_size >= LIMIT:
            raise CheckpointError(f"{path}: larger than 2 GB; store its tensors as external data")
        model = ModelProto.FromString(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); give another file") from error
    except CheckpointError:
        raise
    except Exception as error:  # protobuf's DecodeError, or for text that is not UTF-8 another one
        raise CheckpointError(f"{path}: not an ONNX file, or truncated ({type(error).__name__})") from error
    if not model.graph.node or not model.opset_import:
        raise CheckpointError(f"{path}: not an ONNX file, or truncated: it has no graph or names no operator set")
    return model


def chain(path: str | Path, model: ModelProto) -> Chain:
    """Read the layers of a model.

    Raises
    ------
    CheckpointError
        If it does not read one image in the order (n, c, h, w), or is not a chain of layers; the message names the
        node.
    """
    path = Path(path)
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx"):
            raise refusal(path, node, f"is of the operator set {text(node.domain)}")
    tensors = _Constants(path, model)
    image = _image(path, model, set(tensors.names()))
    walk = _Walk(path, tensors, image.name, _sides(path, image))
    steps: list[Step] = []
    for node in model.graph.node:
        try:
            step = walk.take(node)
        except (CheckpointError, MemoryError):
            raise
        except Exception as error:  # attributes and shapes that do not fit can make NumPy raise anything
            raise refusal(path, node, f"has settings or inputs that do not fit ({one_line(str(error))})") from error
        if step is not None:
            steps.append(step)
    outputs = {output.name for output in model.graph.output}
    if walk.current not in outputs:
        raise CheckpointError(f"{path}: the last node computes {walk.current!r:.60}, which is no output of the graph")
    return Chain(_sides(path, image), steps, text(model.producer_name))


def label(node: NodeProto) -> str:
    """Return what a message calls a node: its operator, and its name or that of its first output."""
    name = node.name or (node.output[0] if node.output else "")
    return f"{text(node.op_type, 40)} {text(name)!r}"


def text(value: str | bytes, most: int = 80) -> str:
    """Return a name in a file as a part of a line; protobuf gives those that are not UTF-8 as bytes."""
    return one_line(value if isinstance(value, str) else value.decode(errors="replace"), most)


def refusal(path: Path, node: NodeProto, problem: str) -> CheckpointError:
    """Make the error for a node that does not fit."""
    return CheckpointError(f"{path}: node {label(node)} {problem}; only AlexNets can be imported")


def _image(path: Path, model: ModelProto, constants: set[str]) -> Any:
    inputs = [each for each in model.graph.input if each.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(repr(each.name)[:40] for each in inputs[:4]) or "none"
        raise CheckpointError(f"{path}: its graph has {len(inputs)} inputs ({names}); an AlexNet has one, the images")
    return inputs[0]


def _sides(path: Path, image: Any) -> Shape:
    kind = image.type.tensor_type
    sides = [each.dim_value if each.HasField("dim_value") else 0 for each in kind.shape.dim]
    _, channels, height, width = sides if len(sides) == 4 else (0, 0, 0, 0)
    if kind.elem_type not in _FLOATS or channels != 3 or height != width or not 1 <= height <= 4096:
        shown = " x ".join(str(side or "?") for side in sides) or "no tensor"
        raise CheckpointError(
            f"{path}: its input {image.name!r:.60} is {shown}; expected images in floating point, n x 3 x S x S"
        )
    return channels, height, width


class _Constants:
    """The constants of a graph by name; tensors are read when they are asked for."""

    def __init__(self, path: Path, model: ModelProto) -> None:
        self.path = path
        self._stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self._made: dict[str, np.ndarray] = {}
        self._room = _MADE
        if len(self._stored) != len(model.graph.initializer) or model.graph.sparse_initializer:
            raise CheckpointError(f"{path}: two initializers of one name, or sparse ones; simplify the model first")

    def names(self) -> list[str]:
        return [*self._stored, *self._made]

    def __contains__(self, name: str) -> bool:
        return name in self._stored or name in self._made

    def __getitem__(self, name: str) -> np.ndarray:
        return self._made[name] if name in self._made else self.value(self._stored[name])

    def __setitem__(self, name: str, value: np.ndarray) -> None:
        self._room -= value.size
        if self._room < 0:
            raise CheckpointError(f"{self.path}: its nodes compute more than {_MADE:,} constant numbers; too many")
        self._made[name] = value

    def value(self, tensor: TensorProto) -> np.ndarray:
        """Return a tensor's numbers; floating ones as float32."""
        name = repr(tensor.name)[:60]
        if tensor.data_type not in _KINDS:
            kind = TensorProto.DataType.Name(tensor.data_type) if tensor.data_type else "no type"
            raise CheckpointError(f"{self.path}: tensor {name} is of {kind}; give a model in floating point")
        count = math.prod(tensor.dims)
        if any(side < 0 for side in tensor.dims) or count > _NUMBERS:
            raise CheckpointError(f"{self.path}: tensor {name} has {list(tensor.dims)!s:.60} numbers; too many")
        try:
            if tensor.data_location == TensorProto.EXTERNAL:
                tensor = self._with_external(tensor, count)
            array = numpy_helper.to_array(tensor)
        except CheckpointError:
            raise
        except Exception as error:  # fewer numbers than its shape says
            raise CheckpointError(f"{self.path}: tensor {name} is truncated or damaged") from error
        return array.astype(np.float32, copy=False) if tensor.data_type in _FLOATS else array

    def _with_external(self, tensor: TensorProto, count: int) -> TensorProto:
        # The same tensor with its numbers, from a file in the same folder.
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        folder = self.path.resolve().parent
        outside = CheckpointError(
            f"{self.path}: tensor {tensor.name!r:.60} lies in {location!r:.60}, which is not a file in the same folder"
        )
        if not location or "\0" in location or Path(location).is_absolute():
            raise outside
        file = (folder / location).resolve()
        if not file.is_relative_to(folder) or not file.is_file():
            raise outside
        width = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", count * width))
        if length != count * width or offset < 0 or offset + length > file.stat().st_size:
            raise ValueError("a span")
        whole = TensorProto(data_type=tensor.data_type, dims=tensor.dims, name=tensor.name)
        with open(file, "rb") as stream:
            stream.seek(offset)
            whole.raw_data = stream.read(length)
        return whole


_TYPES: dict[str, type] = {  # of attributes; other attributes are not read, or only by `Constant`
    **dict.fromkeys(("axis", "ceil_mode", "group", "size", "transA", "transB", "to", "start", "end"), int),
    **dict.fromkeys(("alpha", "beta", "bias", "ratio"), float),
    **dict.fromkeys(("kernel_shape", "strides", "pads", "dilations", "perm", "axes", "shape"), list),
    "auto_pad": bytes,
}


def _attributes(node: NodeProto) -> dict[str, Any]:
    found: dict[str, Any] = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    if len(found) != len(node.attribute):
        raise ValueError("an attribute twice")
    for key in found.keys() & _TYPES.keys():
        if not _is(found[key], _TYPES[key]):
            raise ValueError(f"{key} is {found[key]!r}")
    return found


def _is(value: Any, kind: type) -> bool:
    # Lists are lists of whole numbers.
    whole = kind is not list or (isinstance(value, list) and all(type(each) is int for each in value))
    return whole and isinstance(value, kind)


class _Walk:
    """Follows a graph node by node: `current` is the output of the last one, `shape` that of one image in it."""

    def __init__(self, path: Path, constants: _Constants, image: str, shape: Shape) -> None:
        self.path, self.constants, self.current, self.shape = path, constants, image, shape
        self.used = {image}  # names of what was computed

    def take(self, node: NodeProto) -> Step | None:
        """Follow a node; return its step of the chain, None if it computes constants or changes nothing."""
        given, made = [name for name in node.input if name], [name for name in node.output if name]
        if len({*made}) != len(made) or self.used & {*made} or any(name in self.constants for name in made):
            raise self.refused(node, "has an output whose name is taken")
        self.used |= {*made}
        attributes = _attributes(node)
        if all(name in self.constants for name in given):
            self.fold(node, given, attributes)
            return None
        if node.op_type == "Shape" and given == [self.current]:
            value = np.array([BATCH, *self.shape], np.int64)
            self.constants[node.output[0]] = value[attributes.get("start", 0) : attributes.get("end")]
            return None
        other = next((name for name in given if name not in self.constants and name != self.current), None)
        if other is not None or given.count(self.current) != 1:
            raise self.refused(node, f"reads {(other or self.current)!r:.60}, not the layer before it alone")
        handler = _LAYERS.get(node.op_type)
        if handler is None:
            raise self.refused(node, "is no layer of an AlexNet")
        step = handler(self, node, attributes)
        self.current = node.output[0]
        if step is not None:
            self.shape = step.after
        return step

    def refused(self, node: NodeProto, problem: str) -> CheckpointError:
        return refusal(self.path, node, problem)

    def step(self, node: NodeProto, after: Shape | None = None, **settings: Any) -> Step:
        return Step(node.op_type, label(node), self.shape, self.shape if after is None else after, settings)

    def constant(self, node: NodeProto, position: int) -> np.ndarray | None:
        """Return a node's constant input; None if it has none there."""
        name = node.input[position] if len(node.input) > position else ""
        return self.constants[name] if name else None

    def fold(self, node: NodeProto, given: list[str], attributes: dict[str, Any]) -> None:
        """Compute a node that reads constants only."""
        compute = _FOLDED.get(node.op_type)
        if compute is None or len(node.output) != 1:
            raise self.refused(node, "computes with constants in a way that is not read; simplify the model first")
        values = [self.constants[name] for name in given]
        if node.op_type == "Constant":
            if "value" in attributes:
                attributes = {"value": self.constants.value(attributes["value"])}
        elif node.op_type == "ConstantOfShape":
            fill = self.constants.value(attributes["value"]) if "value" in attributes else np.zeros(1, np.float32)
            attributes = {"value": fill.reshape(-1)[0]}
        elif node.op_type not in _FREE and sum(value.size for value in values) > _FEW:
            raise self.refused(node, "computes with large constants; simplify the model first")
        self.constants[node.output[0]] = np.asarray(compute(values, attributes))

    # Layers. Each takes the node and its attributes, and returns its step.

    def convolution(self, node: NodeProto, attributes: dict[str, Any]) -> Step:
        W, b = self.constant(node, 1), self.constant(node, 2)
        c, h, w = self.image(node)
        if W is None or node.input[0] != self.current or W.ndim != 4 or W.shape[2] != W.shape[3]:
            raise self.refused(node, "has no square kernels of its own")
        group, kernel = attributes.get("group", 1), W.shape[2]
        if group < 1 or W.shape[1] * group != c or W.shape[0] % group or 0 in W.shape:
            raise self.refused(node, f"has kernels {W.shape} in {group} group(s) for {c} maps")
        if attributes.get("kernel_shape", [kernel] * 2) != [kernel] * 2:
            raise self.refused(node, f"has kernels {W.shape} and says {attributes['kernel_shape']}")
        stride, pads = self.window(node, attributes, kernel)
        sides = [1 + (side + before + after - kernel) // stride
                 for side, before, after in ((h, pads[0], pads[2]), (w, pads[1], pads[3]))]  # fmt: skip
        return self.step(node, (W.shape[0], *sides), W=W, b=self.bias(node, b, W.shape[0]), group=group, kernel=kernel,
                         stride=stride, pad=pads[0])  # fmt: skip

    def pool(self, node: NodeProto, attributes: dict[str, Any]) -> Step | None:
        c, h, w = self.image(node)
        kernel = attributes["kernel_shape"][0]
        if list(attributes["kernel_shape"]) != [kernel] * 2 or len([name for name in node.output if name]) > 1:
            raise self.refused(node, "has other windows than square ones, or two outputs")
        stride, pads = self.window(node, attributes, kernel)
        up = attributes.get("ceil_mode", 0)
        sides = []
        for side, before, after in ((h, pads[0], pads[2]), (w, pads[1], pads[3])):
            span = side + before + after - kernel
            count = 1 + (-(-span // stride) if up else span // stride)
            sides.append(count - int(bool(up) and (count - 1) * stride >= side + before))
        if node.op_type == "AveragePool":
            if kernel == 1 and stride == 1 and not any(pads):
                return None  # what an adaptive average pool to its input's size becomes
            raise self.refused(node, f"averages windows of {kernel} x {kernel}")
        return self.step(node, (c, *sides), kernel=kernel, stride=stride, pad=pads[0])

    def average(self, node: NodeProto, attributes: dict[str, Any]) -> None:
        if self.shape[1:] != (1, 1):
            raise self.refused(node, f"averages maps of {' x '.join(map(str, self.shape[1:]))}")

    def window(self, node: NodeProto, attributes: dict[str, Any], kernel: int) -> tuple[int, list[int]]:
        """Return the stride and the pads (top, left, bottom, right) of a convolution or a pool."""
        strides, dilations = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
        pads, automatic = list(attributes.get("pads", [0, 0, 0, 0])), attributes.get("auto_pad", b"NOTSET")
        stride = strides[0]
        if list(strides) != [stride] * 2 or stride < 1 or list(dilations) != [1, 1] or len(pads) != 4:
            raise self.refused(node, "has dilated windows, or other strides down than across")
        if automatic in (b"SAME_UPPER", b"SAME_LOWER"):
            (before, after), *others = [
                (total // 2, total - total // 2) if automatic == b"SAME_UPPER" else (total - total // 2, total // 2)
                for total in (max(0, (-(-side // stride) - 1) * stride + kernel - side) for side in self.shape[1:])
            ]
            pads = [before, before, after, after]
            if any(other != (before, after) for other in others):
                raise self.refused(node, "pads other pixels down than across")
        elif automatic not in (b"NOTSET", b"VALID", b""):
            raise self.refused(node, f"pads in the way {automatic!r:.40}")
        if pads[0] != pads[1] or min(pads) < 0 or max(pads) > kernel or min(self.shape[1:]) + pads[0] < kernel:
            raise self.refused(node, f"pads {pads} pixels for windows of {kernel} on {self.shape[1]} x {self.shape[2]}")
        return stride, pads

    def image(self, node: NodeProto) -> Shape:
        if len(self.shape) != 3:
            raise self.refused(node, "stands behind a layer that is no image")
        return self.shape

    def bias(self, node: NodeProto, b: np.ndarray | None, count: int) -> np.ndarray:
        if b is None:
            return np.zeros(count, np.float32)
        if b.size not in (1, count):
            raise self.refused(node, f"has {b.size} biases for {count} outputs")
        return np.broadcast_to(b.reshape(-1), (count,)).astype(np.float32)

    def linear(self, node: NodeProto, attributes: dict[str, Any]) -> Step:
        B = self.constant(node, 1)
        if node.input[0] != self.current or B is None or B.ndim != 2 or attributes.get("transA", 0):
            raise self.refused(node, "does not multiply the last layer by weights of its own")
        rows = B if attributes.get("transB", 0) else B.T  # (o, m)
        if rows.shape[1:] != self.shape or not len(rows):
            raise self.refused(node, f"has weights {rows.shape} for {' x '.join(map(str, self.shape))} inputs")
        b = self.bias(node, self.constant(node, 2) if node.op_type == "Gemm" else None, len(rows))
        alpha, beta = (np.float32(attributes.get(key, 1.0)) for key in ("alpha", "beta"))
        if alpha != 1:
            rows = rows * alpha
        return self.step(node, (len(rows),), W=rows, b=b * beta)

    def normalization(self, node: NodeProto, attributes: dict[str, Any]) -> Step:
        self.image(node)
        constants = {"alpha": attributes.get("alpha", 1e-4), "beta": attributes.get("beta", 0.75)}
        return self.step(node, size=attributes["size"], k=attributes.get("bias", 1.0), **constants)

    def flatten(self, node: NodeProto, attributes: dict[str, Any]) -> Step:
        if attributes.get("axis", 1) != 1:
            raise self.refused(node, f"flattens from axis {attributes['axis']}")
        return self.step(node, (math.prod(self.shape),))

    def reshape(self, node: NodeProto, attributes: dict[str, Any]) -> Step:
        target = self.constant(node, 1)
        target = np.asarray(attributes["shape"] if target is None else target).reshape(-1)
        count = math.prod(self.shape)
        if len(target) != 2 or target[1] not in (count, -1):
            raise self.refused(node, f"makes {target.tolist()!s:.60} of {' x '.join(map(str, self.shape))}")
        return self.step(node, (count,))

    def squeeze(self, node: NodeProto, attributes: dict[str, Any]) -> Step:
        if self.shape[1:] != (1, 1):
            raise self.refused(node, "leaves out axes of more than one number")
        return self.step(node, self.shape[:1])

    def dropout(self, node: NodeProto, attributes: dict[str, Any]) -> Step:
        ratio = self.constant(node, 1)
        return self.step(node, ratio=float(attributes.get("ratio", 0.5) if ratio is None else ratio.reshape(-1)[0]))

    def unchanged(self, node: NodeProto, attributes: dict[str, Any]) -> Step:
        return self.step(node)

    def identity(self, node: NodeProto, attributes: dict[str, Any]) -> None:
        return None

    def cast(self, node: NodeProto, attributes: dict[str, Any]) -> None:
        if attributes["to"] not in _FLOATS:
            raise self.refused(node, "rounds the last layer to whole numbers")

    def arithmetic(self, node: NodeProto, attributes: dict[str, Any]) -> Step:
        first = node.input[0] == self.current
        value = self.constant(node, 1 if first else 0)
        if value is None or "broadcast" in attributes or (not first and node.op_type in ("Sub", "Div")):
            raise self.refused(node, "computes something else than the last layer and a constant")
        count = len(self.shape)
        wide = value.reshape((1,) * (count - value.ndim) + value.shape[max(0, value.ndim - count) :])
        if value.size != wide.size:
            raise self.refused(node, f"adds or multiplies by a constant {value.shape}")
        np.broadcast_to(wide, self.shape)
        return self.step(node, value=wide.astype(np.float64))


_LAYERS: dict[str, Callable[[_Walk, NodeProto, dict[str, Any]], Step | None]] = {
    "Conv": _Walk.convolution,
    "Gemm": _Walk.linear,
    "MatMul": _Walk.linear,
    "MaxPool": _Walk.pool,
    "AveragePool": _Walk.pool,
    "GlobalAveragePool": _Walk.average,
    "LRN": _Walk.normalization,
    "Flatten": _Walk.flatten,
    "Reshape": _Walk.reshape,
    "Squeeze": _Walk.squeeze,
    "Dropout": _Walk.dropout,
    "Identity": _Walk.identity,
    "Cast": _Walk.cast,
    **dict.fromkeys(("Relu", "Tanh", "Softmax", "LogSoftmax"), _Walk.unchanged),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _Walk.arithmetic),
}


def _filled(values: list[np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    shape = [int(side) for side in values[0].reshape(-1)]
    if any(side < 0 for side in shape) or math.prod(shape) > _NUMBERS:
        raise ValueError(f"{math.prod(shape)} numbers")
    return np.broadcast_to(attributes["value"], shape)


def _given(values: list[np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    (key, value), *others = attributes.items()
    if others or key not in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        raise ValueError(key)
    return value if key == "value" else np.array(value, np.float32 if "float" in key else np.int64)


def _axes(values: list[np.ndarray], attributes: dict[str, Any]) -> tuple[int, ...]:
    return tuple(int(axis) for axis in (attributes["axes"] if len(values) == 1 else values[1].reshape(-1)))


def _reshaped(values: list[np.ndarray], attributes: dict[str, Any]) -> np.ndarray:
    target = attributes["shape"] if len(values) == 1 else values[1].reshape(-1)
    kept = [values[0].shape[at] if side == 0 else int(side) for at, side in enumerate(target)]
    return values[0].reshape(kept)


_FREE = ("Constant", "ConstantOfShape", "Identity", "Cast", "Transpose", "Reshape", "Squeeze", "Unsqueeze")
_FOLDED: dict[str, Callable[[list[np.ndarray], dict[str, Any]], Any]] = {
    "Constant": _given,
    "ConstantOfShape": _filled,
    "Identity": lambda values, _: values[0],
    "Cast": lambda values, attributes: values[0].astype(_numpy_kind(attributes["to"])),
    "Transpose": lambda values, attributes: values[0].transpose(attributes.get("perm")),
    "Reshape": _reshaped,
    "Squeeze": lambda values, attributes: values[0].squeeze(_axes(values, attributes)),
    "Unsqueeze": lambda values, attributes: np.expand_dims(values[0], _axes(values, attributes)),
    "Shape": lambda values, _: np.array(values[0].shape, np.int64),
    "Concat": lambda values, attributes: np.concatenate(values, attributes["axis"]),
    "Gather": lambda values, attributes: values[0].take(values[1], attributes.get("axis", 0)),
}


def _numpy_kind(number: int) -> Any:
    if number not in _KINDS:
        raise ValueError(f"type {number}")
    return np.float32 if number in _FLOATS else helper.tensor_dtype_to_np_dtype(number)

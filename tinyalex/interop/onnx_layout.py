"""The layers of a net as nodes of an ONNX graph, with the initializers that hold its parameters.

ONNX keeps images as (n, c, h, w) and the kernels of a convolution as (o, c, k, k). The net is laid out in its grouped
form: two columns that do not exchange maps are a convolution of two groups, and what stays inside a column otherwise is
split, computed for each column, and joined. Where a last window hangs over the edge, the graph pads as many pixels at
the end. Every operator is one of opset 17.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import NodeProto, helper

from tinyalex.errors import UsageError
from tinyalex.layers import (
    LRN,
    AvgPool,
    Conv2d,
    Dropout,
    Linear,
    LocallyConnected,
    MaxPool,
    Parameter,
    ReLU,
    SpatialNorm,
    Tanh,
)
from tinyalex.layers.layer import Layer, grouped
from tinyalex.network.network import Network

OPSET, IR_VERSION = 17, 8
INPUT, LOGITS, PROBABILITIES = "images", "logits", "probabilities"
MEAN = "mean"  # the initializer of the mean image

Shape = tuple[int, ...]
Convert = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Weights:
    """An initializer that holds parameters of a net.

    Attributes
    ----------
    names : tuple of str
        The parameters, as in `Network.state`; several, one for each column, lie side by side in the last axis.
    shape : tuple of int
        Of the initializer.
    to_onnx, from_onnx : callable
        Change the order of the axes; the numbers stay what they are.
    """

    names: tuple[str, ...]
    shape: Shape
    to_onnx: Convert
    from_onnx: Convert

    def stored(self, state: dict[str, np.ndarray]) -> np.ndarray:
        """Return the initializer of a net's state."""
        return np.ascontiguousarray(self.to_onnx(np.concatenate([state[name] for name in self.names], axis=-1)))

    def restored(self, array: np.ndarray) -> dict[str, np.ndarray]:
        """Return the parameters that an initializer holds: the inverse of `stored`."""
        whole = self.from_onnx(array)
        width = whole.shape[-1]
        cuts = zip(self.names, grouped(width, width, len(self.names)), strict=True)
        return {name: np.ascontiguousarray(whole[..., cut]) for name, (_, cut) in cuts}


@dataclass
class Graph:
    """Nodes, parameters by the names of their initializers, and constants."""

    nodes: list[NodeProto] = field(default_factory=list)
    weights: dict[str, Weights] = field(default_factory=dict)
    constants: dict[str, np.ndarray] = field(default_factory=dict)

    def node(self, kind: str, inputs: Sequence[str], name: str, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node; return the name of its output, or a list of them."""
        made = [name] if outputs == 1 else [f"{name}.{number}" for number in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), made, name=name, **attributes))
        return made[0] if outputs == 1 else made

    def constant(self, name: str, value: Any, dtype: str = "float32") -> str:
        """Add a constant; return its name."""
        self.constants[name] = np.array(value, dtype)
        return name


def lay_out(network: Network, scale: float, mean_side: int) -> Graph:
    """Lay out a net in its grouped form, from images of pixels from 0 to 255 to logits and probabilities.

    Parameters
    ----------
    network : Network
        Described for one device; no arrays are needed.
    scale : float
        What pixels are multiplied by, after the mean image is subtracted.
    mean_side : int
        Pixels down and across of the mean image, of which the graph cuts the centre.

    Raises
    ------
    UsageError
        If the net has a layer that is none of ONNX's; the message names it.
    """
    graph = Graph()
    x = _preprocess(graph, network.input_shape[0], scale, mean_side)
    shape: Shape = network.input_shape
    for _, layer in network.layers():
        x = _add(graph, layer, x, shape)
        shape = layer.output_shape(shape)
    graph.nodes[-1].output[0] = LOGITS
    graph.node("Softmax", [LOGITS], PROBABILITIES, axis=1)
    return graph


def base(layer: Layer) -> str:
    """Return a layer's name without the letter of its column."""
    return layer.parameters[0].layer if layer.parameters else layer.names[0]


def _preprocess(graph: Graph, side: int, scale: float, mean_side: int) -> str:
    def planes(image: np.ndarray) -> np.ndarray:
        return image.transpose(2, 0, 1)[None]  # (S, S, 3) to (1, 3, S, S)

    def pixels(image: np.ndarray) -> np.ndarray:
        return image[0].transpose(1, 2, 0)

    graph.weights[MEAN] = Weights(("data/mean",), (1, 3, mean_side, mean_side), planes, pixels)
    mean = MEAN
    if mean_side != side:
        first = (mean_side - side) // 2
        begin, end = (graph.constant(f"crop/{w}", [v, v], "int64") for w, v in (("b", first), ("e", first + side)))
        mean = graph.node("Slice", [MEAN, begin, end, graph.constant("crop/axes", [2, 3], "int64")], "crop")
    x = graph.node("Sub", [INPUT, mean], "centred")
    return x if scale == 1 else graph.node("Mul", [x, graph.constant("scale/factor", scale)], "scaled")


def _add(graph: Graph, layer: Layer, x: str, shape: Shape) -> str:
    name = base(layer)
    if isinstance(layer, ReLU | Tanh):
        return graph.node("Relu" if isinstance(layer, ReLU) else "Tanh", [x], name)
    if isinstance(layer, Conv2d):
        return _convolution(graph, layer, x, shape)
    if isinstance(layer, Linear):
        return _linear(graph, layer, x)
    if isinstance(layer, MaxPool | AvgPool):
        kind = "MaxPool" if isinstance(layer, MaxPool) else "AveragePool"
        pads = _pads(shape, layer.output_shape(shape), layer.window, layer.stride, 0)
        return graph.node(kind, [x], name, kernel_shape=[layer.window] * 2, strides=[layer.stride] * 2, pads=pads)
    if isinstance(layer, Dropout):  # at test time ours scales; ONNX's does nothing
        return graph.node("Mul", [x, graph.constant(f"{name}/kept", 1 - layer.p)], name) if layer.p else x
    if isinstance(layer, LRN):
        return _across_maps(graph, layer, x)
    if type(layer) is SpatialNorm:
        return _across_pixels(graph, layer, x)
    if isinstance(layer, LocallyConnected):
        return _local(graph, layer, x, shape)
    raise UsageError(f"{name}: ONNX has no operator for {type(layer).__name__}; write .safetensors instead")


def _pads(shape: Shape, output: Shape, kernel: int, stride: int, pad: int) -> list[int]:
    # Zeros before and after, down and across: after, as many as the last window needs.
    after = [max(0, (count - 1) * stride + kernel - side - pad) for side, count in zip(shape[:2], output, strict=False)]
    return [pad, pad, *after]


def _parameter(graph: Graph, parameter: Parameter, to_onnx: Convert, from_onnx: Convert, shape: Shape) -> str:
    # One initializer for the parameter in all columns.
    name = f"{parameter.layer}/{parameter.kind}"
    names = tuple(f"{each}/{parameter.kind}" for each in parameter.names)
    graph.weights[name] = Weights(names, shape, to_onnx, from_onnx)
    return name


def _as_it_is(array: np.ndarray) -> np.ndarray:
    return array


def _bias(graph: Graph, parameter: Parameter) -> str:
    return _parameter(graph, parameter, _as_it_is, _as_it_is, parameter.shape)


def _convolution(graph: Graph, layer: Conv2d, x: str, shape: Shape) -> str:
    kernel, stride, pad, _ = layer.geometry.values()
    pads = _pads(shape, layer.output_shape(shape), kernel, stride, pad)
    W = _parameter(
        graph,
        layer.W,
        lambda W: W.transpose(3, 2, 0, 1),  # (k, k, c, o) to (o, c, k, k)
        lambda W: W.transpose(2, 3, 1, 0),
        (layer.maps, layer.channels // layer.groups, kernel, kernel),
    )
    form: dict[str, Any] = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": pads, "group": layer.groups}
    return graph.node("Conv", [x, W, _bias(graph, layer.b)], base(layer), **form)


def _linear(graph: Graph, layer: Linear, x: str) -> str:
    name, count = base(layer), layer.groups
    xs = graph.node("Split", [x], f"{name}.inputs", count, axis=1) if count > 1 else [x]
    inputs = (*layer.inputs[:-1], layer.inputs[-1] // count)
    ys = []
    for number, (x, (_, outputs)) in enumerate(zip(xs, grouped(layer.inputs[-1], layer.outputs, count), strict=True)):
        part = layer.W.names[number] if count > 1 else name
        if len(inputs) == 3:
            x = graph.node("Flatten", [x], f"{part}.flat", axis=1)
        width = outputs.stop - outputs.start if count > 1 else layer.outputs
        names = (part,) if count > 1 else layer.W.names
        W, b = f"{part}/W", f"{part}/b"
        shape = (width, math.prod(inputs))
        graph.weights[W] = Weights(tuple(f"{each}/W" for each in names), shape, *_rows(inputs))
        graph.weights[b] = Weights(tuple(f"{each}/b" for each in names), (width,), _as_it_is, _as_it_is)
        ys.append(graph.node("Gemm", [x, W, b], part, transB=1))
    return ys[0] if count == 1 else graph.node("Concat", ys, name, axis=1)


def _rows(inputs: Shape) -> tuple[Convert, Convert]:
    # Between weights (h w c, o), or (m, o), and a row for each output, (o, c h w) or (o, m).
    if len(inputs) == 1:
        return np.transpose, np.transpose
    h, w, c = inputs

    def to_onnx(W: np.ndarray) -> np.ndarray:
        return W.reshape(h, w, c, -1).transpose(3, 2, 0, 1).reshape(-1, c * h * w)

    def from_onnx(W: np.ndarray) -> np.ndarray:
        return W.reshape(-1, c, h, w).transpose(2, 3, 1, 0).reshape(h * w * c, -1)

    return to_onnx, from_onnx


def _across_maps(graph: Graph, layer: LRN, x: str) -> str:
    if layer.size % 2 == 0:
        raise UsageError(
            f"{layer.name}: ONNX's LRN puts a window of an even number of maps, {layer.size}, elsewhere; "
            "write .safetensors instead"
        )
    settings: dict[str, Any] = {
        "size": layer.size,
        "alpha": layer.alpha * layer.size,
        "beta": layer.beta,
        "bias": layer.k,
    }
    if layer.groups == 1:
        return graph.node("LRN", [x], layer.name, **settings)
    xs = graph.node("Split", [x], f"{layer.name}.inputs", layer.groups, axis=1)
    ys = [graph.node("LRN", [each], f"{layer.name}{letter}", **settings) for each, letter in zip(xs, "ab", strict=True)]
    return graph.node("Concat", ys, layer.name, axis=1)


def _across_pixels(graph: Graph, layer: SpatialNorm, x: str) -> str:
    # y = x d^-beta with d = k + alpha S x^2: the mean over a window that counts the zeros around, times its pixels.
    name, size, before = layer.name, layer.size, layer.size // 2
    pads = [before, before, size - 1 - before, size - 1 - before]
    form: dict[str, Any] = {"kernel_shape": [size] * 2, "strides": [1, 1], "pads": pads, "count_include_pad": 1}
    energy = graph.node("AveragePool", [graph.node("Mul", [x, x], f"{name}.squares")], f"{name}.energy", **form)
    alpha = graph.constant(f"{name}/alpha", layer.alpha * size * size)
    weighted = graph.node("Mul", [energy, alpha], f"{name}.weighted")
    d = graph.node("Add", [weighted, graph.constant(f"{name}/k", layer.k)], f"{name}.d")
    power = graph.node("Pow", [d, graph.constant(f"{name}/power", -layer.beta)], f"{name}.factor")
    return graph.node("Mul", [x, power], name)


def _local(graph: Graph, layer: LocallyConnected, x: str, shape: Shape) -> str:
    # A convolution whose kernels have a single 1 copies the patches, one product for each output position follows.
    name, (ho, wo, o), c = layer.name, layer.output_shape(shape), shape[2]
    kernel, stride, pad, _ = layer.geometry.values()
    taps, places = kernel * kernel * c, ho * wo
    ones = np.eye(kernel * kernel, dtype=np.float32).reshape(-1, 1, kernel, kernel)
    copies = graph.constant(f"{name}/copies", np.tile(ones, (c, 1, 1, 1)))
    form: dict[str, Any] = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "group": c}
    form["pads"] = _pads(shape, (ho, wo), kernel, stride, pad)
    patches = graph.node("Conv", [x, copies], f"{name}.patches", **form)  # (n, c k k, ho, wo)
    flat = graph.constant(f"{name}/flat", [0, taps, places], "int64")
    rows = graph.node("Transpose", [graph.node("Reshape", [patches, flat], f"{name}.flat")], f"{name}.rows",
                      perm=[2, 0, 1])  # fmt: skip
    W = _parameter(
        graph,
        layer.W,
        lambda W: W.transpose(0, 1, 4, 2, 3, 5).reshape(places, taps, o),  # the patches' order is (c, k, k)
        lambda W: W.reshape(ho, wo, c, kernel, kernel, o).transpose(0, 1, 3, 4, 2, 5),
        (places, taps, o),
    )
    product = graph.node("MatMul", [rows, W], f"{name}.products")  # (ho wo, n, o)
    maps = graph.node("Transpose", [product], f"{name}.maps", perm=[1, 2, 0])
    square = graph.node("Reshape", [maps, graph.constant(f"{name}/square", [0, o, ho, wo], "int64")], f"{name}.square")
    b = _parameter(graph, layer.b, lambda b: b.transpose(2, 0, 1), lambda b: b.transpose(1, 2, 0), (o, ho, wo))
    return graph.node("Add", [square, b], name)

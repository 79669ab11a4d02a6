"""ONNX models for tests: small AlexNets in the ways in which other programs write them, and their values."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 99  # 23 positions in conv1, then maps of 11, 5 and 2 pixels


class Maker:
    """Collects the nodes and constants of a chain of layers; `x` is the output of the last one."""

    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.constants, self.x = [], {}, "data"

    def add(self, kind, *constants, first=True, outputs=1, **attributes):
        """Add a node that reads x and constants; x is its first input."""
        name = f"{kind.lower()}{len(self.nodes)}"
        names = []
        for number, value in enumerate(constants):
            names.append(f"{name}.{number}")
            self.constants[names[-1]] = value
        made = [name, *(f"{name}.mask{number}" for number in range(1, outputs))]
        inputs = [self.x, *names] if first else [*names, self.x]
        self.nodes.append(helper.make_node(kind, inputs, made, name=f"{kind} {len(self.nodes)}", **attributes))
        self.x = name

    def weights(self, *shape):
        """Draw weights that keep a signal."""
        return self.rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape).astype(np.float32)

    def biases(self, count):
        return self.rng.normal(0, 0.1, count).astype(np.float32)

    def model(self, side=SIDE, batch="n", outputs=None, opset=13, producer="", channels=3, **fields):
        """Make the model of what was added."""
        images = helper.make_tensor_value_info("data", TensorProto.FLOAT, [batch, channels, side, side])
        names = outputs or [self.x]
        results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", "classes"]) for name in names]
        stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in self.constants.items()]
        graph = helper.make_graph(self.nodes, "net", [images], results, stored, **fields)
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, producer_name=producer
        )


def add_linear(made, kind, outputs, inputs):
    """Add a fully connected layer as one of the operators that compute one."""
    W, b = made.weights(outputs, inputs), made.biases(outputs)
    if kind == "Gemm":
        made.add("Gemm", W, b, transB=1)
    elif kind == "Gemm of columns":
        made.add("Gemm", np.ascontiguousarray(W.T / 2), b * 4, alpha=2.0, beta=0.25)
    elif kind == "MatMul":
        made.add("MatMul", np.ascontiguousarray(W.T))
        made.add("Add", b, first=outputs % 2 == 0)
    else:
        made.add("Gemm", W, transB=1)


def alexnet(
    side=SIDE, classes=5, maps=(8, 12, 16, 16, 12), hidden=14, groups=2, order=("Relu", "LRN", "MaxPool"),
    linear="Gemm", flatten="Flatten", dropout=0.5, pads=(0, 2, 1, 1, 1), ceil=0, tail=(), before=(), between=(),
    seed=0, same=False, **fields,
):  # fmt: skip
    """Make a small AlexNet; the arguments say in which way."""
    made = Maker(seed)
    for kind, value in before:
        made.add(kind, np.asarray(value, np.float32))
    channels, size = 3, side
    for number, (count, kernel, pad) in enumerate(zip(maps, (11, 5, 3, 3, 3), pads, strict=True), 1):
        group, stride = groups if number in (2, 4, 5) else 1, 4 if number == 1 else 1
        padding = {"auto_pad": "SAME_UPPER"} if same and number > 1 else {"pads": [pad] * 4}
        W = made.weights(count, channels // group, kernel, kernel) / (64 if number == 1 and not before else 1)
        made.add("Conv", W, made.biases(count), kernel_shape=[kernel] * 2, strides=[stride] * 2, group=group, **padding)
        channels, size = count, (size + 2 * pad - kernel) // stride + 1
        layers = order if number < 3 else (("Relu", "MaxPool") if number == 5 else ("Relu",))
        for layer in layers:
            if layer == "LRN":
                made.add("LRN", size=5, alpha=0.5, beta=0.75, bias=1.5)
            elif layer == "MaxPool":
                made.add("MaxPool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=ceil)
                size = 1 + (-(-(size - 3) // 2) if ceil else (size - 3) // 2)
            else:
                made.add("Relu")
        for kind, *values in between if number == 4 else ():
            made.add(kind, *values)
    inputs = channels * size * size
    if flatten == "Flatten":
        made.add("Flatten", axis=1)
    else:
        made.add("Reshape", np.array(flatten, np.int64))
    for number, (outputs, width) in enumerate(((hidden, inputs), (hidden, hidden), (classes, hidden)), 6):
        add_linear(made, linear, outputs, width)
        if number < 8:
            made.add("Relu")
            if dropout is not None:
                made.add("Dropout", np.float32(dropout), outputs=2)
    logits = made.x
    for kind in tail:
        made.add(kind)
    return made.model(side, **fields), logits


def values(model, images, *names):
    """Run a model with onnxruntime; return the named values, or all outputs."""
    import onnxruntime

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for name in names:
        if name not in [output.name for output in copy.graph.output]:
            copy.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(copy.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    x = np.ascontiguousarray(np.asarray(images, np.float32).transpose(0, 3, 1, 2))
    if image.shape[0] == 1:
        parts = [session.run(list(names) or None, {image.name: x[n : n + 1]}) for n in range(len(x))]
        return [np.concatenate(part) for part in zip(*parts, strict=True)]
    return session.run(list(names) or None, {image.name: x})

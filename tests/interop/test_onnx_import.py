"""AlexNets of other programs in ONNX are read, and compute the same; other graphs are refused by the node."""

import os
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support import caffe_files, torch_nets
from tests.support.imported_nets import computed, error
from tinyalex.errors import CheckpointError, UsageError
from tinyalex.interop import onnx_format
from tinyalex.interop.imported import CHANNEL_MEANS, Options

onnx = pytest.importorskip("onnx", reason="these tests write ONNX files: pip install 'tinyalex[interop]'")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from tests.support import onnx_nets  # noqa: E402
from tinyalex.interop import onnx_graph  # noqa: E402

PIXELS = Options(input="pixels")


@pytest.fixture
def ort():
    return pytest.importorskip("onnxruntime", reason="onnxruntime is the oracle: pip install 'tinyalex[parity]'")


def read(model, tmp_path, options=PIXELS):
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return onnx_format.read(path, options)


def noise(side=onnx_nets.SIDE, count=3):
    return torch_nets.noise(side, count)


FORMS = {
    "like Caffe's": {},
    "like CaffeNet": {"order": ("Relu", "MaxPool", "LRN")},
    "one column": {"groups": 1},
    "without normalization": {"order": ("Relu", "MaxPool")},
    "padding in conv1": {"pads": (2, 2, 1, 1, 1)},
    "less padding": {"pads": (0, 1, 1, 0, 1), "side": 131},
    "padding found automatically": {"same": True},
    "pools rounded up": {"ceil": 1, "side": 101},
    "logits and probabilities": {"tail": ("Softmax",)},
    "logarithms": {"tail": ("LogSoftmax",)},
    "one image": {"batch": 1},
    "reshaped for one image": {"batch": 1, "flatten": (1, -1)},
    "reshaped": {"flatten": (-1, 48)},
    "reshaped with the batch's size": {"flatten": (0, -1)},
    "weights in columns": {"linear": "Gemm of columns"},
    "products and sums": {"linear": "MatMul"},
    "without biases": {"linear": "Gemm alone"},
    "without dropout": {"dropout": None},
    "other dropout": {"dropout": 0.25},
    "a factor between layers": {"between": (("Mul", np.float32([0.5])),)},
    "identities": {"tail": ("Identity",), "between": (("Identity",),)},
    "mean of each colour": {"before": (("Sub", np.full((1, 3, 1, 1), 100.0)), ("Div", np.full(1, 50.0)))},
    "normalized in the graph": {
        "before": (("Mul", 1 / 255), ("Sub", np.float32(torch_nets.MEAN)[:, None, None]),
                   ("Div", np.float32(torch_nets.STD)[:, None, None])),
    },
    "mean image": {"before": (("Sub", np.random.default_rng(5).uniform(50, 200, (3, 99, 99))),)},
    "reversed signs": {"before": (("Mul", -0.1), ("Add", 3.0))},
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_an_imported_net_computes_the_same(form, ort, tmp_path):
    model, logits = onnx_nets.alexnet(**FORMS[form])
    onnx.checker.check_model(model, full_check=True)
    imported = read(model, tmp_path)
    pixels = noise(imported.recipe.net.input)
    (wanted,) = onnx_nets.values(model, pixels, logits)
    assert wanted.std(axis=0).max() > 0.01 * np.abs(wanted).max()  # the images differ in what they give
    assert error(computed(imported, pixels), wanted) < 1e-5


def test_the_settings_of_a_net_like_caffes(tmp_path):
    net = read(onnx_nets.alexnet()[0], tmp_path).recipe.net
    assert (net.columns, net.talk, net.maps) == (2, ("conv3", "fc6", "fc7", "fc8"), (8, 12, 16, 16, 12))
    assert (net.norm, net.norm_window, net.norm_order, net.norm_k) == ("paper", "all", "norm-pool", 1.5)
    assert net.norm_alpha == 0.5 / 5 and net.dropout == 0.5 and net.pads == (0, 2, 1, 1, 1)
    assert read(onnx_nets.alexnet(dropout=0.25)[0], tmp_path).recipe.net.dropout == 0.25


FAULTS = {
    "the window of normalization": lambda net: replace(net, norm_window="column"),
    "alpha of normalization": lambda net: replace(net, norm_alpha=net.norm_alpha * 5),
    "k of normalization": lambda net: replace(net, norm_k=2.0),
    "the order of pool and norm": lambda net: replace(net, norm_order="pool-norm"),
    "the dropout": lambda net: replace(net, dropout=0.0),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_noticed(fault, ort, tmp_path):
    model, logits = onnx_nets.alexnet()
    imported = read(model, tmp_path)
    spoilt = replace(imported, recipe=replace(imported.recipe, net=FAULTS[fault](imported.recipe.net)))
    (wanted,) = onnx_nets.values(model, noise(), logits)
    assert error(computed(spoilt, noise()), wanted) > 1e-4


# What the images are.


def test_caffes_input_is_bgr_minus_its_mean_colour(ort, tmp_path):
    model, logits = onnx_nets.alexnet(producer="onnx-caffe2")
    for options in (Options(), Options(input="caffe")):
        imported = read(model, tmp_path, options)
        (wanted,) = onnx_nets.values(model, (noise() - np.float32(CHANNEL_MEANS))[..., ::-1], logits)
        assert error(computed(imported, noise()), wanted) < 1e-5


@pytest.mark.parametrize("side", [99, 113])
def test_a_mean_image_of_caffe(side, ort, tmp_path):
    model, logits = onnx_nets.alexnet(producer="onnx-caffe2")
    mean, path = np.random.default_rng(3).uniform(80, 150, (side, side, 3)).astype(np.float32), tmp_path / "mean"
    path.write_bytes(caffe_files.blob(mean.transpose(2, 0, 1)[None, ::-1]))
    imported = read(model, tmp_path, Options(mean=str(path)))
    np.testing.assert_array_equal(imported.mean, mean)
    first = (side - 99) // 2
    (wanted,) = onnx_nets.values(model, (noise() - mean[first:, first:][:99, :99])[..., ::-1], logits)
    assert error(computed(imported, noise()), wanted) < 1e-5


def test_pytorchs_input_is_normalized(ort, tmp_path):
    model, logits = onnx_nets.alexnet(producer="pytorch")
    imported = read(model, tmp_path, Options())
    assert "torchvision" in imported.notes[0]
    (wanted,) = onnx_nets.values(model, (noise() / 255 - torch_nets.MEAN) / torch_nets.STD, logits)
    assert error(computed(imported, noise()), wanted) < 1e-5


def test_an_input_that_nobody_describes_is_asked_for(tmp_path):
    with pytest.raises(UsageError, match="by 'somebody', does not say what images it reads; add --input"):
        read(onnx_nets.alexnet(producer="somebody")[0], tmp_path, Options())


def test_a_graph_that_subtracts_reads_pixels(tmp_path):
    imported = read(onnx_nets.alexnet(before=(("Sub", 100.0),))[0], tmp_path, Options())
    assert imported.notes == ("its input is taken as pixels: RGB, from 0 to 255",)
    assert imported.mean.shape == (113, 113, 3) and (imported.mean == 100).all()  # 99 is to 113 as 224 to 256


@pytest.mark.parametrize("options, message", [
    (Options(deploy="x"), "leave out --deploy"),
    (Options(input="torchvision", mean="x"), "leave out --mean"),
])  # fmt: skip
def test_options_that_say_things_twice_are_refused(options, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        read(onnx_nets.alexnet()[0], tmp_path, options)


# Constants in other forms.


def as_nodes(model):
    """Write every initializer as a node: a constant, transposed or reshaped where it has several axes."""
    nodes = []
    for tensor in list(model.graph.initializer):
        array, name = numpy_helper.to_array(tensor), tensor.name
        stored, last = array, f"{name}.stored"
        if array.ndim == 2:
            stored = array.T
            nodes.append(helper.make_node("Transpose", [last], [name], perm=[1, 0]))
        elif array.ndim == 4:
            stored = array.reshape(array.shape[0], -1)
            nodes.append(helper.make_node("Constant", [], [f"{name}.shape"], value_ints=list(array.shape)))
            nodes.append(helper.make_node("Reshape", [last, f"{name}.shape"], [name]))
        else:
            nodes.append(helper.make_node("Identity", [last], [name]))
        value = numpy_helper.from_array(np.array(stored, order="C"))
        nodes.insert(0, helper.make_node("Constant", [], [last], value=value))
    del model.graph.initializer[:]
    nodes += list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def as_double(model):
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    return model


def as_numbers(model):
    """Write the numbers in the fields for single numbers instead of raw bytes."""
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            array = numpy_helper.to_array(tensor)
            tensor.CopyFrom(helper.make_tensor(tensor.name, TensorProto.FLOAT, array.shape, array.reshape(-1)))
    return model


def as_inputs(model):
    """List the initializers as inputs, as files of ONNX's first versions do."""
    for tensor in model.graph.initializer:
        kind = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        model.graph.input.append(kind)
    return model


def as_shape_arithmetic(model):
    """Compute the shape of the Flatten from that of its input, as exporters with a symbolic batch do."""
    nodes = list(model.graph.node)
    at = next(n for n, node in enumerate(nodes) if node.op_type == "Flatten")
    x, y = nodes[at].input[0], nodes[at].output[0]
    for name, value in (("zero", 0), ("axis", [0]), ("rest", [-1])):
        model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), name))
    nodes[at : at + 1] = [
        helper.make_node("Shape", [x], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["first"], axis=0),
        helper.make_node("Unsqueeze", ["first", "axis"], ["count"]),
        helper.make_node("Concat", ["count", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", [x, "target"], [y]),
    ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


@pytest.mark.parametrize("change", [as_nodes, as_double, as_numbers, as_inputs, as_shape_arithmetic])
def test_constants_in_other_forms(change, tmp_path):
    wanted = read(onnx_nets.alexnet()[0], tmp_path)
    found = read(change(onnx_nets.alexnet()[0]), tmp_path)
    assert found.recipe == wanted.recipe
    for name, value in wanted.state.items():
        np.testing.assert_array_equal(found.state[name], value, err_msg=name)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_precision(kind, tmp_path):
    import ml_dtypes

    dtype = np.float16 if kind == "float16" else ml_dtypes.bfloat16
    model, _ = onnx_nets.alexnet()
    wanted = {}
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            array = numpy_helper.to_array(tensor).astype(dtype)
            wanted[tensor.name] = array.astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    state = read(model, tmp_path).state
    np.testing.assert_array_equal(state["conv1a/W"], wanted["conv0.0"].transpose(2, 3, 1, 0)[..., :4])
    np.testing.assert_array_equal(state["fc8/b"], [each for each in wanted.values()][-1])


# External data.


def external(model, tmp_path, **entries):
    """Move the first weights into another file, `entries` change what the model says about it."""
    tensor = model.graph.initializer[0]
    content = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    (tmp_path / "weights.bin").write_bytes(bytes(100) + content)
    for key, value in ({"location": "weights.bin", "offset": "100", "length": str(len(content))} | entries).items():
        tensor.external_data.append(onnx.StringStringEntryProto(key=key, value=value))
    return model


def test_external_data_in_the_same_folder(tmp_path):
    wanted = read(onnx_nets.alexnet()[0], tmp_path)
    found = read(external(onnx_nets.alexnet()[0], tmp_path), tmp_path)
    np.testing.assert_array_equal(found.state["conv1a/W"], wanted.state["conv1a/W"])


@pytest.mark.parametrize("location", ["../weights.bin", "{absolute}", "link.bin", "missing.bin", "", ".", "a\0b"])
def test_external_data_elsewhere_are_refused(location, tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    model = external(onnx_nets.alexnet()[0], tmp_path)
    os.symlink(tmp_path / "weights.bin", inner / "link.bin")
    next(
        entry for entry in model.graph.initializer[0].external_data if entry.key == "location"
    ).value = location.format(absolute=tmp_path / "weights.bin")
    with pytest.raises(CheckpointError, match="which is not a file in the same folder"):
        read(model, inner)


@pytest.mark.parametrize("entries", [
    {"offset": "1000000"}, {"offset": "-5"}, {"length": "4"}, {"length": "1000000000000"}, {"offset": "x"},
])  # fmt: skip
def test_external_data_beyond_the_file_are_refused(entries, tmp_path):
    with pytest.raises(CheckpointError, match="tensor 'conv0.0' is truncated or damaged"):
        read(external(onnx_nets.alexnet()[0], tmp_path, **entries), tmp_path)


# What is refused.


def chain(*layers, **fields):
    """A model of a few layers: (operator, constants, attributes)."""
    made = onnx_nets.Maker()
    for kind, constants, attributes in layers:
        made.add(kind, *constants, **attributes)
    return made.model(**fields)


W = np.ones((4, 3, 3, 3), np.float32)
CONV = ("Conv", (W,), {})


def with_input(**changes):
    model, _ = onnx_nets.alexnet()
    shape = helper.make_tensor_value_info("data", changes.get("kind", TensorProto.FLOAT), changes["shape"])
    model.graph.input[0].CopyFrom(shape)
    return model


def with_residual():
    model, _ = onnx_nets.alexnet()
    model.graph.node.insert(10, helper.make_node("Add", ["maxpool7", "relu9"], ["sum"], name="residual"))
    return model


def with_branch(output=None):
    model, _ = onnx_nets.alexnet()
    if output:
        model.graph.node[10].output[0] = output
    else:
        model.graph.node[10].input[0] = "maxpool7"
    return model


def with_attribute_twice():
    model, _ = onnx_nets.alexnet()
    model.graph.node[4].attribute.append(helper.make_attribute("group", 1))
    return model


def with_attribute(number, **attributes):
    model, _ = onnx_nets.alexnet()
    node = model.graph.node[number]
    for key, value in attributes.items():
        kept = [each for each in node.attribute if each.name != key]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(key, value)])
    return model


def without(*numbers):
    """A net without some of its nodes."""
    model, _ = onnx_nets.alexnet()
    for number in sorted(numbers, reverse=True):
        node = model.graph.node[number]
        for later in model.graph.node:
            for at, name in enumerate(later.input):
                if name == node.output[0]:
                    later.input[at] = node.input[0]
        del model.graph.node[number]
    return model


def vgg():
    layers = [("Conv", (np.ones((4, 3 if n == 0 else 4, 3, 3), np.float32),), {"pads": [1] * 4}) for n in range(8)]
    return chain(*layers)


REFUSED = {
    "text": (lambda: with_input(shape=["n", 7], kind=TensorProto.INT64), "its input 'data' is ? x 7; expected images"),
    "one colour": (lambda: with_input(shape=["n", 1, 99, 99]), "its input 'data' is ? x 1 x 99 x 99; expected images"),
    "colours last": (lambda: with_input(shape=[1, 99, 99, 3]), "its input 'data' is 1 x 99 x 99 x 3; expected images"),
    "any size": (lambda: with_input(shape=["n", 3, "h", "w"]), "its input 'data' is ? x 3 x ? x ?; expected images"),
    "huge": (lambda: with_input(shape=[1, 3, 1 << 40, 1 << 40]), "expected images in floating point, n x 3 x S x S"),
    "a sum of two layers": (with_residual, "node Add 'residual' reads 'maxpool7', not the layer before it alone"),
    "a branch": (with_branch, "node Conv 'Conv 10' reads 'maxpool7', not the layer before it alone"),
    "batch normalization": (
        lambda: chain(CONV, ("BatchNormalization", (np.ones(4, np.float32),) * 4, {})),
        "node BatchNormalization 'BatchNormalization 1' is no layer of an AlexNet",
    ),
    "an operator of somebody": (
        lambda: chain(("Conv", (W,), {"domain": "com.example"})),
        "node Conv 'Conv 0' is of the operator set com.example",
    ),
    "eight convolutions": (vgg, "layer Conv 'Conv 1' is a convolution, where an AlexNet has a ReLU; only"),
    "too few": (lambda: chain(CONV), "ends with Conv 'Conv 0', where an AlexNet goes on with a ReLU"),
    "no layers": (lambda: chain(("Identity", (), {})), "ends with nothing, where an AlexNet goes on with"),
    "conv2's stride": (lambda: onnx_changed_stride(), "Conv 'Conv 4' has stride 2, where an AlexNet has stride 1"),
    "another order": (lambda: without(4 + 1), "layer LRN 'LRN 6' is normalization, where an AlexNet has a ReLU"),
    "one normalization": (lambda: without(6), "MaxPool 'MaxPool 7' follows Conv 'Conv 4', where an AlexNet has"),
    "even windows": (lambda: with_attribute(2, size=4), "layer LRN 'LRN 2' is normalization over 4 maps"),
    "other pools": (lambda: with_attribute(7, kernel_shape=[2, 2]), "layer MaxPool 'MaxPool 7' has other settings"),
    "oblong windows": (lambda: with_attribute(7, kernel_shape=[3, 2]), "has other windows than square ones"),
    "dilated": (lambda: with_attribute(4, dilations=[2, 2]), "node Conv 'Conv 4' has dilated windows"),
    "three groups": (lambda: onnx_nets.alexnet(groups=4)[0], "Conv 'Conv 4' has 4 groups, where an AlexNet has one"),
    "averages": (lambda: without_pool5(), "averages windows of 3 x 3"),
    "whole maps averaged": (
        lambda: chain(CONV, ("GlobalAveragePool", (), {})), "node GlobalAveragePool 'GlobalAveragePool 1' averages maps"
    ),
    "other units": (lambda: other_units(), "layer Gemm 'Gemm 19' has 9 units, where an AlexNet has as many as Gemm"),
    "a transposed image": (lambda: chain(("Transpose", (), {"perm": [0, 2, 3, 1]})), "node Transpose"),
    "a name taken": (lambda: with_branch(output="maxpool7"), "node Conv 'Conv 10' has an output whose name is taken"),
    "an attribute twice": (lambda: with_attribute_twice(), "node Conv 'Conv 4' has settings or inputs that do not fit"),
    "an output inside": (lambda: onnx_nets.alexnet(outputs=["relu1"])[0], "which is no output of the graph"),
    "too small": (lambda: onnx_nets.alexnet(side=32)[0], "pads [2, 2, 2, 2] pixels for windows of 5 on 2 x 2"),
    "computed weights": (lambda: computed_weights(), "computes with constants in a way that is not read"),
}  # fmt: skip


def onnx_changed_stride():
    model = with_attribute(4, strides=[2, 2])
    del model.graph.node[7]
    model.graph.node[7].input[0] = "lrn6"
    return model


def without_pool5():
    model, _ = onnx_nets.alexnet()
    next(node for node in reversed(model.graph.node) if node.op_type == "MaxPool").op_type = "AveragePool"
    return model


def other_units():
    model, _ = onnx_nets.alexnet()
    rng = np.random.default_rng(0)
    gemms = [node for node in model.graph.node if node.op_type == "Gemm"]
    for node, shape in ((gemms[1], (9, 14)), (gemms[2], (5, 9))):
        for name, size in zip(node.input[1:], (shape, shape[:1]), strict=True):
            tensor = next(each for each in model.graph.initializer if each.name == name)
            tensor.CopyFrom(numpy_helper.from_array(rng.normal(size=size).astype(np.float32), name))
    return model


def computed_weights():
    model, _ = onnx_nets.alexnet()
    model.graph.node.insert(0, helper.make_node("RandomNormal", [], ["W"], shape=[8, 3, 11, 11]))
    return model


@pytest.mark.parametrize("name", REFUSED)
def test_other_graphs_are_refused_by_the_node(name, tmp_path):
    make, message = REFUSED[name]
    with pytest.raises(CheckpointError) as refused:
        read(make(), tmp_path)
    line = str(refused.value)
    assert message in line and line.startswith(f"{tmp_path / 'net.onnx'}: ") and "\n" not in line


def test_the_library_refuses_what_makes_no_model(tmp_path):
    for content in (b"", b"\x08", b"hello", b"\x08\x08", onnx.ModelProto(ir_version=8).SerializeToString()):
        path = tmp_path / "net.onnx"
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="net.onnx: not an ONNX file, or truncated"):
            onnx_format.read(path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        onnx_format.read(tmp_path / "missing.onnx")


# Damaged and hostile files.


def tiny():
    """A small chain; whether it is an AlexNet does not matter here."""
    return chain(("Conv", (W[:1],), {}), ("Relu", (), {}), ("Flatten", (), {}), side=5)


def read_or_refused(content, tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    try:
        onnx_format.read(path, PIXELS)
    except CheckpointError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
        return False
    return True


def test_every_truncation_is_refused(tmp_path):
    whole = tiny().SerializeToString()
    for length in range(len(whole)):
        assert not read_or_refused(whole[:length], tmp_path), length


def test_a_truncated_net_is_refused(tmp_path):
    whole = onnx_nets.alexnet()[0].SerializeToString()
    assert read_or_refused(whole, tmp_path)
    for length in np.random.default_rng(0).integers(0, len(whole), 60):
        assert not read_or_refused(whole[:length], tmp_path), length


@pytest.mark.parametrize("where", ["anywhere", "outside the numbers"])
def test_damaged_bytes_give_a_net_or_a_refusal(where, tmp_path):
    model, rng = onnx_nets.alexnet(maps=(4, 4, 4, 4, 4), hidden=4, linear="MatMul")[0], np.random.default_rng(0)
    if where == "outside the numbers":
        for tensor in model.graph.initializer:
            tensor.raw_data = tensor.raw_data[:8]
        model.graph.node[0].CopyFrom(helper.make_node("Relu", ["data"], ["conv0"]))
    whole = model.SerializeToString()
    for _ in range(250):
        spoilt = bytearray(whole)
        for at in rng.integers(0, len(spoilt), rng.integers(1, 4)):
            spoilt[at] = rng.integers(256)
        read_or_refused(bytes(spoilt), tmp_path)


def bomb(*nodes, **constants):
    model, _ = onnx_nets.alexnet()
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), name))
    for number, node in enumerate(nodes):
        model.graph.node.insert(number, node)
    return model


def made_of(shape, name="made"):
    value = helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0])
    return bomb(helper.make_node("ConstantOfShape", ["s"], [name], value=value), s=shape)


def lying_tensor(dims):
    model, _ = onnx_nets.alexnet()
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend(dims)
    return model


def doubling():
    nodes = [helper.make_node("Concat", [f"x{n}", f"x{n}"], [f"x{n + 1}"], axis=0) for n in range(60)]
    return bomb(*nodes, x0=[1, 2])


HOSTILE = {
    "a shape of huge sides": (lambda: lying_tensor([1 << 40, 1 << 40]), "too many"),
    "a negative side": (lambda: lying_tensor([-1, 3]), "too many"),
    "more numbers than there are": (lambda: lying_tensor([1 << 20, 3]), "is truncated or damaged"),
    "a huge constant": (lambda: made_of([1 << 20, 1 << 20]), "node ConstantOfShape 'made' has settings or inputs that"),
    "a negative constant": (lambda: made_of([-5]), "ConstantOfShape 'made' has settings or inputs that do not fit"),
    "doubling constants": (doubling, "computes with large constants"),
    "gathering": (lambda: bomb(helper.make_node("Gather", ["a", "b"], ["c"]), a=[[1] * 3000], b=[0] * 3000),
                  "computes with large constants"),
    "an index beyond": (lambda: bomb(helper.make_node("Gather", ["a", "b"], ["c"]), a=[1], b=[7]), "do not fit"),
    "a huge stride": (lambda: with_attribute(4, strides=[1 << 60] * 2), "net.onnx: node"),
    "huge pads": (lambda: with_attribute(4, pads=[1 << 60] * 4), "pads [1152921504606846976, 1152921504606846976"),
    "a huge group": (lambda: with_attribute(4, group=1 << 60), "kernels (12, 4, 5, 5) in 1152921504606846976 group(s)"),
    "no groups": (lambda: with_attribute(4, group=0), "in 0 group(s)"),
    "a stride of 0": (lambda: with_attribute(4, strides=[0, 0]), "has dilated windows, or other strides"),
    "a window of 0": (lambda: with_attribute(7, kernel_shape=[0, 0]), "MaxPool 'MaxPool 7'"),
    "a huge window": (lambda: with_attribute(7, kernel_shape=[1 << 60] * 2), "net.onnx: node MaxPool 'MaxPool 7'"),
    "text for a number": (lambda: with_attribute(4, strides=b"x"), "node Conv 'Conv 4' has settings or inputs that"),
    "text for a size": (lambda: with_attribute(2, size=b"x"), "LRN 'LRN 2' has settings or inputs that do not fit"),
    "fractions of a pixel": (lambda: with_attribute(4, pads=[0.5] * 4), "Conv 'Conv 4' has settings or inputs that"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(name, tmp_path):
    make, message = HOSTILE[name]
    with pytest.raises(CheckpointError) as refused:
        read(make(), tmp_path)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_many_large_constants_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_graph, "_MADE", 1000)
    with pytest.raises(CheckpointError, match="its nodes compute more than 1,000 constant numbers; too many"):
        read(made_of([33, 33]), tmp_path)


def test_a_file_that_is_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_graph, "LIMIT", 1000)
    with pytest.raises(CheckpointError, match="larger than 2 GB"):
        read(onnx_nets.alexnet()[0], tmp_path)


# Nets of other programs.


LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


@pytest.mark.slow
def test_the_alexnet_that_onnx_tests_with(ort):
    """Its weights are the same number all over a layer: what it tests is the layers, at full size."""
    path = LIGHT / "light_bvlc_alexnet.onnx"
    imported = onnx_format.read(path)
    net = imported.recipe.net
    assert (net.columns, net.classes, net.hidden) == (2, 1000, 4096)
    assert (net.conv_rounding, net.pool_rounding) == ("floor", ("floor", "floor", "ceil"))
    pixels = torch_nets.noise(224, 2)
    (wanted,) = onnx_nets.values(onnx.load(path), (pixels - np.float32(CHANNEL_MEANS))[..., ::-1], "r24")
    assert error(computed(imported, pixels), wanted) < 1e-4


@pytest.mark.slow
def test_the_graph_that_onnx_tests_with_and_random_weights(ort, test_data, tmp_path):
    model, rng = onnx.load(LIGHT / "light_bvlc_alexnet.onnx"), np.random.default_rng(0)
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        if node.op_type == "ConstantOfShape":
            shape = shapes[node.input[0]]
            std = (2 / np.prod(shape[1:])) ** 0.5 if len(shape) > 1 else 0.1
            value = numpy_helper.from_array(rng.normal(0, std, shape).astype(np.float32))
            node = helper.make_node("Constant", [], node.output, value=value)
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    imported = read(model, tmp_path, Options())
    pixels = torch_nets.photographs(test_data / "imagenet-samples-dev.tar")
    (wanted,) = onnx_nets.values(model, (pixels - np.float32(CHANNEL_MEANS))[..., ::-1], "r24")
    assert error(computed(imported, pixels), wanted) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name, node", [
    ("resnet50", "BatchNormalization 'n1'"), ("squeezenet", "Conv 'n7'"), ("vgg19", "Conv 'n2'"),
    ("densenet121", "BatchNormalization 'n1'"), ("inception_v1", "Conv 'n12'"), ("zfnet512", "Conv 'n4'"),
])  # fmt: skip
def test_the_other_nets_that_onnx_tests_with_are_refused(name, node):
    with pytest.raises(CheckpointError, match=f"{node} .*; only AlexNets can be imported"):
        onnx_format.read(LIGHT / f"light_{name}.onnx", Options(input="caffe"))


@pytest.mark.slow
@pytest.mark.parametrize("exporter", ["script", "script in training", "dynamo", "dynamo with any batch"])
def test_torchvisions_net_as_pytorch_exports_it(exporter, test_data, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle of this test")
    if "dynamo" in exporter:
        pytest.importorskip("onnxscript", reason="PyTorch's exporter needs it")
    vision = torch_nets.torchvision(torch)
    torch.manual_seed(2)
    net, path = vision.models.alexnet(weights=None).eval(), tmp_path / "alexnet.onnx"
    images = torch.zeros(2, 3, 224, 224)
    settings = {
        "script": {"dynamo": False, "dynamic_axes": {"x": {0: "n"}}, "input_names": ["x"]},
        "script in training": {"dynamo": False, "training": torch.onnx.TrainingMode.TRAINING},
        "dynamo": {"dynamo": True, "external_data": False},
        "dynamo with any batch": {"dynamo": True, "dynamic_shapes": ({0: torch.export.Dim("n")},)},
    }[exporter]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (images,), path, **settings)
    pixels = torch_nets.photographs(test_data / "imagenet-samples-dev.tar")
    found = computed(onnx_format.read(path), pixels)
    assert error(found, torch_nets.logits(torch, net.eval(), pixels)) < 1e-4

"""The nets of cuda-convnet's files of 2012, unmodified: which of them are built, their counts, and their gradients."""

import re
from dataclasses import replace

import numpy as np
import pytest

from tests.support.cuda_convnet_files import pairs, read, side
from tests.support.directional import wrong_gradients
from tests.support.layer_cases import noise
from tinyalex.errors import UsageError
from tinyalex.gradcheck.cuda_convnet import batch, reduced, small_network
from tinyalex.layers import ContrastNorm
from tinyalex.network import cuda_convnet as nets
from tinyalex.network import summary
from tinyalex.randomness import Step
from tinyalex.recipes.cuda_convnet import description
from tinyalex.training.optimizer import Optimizer

STEP = Step(seed=3, number=5)

# The nets of the paper, and what the files of examples show, by the names of `pairs`, with their parameters.
PAPER = {
    "layers/layers-145": 60_965_224,
    "layers/layers-145-half": 59_798_312,
    "layers/layers-146-2009": 99_182_152,
    "layers/layers-146-2011": 110_605_267,
    "layers/layers-146-2012-2009": 61_555_304,
    "layers/layers-146-2012-2011": 61_555_304,
    "layers/layers-147": 60_965_224,
    "layers/layers-148": 60_965_224,
    "layers/layers-150": 60_714_408,
    "layers-cifar/layers-18pct": 89_578,
    "layers-cifar/layers-conv-local-13pct": 1_116_490,
    "example-layers/layers-80sec": 145_578,
    "example-layers/layers-19pct": 89_578,
    "example-layers/layers-18pct": 89_578,
    "example-layers/layers-conv-local-12pct": 1_116_490,
    "example-layers/layers-conv-local-13pct": 1_116_490,
    "example-layers/layers.gc": 2_075_482,
    "example-layers/layers-example": 88_473_482,
}
# What is in the files and not supported.
MISSING = {
    "layers/layers-126": "type=href",
    "layers/layers-137-tree": "type=treefc",
    "layers/layers-146-2009-tree": "type=treefc",
    "layers/layers-178": "pool=rand",
    "layers/layers-flickr-102": "type=cost.crossent2",
    "layers/layers-flickr-102-inet-init": "type=cost.crossent2",
    "layers/layers-flickr-103": "type=cost.rflickr",
    "layers/layers-flickr-105": "type=cost.sum2",
}


def test_64_of_the_72_nets_are_built_and_what_the_others_lack_is_named_with_its_line(cuda_convnet):
    found = {}
    for name in pairs(cuda_convnet):
        try:
            nets.describe(read(cuda_convnet, name), side(name))
        except UsageError as error:
            place = r"(layers-[\w-]+\.cfg), line (\d+): ((?:type|pool)=\S+) of \[([\w-]+)\]"
            found[name] = re.search(place, str(error)).groups()
    assert {name: what for name, (_, _, what, _) in found.items()} == MISSING
    assert (len(pairs(cuda_convnet)), len(pairs(cuda_convnet)) - len(found)) == (72, 64), "as README says"
    for name, (file, line, what, layer) in found.items():
        lines = (cuda_convnet / f"{name}.cfg").read_text().splitlines()
        assert file == f"{name.split('/')[1]}.cfg" and lines[int(line) - 1].replace(" ", "") == what
        assert f"[{layer}]" in lines[max(0, int(line) - 5) : int(line)]


@pytest.mark.parametrize("name", PAPER)
def test_parameters_of_the_papers_nets(name, cuda_convnet):
    made = read(cuda_convnet, name)
    net = nets.describe(made, side(name))
    assert sum(parameter.size for parameter in net.parameters()) == PAPER[name]
    names = {f"{name}/{p.kind}" for p in net.parameters() for name in p.names}
    assert names == set(nets.rates(made)), "every parameter has its rates"


def test_bytes_between_the_columns_of_run_145(cuda_convnet):
    net = nets.describe(read(cuda_convnet, "layers/layers-145"))
    assert summary.exchanged(net, 128) == 60_030_976
    assert [stage.name for stage in net.stages] == ["conv1a", "conv3a", "fc2048a", "fc2048ba", "fc1000"]
    assert net.stages[3].exchange.routes == [[0, 1], [1, 0]], "fc2048bb reads hs1b first"


def test_columns_are_on_the_gpus_of_the_files(cuda_convnet):
    assert nets.describe(read(cuda_convnet, "layers/layers-145")).gpus == [0, 1]
    assert nets.describe(read(cuda_convnet, "layers/layers-120")).gpus == [1, 0, 0], "the softmax is on GPU 1"
    assert nets.describe(read(cuda_convnet, "layers/layers-183-4gpu")).gpus == [0, 1, 2, 3]


QUICK = {"layers/layers-145", "layers/layers-137", "layers/layers-100", "layers-cifar/layers-18pct",
         "example-layers/layers.gc", "layers/layers-146-2011", "layers/layers-177"}  # fmt: skip


@pytest.mark.parametrize("kind", ["layers", "layers-cifar", "example-layers"])
@pytest.mark.parametrize("quick", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_gradients_and_a_step_of_every_net_at_a_reduced_size(kind, quick, cuda_convnet):
    for name in pairs(cuda_convnet):
        if name.startswith(f"{kind}/") and name not in MISSING and (name in QUICK or not quick):
            made = read(cuda_convnet, name)
            net = small_network(made)
            images, labels = batch(net)
            assert not wrong_gradients(net, images, labels, STEP), name
            before, _ = net.loss_and_backward(images, labels, training=False)
            rates = {key: replace(own, rate=1e-9, weight_decay=0.0) for key, own in nets.rates(made).items()}
            Optimizer(net).update_each(rates)
            after, _ = net.loss_and_backward(images, labels, training=False)
            assert after < before, name


def test_a_wrong_gradient_is_noticed(cuda_convnet, monkeypatch):
    backward = ContrastNorm.backward
    monkeypatch.setattr(ContrastNorm, "backward", lambda self, dy: 1.001 * backward(self, dy))
    net = small_network(read(cuda_convnet, "layers/layers-120"))
    wrong = wrong_gradients(net, *batch(net), STEP)
    assert {"conv1a/W", "conv2b.0/W", "conv2b/b"} <= set(wrong) and "conv3a/W" not in wrong


def test_reduced_nets_have_all_layers_and_connections(cuda_convnet):
    made = read(cuda_convnet, "layers/layers-137")
    small = reduced(made)
    for name, layer in made.layers.items():
        twin = small.layers[name]
        assert (twin.type, twin.inputs, twin.gpu, twin.neuron) == (layer.type, layer.inputs, layer.gpu, layer.neuron)
        for key in ("filterSize", "padding", "stride", "size", "scale", "pow", "keep", "sizeX"):
            assert twin.settings.get(key) == layer.settings.get(key)


def test_a_step_gives_every_tensor_the_rates_of_the_files(cuda_convnet):
    made = read(cuda_convnet, "example-layers/layers-example")
    net = small_network(made)
    before = {name: value.copy() for name, value in net.state().items()}
    for _, _, gradient in net.tensors("grad"):
        gradient[...] = 1.0
    rates = nets.rates(made)
    assert (rates["fc10.0/W"].rate, rates["fc10.0/W"].momentum) == (0.0001, 0.5)
    assert (rates["fc10.1/W"].rate, rates["fc10.1/W"].momentum, rates["fc1024/b"].rate) == (0.001, 0.9, 0.00002)
    optimizer = Optimizer(net)
    for number in (1, 2):
        optimizer.update_each(rates)
        for name, value in net.state().items():
            steps = 1.0 if number == 1 else 2.0 + rates[name].momentum
            np.testing.assert_allclose(before[name] - value, steps * rates[name].rate, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("devices", [["fake:0", "fake:1"], ["fake:0", "fake:0"]])
def test_two_devices_compute_what_one_does(devices, cuda_convnet):
    made = read(cuda_convnet, "layers/layers-137")
    one, two = small_network(made), small_network(made, devices)
    images, labels = batch(one)
    for net in (one, two):
        net.loss_and_backward(images, labels, step=STEP)
    other = {name: device.get(view) for name, device, view in two.tensors("grad")}
    for name, gradient in one.gradients().items():
        np.testing.assert_allclose(other[name], gradient, rtol=1e-12, atol=1e-15)


TOY = """
[data]
type=data
dataIdx=0
[labels]
type=data
dataIdx=1
[conv]
type=conv
inputs=data
channels=3
filters=2
filterSize=3
padding=1
neuron={neuron}
[{type}]
type={type}
inputs=conv
{more}
[fc]
type=fc
inputs={type}
outputs=3
[probs]
type=softmax
inputs=fc
[cost]
type=cost.logreg
inputs=labels,probs
"""
RATES = "".join(f"[{name}]\nepsW=1\nepsB=1\nmomW=0\nmomB=0\nwc=0\n" for name in ("conv", "fc", "other"))


def toy(tmp_path, type_, more, neuron="relu", rates=""):
    (tmp_path / "layers-toy.cfg").write_text(TOY.format(type=type_, more=more, neuron=neuron))
    (tmp_path / "layer-params-toy.cfg").write_text(RATES + rates)
    return description.read(tmp_path / "layers-toy.cfg", tmp_path / "layer-params-toy.cfg")


def layer_of(made, name):
    net = nets.describe(made, 9).build(dtype="float64")
    return next(layer for _, layer in net.layers() if layer.name == name)


@pytest.mark.parametrize("neuron, function", [
    ("relu", lambda x: np.maximum(x, 0)), ("logistic", lambda x: 1 / (1 + np.exp(-x))), ("abs", np.abs),
    ("square", np.square), ("softrelu", lambda x: np.log1p(np.exp(x))), ("tanh", np.tanh),
    ("tanh[1.7,0.6]", lambda x: 1.7 * np.tanh(0.6 * x)),
])  # fmt: skip
def test_neurons(tmp_path, neuron, function):
    unit = layer_of(toy(tmp_path, "concat", "", neuron), "conv_neuron")
    x = noise(2, 9, 9, 2)
    np.testing.assert_allclose(unit.forward(x), function(x), rtol=1e-12, atol=1e-15)


def test_no_neuron_adds_no_layer(tmp_path):
    net = nets.describe(toy(tmp_path, "concat", "", "ident"), 9)
    assert [layer.name for _, layer in net.layers()] == ["conv", "fc"]


@pytest.mark.parametrize("type_, more, rates, output", [
    # Sizes are rounded up, the last window is clipped, and the mean is that of the pixels inside.
    ("pool", "pool=avg\nsizeX=2\nstride=2", "", lambda x: x[:, 8:, 8:]),
    ("pool", "pool=max\nsizeX=2\nstride=2", "", lambda x: x[:, 8:, 8:]),
    # (minDiv + scale / size * sum of squares over maps)^-pow
    ("cmrnorm", "size=3", "[cmrnorm]\nscale=6\npow=0.5\nminDiv=2\n",
     lambda x: (x / np.sqrt(2 + 2 * (x**2).sum(axis=-1, keepdims=True)))[:, -1:, -1:]),
    # minDiv is 1 if it is not given, and scale is divided by size x size.
    ("rnorm", "size=1", "[rnorm]\nscale=3\npow=1\n", lambda x: (x / (1 + 3 * x**2))[:, -1:, -1:]),
    # One pixel differs in nothing from the mean of its window.
    ("cnorm", "size=1", "[cnorm]\nscale=3\npow=1\nminDiv=2\n", lambda x: (x / 2)[:, -1:, -1:]),
    ("nailbed", "stride=4", "", lambda x: x[:, 8:, 8:]),
    ("hs", "keep=0.3", "", lambda x: 0.3 * x[:, 8:, 8:]),
    ("hs", "keep=0.3", "[hs]\nenable=false\n", lambda x: x[:, 8:, 8:]),
    ("blur", "stdev=2\nfilterSize=1", "", lambda x: x[:, 8:, 8:]),
    ("eltsum", "coeffs=3", "", lambda x: 3 * x[:, 8:, 8:]),
])  # fmt: skip
def test_types_compute_what_the_2012_code_does(tmp_path, type_, more, rates, output):
    layer = layer_of(toy(tmp_path, type_, more, rates=rates), type_)
    x = noise(2, 9, 9, 2)
    np.testing.assert_allclose(layer.forward(x)[:, -1:, -1:], output(x), rtol=1e-12)


@pytest.mark.parametrize("type_, more, message", [
    ("pool", "pool=rand\nsizeX=2\nstride=2", r"layers-toy.cfg, line \d+: pool=rand of \[pool\]: not supported"),
    ("pool", "pool=max\nsizeX=2\nstride=2\nstart=1", r"line \d+: start=1 of \[pool\]: not supported"),
    ("href", "", r"layers-toy.cfg, line 17: type=href of \[href\]: not supported; the types that are: blur, cmrnorm"),
    ("pool", "pool=max\nsizeX=2\nstride=3", r"layers-toy.cfg, line 16: MaxPool: got"),
    ("pool", "pool=max\nsizeX=2\nstride=2\n[hs]\ntype=hs\ninputs=pool,conv\n[cut]\ntype=concat\ninputs=hs",
     r"line 24: 2 inputs of \[hs\]"),
    ("concat", "[other]\ntype=fc\ninputs=labels\noutputs=2\n[cut]\ntype=concat\ninputs=other",
     r"line 21: input labels of \[other\]"),
])  # fmt: skip
def test_what_is_not_supported_is_named_with_file_and_line(tmp_path, type_, more, message):
    with pytest.raises(UsageError, match=message):
        nets.describe(toy(tmp_path, type_, more), 9)


def test_a_sum_of_inputs_of_other_shapes_is_named_with_file_and_line(tmp_path):
    toy(tmp_path, "pool", "pool=max\nsizeX=2\nstride=2\n[sum]\ntype=eltsum\ninputs=pool,conv")
    file = tmp_path / "layers-toy.cfg"
    file.write_text(file.read_text().replace("type=fc\ninputs=pool", "type=fc\ninputs=sum"))
    made = description.read(file, tmp_path / "layer-params-toy.cfg")
    with pytest.raises(UsageError, match=r"layers-toy.cfg, line 24: the inputs of \[sum\] have shapes \(5, 5, 2\) and"):
        nets.describe(made, 9)


def test_wrong_channels_are_named_with_file_and_line(tmp_path):
    made = toy(tmp_path, "concat", "")
    with pytest.raises(UsageError, match=r"layers-toy.cfg, line 11: channels=3 of \[conv\], but its input data has"):
        nets.describe(made, 9, channels=1)


def test_random_connections_deal_every_channel_to_as_many_groups(cuda_convnet):
    net = nets.describe(read(cuda_convnet, "example-layers/layers-example"), 32)
    deal = next(layer for _, layer in net.layers() if layer.name == "conv32-3.0 channels").build()
    assert (deal.channels, deal.dealt) == (128, 4 * 64)
    order = np.concatenate([pack for pack, _ in deal.packs])
    assert (np.bincount(order) == 2).all() and (order != np.sort(order)).any()

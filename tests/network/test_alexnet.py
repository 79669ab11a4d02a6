"""The nets: their sizes are the paper's, and one device, two devices and two fake devices compute the same."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from tests.programs.paper_nets import NETS, a_step
from tinyalex.errors import ShapeError, UsageError
from tinyalex.layers import AvgPool, MaxPool
from tinyalex.network import alexnet
from tinyalex.randomness import Step, key, normal
from tinyalex.recipes import recipe
from tinyalex.recipes.settings import Init, Net

FORMS = {"grouped": ["cpu"], "cpu cpu": ["cpu", "cpu"], "fake:0 fake:1": ["fake:0", "fake:1"]}
SMALL = dict(input=67, maps=(6, 16, 24, 24, 16), hidden=32, classes=10)
HE = Init({"default": "he"}, {"default": 0.1})
PAPER = ("conv3", "fc6", "fc7", "fc8")


def noise(*shape):
    return normal(key(0, "alexnet", *shape), np.arange(np.prod(shape))).reshape(shape)


def host(array):
    return np.array(getattr(array, "_array", array))


# The paper's sizes, without arrays.

SHAPES = {  # of one column, Figure 2
    "conv1": (11, 11, 3, 48),
    "conv2": (5, 5, 48, 128),
    "conv3": (3, 3, 256, 192),
    "conv4": (3, 3, 192, 192),
    "conv5": (3, 3, 192, 128),
    "fc6": (6 * 6 * 256, 2048),
    "fc7": (4096, 2048),
}


def parts(network):
    """Return {name: shape} of all tensors, named as in `Network.state`, of a network without arrays."""
    found = {}
    for parameter in network.parameters():
        found |= {name: part.shape for name, part in parameter.parts(np.broadcast_to(0, parameter.shape)).items()}
    return found


@pytest.mark.parametrize("devices", [1, 2])
def test_names_and_shapes_of_the_paper(devices):
    expected = {"fc8/W": (4096, 1000), "fc8/b": (1000,)}
    for layer, shape in SHAPES.items():
        for column in "ab":
            expected |= {f"{layer}{column}/W": shape, f"{layer}{column}/b": shape[-1:]}
    assert parts(alexnet.describe(Net(), devices=devices)) == expected


def multiply_adds(network):
    total = 0
    for stage, shapes in zip(network.stages, network.shapes, strict=False):
        for shape, column in zip(stage.exchange.output_shapes(shapes), stage.columns, strict=True):
            for layer in column:
                total += layer.multiply_adds(shape)
                shape = layer.output_shape(shape)
    return total


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("side", [224, 227])
@pytest.mark.parametrize("norm", ["none", "paper", "2012"])
def test_counts_of_the_paper(devices, side, norm):
    network = alexnet.describe(Net(input=side, norm=norm), devices=devices)
    assert sum(parameter.size for parameter in network.parameters()) == 60_965_224
    assert multiply_adds(network) == 724_406_816
    assert network.classes == 1000
    first = network.stages[0].columns[0][0]
    assert first.output_shape((side, side, 3)) == (55, 55, 96 // devices)


def test_shapes_between_the_stages():
    two, one = (alexnet.describe(Net(), devices=devices) for devices in (2, 1))
    assert two.shapes == [
        [(224, 224, 3)] * 2, [(13, 13, 128)] * 2, [(6, 6, 128)] * 2, [(2048,)] * 2, [(2048,)] * 2, [(1000,), None]
    ]  # fmt: skip
    assert one.shapes == [[(224, 224, 3)], [(13, 13, 256)], [(6, 6, 256)], [(4096,)], [(4096,)], [(1000,)]]


def crossing(network, itemsize=4):
    pairs = zip(network.stages, network.shapes, strict=False)
    return {stage.name: stage.exchange.bytes_per_image(shapes, itemsize) for stage, shapes in pairs}


def test_bytes_that_cross_in_the_wiring_of_2012():
    predicted = crossing(alexnet.describe(recipe.load("original").net, devices=2))
    each = {"conv3": 13 * 13 * 128, "fc6": 6 * 6 * 128, "fc7": 2048}
    for name, units in each.items():
        ways = [("forward", 0, 1), ("forward", 1, 0), ("backward", 0, 1), ("backward", 1, 0)]
        assert predicted[name] == Counter(dict.fromkeys(ways, 4 * units))
    assert predicted["fc8"] == Counter({("forward", 1, 0): 4 * 2048, ("backward", 0, 1): 4 * 2048})
    assert not predicted["conv1"]
    assert 128 * sum(sum(ways.values()) for ways in predicted.values()) == 60_030_976


def test_order_of_the_layers():
    def order(norm):
        network = alexnet.describe(Net(norm=norm), devices=2)
        return [[layer.name for layer in stage.columns[1]] for stage in network.stages]

    rest = [["conv3b", "relu3", "conv4b", "relu4", "conv5b", "relu5", "pool5"]]
    rest += [[f"fc{i}b", f"relu{i}", f"drop{i}"] for i in (6, 7)] + [[]]
    assert order("paper") == [["conv1b", "relu1", "norm1", "pool1", "conv2b", "relu2", "norm2", "pool2"], *rest]
    assert order("2012") == [
        ["conv1b", "norm1", "pool1", "relu1", "conv2b", "relu2", "norm2", "norm2s", "pool2"], *rest
    ]  # fmt: skip
    assert order("none") == [["conv1b", "relu1", "pool1", "conv2b", "relu2", "pool2"], *rest]


def test_pools_that_do_not_overlap_leave_the_same_maps():
    assert alexnet.describe(Net(pool=2), devices=2).shapes[1:3] == [[(13, 13, 128)] * 2, [(6, 6, 128)] * 2]


def test_normalization_constants():
    for norm, alpha in (("paper", 1e-4), ("2012", 1e-4 / 5)):
        layers = [layer for _, layer in alexnet.describe(Net(norm=norm)).layers() if layer.name in ("norm1", "norm2")]
        assert [(n.size, n.k, n.beta, n.groups) for n in layers] == [(5, 2.0, 0.75, 2)] * 2
        assert all(abs(n.alpha - alpha) < 1e-19 for n in layers)


def test_order_of_norm_and_pool():
    def order(**switches):
        network = alexnet.describe(Net(**SMALL, **switches))
        return [layer.name for _, layer in network.layers()][:8]

    assert order(norm_order="pool-norm")[:4] == ["conv1a conv1b", "relu1", "pool1", "norm1"]
    assert order(norm_order="pool-norm")[4:] == ["conv2a conv2b", "relu2", "pool2", "norm2"]
    assert order(norm_order="pool-norm", norm="2012")[:4] == ["conv1a conv1b", "pool1", "norm1", "relu1"]
    assert order(norm_order="pool-norm", norm="none") == order(norm="none")


def test_padding_and_rounding_down_are_those_of_torchvisions_net():
    net = Net(columns=1, maps=(64, 192, 384, 256, 256), pads=(2, 2, 1, 1, 1), norm="none", talk=(),
              conv_rounding="floor", pool_rounding="floor")  # fmt: skip
    network = alexnet.describe(net)
    assert sum(parameter.size for parameter in network.parameters()) == 61_100_840
    sides = [layer.output_shape(shape)[0] for layer, shape in in_order(network) if layer.name in ("conv1", "pool1")]
    assert sides == [55, 27]
    without = alexnet.describe(replace(net, pads=(), conv_rounding="floor"))
    assert without.stages[0].columns[0][0].output_shape((224, 224, 3)) == (54, 54, 64)


def in_order(network):
    shape = network.input_shape
    for _, layer in network.layers():
        yield layer, shape
        shape = layer.output_shape(shape)


def test_bytes_that_cross_before_a_norm_over_both_columns():
    predicted = crossing(alexnet.describe(Net(norm_window="all"), devices=2))
    ways = [("forward", 0, 1), ("forward", 1, 0), ("backward", 0, 1), ("backward", 1, 0)]
    assert predicted["norm1"] == Counter(dict.fromkeys(ways, 4 * 55 * 55 * 48))
    assert predicted["norm2"] == Counter(dict.fromkeys(ways, 4 * 27 * 27 * 128))
    assert "norm1" not in crossing(alexnet.describe(Net(norm_window="all")))


def test_one_column_is_another_net():
    network = alexnet.describe(Net(columns=1))
    assert parts(network)["conv2/W"] == (5, 5, 96, 256) and parts(network).keys() & {"conv2a/W"} == set()
    assert not any(crossing(network).values())
    assert all(getattr(layer, "groups", 1) == 1 for _, layer in network.layers())


def test_the_cifar_net():
    cifar = recipe.load("cifar10-relu").net
    network = alexnet.describe(cifar)
    assert parts(network) == {
        "conv1/W": (5, 5, 3, 32), "conv1/b": (32,), "conv2/W": (5, 5, 32, 32), "conv2/b": (32,),
        "conv3/W": (5, 5, 32, 64), "conv3/b": (64,), "fc10/W": (1024, 10), "fc10/b": (10,),
    }  # fmt: skip
    names = [layer.name for _, layer in network.layers()]
    assert names == ["conv1", "pool1", "relu1", "conv2", "relu2", "pool2", "conv3", "relu3", "pool3", "fc10"]
    pools = [type(layer) for _, layer in network.layers() if layer.name.startswith("pool")]
    assert pools == [MaxPool, AvgPool, AvgPool]


# Initial values.


def test_initial_values_are_the_recipes_and_the_same_in_every_form():
    init = Init({"default": 0.5, "conv3": 0.01, "fc7": "he"}, {"default": 0.25, "fc6": 1.0})
    states = {
        name: {key: host(value) for key, value in alexnet.build(Net(**SMALL), init, devices, 3).state().items()}
        for name, devices in FORMS.items()
    }
    for state in states.values():
        assert state.keys() == states["grouped"].keys()
        for name, value in state.items():
            np.testing.assert_array_equal(value, states["grouped"][name], err_msg=name)
    for name, value in states["grouped"].items():
        layer = name.split("/")[0].rstrip("ab")
        if name.endswith("/b"):
            assert (value == (1.0 if layer == "fc6" else 0.25)).all(), name
        else:
            std = {"conv3": 0.01, "fc7": (2 / 32) ** 0.5}.get(layer, 0.5)
            assert abs(value.std() / std - 1) < 5 / (2 * value.size) ** 0.5, name
            assert abs(value.mean()) < 5 * std / value.size**0.5, name
    columns = states["grouped"]["conv2a/W"], states["grouped"]["conv2b/W"]
    assert (columns[0] != columns[1]).all()
    again = alexnet.build(Net(**SMALL), init, ["cpu"], 4).state()
    assert (again["conv2a/W"] != columns[0]).all()


@pytest.mark.parametrize("name", recipe.names())
def test_every_recipe_can_be_laid_out(name):
    loaded = recipe.load(name)
    for devices in range(1, loaded.net.columns + 1):
        network = alexnet.describe(loaded.net, loaded.init, devices)
        assert network.parameters() and network.shapes[-1][0] == (network.classes,)


# Three forms of each net.

SWITCHES = {
    "as in the paper": {},
    "2012": {"norm": "2012"},
    "no norm": {"norm": "none"},
    "pool 2": {"pool": 2, "input": 99},
    "pool 2, 2012": {"pool": 2, "input": 99, "norm": "2012"},
    "tanh": {"activation": "tanh"},
    "no exchange": {"talk": ()},
    "no exchange, split": {"talk": (), "fc8": "split"},
    "exchange before every layer": {"talk": ("conv2", *PAPER[:1], "conv4", "conv5", *PAPER[1:])},
    "late exchange": {"talk": ("fc7",), "fc8": "split"},
    "early exchange": {"talk": ("conv2", "conv5"), "norm": "2012"},
    "split": {"fc8": "split"},
    "split, odd classes": {"fc8": "split", "classes": 7},
    "odd classes": {"classes": 11},
    "one class": {"classes": 1},
    "two classes, split": {"classes": 2, "fc8": "split", "talk": ()},
    "odd classes, split, no exchange": {"classes": 7, "fc8": "split", "talk": ()},
    "exchange of the image": {"talk": ("conv1", *PAPER)},
    "six convolutions": {"maps": (6, 16, 24, 24, 16, 8), "kernels": (11, 5, 3, 3, 3, 3), "talk": ("conv6", *PAPER)},
    "six, no exchange before the last": {"maps": (6, 16, 24, 24, 16, 8), "kernels": (11, 5, 3, 3, 3, 3)},
    "without conv3": {"maps": (6, 16, 0, 24, 16)},
    "without conv4": {"maps": (6, 16, 24, 0, 16)},
    "without conv5": {"maps": (6, 16, 24, 24, 0)},
    "without all three": {"maps": (6, 16, 0, 0, 0)},
    "bottleneck": {"bottleneck": 6, "talk": (*PAPER, "bottleneck7"), "fc8": "split", "classes": 7},
    "bottleneck without an exchange": {"bottleneck": 6},
    "larger, ceil everywhere": {"input": 94},
    "no dropout": {"dropout": 0.0},
    "windows over both columns": {"norm_window": "all"},
    "windows over both columns, 2012": {"norm_window": "all", "norm": "2012"},
    "pool before norm": {"norm_order": "pool-norm"},
    "pool before norm, 2012": {"norm_order": "pool-norm", "norm": "2012"},
    "CaffeNet": {
        "norm_order": "pool-norm",
        "norm_window": "all",
        "norm_k": 1.0,
        "norm_alpha": 0.01,
        "conv_rounding": "floor",
        "input": 70,
    },
    "window of 4": {"norm_window": "all", "norm_size": 4, "norm_alpha": 0.5, "norm_beta": 0.5},
    "each pool by itself": {"pool_rounding": ("floor", "ceil", "floor"), "input": 99},
    "rounded down": {"conv_rounding": "floor", "pool_rounding": "floor", "input": 96},
    "padding": {"pads": (2, 2, 1, 1, 1), "pool_rounding": "floor", "input": 63, "norm": "none"},
    "less padding": {"pads": (0, 1, 0, 1, 0), "input": 147},
}


def gradient(net, devices, batch=5):
    """Return loss, logits and all gradients of a training pass on the host; check the bytes copied between columns."""
    network = alexnet.build(net, HE, devices, 0, "float64")
    images, labels = noise(batch, net.input, net.input, 3), np.arange(batch) * 3 % net.classes
    with network.step():
        loss, logits = network.loss_and_backward(images, labels, step=Step(2, 5))
        results = {"loss": host(loss), "logits": host(logits)}
        results |= {name: host(value) for name, value in network.gradients().items()}
    results["at test"] = network.predict(images)
    crossed, predicted = network.crossed(), crossing(network, 8)
    for name, ways in predicted.items():
        forward = {way: 2 * batch * count for way, count in ways.items() if way[0] == "forward"}  # predict's as well
        backward = {way: batch * count for way, count in ways.items() if way[0] == "backward"}
        assert crossed.get(name, Counter()) == Counter(forward | backward), name
    return results


def agree(found, expected, tolerance):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        assert np.abs(found[name] - value).max() <= tolerance * np.abs(value).max(), name


@pytest.mark.parametrize("switches", SWITCHES)
def test_three_forms_of_one_net(switches):
    net = Net(**SMALL | SWITCHES[switches])
    grouped, two, fake = (gradient(net, devices) for devices in FORMS.values())
    if net.classes > 1:
        assert all(value.any() for value in grouped.values())
    agree(fake, two, 0)
    agree(grouped, two, 1e-12)


@pytest.mark.parametrize("batch", [1, 2, 3, 7])
def test_three_forms_at_any_batch(batch):
    net = Net(**SMALL, norm="2012")
    grouped, two, fake = (gradient(net, devices, batch) for devices in FORMS.values())
    agree(fake, two, 0)
    agree(grouped, two, 1e-12)


@pytest.mark.parametrize("switches", [{}, {"fc8": "split"}, {"talk": ()}])
def test_one_column_runs_anywhere(switches):
    net = Net(**SMALL, columns=1, **switches)
    agree(gradient(net, ["fake:1"]), gradient(net, ["cpu"]), 0)


@pytest.mark.parametrize(
    "switches",
    [
        {"maps": (4, 6, 8), "kernels": (5, 5, 5)},
        {"maps": (4, 6, 8), "kernels": (5, 5, 5), "activation": "tanh"},
        {"kind": "cifar10-local", "maps": (4, 6, 5, 3), "kernels": (5, 5, 3, 3), "norm": "none"},
        {"kind": "cifar10-local", "maps": (4, 6, 5, 3), "kernels": (5, 5, 3, 3), "norm": "2012"},
    ],
)
def test_the_cifar_nets_run_anywhere(switches):
    net = Net(**{"kind": "cifar10", "input": 32, "columns": 1, "stride": 1, "classes": 10, "talk": ()} | switches)
    agree(gradient(net, ["fake:1"]), gradient(net, ["cpu"]), 0)


def test_two_columns_are_not_two_copies():
    result = gradient(Net(**SMALL), ["cpu", "cpu"])
    assert (result["conv1a/W"] != result["conv1b/W"]).any() and (result["fc7a/W"] != result["fc7b/W"]).any()


# Errors.


def test_too_many_devices():
    for columns, devices in ((1, ["cpu", "cpu"]), (2, ["cpu"] * 3)):
        with pytest.raises(UsageError) as error:
            alexnet.build(Net(**SMALL, columns=columns), HE, devices)
        assert str(error.value) == (f"devices: {len(devices)} given, this form of the net has {columns} column(s)")


def test_the_cifar_net_has_one_column():
    with pytest.raises(UsageError, match="^net.columns: 2 is not valid for a cifar10 net; use 1$"):
        recipe.load("cifar10-relu", ["net.columns=2"])


@pytest.mark.parametrize(
    "recipe_name, override, line",
    [
        ("original", "net.maps=[96, 256]", "net.maps: 2 numbers; give 5 or 6, one for each convolution"),
        ("original", "net.kernels=[11, 5, 3, 3, 3, 3]", "net.kernels: 6 numbers for 5 of net.maps; give as many"),
        ("original", "net.maps=[96, 0, 384, 384, 256]",
         "net.maps: 0 for conv2; only conv3, conv4, conv5 can be left out of an alexnet"),
        ("cifar10-relu", "net.maps=[32, 32, 0]",
         "net.maps: 0 for conv3; only conv3, conv4, conv5 can be left out of an alexnet"),
        ("six-conv", "net.bottleneck=7", "net.bottleneck: 7 is not a multiple of net.columns, 2; give a multiple"),
        ("cifar10-13pct", "net.norm=paper",
         "net.norm: 'paper' is not valid for a cifar10-local net; use 'none' or '2012'"),
        ("cifar10-13pct", "net.bottleneck=8", "net.bottleneck: 8 is not valid for a cifar10-local net; use 0"),
        ("cifar10-13pct", "learning.layer_weight_decay={ local5 = 0.1 }",
         'local5: no such layer for learning.layer_weight_decay; did you mean "local3"?'),
        ("original", "net.pads=[2, 2]",
         "net.pads: 2 numbers for 5 of net.kernels; give as many, or [] for the usual ones"),
        ("original", "net.pads=[0, 2, 3, 1, 1]",
         "net.pads: 3 for conv3, whose kernel has 3 pixels a side; give fewer"),
        ("cifar10-relu", "net.pads=[2, 2, 2]", "net.pads: (2, 2, 2) is not valid for a cifar10 net; use []"),
        ("cifar10-11pct", "net.norm_alpha=0.1",
         "net.norm_alpha: 0.1 is not valid for a cifar10-local net; use 0.0001"),
        ("cifar10-relu", "net.conv_rounding=floor",
         "net.conv_rounding: floor is not valid for a cifar10 net; use ceil"),
        ("original", "net.pool_rounding=up",
         "net.pool_rounding: 'up' is not valid; give 'ceil' or 'floor', or a list of them"),
        ("original", "net.pool_rounding=ceil,floor",
         "net.pool_rounding: a list of 2 words; give one for each of the 3 pools"),
        ("original", "net.norm_k=0", "net.norm_k: 0 is not valid; give a number above 0"),
    ],
)  # fmt: skip
def test_invalid_settings_are_refused(recipe_name, override, line):
    with pytest.raises(UsageError) as error:
        recipe.load(recipe_name, [override])
    assert str(error.value) == line


@pytest.mark.parametrize("name", ["CIFAR-10, 13 %", "CIFAR-10, 11 %"])
def test_one_step_at_full_size(name):
    found = a_step(NETS[name].load(), 4)
    assert not found["idle"] and found["losses"][1] < found["losses"][0]


def test_images_too_small_for_the_net():
    with pytest.raises(ShapeError, match="wants 11 pixels a side or more: feed larger images$"):
        alexnet.describe(Net(**SMALL | {"input": 9}))

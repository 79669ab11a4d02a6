"""Weights in the order of other libraries: PyTorch computes the same from them, and they come back as they were."""

import re

import numpy as np
import pytest

from tinyalex.errors import CheckpointError
from tinyalex.interop import layout
from tinyalex.network import alexnet
from tinyalex.randomness import key, normal
from tinyalex.recipes.settings import Init, Net

SMALL = dict(input=131, maps=(6, 16, 24, 24, 16), hidden=32, classes=10, norm="none")
NETS = {
    "two columns": {},
    "one column": {"columns": 1},
    "columns without exchanges": {"talk": ()},
    "no dropout": {"dropout": 0.0},
    "other dropout": {"dropout": 0.2},
    "six convolutions": {"maps": (6, 16, 24, 24, 16, 8), "kernels": (11, 5, 3, 3, 3, 3), "columns": 1},
    "bottleneck": {"bottleneck": 6, "fc8": "split", "talk": ("conv3", "fc6", "fc7", "bottleneck7", "fc8")},
}


def noise(*shape):
    return normal(key(0, "layout", *shape), np.arange(np.prod(shape))).reshape(shape)


def built(net, dtype="float64"):
    return alexnet.build(net, Init({"default": "he"}, {"default": 0.1}), seed=4, dtype=dtype)


def by_torch(weights, images):
    """Logits of weights in PyTorch's order, with nothing of this package: the groups follow from the shapes."""
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    x = torch.tensor(images).permute(0, 3, 1, 2)
    for name, (W, b) in weights.items():
        W, b, number = torch.tensor(W), torch.tensor(b), int(re.sub("[a-z]", "", name))
        if name.startswith("conv"):
            groups, k = x.shape[1] // W.shape[1], W.shape[2]
            x = F.conv2d(x, W, b, 4 if number == 1 else 1, 0 if number == 1 else k // 2, groups=groups).relu()
            x = F.max_pool2d(x, 3, 2, ceil_mode=True) if number in (1, 2, 5) else x
        else:
            x = x.flatten(1) @ W.T + b
            x = x.relu() if name in ("fc6", "fc7") else x
    return x.numpy()


def compared(net, weights, network):
    images = noise(3, net.input, net.input, 3)
    found, wanted = network.predict(images), by_torch(weights, images)
    wanted = np.exp(wanted - wanted.max(axis=1, keepdims=True))
    return np.abs(found - wanted / wanted.sum(axis=1, keepdims=True)).max()


@pytest.mark.parametrize("name", NETS)
def test_pytorch_computes_the_same_from_weights_in_its_order(name):
    net = Net(**SMALL | NETS[name])
    network = built(net)
    weights = layout.from_state(net, network.state())
    assert {layer: W.shape for layer, (W, _) in weights.items()} == layout.shapes(net)
    assert compared(net, weights, network) < 1e-12


@pytest.mark.parametrize("name", NETS)
def test_weights_come_back_as_they_were(name):
    net = Net(**SMALL | NETS[name])
    state = built(net, "float32").state()
    back = layout.to_state(net, layout.from_state(net, state))
    assert back.keys() == state.keys()
    for key_, value in state.items():
        assert back[key_].dtype == np.float32 and back[key_].flags.c_contiguous
        np.testing.assert_allclose(back[key_], value, rtol=1e-6 if net.dropout == 0.2 else 0, err_msg=key_)


@pytest.mark.parametrize("bug", ["maps first", "columns", "dropout", "colours"])
def test_another_order_would_be_noticed(bug, monkeypatch):
    net = Net(**SMALL)
    network = built(net)
    if bug == "maps first":
        monkeypatch.setattr(layout, "_elsewhere", lambda layer, W: W.transpose(3, 2, 0, 1) if W.ndim == 4 else W.T)
    if bug == "dropout":
        monkeypatch.setattr(layout, "_kept", lambda net: dict.fromkeys(layout.shapes(net), 1.0))
    weights = layout.from_state(net, network.state())
    if bug == "columns":
        weights["conv2"] = tuple(np.roll(array, len(array) // 2, 0) for array in weights["conv2"])
    if bug == "colours":
        weights["conv1"] = layout.swap_colours(weights["conv1"][0]).copy(), weights["conv1"][1]
    assert compared(net, weights, network) > 1e-4


def test_a_layer_that_does_not_fit_is_named():
    net = Net(**SMALL)
    weights = layout.from_state(net, built(net, "float32").state())
    for changes, line in (
        ({"fc7": None}, "fc7: missing; give another file"),
        ({"conv9": weights["fc7"]}, "conv9: not a layer of this net; give another file"),
        ({"conv2": (np.zeros((16, 6, 5, 5)), np.zeros(16))},
         "conv2: 16 x 6 x 5 x 5 numbers, not 16 x 3 x 5 x 5 as in this net"),
        ({"fc8": (weights["fc8"][0], np.zeros(9))}, "fc8: 9 numbers, not 10 as in this net"),
    ):  # fmt: skip
        given = {name: pair for name, pair in (weights | changes).items() if pair is not None}
        with pytest.raises(CheckpointError) as error:
            layout.to_state(net, given)
        assert str(error.value) == line

"""The update rule of paper §5, compared with a closed form and with NumPy arithmetic."""

import numpy as np
import pytest

from tinyalex.devices.parallel import spread
from tinyalex.layers import Linear
from tinyalex.network import alexnet
from tinyalex.network.columns import Exchange, Stage
from tinyalex.network.network import Network
from tinyalex.recipes import recipe
from tinyalex.training.optimizer import Optimizer, sgd_update


def single(size=3, dtype="float64", name="fc6"):
    """Return a network of one layer, its optimizer and the layer."""
    layer = Linear(size, 2).named(name)
    network = Network([Stage(name, Exchange([[0]]), [[layer]])], (size,)).build(["cpu"], seed=1, dtype=dtype)
    return network, Optimizer(network, momentum=0.9, weight_decay=0.0005), layer


def test_three_steps_by_hand():
    network, optimizer, layer = single()
    w, b = layer.W.value.copy(), layer.b.value.copy()
    v, u = np.zeros_like(w), np.zeros_like(b)
    for number, (rate, bias_rate) in enumerate([(0.01, 0.02), (0.01, 0.02), (0.001, 0.002)]):
        layer.W.grad[...] = np.arange(6.0).reshape(3, 2) - number
        layer.b.grad[...] = [1.0, -2.0]
        v = 0.9 * v - 0.0005 * rate * w - rate * (np.arange(6.0).reshape(3, 2) - number)
        u = 0.9 * u - bias_rate * np.array([1.0, -2.0])  # no decay
        w, b = w + v, b + u
        optimizer.update(rate, bias_rate)
    np.testing.assert_allclose(layer.W.value, w, rtol=1e-14)
    np.testing.assert_allclose(layer.b.value, b, rtol=1e-14)
    momenta = {name: view for name, _, view in optimizer.tensors()}
    np.testing.assert_allclose(momenta["fc6/W"], v, rtol=1e-14)


def test_constant_gradient_sums_like_a_geometric_series():
    _, optimizer, layer = single()
    start = layer.b.value.copy()
    layer.W.grad[...] = 0
    layer.b.grad[...] = 1.0
    for _ in range(50):
        optimizer.update(0.1)
    # After k steps v = -rate (1 - 0.9^k) / 0.1; b moved by their sum.
    moved = -0.1 * sum((1 - 0.9**k) / 0.1 for k in range(1, 51))
    np.testing.assert_allclose(layer.b.value - start, moved, rtol=1e-12)


def test_frozen_layers_do_not_change():
    _, optimizer, layer = single()
    layer.W.grad[...] = 1.0
    optimizer.update(0.1)
    before = layer.W.value.copy()
    optimizer.update(0.1, lr_mult={"fc6": 0.0})
    assert (layer.W.value == before).all()
    optimizer.update(0.1, lr_mult={"fc6": 0.5})
    assert (layer.W.value != before).all()


@pytest.mark.parametrize("size", [70_001])
def test_large_tensors_are_split_among_workers_without_gaps(size):
    _, optimizer, layer = single(size, "float32")
    layer.W.grad[...] = 1.0
    before = layer.W.value.copy()
    optimizer.update(0.5)
    np.testing.assert_array_equal(layer.W.value, before + (0 - np.float32(0.00025) * before - np.float32(0.5)))
    assert layer.W.value.dtype == np.float32


def test_defaults_are_those_of_the_paper():
    network, _, _ = single()
    optimizer = Optimizer(network)
    assert (optimizer.momentum, optimizer.weight_decay) == (0.9, 0.0005)


def test_saved_momenta_are_loaded_by_name():
    _, optimizer, _ = single()
    kept = {name: np.full(view.shape, number + 1.0) for number, (name, _, view) in enumerate(optimizer.tensors())}
    optimizer.load(kept)
    for name, _, view in optimizer.tensors():
        np.testing.assert_array_equal(view, kept[name])


def test_value_that_is_not_contiguous_is_refused():
    """Only a copy of it would be updated."""
    layer = Linear(3, 4).build(dtype="float64")
    layer.W.value = np.ones((4, 3)).T
    with pytest.raises(ValueError, match="only contiguous"):
        spread(sgd_update, (layer.W.value, np.ones((3, 4)), np.zeros((3, 4))), 0.9, 0.1, 0.0)


def by_trust_ratios(before, gradients, rate, bias_rate):
    """The first update with LARS, of each layer in each column, from the formula in float64."""
    after = {}
    for name, value in before.items():
        layer = name.split("/")[0]
        w, g = before[f"{layer}/W"], gradients[f"{layer}/W"]
        ratio = 0.001 * np.linalg.norm(w) / (np.linalg.norm(g) + 0.0005 * np.linalg.norm(w))
        step = rate * (gradients[name] + 0.0005 * value) if name.endswith("W") else bias_rate * gradients[name]
        after[name] = value - ratio * step
    return after


@pytest.mark.parametrize("devices", [["cpu"], ["cpu", "cpu"], ["fake:0", "fake:1"]], ids=" ".join)
def test_trust_ratios_are_those_of_each_layer_in_each_column(devices):
    net = recipe.load("shapes", ["net.classes=12"])
    network = alexnet.build(net.net, net.init, devices, seed=1, dtype="float64")
    optimizer = Optimizer(network, lars=0.001)
    images = np.random.default_rng(0).standard_normal((4, *network.input_shape))

    def values(tensors):
        return {name: device.get(view) for name, device, view in tensors}

    before = values(network.tensors())
    network.loss_and_backward(images, np.arange(4), training=False)
    optimizer.update(2.0, 4.0)
    wanted = by_trust_ratios(before, values(network.tensors("grad")), 2.0, 4.0)
    wrong = by_trust_ratios(before, values(network.tensors("grad")), 2.0, 2.0)
    for name, value in values(network.tensors()).items():
        np.testing.assert_allclose(value, wanted[name], rtol=1e-11, atol=1e-15)
    assert any(np.abs(wrong[name] - wanted[name]).max() > 1e-6 for name in wanted)


def test_a_layer_without_weights_or_gradient_has_the_ratio_1():
    network, _, layer = single()
    optimizer = Optimizer(network, lars=0.001)
    layer.W.value[...], layer.W.grad[...], layer.b.grad[...] = 0, 1.0, 1.0
    start = layer.b.value.copy()
    optimizer.update(0.5)
    np.testing.assert_allclose(layer.W.value, -0.5)
    np.testing.assert_allclose(layer.b.value, start - 0.5)

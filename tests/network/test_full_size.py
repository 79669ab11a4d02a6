"""One training step of the full-size `original` net, batch 16, with dropout, in float64: three forms agree."""

import gc
from collections import Counter

import numpy as np
import pytest

from tinyalex import randomness
from tinyalex.network import alexnet
from tinyalex.randomness import Step, bits, key
from tinyalex.recipes import recipe
from tinyalex.training.optimizer import Optimizer

BATCH = 16
TABLE = randomness.normal(key(0, "full size"), np.arange((1 << 16) + 512 * 2048))


def cheap_normal(key, rows, columns):
    """Stand in for `randomness.normal`: numbers from a table, since drawing 60 million takes long."""
    start = (key + int(rows[0, 0]) * 1237) % (1 << 16)
    return TABLE[start : start + rows.size * columns.size].reshape(rows.size, columns.size)


def host(array):
    return getattr(array, "_array", array)


def a_step(devices):
    """Yield (name, array) of what one step computes, one by one: together they are a gigabyte. Then the network."""
    gc.collect()  # frees the form before this one, whose parameters refer to themselves
    original = recipe.load("original")
    network = alexnet.build(original.net, original.init, devices, dtype="float64")
    optimizer = Optimizer(network, original.learning.momentum, original.learning.weight_decay)
    pixels = bits(key(0, "images"), np.arange(BATCH)[:, None], np.arange(224 * 224 * 3)) >> 24
    images = pixels.reshape(BATCH, 224, 224, 3).astype("float64") - 128
    labels = np.arange(BATCH) * 61 % 1000
    with network.step():
        loss, logits = network.loss_and_backward(images, labels, step=Step(0, 0))
        yield "loss", host(loss)
        yield "logits", host(logits)
    for name, gradient in network.gradients().items():
        yield f"gradient of {name}", host(gradient)
    optimizer.update(original.learning.rate, original.learning.rate * original.learning.bias_rate)
    for name, value in network.state().items():
        yield f"{name} after the step", host(value)
    yield "network", network


def predicted(network):
    pairs = zip(network.stages, network.shapes, strict=False)
    ways = {stage.name: stage.exchange.bytes_per_image(shapes, 8) for stage, shapes in pairs}
    return {name: Counter({way: BATCH * size for way, size in each.items()}) for name, each in ways.items() if each}


@pytest.mark.slow
def test_one_step_in_three_forms(monkeypatch):
    monkeypatch.setattr(randomness, "normal", cheap_normal)

    expected = {}
    for name, array in a_step(["cpu", "cpu"]):
        if name == "network":
            crossed = array.crossed()
            assert list(crossed) == ["conv3", "fc6", "fc7", "fc8"]
            assert crossed == predicted(array)
            assert sum(sum(ways.values()) for ways in crossed.values()) == 60_030_976 // 128 * BATCH * 2  # float64
            assert sum(parameter.size for parameter in array.parameters()) == 60_965_224
        else:
            expected[name] = array.copy()
    del array  # one network at a time
    assert len(expected) == 2 + 2 * 30
    assert all(np.isfinite(array).all() and array.any() for array in expected.values())

    for name, array in a_step(["fake:0", "fake:1"]):
        if name == "network":
            assert array.crossed() == crossed
        else:
            np.testing.assert_array_equal(array, expected[name], err_msg=name)
    del array

    for name, array in a_step(["cpu"]):
        if name == "network":
            assert array.crossed() == {} == predicted(array)
            continue
        difference = np.abs(np.subtract(array, expected[name])).max()
        assert difference <= 1e-12 * np.abs(expected[name]).max(), name
        assert array.shape == expected[name].shape, name

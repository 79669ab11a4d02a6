"""Nets laid out from a graph: each computes what its nodes say, whatever the GPUs, and so do its gradients."""

import numpy as np
import pytest

from tests.support.directional import wrong_gradients
from tests.support.layer_cases import noise
from tinyalex import layers
from tinyalex.network.graph import IMAGE, Node, network
from tinyalex.randomness import Step

IMAGES, LABELS, STEP = noise(3, 8, 8, 3), np.array([0, 2, 4]), Step(3, 1)


def conv(name, channels, maps, kernel=3, stride=1, pad=1):
    return layers.Conv2d(channels, maps, kernel, stride, pad).named(name)


def nodes_of(gpus):
    """The image twice, once blurred and smaller; a value that two stages read; one input that is read twice."""
    g = iter(gpus)
    return {
        "blur": Node((IMAGE,), next(g), [layers.GaussianBlur(1.0, 3), layers.Subsample(2).named("blur")]),
        "a": Node((IMAGE,), next(g), [conv("a", 3, 4, stride=2), layers.ReLU().named("ra")]),
        "b": Node(("blur", "a"), next(g), [conv("b", 7, 5), layers.ReLU().named("rb")]),
        "c": Node(("b", "a", "b"), next(g), [conv("c", 14, 2)]),
        "later": Node((IMAGE,), next(g), [layers.Linear((8, 8, 3), 3).named("later")]),
        "joined": Node(("later", "c"), next(g), [layers.Linear(35, 4).named("joined")]),
        "fc": Node(("joined", "later"), next(g), [layers.Linear(7, 5).named("fc")]),
    }


def by_hand(nodes, images):
    """Run node after node on one device; inputs are joined with NumPy."""
    values = {IMAGE: images}
    for name, node in nodes.items():
        parts = [values[each] for each in node.inputs]
        if len({part.shape[1:-1] for part in parts}) > 1:
            parts = [part.reshape(len(part), -1) for part in parts]
        x = np.concatenate(parts, axis=-1)
        for layer in node.layers:
            x = layer.forward(x)
        values[name] = x
    return x


@pytest.mark.parametrize("gpus", ["0000000", "0110101", "2010212", "1111111"])
def test_network_computes_what_its_nodes_say(gpus):
    gpus = [int(gpu) for gpu in gpus]
    net = network(nodes_of(gpus), "fc", (8, 8, 3)).build(["cpu"] * len(set(gpus)), seed=1, dtype="float64")
    nodes = nodes_of(gpus)
    for node in nodes.values():
        for layer in node.layers:
            layer.build(seed=1, dtype="float64")
    np.testing.assert_allclose(net.forward(IMAGES), by_hand(nodes, IMAGES), rtol=1e-12)
    assert not wrong_gradients(net, IMAGES, LABELS, STEP)


@pytest.mark.parametrize("gpus", ["0110101", "2010212"])
def test_bytes_cross_between_gpus_alone_and_as_predicted(gpus):
    gpus = [int(gpu) for gpu in gpus]
    net = network(nodes_of(gpus), "fc", (8, 8, 3)).build(["fake:0"] * len(set(gpus)), seed=1, dtype="float64")
    net.loss_and_backward(IMAGES, LABELS, training=False)
    counted = {key: size for stage in net.crossed().values() for key, size in stage.items()}
    assert counted and all(net.gpus[a] != net.gpus[b] for _, a, b in counted)
    predicted = sum(
        sum(stage.exchange.bytes_per_image(before, 8).values())
        for stage, before in zip(net.stages, net.shapes, strict=False)
    )
    assert sum(sum(stage.values()) for stage in net.crossed().values()) == 3 * predicted


def test_one_gpu_needs_one_device_and_nothing_crosses():
    net = network(nodes_of([0] * 7), "fc", (8, 8, 3))
    assert len(net.stages[0].columns) > 1 and set(net.gpus) == {0}
    net.build(["fake:0"], dtype="float64").loss_and_backward(IMAGES, LABELS, training=False)
    assert len(set(map(id, net.devices))) == 1 and not net.crossed()


def test_two_columns_of_a_net_in_a_row_are_two_columns():
    nodes = {
        "a": Node((IMAGE,), 0, [conv("a", 3, 4)]),
        "b": Node((IMAGE,), 1, [conv("b", 3, 4)]),
        "pool a": Node(("a",), 0, [layers.MaxPool()]),
        "pool b": Node(("b",), 1, [layers.MaxPool()]),
        "fc": Node(("pool b", "pool a"), 1, [layers.Linear((4, 4, 8), 5).named("fc")]),
    }
    net = network(nodes, "fc", (8, 8, 3))
    assert [[len(column) for column in stage.columns] for stage in net.stages] == [[2, 2], [1, 0]]
    assert net.gpus == [1, 0], "the first column has the logits"
    assert [stage.exchange.routes for stage in net.stages] == [[[0], [1]], [[0, 1], []]]

"""Columns and exchanges: which maps arrive where, in which order, and how many bytes are copied."""

from collections import Counter

import numpy as np
import pytest

from tinyalex.devices.device import Device
from tinyalex.layers import Conv2d, Linear, ReLU, Tanh
from tinyalex.network import alexnet
from tinyalex.network.columns import Exchange, Stage
from tinyalex.randomness import Step, key, normal
from tinyalex.recipes.settings import Init, Net

ROUTES = {
    "no exchange": [[0], [1]],
    "both ways": [[0, 1], [0, 1]],
    "gathered on a": [[0, 1], []],
    "gathered on b": [[], [0, 1]],
    "a reads b": [[0, 1], [1]],
    "b reads a": [[0], [0, 1]],
    "crossed over": [[1], [0]],
    "one column": [[0]],
    "three columns": [[0, 1, 2], [1, 2], [0]],
}
MAPS = [(2, 3, 5), (2, 3, 4), (2, 3, 6)]  # h, w and each column's channels


def noise(*shape, purpose=""):
    return normal(key(0, "columns", purpose, *shape), np.arange(np.prod(shape))).reshape(shape)


@pytest.fixture(params=["cpu", "fake"])
def devices(request):
    return [Device("cpu" if request.param == "cpu" else f"fake:{index}") for index in range(3)]


def put(devices, arrays):
    return [None if array is None else device.put(array) for device, array in zip(devices, arrays, strict=False)]


def get(devices, arrays):
    return [None if array is None else device.get(array) for device, array in zip(devices, arrays, strict=False)]


def both_ways(routes, devices, n=4, dtype="float64"):
    """Run an exchange forward and backward on noise; return inputs and results on the host."""
    exchange, count = Exchange(routes), len(routes)
    xs = [noise(n, *MAPS[c], purpose=f"x{c}").astype(dtype) for c in range(count)]
    ys = exchange.forward(put(devices, xs), devices)
    dys = [None if y is None else noise(*y.shape, purpose=f"dy{c}").astype(dtype) for c, y in enumerate(ys)]
    ys = get(devices, ys)
    dxs = get(devices, exchange.backward(put(devices, dys), devices))
    return exchange, xs, ys, dys, dxs


@pytest.mark.parametrize("routes", ROUTES)
def test_forward_joins_in_the_order_of_the_columns(routes, devices):
    routes = ROUTES[routes]
    exchange, xs, ys, _, _ = both_ways(routes, devices)
    for sources, y in zip(routes, ys, strict=True):
        if sources:
            np.testing.assert_array_equal(y, np.concatenate([xs[s] for s in sources], axis=-1))
        else:
            assert y is None
    shapes = exchange.output_shapes(MAPS[: len(routes)])
    assert shapes == [None if y is None else y.shape[1:] for y in ys]


@pytest.mark.parametrize("routes", ROUTES)
def test_backward_returns_gradients_to_their_source_and_adds(routes, devices):
    routes = ROUTES[routes]
    _, xs, _, dys, dxs = both_ways(routes, devices)
    for column, dx in enumerate(dxs):
        expected = []
        for reader, sources in enumerate(routes):
            if column in sources:
                start = sum(MAPS[s][-1] for s in sources if s < column)
                expected.append(dys[reader][..., start : start + MAPS[column][-1]])
        if not expected:
            assert dx is None
            continue
        total = expected[0]
        for term in expected[1:]:  # column a's first: the last bit depends on the order
            total = total + term
        np.testing.assert_array_equal(dx, total)


@pytest.mark.parametrize("routes", ROUTES)
def test_backward_is_the_adjoint_of_forward(routes, devices):
    _, xs, ys, dys, dxs = both_ways(ROUTES[routes], devices)
    there = sum((y * dy).sum() for y, dy in zip(ys, dys, strict=True) if y is not None)
    back = sum((x * dx).sum() for x, dx in zip(xs, dxs, strict=True) if dx is not None)
    scale = sum(np.abs(y * dy).sum() for y, dy in zip(ys, dys, strict=True) if y is not None)
    assert abs(there - back) < 1e-13 * scale and abs(there) > 1e-3


@pytest.mark.parametrize("routes", ROUTES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bytes_are_counted_as_predicted(routes, dtype, devices):
    routes, n, size = ROUTES[routes], 4, np.dtype(dtype).itemsize
    exchange, *_ = both_ways(routes, devices, n, dtype)
    predicted = exchange.bytes_per_image(MAPS[: len(routes)], size)
    assert exchange.crossed == Counter({way: n * count for way, count in predicted.items()})
    by_hand = Counter()
    for reader, sources in enumerate(routes):
        for source in sources:
            if source != reader:
                by_hand["forward", source, reader] = by_hand["backward", reader, source] = (
                    size * n * int(np.prod(MAPS[source]))
                )
    assert exchange.crossed == by_hand
    assert bool(by_hand) == (routes not in ([[0], [1]], [[0]]))


def test_each_pass_is_counted_and_a_replica_has_its_own_count(devices):
    exchange = Exchange([[0, 1], [0, 1]])
    replica = exchange.replica()
    xs = put(devices, [noise(2, *MAPS[c]) for c in range(2)])
    exchange.forward(xs, devices)
    once = exchange.crossed.copy()
    exchange.forward(xs, devices)
    assert exchange.crossed == once + once and not replica.crossed and replica.routes == exchange.routes


def test_views_are_made_contiguous_before_they_are_sent(devices, monkeypatch):
    seen, receive = [], Device.receive

    def forward_hook(self, array, source):
        seen.append(array.flags.c_contiguous)
        return receive(self, array, source)

    monkeypatch.setattr(Device, "receive", forward_hook)
    exchange, xs = Exchange([[0, 1], [0, 1]]), [noise(2, 3, 8), noise(2, 3, 8, purpose="b")]
    ys = exchange.forward([x[..., ::2] for x in put(devices, xs)], devices)
    for y in get(devices, ys):
        np.testing.assert_array_equal(y, np.concatenate([x[..., ::2] for x in xs], axis=-1))
    exchange.backward(ys, devices)
    assert seen == [True] * 4  # a device sends contiguous arrays only


def test_without_an_exchange_nothing_is_copied(devices):
    exchange = Exchange([[0], [1]])
    xs = put(devices, [noise(2, *MAPS[c]) for c in range(2)])
    ys = exchange.forward(xs, devices)
    assert all(y is x for y, x in zip(ys, xs, strict=True))
    assert all(dx is x for dx, x in zip(exchange.backward(xs, devices), xs, strict=True))


def test_inputs_stay_as_they_are(devices):
    exchange = Exchange([[0, 1], [0, 1]])
    xs = [noise(2, *MAPS[c]) for c in range(2)]
    there = put(devices, xs)
    ys = exchange.forward(there, devices)
    exchange.backward(ys, devices)
    for device, array, x in zip(devices, there, xs, strict=False):
        np.testing.assert_array_equal(device.get(array), x)


def test_backward_does_not_modify_its_gradients(devices):
    exchange = Exchange([[0, 1], [0, 1]])
    exchange.forward(put(devices, [noise(2, *MAPS[c]) for c in range(2)]), devices)
    dys = [noise(2, 2, 3, 9, purpose=c) for c in "ab"]
    there = put(devices, dys)
    exchange.backward(there, devices)
    for device, array, dy in zip(devices, there, dys, strict=False):
        np.testing.assert_array_equal(device.get(array), dy)


# Stages.


def test_stage_runs_its_columns_and_calls_the_hook(devices):
    columns = [[Linear(9, 3).named("fca"), ReLU().named("relu")], [Linear(9, 2).named("fcb"), Tanh().named("tanh")]]
    stage = Stage("fc", Exchange([[0, 1], [0, 1]]), columns)
    for device, column in zip(devices, columns, strict=False):
        for layer in column:
            layer.build(device, dtype="float64")
    xs, seen = [noise(4, 5), noise(4, 4)], []
    ys = stage.forward(put(devices, xs), devices, forward_hook=lambda layer, y: seen.append((layer.name, y.shape)))
    assert seen == [("fca", (4, 3)), ("relu", (4, 3)), ("fcb", (4, 2)), ("tanh", (4, 2))]
    z = np.concatenate(xs, axis=1)
    first, second = (device.get(column[0].W.value) for device, column in zip(devices, columns, strict=False))
    y = get(devices, ys)
    np.testing.assert_allclose(y[0], np.maximum(z @ first, 0), rtol=1e-12)
    np.testing.assert_allclose(y[1], np.tanh(z @ second), rtol=1e-12)
    assert stage.output_shapes([(5,), (4,)]) == [(3,), (2,)]

    dys = [noise(4, 3, purpose="dy"), noise(4, 2, purpose="dy")]
    dxs = get(devices, stage.backward(put(devices, dys), devices))
    dz = (dys[0] * (y[0] > 0)) @ first.T + (dys[1] * (1 - y[1] ** 2)) @ second.T
    np.testing.assert_allclose(np.concatenate(dxs, axis=1), dz, rtol=1e-11, atol=1e-13)


def test_column_without_input_has_no_output(devices):
    layer = Linear(9, 3).named("fc8").build(devices[0], dtype="float64")
    stage = Stage("fc8", Exchange([[0, 1], []]), [[layer], []])
    ys = stage.forward(put(devices, [noise(4, 5), noise(4, 4)]), devices)
    assert ys[1] is None and stage.output_shapes([(5,), (4,)]) == [(3,), None]
    dxs = stage.backward([ys[0], None], devices)
    assert [dx.shape for dx in dxs] == [(4, 5), (4, 4)]


def test_replica_shares_only_the_values(devices):
    layer = Conv2d(3, 4, 3).named("conv").build(devices[0], dtype="float64")
    stage = Stage("conv", Exchange([[0]]), [[layer]])
    twin = stage.replica()
    other = twin.columns[0][0]
    assert other is not layer and other.W.value is layer.W.value and other.W.grad is None
    stage.forward([devices[0].put(noise(2, 5, 6, 3))], devices)
    assert layer.saved is not None and other.saved is None
    layer.W.value = devices[0].put(noise(*layer.W.shape))
    assert other.W.value is layer.W.value


# Two columns equal one column whose weights between the columns are zero.

NET = dict(input=67, maps=(6, 16, 24, 24, 16), hidden=32, classes=10, norm="none")


@pytest.mark.parametrize("talk", [(), ("conv3", "fc6", "fc7", "fc8"), ("conv2", "conv4", "fc7")], ids=str)
@pytest.mark.parametrize("fc8", ["a", "split"])
def test_two_columns_are_one_with_zero_blocks(talk, fc8):
    init = Init({"default": "he"}, {"default": 0.1})
    images, labels, step = noise(5, 67, 67, 3), np.array([0, 9, 4, 4, 1]), Step(1, 2)
    two = alexnet.build(Net(talk=talk, fc8=fc8, **NET), init, ["cpu", "cpu"], dtype="float64")
    one = alexnet.build(Net(columns=1, talk=talk, fc8=fc8, **NET), init, ["cpu"], dtype="float64")
    values, shapes = two.state(), {name: value.shape for name, value in one.state().items()}

    def assemble(parts, name):
        """Assemble the tensor of a single column from both columns' parts."""
        layer, kind = name.split("/")
        if name in parts:  # fc8 on column a
            return parts[name]
        a, b = parts[f"{layer}a/{kind}"], parts[f"{layer}b/{kind}"]
        if kind == "b" or a.shape[:-1] == shapes[name][:-1]:
            return np.concatenate([a, b], axis=-1)
        # Of fc6's rows, in (h, w, c) order, each column has half: conv5's maps are 1 x 1 here.
        whole = np.zeros((*shapes[name][:-2], 2, shapes[name][-2] // 2, 2, a.shape[-1]))
        whole[..., 0, :, 0, :], whole[..., 1, :, 1, :] = a, b
        return whole.reshape(shapes[name])

    one.load({name: assemble(values, name) for name in shapes})
    losses = [float(network.loss_and_backward(images, labels, step=step)[0]) for network in (one, two)]
    assert abs(losses[0] - losses[1]) < 1e-13 * losses[1]
    gradients, parts = one.gradients(), two.gradients()
    for name, gradient in gradients.items():
        expected = assemble(parts, name)
        reached = assemble({part: np.ones(value.shape) for part, value in parts.items()}, name)  # zeros elsewhere
        assert expected.any(), name
        assert np.abs(gradient * reached - expected).max() < 1e-12 * np.abs(expected).max(), name
    np.testing.assert_allclose(one.predict(images), two.predict(images), rtol=1e-12)

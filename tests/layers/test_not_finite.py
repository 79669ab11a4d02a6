"""Infinities and NaN stay where they belong: a mask multiplies nothing, and a NaN is a window's largest number."""

import numpy as np
import pytest

from tests.support import shim
from tests.support.layer_cases import STEP, noise
from tinyalex import layers
from tinyalex.devices.device import Device
from tinyalex.layers import loops
from tinyalex.network.columns import Exchange, Stage
from tinyalex.network.fusion import fuse

NOT_FINITE = [np.inf, -np.inf, np.nan]


@pytest.fixture(params=["readable", "fast", "fake", "kernels"])
def device(request):
    """Each form of a layer in float32."""
    if request.param == "kernels":
        device = shim.device("kernels")
    else:
        device = Device("fake:0" if request.param == "fake" else "cpu", request.param != "readable")
    with device:
        yield device


def forward_backward(layer, device, x, dy, **options):
    layer.build(device)
    y = device.get(layer.forward(device.put(x.astype("float32")), **options))
    return y, device.get(layer.backward(device.put(dy.astype("float32"))))


@pytest.mark.parametrize("value", NOT_FINITE)
def test_relu_keeps_a_gradient_that_is_not_finite_in_place(device, value):
    x = noise(2, 3, 4, 5)
    dy = np.full(x.shape, value)
    _, dx = forward_backward(layers.ReLU(), device, x, dy)
    np.testing.assert_array_equal(dx, np.where(x > 0, value, 0).astype("float32"))
    np.testing.assert_array_equal(loops.relu_backward(dy, x), np.where(x > 0, value, 0))


@pytest.mark.parametrize("value", NOT_FINITE)
def test_abs_keeps_a_gradient_that_is_not_finite_in_place(device, value):
    x = np.array([[-2.0, 0.0, 3.0]])
    dy = np.full(x.shape, value)
    _, dx = forward_backward(layers.Abs(), device, x, dy)
    np.testing.assert_array_equal(dx, np.array([[-value, 0, value]], "float32"))
    np.testing.assert_array_equal(loops.absolute_backward(dy, x), [[-value, 0, value]])


@pytest.mark.parametrize("window, stride", [(3, 2), (2, 2), (3, 1), (1, 1)])
@pytest.mark.parametrize("value", NOT_FINITE)
def test_max_pool_keeps_a_gradient_that_is_not_finite_in_place(device, value, window, stride):
    x = noise(1, 7, 6, 4)
    dy = np.ones(loops.max_pool(x, window, stride).shape)
    dy[0, 1, 1, 2] = value
    _, dx = forward_backward(layers.MaxPool(window, stride), device, x, dy)
    assert np.isfinite(dx).sum() == dx.size - 1
    np.testing.assert_array_equal(dx, loops.max_pool_backward(dy, x, window, stride).astype("float32"))


@pytest.mark.parametrize("value", NOT_FINITE)
def test_dropped_units_are_0_whatever_they_were(device, value):
    ones = np.ones((4, 9))
    kept, _ = forward_backward(layers.Dropout(0.5, "fc6"), device, ones, ones, training=True, step=STEP)
    x = np.full((4, 9), value)
    y, dx = forward_backward(layers.Dropout(0.5, "fc6"), device, x, x, training=True, step=STEP)
    expected = np.where(kept != 0, value, 0).astype("float32")
    assert 0 < (kept != 0).sum() < kept.size
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(dx, expected)


@pytest.mark.parametrize("value", NOT_FINITE)
def test_fused_layer_keeps_a_gradient_that_is_not_finite_in_place(value):
    """Where ReLU or dropout stopped an output, dx of a layer of weights 1 at one input is 0."""
    results = []
    for device in (shim.device("kernels"), Device("cpu", kernels=False)):
        made = [layers.Linear(6, 6), layers.ReLU(), layers.Dropout(0.5, "fc6")]
        for layer in made:
            layer.build(device)
        made[0].W.value = np.eye(6, dtype="float32")
        column = fuse(Stage("", Exchange([[0]]), [made])).columns[0] if not device.on_host else made
        y = noise(5, 6).astype("float32")
        for layer in column:
            y = layer.forward(y, training=True, step=STEP)
        dy = np.where(y > 0, 1, value).astype("float32")
        for layer in reversed(column):
            dy = layer.backward(dy)
        results.append((y, dy))
        np.testing.assert_array_equal(dy, (y > 0).astype("float32"))
    np.testing.assert_array_equal(*(y for y, _ in results))


def first_largest(x, window, stride):
    """The first maximum of each window, by argmax, which returns the first NaN: values, and indices into x."""
    n, h, w, c = x.shape
    values, places = [], []
    size = [1 + -(-(side - window) // stride) for side in (h, w)]
    for i, row, column, channel in np.ndindex(n, *size, c):
        top, left = row * stride, column * stride
        part = x[i, top : top + window, left : left + window, channel]
        at = np.unravel_index(part.argmax(), part.shape)
        values.append(part[at])
        places.append((i, top + at[0], left + at[1], channel))
    return np.reshape(values, (n, *size, c)), places


@pytest.mark.parametrize("kind", ["some NaN", "all NaN", "infinities", "NaN and infinities", "ties"])
@pytest.mark.parametrize("window, stride", [(3, 2), (2, 2), (3, 1), (5, 3)])
def test_first_nan_of_a_window_is_its_maximum(device, window, stride, kind):
    x = np.round(noise(2, 7, 8, 4))
    chance = noise(*x.shape, purpose="where")
    if "NaN" in kind:
        x[chance > (-9 if kind == "all NaN" else 0.9)] = np.nan
    if "infinities" in kind:
        x[chance < -0.8] = np.inf
        x[(chance > 0) & (chance < 0.5)] = -np.inf
    expected, places = first_largest(x, window, stride)
    dy = np.arange(1.0, expected.size + 1).reshape(expected.shape)
    y, dx = forward_backward(layers.MaxPool(window, stride), device, x, dy)
    np.testing.assert_array_equal(y, expected.astype("float32"))
    wanted = np.zeros(x.shape)
    for place, gradient in zip(places, dy.ravel(), strict=True):
        wanted[place] += gradient
    np.testing.assert_array_equal(dx, wanted.astype("float32"))
    np.testing.assert_array_equal(loops.max_pool(x, window, stride), expected)
    np.testing.assert_array_equal(loops.max_pool_backward(dy, x, window, stride), wanted)


@pytest.mark.parametrize("make, twin", [
    (layers.ReLU, loops.relu), (layers.Tanh, loops.tanh), (layers.Logistic, loops.logistic),
    (layers.SoftReLU, loops.soft_relu), (layers.Abs, loops.absolute), (layers.Square, loops.square),
    (layers.ScaledTanh, loops.scaled_tanh),
])  # fmt: skip
def test_nonlinearities_propagate_nan(device, make, twin):
    x = np.array([[np.nan, 1.0, -1.0]])
    y, _ = forward_backward(make(), device, x, x)
    assert np.isnan(y).tolist() == np.isnan(twin(x)).tolist() == [[True, False, False]]

"""Very large and very small numbers in float32, against closed forms in float64 and PyTorch."""

import numpy as np
import pytest

from tests.support import shim
from tests.support.layer_cases import noise
from tinyalex import layers
from tinyalex.devices.device import Device
from tinyalex.layers import loops


@pytest.fixture(params=["readable", "fast", "kernels"])
def device(request):
    """Each form of a layer in float32."""
    return shim.device("kernels") if request.param == "kernels" else Device("cpu", request.param == "fast")


NORMS = {
    "lrn": (layers.LRN, loops.lrn, loops.lrn_backward),
    "spatial norm": (layers.SpatialNorm, loops.spatial_norm, loops.spatial_norm_backward),
}


@pytest.mark.parametrize("kind", [*NORMS, "contrast norm"])
@pytest.mark.parametrize("beta", [0.5, 0.75, 1.0])
@pytest.mark.parametrize("exponent", [-30, 0, 8, 11, 14, 15, 16, 17, 18])
def test_normalization_keeps_its_digits_until_the_squares_overflow(kind, beta, exponent, device):
    """The gradient of large responses is a difference of nearly equal terms, so it is compared with the larger one."""
    contrast = layers.ContrastNorm, loops.contrast_norm, loops.contrast_norm_backward
    make, forward, backward = NORMS.get(kind, contrast)
    settings = {"size": 3, "k": 1.0, "alpha": 1.0 if kind == "lrn" else 9.0, "beta": beta}
    x = (10.0**exponent * (1 + noise(1, 3, 4, 5) ** 2)).astype("float32")
    dy = noise(1, 3, 4, 5, purpose="dy").astype("float32")
    layer = make(**settings).build(device)
    y = device.get(layer.forward(device.put(x)))
    dx = device.get(layer.backward(device.put(dy)))
    exact, exact_dy = x.astype("float64"), dy.astype("float64")
    np.testing.assert_allclose(y, forward(exact, **settings), rtol=3e-6)
    expected = backward(exact_dy, exact, **settings)
    if beta < 1 or exponent < 17:  # else d^(-beta - 1) x is below float32's numbers
        np.testing.assert_allclose(dx, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("kind", NORMS)
def test_one_response_of_1e16_gives_1e_8(kind, device):
    x = np.full((1, 1, 1, 1), 1e16, "float32")
    alpha = 1.0 if kind == "lrn" else 9.0
    layer = NORMS[kind][0](size=3, k=1.0, alpha=alpha).build(device)
    np.testing.assert_allclose(device.get(layer.forward(device.put(x))), 1e-8, rtol=1e-6)
    # dx = d^-3/4 - 2 (3/4) x^2 d^-7/4, and d is x^2: -1/2 d^-3/4
    np.testing.assert_allclose(device.get(layer.backward(device.put(np.ones_like(x)))), -0.5e-24, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("beta", [0.5, 0.75, 1.0])
def test_squares_that_overflow_give_0_as_in_pytorch(kind, beta, device):
    x = np.array([1e20, 1.0, 3e38, -1e20, 1e30], "float32").reshape(1, 1, 1, 5)
    layer = NORMS[kind][0](size=3, k=1.0, alpha=1.0, beta=beta).build(device)
    y = device.get(layer.forward(device.put(x))).ravel()
    dx = device.get(layer.backward(device.put(np.ones_like(x)))).ravel()
    large = np.abs(x.ravel()) > 1
    assert not y[large].any() and not dx[large].any()
    assert np.isfinite(y).all() and np.isfinite(dx).all()
    if kind == "lrn":
        torch = pytest.importorskip("torch", reason="PyTorch is the oracle of this test")
        its = torch.nn.functional.local_response_norm(torch.tensor(x).permute(0, 3, 1, 2), 3, 3.0, beta, 1.0)
        np.testing.assert_allclose(y, its.numpy().ravel(), rtol=1e-6)


def test_not_a_number_spreads_to_its_window_only(device):
    x = np.ones((1, 1, 1, 7), "float32")
    x[..., 2] = np.nan
    y = device.get(layers.LRN(size=3).build(device).forward(device.put(x))).ravel()
    assert np.isnan(y).tolist() == [False, True, True, True, False, False, False]


@pytest.mark.parametrize("value", [-3e38, -1e4, -20.0, 0.0, 1e-30, 20.0, 1e4, 3e38])
def test_tanh_of_any_number(value, device):
    x = np.full((2, 3), value, "float32")
    layer = layers.Tanh().build(device)
    y = device.get(layer.forward(device.put(x)))
    dx = device.get(layer.backward(device.put(np.ones_like(x))))
    np.testing.assert_allclose(y, np.tanh(np.float64(x)), rtol=1e-6)
    np.testing.assert_allclose(dx, loops.tanh_backward(np.ones((2, 3)), np.float64(x)), rtol=1e-6, atol=1e-7)
    assert np.isfinite(loops.tanh(x)).all()


UNITS = {  # the layer, its loops, and its value of a large and of a small number
    "logistic": (layers.Logistic, loops.logistic, loops.logistic_backward, lambda x: float(x > 0)),
    "soft relu": (layers.SoftReLU, loops.soft_relu, loops.soft_relu_backward, lambda x: max(x, 0.0)),
    "scaled tanh": (layers.ScaledTanh, loops.scaled_tanh, loops.scaled_tanh_backward, np.sign),
}


@pytest.mark.parametrize("value", [-3e38, -1e4, -200.0, 200.0, 1e4, 3e38])
@pytest.mark.parametrize("kind", UNITS)
def test_saturating_units_of_large_numbers(kind, value, device):
    make, forward, backward, limit = UNITS[kind]
    x = np.full((2, 3), value, "float32")
    layer, ones = make().build(device), np.ones((2, 3))
    y = device.get(layer.forward(device.put(x)))
    np.testing.assert_allclose(y, np.full(x.shape, limit(np.float64(x[0, 0]))), rtol=1e-6)
    np.testing.assert_allclose(y, forward(np.float64(x)), rtol=1e-6, atol=1e-30)
    dx = device.get(layer.backward(device.put(np.ones_like(x))))
    np.testing.assert_allclose(dx, np.full(x.shape, float(kind == "soft relu" and value > 0)), rtol=1e-6)
    np.testing.assert_allclose(dx, backward(ones, np.float64(x)), rtol=1e-6, atol=1e-30)


EXTREME_LOGITS = [
    [0.0, 0.0, 0.0], [1e4, 0.0, -1e4], [88.0, 89.0, 90.0], [-88.0, -89.0, -1e30], [1e30, 1e30, 1e30],
    [-np.inf, 0.0, 1.0], [1e-40, 0.0, -1e-40],
]  # fmt: skip


@pytest.mark.parametrize("label", [0, 1, 2])
@pytest.mark.parametrize("logits", EXTREME_LOGITS, ids=str)
def test_softmax_of_extreme_logits_is_pytorchs(logits, label, device):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle of this test")
    z, labels = np.array([logits], "float32"), np.array([label])
    loss = layers.SoftmaxLoss().build(device)
    value = float(device.get(loss.forward(device.put(z), device.put(labels))))
    theirs = torch.tensor(z, requires_grad=True)
    its = torch.nn.functional.cross_entropy(theirs, torch.tensor(labels))
    np.testing.assert_allclose(value, its.item(), rtol=1e-6)
    its.backward()
    np.testing.assert_allclose(device.get(loss.backward()), theirs.grad.numpy(), rtol=1e-6, atol=1e-7)
    p = device.get(loss.probabilities(device.put(z)))
    np.testing.assert_allclose(p, torch.softmax(torch.tensor(z), dim=1).numpy(), rtol=1e-6, atol=1e-38)
    with np.errstate(all="ignore"):
        if np.isfinite(logits).all():
            np.testing.assert_allclose(loops.softmax_loss(np.float64(z), labels), its.item(), rtol=1e-6)

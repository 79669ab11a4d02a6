"""The reference implementation itself: against numbers computed by hand, SciPy, and finite differences."""

import math

import numpy as np
import pytest

from tests.support.layer_cases import CASES, noise
from tinyalex.layers import loops


def test_convolution_by_hand():
    x = np.arange(1.0, 10.0).reshape(1, 3, 3, 1)
    W = np.array([[1.0, 0.0], [0.0, -1.0]]).reshape(2, 2, 1, 1)
    y = loops.conv2d(x, W, np.array([10.0]))
    assert y[0, :, :, 0].tolist() == [[6.0, 6.0], [6.0, 6.0]]  # 10 + x[r, c] - x[r + 1, c + 1]
    padded = loops.conv2d(x, W, np.array([0.0]), stride=2, pad=1)
    assert padded[0, :, :, 0].tolist() == [[-1.0, -3.0], [-7.0, 5.0 - 9.0]]
    hanging = loops.conv2d(x, W, np.array([0.0]), stride=2, rounding="ceil")
    assert hanging[0, :, :, 0].tolist() == [[1.0 - 5.0, 3.0], [7.0, 9.0]]


def test_convolution_is_scipys_correlation():
    signal = pytest.importorskip("scipy.signal", reason="SciPy is the oracle of this test: pip install scipy")
    x, W, b = noise(2, 6, 7, 3), noise(3, 3, 3, 4), noise(4)
    y = loops.conv2d(x, W, b)
    for i in range(2):
        for o in range(4):
            expected = signal.correlate(x[i], W[..., o], mode="valid")[..., 0] + b[o]
            np.testing.assert_allclose(y[i, ..., o], expected, atol=1e-13)


def test_groups_see_their_own_channels():
    x, W, b = noise(1, 4, 4, 4), noise(3, 3, 2, 6), noise(6)
    y = loops.conv2d(x, W, b, groups=2)
    for half in (0, 1):
        alone = loops.conv2d(
            x[..., 2 * half : 2 * half + 2], W[..., 3 * half : 3 * half + 3], b[3 * half : 3 * half + 3]
        )
        np.testing.assert_array_equal(y[..., 3 * half : 3 * half + 3], alone)


def test_linear_by_hand():
    x, W, b = np.array([[1.0, 2.0]]), np.array([[1.0, 10.0, 0.0], [2.0, 20.0, 1.0]]), np.array([0.0, 0.0, 5.0])
    assert loops.linear(x, W, b).tolist() == [[5.0, 50.0, 7.0]]
    dx, dW, db = loops.linear_backward(np.array([[1.0, 0.0, 2.0]]), x, W)
    assert (
        dx.tolist() == [[1.0, 4.0]] and dW.tolist() == [[1.0, 0.0, 2.0], [2.0, 0.0, 4.0]] and db.tolist() == [1, 0, 2]
    )


def test_lrn_by_hand():
    # Map 0 of 4 sees maps 0, 1, 2: d = 2 + 1 (1 + 4 + 9) = 16, and 16^0.75 = 8.
    x = np.array([[1.0, 2.0, 3.0, 0.0]])
    y = loops.lrn(x, alpha=1.0)
    assert math.isclose(y[0, 0], 1 / 8) and math.isclose(y[0, 1], 2 / 8) and y[0, 3] == 0
    assert math.isclose(loops.lrn(x, alpha=5.0, average=True)[0, 2], 3 / 8)
    assert math.isclose(loops.lrn(x, alpha=1.0, groups=2)[0, 2], 3 / 11**0.75)


def test_spatial_norm_by_hand():
    x = np.zeros((1, 3, 3, 1))
    x[0, 0, 0], x[0, 1, 1], x[0, 2, 2] = 1.0, 2.0, 5.0
    y = loops.spatial_norm(x, size=3, alpha=9.0, beta=1.0)
    assert math.isclose(y[0, 0, 0, 0], 1 / 6) and math.isclose(y[0, 1, 1, 0], 2 / 31)


def test_pools_by_hand():
    x = np.array([[5.0, 1.0, 2.0, 0.0], [5.0, 3.0, 4.0, 9.0], [1.0, 1.0, 6.0, 6.0]]).reshape(1, 3, 4, 1)
    assert loops.max_pool(x)[0, :, :, 0].tolist() == [[6.0, 9.0]]
    assert loops.max_pool(x, rounding="floor")[0, :, :, 0].tolist() == [[6.0]]
    assert loops.avg_pool(x, 2, 2)[0, :, :, 0].tolist() == [[3.5, 3.75], [1.0, 6.0]]
    dx = loops.max_pool_backward(np.ones((1, 2, 2, 1)), x, 2, 2)
    assert dx[0, :, :, 0].tolist() == [[1, 0, 0, 0], [0, 0, 0, 1], [1, 0, 1, 0]]  # the first of equals


def test_loss_by_hand():
    z = np.log(np.array([[1.0, 3.0], [2.0, 2.0]]))
    assert math.isclose(loops.softmax_loss(z, [1, 0]), (math.log(4 / 3) + math.log(2)) / 2)
    np.testing.assert_allclose(loops.softmax_loss_backward(z, [1, 0]), [[0.125, -0.125], [-0.25, 0.25]])


@pytest.mark.parametrize("name", CASES)
def test_reference_gradients_agree_with_differences(name):
    """Along a random direction in all arguments at once; `tinyalex.layers` is not involved."""
    case = CASES[name]
    arguments = [case.x()] + [noise(*p.shape, purpose=p.kind) for p in case.make().parameters]
    directions = [noise(*a.shape, purpose="direction") for a in arguments]
    y = case.forward(*arguments)
    dy = noise(*y.shape, purpose="dy")
    gradients = case.backward(dy, *arguments)
    step = 1e-6
    plus, minus = (
        case.forward(*(a + sign * step * d for a, d in zip(arguments, directions, strict=True))) for sign in (1, -1)
    )
    expected = ((plus - minus) * dy).sum() / (2 * step)
    found = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True))
    assert abs(found - expected) <= 1e-7 * max(abs(expected), np.abs(dy).max())

"""Contrast normalization, one response at a time (2012: ``cnorm``).

y[i] = x[i] / d[i]^beta,    d[i] = k + alpha / size^2 * sum over j in window(i) of (x[j] - mean of window(j))^2
"""

import numpy as np

from tinyalex.layers.loops.normalization import _pixels


def contrast_norm(x: np.ndarray, size: int = 5, k: float = 1.0, alpha: float = 1e-3, beta: float = 0.75) -> np.ndarray:
    """Normalize each map of x (n, h, w, c) by the contrast over size x size pixels."""
    e, y = _deviations(x, size), np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        y[index] = x[index] / _contrast(e, index, size, k, alpha) ** beta
    return y


def contrast_norm_backward(
    dy: np.ndarray, x: np.ndarray, size: int = 5, k: float = 1.0, alpha: float = 1e-3, beta: float = 0.75
) -> np.ndarray:
    """Return dx: through the numerator, and through every deviation, which depends on its own window's pixels."""
    e, dx, de = _deviations(x, size), np.zeros(x.shape), np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        d = _contrast(e, i, size, k, alpha)
        dx[i] += dy[i] / d**beta
        for j in _pixels(x.shape, i, size):
            de[j] -= dy[i] * x[i] * beta / d ** (beta + 1) * alpha / size**2 * 2 * e[j]
    for j in np.ndindex(x.shape):
        window = list(_pixels(x.shape, j, size))
        dx[j] += de[j]
        for q in window:
            dx[q] -= de[j] / len(window)
    return dx


def _deviations(x: np.ndarray, size: int) -> np.ndarray:
    e = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        window = list(_pixels(x.shape, index, size))
        e[index] = x[index] - sum(float(x[j]) for j in window) / len(window)
    return e


def _contrast(e: np.ndarray, index: tuple[int, ...], size: int, k: float, alpha: float) -> float:
    return k + alpha / size**2 * sum(e[j] ** 2 for j in _pixels(e.shape, index, size))

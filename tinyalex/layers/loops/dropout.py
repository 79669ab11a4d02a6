"""Dropout, unit by unit (paper §4.2); the random mask is an argument."""

import numpy as np


def dropout(x: np.ndarray, mask: np.ndarray | None = None, p: float = 0.5) -> np.ndarray:
    """Set the units of x (n, m) whose mask is False to zero; without a mask, at test, scale all by ``1 - p``."""
    y = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        if mask is None:
            y[index] = x[index] * (1 - p)
        elif mask[index]:
            y[index] = x[index]
    return y


def dropout_backward(dy: np.ndarray, mask: np.ndarray | None = None, p: float = 0.5) -> np.ndarray:
    """Return dx: a dropped unit had no effect on the output, so its gradient is zero."""
    return dropout(dy, mask, p)

"""Fully connected layer in three loops (paper §3.5):  y[i, o] = b[o] + sum over m of x[i, m] W[m, o]."""

from collections.abc import Iterator

import numpy as np

Index = tuple[int, ...]


def _pairs(x: np.ndarray, W: np.ndarray, groups: int) -> Iterator[tuple[Index, Index, Index]]:
    # Yield the indices (in y, in x, in W) of every product in the sum. With groups, an output sees the channels of its
    # own group only, at every pixel, and its weights are numbered without gaps.
    outputs, channels = W.shape[1], x.shape[-1]
    for i in range(len(x)):
        for o in range(outputs):
            group, m = sum(outputs * g // groups <= o for g in range(1, groups)), 0
            for index in np.ndindex(x.shape[1:]):
                if index[-1] // (channels // groups) == group:
                    yield (i, o), (i, *index), (m, o)
                    m += 1


def linear(x: np.ndarray, W: np.ndarray, b: np.ndarray, groups: int = 1) -> np.ndarray:
    """Map x (n, ...), read in (h, w, c) order, to (n, o) by W (m / groups, o) and b (o,)."""
    y = np.zeros((len(x), W.shape[1]))
    for i, o in np.ndindex(y.shape):
        y[i, o] = b[o]
    for out, pixel, weight in _pairs(x, W, groups):
        y[out] += x[pixel] * W[weight]
    return y


def linear_backward(dy: np.ndarray, x: np.ndarray, W: np.ndarray, groups: int = 1) -> tuple[np.ndarray, ...]:
    """Return dx, dW and db."""
    dx, dW, db = np.zeros(x.shape), np.zeros(W.shape), np.zeros(W.shape[1])
    for i, o in np.ndindex(dy.shape):
        db[o] += dy[i, o]
    for out, pixel, weight in _pairs(x, W, groups):
        dx[pixel] += dy[out] * W[weight]
        dW[weight] += dy[out] * x[pixel]
    return dx, dW, db

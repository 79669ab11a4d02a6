"""Locally connected layer in seven loops (2012: ``local``): a convolution with its own kernels at each output position.

    y[i, row, column, map] = b[row, column, map] + sum over u, v, c of
                             x[i, s row + u - p, s column + v - p, c] W[row, column, u, v, c, map]

s is the stride, p the padding; pixels beyond the image are zero.
"""

from collections.abc import Iterator

import numpy as np

Index = tuple[int, ...]


def _taps(shape: tuple[int, ...], W: np.ndarray, stride: int, pad: int) -> Iterator[tuple[Index, Index, Index]]:
    # Yield the indices (in y, in x, in W) of every product in the sum.
    n, h, w, _ = shape
    rows, columns, k, _, channels, maps = W.shape
    for i in range(n):
        for row, column, u, v in np.ndindex(rows, columns, k, k):
            r, q = stride * row + u - pad, stride * column + v - pad
            if 0 <= r < h and 0 <= q < w:
                for c, map_ in np.ndindex(channels, maps):
                    yield (i, row, column, map_), (i, r, q, c), (row, column, u, v, c, map_)


def locally_connected(x: np.ndarray, W: np.ndarray, b: np.ndarray, stride: int = 1, pad: int = 0) -> np.ndarray:
    """Map x (n, h, w, c) to (n, ho, wo, o) by W (ho, wo, k, k, c, o) and b (ho, wo, o)."""
    y = np.zeros((len(x), *b.shape))
    for index in np.ndindex(y.shape):
        y[index] = b[index[1:]]
    for out, pixel, weight in _taps(x.shape, W, stride, pad):
        y[out] += x[pixel] * W[weight]
    return y


def locally_connected_backward(
    dy: np.ndarray, x: np.ndarray, W: np.ndarray, stride: int = 1, pad: int = 0
) -> tuple[np.ndarray, ...]:
    """Return dx, dW and db: each product x W of the forward pass adds dy W to x's gradient and dy x to W's."""
    dx, dW, db = np.zeros(x.shape), np.zeros(W.shape), np.zeros(dy.shape[1:])
    for index in np.ndindex(dy.shape):
        db[index[1:]] += dy[index]
    for out, pixel, weight in _taps(x.shape, W, stride, pad):
        dx[pixel] += dy[out] * W[weight]
        dW[weight] += dy[out] * x[pixel]
    return dx, dW, db

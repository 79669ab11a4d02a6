"""Convolution in seven loops (paper §3.5).

    y[i, row, column, map] = b[map] + sum over u, v, c of  x[i, s row + u - p, s column + v - p, c] W[u, v, c, map]

s is the stride, p the padding; pixels beyond the image are zero. With groups, a map sees its own group's channels only.
"""

from collections.abc import Iterator

import numpy as np

Index = tuple[int, ...]


def positions(size: int, window: int, stride: int, pad: int = 0, rounding: str = "floor") -> int:
    """Count the output positions of a window along a side, by moving it along.

    "floor" stops before the window would hang over the far edge, "ceil" at the first position that reaches the edge.
    """
    start, count = -pad, 0
    if rounding == "floor":
        while start + window <= size + pad:
            start, count = start + stride, count + 1
        return count
    while start + window < size + pad:
        start, count = start + stride, count + 1
    return count + 1


def _taps(
    x: np.ndarray, W: np.ndarray, stride: int, pad: int, groups: int, rounding: str
) -> Iterator[tuple[Index, Index, Index]]:
    # Yield the indices (in y, in x, in W) of every product in the sum.
    n, h, w, channels = x.shape
    k, _, c, maps = W.shape
    for i in range(n):
        for row in range(positions(h, k, stride, pad, rounding)):
            for column in range(positions(w, k, stride, pad, rounding)):
                for map_ in range(maps):
                    first = map_ // (maps // groups) * (channels // groups)  # of this group's channels
                    for u in range(k):
                        for v in range(k):
                            r, q = stride * row + u - pad, stride * column + v - pad
                            if 0 <= r < h and 0 <= q < w:
                                for channel in range(c):
                                    yield (i, row, column, map_), (i, r, q, first + channel), (u, v, channel, map_)


def conv2d(
    x: np.ndarray, W: np.ndarray, b: np.ndarray, stride: int = 1, pad: int = 0, groups: int = 1, rounding: str = "floor"
) -> np.ndarray:
    """Convolve.

    Parameters
    ----------
    x : ndarray, shape (n, h, w, c)
    W : ndarray, shape (k, k, c / groups, o)
    b : ndarray, shape (o,)
    stride, pad, groups : int
    rounding : {"floor", "ceil"}

    Returns
    -------
    ndarray, shape (n, ho, wo, o)
    """
    k = W.shape[0]
    ho, wo = (positions(size, k, stride, pad, rounding) for size in x.shape[1:3])
    y = np.zeros((len(x), ho, wo, W.shape[3]))
    for index in np.ndindex(y.shape):
        y[index] = b[index[-1]]
    for out, pixel, weight in _taps(x, W, stride, pad, groups, rounding):
        y[out] += x[pixel] * W[weight]
    return y


def conv2d_backward(
    dy: np.ndarray,
    x: np.ndarray,
    W: np.ndarray,
    stride: int = 1,
    pad: int = 0,
    groups: int = 1,
    rounding: str = "floor",
) -> tuple[np.ndarray, ...]:
    """Return dx, dW and db: each product x W of the forward pass adds dy W to x's gradient and dy x to W's."""
    dx, dW, db = np.zeros(x.shape), np.zeros(W.shape), np.zeros(W.shape[3])
    for index in np.ndindex(dy.shape):
        db[index[-1]] += dy[index]
    for out, pixel, weight in _taps(x, W, stride, pad, groups, rounding):
        dx[pixel] += dy[out] * W[weight]
        dW[weight] += dy[out] * x[pixel]
    return dx, dW, db

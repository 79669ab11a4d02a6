"""Gaussian blur and subsampling, one pixel at a time (2012: ``blur``, ``nailbed``)."""

import math
from collections.abc import Iterator

import numpy as np


def gaussian_blur(x: np.ndarray, deviation: float, size: int) -> np.ndarray:
    """Blur x (n, h, w, c) with size x size taps; pixels beyond the image read as zero."""
    y = np.zeros(x.shape)
    for (i, r, q, c), (u, v), weight in _taps(x.shape, deviation, size):
        y[i, r, q, c] += weight * x[i, u, v, c]
    return y


def gaussian_blur_backward(dy: np.ndarray, x: np.ndarray, deviation: float, size: int) -> np.ndarray:
    """Return dx: each pixel's gradient spreads over the pixels that it was blurred from."""
    dx = np.zeros(x.shape)
    for (i, r, q, c), (u, v), weight in _taps(x.shape, deviation, size):
        dx[i, u, v, c] += weight * dy[i, r, q, c]
    return dx


def _taps(
    shape: tuple[int, ...], deviation: float, size: int
) -> Iterator[tuple[tuple[int, ...], tuple[int, int], float]]:
    # For every output (image, row, column, channel) the pixels that it is made of, with their weights.
    half = size // 2
    total = sum(math.exp(-(t**2) / (2 * deviation**2)) for t in range(-half, half + 1))
    for index in np.ndindex(shape):
        for s in range(-half, half + 1):
            for t in range(-half, half + 1):
                row, column = index[1] + s, index[2] + t
                if 0 <= row < shape[1] and 0 <= column < shape[2]:
                    yield index, (row, column), math.exp(-(s**2 + t**2) / (2 * deviation**2)) / total**2


def subsample(x: np.ndarray, stride: int) -> np.ndarray:
    """Return every stride-th pixel of x (n, h, w, c), down and across."""
    n, h, w, c = x.shape
    y = np.zeros((n, math.ceil(h / stride), math.ceil(w / stride), c))
    for i, row, column, channel in np.ndindex(y.shape):
        y[i, row, column, channel] = x[i, stride * row, stride * column, channel]
    return y


def subsample_backward(dy: np.ndarray, x: np.ndarray, stride: int) -> np.ndarray:
    """Return dx: dy where a pixel was taken, 0 elsewhere."""
    dx = np.zeros(x.shape)
    for i, row, column, channel in np.ndindex(dy.shape):
        dx[i, stride * row, stride * column, channel] = dy[i, row, column, channel]
    return dx

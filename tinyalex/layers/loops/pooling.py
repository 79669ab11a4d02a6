"""Pooling, one unit at a time (paper §3.4): a unit summarizes z x z pixels, s pixels after its neighbour's.

Where the last window hangs over the edge ("ceil"), it ends there.
"""

from collections.abc import Iterator

import numpy as np

from tinyalex.layers.loops.convolution import positions

Index = tuple[int, ...]


def _units(x: np.ndarray, window: int, stride: int, rounding: str) -> Iterator[tuple[Index, list[Index]]]:
    # Every unit with the pixels in its window, row by row.
    n, h, w, c = x.shape
    for i in range(n):
        for row in range(positions(h, window, stride, 0, rounding)):
            for column in range(positions(w, window, stride, 0, rounding)):
                for channel in range(c):
                    yield (
                        (i, row, column, channel),
                        [
                            (i, r, q, channel)
                            for r in range(stride * row, min(stride * row + window, h))
                            for q in range(stride * column, min(stride * column + window, w))
                        ],
                    )


def _empty(x: np.ndarray, window: int, stride: int, rounding: str) -> np.ndarray:
    ho, wo = (positions(size, window, stride, 0, rounding) for size in x.shape[1:3])
    return np.zeros((len(x), ho, wo, x.shape[3]))


def _first_largest(x: np.ndarray, pixels: list[Index]) -> Index:
    # A NaN counts as the largest.
    winner = pixels[0]
    for pixel in pixels:
        if x[pixel] > x[winner] or (np.isnan(x[pixel]) and not np.isnan(x[winner])):
            winner = pixel
    return winner


def max_pool(x: np.ndarray, window: int = 3, stride: int = 2, rounding: str = "ceil") -> np.ndarray:
    """Take the largest pixel of every window: (n, h, w, c) to (n, ho, wo, c)."""
    y = _empty(x, window, stride, rounding)
    for unit, pixels in _units(x, window, stride, rounding):
        y[unit] = x[_first_largest(x, pixels)]
    return y


def max_pool_backward(
    dy: np.ndarray, x: np.ndarray, window: int = 3, stride: int = 2, rounding: str = "ceil"
) -> np.ndarray:
    """Return dx: a unit's gradient goes to its largest pixel, or to the first of several."""
    dx = np.zeros(x.shape)
    for unit, pixels in _units(x, window, stride, rounding):
        dx[_first_largest(x, pixels)] += dy[unit]
    return dx


def avg_pool(x: np.ndarray, window: int = 3, stride: int = 2, rounding: str = "ceil") -> np.ndarray:
    """Take the mean of the pixels that a window has inside the image: (n, h, w, c) to (n, ho, wo, c)."""
    y = _empty(x, window, stride, rounding)
    for unit, pixels in _units(x, window, stride, rounding):
        for pixel in pixels:
            y[unit] += x[pixel] / len(pixels)
    return y


def avg_pool_backward(
    dy: np.ndarray, x: np.ndarray, window: int = 3, stride: int = 2, rounding: str = "ceil"
) -> np.ndarray:
    """Return dx: every pixel of a window gets the same share of its unit's gradient."""
    dx = np.zeros(x.shape)
    for unit, pixels in _units(x, window, stride, rounding):
        for pixel in pixels:
            dx[pixel] += dy[unit] / len(pixels)
    return dx

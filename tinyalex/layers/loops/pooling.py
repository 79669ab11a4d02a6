"""Pooling, one unit at a time (paper §3.4): a unit summarizes z x z pixels, s pixels after its neighbour's.

Where the last window hangs over the edge ("ceil"), it ends there.
"""

import numpy as np

from tinyalex.layers.loops.convolution import positions


def _units(x, window, stride, rounding):
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


def _empty(x, window, stride, rounding):
    ho, wo = (positions(size, window, stride, 0, rounding) for size in x.shape[1:3])
    return np.zeros((len(x), ho, wo, x.shape[3]))


def _first_largest(x, pixels):
    winner = pixels[0]
    for pixel in pixels:
        if x[pixel] > x[winner]:
            winner = pixel
    return winner


def max_pool(x, window=3, stride=2, rounding="ceil"):
    """Take the largest pixel of every window: (n, h, w, c) to (n, ho, wo, c)."""
    y = _empty(x, window, stride, rounding)
    for unit, pixels in _units(x, window, stride, rounding):
        y[unit] = x[_first_largest(x, pixels)]
    return y


def max_pool_backward(dy, x, window=3, stride=2, rounding="ceil"):
    """Return dx: a unit's gradient goes to its largest pixel, or to the first of several."""
    dx = np.zeros(x.shape)
    for unit, pixels in _units(x, window, stride, rounding):
        dx[_first_largest(x, pixels)] += dy[unit]
    return dx


def avg_pool(x, window=3, stride=2, rounding="ceil"):
    """Take the mean of the pixels that a window has inside the image: (n, h, w, c) to (n, ho, wo, c)."""
    y = _empty(x, window, stride, rounding)
    for unit, pixels in _units(x, window, stride, rounding):
        for pixel in pixels:
            y[unit] += x[pixel] / len(pixels)
    return y


def avg_pool_backward(dy, x, window=3, stride=2, rounding="ceil"):
    """Return dx: every pixel of a window gets the same share of its unit's gradient."""
    dx = np.zeros(x.shape)
    for unit, pixels in _units(x, window, stride, rounding):
        for pixel in pixels:
            dx[pixel] += dy[unit] / len(pixels)
    return dx

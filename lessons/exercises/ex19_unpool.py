"""Exercise 19: unpooling where several pixels are the maximum (lesson 19). Check it: ``pytest -m ex19``."""

import numpy as np
import pytest
from returned import alike, array

from tinyalex.randomness import below, key, normal


def unpool(y, x, window, stride):
    """Return an array of x's shape with each number of y shared by the maxima of its window of x, and 0 elsewhere.

    y: (h, w, c), one number for each window and map. x: (rows, columns, c), the pool's input; window (i, j) begins at
    row i * stride and column j * stride, and is cut off where it goes beyond x. If k pixels of a window are its maximum
    (after a ReLU often all of them, which are 0), each gets 1 / k of the number. Where a pixel is a maximum of several
    windows, add what it gets from each.
    """
    raise NotImplementedError("write unpool: find the maxima of each window of x, add an equal share of y to each")


def shared(y, x, window, stride):
    """Loop over the pixels: each collects its shares from all windows that it is in."""
    expected = np.zeros(x.shape)
    for row, column, c in np.ndindex(x.shape):
        for i, j in np.ndindex(y.shape[:2]):
            down, across = row - i * stride, column - j * stride
            part = x[i * stride : i * stride + window, j * stride : j * stride + window, c]
            if 0 <= down < window and 0 <= across < window and x[row, column, c] == part.max():
                expected[row, column, c] += y[i, j, c] / (part == part.max()).sum()
    return expected


@pytest.mark.ex19
def test_unpool():
    for window, stride, (h, w) in ((2, 2, (4, 3)), (3, 2, (4, 3)), (3, 1, (6, 4))):
        x = np.maximum(below(key(0, "ex19"), 9, np.arange(8 * 6 * 2)).reshape(8, 6, 2) - 4.0, 0)  # with equal maxima
        y = normal(key(1, "ex19"), np.arange(h * w * 2)).reshape(h, w, 2)
        expected = shared(y, x, window, stride)
        found = array("unpool", unpool(y.copy(), x.copy(), window, stride), x.shape, "float64")
        case, wrong = f"windows of {window} at stride {stride}", int((~np.isclose(found, expected)).sum())
        common = alike(found, expected)
        assert common or np.isclose(found.sum(), y.sum()), (
            f"{case}: the result adds up to {found.sum():.3f}, y to {y.sum():.3f}; "
            f"is each number shared in equal parts, and each part added to what is there?"
        )
        assert wrong == 0, (
            f"{case}: {wrong} pixels of {x.size} are wrong{common or '; do all maxima of a window get a share?'}"
        )

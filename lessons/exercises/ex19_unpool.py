"""Exercise 19: unpooling with switches (lesson 19). Check it: ``pytest -m ex19``."""

import numpy as np
import pytest
from returned import array

from tinyalex.layers import MaxPool
from tinyalex.randomness import below, key, normal


def unpool(y, x, window, stride):
    """Return an array of x's shape with each number of y where the maximum of its window of x is, and 0 elsewhere.

    y: (h, w, c), one number for each window and map. x: (rows, columns, c), the pool's input; window (i, j) begins at
    row i * stride and column j * stride. Of several maxima take the first, row by row. Where a pixel is the maximum of
    several windows, add their numbers.
    """
    raise NotImplementedError("write unpool: find the maximum of each window of x, add the number of y there")


@pytest.mark.ex19
def test_unpool():
    for window, stride in ((2, 2), (3, 2), (3, 1)):
        x = below(key(0, "ex19"), 9, np.arange(9 * 9 * 2)).reshape(9, 9, 2).astype(float)  # with equal maxima
        side = (9 - window) // stride + 1
        y = normal(key(1, "ex19"), np.arange(side * side * 2)).reshape(side, side, 2)
        pool = MaxPool(window, stride, "floor")
        pool.forward(x[None])
        expected = pool.backward(y[None])[0]
        found = array("unpool", unpool(y, x, window, stride), (9, 9, 2))
        assert np.isclose(found.sum(), y.sum()), (
            f"windows of {window} at stride {stride}: the result adds up to {found.sum():.3f}, y to {y.sum():.3f}; "
            f"is each put once, and added to what is there?"
        )
        wrong = int((~np.isclose(found, expected)).sum())
        assert wrong == 0, (
            f"windows of {window} at stride {stride}: {wrong} pixels of 162 are wrong; are the places the first maxima?"
        )

"""Exercise 5: max pooling, backward (lesson 5). Check it: ``pytest -m ex05``."""

import numpy as np
import pytest

from tinyalex import gradcheck
from tinyalex.layers import MaxPool
from tinyalex.randomness import key, permutation


def max_pool_backward(dy, x, z, s):
    """Return dx for one map: dy (ho, wo), x (h, w); windows of z x z pixels, s apart, clipped at the far edges.

    Each unit's gradient goes to the largest pixel of its window, to the first of several in reading order. A pixel that
    won several windows gets the sum.
    """
    raise NotImplementedError("write max_pool_backward: find the winner of each window, and add the unit's dy to it")


class Yours(MaxPool):
    """The package's forward with your backward, map by map."""

    def forward(self, x, training=False, step=None):
        """Keep x for backward."""
        self.x = np.array(x)
        return super().forward(x)

    def backward(self, dy):
        """Take the maps apart, and put them together again."""
        dx = np.zeros(self.x.shape)
        for i, c in np.ndindex(self.x.shape[0], self.x.shape[3]):
            dx[i, :, :, c] = max_pool_backward(
                np.array(dy[i, :, :, c]), self.x[i, :, :, c].real, self.window, self.stride
            )
        return dx


@pytest.mark.ex05
def test_max_pool_backward():
    for z, s, side in ((2, 2, 6), (3, 2, 7), (3, 2, 8), (3, 1, 5)):
        x = permutation(key(z, "ex05", side), 2 * side * side).reshape(1, side, side, 2) / 7.0
        results = gradcheck.check(Yours(z, s), x)
        assert not results[0].failed, f"z = {z}, s = {s}, {side} pixels:\n{gradcheck.table(results)}"
    tied = max_pool_backward(np.ones((1, 1)), np.zeros((3, 3)), 3, 2)
    assert tied.sum() == 1, f"one unit's gradient of 1 became {tied.sum():g}: of several largest pixels one wins"
    assert tied[0, 0] == 1, "of several largest pixels the first in reading order wins"

"""Exercise 5: max pooling, backward (lesson 5). Check it: ``pytest -m ex05``."""

import numpy as np
import pytest
from returned import array, derivative

from tinyalex import gradcheck
from tinyalex.layers import MaxPool
from tinyalex.randomness import key, permutation


def max_pool_backward(dy, x, z, s):
    """Return dx for one map: dy (ho, wo), x (h, w); windows of z x z pixels, s apart, clipped at the far edges.

    The gradient of an output goes to the largest pixel of its window; in a tie, to the first in row-major order. A
    pixel that is the maximum of several windows gets the sum.
    """
    raise NotImplementedError("write max_pool_backward: find the maximum of each window, and add the window's dy to it")


class Yours(MaxPool):
    """The package's forward with your backward, map by map."""

    def forward(self, x, training=False, step=None):
        """Save x for backward."""
        self.x = np.array(x)
        return super().forward(x)

    def backward(self, dy):
        """Call your backward for each map of each image."""
        dx = np.zeros(self.x.shape)
        for i, c in np.ndindex(self.x.shape[0], self.x.shape[3]):
            pixels = self.x[i, :, :, c].real
            yours = max_pool_backward(np.array(dy[i, :, :, c]), pixels, self.window, self.stride)
            dx[i, :, :, c] = array("max_pool_backward", yours, pixels.shape)
        return dx


@pytest.mark.ex05
def test_max_pool_backward():
    for z, s, side in ((2, 2, 6), (3, 2, 7), (3, 2, 8), (3, 1, 5)):
        x = permutation(key(z, "ex05", side), 2 * side * side).reshape(1, side, side, 2) / 7.0
        results = gradcheck.check(Yours(z, s), x)
        assert not results[0].failed, derivative(f"z = {z}, s = {s}, {side} pixels", results[0])
    tied = max_pool_backward(np.ones((1, 1)), np.zeros((3, 3)), 3, 2)
    assert tied.sum() == 1, f"nine equal pixels, dy = 1: dx adds up to {tied.sum():g}, but only one pixel gets dy"
    assert tied[0, 0] == 1, "nine equal pixels: the first in row-major order must get dy"

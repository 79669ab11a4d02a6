"""Exercise 4: response normalization, backward (lesson 4). Check it: ``pytest -m ex04``."""

import numpy as np
import pytest
from returned import array, derivative

from tinyalex import gradcheck
from tinyalex.layers import LRN
from tinyalex.randomness import key, normal


def lrn_backward(dy, x, k, n, alpha, beta):
    """Return dx of y_i = x_i / d_i^beta with d_i = k + alpha * sum of x_j² over |i - j| <= n // 2 (n odd).

    dy and x: (..., maps). Each x_j appears in its own numerator, and in the d_i of all its neighbours.
    """
    raise NotImplementedError("write lrn_backward: dy_j / d_j^beta minus a sum over the d_i that contain x_j")


class Yours(LRN):
    """The package's forward with your backward."""

    def forward(self, x, training=False, step=None):
        """Save x for backward."""
        self.x = np.array(x)
        return super().forward(x)

    def backward(self, dy):
        """Call your backward."""
        yours = lrn_backward(np.array(dy), self.x, self.k, self.size, self.alpha, self.beta)
        return array("lrn_backward", yours, dy.shape, "float64")


@pytest.mark.ex04
def test_lrn_backward():
    for n, maps, beta in ((1, 4, 0.75), (5, 9, 0.75), (3, 2, 0.5)):
        x = normal(key(n, "ex04"), np.arange(6 * maps)).reshape(2, 3, maps)
        results = gradcheck.check(Yours(n, 1.0, 1.0, beta), x)
        assert not results[0].failed, derivative(f"n = {n}, {maps} maps, alpha = 1", results[0])

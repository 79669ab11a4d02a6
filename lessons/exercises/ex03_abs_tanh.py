"""Exercise 3: Jarrett's |tanh(x)|, which §3.1 mentions (lesson 3). Check it: ``pytest -m ex03``."""

import numpy as np
import pytest
from returned import alike, array, derivative

from tinyalex import gradcheck
from tinyalex.randomness import key, normal


def abs_tanh(x):
    """Return |tanh(x)| of an array of any shape."""
    raise NotImplementedError("write abs_tanh: the absolute value of tanh(x)")


def abs_tanh_backward(dy, x):
    """Return dx: dy times the derivative of |tanh| at x. Which sign does it have for negative x?"""
    raise NotImplementedError("write abs_tanh_backward: dy times the derivative of |tanh| at x")


class Yours:
    """A layer made of your two functions."""

    def forward(self, x):
        """Call your forward, and save x for backward."""
        self.x = np.array(x)
        return array("abs_tanh", abs_tanh(x), x.shape, "float64")

    def backward(self, dy):
        """Call your backward."""
        return array("abs_tanh_backward", abs_tanh_backward(dy, self.x), dy.shape, "float64")


@pytest.mark.ex03
def test_abs_tanh():
    x = 2 * normal(key(0, "ex03"), np.arange(40)).reshape(4, 10)
    y, right = Yours().forward(x), np.abs(np.tanh(x))
    assert np.allclose(y, right), f"abs_tanh(x) is not |tanh(x)|{alike(y, right)}"
    results = gradcheck.check(Yours(), x, method="central")
    assert not results[0].failed, derivative("abs_tanh_backward", results[0])

"""Exercise 2: a convolution's input gradient is a convolution (lesson 2). Check it: ``pytest -m ex02``."""

import numpy as np
import pytest
from returned import array, derivative

from tinyalex import gradcheck
from tinyalex.layers import Conv2d
from tinyalex.randomness import key, normal


def input_gradient(dy, W, pad):
    """Return dx of a convolution with stride 1.

    dy: (n, ho, wo, o), W: (k, k, c, o), pad: zeros around the input on each side. Returns (n, h, w, c), where
    h = ho + k - 1 - 2 pad. Use loops, or a convolution of dy with the kernels rotated by 180 degrees:
    lesson 1 shows why.
    """
    raise NotImplementedError(
        "write input_gradient: dx of a pixel is the sum of dy * W over the outputs that read the pixel"
    )


class Yours(Conv2d):
    """The package's layer, with your input gradient."""

    def backward(self, dy):
        """Take dW and db from the package, dx from you."""
        shape = super().backward(dy).shape
        yours = input_gradient(np.array(dy), np.array(self.W.value), self.geometry["pad"])
        return array("input_gradient", yours, shape, "float64")


@pytest.mark.ex02
def test_input_gradient():
    for number, (k, pad, c, o) in enumerate(((3, 1, 2, 3), (3, 0, 3, 3), (5, 2, 1, 2))):
        x = normal(key(number, "ex02"), np.arange(2 * 6 * 7 * c)).reshape(2, 6, 7, c)
        results = gradcheck.check(Yours(c, o, k, pad=pad).named("yours").build(dtype="float64"), x)
        assert not results[0].failed, derivative(f"kernel {k}, pad {pad}", results[0])

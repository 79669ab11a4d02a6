"""Exercise 8: the standard deviation that keeps a signal's size (lesson 8). Check it: ``pytest -m ex08``."""

import numpy as np
import pytest
from returned import number

from tinyalex.layers import Linear, ReLU, Tanh
from tinyalex.randomness import key, normal


def deviation(kind, fan_in):
    """Return the standard deviation of weights that keeps the size of a signal.

    kind: the function before the weights: "linear" (none), "relu" (its output has half the mean square of its input) or
    "tanh" (of a small signal, for which tanh is nearly linear). fan_in: the number of inputs that are added up.
    """
    raise NotImplementedError("write deviation: what is the variance of a sum of fan_in products?")


@pytest.mark.ex08
def test_deviation():
    for kind, layer in (("linear", None), ("relu", ReLU()), ("tanh", Tanh())):
        for width in (100, 400):
            x = 0.01 * normal(key(0, "ex08", kind), np.arange(100)[:, None], np.arange(width))
            first, y = x.std(), x
            for depth in range(8):
                weights = (
                    Linear(width, width, std=float(number("deviation", deviation(kind, width))))
                    .named(f"layer{depth}")
                    .build(dtype="float64")
                )
                y = weights.forward(layer.forward(y) if layer and depth else y)
            if kind == "relu":
                first *= 2**0.5  # there is no ReLU before the first layer
            assert 0.6 < y.std() / first < 1.6, (
                f"{kind}, {width} inputs: eight layers multiply the signal by {y.std() / first:.2g}, not by about 1"
            )

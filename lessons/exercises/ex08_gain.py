"""Exercise 8: the deviation that keeps a signal's size (lesson 8). Check it: ``pytest -m ex08``."""

import numpy as np
import pytest

from tinyalex.layers import Linear, ReLU, Tanh
from tinyalex.randomness import key, normal


def deviation(kind, fan_in):
    """Return the standard deviation of weights that keeps the size of a signal.

    kind: "linear", "relu" (the signal has been through a ReLU before it meets the weights: half of it is gone) or
    "tanh" (and the signal is small, so that tanh is nearly a straight line). fan_in: how many inputs are added up.
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
                    Linear(width, width, std=float(deviation(kind, width)))
                    .named(f"layer{depth}")
                    .build(dtype="float64")
                )
                y = weights.forward(layer.forward(y) if layer and depth else y)
            if kind == "relu":
                first *= 2**0.5  # the first layer met the signal whole
            assert 0.6 < y.std() / first < 1.6, (
                f"{kind}, {width} inputs: after eight layers the signal is {y.std() / first:.2g} times what it was"
            )

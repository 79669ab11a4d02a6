"""Exercise 21: what one thread of average pooling's backward does (lesson 21). Check it: ``pytest -m ex21``."""

import numpy as np
import pytest
from returned import number

from tinyalex.layers import AvgPool
from tinyalex.randomness import key, normal


def gather(dy, t, h, w, c, ho, wo, window, stride):
    """Return the gradient of number t of x, one image of h x w pixels and c channels.

    dy: the ho x wo x c gradients of the outputs, in one dimension, in the order (row, column, channel); x is in the
    same order. An output is the mean of the pixels of its window that lie inside the image, so each of them gets its
    gradient divided by their number. Read only from dy; add up over the windows that cover the pixel.
    """
    raise NotImplementedError("write gather: find pixel and channel of t, then add up over the windows that cover it")


class Memory:
    """Numbers in one dimension, which fails where a thread of a GPU would read what is not its own."""

    def __init__(self, values):
        self.values = values

    def __getitem__(self, at):
        last = len(self.values) - 1
        assert 0 <= at <= last, f"gather reads dy[{at}], but dy has the numbers 0 to {last} only"
        return float(self.values[at])


@pytest.mark.ex21
def test_gather():
    for h, w, c, window, stride in ((4, 4, 1, 2, 2), (7, 9, 3, 3, 2), (8, 6, 2, 3, 2), (9, 9, 2, 4, 3)):
        layer, x = AvgPool(window, stride), np.zeros((1, h, w, c))
        y = layer.forward(x)
        dy = normal(key(0, "exercise 21"), np.arange(y.size)).reshape(y.shape)
        expected = layer.backward(dy).ravel()
        for t in normal(key(1, "exercise 21"), np.arange(x.size)).argsort():
            got = number("gather", gather(Memory(dy.ravel()), int(t), h, w, c, *y.shape[1:3], window, stride))
            assert np.isclose(got, expected[t], rtol=0, atol=1e-12), (
                f"{h} x {w} x {c}, window {window}, stride {stride}, t = {t}: {got:.4f}, expected {expected[t]:.4f}"
            )

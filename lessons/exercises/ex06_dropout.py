"""Exercise 6: dropout as the paper has it (lesson 6). Check it: ``pytest -m ex06``."""

import numpy as np
import pytest

from tinyalex.layers import Dropout, loops
from tinyalex.randomness import Step, key, normal


def dropout(x, coins, p):
    """Return the layer's output; p is the probability to be *silenced*.

    Training: coins (same shape as x) is True where a unit may speak. Test: coins is None, and all speak more softly.
    """
    raise NotImplementedError("write dropout: silence in training, scale at test")


def dropout_backward(dy, coins, p):
    """Return dx, with the same coins as forward had."""
    raise NotImplementedError("write dropout_backward: who was silent had no part in the loss")


@pytest.mark.ex06
def test_dropout():
    x, dy = normal(key(0, "ex06"), np.arange(2)[:, None], np.arange(48)).reshape(2, 6, 8)
    for p in (0.5, 0.2):
        layer = Dropout(p, "fc6")
        y = layer.forward(x, training=True, step=Step(0, 3))
        coins = y != 0
        yours = dropout(x, coins, p)
        assert np.allclose(yours, y), "training: a unit that speaks says what it has to say, not more"
        assert np.allclose(dropout_backward(dy, coins, p), layer.backward(dy)), (
            "training: the gradient of the silent is 0"
        )
        assert np.allclose(dropout(x, None, p), loops.dropout(x, None, p)), (
            f"test, p = {p}: on average {1 - p} of them speak"
        )
        assert np.allclose(dropout_backward(dy, None, p), loops.dropout_backward(dy, None, p)), (
            "test: backward scales too"
        )

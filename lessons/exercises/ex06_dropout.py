"""Exercise 6: dropout as the paper has it (lesson 6). Check it: ``pytest -m ex06``."""

import numpy as np
import pytest
from returned import array

from tinyalex.layers import Dropout, loops
from tinyalex.randomness import Step, key, normal


def dropout(x, mask, p):
    """Return the layer's output; p is the probability that a unit is *dropped*.

    Training: mask (same shape as x) is True where a unit is kept; kept units are not scaled. Test: mask is None, no
    unit is dropped, and all are scaled.
    """
    raise NotImplementedError(
        "write dropout: apply the mask in training; at test multiply by the probability to be kept"
    )


def dropout_backward(dy, mask, p):
    """Return dx, with the mask of forward."""
    raise NotImplementedError(
        "write dropout_backward: a dropped unit gets no gradient; at test, scale dy as forward does"
    )


@pytest.mark.ex06
def test_dropout():
    x, dy = normal(key(0, "ex06"), np.arange(2)[:, None], np.arange(48)).reshape(2, 6, 8)
    for p in (0.5, 0.2):
        layer = Dropout(p, "fc6")
        y = layer.forward(x, training=True, step=Step(0, 3))
        mask = y != 0
        yours = array("dropout", dropout(x, mask, p), x.shape)
        array("dropout", dropout(x, None, p), x.shape)
        for each in (mask, None):
            array("dropout_backward", dropout_backward(dy, each, p), x.shape)
        assert np.allclose(yours, y), "training: kept units must be unchanged and dropped units 0"
        assert np.allclose(dropout_backward(dy, mask, p), layer.backward(dy)), (
            "training: dx must be dy for kept units and 0 for dropped units"
        )
        assert np.allclose(dropout(x, None, p), loops.dropout(x, None, p)), (
            f"test, p = {p}: in training {1 - p} of the units are kept on average; scale by that"
        )
        assert np.allclose(dropout_backward(dy, None, p), loops.dropout_backward(dy, None, p)), (
            "test: dx must be dy times the scale of forward"
        )

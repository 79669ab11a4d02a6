"""Dropout, unit by unit (paper §4.2); chance stays outside, the mask is given."""

import numpy as np


def dropout(x, mask=None, p=0.5):
    """Silence the units of x (n, m) whose mask is False; without a mask, at test, weaken all to ``1 - p``."""
    y = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        if mask is None:
            y[place] = x[place] * (1 - p)
        elif mask[place]:
            y[place] = x[place]
    return y


def dropout_backward(dy, mask=None, p=0.5):
    """Return dx: a silent unit had no part in the output, so it gets no gradient."""
    return dropout(dy, mask, p)

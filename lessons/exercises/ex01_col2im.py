"""Exercise 1: put patches back where they came from, adding up (lesson 1). Check it: ``pytest -m ex01``."""

import numpy as np
import pytest
from returned import array

from tinyalex.devices.device import Device
from tinyalex.layers import patches as package
from tinyalex.randomness import key, normal


def col2im(patches, shape, k, stride):
    """Add each row of ``patches`` to the window of the image from which im2col copied it.

    patches: (ho * wo, k * k * c), one row for each output position, in row-major order; a row in the order (u, v, c).
    shape: (h, w, c) of the image. Returns an image of that shape, in which every pixel is the sum of all its copies.
    """
    raise NotImplementedError(
        "write col2im: for each output position, add its row, reshaped to (k, k, c), to the window of the image"
    )


@pytest.mark.ex01
def test_col2im():
    for (h, w, c), k, stride in (((5, 5, 1), 3, 1), ((9, 7, 2), 3, 2), ((11, 11, 3), 5, 3)):
        x = normal(key(1, "ex01", h), np.arange(h * w * c)).reshape(h, w, c)
        rows = package.im2col(Device("cpu"), x[None], k, stride)
        p = normal(key(2, "ex01", h), np.arange(rows.size)).reshape(rows.shape)
        ours = package.col2im(Device("cpu"), p.copy(), (1, h, w, c), k, stride)[0]
        yours = array("col2im", col2im(p.copy(), (h, w, c), k, stride), (h, w, c))
        ones = col2im(np.ones_like(p), (h, w, c), k, stride)
        assert ones.max() > 1, "windows overlap, but no pixel is a sum of several copies: use +=, not ="
        first = np.argwhere(~np.isclose(yours, ours))[:1]
        assert not len(first), f"differs from tinyalex.layers.patches.col2im at (row, column, channel) {first[0]}"
        assert np.isclose((rows * p).sum(), (x * yours).sum()), (
            "not the adjoint of im2col: <im2col x, p> = <x, col2im p>"
        )

"""Exercise 1: put patches back where they came from, adding up (lesson 1). Check it: ``pytest -m ex01``."""

import numpy as np
import pytest

from tinyalex.devices.device import Device
from tinyalex.layers import patches as package
from tinyalex.randomness import key, normal


def col2im(patches, shape, k, stride):
    """Add up the rows that im2col copied out of one image.

    patches: (places * places, k * k * c), a row a place, row by row; its numbers in the order (u, v, c).
    shape: (h, w, c) of the image. Returns an image of that shape, in which every pixel is the sum of all its copies.
    """
    raise NotImplementedError("write col2im: walk over the places, and add each row, as (k, k, c), to its window")


@pytest.mark.ex01
def test_col2im():
    for (h, w, c), k, stride in (((5, 5, 1), 3, 1), ((9, 7, 2), 3, 2), ((11, 11, 3), 5, 3)):
        x = normal(key(1, "ex01", h), np.arange(h * w * c)).reshape(h, w, c)
        rows = package.im2col(Device("cpu"), x[None], k, stride)
        p = normal(key(2, "ex01", h), np.arange(rows.size)).reshape(rows.shape)
        ours = package.col2im(Device("cpu"), p.copy(), (1, h, w, c), k, stride)[0]
        yours = col2im(p.copy(), (h, w, c), k, stride)
        assert yours.shape == (h, w, c), f"an image of {(h, w, c)} is wanted, not {yours.shape}"
        ones = col2im(np.ones_like(p), (h, w, c), k, stride)
        assert ones.max() > 1, "no pixel gets more than one copy: add to the image, do not assign"
        assert np.allclose(yours, ours), f"differs from the package's at {np.argwhere(~np.isclose(yours, ours))[0]}"
        assert np.isclose((rows * p).sum(), (x * yours).sum()), (
            "not the adjoint of im2col: <im2col x, p> = <x, col2im p>"
        )

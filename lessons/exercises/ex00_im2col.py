"""Exercise 0: copy patches into rows, with padding (lesson 1). Check it: ``pytest -m ex00``."""

import numpy as np
import pytest
from returned import alike, array

from tinyalex.devices.device import Device
from tinyalex.layers import patches as package
from tinyalex.randomness import key, normal


def im2col(x, k, stride, pad):
    """Return one row for each output position of a convolution, with ``pad`` zeros around the image on each side.

    x: (h, w, c). Returns (ho * wo, k * k * c), where ho = (h + 2 pad - k) // stride + 1, and wo the same of w. The rows
    are in row-major order of the positions, the numbers of a row in the order (u, v, c). Two loops are fast enough.
    """
    raise NotImplementedError("write im2col: np.pad the image, then copy the k x k window of each position into a row")


@pytest.mark.ex00
def test_im2col():
    for (h, w, c), k, stride, pad in (((5, 5, 1), 3, 1, 0), ((5, 7, 2), 3, 1, 1), ((9, 8, 3), 5, 2, 2)):
        x = normal(key(0, "ex00", h), np.arange(h * w * c)).reshape(h, w, c)
        ours = package.im2col(Device("cpu"), x[None], k, stride, pad)
        yours = array("im2col", im2col(x.copy(), k, stride, pad), ours.shape, "float64")
        case = f"image {(h, w, c)}, k = {k}, stride {stride}, pad {pad}"
        same = np.allclose(np.sort(yours, axis=None), np.sort(ours, axis=None))
        assert same, f"{case}: these are other numbers{alike(yours, ours)}"
        wrong = np.argwhere(~np.isclose(yours, ours))[:1]
        assert not len(wrong), f"{case}: the right numbers in another order, first at (row, column) {wrong[0]}"

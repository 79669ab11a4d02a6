"""Exercise 14: how colourful is a kernel? (lesson 14). Check it: ``pytest -m ex14``."""

import numpy as np
import pytest
from returned import array

from tinyalex.randomness import key, normal


def colour_share(kernels):
    """Return, for each of n kernels (k, k, 3, n), the share of its energy that is colour, between 0 and 1.

    Energy is the sum of squared weights. Split the three weights (R, G, B) of a pixel into their mean, which is grey,
    and the rest, which is colour: the energies of the two parts add up to that of the kernel.
    """
    raise NotImplementedError("write colour_share: for each kernel, the energy of the colour part over all its energy")


@pytest.mark.ex14
def test_colour_share():
    draws = normal(key(0, "ex14"), np.arange(5 * 5 * 3 * 6)).reshape(5, 5, 3, 6)
    grey = np.repeat(draws[:, :, :1], 3, axis=2)
    chroma = draws - draws.mean(axis=2, keepdims=True)
    share = array("colour_share", colour_share(draws.copy()), (6,))
    assert np.allclose(colour_share(grey), 0), "the share of grey kernels must be 0"
    assert np.allclose(colour_share(chroma), 1), "the share of kernels without grey must be 1"
    assert np.allclose(colour_share(7 * draws), share), "multiplying a kernel by 7 must not change its share"
    expected = (chroma**2).sum(axis=(0, 1, 2)) / (draws**2).sum(axis=(0, 1, 2))
    assert np.allclose(share, expected), f"{np.round(share, 3)}, expected {np.round(expected, 3)}"
    both = np.concatenate([grey, chroma], axis=3)
    assert np.allclose(colour_share(both), [0] * 6 + [1] * 6), "each kernel's share must not depend on other kernels"

"""Exercise 14: how colourful is a kernel? (lesson 14). Check it: ``pytest -m ex14``."""

import numpy as np
import pytest

from tinyalex.randomness import key, normal


def colour_share(kernels):
    """Return, for each of n kernels (k, k, 3, n), the share of its energy that is colour, between 0 and 1.

    Energy is the sum of squared weights. Split every weight triple (R, G, B) into grey, the mean of the three, and the
    rest, which is colour: the two parts' energies add up to the whole.
    """
    raise NotImplementedError("write colour_share: energy of what is not grey, over all energy, kernel by kernel")


@pytest.mark.ex14
def test_colour_share():
    draws = normal(key(0, "ex14"), np.arange(5 * 5 * 3 * 6)).reshape(5, 5, 3, 6)
    grey = np.repeat(draws[:, :, :1], 3, axis=2)
    chroma = draws - draws.mean(axis=2, keepdims=True)
    share = colour_share(draws.copy())
    assert np.shape(share) == (6,), f"one number a kernel, not {np.shape(share)}"
    assert np.allclose(colour_share(grey), 0), "grey kernels have no colour"
    assert np.allclose(colour_share(chroma), 1), "these kernels are nothing but colour"
    assert np.allclose(colour_share(7 * draws), share), "a stronger kernel is not more colourful"
    wanted = (chroma**2).sum(axis=(0, 1, 2)) / (draws**2).sum(axis=(0, 1, 2))
    assert np.allclose(share, wanted), f"{np.round(share, 3)}, wanted {np.round(wanted, 3)}"
    both = np.concatenate([grey, chroma], axis=3)
    assert np.allclose(colour_share(both), [0] * 6 + [1] * 6), "every kernel by itself"

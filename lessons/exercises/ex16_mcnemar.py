"""Exercise 16: compare two nets on the same images (lesson 16). Check it: ``pytest -m ex16``."""

from math import comb

import numpy as np
import pytest
from returned import number


def mcnemar(wrong_a, wrong_b):
    """Return the two-sided p-value of McNemar's exact test.

    wrong_a, wrong_b: bool (images,), which images each net gets wrong. Ignore images that both get right or both get
    wrong. If the nets were equally good, each of the others would be an error of A with probability 1/2. The p-value is
    the probability of counts at least as unequal as these, in either direction, and at most 1.
    """
    raise NotImplementedError(
        "write mcnemar: count the images that only one net gets wrong, and use the binomial distribution (math.comb)"
    )


def _images(only_a, only_b, both, neither):
    return (
        np.repeat([True, False, True, False], [only_a, only_b, both, neither]),
        np.repeat([False, True, True, False], [only_a, only_b, both, neither]),
    )


@pytest.mark.ex16
def test_mcnemar():
    by_hand = 2 * (comb(12, 0) + comb(12, 1) + comb(12, 2)) / 2**12
    yours = number("mcnemar", mcnemar(*_images(2, 10, 30, 100)))
    assert yours == pytest.approx(by_hand), f"2 errors of A alone, 10 of B alone: {yours:.4f}, expected {by_hand:.4f}"
    assert mcnemar(*_images(10, 2, 0, 0)) == pytest.approx(by_hand), (
        "swapping A and B, or removing images on which they agree, must not change the p-value"
    )
    assert mcnemar(*_images(0, 5, 7, 7)) == pytest.approx(2 / 32), "0 against 5: expected 2/32, 1/32 in each direction"
    assert mcnemar(*_images(6, 6, 7, 7)) == pytest.approx(1), "6 against 6: the p-value must be 1, and not exceed it"
    assert mcnemar(*_images(0, 0, 9, 9)) == pytest.approx(1), "nets that agree on all images: the p-value must be 1"

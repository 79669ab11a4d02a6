"""Exercise 16: two nets, the same images (lesson 16). Check it: ``pytest -m ex16``."""

from math import comb

import numpy as np
import pytest


def mcnemar(wrong_a, wrong_b):
    """Return the two-sided p-value of McNemar's exact test.

    wrong_a, wrong_b: bool (images,), which images each net gets wrong. Images that both get right or both get wrong say
    nothing. Of the others, were the nets equally good, each would be A's with probability 1/2: a coin. How probable is
    an outcome at least as uneven as this one, to either side? At most 1.
    """
    raise NotImplementedError("write mcnemar: count who is wrong alone, and compare with a fair coin (math.comb)")


def _images(only_a, only_b, both, neither):
    return (
        np.repeat([True, False, True, False], [only_a, only_b, both, neither]),
        np.repeat([False, True, True, False], [only_a, only_b, both, neither]),
    )


@pytest.mark.ex16
def test_mcnemar():
    by_hand = 2 * (comb(12, 0) + comb(12, 1) + comb(12, 2)) / 2**12
    assert mcnemar(*_images(2, 10, 30, 100)) == pytest.approx(by_hand), f"2 against 10: {by_hand:.4f}"
    assert mcnemar(*_images(10, 2, 0, 0)) == pytest.approx(by_hand), (
        "who is called A makes no difference, nor who agrees"
    )
    assert mcnemar(*_images(0, 5, 7, 7)) == pytest.approx(2 / 32), "0 against 5: 1/32 to either side"
    assert mcnemar(*_images(6, 6, 7, 7)) == pytest.approx(1), "a tie is no evidence, and no probability exceeds 1"
    assert mcnemar(*_images(0, 0, 9, 9)) == pytest.approx(1), "nets that never differ"

"""Exercise 15: binary codes and the distance between them (lesson 15). Check it: ``pytest -m ex15``."""

import numpy as np
import pytest
from returned import array

from tinyalex.randomness import key, normal


def codes(points, centre, planes):
    """Return packed bits, uint8 (n, bits / 8): bit j of point i is 1 if (point i - centre) . plane j > 0.

    points: (n, m), centre: (m,), planes: (m, bits). ``np.packbits`` packs eight bits into a byte.
    """
    raise NotImplementedError("write codes: the sign of (points - centre) @ planes, packed into bytes")


def hamming(a, b):
    """Return the number of bits that differ, int (n, m), between packed codes a (n, bytes) and b (m, bytes)."""
    raise NotImplementedError("write hamming: exclusive or of all pairs, then count the ones (np.bitwise_count)")


@pytest.mark.ex15
def test_codes():
    draw = normal(key(0, "ex15"), np.arange(3)[:, None, None], np.arange(40)[:, None], np.arange(24))
    points, others, planes = draw[0] + 5, draw[1] + 5, draw[2, :24]
    centre = points.mean(axis=0)
    bits = (points - centre) @ planes > 0
    a, b = (array("codes", codes(each, centre, planes), (40, 3), "uint8") for each in (points, others))  # 24 bits
    assert np.array_equal(np.unpackbits(a, axis=1), bits), "some bits are wrong; did you subtract the centre?"
    expected = (np.unpackbits(a, axis=1)[:, None] != np.unpackbits(b, axis=1)[None]).sum(axis=2)
    found = array("hamming", hamming(a, b), (40, 40))
    assert np.array_equal(found, expected), f"pair (0, 0): {found[0, 0]} bits, expected {expected[0, 0]}"
    long_a, long_b = np.zeros((1, 64), np.uint8), np.full((1, 64), 255, np.uint8)
    assert int(hamming(long_a, long_b)[0, 0]) == 512, "the distance of two 512-bit codes overflows: sum in int64"

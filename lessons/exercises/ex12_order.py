"""Exercise 12: a random order without saved state (lesson 12). Check it: ``pytest -m ex12``."""

import numpy as np
import pytest
from returned import sequence


def order(seed, epoch, count):
    """Return the numbers 0 to count - 1 in a random order that is a function of (seed, epoch) alone.

    Called again, even in another process, it has to return the same. ``tinyalex.randomness.bits(key(seed, "order",
    epoch), numbers)`` returns 32 random bits for every number.
    """
    raise NotImplementedError("write order: sort the numbers by random bits")


@pytest.mark.ex12
def test_order():
    first = np.array(sequence("order", order(1, 2, 50), 50))
    assert sorted(first.tolist()) == list(range(50)), "each number from 0 to 49 must appear exactly once"
    np.random.seed(7)
    order(1, 3, 50)
    assert np.array_equal(order(1, 2, 50), first), "called again, the order differs: it must not depend on a state"
    assert not np.array_equal(order(1, 3, 50), first), "two epochs have the same order: use the epoch"
    assert not np.array_equal(order(2, 2, 50), first), "two seeds give the same order: use the seed"
    orders = {tuple(order(0, epoch, 4)) for epoch in range(400)}
    assert len(orders) == 24, f"four images have 24 orders; 400 epochs should give all, but gave {len(orders)}"
    starts = np.bincount([order(0, epoch, 4)[0] for epoch in range(400)], minlength=4)
    assert starts.min() > 60, (
        f"how often each of four images comes first in 400 epochs: {starts.tolist()}, not about 100"
    )

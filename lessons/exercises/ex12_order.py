"""Exercise 12: an order that needs no memory (lesson 12). Check it: ``pytest -m ex12``."""

import numpy as np
import pytest


def order(seed, epoch, count):
    """Return the numbers 0 to count - 1 in a random order that is a function of (seed, epoch) alone.

    Asked again, after a crash or in another process, it has to give the same. ``tinyalex.randomness.bits(key(seed,
    "order", epoch), numbers)`` gives 32 random bits for every number.
    """
    raise NotImplementedError("write order: sort the numbers by random bits")


@pytest.mark.ex12
def test_order():
    first = np.array(order(1, 2, 50))
    assert sorted(first.tolist()) == list(range(50)), (
        "each image once in an epoch: no number may come twice or be missing"
    )
    np.random.seed(7)
    order(1, 3, 50)
    assert np.array_equal(order(1, 2, 50), first), "asked again, the answer differs: something is remembered"
    assert not np.array_equal(order(1, 3, 50), first), "every epoch needs an order of its own"
    assert not np.array_equal(order(2, 2, 50), first), "another seed needs another order"
    met = {tuple(order(0, epoch, 4)) for epoch in range(400)}
    assert len(met) == 24, f"four images have 24 orders, and in 400 epochs only {len(met)} of them came up"
    starts = np.bincount([order(0, epoch, 4)[0] for epoch in range(400)], minlength=4)
    assert starts.min() > 60, f"some image comes first too often: {starts.tolist()} of 400"

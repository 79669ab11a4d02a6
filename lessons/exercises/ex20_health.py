"""Exercise 20: two measurements of a net that does not learn (lesson 20). Check it: ``pytest -m ex20``."""

import numpy as np
import pytest
from returned import number

from tinyalex.randomness import key, normal


def signal(logits):
    """Return how much the logits depend on the image, from 0 to 1.

    logits: (n, classes) of n images. The variance across the images, averaged over the classes; its root divided by the
    root of the mean of all squares.
    """
    raise NotImplementedError("write signal: the deviation across images, divided by the size of the logits")


def dead(y):
    """Return the share of maps that are 0 at every position of every image. y: (n, h, w, maps), after a ReLU."""
    raise NotImplementedError("write dead: for each map, is any of its numbers above 0?")


@pytest.mark.ex20
def test_health():
    logits = 3 + normal(key(0, "ex20"), np.arange(40)[:, None], np.arange(12)) + np.arange(12)
    deviations = [np.std([row[c] for row in logits]) for c in range(12)]
    expected = (sum(d * d for d in deviations) / 12) ** 0.5 / (sum(z * z for z in logits.ravel()) / 480) ** 0.5
    found = float(number("signal", signal(logits)))
    assert np.isclose(found, expected), f"signal of logits of 12 classes: {found:.4f}, expected {expected:.4f}"
    same = float(number("signal", signal(np.tile(logits[:1], (5, 1)))))
    assert abs(same) < 1e-7, f"signal of five equal rows, which do not depend on the image: {same:.4f}, expected 0"
    y = np.maximum(normal(key(1, "ex20"), np.arange(4 * 3 * 3 * 10)).reshape(4, 3, 3, 10), 0)
    y[..., [2, 5, 6]] = 0
    y[:, 1:, :, 7] = y[:, 0, 1:, 7] = y[1:, 0, 0, 7] = 0  # map 7 is above 0 in one corner of one image
    y[0, 0, 0, 7] = 1
    found = float(number("dead", dead(y)))
    assert np.isclose(found, 0.3), f"three of ten maps are dead, and one is above 0 in one place: got {found:.3f}"

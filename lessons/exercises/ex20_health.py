"""Exercise 20: two more measurements of a net that does not learn (lesson 20). Check it: ``pytest -m ex20``."""

import itertools

import numpy as np
import pytest
from returned import number

from tinyalex.randomness import key, normal


def signal(logits):
    """Return how much the probabilities depend on the image, from 0 to 1.

    logits: (n, classes) of n images. The lesson's signal has a flaw: a number that is added to all logits of one image
    changes it, but not the probabilities. So first subtract from each image's logits their mean. Then, as in the
    lesson: the variance across the images, averaged over the classes; its root divided by the root of the mean of all
    squares.
    """
    raise NotImplementedError("write signal: subtract each image's mean, then divide the deviation by the size")


def dead(W, b, low, high):
    """Return the share of units of a full layer, y = max(0, x W + b), that are 0 for *every* x from low to high.

    W: (inputs, units), b: (units,). Each input may be any number from low to high, whatever the others are. 32 images
    cannot show this. Which x makes x W + b of a unit as large as it can be?
    """
    raise NotImplementedError("write dead: which inputs give a unit its largest x W + b, and is that above 0?")


@pytest.mark.ex20
def test_health():
    drawn = 3 + normal(key(0, "ex20"), np.arange(40)[:, None], np.arange(12)) + np.arange(12)
    logits = drawn + 5 * normal(key(2, "ex20"), np.arange(40))[:, None]
    centred = np.array([[z - sum(row) / 12 for z in row] for row in logits])
    deviations = [np.std([row[c] for row in centred]) for c in range(12)]
    size = (sum(z * z for z in centred.ravel()) / 480) ** 0.5
    expected = (sum(d * d for d in deviations) / 12) ** 0.5 / size
    hints = {
        float(np.sqrt(logits.var(axis=0).mean() / (logits**2).mean())): "the mean of each image is not subtracted",
        sum(deviations) / 12 / size: "take the mean of the variances, and then the root",
        float(np.sqrt(centred.var(axis=1).mean()) / size): (
            "subtract the mean over the classes (axis 1), and take the variance across the images (axis 0)"
        ),
        -expected: "the opposite sign",
        expected**2: "take the root of both",
    }
    found = float(number("signal", signal(logits.copy())))
    hint = next((f"; {text}" for value, text in hints.items() if np.isclose(found, value)), "")
    assert np.isclose(found, expected), f"signal of logits of 12 classes: {found:.4f}, expected {expected:.4f}{hint}"
    same = float(number("signal", signal(np.arange(5.0)[:, None] + drawn[:1])))
    assert abs(same) < 1e-7, f"signal of five images with the same probabilities: {same:.4f}, expected 0"
    for case, (low, high) in enumerate(((0.0, 1.0), (-1.0, 2.0), (-3.0, -1.0))):
        W = normal(key(3, "ex20", case), np.arange(5)[:, None], np.arange(40))
        b = 3 * normal(key(4, "ex20", case), np.arange(40)) - 2
        corners = np.array(list(itertools.product((low, high), repeat=5)))  # the largest x W + b is at one of them
        expected = sum(all(corner @ W[:, unit] + b[unit] <= 0 for corner in corners) for unit in range(40)) / 40
        found = float(number("dead", dead(W.copy(), b.copy(), low, high)))
        hint = "; these are the units that are not dead" if np.isclose(found, 1 - expected) else ""
        assert np.isclose(found, expected), (
            f"share of dead units for inputs from {low} to {high}: {found:.3f}, expected {expected:.3f}{hint}"
        )

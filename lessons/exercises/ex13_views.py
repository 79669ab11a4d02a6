"""Exercise 13: top-5 error over views (lesson 13). Check it: ``pytest -m ex13``."""

import numpy as np
import pytest
from returned import number

from tinyalex.randomness import key, normal
from tinyalex.training.evaluation import score


def top5_error(probabilities, labels):
    """Return the fraction of images whose class is not among the five most probable ones.

    probabilities: (views, images, classes); the views' probabilities are averaged first. labels: (images,). Of equally
    probable classes, rank the one with the lower number first.
    """
    raise NotImplementedError("write top5_error: average over the views, then rank the classes of each image")


@pytest.mark.ex13
def test_top5_error():
    z = 3 * normal(key(0, "ex13"), np.arange(10)[:, None, None], np.arange(60)[:, None], np.arange(12))
    p = np.exp(z) / np.exp(z).sum(axis=2, keepdims=True)
    labels = np.arange(60) % 12
    ours = score(p.mean(axis=0), labels).top5_error
    yours = number("top5_error", top5_error(p.copy(), labels))
    assert yours == pytest.approx(ours), f"ten views of sixty images: {yours}, expected {ours}"
    for views in range(1, 4):
        ours = score(p[:views].mean(axis=0), labels).top5_error
        yours = top5_error(p[:views], labels)
        assert yours == pytest.approx(ours), f"{views} views of sixty images: {yours}, expected {ours}"
    even = np.full((2, 8, 8), 1 / 8)
    for label, expected in ((0, 0), (4, 0), (5, 1), (7, 1)):
        yours = top5_error(even, np.full(8, label))
        assert yours == expected, (
            f"eight equally probable classes: 0 to 4 rank first, so class {label} has the error {expected}, not {yours}"
        )

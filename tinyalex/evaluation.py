"""Error rates: how often the right class is not the first guess, or not among the first five (paper §2)."""

import contextlib
from typing import NamedTuple

import numpy as np

from tinyalex.datasets.loader import test_batches
from tinyalex.errors import DataError


class Score(NamedTuple):
    """Means over ``count`` images; errors are fractions."""

    count: int
    loss: float
    top1_error: float
    top5_error: float


def ranks(probabilities, labels):
    """Count the classes that come before the right one.

    Of equally probable classes the one with the lower number comes first. A NaN comes before nothing: its image counts
    as wrong.

    Parameters
    ----------
    probabilities : ndarray, shape (n, classes)
    labels : ndarray of int, shape (n,)

    Returns
    -------
    ndarray of int, shape (n,)
        0 where the right class is the first guess.
    """
    right = np.take_along_axis(probabilities, labels[:, None], axis=1)
    earlier = np.arange(probabilities.shape[1]) < labels[:, None]
    before = ((probabilities > right) | ((probabilities == right) & earlier)).sum(axis=1)
    return np.where(np.isfinite(probabilities).all(axis=1), before, probabilities.shape[1])


def score(probabilities, labels):
    """Return the `Score` of probabilities (n, classes); with five classes or fewer the top-5 error is 0."""
    rank = ranks(probabilities, labels)
    right = np.take_along_axis(probabilities, labels[:, None], axis=1).astype(np.float64)
    loss = -np.log(np.maximum(right, np.finfo(np.float32).tiny)).mean()
    return Score(len(labels), float(loss), float((rank >= 1).mean()), float((rank >= 5).mean()))


def evaluate(network, images, mean, recipe, between=None):
    """Score a network on test images, centre crops only.

    Parameters
    ----------
    network : Network
    images : ImageSet
    mean : float32 (S, S, 3)
        The mean image that the network was trained with.
    recipe : Recipe
    between : callable, optional
        Called after every batch; what it raises ends the evaluation.

    Returns
    -------
    Score
    """
    if images.size != len(mean):
        raise DataError(
            f"images: {images.size} x {images.size}, but the network was trained with {len(mean)} x {len(mean)}; "
            "prepare them in that size"
        )
    batches = test_batches(images, mean, recipe, recipe.learning.batch)
    rows = []
    with contextlib.closing(batches):
        for batch in batches:
            rows.append(network.predict(batch.images, recipe.learning.batch))
            if between:
                between()
    return score(np.concatenate(rows), np.asarray(images.labels))

"""Error rates: how often the right class is not the first guess, or not among the first five (paper §2)."""

from typing import NamedTuple

import numpy as np

from tinyalex.datasets.loader import test_batches


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


def evaluate(network, dataset, recipe, images=None):
    """Score a network on a data set's test images, centre crops only.

    Parameters
    ----------
    network : Network
    dataset : Dataset
        Gives the mean image too.
    recipe : Recipe
    images : ImageSet, optional
        Other images than the test images.

    Returns
    -------
    Score
    """
    images = dataset.test if images is None else images
    batches = test_batches(images, dataset, recipe, recipe.learning.batch)
    probabilities = np.concatenate([network.predict(batch.images, recipe.learning.batch) for batch in batches])
    return score(probabilities, np.asarray(images.labels))

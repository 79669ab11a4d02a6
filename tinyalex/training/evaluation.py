"""Error rates: how often the right class is not the first guess, or not among the first five (paper §2).

What holds where the rates are not obvious:

- Of equally probable classes the one with the lower number is guessed first. (2012 shared the credit among them.)
- With five classes or fewer the right one is always among the first five: the top-5 error is 0.
- An image with a probability that is no number (NaN, infinity) is wrong, in the top 5, too, whatever the number of
  classes. An average over views or nets is no number if one of them is none.
"""

import contextlib
from typing import NamedTuple

import numpy as np

from tinyalex.datasets.loading.batches import test_batches
from tinyalex.errors import DataError
from tinyalex.layers.loss import check_labels


class Score(NamedTuple):
    """RunningMeans over ``count`` images; errors are fractions."""

    count: int
    loss: float
    top1_error: float
    top5_error: float


def ranks(probabilities, labels):
    """Count the classes that come before the right one.

    Parameters
    ----------
    probabilities : ndarray, shape (n, classes)
    labels : ndarray of int, shape (n,)

    Returns
    -------
    ndarray of int, shape (n,)
        0 where the right class is the first guess; where something is no number, at least 5 and no less than there are
        classes.
    """
    right = np.take_along_axis(probabilities, labels[:, None], axis=1)
    earlier = np.arange(probabilities.shape[1]) < labels[:, None]
    before = ((probabilities > right) | ((probabilities == right) & earlier)).sum(axis=1)
    return np.where(np.isfinite(probabilities).all(axis=1), before, max(5, probabilities.shape[1]))


def score(probabilities, labels):
    """Return the `Score` of probabilities (n, classes); one that is 0, or no number, has the loss of the smallest."""
    check_labels(labels, *probabilities.shape)
    rank = ranks(probabilities, labels)
    right = np.take_along_axis(probabilities, labels[:, None], axis=1).astype(np.float64)
    loss = -np.log(np.where(np.isfinite(right), right, 0).clip(np.finfo(np.float32).tiny)).mean()
    return Score(len(labels), float(loss), float((rank >= 1).mean()), float((rank >= 5).mean()))


def probabilities(network, images, mean, recipe, views=1, after_batch=None):
    """Return a network's probabilities for test images, averaged over views after the softmax (paper §4.1).

    Parameters
    ----------
    network : Network
    images : ImageSet
    mean : float32 (S, S, 3)
        The mean image that the network was trained with.
    recipe : Recipe
    views : {1, 9, 10}
        Crops of each image: see `augment.views`.
    after_batch : callable, optional
        Called after every batch; an exception from it ends the evaluation.

    Returns
    -------
    ndarray, shape (n, classes)
    """
    if images.size != len(mean):
        raise DataError(
            f"images: {images.size} x {images.size}, but the network was trained with {len(mean)} x {len(mean)}; "
            "prepare them in that size"
        )
    batch, parts = recipe.learning.batch, []
    few = max(1, batch // views)
    with contextlib.closing(test_batches(images, mean, recipe, few, views, network.devices)) as batches:
        for crops in batches:
            parts.append(network.predict(crops.images, batch).reshape(len(crops.labels), views, -1).mean(axis=1))
            if after_batch:
                after_batch()
    return np.concatenate(parts)


def evaluate(network, images, mean, recipe, views=1, after_batch=None):
    """Score a network on test images; the parameters are those of `probabilities`."""
    return score(probabilities(network, images, mean, recipe, views, after_batch), np.asarray(images.labels))

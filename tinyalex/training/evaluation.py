"""Top-1 and top-5 error: how often the right class is not the most probable, or not among the first five (paper §2).

Special cases:

- Among equally probable classes, the one with the lower label ranks first. (2012 shared the credit among them.)
- With five classes or fewer the right one is always among the first five: the top-5 error is 0, and is not shown.
- An image with a probability that is NaN or infinite counts as wrong, in the top-5 error too, whatever the number of
  classes. An average over views or nets is NaN if one of them is.
"""

import contextlib
from collections.abc import Callable
from numbers import Integral
from typing import NamedTuple

import numpy as np

from tinyalex.datasets.dataset import Images
from tinyalex.datasets.loading.batches import test_batches
from tinyalex.errors import DataError, UsageError
from tinyalex.labels import check as check_labels
from tinyalex.network.network import Network
from tinyalex.ranks.world import ALONE, World
from tinyalex.recipes.recipe import Recipe


class Score(NamedTuple):
    """Mean loss and error rates over ``count`` images; errors are fractions. All NaN without images.

    ``mean_class_error`` is the mean of the classes' top-1 errors, in which each class with images counts the same,
    however many it has. The loss has no class weights.
    """

    count: int  # type: ignore[assignment]  # hides tuple.count; the log has it under this name
    loss: float
    top1_error: float
    top5_error: float
    mean_class_error: float


def shows_top5(classes: int) -> bool:
    """Whether the top-5 error of so many classes says anything: among five or fewer it is always 0."""
    return classes > 5


def ranks(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the rank of the right class: how many classes come before it.

    Parameters
    ----------
    probabilities : ndarray, shape (n, classes)
    labels : ndarray of int, shape (n,)

    Returns
    -------
    ndarray of int, shape (n,)
        0 where the right class is the most probable one. Where a probability is not finite: the number of classes, but
        at least 5.

    Raises
    ------
    DataError
        If the labels are not one whole number from 0 to classes - 1 for each image.
    """
    check_labels(labels, *probabilities.shape)
    labels = labels.astype(np.int64)  # those of no images may have another type
    right = np.take_along_axis(probabilities, labels[:, None], axis=1)
    earlier = np.arange(probabilities.shape[1]) < labels[:, None]
    before = ((probabilities > right) | ((probabilities == right) & earlier)).sum(axis=1)
    return np.where(np.isfinite(probabilities).all(axis=1), before, max(5, probabilities.shape[1]))


def score(probabilities: np.ndarray, labels: np.ndarray) -> Score:
    """Return the `Score` of probabilities (n, classes).

    Where the right class has probability 0, or one that is not finite, the loss uses the smallest normal float32.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyalex import evaluation
    >>> score = evaluation.score(np.array([[0.7, 0.2, 0.1], [0.1, 0.4, 0.5]]), labels=np.array([0, 1]))
    >>> score.count, round(score.loss, 4), score.top1_error, score.top5_error, score.mean_class_error
    (2, 0.6365, 0.5, 0.0, 0.5)
    """
    rank = ranks(probabilities, labels)
    if not len(rank):
        return Score(0, np.nan, np.nan, np.nan, np.nan)
    right = np.take_along_axis(probabilities, labels[:, None], axis=1).astype(np.float64)
    loss = -np.log(np.where(np.isfinite(right), right, 0).clip(np.finfo(np.float32).tiny)).mean()
    counts, wrong = (np.bincount(labels, weights) for weights in (None, rank >= 1))
    by_class = wrong[counts > 0] / counts[counts > 0]
    top1, top5 = (float((rank >= limit).mean()) for limit in (1, 5))
    return Score(len(labels), float(loss), top1, top5, float(by_class.mean()))


def probabilities(
    network: Network,
    images: Images,
    mean: np.ndarray,
    recipe: Recipe,
    views: int = 1,
    after_batch: Callable[[], object] | None = None,
    world: World = ALONE,
) -> np.ndarray:
    """Return a network's class probabilities for test images, averaged over views after the softmax (paper §4.1).

    Parameters
    ----------
    network : Network
    images : ImageSet
    mean : float32 (S, S, 3)
        The mean of the images that the network was trained on.
    recipe : Recipe
    views : {1, 9, 10}
        How many crops of each image: see `augment.views`.
    after_batch : callable, optional
        Called after every batch; if it raises an exception, the evaluation ends with it.
    world : World
        Of several ranks each computes some of the batches; all get the result, whose bits are those of one rank.

    Returns
    -------
    ndarray, shape (n, classes)
    """
    if not isinstance(views, Integral) or isinstance(views, bool) or views not in (1, 9, 10):
        raise UsageError(f"views: {views!r} is not supported; use 1, 9 or 10")
    if images.size != len(mean):
        raise DataError(
            f"images: {images.size} x {images.size}, but the network was trained on {len(mean)} x {len(mean)}; "
            "prepare them in that size"
        )
    batch, parts = recipe.learning.batch, []
    images_per_batch = max(1, batch // views)

    def share(count: int) -> slice:
        return slice(count * world.rank // world.size, count * (world.rank + 1) // world.size)

    with contextlib.closing(
        test_batches(images, mean, recipe, images_per_batch, views, network.devices, share=share)
    ) as batches:
        for crops in batches:
            parts.append(network.predict(crops.images, batch).reshape(len(crops.labels), views, -1).mean(axis=1))
            if after_batch:
                after_batch()
    own = np.concatenate(parts) if parts else np.empty((0, network.classes), network.dtype)
    return np.concatenate(world.agree(own, "testing")) if world.size > 1 else own


def evaluate(
    network: Network,
    images: Images,
    mean: np.ndarray,
    recipe: Recipe,
    views: int = 1,
    after_batch: Callable[[], object] | None = None,
    world: World = ALONE,
) -> Score:
    """Score a network on test images; the parameters are those of `probabilities`."""
    found = probabilities(network, images, mean, recipe, views, after_batch, world)
    return score(found, np.asarray(images.labels))

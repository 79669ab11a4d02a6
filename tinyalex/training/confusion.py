"""Which classes a network confuses: error rates of each class, and the pairs of classes most often confused."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tinyalex.labels import check as check_labels
from tinyalex.training.evaluation import ranks
from tinyalex.words import counted

SHOWN = 5  # names of equally frequent mistakes in a table


class ClassScore(NamedTuple):
    """Error rates of one class, and what its images were taken for; errors are fractions, NaN without images.

    Attributes
    ----------
    label, count : int
    top1_error, top5_error : float
    taken_for : tuple of int
        The wrong classes predicted most often, in the order of their labels: several if they are equally frequent.
    times : int
        How often each of them was predicted; 0 if there is none.
    """

    label: int
    count: int  # type: ignore[assignment]  # hides tuple.count; `Score` has the same name
    top1_error: float
    top5_error: float
    taken_for: tuple[int, ...]
    times: int

    def mistaken_for(self, names: Sequence[str]) -> str:
        """Return the names of ``taken_for``, at most `SHOWN` of them, and how often: "mantis, red panda (7 each)"."""
        if not self.times:
            return ""
        shown = ", ".join(names[label] for label in self.taken_for[:SHOWN])
        more = f" and {counted(len(self.taken_for) - SHOWN, 'other')}" if len(self.taken_for) > SHOWN else ""
        return f"{shown}{more} ({self.times:,}{' each' if len(self.taken_for) > 1 else ''})"


class Pair(NamedTuple):
    """Two classes, the lower label first, and how many images of each were taken for the other."""

    first: int
    second: int
    first_as_second: int
    second_as_first: int

    @property
    def times(self) -> int:
        """Number of images of either class that were taken for the other."""
        return self.first_as_second + self.second_as_first


def predictions(probabilities: np.ndarray) -> np.ndarray:
    """Return the top-1 predictions, int (n,), in the order of `ranks`; -1 where a probability is not finite."""
    return np.where(np.isfinite(probabilities).all(axis=1), probabilities.argmax(axis=1), -1)


def by_class(probabilities: np.ndarray, labels: np.ndarray) -> list[ClassScore]:
    """Compute the error rates of each class.

    Parameters
    ----------
    probabilities : ndarray, shape (n, classes)
    labels : ndarray of int, shape (n,)

    Returns
    -------
    list of ClassScore
        One for each class, in the order of the labels.

    Raises
    ------
    DataError
        If the labels are not one whole number from 0 to classes - 1 for each image.
    """
    classes, rank, mistakes = probabilities.shape[1], ranks(probabilities, labels), _mistakes(probabilities, labels)
    labels = labels.astype(np.int64)  # those of no images may have another type
    count, wrong1, wrong5 = (np.bincount(labels, weight, minlength=classes) for weight in (None, rank >= 1, rank >= 5))
    most: dict[int, tuple[tuple[int, ...], int]] = {}
    for (label, prediction), times in mistakes.items():
        before, highest = most.get(label, ((), 0))
        if times >= highest:
            most[label] = (*(before if times == highest else ()), prediction), times
    with np.errstate(invalid="ignore"):
        errors = np.stack([wrong1, wrong5], axis=1) / count[:, None]
    return [
        ClassScore(label, int(count[label]), float(top1), float(top5), *most.get(label, ((), 0)))
        for label, (top1, top5) in enumerate(errors)
    ]


def matrix(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Count how often the images of each class were taken for each class.

    Parameters
    ----------
    probabilities : ndarray, shape (n, classes)
    labels : ndarray of int, shape (n,)

    Returns
    -------
    int64 ndarray, shape (classes, classes)
        At [i, j]: images of class i whose top-1 prediction is j. An image with a probability that is not finite is not
        counted.

    Examples
    --------
    >>> matrix(np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]]), np.array([0, 1, 1]))
    array([[1, 0],
           [1, 1]])
    """
    check_labels(labels, *probabilities.shape)
    classes, predicted = probabilities.shape[1], predictions(probabilities)
    known = predicted >= 0
    pairs = labels[known].astype(np.int64) * classes + predicted[known]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def confused(probabilities: np.ndarray, labels: np.ndarray, most: int = 10) -> list[Pair]:
    """Return the ``most`` pairs of classes that were confused most often, as a list of `Pair`, worst first."""
    mistakes = _mistakes(probabilities, labels)
    pairs = {
        (low, high): Pair(low, high, mistakes.get((low, high), 0), mistakes.get((high, low), 0))
        for low, high in (sorted(mistake) for mistake in mistakes)
    }
    return sorted(pairs.values(), key=lambda pair: (-pair.times, pair.first, pair.second))[:most]


def _mistakes(probabilities: np.ndarray, labels: np.ndarray) -> dict[tuple[int, int], int]:
    # {(label, prediction): count}, sorted; a full confusion matrix would be too large for 21,843 classes.
    check_labels(labels, *probabilities.shape)
    predicted = predictions(probabilities)
    wrong = (predicted != labels) & (predicted >= 0)
    pairs, counts = np.unique(np.stack([labels[wrong], predicted[wrong]], axis=1), axis=0, return_counts=True)
    return {(int(label), int(other)): int(count) for (label, other), count in zip(pairs, counts, strict=True)}

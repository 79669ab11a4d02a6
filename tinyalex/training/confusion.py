"""Which classes a network confuses: error rates class by class, and the pairs that are taken for each other."""

from typing import NamedTuple

import numpy as np

from tinyalex.training.evaluation import ranks


class ClassScore(NamedTuple):
    """How often images of one class were taken for others; errors are fractions, NaN where there are no images.

    Attributes
    ----------
    label, count : int
    top1_error, top5_error : float
    taken_for, times : int
        The wrong class guessed most often, and how often; -1 and 0 if there was none.
    """

    label: int
    count: int
    top1_error: float
    top5_error: float
    taken_for: int
    times: int


class Pair(NamedTuple):
    """Two classes, the lower label first, and how many images of each were taken for the other."""

    first: int
    second: int
    first_as_second: int
    second_as_first: int

    @property
    def times(self):
        """How many images in all."""
        return self.first_as_second + self.second_as_first


def guesses(probabilities):
    """Return the first guesses, int (n,), as `ranks` orders them; -1 where something is no number."""
    return np.where(np.isfinite(probabilities).all(axis=1), probabilities.argmax(axis=1), -1)


def by_class(probabilities, labels):
    """Score each class.

    Parameters
    ----------
    probabilities : ndarray, shape (n, classes)
    labels : ndarray of int, shape (n,)

    Returns
    -------
    list of ClassScore
        In the order of the labels.
    """
    classes, rank, mistakes = probabilities.shape[1], ranks(probabilities, labels), _mistakes(probabilities, labels)
    count, wrong1, wrong5 = (np.bincount(labels, weight, minlength=classes) for weight in (None, rank >= 1, rank >= 5))
    most = {}
    for (label, guess), times in mistakes.items():  # of equals the lower label, which comes first
        if times > most.get(label, (0, 0))[1]:
            most[label] = guess, times
    with np.errstate(invalid="ignore"):
        errors = np.stack([wrong1, wrong5], axis=1) / count[:, None]
    return [
        ClassScore(label, int(count[label]), *map(float, errors[label]), *most.get(label, (-1, 0)))
        for label in range(classes)
    ]


def confused(probabilities, labels, most=10):
    """Return the ``most`` pairs that were taken for each other most often, as a list of `Pair`."""
    mistakes = _mistakes(probabilities, labels)
    pairs = {
        (low, high): Pair(low, high, mistakes.get((low, high), 0), mistakes.get((high, low), 0))
        for low, high in (sorted(mistake) for mistake in mistakes)
    }
    return sorted(pairs.values(), key=lambda pair: (-pair.times, pair.first, pair.second))[:most]


def _mistakes(probabilities, labels):
    # {(label, guess): times} in this order; a table of all classes by all would be too large for 21,843 of them.
    guess = guesses(probabilities)
    wrong = (guess != labels) & (guess >= 0)
    found, times = np.unique(np.stack([labels[wrong], guess[wrong]], axis=1), axis=0, return_counts=True)
    return {(int(label), int(other)): int(count) for (label, other), count in zip(found, times, strict=True)}

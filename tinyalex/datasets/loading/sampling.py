"""Which image is at which position of an epoch: a function of the seed, the epoch and the position alone."""

import numpy as np

from tinyalex import randomness


def order(sampling, seed, epoch, labels):
    """Return the numbers of the images of an epoch, in order, int64 (n,); as many as there are images.

    Parameters
    ----------
    sampling : "each image once" or "balanced"
        "balanced": see `balanced`.
    seed, epoch : int
    labels : ndarray of int, shape (n,)
    """
    if sampling == "balanced":
        return balanced(seed, epoch, labels)
    return randomness.permutation(randomness.key(seed, "order", epoch), len(labels))


def balanced(seed, epoch, labels):
    """Draw all classes equally often: in every round each class once, in random order.

    An epoch of n images has n / K rounds of the K classes that have images; if K does not divide n, the last round is
    cut. A class goes through its images in a random order, then through them in another one, and so on; the next epoch
    continues where the last one ended. So the images of a small class come several times in an epoch, and those of a
    large one are all used over several epochs.

    Parameters
    ----------
    seed, epoch : int
    labels : ndarray of int, shape (n,)

    Returns
    -------
    int64 (n,)

    Examples
    --------
    >>> labels = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    >>> labels[balanced(0, 0, labels)].reshape(4, 2).tolist()
    [[1, 0], [0, 1], [1, 0], [0, 1]]
    """
    labels = np.asarray(labels)
    by_class = np.argsort(labels, kind="stable")
    members = np.split(by_class, np.flatnonzero(np.diff(labels[by_class])) + 1)  # the images of each class
    rounds = -(-len(labels) // len(members))
    drawn = np.empty((rounds, len(members)), np.int64)  # each class's image of each round
    turns = epoch * rounds + np.arange(rounds)
    images = randomness.key(seed, "images of a class")
    for number, own in enumerate(members):
        passes, positions = np.divmod(turns, len(own))
        first = int(passes[0])
        every = np.arange(first, int(passes[-1]) + 1)[:, None]
        shuffled = np.argsort(randomness.bits(images, labels[own[0]], every, np.arange(len(own))), kind="stable")
        drawn[:, number] = own[shuffled[passes - first, positions]]
    classes = randomness.key(seed, "classes of a round", epoch)
    turn = np.argsort(randomness.bits(classes, np.arange(rounds)[:, None], np.arange(len(members))), kind="stable")
    return np.take_along_axis(drawn, turn, axis=1).reshape(-1)[: len(labels)]

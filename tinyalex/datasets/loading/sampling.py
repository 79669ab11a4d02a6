"""Which image is at which position of an epoch: a function of the seed, the epoch and the position alone.

In the order of shards it depends on the set's shards and on the size of the buffer as well.
"""

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


def stream(seed, epoch, starts):
    """Return the images of an epoch in the order in which they are read: shard after shard, the shards shuffled.

    Parameters
    ----------
    seed, epoch : int
    starts : int64 (shards + 1,)
        The number of the first image of each shard, and the number of all images.

    Returns
    -------
    int64 (n,)
    """
    shards = randomness.permutation(randomness.key(seed, "shards of an epoch", epoch), len(starts) - 1)
    return np.concatenate([np.empty(0, np.int64), *(np.arange(starts[k], starts[k + 1]) for k in shards)])


def through_buffer(seed, epoch, read, buffer):
    """Shuffle a stream of images with a buffer of so many.

    Image number i of the stream gets the key i + u ``buffer``, where u is uniform from 0 to 1, and the images come in
    the order of their keys. So the image at position p has been read when p + ``buffer`` images have: at most
    ``buffer`` are kept at a time. With a buffer as large as the set the order is still not that of `order`.

    Parameters
    ----------
    seed, epoch : int
    read : int64 (n,)
        From `stream`.
    buffer : int
        1: the order stays as it is.

    Returns
    -------
    int64 (n,)

    Examples
    --------
    >>> through_buffer(0, 0, np.arange(12), 4).tolist()
    [0, 2, 1, 4, 5, 3, 6, 7, 8, 9, 10, 11]
    """
    drawn = randomness.bits(randomness.key(seed, "shuffle buffer", epoch), read).astype(np.int64)
    return read[np.argsort((np.arange(len(read)) << 32) + drawn * buffer, kind="stable")]


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

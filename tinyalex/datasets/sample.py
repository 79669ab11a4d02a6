"""A share of a data set, small enough to keep in memory: as many images of each class, made smaller where that fits."""

from pathlib import Path

import numpy as np

from tinyalex import randomness
from tinyalex.datasets.dataset import Dataset, ImageSet


def sample(dataset, train, test, side):
    """Take a share of a data set into memory.

    Parameters
    ----------
    dataset : Dataset
    train, test : int
        At most so many images of each.
    side : int
        What a network reads. Images of twice, three times ... that side, or more, are averaged down by whole factors.

    Returns
    -------
    Dataset
    """
    size = dataset.need("train").size
    factor = max(f for f in range(1, max(1, size // side) + 1) if size % f == 0)
    splits = [share(dataset.need(split), split, count, factor) for split, count in (("train", train), ("test", test))]
    return Dataset(Path(dataset.name).name, list(dataset.words), *splits)


def centre(dataset, side):
    """Cut every image down to its centre, so that there is nothing left to crop."""
    offset = (dataset.train.size - side) // 2
    cut = slice(offset, offset + side)
    splits = [ImageSet(images.images[:, cut, cut], images.labels) for images in (dataset.train, dataset.test)]
    return Dataset(dataset.name, dataset.classes, *splits)


def share(images, purpose, count, factor=1):
    """Take at most ``count`` images into memory, in their own order and as many of each class as of any other.

    Parameters
    ----------
    images : ImageSet
    purpose : str
        For one purpose they are always the same.
    count : int
    factor : int
        By which their sides are made smaller, by averaging.

    Returns
    -------
    ImageSet
    """
    labels = np.asarray(images.labels)
    order = randomness.permutation(randomness.key(0, "share", purpose), len(labels))
    turn = np.empty(len(labels), np.int64)  # an image's turn among those of its class
    for label in np.unique(labels):
        members = order[labels[order] == label]
        turn[members] = np.arange(len(members))
    chosen = np.sort(order[np.argsort(turn[order], kind="stable")][:count])
    small = images.size // factor
    pixels = np.empty((len(chosen), small, small, 3), np.uint8)
    for start in range(0, len(chosen), 512):
        part = chosen[start : start + 512]
        read = images.read(part)
        if factor > 1:
            read = np.rint(read.reshape(len(part), small, factor, small, factor, 3).mean(axis=(2, 4)))
        pixels[start : start + 512] = read
    return ImageSet(pixels, labels[chosen])

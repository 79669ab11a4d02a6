"""A sample of a data set, small enough to keep in memory: equally many images of each class, reduced in size."""

from pathlib import Path

import numpy as np

from tinyalex import randomness
from tinyalex.datasets.dataset import Dataset, ImageSet


def sample(dataset, train, test, side):
    """Read a sample of a data set into memory.

    Parameters
    ----------
    dataset : Dataset
    train, test : int
        The largest number of images to take from each split.
    side : int
        The network's input. Images of at least twice that side are averaged down by the largest whole factor that fits.

    Returns
    -------
    Dataset
    """
    size = dataset.need("train").size
    factor = max(f for f in range(1, max(1, size // side) + 1) if size % f == 0)
    splits = [share(dataset.need(split), split, count, factor) for split, count in (("train", train), ("test", test))]
    return Dataset(Path(dataset.name).name, list(dataset.words), *splits)


def centre(dataset, side):
    """Crop every image to its centre ``side`` x ``side``, so that training on it crops nothing."""
    offset = (dataset.train.size - side) // 2
    middle = slice(offset, offset + side)
    splits = [ImageSet(images.images[:, middle, middle], images.labels) for images in (dataset.train, dataset.test)]
    return Dataset(dataset.name, dataset.classes, *splits)


def share(images, purpose, count, factor=1):
    """Read at most ``count`` images into memory, in the set's order, equally many of each class where it has them.

    Parameters
    ----------
    images : ImageSet
    purpose : str
        Part of the random key: the same purpose always selects the same images.
    count : int
    factor : int
        The images' sides are divided by this number, by averaging.

    Returns
    -------
    ImageSet
    """
    labels = np.asarray(images.labels)
    chosen = chosen_indices(labels, purpose, count)
    small = images.size // factor
    pixels = np.empty((len(chosen), small, small, 3), np.uint8)
    for start in range(0, len(chosen), 512):
        part = chosen[start : start + 512]
        read = images.read(part)
        if factor > 1:
            read = np.rint(read.reshape(len(part), small, factor, small, factor, 3).mean(axis=(2, 4)))
        pixels[start : start + 512] = read
    return ImageSet(pixels, labels[chosen])


def chosen_indices(labels, purpose, count):
    """Return which images `share` reads, int64, ascending: ``labels`` are those of all images."""
    order = randomness.permutation(randomness.key(0, "share", purpose), len(labels))
    rank = np.empty(len(labels), np.int64)  # of an image among those of its class, in random order
    for label in np.unique(labels):
        members = order[labels[order] == label]
        rank[members] = np.arange(len(members))
    return np.sort(order[np.argsort(rank[order], kind="stable")][:count])

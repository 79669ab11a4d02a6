"""Some of a data set's images: to train on a part, and to judge by another."""

from dataclasses import dataclass

import numpy as np

from tinyalex.datasets.dataset import Dataset


class Chosen:
    """Images of an `ImageSet`, by their numbers; stands in the place of one.

    Parameters
    ----------
    images : ImageSet
    indices : array of int, shape (n,)
    """

    def __init__(self, images, indices):
        self.images, self.indices = images, np.asarray(indices)
        self.size, self.labels = images.size, np.asarray(images.labels)[self.indices]

    def __len__(self):
        return len(self.indices)

    def read(self, indices, out=None):
        """Give the images with these numbers, uint8 (len(indices), S, S, 3), in ``out`` if it is given."""
        return self.images.read(self.indices[indices], out=out)


@dataclass(frozen=True, eq=False)
class Part(Dataset):
    """Training and test images out of a data set, with the whole's mean and colours.

    Attributes
    ----------
    whole : Dataset
    """

    whole: Dataset

    @property
    def words(self):
        return self.whole.words

    @property
    def mean(self):
        return self.whole.mean

    @property
    def colour(self):
        return self.whole.colour


def part(whole, train, test):
    """Make a `Part` of a data set from two sets of images."""
    return Part(whole.name, whole.classes, train, test, whole)


def fifths(dataset):
    """Tell apart four fifths of the training images and the last one.

    Where the set is CIFAR-10 in its own files these are files 1 to 4 and 5; elsewhere every class is cut, in the set's
    order.

    Returns
    -------
    four, last : int64 arrays
        Numbers of images, ascending.
    """
    labels = np.asarray(dataset.need("train").labels)
    if dataset.name == "cifar10":
        last = np.arange(len(labels)) >= len(labels) * 4 // 5
    else:
        last = np.zeros(len(labels), bool)
        for label in np.unique(labels):
            mine = np.flatnonzero(labels == label)
            last[mine[len(mine) * 4 // 5 :]] = True
    return np.flatnonzero(~last), np.flatnonzero(last)

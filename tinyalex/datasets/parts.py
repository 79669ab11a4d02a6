"""A data set from another one: with some of its images, or with its classes in another order."""

from dataclasses import dataclass

import numpy as np

from tinyalex.datasets.dataset import Dataset


class Subset:
    """Some images of an `ImageSet`, by their numbers; can be used as an `ImageSet`.

    Parameters
    ----------
    images : ImageSet
    indices : array of int, shape (n,)
    """

    def __init__(self, images, indices):
        self.images, self.indices = images, np.asarray(indices)
        self.size, self.labels = images.size, np.asarray(images.labels)[self.indices]
        self.is_jpeg = getattr(images, "is_jpeg", False)
        if hasattr(images, "starts") and (np.diff(self.indices) > 0).all():  # as in `ShardSet`
            self.starts = np.searchsorted(self.indices, images.starts)

    def __len__(self):
        return len(self.indices)

    def read(self, indices, out=None):
        """Return the images at ``indices``, uint8 (len(indices), S, S, 3); written to ``out`` if it is given."""
        return self.images.read(self.indices[indices], out=out)

    def fetch(self, first, count):
        """Read consecutive images of one shard as they are stored: see `ShardSet`."""
        indices = self.indices[first : first + count]
        runs = np.split(indices, np.flatnonzero(np.diff(indices) != 1) + 1)
        return [content for run in runs for content in self.images.fetch(int(run[0]), len(run))]

    def unpack(self, indices, contents, out):
        """Write the pixels of images, as fetched, to arrays."""
        self.images.unpack(self.indices[indices], contents, out)


class _Renumbered:
    # Images with the label numbers[k] instead of k.
    def __init__(self, images, numbers):
        self.read, self.size, self.labels = images.read, images.size, numbers[np.asarray(images.labels)]

    def __len__(self):
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Part(Dataset):
    """Training and test images from a data set, with the mean and colours of the whole set.

    Attributes
    ----------
    whole : Dataset
    """

    whole: Dataset

    @property
    def words(self):
        words = dict(zip(self.whole.classes, self.whole.words, strict=True))
        return [words[name] for name in self.classes]

    @property
    def mean(self):
        return self.whole.mean

    @property
    def colour(self):
        return self.whole.colour

    @property
    def decoder(self):
        return self.whole.decoder

    def test_list(self):
        return self.whole.test_list() if len(self.test) == len(self.whole.test) else super().test_list()


def part(whole, train, test):
    """Make a `Part` of a data set from two sets of images."""
    return Part(whole.name, whole.classes, train, test, whole)


def reordered(whole, classes):
    """Make a `Part` with all images of a data set and its classes in another order."""
    numbers = np.array([classes.index(name) for name in whole.classes])
    train, test = _Renumbered(whole.train, numbers), _Renumbered(whole.test, numbers)
    return Part(whole.name, classes, train, test, whole, unlabelled=whole.unlabelled)


def fifths(dataset):
    """Split the training images into the first four fifths and the last fifth.

    For CIFAR-10 in its own files these are files 1 to 4 and file 5. In other sets every class is split, in the set's
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
            members = np.flatnonzero(labels == label)
            last[members[len(members) * 4 // 5 :]] = True
    return np.flatnonzero(~last), np.flatnonzero(last)

"""Images with labels, and what training has to know about them: mean image and principal colours.

Everything statistical comes from integer sums, so that it is exact and does not depend on how the images were read.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tinyalex.datasets.statistics import mean_image, pixel_sums, principal_colours
from tinyalex.errors import DataError

_CHUNK = 512  # images read at once


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Square images of one size, in memory.

    Anything with ``__len__``, ``size``, ``labels`` and ``read`` can stand in its place, say a reader of files.

    Attributes
    ----------
    images : uint8 (n, S, S, 3)
    labels : int64 (n,)
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self):
        return len(self.images)

    @property
    def size(self):
        """Side S of an image, in pixels."""
        return self.images.shape[1]

    def read(self, indices, out=None):
        """Give the images with these numbers, uint8 (len(indices), S, S, 3), in ``out`` if it is given."""
        return np.take(self.images, indices, axis=0, out=out)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training set, a test set and the names of their classes.

    Attributes
    ----------
    name : str
    classes : list of str
        Label k is ``classes[k]``.
    train, test : ImageSet
    """

    name: str
    classes: list
    train: ImageSet
    test: ImageSet

    @cached_property
    def identity(self):
        """Hash of all images and classes, 32 hexadecimal digits; what is subtracted is not in it (``--mean-from``)."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(repr([str(name) for name in self.classes]).encode())
        for images in (self.train, self.test):
            digest.update(repr((len(images), images.size)).encode())
            digest.update(np.asarray(images.labels, dtype="<i8").tobytes())
            for chunk in _chunks(images):
                digest.update(np.ascontiguousarray(chunk))
        return digest.hexdigest()

    @property
    def words(self):
        """Names of the classes for people, where they have others."""
        return self.classes

    @cached_property
    def mean(self):
        """Mean image of the training set, float32 (S, S, 3), 0 to 255."""
        return mean_image(self._sums[0], len(self.train))

    @cached_property
    def colour(self):
        """Principal components of the training pixels' RGB values, as `principal_colours` gives them (section 4.1)."""
        total, products = self._sums
        return principal_colours(len(self.train) * self.train.size**2, total.sum(axis=(0, 1)), products)

    @cached_property
    def _sums(self):
        return tuple(map(sum, zip(*map(pixel_sums, _chunks(self.train)), strict=True)))

    def need(self, split):
        """Give the "train" or the "test" images.

        Raises
        ------
        DataError
            If there are none.
        """
        images = getattr(self, split)
        if len(images):
            return images
        what = "training images to learn from" if split == "train" else "test images to tell the error by"
        raise DataError(f"{self.name}: holds no {what}; give a set that has a {split} split")


def _chunks(images):
    for start in range(0, len(images), _CHUNK):
        yield images.read(np.arange(start, min(start + _CHUNK, len(images))))

"""Images with labels, and what training has to know about them: mean image and principal colours.

Everything statistical comes from integer sums, so that it is exact and does not depend on how the images were read.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

_CHUNK = 512  # images read at once: 512 x 256 x 256 pixels keep float64 products of bytes below 2^53, exact


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

    def read(self, indices):
        """Give the images with these numbers, uint8 (len(indices), S, S, 3)."""
        return self.images[indices]


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
        """Hash of all contents, 32 hexadecimal digits: two data sets are the same if theirs are."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(repr([str(name) for name in self.classes]).encode())
        for images in (self.train, self.test):
            digest.update(repr((len(images), images.size)).encode())
            digest.update(np.asarray(images.labels, dtype="<i8").tobytes())
            for chunk in _chunks(images):
                digest.update(np.ascontiguousarray(chunk))
        return digest.hexdigest()

    @cached_property
    def mean(self):
        """Mean image of the training set, float32 (S, S, 3), 0 to 255."""
        total = sum(chunk.sum(axis=0, dtype=np.int64) for chunk in _chunks(self.train))
        return (total / len(self.train)).astype(np.float32)

    @cached_property
    def colour(self):
        """Principal components of the training pixels' RGB values (paper, section 4.1).

        Returns
        -------
        deviations : float64 (3,)
            Standard deviations along the components in grey levels (0 to 255), smallest first: the square roots of the
            covariance's eigenvalues. The 2012 files keep these; the paper speaks of the eigenvalues, their squares.
        vectors : float64 (3, 3)
            Unit vectors, one a column, each with its largest entry positive.
        """
        count, total, products = 0, np.zeros(3, np.int64), np.zeros((3, 3), np.int64)
        for chunk in _chunks(self.train):
            pixels = chunk.reshape(-1, 3).astype(np.float64)
            count += len(pixels)
            total += pixels.sum(axis=0).astype(np.int64)
            products += (pixels.T @ pixels).astype(np.int64)
        covariance = [
            [(count * int(products[i, j]) - int(total[i]) * int(total[j])) / count**2 for j in range(3)]
            for i in range(3)
        ]
        variances, vectors = np.linalg.eigh(np.array(covariance))
        largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
        return np.sqrt(np.maximum(variances, 0.0)), vectors * np.where(largest < 0, -1.0, 1.0)


def _chunks(images):
    for start in range(0, len(images), _CHUNK):
        yield images.read(np.arange(start, min(start + _CHUNK, len(images))))

"""`Dataset` and `ImageSet`: images with labels, checked when they are put together, and their mean and colours.

The statistics come from integer sums, so they are exact and do not depend on the order in which images are read.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np

from tinyalex.datasets import names
from tinyalex.datasets.statistics import mean_image, pixel_sums, principal_colours
from tinyalex.errors import DataError
from tinyalex.labels import check as check_labels

_CHUNK = 512  # images read at once


class Images(Protocol):
    """What a set of images has to offer, as `ImageSet`, which keeps them in memory, or a reader of files does."""

    def __len__(self) -> int: ...

    @property
    def size(self) -> int: ...

    @property
    def labels(self) -> np.ndarray: ...

    def read(self, indices: np.ndarray, out: np.ndarray | None = None) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Square images of one size, in memory.

    Any object with the members of `Images` can be used instead, such as a reader of files.

    Attributes
    ----------
    images : uint8 (n, S, S, 3)
        0 to 255.
    labels : int64 (n,)
        0 or more.

    Raises
    ------
    DataError
        If the images are no such array, or the labels are not one whole number for each image.
    """

    images: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        x = self.images
        if not isinstance(x, np.ndarray):
            raise DataError(f"images: a {type(x).__name__} instead of an array; use numpy.array(images, 'uint8')")
        if x.ndim != 4 or x.shape[1] != x.shape[2] or x.shape[3] != 3 or not x.shape[1]:
            raise DataError(f"images: an array of shape {x.shape}; give (images, side, side, 3), squares of one size")
        if x.dtype != np.uint8:
            raise DataError(
                f"images: numbers of type {x.dtype}; give bytes from 0 to 255: of images from 0 to 1, "
                "(255 * images).round().astype('uint8')"
            )
        check_labels(self.labels, len(x))

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> int:
        """Side S of an image, in pixels."""
        return self.images.shape[1]

    def read(self, indices: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Return the images at ``indices``, uint8 (len(indices), S, S, 3); written to ``out`` if it is given."""
        return np.take(self.images, indices, axis=0, out=out)


class ImageNames(NamedTuple):
    """What the test images are called, for files that list them.

    Attributes
    ----------
    names : list of str
        Of the test images, in their order: "ILSVRC2010_test_00000001.JPEG", "n01440764/n01440764_10026.JPEG".
    ids : dict of str to int
        The number of each class in an ILSVRC devkit; empty if none came with the images.
    """

    names: list[str]
    ids: dict[str, int]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training set, a test set and the names of their classes.

    Attributes
    ----------
    name : str
    classes : list of str
        Label k is ``classes[k]``.
    train, test : Images
        Such as `ImageSet`.
    listed : ImageNames or None
        Names of the test images, if they came from files.
    unlabelled : Images or None
        Test images without labels, if there are none with labels; their labels are 0 and mean nothing.
    described : list of str or None
        Each class in words, as a file such as words.txt has it for "n01443537".

    Raises
    ------
    DataError
        If a set's labels are not one whole number from 0 to ``len(classes) - 1`` for each image.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyalex.datasets import Dataset, ImageSet
    >>> images = np.zeros((2, 32, 32, 3), "uint8")
    >>> images[1] = 255
    >>> both = ImageSet(images, np.array([0, 1]))
    >>> dataset = Dataset("black and white", ["black", "white"], train=both, test=both)
    >>> dataset.mean[0, 0]
    array([127.5, 127.5, 127.5], dtype=float32)
    """

    name: str
    classes: list[str]
    train: Images
    test: Images
    listed: ImageNames | None = field(default=None, kw_only=True)
    unlabelled: Images | None = field(default=None, kw_only=True)
    described: list[str] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for split in ("train", "test"):
            images = getattr(self, split)
            check_labels(images.labels, len(images), len(self.classes), f"{self.name}: {split}")

    @cached_property
    def identity(self) -> str:
        """Hash of all images, labels and class names, 32 hexadecimal digits; the mean image is not part of it."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(repr([str(name) for name in self.classes]).encode())
        for images in (self.train, self.test):
            digest.update(repr((len(images), images.size)).encode())
            digest.update(np.asarray(images.labels, dtype="<i8").tobytes())
            for chunk in _chunks(images):
                digest.update(np.ascontiguousarray(chunk))  # type: ignore[arg-type]  # arrays are buffers
        return digest.hexdigest()

    def test_list(self) -> ImageNames:
        """Return the names of the test images, with labels or without; numbers if they did not come from files."""
        return self.listed or ImageNames(self._numbers(), {})

    def test_names(self) -> list[str]:
        """Return a name for each test image, as `test_list` does; numbers also if the names cannot be read."""
        try:
            return self.test_list().names
        except DataError:
            return self._numbers()

    def _numbers(self) -> list[str]:
        images = self.test if self.unlabelled is None else self.unlabelled
        return [f"test/{k:05d}" for k in range(len(images))]

    @property
    def decoder(self) -> str:
        """The library that decodes images each time they are read, on which their last bits depend; "" if none does."""
        return ""

    @property
    def words(self) -> list[str]:
        """Names of the classes to show to people, on one line each: ``described``, or ``classes``."""
        return [names.shown(str(name)) for name in self.described or self.classes]

    @cached_property
    def mean(self) -> np.ndarray:
        """Mean image of the training set, float32 (S, S, 3), 0 to 255."""
        return mean_image(self._sums[0], len(self.train))

    @cached_property
    def colour(self) -> tuple[np.ndarray, np.ndarray]:
        """Principal components of the training pixels' RGB values, as `principal_colours` gives them (section 4.1)."""
        total, products = self._sums
        return principal_colours(len(self.train) * self.train.size**2, total.sum(axis=(0, 1)), products)

    @cached_property
    def _sums(self) -> tuple[Any, ...]:
        return tuple(map(sum, zip(*map(pixel_sums, _chunks(self.train)), strict=True)))

    def need(self, split: str) -> Images:
        """Return the "train" or the "test" images.

        Raises
        ------
        DataError
            If the set has none.
        """
        images = getattr(self, split)
        if len(images):
            return images
        if split == "test" and self.unlabelled is not None:
            raise DataError(
                f"{self.name}: its {len(self.unlabelled):,} test images have no labels; give a set with labels, or "
                "classify them: tinyalex evaluate --write FILE"
            )
        what = "training images" if split == "train" else "test images"
        share = ", or a share of every class to test on: --test-share 0.1" if split == "test" else ""
        share += " (of `tinyalex prepare` if the set is prepared)" if share else ""
        raise DataError(f"{self.name}: has no {what}; give a set that has a {split} split{share}")


def _chunks(images: Images) -> Iterator[np.ndarray]:
    for start in range(0, len(images), _CHUNK):
        yield images.read(np.arange(start, min(start + _CHUNK, len(images))))

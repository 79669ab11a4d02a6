"""Occlusion: cover a square patch of the image, predict again, and do so at many positions.

Where the probability of a class falls most, the net needs what is there (Zeiler and Fergus, "Visualizing and
understanding convolutional networks", 2013, §4.2). The patch is filled with 0 in the net's input: with the mean image
subtracted, that is the mean of the training images. p x p pixels of the patch, s stride, h x w pixels of the image.
"""

from numbers import Integral
from typing import NamedTuple

import numpy as np

from tinyalex.errors import ShapeError, UsageError
from tinyalex.labels import check as check_labels
from tinyalex.network.network import Network

PARTS, POSITIONS = 5, 15  # by default a patch is a fifth of the side, and is put at 15 x 15 positions or more
MATTERS = 0.05  # of the probability: the least change that is worth a colour


class Occlusion(NamedTuple):
    """A class's probability with a patch of the image covered.

    Attributes
    ----------
    patch, stride : int
        Pixels.
    tops, lefts : ndarray of int, shapes (rows,) and (columns,)
        The first pixels of the patches.
    whole : float
        The probability of the class for the image as it is.
    covered : ndarray, shape (rows, columns)
        The probability with the patch at each position.
    drop : ndarray, shape (h, w)
        How much the probability falls, on average over the patches that cover a pixel; negative where it rises.
    """

    patch: int
    stride: int
    tops: np.ndarray
    lefts: np.ndarray
    whole: float
    covered: np.ndarray
    drop: np.ndarray

    @property
    def matters(self) -> bool:
        """Whether the patch changes the probability by a twentieth of it or more at any position."""
        return bool(np.abs(self.covered - self.whole).max() >= MATTERS * self.whole)


def corners(side: int, patch: int, stride: int) -> np.ndarray:
    """Return the first pixels of the patches along a side: every ``stride`` pixels, and a last one that ends with it.

    >>> corners(10, patch=4, stride=3), corners(11, patch=4, stride=3)
    (array([0, 3, 6]), array([0, 3, 6, 7]))
    """
    last = side - patch
    return np.unique(np.append(np.arange(0, last + 1, stride), last))


def default_patch(side: int) -> int:
    """Return the side of the patch that `occlusion` uses by default.

    >>> default_patch(56), default_patch(224)
    (11, 45)
    """
    return max(1, round(side / PARTS))


def default_stride(side: int, patch: int) -> int:
    """Return the stride that `occlusion` uses by default.

    >>> default_stride(56, 11), default_stride(224, 45)
    (3, 12)
    """
    return max(1, (side - patch) // (POSITIONS - 1))


def occlusion(
    network: Network, image: np.ndarray, label: int, patch: int | None = None, stride: int | None = None,
    batch: int = 128,
) -> Occlusion:  # fmt: skip
    """Predict an image's class again with a patch covered, at every position.

    Parameters
    ----------
    network : Network
        Built; its fast forms are used.
    image : ndarray, shape (h, w, k)
        Prepared as for `Network.predict`; converted to the network's dtype.
    label : int
        The class whose probability is looked at.
    patch, stride : int, optional
        Side of the patch and distance of neighbouring positions, in pixels. Default: `default_patch` and
        `default_stride` of the shorter side.
    batch : int
        Covered images at a time.

    Returns
    -------
    Occlusion

    Raises
    ------
    ShapeError
        If the image is not one of the network's.
    UsageError
        If the patch or the stride is not a whole number from 1 to the image's side.
    DataError
        If the network has no such class.
    """
    network.require_arrays()
    image = np.asarray(image, network.dtype)
    if image.shape != network.input_shape:
        raise ShapeError(f"image: got {image.shape}, this network reads {network.input_shape}")
    check_labels(np.array([label]), 1, network.classes)
    h, w, _ = image.shape
    patch = default_patch(min(h, w)) if patch is None else _pixels("patch", patch, min(h, w))
    stride = default_stride(min(h, w), patch) if stride is None else _pixels("stride", stride, min(h, w))
    tops, lefts = corners(h, patch, stride), corners(w, patch, stride)
    where = [(top, left) for top in tops for left in lefts]
    probabilities = []
    for first in range(0, len(where), batch):
        part = where[first : first + batch]
        images = np.repeat(image[None], len(part), axis=0)
        for covered, (top, left) in zip(images, part, strict=True):
            covered[top : top + patch, left : left + patch] = 0
        probabilities.append(network.predict(images, batch)[:, label])
    found = np.concatenate(probabilities).astype(np.float64)
    whole = float(network.predict(image[None])[0, label])
    total, count = np.zeros((h, w)), np.zeros((h, w))
    for (top, left), p in zip(where, found, strict=True):
        total[top : top + patch, left : left + patch] += whole - p
        count[top : top + patch, left : left + patch] += 1
    drop = total / np.maximum(count, 1)  # pixels between the patches, where the stride is larger than the patch: 0
    return Occlusion(patch, stride, tops, lefts, whole, found.reshape(len(tops), len(lefts)), drop)


def _pixels(name: str, value: object, most: int) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool) or not 1 <= int(value) <= most:
        raise UsageError(f"{name}: {value!r}; give a whole number of pixels from 1 to {most}, the image's side")
    return int(value)

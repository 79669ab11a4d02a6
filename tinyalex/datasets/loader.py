"""Batches of prepared images, made in the background while the network works on the one before.

The order of an epoch, the crops and the colours are functions of the seed and the epoch alone: batch k is the same
bits whatever the timing, and a run that resumes asks for ``first_batch=k`` and goes on as if it had never stopped.
"""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from tinyalex import randomness
from tinyalex.datasets import augment
from tinyalex.errors import DataError

_AHEAD = 2  # batches that wait for the caller, at most


class Batch(NamedTuple):
    """Images float32 (n, c, c, 3), labels int64 (n,), and their numbers in the set, int64 (n,)."""

    images: np.ndarray
    labels: np.ndarray
    indices: np.ndarray


def training_batches(dataset, recipe, seed, epoch, first_batch=0, colour_noise=None):
    """Go through the training set once, in the epoch's own order, with the recipe's augmentation.

    Parameters
    ----------
    dataset : Dataset
    recipe : Recipe
        ``net.input``, ``data`` and ``learning.batch`` are read.
    seed, epoch : int
    first_batch : int
        Number of the batch to begin with.
    colour_noise : float, optional
        Strength of the colour noise where a phase of the schedule changes it; 0 switches it off.

    Yields
    ------
    Batch
        A fresh one each; the last of an epoch may be short.
    """
    data, crop, images = recipe.data, _crop(recipe, dataset.train.size), dataset.train
    strength = data.colour_noise if colour_noise is None else colour_noise
    noisy = data.colour != "none" and strength > 0
    order = randomness.permutation(randomness.key(seed, "order", epoch), len(images))
    mean, colour = dataset.mean, dataset.colour if noisy else None

    def make(number):
        places = np.arange(number * recipe.learning.batch, min((number + 1) * recipe.learning.batch, len(images)))
        indices = order[places]
        units = indices if data.shared_crop == 1 else places // data.shared_crop
        offsets, flips = augment.draw_crops(seed, epoch, units, images.size, crop, data.flip)
        x = augment.cut(images.read(indices), mean, offsets, flips, crop, matched=data.mean == "image")
        if noisy:
            shifts = augment.draw_colours(seed, epoch, indices, colour, data.colour, strength)
            augment.shift_colours(x, shifts, data.colour, strength)
        return Batch(_scale(x, data.scale), images.labels[indices], indices)

    return _in_background(make, range(first_batch, -(-len(images) // recipe.learning.batch)))


def test_batches(images, dataset, recipe, batch):
    """Go through a set in its own order: centre crops less the mean, nothing random.

    Parameters
    ----------
    images : ImageSet
    dataset : Dataset
        Gives the mean image, which is the training set's.
    recipe : Recipe
    batch : int
        Images a batch; the last may be short.

    Yields
    ------
    Batch
    """
    crop, mean = _crop(recipe, images.size), dataset.mean

    def make(number):
        indices = np.arange(number * batch, min((number + 1) * batch, len(images)))
        return Batch(_centred(images.read(indices), mean, crop, recipe), images.labels[indices], indices)

    return _in_background(make, range(-(-len(images) // batch)))


def prepare_image(image, mean, recipe):
    """Prepare any picture as a test image: shorter side to S, centre S x S, centre crop, less the mean.

    Parameters
    ----------
    image : uint8 (h, w, 3)
        Of any size.
    mean : float32 (S, S, 3)
        `Dataset.mean` of the set that the network was trained on.
    recipe : Recipe

    Returns
    -------
    float32 (c, c, 3)
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise DataError(f"image: {image.dtype} {image.shape} is not uint8 (height, width, 3); convert it to RGB first")
    size = len(mean)
    return _centred(square(image, size)[None], mean, _crop(recipe, size), recipe)[0]


def square(image, size):
    """Resize a picture (h, w, 3) so that its shorter side is ``size``, and cut the middle square (paper, section 2)."""
    h, w = image.shape[:2]
    if min(h, w) != size:
        from PIL import Image

        h, w = (max(size, round(side * size / min(h, w))) for side in (h, w))
        image = np.asarray(Image.fromarray(image).resize((w, h), Image.Resampling.BICUBIC))
    top, left = (h - size) // 2, (w - size) // 2
    return image[top : top + size, left : left + size]


def _crop(recipe, size):
    if recipe.net.input > size:
        raise DataError(
            f"images: {size} x {size} is too small for crops of {recipe.net.input}; use larger images or set net.input"
        )
    return recipe.net.input


def _centred(images, mean, crop, recipe):
    middle = np.full((len(images), 2), augment.centre(images.shape[1], crop))
    return _scale(augment.cut(images, mean, middle, np.zeros(len(images), bool), crop, True), recipe.data.scale)


def _scale(x, scale):
    if scale != 1.0:
        x *= np.float32(scale)
    return x


def _in_background(make, numbers):
    # One thread makes batches in order; a generator that is closed or dropped cancels what was not begun.
    waiting, thread = deque(), ThreadPoolExecutor(1, thread_name_prefix="tinyalex-loader")
    try:
        for number in numbers:
            waiting.append(thread.submit(make, number))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        thread.shutdown(wait=True, cancel_futures=True)

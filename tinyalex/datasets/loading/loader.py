"""Batches of prepared images, made in the background while the network works on the one before.

The order of an epoch, the crops and the colours are functions of the seed and the epoch alone: batch k is the same
bits whatever the timing and the number of threads, and a run that resumes asks for ``first_batch=k`` and goes on as if
it had never stopped. The arrays of a batch are the holder's for as long as anything views them; then their memory goes
round, and later batches are made in it.
"""

from typing import NamedTuple

import numpy as np

from tinyalex import randomness
from tinyalex.datasets.loading import augment
from tinyalex.datasets.loading.background import made_ahead
from tinyalex.devices.arena import Arena
from tinyalex.errors import DataError

_CHUNK = 1 << 20  # bytes of images that are read before they are cut: still in cache then


class Batch(NamedTuple):
    """Images float32 (n, c, c, 3), labels int64 (n,), and their numbers in the set, int64 (n,)."""

    images: np.ndarray
    labels: np.ndarray
    indices: np.ndarray


class RawBatch(NamedTuple):
    """Whole images uint8 (n, S, S, 3) as they were read, and what is to be done to them: `augment.AugmentParams` of n views."""

    images: np.ndarray
    labels: np.ndarray
    indices: np.ndarray
    draws: augment.AugmentParams


class Epoch:
    """One pass over the training set, in the epoch's own order, with the recipe's augmentation.

    Parameters
    ----------
    dataset : Dataset
    recipe : Recipe
        ``net.input``, ``data`` and ``learning.batch`` are read.
    seed, epoch : int
    colour_noise : float, optional
        Strength of the colour noise where a phase of the schedule changes it; 0 switches it off.

    Attributes
    ----------
    images : ImageSet
    cropper : augment.Cropper
        Makes the network's input of images and draws.
    views : int
        Crops of each image: 1.
    """

    views = 1

    def __init__(self, dataset, recipe, seed, epoch, colour_noise=None):
        self.images, self._data, self._batch = dataset.train, recipe.data, recipe.learning.batch
        self._seed, self._epoch = seed, epoch
        self._strength = recipe.data.colour_noise if colour_noise is None else colour_noise
        noisy = recipe.data.colour != "none" and self._strength > 0
        self._colour = dataset.colour if noisy else None
        self._order = randomness.permutation(randomness.key(seed, "order", epoch), len(self.images))
        factors = [1.0 / (1.0 + self._strength)] if noisy and recipe.data.colour == "2012" else []
        self.cropper = _cropper(dataset.mean, recipe, factors)

    def __len__(self):
        """Count the batches."""
        return -(-len(self.images) // self._batch)

    def draw(self, number):
        """Return the numbers of the images in a batch, int64 (n,), and their `augment.AugmentParams`."""
        places = np.arange(number * self._batch, min((number + 1) * self._batch, len(self.images)))
        indices, data = self._order[places], self._data
        units = indices if data.shared_crop == 1 else places // data.shared_crop
        crops = augment.draw_crops(self._seed, self._epoch, units, self.images.size, self.cropper.crop, data.flip)
        if self._colour is None:
            return indices, augment.AugmentParams(*crops)
        noise = augment.draw_colours(self._seed, self._epoch, indices, self._colour, data.colour, self._strength)
        return indices, augment.AugmentParams(*crops, noise)


class Views:
    """One pass over a set in its own order, the same crops of every image: nothing random.

    Parameters
    ----------
    images : ImageSet
    mean : float32 (S, S, 3)
        The mean image that is subtracted: that of the training set.
    recipe : Recipe
        ``net.input`` and ``data`` are read.
    batch : int
        Images a batch; the last may be short.
    views : {1, 9, 10}
        1: the centre crop. 10: the four corners, the centre, and the reflections of these five (`augment.views`).

    Attributes
    ----------
    images, cropper, views
        As an `Epoch` has them.
    """

    def __init__(self, images, mean, recipe, batch, views=1):
        self.images, self.cropper, self.views, self._batch = images, _cropper(mean, recipe), views, batch
        self._places, self._flips = zip(*augment.views(images.size, self.cropper.crop, views), strict=True)

    def __len__(self):
        """Count the batches."""
        return -(-len(self.images) // self._batch)

    def draw(self, number):
        """Return the numbers of the images in a batch, int64 (n,), and the `augment.AugmentParams` of their n views crops."""
        indices = np.arange(number * self._batch, min((number + 1) * self._batch, len(self.images)))
        return indices, augment.AugmentParams(
            np.tile(self._places, (len(indices), 1)), np.tile(self._flips, len(indices))
        )


def host_batches(crops, first_batch=0, threads=1):
    """Make the batches of a pass, and cut them on the host.

    Parameters
    ----------
    crops : Epoch or Views
    first_batch : int
        Number of the batch to begin with.
    threads : int
        That make batches; 0: none, each is made when it is asked for.

    Yields
    ------
    Batch
        With ``crops.views`` crops of each image, side by side: rows ``views * i`` to ``views * (i + 1) - 1`` of the
        images belong to label ``i``.
    """
    memory, views, side = Arena(), crops.views, crops.cropper.crop

    def make(number):
        indices, draws = crops.draw(number)
        x = memory.empty((len(indices), views, side, side, 3), np.float32)
        for part, images in _read(crops.images, indices, memory):
            for view in range(views):
                mine = slice(part.start * views + view, part.stop * views, views)
                crops.cropper(images, draws.part(mine), out=x[part, view])
        return Batch(x.reshape(-1, side, side, 3), crops.images.labels[indices], indices)

    return made_ahead(make, range(first_batch, len(crops)), threads)


def raw_batches(crops, first_batch=0, threads=2, empty=None):
    """Make the batches of a pass, and leave the cutting to a device.

    Parameters
    ----------
    crops, first_batch, threads
        See `host_batches`.
    empty : callable, optional
        ``empty(shape, dtype)`` gives the host memory that the images and draws are put into.

    Yields
    ------
    RawBatch
    """
    empty = empty or Arena().empty

    def copied(array):
        copy = empty(array.shape, array.dtype)
        copy[...] = array
        return copy

    def make(number):
        indices, draws = crops.draw(number)
        images = empty((len(indices), crops.images.size, crops.images.size, 3), np.uint8)
        crops.images.read(indices, out=images)
        draws = augment.AugmentParams(*(None if draw is None else copied(draw) for draw in draws))
        return RawBatch(images, crops.images.labels[indices], indices, draws)

    return made_ahead(make, range(first_batch, len(crops)), threads)


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
    from PIL import Image

    from tinyalex.datasets.picture import square

    cropper = _cropper(mean, recipe)
    middle = augment.centre(len(mean), cropper.crop)
    draws = augment.AugmentParams(np.array([[middle, middle]]), np.array([False]))
    return cropper(square(Image.fromarray(image), len(mean))[None], draws)[0]


def _cropper(mean, recipe, factors=()):
    size, crop = len(mean), recipe.net.input
    if crop > size:
        raise DataError(f"images: {size} x {size} is too small for crops of {crop}; use larger images or set net.input")
    return augment.Cropper(mean, crop, recipe.data.mean == "image", [*factors, recipe.data.scale])


def _read(images, indices, memory):
    # Yield (slice, images), a few at a time, all in the same piece of memory.
    few = max(1, _CHUNK // (images.size**2 * 3))
    space = memory.empty((min(few, len(indices)), images.size, images.size, 3), np.uint8)
    for start in range(0, len(indices), few):
        part = slice(start, min(start + few, len(indices)))
        yield part, images.read(indices[part], out=space[: part.stop - start])

"""The batches of one pass over a data set, read and cropped by background threads while the network computes.

The order of an epoch, the crops and the colour noise depend on the seed and the epoch alone: batch k has the same bits
whatever the timing and the number of threads, and a resumed run passes ``first_batch=k`` to continue where it stopped.
The arrays of a batch stay valid for as long as anything refers to them; after that their memory is reused for later
batches.
"""

from numbers import Integral
from typing import NamedTuple

import numpy as np

from tinyalex.datasets.loading import augment, sampling
from tinyalex.datasets.loading.background import made_ahead
from tinyalex.datasets.loading.shuffle_buffer import ShuffleBuffer
from tinyalex.devices.arena import Arena
from tinyalex.errors import DataError, UsageError

_CHUNK = 1 << 20  # bytes of images that are read before they are cropped: they are still in cache then


class Batch(NamedTuple):
    """A network's input.

    Attributes
    ----------
    images : float32 (n, c, c, 3), or a `DeviceBatch` of that shape
        With several views, n is the number of labels times the number of views.
    labels : int64 (n,)
    indices : int64 (n,)
        The images' numbers in the set.
    """

    images: np.ndarray
    labels: np.ndarray
    indices: np.ndarray


class RawBatch(NamedTuple):
    """Whole images as they were read, and how they are to be cropped.

    Attributes
    ----------
    images : uint8 (n, S, S, 3)
    labels, indices : int64 (n,)
        As in `Batch`.
    params : augment.AugmentParams
        Of n times the number of views crops.
    """

    images: np.ndarray
    labels: np.ndarray
    indices: np.ndarray
    params: augment.AugmentParams


class Epoch:
    """One pass over the training set, in the epoch's own order (see `sampling`), with the recipe's augmentation.

    Parameters
    ----------
    dataset : Dataset
    recipe : Recipe
        Its ``net.input``, ``data`` and ``learning.batch`` are used.
    seed, epoch : int
    colour_noise : float, optional
        Strength of the colour noise, in place of the recipe's: a phase of the schedule may change it. 0: none.
    share : callable, optional
        ``share(n)`` returns the slice of a batch of n images that is wanted (default: all of it). Order, crops and
        colours of these images are the same as in the whole batch.
    few : bool
        Whether only a few batches will be used: then images are read one by one also where the recipe has the order of
        shards.

    Attributes
    ----------
    images : ImageSet
    cropper : augment.Cropper
        Makes the network's input from images and `augment.AugmentParams`.
    views : int
        Crops of each image: 1.

    Raises
    ------
    DataError
        If the recipe has the order of shards, and the set has none.
    """

    views = 1

    def __init__(self, dataset, recipe, seed, epoch, colour_noise=None, share=None, few=False):
        self.images, self._data, self._batch = dataset.train, recipe.data, recipe.learning.batch
        self._seed, self._epoch, self._share = seed, epoch, share
        self._strength = recipe.data.colour_noise if colour_noise is None else colour_noise
        noisy = recipe.data.colour != "none" and self._strength > 0
        self._colour = dataset.colour if noisy else None
        self._stream = None
        if recipe.data.order == "shards":
            if not hasattr(self.images, "starts"):
                raise DataError(
                    f"{dataset.name}: has no shards, as data.order = 'shards' needs; give a folder made by tinyalex "
                    "prepare, or add --set data.order=random"
                )
            stream = sampling.stream(seed, epoch, self.images.starts)
            self._order = sampling.through_buffer(seed, epoch, stream, recipe.data.shuffle_buffer)
            self._stream = None if few else stream
        else:
            self._order = sampling.order(recipe.data.sampling, seed, epoch, np.asarray(self.images.labels))
        self._repeats = recipe.data.sampling != "each image once"
        factors = [1.0 / (1.0 + self._strength)] if noisy and recipe.data.colour == "2012" else []
        self.cropper = _cropper(dataset.mean, recipe, factors)

    def __len__(self):
        """Count the batches."""
        return -(-len(self.images) // self._batch)

    def _positions(self, number):
        positions = np.arange(number * self._batch, min((number + 1) * self._batch, len(self.images)))
        return positions[self._share(len(positions))] if self._share else positions

    def reader(self, first):
        """Return a function that reads batches from number ``first`` on: see `_direct`."""
        if self._stream is None:
            return _direct(self.images)
        images = self.images
        buffer = ShuffleBuffer(images, self._stream, lambda k: self._order[self._positions(k)], first, len(self))

        def batch(number, indices):
            contents = buffer.take(number, indices)
            return lambda part, out: images.unpack(indices[part], contents[part], out)

        return batch

    def indices_and_params(self, number):
        """Return the numbers of the images in batch ``number``, int64 (n,), and their `augment.AugmentParams`."""
        positions = self._positions(number)
        indices, data = self._order[positions], self._data
        drawn = positions if self._repeats else indices  # an image that comes twice is cropped in two ways
        units = drawn if data.shared_crop == 1 else positions // data.shared_crop
        crops = augment.draw_crops(self._seed, self._epoch, units, self.images.size, self.cropper.crop, data.flip)
        if self._colour is None:
            return indices, augment.AugmentParams(*crops)
        noise = augment.draw_colours(self._seed, self._epoch, drawn, self._colour, data.colour, self._strength)
        return indices, augment.AugmentParams(*crops, noise)


class Views:
    """One pass over a set in its own order, the same crops of every image: nothing random.

    Parameters
    ----------
    images : ImageSet
    mean : float32 (S, S, 3)
        The mean image that is subtracted: that of the training set.
    recipe : Recipe
        Its ``net.input`` and ``data`` are used.
    batch : int
        Images in a batch; the last one may have fewer.
    views : {1, 9, 10}
        1: the centre crop. 10: the four corners, the centre, and the reflections of these five. 9: a grid. See
        `augment.views`.
    share : callable, optional
        ``share(n)`` returns the slice of the n batches that is wanted (default: all).

    Attributes
    ----------
    images, cropper, views
        As in `Epoch`.
    first : int
        Number of the first batch that is wanted.
    """

    def __init__(self, images, mean, recipe, batch, views=1, share=None):
        if not isinstance(batch, Integral) or isinstance(batch, bool) or batch < 1:
            raise UsageError(f"test batches of {batch!r} images; give a whole number, 1 or more")
        self.images, self.cropper, self.views, self._batch = images, _cropper(mean, recipe), views, batch
        self._offsets, self._flips = zip(*augment.views(images.size, self.cropper.crop, views), strict=True)
        batches = -(-len(self.images) // self._batch)
        wanted = share(batches) if share else slice(0, batches)
        self.first, self._end = wanted.start, wanted.stop

    def __len__(self):
        """Return the number of the batch after the last one that is wanted."""
        return self._end

    def reader(self, first):
        """Return a function that reads batches: see `_direct`."""
        return _direct(self.images)

    def indices_and_params(self, number):
        """Return the numbers of the images in batch ``number``, int64 (n,), and the parameters of all their crops."""
        indices = np.arange(number * self._batch, min((number + 1) * self._batch, len(self.images)))
        return indices, augment.AugmentParams(
            np.tile(self._offsets, (len(indices), 1)), np.tile(self._flips, len(indices))
        )


def host_batches(source, first_batch=0, threads=1):
    """Make the batches of a pass and crop them on the host.

    Parameters
    ----------
    source : Epoch or Views
    first_batch : int
        Number of the batch to begin with.
    threads : int
        Threads that make batches; 0: none, the caller makes each batch itself.

    Yields
    ------
    Batch
        With ``source.views`` crops of each image in consecutive rows: rows ``views * i`` to ``views * (i + 1) - 1`` of
        the images have label ``i``.
    """
    memory, views, side, reader = Arena(), source.views, source.cropper.crop, source.reader(first_batch)

    def make(number):
        indices, params = source.indices_and_params(number)
        x = memory.empty((len(indices), views, side, side, 3), np.float32)
        for part, images in _in_chunks(reader(number, indices), len(indices), source.images.size, memory):
            for view in range(views):
                rows = slice(part.start * views + view, part.stop * views, views)
                source.cropper(images, params.select(rows), out=x[part, view])
        return Batch(x.reshape(-1, side, side, 3), source.images.labels[indices], indices)

    return made_ahead(make, range(first_batch, len(source)), threads)


def raw_batches(source, first_batch=0, threads=2, empty=None):
    """Make the batches of a pass as whole images, to be cropped by a device.

    Parameters
    ----------
    source, first_batch, threads
        See `host_batches`.
    empty : callable, optional
        ``empty(shape, dtype)`` returns the host memory for images and params, such as `Device.pinned`.

    Yields
    ------
    RawBatch
    """
    empty, reader = empty or Arena().empty, source.reader(first_batch)

    def copied(array):
        copy = empty(array.shape, array.dtype)
        copy[...] = array
        return copy

    def make(number):
        indices, params = source.indices_and_params(number)
        images = empty((len(indices), source.images.size, source.images.size, 3), np.uint8)
        reader(number, indices)(slice(None), images)
        params = augment.AugmentParams(*(None if array is None else copied(array) for array in params))
        return RawBatch(images, source.images.labels[indices], indices, params)

    return made_ahead(make, range(first_batch, len(source)), threads)


def prepare_image(image, mean, recipe):
    """Prepare any picture as a test image: shorter side resized to S, centre S x S, centre crop, mean subtracted.

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
    params = augment.AugmentParams(np.array([[middle, middle]]), np.array([False]))
    return cropper(square(Image.fromarray(image), len(mean))[None], params)[0]


def _cropper(mean, recipe, factors=()):
    size, crop = len(mean), recipe.net.input
    if crop > size:
        raise DataError(f"images: {size} x {size} is too small for crops of {crop}; use larger images or set net.input")
    return augment.Cropper(mean, crop, recipe.data.mean == "image", [*factors, recipe.data.scale])


def _direct(images):
    # Return ``batch(number, indices)``, which returns ``read(part, out)``, which writes a slice of the batch to out.
    def batch(number, indices):
        return lambda part, out: images.read(indices[part], out=out)

    return batch


def _in_chunks(read, count, size, memory):
    # Yield (slice, images), a few images at a time, each time in the same memory.
    few = max(1, _CHUNK // (size**2 * 3))
    space = memory.empty((min(few, count), size, size, 3), np.uint8)
    for start in range(0, count, few):
        part = slice(start, min(start + few, count))
        images = space[: part.stop - start]
        read(part, images)
        yield part, images

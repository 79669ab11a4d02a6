"""Crops, reflections, colour noise and the mean (paper, sections 2 and 4.1), as pure functions.

Every draw is a function of the seed, the epoch and the image; nothing here remembers anything. `Cropper` carries the
draws out, on the host or on a device, with the same bits.
"""

from typing import NamedTuple

import numpy as np

from tinyalex import randomness
from tinyalex.kernels import cut as fast


class AugmentParams(NamedTuple):
    """What chance decided for n images.

    Attributes
    ----------
    offsets : int64 (n, 2)
        Top and left of every crop.
    flips : bool (n,)
        Which crops are reflected.
    shifts : float32 (n, 3), or None
        Grey levels to add to every pixel; None without colour noise.
    """

    offsets: np.ndarray
    flips: np.ndarray
    shifts: np.ndarray | None = None

    def part(self, which):
        """Give the draws of some of the images."""
        return AugmentParams(*(None if draw is None else draw[which] for draw in self))


def positions(size, crop):
    """Count the offsets along one side: 33 for crops of 224 from images of 256.

    The 2012 code draws offsets 0 to 32 both ways, which with reflections makes 33 * 33 * 2 = 2178 variants of an image;
    the paper says 2048 = 32 * 32 * 2.
    """
    return size - crop + 1


def draw_crops(seed, epoch, units, size, crop, flip):
    """Draw where to cut, and whether to reflect.

    Parameters
    ----------
    seed, epoch : int
    units : array of integers (n,)
        What the draw belongs to: an image's number, or a group's where several images share one draw.
    size, crop : int
        Sides of the images and of the crops, in pixels.
    flip : bool
        False: never reflect.

    Returns
    -------
    offsets : int64 (n, 2)
        Top and left, each from 0 to ``size - crop``.
    flips : bool (n,)
    """
    units = np.asarray(units)
    offsets = randomness.below(randomness.key(seed, "crop", epoch), positions(size, crop), units[:, None], np.arange(2))
    flips = randomness.below(randomness.key(seed, "flip", epoch), 2, units).astype(bool)
    return offsets, flips if flip else np.zeros_like(flips)


def draw_colours(seed, epoch, samples, colour, reading, strength):
    """Draw one colour shift an image along the principal components of the training pixels (paper, section 4.1).

    Parameters
    ----------
    seed, epoch : int
    samples : array of integers (n,)
        The images' numbers.
    colour : (deviations (3,), vectors (3, 3))
        From `Dataset.colour`, in grey levels.
    reading : "2012" or "paper"
        "2012": normal draws times the *standard deviations*, in grey levels, as the authors' files have it.
        "paper": normal draws times the *eigenvalues*, taken for pixels from 0 to 1, then brought to grey levels. (For
        pixels from 0 to 255 they would shift an image by more than a thousand grey levels.)
    strength : float
        Standard deviation of the draws, 0.1 in both.

    Returns
    -------
    float32 (n, 3), grey levels to add to every pixel
    """
    deviations, vectors = colour
    spread = deviations if reading == "2012" else deviations**2 / 255.0
    z = randomness.normal(randomness.key(seed, "colour", epoch), np.asarray(samples)[:, None], np.arange(3))
    return (strength * ((z * spread)[:, None, :] * vectors).sum(axis=2)).astype(np.float32)


def centre(size, crop):
    """Give the offset of the centre crop: 16 for 224 from 256."""
    return (size - crop) // 2


def views(size, crop, count):
    """List the crops that a test image is judged by (paper, section 4.1; 2012 for CIFAR-10, too).

    Parameters
    ----------
    size, crop : int
        Sides of the images and of the crops, in pixels.
    count : {1, 9, 10}
        1: the centre. 10: the corners (top left, top right, bottom left, bottom right) and the centre, then the
        reflections of these five in the same order. 9: a grid of 3 x 3, not reflected, row by row, which
        ``convdata_cifar.py`` has in place of the ten that cuda-convnet had at first.

    Returns
    -------
    list of ((top, left), flip)
    """
    middle, end = centre(size, crop), size - crop
    if count == 1:
        return [((middle, middle), False)]
    if count == 9:
        return [((top, left), False) for top in (0, middle, end) for left in (0, middle, end)]
    if count != 10:
        raise ValueError(f"views: {count} will not do; use 1, 9 or 10")
    places = [(0, 0), (0, end), (end, 0), (end, end), (middle, middle)]
    return [(place, flip) for flip in (False, True) for place in places]


class Cropper:
    """Makes a network's input of images: crops, some reflected, less the mean, with shifted colours, scaled.

    Parameters
    ----------
    mean : float32 (S, S, 3)
    crop : int
        Side of the crops, in pixels.
    matched : bool
        True: every pixel loses the mean at its own place, so the mean is cut and reflected with the image.
        False: the mean's centre crop is subtracted, wherever the crop was cut (as in 2012).
    factors : sequence of float
        What the result is multiplied by, one after the other. After a colour shift the 2012 code divides by
        1 + strength (1.1); test images it neither shifts nor divides.
    """

    def __init__(self, mean, crop, matched, factors=()):
        self.crop, self.matched, self.factors = crop, matched, [np.float32(factor) for factor in factors if factor != 1]
        middle = centre(len(mean), crop)
        self._mean, self._mirrored = mean, np.ascontiguousarray(mean[:, ::-1])
        self._fixed = np.ascontiguousarray(mean[middle : middle + crop, middle : middle + crop])

    def __call__(self, images, draws, out=None):
        """Cut on the host, image by image, so that each stays in cache until it is done.

        Parameters
        ----------
        images : uint8 (n, S, S, 3)
        draws : AugmentParams
        out : float32 (n, crop, crop, 3), optional
            Where the results go; each of the n contiguous.

        Returns
        -------
        float32 (n, crop, crop, 3)
        """
        crop = self.crop
        out = np.empty((len(images), crop, crop, 3), np.float32) if out is None else out
        turned = np.empty((crop, crop, 3), np.uint8)
        shifts = None if draws.shifts is None else np.tile(draws.shifts, (1, crop))  # a shift for a row of pixels
        for number, (image, (top, left), flip) in enumerate(zip(images, draws.offsets, draws.flips, strict=True)):
            window, x = image[top : top + crop, left : left + crop], out[number]
            if flip:
                for channel in range(3):  # long inner loops: bytes one by one, five times as fast as pixels of three
                    turned[..., channel] = window[:, ::-1, channel]
                window, left = turned, images.shape[2] - crop - left
            mean = self._mirrored if flip else self._mean
            np.subtract(window, mean[top : top + crop, left : left + crop] if self.matched else self._fixed, out=x)
            x = x.reshape(crop, 3 * crop)
            if shifts is not None:
                x += shifts[number]
            for factor in self.factors:
                x *= factor
        return out

    def on(self, device):
        """Return the same for images on a device: ``cut(images, offsets, flips, shifts=None)``, all arrays of it.

        Of n images it makes as many crops as there are offsets, n times the views of each, side by side.
        """
        xp, crop = device.xp, self.crop
        with device:
            mean, places = device.put(self._mean if self.matched else self._fixed), xp.arange(crop)

        def cut(images, offsets, flips, shifts=None):
            if device.has_cuda_kernels(mean.dtype) and len(self.factors) < 3:
                return fast.cut(device, images, offsets, flips, shifts, mean, crop, self.matched, self.factors)
            across = xp.where(flips[:, None], crop - 1 - places, places)
            rows = (offsets[:, :1] + places)[:, :, None]  # (n, crop, 1)
            columns = (offsets[:, 1:] + across)[:, None, :]  # (n, 1, crop)
            numbers = xp.arange(len(offsets)) // (len(offsets) // len(images))
            x = images[numbers[:, None, None], rows, columns] - (mean[rows, columns] if self.matched else mean)
            if shifts is not None:
                x += shifts[:, None, None, :]
            for factor in self.factors:
                x *= factor
            return x

        return cut

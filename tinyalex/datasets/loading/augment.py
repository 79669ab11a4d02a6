"""Crops, reflections, colour noise and the mean (paper, sections 2 and 4.1), as pure functions.

To crop differently change this file: `draw_crops` chooses where to crop in training, `views` where in a test, and
`Cropper` computes the network's input on the host or on a device, with the same bits. A GPU with kernels runs the CUDA
form of `Cropper` in `tinyalex.kernels.cut`, which has to be changed with it. Everything random depends on the seed, the
epoch and the image alone.
"""

from typing import NamedTuple

import numpy as np

from tinyalex import randomness
from tinyalex.kernels import cut as fast


class AugmentParams(NamedTuple):
    """How to crop n images, as drawn at random in training or fixed in a test.

    Attributes
    ----------
    offsets : int64 (n, 2)
        Top and left of every crop.
    flips : bool (n,)
        Which crops are reflected left to right.
    shifts : float32 (n, 3), or None
        Grey levels to add to every pixel; None: no colour noise.
    """

    offsets: np.ndarray
    flips: np.ndarray
    shifts: np.ndarray | None = None

    def select(self, rows):
        """Return the parameters of some of the images."""
        return AugmentParams(*(None if array is None else array[rows] for array in self))


def positions(size, crop):
    """Return the number of offsets along one side: 33 for crops of 224 from images of 256.

    The 2012 code draws offsets 0 to 32 both ways, which with reflections makes 33 * 33 * 2 = 2178 variants of an image;
    the paper says 2048 = 32 * 32 * 2.
    """
    return size - crop + 1


def draw_crops(seed, epoch, units, size, crop, flip):
    """Draw where to crop, and whether to reflect.

    Parameters
    ----------
    seed, epoch : int
    units : array of integers (n,)
        Equal units get equal crops: an image's number, or the number of a group of images that share one crop.
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
    """Draw one colour shift per image along the principal components of the training pixels (paper, section 4.1).

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
    """Return the offset of the centre crop: 16 for 224 from 256."""
    return (size - crop) // 2


def views(size, crop, count):
    """List the crops of a test image whose predictions are averaged (paper, section 4.1; also 2012 for CIFAR-10).

    Parameters
    ----------
    size, crop : int
        Sides of the images and of the crops, in pixels.
    count : {1, 9, 10}
        1: the centre. 10: the corners (top left, top right, bottom left, bottom right) and the centre, then the
        reflections of these five in the same order. 9: a grid of 3 x 3, not reflected, row by row, as in the 2012
        ``convdata_cifar.py``; cuda-convnet's first version took ten there as well.

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
        raise ValueError(f"views: {count} is not supported; use 1, 9 or 10")
    offsets = [(0, 0), (0, end), (end, 0), (end, end), (middle, middle)]
    return [(offset, flip) for flip in (False, True) for offset in offsets]


class Cropper:
    """Makes a network's input from images: crop, reflect some, subtract the mean, shift the colours, scale.

    Parameters
    ----------
    mean : float32 (S, S, 3)
    crop : int
        Side of the crops, in pixels.
    matched : bool
        True: the mean is cropped and reflected with the image, so each pixel loses the mean at its own position.
        False: the mean's centre crop is subtracted, wherever the crop is (as in 2012).
    factors : sequence of float
        The result is multiplied by each, one after the other. The 2012 code divides by 1 + strength (1.1) after a
        colour shift; it neither shifts nor divides test images.
    """

    def __init__(self, mean, crop, matched, factors=()):
        self.crop, self.matched, self.factors = crop, matched, [np.float32(factor) for factor in factors if factor != 1]
        middle = centre(len(mean), crop)
        self._mean, self._mirrored_mean = mean, np.ascontiguousarray(mean[:, ::-1])
        self._fixed = np.ascontiguousarray(mean[middle : middle + crop, middle : middle + crop])

    def __call__(self, images, params, out=None):
        """Crop on the host, image by image, so that each stays in cache until it is done.

        Parameters
        ----------
        images : uint8 (n, S, S, 3)
        params : AugmentParams
        out : float32 (n, crop, crop, 3), optional
            Array for the results; each of the n has to be contiguous.

        Returns
        -------
        float32 (n, crop, crop, 3)
        """
        crop = self.crop
        out = np.empty((len(images), crop, crop, 3), np.float32) if out is None else out
        mirrored = np.empty((crop, crop, 3), np.uint8)
        shifts = None if params.shifts is None else np.tile(params.shifts, (1, crop))  # one shift per row of pixels
        for number, (image, (top, left), flip) in enumerate(zip(images, params.offsets, params.flips, strict=True)):
            window, x = image[top : top + crop, left : left + crop], out[number]
            if flip:
                for channel in range(3):  # a loop over single bytes is five times as fast as one over pixels
                    mirrored[..., channel] = window[:, ::-1, channel]
                window, left = mirrored, images.shape[2] - crop - left
            mean = self._mirrored_mean if flip else self._mean
            np.subtract(window, mean[top : top + crop, left : left + crop] if self.matched else self._fixed, out=x)
            x = x.reshape(crop, 3 * crop)
            if shifts is not None:
                x += shifts[number]
            for factor in self.factors:
                x *= factor
        return out

    def on(self, device):
        """Return the function that crops on a device: ``crop(images, offsets, flips, shifts=None)``, of device arrays.

        From n images it makes as many crops as there are offsets: the views of each image in consecutive rows.
        """
        xp, side = device.xp, self.crop
        with device:
            mean, steps = device.put(self._mean if self.matched else self._fixed), xp.arange(side)

        def crop(images, offsets, flips, shifts=None):
            if device.has_cuda_kernels(mean.dtype) and len(self.factors) < 3:
                return fast.cut(device, images, offsets, flips, shifts, mean, side, self.matched, self.factors)
            across = xp.where(flips[:, None], side - 1 - steps, steps)
            rows = (offsets[:, :1] + steps)[:, :, None]  # (n, side, 1)
            columns = (offsets[:, 1:] + across)[:, None, :]  # (n, 1, side)
            numbers = xp.arange(len(offsets)) // (len(offsets) // len(images))
            x = images[numbers[:, None, None], rows, columns] - (mean[rows, columns] if self.matched else mean)
            if shifts is not None:
                x += shifts[:, None, None, :]
            for factor in self.factors:
                x *= factor
            return x

        return crop

"""Crops, reflections, colour noise and the mean (paper, sections 2 and 4.1), as pure functions.

Every draw is a function of the seed, the epoch and the image; nothing here remembers anything.
"""

import numpy as np

from tinyalex import randomness


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


def centre(size, crop):
    """Give the offset of the centre crop: 16 for 224 from 256."""
    return (size - crop) // 2


def cut(images, mean, offsets, flips, crop, matched):
    """Cut crops out of images, reflect some, and subtract the mean.

    Parameters
    ----------
    images : uint8 (n, S, S, 3)
    mean : float32 (S, S, 3)
    offsets : integers (n, 2)
        Top and left of every crop.
    flips : bool (n,)
    crop : int
    matched : bool
        True: every pixel loses the mean at its own place, so the mean is cut and reflected with the image.
        False: the mean's centre crop is subtracted, wherever the crop was cut (as in 2012).

    Returns
    -------
    float32 (n, crop, crop, 3)
    """
    y = np.empty((len(images), crop, crop, 3), np.float32)
    middle = centre(images.shape[1], crop)
    fixed = mean[middle : middle + crop, middle : middle + crop]
    for image, (top, left), flip, out in zip(images, offsets, flips, y, strict=True):
        window = np.s_[top : top + crop, left : left + crop]
        step = -1 if flip else 1
        np.subtract(image[window][:, ::step], mean[window][:, ::step] if matched else fixed, out=out)
    return y


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


def shift_colours(x, shifts, reading, strength):
    """Add colour shifts (n, 3) to images (n, c, c, 3), in place; in the 2012 reading divide by 1 + strength (1.1) then.

    Test images were neither shifted nor divided.
    """
    for channel in range(3):  # long inner loops: twice as fast as adding (n, 1, 1, 3)
        x[..., channel] += shifts[:, None, None, channel]
    if reading == "2012":
        x *= np.float32(1.0 / (1.0 + strength))

"""
Lesson 9: 2048 images from one
==============================

:Question: How many different training images does one photograph give, and how strong is the colour noise?
:Paper: §4.1.
:At the end: you have counted the crops, found the principal colours of a photograph, and compared three readings of one
    formula.
:Takes: 4 s on two cores.
:Run: ``python lessons/09_augmentation.py``

Guess first: "random 224 x 224 patches (and their horizontal reflections) from the 256 x 256 images [...] increases the
size of our training set by a factor of 2048". Is that the right number?
"""

# %%
# Crops and reflections
# ---------------------
# A 224-pixel window can begin at pixel 0, 1, ..., 32 of 256: **33** offsets a side. 33 x 33 x 2 = **2178**. The paper's
# 2048 is 32 x 32 x 2; the authors' program uses all 33 offsets, and so does the package.

import matplotlib.pyplot as plt
import numpy as np
from shared import BLUE, GREEN, VERMILION, bare, keep, photograph

from tinyalex.datasets.loading import augment
from tinyalex.datasets.statistics import pixel_sums, principal_colours
from tinyalex.randomness import key, normal

picture = photograph(256)
offsets = len([start for start in range(256) if start + 224 <= 256])
print(f"{offsets} offsets a side, {offsets * offsets * 2} variants; the paper says {32 * 32 * 2}")
assert augment.positions(256, 224) == offsets == 33

corners, flips = augment.draw_crops(seed=0, epoch=0, units=np.arange(20000), size=256, crop=224, flip=True)
assert (corners.min(), corners.max()) == (0, 32)
print(f"20,000 draws: offsets from {corners.min()} to {corners.max()}, reflected {flips.mean():.1%}")
assert abs(flips.mean() - 0.5) < 0.02

# %%
# In 2012, **32** consecutive images shared one crop (``crop_chunk``), so a minibatch of 128 had four different crops.
# The recipe ``original`` does the same; ``paper`` draws a crop for each image.
#
# The colours of a photograph
# ---------------------------
# "We perform PCA on the set of RGB pixel values." Take every pixel as a point in RGB space. The axis of largest
# variance is brightness, because red, green and blue are strongly correlated. The eigenvectors of the covariance matrix
# are the axes, and its eigenvalues are the *variances* along them.

pixels = picture.reshape(-1, 3).astype(float)
values, vectors = np.linalg.eigh(np.cov(pixels.T, bias=True))
total, products = pixel_sums(picture[None])
deviations, axes_found = principal_colours(len(pixels), total.sum(axis=(0, 1)), products)
assert np.allclose(deviations**2, values, rtol=1e-9) and np.allclose(np.abs((vectors * axes_found).sum(axis=0)), 1)
print("standard deviations along the axes, in grey levels:", np.round(deviations[::-1], 1))
print("axis of largest variance:", np.round(axes_found[:, 2], 2))
assert (axes_found[:, 2] > 0.4).all()

# %%
# One formula, three readings
# ---------------------------
# "We add multiples of the found principal components, with magnitudes proportional to the corresponding *eigenvalues*
# times a random variable drawn from a Gaussian with mean zero and standard deviation 0.1." The authors published their
# axes for ImageNet; the standard deviations are 121.78, 37.09 and 19.72 grey levels. The standard deviation of the
# shift along the first axis is then:
#
# - by eigenvalues, pixels from 0 to 255: 0.1 x 121.78² = **1483** grey levels. Every image would be black or white.
# - by eigenvalues, pixels from 0 to 1, as in most re-implementations: **5.8** grey levels.
# - by *standard deviations*, as in the authors' program (the array is called ``stdevs``): **12.2** grey levels.

deviation = 121.7801
literal, unit, program = 0.1 * deviation**2, 0.1 * deviation**2 / 255, 0.1 * deviation
print(f"standard deviation of the shift along the first axis: {literal:.0f}, {unit:.1f} or {program:.1f} grey levels")

colour = (deviations, axes_found)
many = augment.draw_colours(0, 0, np.arange(20000), colour, "2012", 0.1).astype(float)
expected = 0.1**2 * (axes_found * deviations**2) @ axes_found.T
measured = np.cov(many.T)
print(f"covariance of 20,000 drawn shifts: within {np.abs(measured / expected - 1).max():.1%} of sum of (0.1 s)² p p.T")
assert np.abs(measured / expected - 1).max() < 0.05

z = normal(key(0, "colour", 0), np.arange(3)[:, None], np.arange(3))
by_hand = 0.1 * (z * deviations) @ axes_found.T
assert np.allclose(by_hand, augment.draw_colours(0, 0, np.arange(3), colour, "2012", 0.1), rtol=1e-6)

# %%
# A shift is drawn "only once for all the pixels of a particular training image", so only the brightness and the colour
# of the light change, not the shapes. In 2012 the whole image was then divided by 1.1, and for the last 24 of 91 epochs
# the noise was off. The paper mentions neither.
#
# The package's cropper
# ---------------------
# ``Cropper`` does all of it at once: cut, reflect, subtract the mean, add the shift, divide. By hand it is one line.

mean = np.full((256, 256, 3), pixels.mean(axis=0), np.float32)
cropper = augment.Cropper(mean, 224, matched=True, factors=[1 / 1.1])
params = augment.AugmentParams(corners[:3], flips[:3], by_hand.astype(np.float32))
crops = cropper(np.stack([picture] * 3), params)
for image, (top, left), flip, shift in zip(crops, corners, flips, by_hand, strict=False):
    window = (picture.astype(float) - mean + shift)[top : top + 224, left : left + 224] / 1.1
    assert image.shape == (224, 224, 3) and np.allclose(image, window[:, ::-1] if flip else window, atol=1e-3)
print("tinyalex.datasets.loading.augment.Cropper agrees")

# %%
# What it looks like
# ------------------

figure, axes = plt.subplot_mosaic("Cabcd;Cefgh", figsize=(9.8, 3.7), width_ratios=[1.75, 1, 1, 1, 1])
some = pixels[::23]
axes["C"].scatter(some[:, 0], some[:, 2], c=some / 255, s=4, rasterized=True)
for axis, spread, shade in zip(axes_found.T[::-1], deviations[::-1], (VERMILION, BLUE, GREEN), strict=True):
    ends = pixels.mean(axis=0)[:, None] + axis[:, None] * np.array([-1.5, 1.5]) * spread
    axes["C"].plot(ends[0], ends[2], color=shade, lw=2.5)
axes["C"].set(title="the pixels and their axes", xlabel="red", ylabel="blue", aspect="equal")
for name, (top, left), flip in zip("abcd", corners[3:], flips[3:], strict=False):
    window = picture[top : top + 224, left : left + 224]
    axes[name].imshow(window[:, ::-1] if flip else window)
    axes[name].set_title(f"{top}, {left}" + (", mirrored" if flip else ""), fontsize=8, weight="normal")
for name, axis, number in zip("efgh", (2, 2, 1, 1), (-2, 2, -2, 2), strict=True):
    shifted = picture + 0.1 * number * deviations[axis] * axes_found[:, axis]
    axes[name].imshow(np.clip(shifted, 0, 255).astype(np.uint8))
    colour_of = {2: "first", 1: "second"}[axis]
    axes[name].set_title(f"{colour_of} axis, {number:+d} σ", fontsize=8, weight="normal")
bare(*(axes[name] for name in "abcdefgh"))
keep(figure, "09_augmentation")

# %%
# Try
# ---
# - Call ``draw_colours`` with ``"paper"`` instead of ``"2012"``: how much weaker is the shift along the second axis?
#
#   .. answer::
#
#      Five times: 0.93 grey levels instead of 4.87. Along the first axis it is 5.57 instead of 11.90, because
#      eigenvalues are squares, which widens the gap between the axes.
#
# - Draw the same epoch twice, and then the next one: which numbers change?
#
#   .. answer::
#
#      Drawn twice, an epoch has the same crops, reflections and shifts; the next epoch has others. They are functions
#      of seed, epoch and image.
#
# - Shift along the first axis alone by 10 σ. Would you still recognise the photograph?
#
#   .. answer::
#
#      Yes: 10 σ are 119 grey levels of brightness, so much of the picture becomes white or black, but what remains has
#      the same edges.
#
# Exercise
# --------
# Cut, reflect and subtract the mean in ``lessons/exercises/ex09_crop.py``. Take care of the mean when the image is
# mirrored. Then ``pytest -m ex09``.

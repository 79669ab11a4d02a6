"""
Lesson 5: Overlapping pooling, and 224 or 227 pixels
====================================================

:Question: What does pooling with z = 3 and s = 2 improve, and how can 224 pixels become 55?
:Paper: §3.4; §3.5 and footnote 4 for the sizes.
:At the end: you have pooling forward and backward, the sizes of all layers, and an answer that many
    re-implementations have got wrong.
:Takes: 3 s on two cores.
:Run: ``python lessons/05_pooling.py``

"If we set s = z, we obtain traditional local pooling [...]. If we set s < z, we obtain overlapping pooling. This is
what we use throughout our network, with s = 2 and z = 3."
"""

# %%
# Forward in loops, then by slices
# --------------------------------
# A unit looks at z x z pixels and returns the largest. The fast form loops over the *offsets in the window* instead of
# over the units, and handles all units at once with a strided slice. For z = 3 there are nine slices.

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle
from shared import BLUE, PALE, VERMILION, bare, keep, measured, photograph

from tinyalex import gradcheck
from tinyalex.layers import Conv2d, MaxPool
from tinyalex.randomness import key, normal


def positions(size, window, stride, ceil):
    return 1 + (-(-(size - window) // stride) if ceil else (size - window) // stride)


def pool_loops(x, z, s):
    count = positions(len(x), z, s, ceil=True)
    return np.array([[x[s * i : s * i + z, s * j : s * j + z].max() for j in range(count)] for i in range(count)])


def pool_slices(x, z, s):
    count = positions(len(x), z, s, ceil=True)
    padded = np.pad(x, (0, s * (count - 1) + z - len(x)), constant_values=-np.inf)
    y = np.full((count, count), -np.inf)
    for u in range(z):
        for v in range(z):
            y = np.maximum(y, padded[u : u + s * count : s, v : v + s * count : s][:count, :count])
    return y


x = normal(key(0, "lesson 5"), np.arange(121)).reshape(11, 11)
for z in (2, 3):
    assert np.array_equal(pool_loops(x, z, 2), pool_slices(x, z, 2))
    assert np.array_equal(MaxPool(z, 2).forward(x[None, :, :, None])[0, :, :, 0], pool_loops(x, z, 2))
print("loops, slices and tinyalex.layers.MaxPool agree, for z = 2 and z = 3")

# %%
# Backward: to the maximum
# ------------------------
# The output is the largest pixel, so that pixel alone gets the gradient. Where windows overlap, one bright pixel can be
# the maximum of up to four windows; it gets the sum of their gradients. What if two pixels tie? The function is not
# differentiable there, and either is a valid subgradient. The package gives the gradient to the first maximum in
# row-major order. The authors' kernels of 2012 gave it to *every* tied pixel.

collected = {}
for z in (2, 3):
    layer = MaxPool(z, 2)
    y = layer.forward(x[None, :, :, None])
    collected[z] = layer.backward(np.ones_like(y))[0, :, :, 0]
    assert [result.verdict for result in gradcheck.check(layer, x[None, :, :, None])] == ["ok"]
    print(f"z = {z}: {y.shape[1]} x {y.shape[2]} units, {np.count_nonzero(collected[z])} pixels get a gradient, "
          f"one of them {collected[z].max():.0f} times")  # fmt: skip
assert collected[2].max() == 1 and collected[3].max() > 1

tied = np.zeros((1, 3, 3, 1))
layer = MaxPool(3, 2)
layer.forward(tied)
assert layer.backward(np.ones((1, 1, 1, 1)))[0, 0, 0, 0] == 1
print("nine equal pixels:", gradcheck.check(MaxPool(3, 2), tied)[0].verdict)

# %%
# 224 or 227?
# -----------
# "The first convolutional layer filters the 224 x 224 x 3 input image with 96 kernels of size 11 x 11 x 3 with a stride
# of 4 pixels." Figure 2 draws its output 55 wide. But (224 - 11) / 4 = **53.25**. Rounded down, there are 53 steps and
# 54 positions, and the last row and column of pixels are never read: 53 x 4 + 11 = 223. Many readers conclude that the
# paper "must mean 227", because (227 - 11) / 4 + 1 is exactly 55, and many re-implementations use 227.
#
# The authors' program says otherwise. Its crops are 256 - 2 x border pixels, always *even*, so never 227. And it rounds
# the number of steps **up**: 54 steps, 55 positions. The last window extends 3 pixels beyond the edge and reads zeros
# there. Both nets have the same shapes; only one of them is AlexNet.

print(f"(224 - 11) / 4 = {(224 - 11) / 4}")
for size, ceil in ((224, False), (224, True), (227, False)):
    print(f"{size} pixels, rounded {'up  ' if ceil else 'down'}: {positions(size, 11, 4, ceil)} positions")
assert [positions(224, 11, 4, True), positions(227, 11, 4, False), positions(224, 11, 4, False)] == [55, 55, 54]

picture = photograph(224)[None] / 255.0
padded = np.pad(picture, ((0, 0), (0, 3), (0, 3), (0, 0)))
options = {"channels": 3, "maps": 8, "kernel": 11, "stride": 4}
rounded_up = Conv2d(**options, rounding="ceil").named("conv1").build(dtype="float64").forward(picture)
exact = Conv2d(**options).named("conv1").build(dtype="float64").forward(padded)
assert rounded_up.shape == (1, 55, 55, 8) and np.array_equal(rounded_up, exact)
print("224 rounded up equals 227 whose last 3 rows and columns are zero, to the bit")

# %%
# From 55 on, z = 3 and s = 2 fit exactly, so rounding does not matter again.

sizes = [55]
for _ in range(3):
    assert positions(sizes[-1], 3, 2, True) == positions(sizes[-1], 3, 2, False)
    sizes.append(positions(sizes[-1], 3, 2, True))
print("overlapping pools:", " -> ".join(map(str, sizes)))
assert sizes == [55, 27, 13, 6]

# %%
# Is it worth it?
# ---------------
# The paper: 0.4 points of top-1 error, 0.3 of top-5. The run notes (2012: ``layers-147.cfg``) give 41.058 % without
# overlap and 40.664 % with it, on 50,000 images; the difference of two such numbers has a standard error of about
# 0.3 points. Here are the test errors of the lessons' small net with five seeds (``lessons/measure.py``):

for data, rows in measured("all", "no overlap").items():
    pairs = [(with_[1], without[1]) for with_, without in rows]
    better = sum(with_ < without for with_, without in pairs)
    print(f"{data}: overlapping {np.mean([p[0] for p in pairs]):.1%}, not {np.mean([p[1] for p in pairs]):.1%}, "
          f"overlap better for {better} of {len(rows)} seeds")  # fmt: skip
    assert data != "cifar10" or better == 0

# %%
# On drawn images the seeds disagree, and differ more among themselves than the two kinds of pooling do. On 720
# photographs of CIFAR-10 overlap is worse for all five, **72.8%** against **70.6%**. At which size would it show? An
# error p on n images has a standard error of sqrt(p (1 - p) / n), the difference of two such errors one that is sqrt(2)
# times as large. For 0.39 points to be two standard errors, n has to be 2 p (1 - p) (2 / 0.0039)².

p, points, trials = 0.4066, 0.0039, 480
needed = 2 * p * (1 - p) * (2 / points) ** 2
print(f"test images for {points:.2%} to be two standard errors: {needed:,.0f}")
p = np.mean([row[0][1] for row in measured("all")["middles"]])
print(f"our {trials} test images, error {p:.0%}: two standard errors are {2 * np.sqrt(2 * p * (1 - p) / trials):.1%}")

# %%
# **126,904** test images, more than twice as many as ImageNet has for validation, and a net that is trained as far as
# AlexNet. Our 480 images show only differences of **4.2%** or more, and the spread between seeds comes on top. Lesson
# 16's exercise does better on the same images: two nets that are mostly right on the same ones differ by less chance.
#
# What it looks like
# ------------------

figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.5))
for axis, z, colour in zip(axes, (2, 3), (BLUE, VERMILION), strict=False):
    axis.imshow(x, "gray", extent=(0, 11, 11, 0))
    for i in range(positions(11, z, 2, True)):
        for j in range(positions(11, z, 2, True)):
            axis.add_patch(Rectangle((2 * j + 0.08, 2 * i + 0.08), min(z, 11 - 2 * j) - 0.16, min(z, 11 - 2 * i) - 0.16,
                                     fill=False, color=colour, lw=1, alpha=0.8))  # fmt: skip
    rows, columns = np.nonzero(collected[z])
    axis.scatter(columns + 0.5, rows + 0.5, 30 * collected[z][rows, columns] ** 1.5, color=colour, edgecolor="white")
    axis.set_title(f"z = {z}, s = 2: pixels with gradient")
corner = axes[2]
corner.imshow(np.clip(4 * picture[0, 200:, 200:], 0, 1), extent=(200, 224, 224, 200))
for step, colour in ((53, BLUE), (54, VERMILION)):
    corner.add_patch(Rectangle((4 * step, 4 * step), 11, 11, fill=False, color=colour, lw=2))
corner.add_patch(Rectangle((200, 200), 24, 24, fill=False, color=PALE))
corner.text(227.6, 228.6, "the 55th window", color=VERMILION, ha="right", va="top")
corner.set(xlim=(200, 229), ylim=(231, 200), title="the corner of 224 pixels, brightened", facecolor="#f4f4f4")
bare(*axes)
keep(figure, "05_pooling")

# %%
# Try
# ---
# - Pool with z = 3, s = 3: how many pixels of the 11 x 11 get a gradient?
#
#   .. answer::
#
#      16: there are 4 x 4 windows, which do not overlap, so each has a maximum of its own.
#
# - Average instead: ``AvgPool`` divides by the number of pixels *inside* the image. For which windows does that matter?
#
#   .. answer::
#
#      For those that hang over the right or the bottom edge: with z = 2 on 11 pixels the last window has one column.
#      With z = 3 and s = 2 none does.
#
# - Give 224 pixels to a ``Conv2d`` with ``rounding="floor"``, and compute the sizes down to fc6. How many weights
#   change?
#
#   .. answer::
#
#      None, if the pools still round up: 54, 27, 13, 6. If they round down too it is 54, 26, 12, 5, and fc6 has (36 -
#      25) x 256 x 4096 = 11,534,336 weights fewer.
#
# Exercise
# --------
# Write max pooling's backward pass in ``lessons/exercises/ex05_pooling.py``: overlapping windows add up, a tie goes to
# the first maximum. Then ``pytest -m ex05``.

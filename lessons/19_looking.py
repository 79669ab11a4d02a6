"""
Lesson 19: What the net looks at
================================

:Question: The net says "red-green rings". Which pixels made it say so, and what does each of its units look for?
:Paper: §6.1, "the network's visual knowledge"; and Zeiler and Fergus, 2013, who looked into such a net a year later.
:At the end: you have found the pixels that a net needs in three ways, and have carried the output of a unit back to
    the image by hand: switches, a ReLU on the way back, transposed kernels.
:Takes: 15 s on two cores.
:Run: ``python lessons/19_looking.py``

"Another way to probe the network's visual knowledge is to consider the feature activations induced by an image at the
last, 4096-dimensional hidden layer." Lesson 15 did that. Here we go back, from the activations to the image.
"""

# %%
# A net, and what it should look at
# ---------------------------------
# ``data/runs/shapes/weights.safetensors`` has the weights with which ``tinyalex train`` ends: a net of two columns that
# reads 56 x 56 pixels of drawn images. The class of such an image is the pattern that fills an object. Everything else
# is drawn independently of the class. So we know what the net should look at, and can find these pixels: draw the same
# image again with the other patterns. The pixels that change are those of the pattern.

import matplotlib.pyplot as plt
import numpy as np
from shared import HERE, VERMILION, bare, keep

from tinyalex.datasets import shapes
from tinyalex.explain.deconvolution import deconvolution
from tinyalex.explain.occlusion import occlusion
from tinyalex.explain.receptive_field import receptive_field, window
from tinyalex.explain.saliency import input_gradient, saliency
from tinyalex.explain.strongest import strongest_images
from tinyalex.figures import overlay, projected, salient
from tinyalex.network import alexnet
from tinyalex.recipes import recipe
from tinyalex.runs import run_folder

RUN = HERE.parent / "data" / "runs" / "shapes"
run = run_folder.load(RUN / "weights.safetensors")
settings = recipe.load(RUN / "recipe.toml", ["net.convolution=im2col"])
readable = alexnet.build(settings.net, settings.init, dtype="float64")  # the same weights, without Winograd
readable.load(run.network.state())

labels = np.arange(240) % 12
pictures = shapes.draw(0, "test", np.arange(240), labels)[:, 4:60, 4:60]  # (240, 56, 56, 3), what the net reads
inputs = (pictures - run.mean[4:60, 4:60]) * settings.data.scale
wrong = (run.network.predict(inputs).argmax(axis=1) != labels).sum()
print(f"{wrong} of 240 test images are classified wrongly")

redrawn = [shapes.draw(0, "test", np.arange(24), (labels[:24] + other) % 12) for other in range(1, 12)]
changes = np.abs(np.array(redrawn, int)[:, :, 4:60, 4:60] - pictures[:24]).max(axis=(0, 4))
pattern = changes > 8  # (24, 56, 56)
print(f"the pattern covers {pattern.mean():.0%} of the pixels")
assert wrong <= 3 and 0.3 < pattern.mean() < 0.5

# %%
# Receptive fields
# ----------------
# Which pixels can a unit see at all? Go from the image to the unit, layer by layer, with two numbers. A unit of a layer
# sees r pixels in a row. The pixels that its neighbour sees begin j pixels further on. A unit of the next layer reads k
# neighbouring units: the first sees r pixels, and each of the other k - 1 adds j pixels. With stride s the next unit
# begins s units further on, which are s j pixels:
#
# .. math::
#
#    r' = r + (k - 1) j \\
#    j' = s j

names = {layer: layer.name.split()[0].rstrip("a") for _, layer in readable.layers()}
r, j, fields = 1, 1, {}
for layer, name in names.items():
    if name.startswith(("conv", "pool")):
        k, s, _ = window(layer)  # conv1: 11, 2; pools: 3, 2; conv2: 5, 1; conv3 to conv5: 3, 1
        r, j = r + (k - 1) * j, s * j
        fields[name] = r
print("pixels that a unit sees, in a row:", fields)

# %%
# A unit of conv2 sees **31** pixels, one of conv3 **55**. For conv5 there are **87**, more than the 56 of the image.
#
# Measure it. A sum with NaN ("not a number") in it is NaN, and so is a maximum. Make 56 copies of an image; write NaN
# into row 0 of the first, row 1 of the second, and so on. Then exactly the units that read this row become NaN.

copies, reached = np.repeat(inputs[:1], 56, axis=0), {}
copies[np.arange(56), np.arange(56)] = np.nan


def forward_hook(layer, y):
    if names[layer] in fields:
        reached[layer] = np.isnan(y).any(axis=(2, 3))  # (row of the image, row of units)


xs = [copies]
with np.errstate(invalid="ignore"):
    for stage in readable.trunk:
        xs = stage.forward(xs, readable.devices, forward_hook=forward_hook)
for layer, table in reached.items():
    middle = table.shape[1] // 2
    rows, field = np.flatnonzero(table[:, middle]), receptive_field(readable, layer, middle, middle)
    assert (rows[0], rows[-1] + 1) == (field.top, field.bottom)
    assert len(rows) == fields[names[layer]] or rows[0] == 0 or rows[-1] == 55  # or cut off by the edge
    print(f"{names[layer]}: the unit in row {middle} reads the rows {rows[0]} to {rows[-1]}")
print("tinyalex.explain.receptive_field agrees")

# %%
# Occlusion
# ---------
# What a unit can see need not matter. Cover a square with the mean image, predict again, and move the square. Where the
# probability of the class falls, the net needs what is there.


def covered(x, label, side, stride=6):
    """Return the probability of a class with a square covered, at every position."""
    firsts = np.unique([*range(0, 56 - side, stride), 56 - side])
    tries = np.repeat(x[None], len(firsts) ** 2, axis=0)
    for image, (top, left) in zip(tries, ((t, f) for t in firsts for f in firsts), strict=True):
        image[top : top + side, left : left + side] = 0
    return run.network.predict(tries)[:, label].reshape(len(firsts), -1)


falls = {}
for side in (11, 27):
    found = [occlusion(run.network, x, label, side, 6) for x, label in zip(inputs[:24], labels[:24], strict=True)]
    falls[side] = np.array([each.whole - each.covered.min() for each in found])
    print(f"{side} x {side} covered: the probability falls by {np.median(falls[side]):.1%} in the median of 24 images, "
          f"by {falls[side].max():.1%} at most, by less than 2% for {(falls[side] < 0.02).sum()} images")  # fmt: skip
chosen = int(np.argmax(falls[27]))
assert np.allclose(covered(inputs[chosen], labels[chosen], 27), found[chosen].covered, atol=1e-5)
assert falls[11].max() < 0.02 and np.median(falls[27]) > 0.2 and (falls[27] < 0.02).any()
print("tinyalex.explain.occlusion agrees")

# %%
# Squares of 11 x 11 pixels change next to nothing in these images, wherever they are, **0.8%** at most: the pattern
# repeats, and the rest of it is enough. Squares of 27 x 27 do change much in most images, but not in all: for a few the
# rest of the pattern is still enough. So try several sizes, on several images, before you say that a net does not need
# something.
#
# Saliency
# --------
# Occlusion takes many forward passes. One backward pass gives the change of the class's score z with every pixel. It
# does not end at the weights of the first layer, but goes on to the image. The *saliency* of a pixel is the largest
# absolute value that this gradient has in its three colours. First a check of three of the numbers:

x, label = inputs[chosen], labels[chosen]
gradient = input_gradient(readable, x[None], [label])[0]  # (56, 56, 3)
for where in ((20, 30, 0), (28, 28, 1), (40, 22, 2)):
    step = np.zeros(x.shape)
    step[where] = 1e-5
    up, down = (readable.forward((x + change)[None])[0, label] for change in (step, -step))
    assert np.isclose((up - down) / 2e-5, gradient[where], rtol=1e-3, atol=1e-6)
untrained, shares = alexnet.build(settings.net, settings.init, seed=2), {}
for name, net in (("trained", run.network), ("untrained", untrained)):
    maps = saliency(net, inputs[:24], labels[:24])  # (24, 56, 56)
    for whose, shift in (("its own", 0), ("another image's", 1)):
        where = np.roll(pattern, shift, axis=0)
        shares[name, whose] = np.mean([each[part].sum() / each.sum() for each, part in zip(maps, where, strict=True)])
        print(f"{name}: {shares[name, whose]:.0%} of the saliency is on {whose} pattern")
assert shares["trained", "its own"] > shares["trained", "another image's"] + 0.03
assert abs(shares["untrained", "its own"] - shares["untrained", "another image's"]) < 0.03

# %%
# The pattern has **39%** of the pixels, and **76%** of the trained net's saliency. Is that much? Look at the controls.
# On *another* image's pattern there is nearly as much: objects are in the middle, and the net has learned to look
# there. Only the difference is due to this image. An untrained net, with random weights, has no such difference.
# Compute both controls before you believe a map that looks convincing.
#
# What each map looks for
# -----------------------
# A map of a convolution is the same kernel at all positions. For each map, search the 240 images for the four in which
# its largest output is largest. How many of the four have the same class? There are two controls: the untrained net,
# and four images drawn by lot, of which all 12^4 combinations of classes are counted.

lots = np.indices((12,) * 4).reshape(4, -1, 1) == np.arange(12)  # (4, 12^4, 12): which of the four is of which class
print(f"by lot: {lots.sum(axis=0).max(axis=1).mean() / 4:.0%} of the four are of one class")
pure = {}
for name, net in (("trained", run.network), ("untrained", untrained)):
    for layer in ("conv1", "conv3", "conv5"):
        best = strongest_images(net, inputs, 4, layer)
        classes = [[labels[index] for index, _ in four] for four in best.values() if len(four) == 4]
        pure[name, layer] = np.mean([np.bincount(each).max() / 4 for each in classes])
        print(f"{name}, {layer}: {pure[name, layer]:.0%} of the four are of one class")
assert pure["trained", "conv5"] > pure["trained", "conv1"] + 0.05 > pure["untrained", "conv5"] + 0.2
assert 0.65 < pure["trained", "conv1"] < 0.75 and pure["trained", "conv3"] > 0.8

# %%
# By lot it would be **36%**, and in the untrained net it is about that. The trained net's maps have more images of one
# class, 69 % in conv1, and over 80 % in conv3 and conv5. So conv5 adds little here: the patterns differ in direction,
# width and colour, and the 11 x 11 pixels of conv1 already show these. Photographs of things do not differ in single
# lines and colours; there the later layers have more to add.

outputs, xs = {}, [inputs]
for stage in readable.trunk:
    xs = stage.forward(xs, readable.devices, forward_hook=lambda layer, y: outputs.update({names[layer]: y}))
best = {layer: strongest_images(run.network, inputs, 4, layer) for layer in ("conv2", "conv5")}
largest = outputs["relu5"][..., 0].max(axis=(1, 2))  # of map 0 of column a, in each image
assert [index for index, _ in best["conv5"]["conv5a", 0]] == np.argsort(-largest)[:4].tolist()

# %%
# Deconvolution, by hand
# ----------------------
# These images show what excites a map, but not what in them does so. Zeiler and Fergus keep one output of a layer, set
# all others to 0, and go back to the image:
#
# - Max pooling: put each number where the maximum of its window was. They call these places switches.
# - Normalisation: leave it out, as they do.
# - ReLU: max(0, .) again, of the numbers on their way back. (The gradient passes where the *input* was above 0.)
# - Convolution: add each number times its kernel at its window.
#
# Pool and convolution do the same as in backpropagation (lessons 2 and 5); the other two do not. Here is the way back
# from a unit of conv2 in column a.


def transposed(y, W, stride, pad, side):
    """Add y[i, j] times the kernels at each window; y: (h, w, o), W: (k, k, c, o), result: (side, side, c)."""
    x = np.zeros((side + pad + len(W), side + pad + len(W), W.shape[2]))
    for i, j in np.argwhere(y.any(axis=2)):
        x[stride * i :, stride * j :][: len(W), : len(W)] += W @ y[i, j]
    return x[pad : pad + side, pad : pad + side]


def unpool(y, x, size=3, stride=2):
    """Put y, (h, w, c), where the maxima of the windows of x, (side, side, c), are."""
    back = np.zeros(x.shape)
    for i, j, c in np.argwhere(y):
        part = x[stride * i : stride * i + size, stride * j : stride * j + size, c]
        row, column = np.unravel_index(part.argmax(), part.shape)
        back[stride * i + row, stride * j + column, c] += y[i, j, c]
    return back


(index, unit), weights = best["conv2"]["conv2a", 3][0], readable.state()
y = np.zeros((12, 12, 32))  # conv2a
y[unit.row, unit.column, unit.map] = unit.value
y = transposed(y, weights["conv2a/W"], stride=1, pad=2, side=12)  # (12, 12, 16), pool1a
y = unpool(y, outputs["norm1"][index, ..., :16])  # (24, 24, 16), norm1a and relu1a
y = transposed(np.maximum(y, 0), weights["conv1a/W"], stride=2, pad=0, side=56)  # (56, 56, 3), the image
assert np.allclose(y, deconvolution(readable, inputs[index], unit), atol=1e-6 * np.abs(y).max())
print("tinyalex.explain.deconvolution agrees")

# %%
# Below: the four images for a map of each column, and beside each the deconvolution of its unit in conv5.

figure = plt.figure(figsize=(9.8, 5.6))
above, below = figure.subfigures(2, 1)
picture, maps = pictures[chosen], [saliency(net, x[None], [label])[0] for net in (run.network, untrained)]
titles = ("fields of conv1 to conv3", "needed: 27 x 27 covered", "saliency", "saliency, untrained")
panels = (picture, overlay(picture, found[chosen].drop), *(overlay(picture, each, salient(each)) for each in maps))
axes = above.subplots(1, 4)
for axis, title, panel in zip(axes, titles, panels, strict=True):
    axis.imshow(panel)
    axis.set_title(title)
for layer in [layer for layer in reached if names[layer] in ("conv1", "conv2", "conv3")]:
    top, left, bottom, right = receptive_field(readable, layer, *[reached[layer].shape[1] // 2] * 2)
    axes[0].add_patch(plt.Rectangle((left, top), right - left - 1, bottom - top - 1, fill=False, ec=VERMILION, lw=2))
grid = below.subplots(2, 8)
for row, key in zip(grid, (("conv5a", 0), ("conv5b", 0)), strict=True):
    row[0].set_title(f"{key[0]}, map {key[1]}")
    row[1].set_title("what excites it")
    for number, (index, unit) in enumerate(best["conv5"][key]):
        row[2 * number].imshow(pictures[index])
        row[2 * number + 1].imshow(projected(deconvolution(run.network, inputs[index], unit)))
bare(*axes, *grid.flat)
keep(figure, "19_looking")

# %%
# Try
# ---
# - Let ReLU pass the gradient as usual on the way back (``y * (outputs["relu1"][index, ..., :16] > 0)`` in place of
#   ``np.maximum(y, 0)``), and compare the two pictures. (Run the lines that compute ``y`` a second time, with the
#   result called ``z``. ``plt.imsave("y.png", projected(y))`` draws one.)
#
#   .. answer::
#
#      The correlation of the two is 0.72. With ReLU on the way back the stripes of the image can be seen; with the
#      gradient there are dots in many colours. The gradient also carries back numbers below 0, which weaken the unit.
#
# - ``tinyalex explain IMAGE --run data/runs/shapes/weights.safetensors`` does all this with an image of your own, for
#   example with ``data/pictures/kernels.png``. How much does a square of 11 x 11 change there?
#
#   .. answer::
#
#      The net is sure of coarse level stripes, 98.8 %, and one square makes that 74.2 %. In the drawn images it was at
#      most 0.8 %: a picture of another kind is not as safe.
#
# Exercise
# --------
# After a ReLU all pixels of a window are often 0, and the first of them is not more of a maximum than the others. Write
# an ``unpool`` that shares each number among all maxima of its window, in ``lessons/exercises/ex19_unpool.py``; then
# ``pytest -m ex19``.

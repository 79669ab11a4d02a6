"""
Lesson 19: What the net looks at
================================

:Question: The net says "red-green rings". Which pixels made it say so, and what does each of its units look for?
:Paper: §6.1, "the network's visual knowledge"; and Zeiler and Fergus, 2013, who opened this net a year later.
:At the end: you have found the pixels that a net needs in four ways, and have carried the output of a unit back to the
    image by hand: transposed kernels, switches, and a ReLU on the way back.
:Takes: 20 s on two cores.
:Run: ``python lessons/19_looking.py``

"Another way to probe the network's visual knowledge is to consider the feature activations induced by an image at the
last, 4096-dimensional hidden layer." Lesson 15 did that. Here we go back, from the activations to the image.
"""

# %%
# A net, and what it should look at
# ---------------------------------
# ``data/runs/shapes/weights.safetensors`` has the weights that ``tinyalex train`` ends with: a net of two columns that
# reads 56 x 56 pixels of drawn images. The class of such an image is the pattern that fills an object. Everything else
# is drawn independently of the class. So we know what the net should look at, and can find these pixels: draw the same
# image again with other patterns. The pixels that change are those of the pattern.

import matplotlib.pyplot as plt
import numpy as np
from shared import BLUE, HERE, INK, VERMILION, bare, keep

from tinyalex import figures
from tinyalex.datasets import shapes
from tinyalex.explain.deconvolution import deconvolution
from tinyalex.explain.occlusion import occlusion
from tinyalex.explain.receptive_field import receptive_field, window
from tinyalex.explain.saliency import input_gradient, saliency
from tinyalex.explain.strongest import main_part, strongest_images, unit_gradient
from tinyalex.layers import MaxPool
from tinyalex.network import alexnet
from tinyalex.recipes import recipe
from tinyalex.runs import run_folder

RUN = HERE.parent / "data" / "runs" / "shapes"
run = run_folder.load(RUN / "weights.safetensors")
settings = recipe.load(RUN / "recipe.toml", ["net.convolution=im2col"])  # the readable convolution
network = alexnet.build(settings.net, settings.init, seed=1)
network.load(run.network.state())

labels = np.arange(240) % 12
pictures = shapes.draw(0, "test", np.arange(240), labels)  # (240, 64, 64, 3)
inputs = ((pictures - run.mean) * settings.data.scale)[:, 4:60, 4:60]  # (240, 56, 56, 3)
wrong = (network.predict(inputs).argmax(axis=1) != labels).sum()
print(f"{wrong} of 240 test images are classified wrongly")

redrawn = [shapes.draw(0, "test", np.arange(24), (labels[:24] + other) % 12) for other in range(1, 12)]
changes = np.abs(np.array(redrawn, int) - pictures[:24]).max(axis=(0, 4))  # the largest, (24, 64, 64)
pattern = (changes > 8)[:, 4:60, 4:60]
print(f"the pattern covers {pattern.mean():.0%} of an image")
assert wrong <= 3 and 0.2 < pattern.mean() < 0.6

# %%
# Receptive fields
# ----------------
# Which pixels can a unit see at all? Go from the image to the unit. Let units of a layer see r pixels, and let
# neighbouring units see pixels that are j apart. A layer with windows of k at stride s reads k neighbours:
#
# .. math::
#
#    r' = r + (k - 1) j \\
#    j' = s j

layers = [layer for _, layer in network.layers()]
r, j, fields = 1, 1, {}
for layer in layers:
    if layer.name.startswith(("conv", "pool")):
        k, s, _ = window(layer)
        r, j = r + (k - 1) * j, s * j
        fields[layer.name.split()[0].rstrip("a")] = r
print("fields:", fields)

# %%
# A unit of conv2 sees **31** x 31 pixels, a unit of conv3 **55** x 55. A unit of conv5 could see **87** x 87: more than
# the whole image.
#
# Measure it. NaN, "not a number", makes each sum that it enters NaN. Write NaN into one row of pixels, for each row in
# an image of its own. Then exactly the units that read this row become NaN.

images = np.repeat(inputs[:1], 56, axis=0)
images[np.arange(56), np.arange(56)] = np.nan
reached = {}


def forward_hook(layer, y):
    if y.ndim == 4:
        reached[layer.name.split()[0].rstrip("a")] = np.isnan(y).any(axis=(2, 3))  # (row of the image, row of units)


xs = [images]
with np.errstate(invalid="ignore"):
    for stage in network.trunk:
        xs = stage.forward(xs, network.devices, forward_hook=forward_hook)
for layer in layers:
    name = layer.name.split()[0].rstrip("a")
    if name in fields:
        middle = reached[name].shape[1] // 2
        rows, field = np.flatnonzero(reached[name][:, middle]), receptive_field(network, layer, middle, middle)
        assert (rows[0], rows[-1] + 1) == (field.top, field.bottom)
        assert len(rows) == fields[name] or rows[0] == 0 or rows[-1] == 55
        print(f"{name}: the unit in row {middle} reads rows {rows[0]} to {rows[-1]}, {len(rows)} of 56")
print("tinyalex.explain.receptive_field agrees")

# %%
# Occlusion
# ---------
# What a unit can see need not matter. Cover a square of 11 x 11 pixels with the mean image, predict again, and move the
# square. Where the probability falls, the net needs what is there.


def covered(x, label, side=11, stride=3):
    """Return the probability of a class with a square covered, at every position."""
    firsts = range(0, 56 - side + 1, stride)
    tries = np.repeat(x[None], len(firsts) ** 2, axis=0)
    for image, (top, left) in zip(tries, ((t, f) for t in firsts for f in firsts), strict=True):
        image[top : top + side, left : left + side] = 0
    return network.predict(tries)[:, label].reshape(len(firsts), -1)


found = [occlusion(network, x, label) for x, label in zip(inputs[:24], labels[:24], strict=True)]
chosen = int(np.argmax([each.whole - each.covered.min() for each in found]))
assert np.allclose(covered(inputs[chosen], labels[chosen]), found[chosen].covered, atol=1e-5)
print("tinyalex.explain.occlusion agrees")
lowest = found[chosen].covered.min()
inside, outside = (np.mean([each.drop[where].mean() for each, where in zip(found, masks, strict=True)])
                   for masks in (pattern, ~pattern))  # fmt: skip
print(f"image {chosen}, {run.words[labels[chosen]]}: {found[chosen].whole:.0%}, covered {lowest:.0%}")
print(f"mean fall of the probability where a square covers a pixel of the pattern {inside:.2%}, elsewhere {outside:.2%}")
assert found[chosen].whole - lowest > 0.3 and inside > outside

# %%
# Saliency
# --------
# Occlusion takes hundreds of forward passes. One backward pass tells how the score z of the class changes with every
# pixel: backward does not stop at the first layer's weights, but goes on to the image. First a check of three numbers
# against differences, then a measure: which share of the gradient is on the pattern?

x, label = inputs[chosen], labels[chosen]
exact = alexnet.build(settings.net, settings.init, dtype="float64")
exact.load(network.state())
gradient = input_gradient(exact, x[None], [label])[0]  # (56, 56, 3)
for row, column, colour in ((20, 30, 0), (28, 28, 1), (40, 22, 2)):
    z = []
    for change in (1e-5, -1e-5):
        other = x.astype(float)
        other[row, column, colour] += change
        z.append(exact.forward(other[None])[0, label])
    assert np.isclose((z[0] - z[1]) / 2e-5, gradient[row, column, colour], rtol=1e-3, atol=1e-6)
print("the gradient is right at three pixels")


def on_pattern(net):
    """Return the share of the saliency that is on pixels of the pattern, the mean over 24 images."""
    maps = saliency(net, inputs[:24], labels[:24])  # (24, 56, 56)
    return np.mean([each[where].sum() / each.sum() for each, where in zip(maps, pattern, strict=True)])


untrained = alexnet.build(settings.net, settings.init, seed=2)
shares = {"trained": on_pattern(network), "untrained": on_pattern(untrained)}
print(f"on the pattern, {pattern.mean():.0%} of the pixels: trained {shares['trained']:.0%} of the saliency, "
      f"untrained {shares['untrained']:.0%}")  # fmt: skip
assert shares["trained"] > shares["untrained"] + 0.05

# %%
# The second number is the control: the same measure for a net with random weights. Always compute it. A map that looks
# convincing is worth nothing if an untrained net has the same one.
#
# What each unit looks for
# ------------------------
# A map of a convolution is one kernel at all positions. Search the 240 images for those in which a map's largest output
# is largest. Then count: of its four strongest images, how many have the same class?

best = {name: strongest_images(network, inputs, 4, name) for name in ("conv1", "conv2", "conv3", "conv4", "conv5")}
pure = {}
for name, maps in best.items():
    classes = [[labels[index] for index, _ in four] for four in maps.values() if len(four) == 4]
    pure[name] = np.mean([max(np.bincount(each)) / 4 for each in classes])
print("of four strongest images, of one class:", {name: f"{share:.0%}" for name, share in pure.items()})
assert pure["conv5"] > pure["conv1"] + 0.1

outputs = []
stages = list(network.trunk)
xs = [inputs]
for stage in stages:
    xs = stage.forward(xs, network.devices, forward_hook=lambda layer, y: outputs.append((layer.name.split()[0], y)))
outputs = dict(outputs)  # by name, (240, h, w, maps); column a has the first half of the maps
of_map = outputs["relu5"][..., 7].max(axis=(1, 2))
assert [index for index, _ in best["conv5"]["conv5a", 7]] == np.argsort(-of_map, kind="stable")[:4].tolist()

# %%
# Deconvolution, by hand
# ----------------------
# Four strongest images show what excites a map, not what in them does so. Zeiler and Fergus keep one output of a layer,
# set all others to 0, and go back to the image through the layers before it:
#
# - Max pooling: put each number where the maximum of its window was. The forward pass has to remember these places;
#   they call them switches.
# - Normalisation: they leave it out; the numbers pass unchanged.
# - ReLU: max(0, ·) again, this time of the numbers on their way back.
# - Convolution: the transposed kernels. Each number times its kernel is added at its window.
#
# Two of these, the pool and the convolution, are backward passes of the lessons 5 and 2. The ReLU is not: the gradient
# would pass where the *input* was above 0. Here is the way back from a unit of conv2 in column a.


def transposed(y, W, stride, pad, side):
    """Add y[i, j] times the kernels at each window; y: (h, w, o), W: (k, k, c, o), result: (side, side, c)."""
    k = len(W)
    x = np.zeros((pad + side + k, pad + side + k, W.shape[2]))
    for i, j in np.argwhere(y.any(axis=2)):
        x[stride * i : stride * i + k, stride * j : stride * j + k] += W @ y[i, j]
    return x[pad : pad + side, pad : pad + side]


def unpool(y, x, size=3, stride=2):
    """Put y, (h, w, c), where the maxima of the windows of x, (side, side, c), are."""
    back = np.zeros(x.shape)
    for i, j, map_ in np.argwhere(y):
        part = x[stride * i : stride * i + size, stride * j : stride * j + size, map_]
        row, column = np.unravel_index(part.argmax(), part.shape)
        back[stride * i + row, stride * j + column, map_] += y[i, j, map_]
    return back


index, unit = best["conv2"]["conv2a", 3][0]
state, half = network.state(), outputs["norm1"].shape[3] // 2
(_, s1, p1), (_, s2, p2) = (window(next(layer for layer in layers if name in layer.names)) for name in ("conv1a", "conv2a"))
y = np.zeros((*outputs["relu2"].shape[1:3], state["conv2a/W"].shape[3]))  # (12, 12, 32)
y[unit.row, unit.column, unit.map] = unit.value
y = transposed(y, state["conv2a/W"], s2, p2, 12)  # (12, 12, 16)
y = unpool(y, outputs["norm1"][index, ..., :half])  # (24, 24, 16)
y = np.maximum(y, 0)
y = transposed(y, state["conv1a/W"], s1, p1, 56)  # (56, 56, 3)
assert np.allclose(y, deconvolution(network, inputs[index], unit), atol=1e-4 * np.abs(y).max())
assert any(isinstance(layer, MaxPool) for layer in layers)
print("tinyalex.explain.deconvolution agrees")

# %%
# And for conv5, through all layers. How much smaller than the field is what the unit reacts to in an image? The package
# gives the rectangle that 90 % of the gradient is in.

sizes = []
for four in best["conv5"].values():
    for index, unit in four[:1]:
        part, field = main_part(unit_gradient(network, inputs[index], unit)), unit.field
        sizes.append((part.bottom - part.top) * (part.right - part.left) /
                     ((field.bottom - field.top) * (field.right - field.left)))  # fmt: skip
print(f"90 % of the gradient is in {np.median(sizes):.0%} of the field, in the median of {len(sizes)} maps of conv5")
assert np.median(sizes) < 0.8

"""
Lesson 8: Initial weights, and a number that is not in the paper
================================================================

:Question: Why do so many re-implementations of AlexNet stay at a loss of 6.9?
:Paper: §5, "we initialized the weights in each layer from a zero-mean Gaussian distribution with standard deviation
    0.01"; and the authors' own file, 2012: ``layers-145.cfg``, which says otherwise.
:At the end: you have measured a signal in every layer of the untrained net, found where it vanishes, and seen a net
    that does not learn until that is mended.
:Takes: 16 s on two cores, most of it drawing 61 million weights.
:Run: ``python lessons/08_init.py``

ln 1000 = 6.908 is the loss of guessing among 1000 classes. Runs that stayed there for days have been reported since
2012.
"""

# %%
# What a layer does to a signal
# -----------------------------
# The inputs are six different crops of one photograph. If the logits are the same for all six, the loss does not depend
# on the picture, and the gradient carries no information about it. So we measure one thing only: the standard deviation
# of a layer's outputs *across inputs*, averaged over its units.
#
# How does a layer change the size of its numbers, their root mean square? The factor is its *gain*. (Where the biases
# are 0, the deviation across inputs changes about as much: by **0.27** in conv4 and in conv5, as is measured below.)
# Let an output be the sum of n products of weights and inputs, z = w1 a1 + ... + wn an, where n is the fan-in, the
# weights are drawn independently with mean 0 and deviation sigma, and a = max(0, z') of the layer before, whose z' have
# a distribution that is symmetric about 0: z' and -z' are equally probable.
#
# .. math::
#
#    E[z^2] = \sum_i E[w_i^2] E[a_i^2] = n \sigma^2 E[a^2] \\
#    E[a^2] = E[\max(0, z')^2] = E[z'^2] / 2 \\
#    E[z^2] = \frac{n \sigma^2}{2} E[z'^2] \\
#    gain = \sigma \sqrt{n / 2}
#
# Products of two different weights drop out of the first line, because their mean is 0. The gain is 1, and a signal
# keeps its size through any number of layers, if sigma is the square root of 2 / n.

import matplotlib.pyplot as plt
import numpy as np
from shared import BLUE, INK, VERMILION, epochs, keep, middles, photograph, small

from tinyalex.network import alexnet
from tinyalex.randomness import key, normal
from tinyalex.recipes import recipe

before, weights = normal(key(0, "lesson 8"), np.arange(2)[:, None, None], np.arange(500)[:, None], np.arange(500))
after = np.maximum(before, 0) @ (0.05 * weights)
gain = np.sqrt((after**2).mean() / (before**2).mean())
print(f"500 inputs, weights of 0.05: gain measured {gain:.3f}, by the formula {0.05 * np.sqrt(500 / 2):.3f}")
assert np.isclose(gain, 0.05 * np.sqrt(500 / 2), rtol=0.03)

shapes = {"conv3": 3 * 3 * 256, "conv4": 3 * 3 * 192, "conv5": 3 * 3 * 192}
for name, fan_in in shapes.items():
    print(f"{name}: fan-in {fan_in}, gain at 0.01 {0.01 * np.sqrt(fan_in / 2):.2f}, "
          f"at 0.03 {0.03 * np.sqrt(fan_in / 2):.2f}, "
          f"gain 1 at {np.sqrt(2 / fan_in):.4f}")  # fmt: skip
gains = np.prod([0.01 * np.sqrt(fan_in / 2) for fan_in in shapes.values()])
print(f"conv3 to conv5 together at 0.01: {gains:.3f}")

# %%
# (conv3 reads all 256 maps of the two columns, conv4 and conv5 only the 192 of their own column; see lesson 10.) At
# 0.01 the gains of the three layers are **0.34**, **0.29** and **0.29**, together **0.029**. Gain 1 needs 0.0295 and
# **0.0340**. He and others published that rule in 2015. The authors' file of 2012 has 0.03 in exactly these three
# layers, and 0.01 in all others; the paper says 0.01 in each layer.
#
# The whole net, untrained
# ------------------------
# Weights are drawn once, with the paper's 0.01. Four versions differ by a factor of 3 in three layers, and by the
# biases: 1 in conv2, conv4, conv5, fc6 and fc7 as in the paper, or 0.1 as in Caffe. Caffe's authors found that biases
# of 1 "gave flat loss". The weights here are not Caffe's: in Caffe those of fc6 and fc7 begin at 0.005.
#
# A ``forward_hook`` is called with the output of each layer. On the CPU a convolutional layer computes its batch in
# blocks of a few images, on several threads, and the hook is called for each block: here for half of the six images at
# a time, if there are two threads. So keep all blocks of a layer and join them before you take a deviation across
# images.

settings = recipe.load("paper")
network = alexnet.build(settings.net, settings.init)
size = sum(parameter.size for parameter in network.parameters())
print(f"{size:,} parameters")
assert size == 60_965_224

whole = photograph(256).astype(np.float32)
offsets = ((0, 0), (0, 32), (32, 0), (32, 32), (16, 16), (8, 24))
crops = np.stack([whole[top : top + 224, left : left + 224] for top, left in offsets]) - whole.mean(axis=(0, 1))
first = {name: array.copy() for name, array in network.state().items() if name.startswith(("conv3", "conv4", "conv5"))}
LAYERS = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]


def spread(factor, bias):
    """Standard deviation across the six inputs, layer by layer, with conv3 to conv5 and the biases changed."""
    for name, array in network.state().items():
        if name.endswith("/W") and name in first:
            array[...] = first[name] * factor
        elif name.endswith("/b") and name[:5].rstrip("ab/") in ("conv2", "conv4", "conv5", "fc6", "fc7"):
            array[...] = bias
    found = {}

    def forward_hook(layer, y):
        name = layer.name.split()[0].rstrip("a")
        if name in LAYERS:
            found.setdefault(name, []).append(np.array(y))  # a block of images

    logits = network.forward(crops, forward_hook=forward_hook)
    assert logits.shape == (6, 1000)
    on = [np.mean([(block > 0).mean() for block in found[name]]) for name in ("conv4", "conv5")]
    return [float(np.concatenate(found[name]).std(axis=0).mean()) for name in LAYERS], logits, on


versions = {
    "the text: 0.01, biases 1": (1, 1.0),
    "Caffe's biases: 0.01, biases 0.1": (1, 0.1),
    "the authors' file: 0.03 in conv3 to conv5, biases 1": (3, 1.0),
    "0.03 and biases 0.1": (3, 0.1),
}
without = dict(zip(LAYERS, spread(1, 0.0)[0], strict=True))
changes = [without["conv4"] / without["conv3"], without["conv5"] / without["conv4"]]
print(f"biases 0: the deviation across inputs changes by {changes[0]:.2f} in conv4 and by {changes[1]:.2f} in conv5")
assert np.allclose(changes, 0.01 * np.sqrt(shapes["conv4"] / 2), rtol=0.15)

lines, losses = {}, {}
for name, (factor, bias) in versions.items():
    lines[name], logits, on = spread(factor, bias)
    losses[name] = float(network.loss.forward(logits, np.arange(6)))
    print(f"{name:52} spread of the logits {lines[name][-1]:.4f}, loss {losses[name]:.3f}; "
          f"ReLUs on in conv4 {on[0]:.0%}, in conv5 {on[1]:.0%}")  # fmt: skip

# %%
# All four begin near the loss of guessing; with biases of 1 a little above it, because the logits are random, but they
# are *the same* random logits for all pictures. The versions differ in how much the logits depend on the picture: more
# than ten times as much with the authors' file as with the paper's text. A factor of 3 in three layers could give 27.
# It would be exactly 27 if the biases grew too, 3 times in conv3, 9 times in conv4 and 27 times from conv5 on: then all
# outputs from conv5 on would be 27 times as large. But the biases stay as they are. At 0.01 the products are small
# beside the bias of 1, and the ReLUs of conv4 and conv5 are nearly all on, **100%** and **99%**; at 0.03 **64%** and
# **63%** are, and the others take a part of the 27 away. (Caffe's "flat loss" does not show here: the spread is
# **0.0022** with biases of 1 and **0.0014** with 0.1.)

text, file = lines["the text: 0.01, biases 1"], lines["the authors' file: 0.03 in conv3 to conv5, biases 1"]
print(f"spread of the logits, authors' file over the text: {file[-1] / text[-1]:.0f} times")
assert all(-0.1 < loss - np.log(1000) < 0.5 for loss in losses.values())
assert 10 < file[-1] / text[-1] < 35
assert text[-1] < 0.01 < file[-1]
assert recipe.load("original").init.weights["conv3"] == 0.03 and recipe.load("paper").init.weights["default"] == 0.01

# %%
# Does a spread of 0.002 make training impossible? No: the gradients are small but not zero. The loss stays on a
# plateau, and how long depends on luck. ``tinyalex train paper`` uses the text and ``tinyalex train original`` the
# authors' file; start with ``original``.
#
# A net that stalls, and is mended
# --------------------------------
# The lessons' small net has the same eight layers, but fewer maps, so smaller fan-ins: at 0.01 its gains are smaller
# still. Train it on 720 drawn images of 12 classes, for five epochs. The loss of guessing is ln 12 = **2.485**.

data, curves = middles(720, 480), {}
starts = {"0.01 in all layers": "{default=0.01}", "gain 1, and 0.01 in fc8": "{default='he', fc8=0.01}"}
for name, weights in starts.items():
    settings = small(f"init.weights={weights}", "learning.epochs=5", "learning.schedule=phases")
    curves[name] = [(loss, error) for _, loss, error in epochs(settings, data)]
    print(f"{name:24} loss", *(f"{loss:.3f}" for loss, _ in curves[name]), f"error {curves[name][-1][1]:.0%}")
print(f"ln 12 = {np.log(12):.3f}")
stalled, mended = (np.array(curve)[:, 0] for curve in curves.values())
assert (np.abs(stalled - np.log(12)) < 0.02).all() and mended[-1] < 2.0

# %%
# Nothing crashed, and no number is wrong. The first net is exactly as good as guessing, epoch after epoch: its logits
# do not depend on the picture, so the only thing that it can learn is how frequent each class is. With the same rate,
# images and order, the second learns. Only the initial weights differ. This is what the runs that "stay at 6.9" look
# like from inside, and why you should know the loss of guessing before you start a run. Lesson 20 has four other
# reasons why a net does not learn.

figure, (axes, training) = plt.subplots(1, 2, figsize=(11.5, 3.9), width_ratios=[2, 1])
for (name, curve), colour in zip(curves.items(), (VERMILION, BLUE), strict=True):
    training.plot(range(1, 6), [loss for loss, _ in curve], "o-", color=colour, lw=2, ms=4)
    training.text(5, curve[-1][0] - 0.06, name, color=colour, ha="right", va="top")
training.axhline(np.log(12), color=INK, lw=0.8, ls=":")
training.text(1, np.log(12) + 0.03, "ln 12, guessing", color=INK)
training.set(title="the small net in training", xlabel="epoch", ylabel="loss", ylim=(0.8, 2.75))
styles = ((VERMILION, "-"), (VERMILION, ":"), (BLUE, "-"), (BLUE, ":"))
for values, (colour, dash) in zip(lines.values(), styles, strict=True):
    axes.semilogy(LAYERS, values, dash, color=colour, lw=2, marker="o", ms=4)
for (name, values), (colour, _) in zip(lines.items(), styles, strict=True):
    axes.annotate(name.split(": ")[0] + f", {values[-1]:.3f}", (7, values[-1]), (7.25, values[-1]), color=colour,
                  va="center" if "Caffe" not in name else "top", annotation_clip=False)  # fmt: skip
axes.axvspan(1.5, 4.5, color="#eef3f8", zorder=0)
axes.text(3, axes.get_ylim()[1], "0.01 or 0.03 here", ha="center", va="top", color=INK)
axes.set(title="How much each layer differs between six pictures", ylabel="deviation across inputs", xlim=(-0.3, 7.2))
keep(figure, "08_init")

# %%
# Try
# ---
# - Where does the small net begin to learn: at 0.02, 0.04 or 0.08 in all layers? What are the gains there?
#
#   .. answer::
#
#      At 0.08 only, and slowly: 2.49, 2.48, 2.45, 2.25, 2.13. conv3 has a fan-in of 288, so its gain is 0.24, 0.48 and
#      0.96; eight such gains of 0.48 leave 0.003.
#
# - Divide ``crops`` by 255, as is common today. Which initial weights would give the same spread?
#
#   .. answer::
#
#      conv1 with 255 times the deviation, 2.55; all other layers as before, because conv1's outputs are then the same.
#
# - The recipe ``modern`` has He's initialisation in all layers but the last, and biases of 0. What is the spread of its
#   logits? (In a copy of this file write ``recipe.load("modern")`` in place of ``recipe.load("paper")``, multiply
#   ``crops`` by ``settings.data.scale`` in the line after they are made, and end the file after the function ``spread``
#   with ``print(spread(1, 0.0)[0])``.)
#
#   .. answer::
#
#      0.04 for the logits, more than with the authors' file. fc8 alone, which begins at 0.01, reduces it from 0.19.
#
# - Which of the two LRN layers reduces the signal more? (The ``forward_hook`` is called for ``relu1``, ``norm1``,
#   ``relu2`` and ``norm2`` too. Join the blocks, as ``spread`` does.)
#
#   .. answer::
#
#      Both divide by about 1.7 to 1.8: norm1 from 4.75 to 2.66, norm2 from 0.90 to 0.53. Most of it is the constant
#      2^0.75 = 1.68 of lesson 4.
#
# Exercise
# --------
# Find the standard deviation of weights that keeps a signal's size through ReLU, Tanh and linear layers, in
# ``lessons/exercises/ex08_gain.py``, then ``pytest -m ex08``.

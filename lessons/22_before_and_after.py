"""
Lesson 22: Before and after
===========================

:Question: What had changed between LeNet-5 and AlexNet, and what did the nets that followed change again?
:Paper: §3 and Figure 2, beside LeCun, Bottou, Bengio and Haffner (1998, LeNet-5), Simonyan and Zisserman (2014, VGG),
    Szegedy and others (2014, GoogLeNet) and He and others (2015, ResNet).
:At the end: you have counted five nets, layer by layer from their published shapes, and seen what 3 GB of memory allow.
:Takes: 2 s on two cores.
:Run: ``python lessons/22_before_and_after.py``

Guess first: AlexNet has about a thousand times the parameters of LeNet-5. How many times the work is one image? And
which of the nets after it has fewer parameters than AlexNet?
"""

# %%
# A tool that counts
# ------------------
# The package's layers know their output's shape, their parameters and their multiply-adds before they have any memory.
# So a net is a list of layers; this class adds them up. *Outputs* are all numbers that forward computes and backward
# needs again: of convolutions, nonlinearities, pools and norms.

import math

import matplotlib.pyplot as plt
import numpy as np
from shared import BLUE, INK, MUTED, VERMILION, keep

from tinyalex.layers import LRN, AvgPool, Conv2d, Linear, MaxPool, ReLU, Tanh
from tinyalex.network import alexnet
from tinyalex.network.summary import rows
from tinyalex.recipes import recipe


class Count:
    """Counts layer by layer; ``parameters``, ``products`` and ``outputs`` are dicts by name of layer."""

    def __init__(self, *shape):
        self.shape, self.parameters, self.products, self.outputs = shape, {}, {}, {}

    def add(self, name, *layers, bias=True, extra=0):
        """Add layers one after the other; ``extra`` parameters besides the layers' own."""
        self.parameters[name] = self.parameters.get(name, 0) + extra
        for layer in layers:
            numbers = {parameter.kind: parameter.size for parameter in layer.parameters}
            self.parameters[name] += sum(numbers.values()) - (0 if bias else numbers.get("b", 0))
            self.products[name] = self.products.get(name, 0) + layer.multiply_adds(self.shape)
            self.shape = layer.output_shape(self.shape)
            self.outputs[name] = self.outputs.get(name, 0) + math.prod(self.shape)
        return self

    @property
    def sums(self):
        """Parameters, multiply-adds and outputs of the net."""
        return np.array([sum(found.values()) for found in (self.parameters, self.products, self.outputs)])


# %%
# LeNet-5, 1998
# -------------
# Grey digits of 32 x 32 pixels. Two convolutions of 5 x 5, each followed by a pool that averages 2 x 2 pixels and has a
# factor and a bias to learn for each map; then three layers that are fully connected (C5 is called a convolution, but
# its kernel covers the whole map). In C3 not every map reads every map: of 16, six read 3 maps, nine read 4, and one
# reads all 6. "A non-complete connection scheme keeps the number of connections within reasonable bounds. More
# importantly, it forces a break of symmetry in the network": maps that read different maps learn different features.

lenet = Count(32, 32, 1).add("C1", Conv2d(1, 6, 5), Tanh())
lenet.add("S2", AvgPool(2, 2), extra=2 * 6)
before = lenet.shape
for reads, maps in ((3, 6), (4, 9), (6, 1)):  # as if the maps that read as many were a layer of their own
    lenet.shape = *before[:2], reads
    lenet.add("C3", Conv2d(reads, maps, 5), Tanh())
lenet.shape = 10, 10, 16
lenet.add("S4", AvgPool(2, 2), extra=2 * 16).add("C5", Linear(lenet.shape, 120), Tanh())
lenet.add("F6", Linear(120, 84), Tanh())
trained = int(lenet.sums[0])
lenet.add("output", Linear(84, 10), bias=False)  # compares with ten drawn digits, whose 840 pixels are not learned
print("LeNet-5, parameters:", lenet.parameters)
print(f"learned: {trained:,}; multiply-adds of convolutions and full layers {lenet.sums[1]:,}")
assert [lenet.parameters[name] for name in ("C1", "S2", "C3", "S4", "C5", "F6")] == [156, 12, 1516, 32, 48120, 10164]
assert trained == 60_000 and lenet.sums[1] == 326_520

# %%
# Exactly **60,000** parameters are learned, as its authors say, and an image takes **326,520** multiply-adds.
#
# AlexNet, 2012
# -------------
# Shapes as in lesson 10, with both columns side by side: conv2, conv4 and conv5 have two groups.


def alexnet_counts(maps=(96, 256, 384, 384, 256), hidden=4096):
    """Count AlexNet with so many maps and units."""
    a, b, c, d, e = maps
    net = Count(224, 224, 3).add("conv1", Conv2d(3, a, 11, 4, rounding="ceil"), ReLU(), LRN()).add("pool1", MaxPool())
    net.add("conv2", Conv2d(a, b, 5, pad=2, groups=2), ReLU(), LRN()).add("pool2", MaxPool())
    net.add("conv3", Conv2d(b, c, 3, pad=1), ReLU()).add("conv4", Conv2d(c, d, 3, pad=1, groups=2), ReLU())
    net.add("conv5", Conv2d(d, e, 3, pad=1, groups=2), ReLU()).add("pool5", MaxPool())
    net.add("fc6", Linear(net.shape, hidden), ReLU(), ReLU())  # the second stands for dropout, which keeps the shape
    return net.add("fc7", Linear(hidden, hidden), ReLU(), ReLU()).add("fc8", Linear(hidden, 1000))


alex = alexnet_counts()
table = [row for column in rows(alexnet.describe(recipe.load("paper").net, devices=2)).values() for row in column]
ours = [sum(getattr(row, key) for row in table) for key in ("parameters", "multiply_adds", "activation_bytes")]
assert [int(alex.sums[0]), int(alex.sums[1]), 4 * int(alex.sums[2])] == ours
print("AlexNet: the package's summary has the same three sums")

layers = {"LeNet-5": 5, "AlexNet": 8}
for name, lenets, alexnets in (
    ("layers with a matrix of weights", layers["LeNet-5"], layers["AlexNet"]),
    ("numbers in an image", 32 * 32, 224 * 224 * 3),
    ("parameters that are learned", trained, int(alex.sums[0])),
    ("multiply-adds, one image", int(lenet.sums[1]), int(alex.sums[1])),
    ("bytes of outputs, one image", 4 * int(lenet.sums[2]), 4 * int(alex.sums[2])),
    ("training images", 60_000, 1_281_167),
):
    print(f"{name:32}{lenets:12,}{alexnets:14,}  {alexnets / lenets:7,.1f} times")
share = sum(lenet.products[name] for name in ("C1", "C3")) / lenet.sums[1]
print(f"share of the convolutions in the work: {share:.1%} and "
      f"{sum(alex.products[f'conv{i}'] for i in range(1, 6)) / alex.sums[1]:.1%}")  # fmt: skip
print(f"images for each parameter: {60_000 / trained:.2f} and {1_281_167 / alex.sums[0]:.2f}")

# %%
# Eight layers instead of five, **1,016.1** times the parameters, **2,218.6** times the work, **147.0** times as many
# numbers in an image, but only **21.4** times as many images. LeNet-5 has an image for each parameter, AlexNet
# **0.02**; hence §4, "Reducing Overfitting". Fourteen years brought no new *kind* of net: convolutions, pools, then
# full layers, trained by backprop; the convolutions do **82.0%** of the work in one and **91.9%** in the other. New are
# ReLU for tanh (§3.1), two GPUs (§3.2), normalisation (§3.3), pools that overlap (§3.4) and take the largest number
# instead of the mean, dropout (§4.2), and a softmax. (LeNet-5 was trained on distorted images too.)
#
# Even the columns have a forerunner. In C3 as in conv2, maps read only some of the maps before: in LeNet-5 to save
# connections and to make maps differ, in AlexNet to save memory and copies.

saved = {"C3": (6 * 16 * 25 + 16, lenet.parameters["C3"]), "conv2": (5 * 5 * 96 * 256 + 256, alex.parameters["conv2"])}
for name, (full, real) in saved.items():
    print(f"{name}: {real:,} parameters instead of {full:,}, {real / full:.0%}")

# %%
# What 3 GB allow
# ---------------
# "A single GTX 580 GPU has only 3GB of memory, which limits the maximum size of the networks that can be trained on
# it." Training keeps each weight three times (value, gradient, momentum) and each output twice (value, gradient), for
# 128 images. How large may the net be? Multiply all maps and units by the same factor. GB are 10^9 bytes here; if the
# card's 3 GB are 3 x 2^30 bytes, there is 7 % more room.


def gigabytes(sums, batch=128):
    """Gigabytes of a net's training: of its weights and outputs, without buffers for intermediate results."""
    return (3 * sums[0] + 2 * batch * sums[2]) * 4 / 1e9


def scaled(factor):
    return alexnet_counts([round(maps * factor / 4) * 4 for maps in (96, 256, 384, 384, 256)], round(4096 * factor))


for factor in (0.5, 1.0, 1.5, 2.0):
    net = scaled(factor)
    print(f"{factor:3} times the width: {net.sums[0] / 1e6:6.1f} million parameters, {gigabytes(net.sums):.2f} GB")
sizes = {factor: gigabytes(scaled(factor).sums) for factor in np.arange(0.5, 2, 0.01)}
widest, in_gib, on_two = (max(f for f, size in sizes.items() if size < room) for room in (3, 3 * 2**30 / 1e9, 6))
print(f"AlexNet {gigabytes(alex.sums):.2f} GB; 3 GB allow {widest:.2f} times the width, 6 GB {on_two:.2f} times; "
      f"3 x 2^30 bytes allow {in_gib:.2f} times")  # fmt: skip
outputs = 2 * 128 * alex.sums[2] * 4 / 1e9 / gigabytes(alex.sums)
print(f"share of the outputs: {outputs:.0%}, of conv1 and pool1 alone "
      f"{outputs * (alex.outputs['conv1'] + alex.outputs['pool1']) / alex.sums[2]:.0%}")  # fmt: skip
assert 2.5 < gigabytes(alex.sums) < 3 and 1 < widest < 1.2

# %%
# The net takes **2.70** GB by this count; 3 GB would hold **1.08** times its width (3 x 2^30 bytes **1.14** times). But
# the count leaves out the next images, the buffers of the convolutions and the screen. With these, one GPU is full or
# too small: the authors write of "networks which are too big to fit on one GPU". Two would hold **1.83** times the
# width; the authors used them for this net, with room to spare. Of the memory **73%** is outputs, **36%** those of
# conv1 and pool1 alone, although conv1's stride of 4 leaves only every sixteenth position. The columns cut through the
# *maps*: each GPU has half of the outputs and half of the weights. With half of the images instead (lesson 11), each
# would have half of the outputs, and all of the weights.
#
# VGG-16, 2014
# ------------
# One idea: kernels of 3 x 3 everywhere. Three of them, one after the other, see 7 x 7 pixels like one large kernel,
# with two more ReLUs in between and fewer weights.

vgg = Count(224, 224, 3)
channels = 3
for block, (maps, convolutions) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), 1):
    for _ in range(convolutions):
        vgg.add(f"conv{block}", Conv2d(channels, maps, 3, pad=1), ReLU())
        channels = maps
    vgg.add(f"pool{block}", MaxPool(2, 2))
vgg.add("fc6", Linear(vgg.shape, 4096), ReLU(), ReLU()).add("fc7", Linear(4096, 4096), ReLU(), ReLU())
vgg.add("fc8", Linear(4096, 1000))
full = sum(vgg.parameters[name] for name in ("fc6", "fc7", "fc8")) / vgg.sums[0]
print(f"7 x 7: {7 * 7} c² weights; three times 3 x 3: {3 * 3 * 3} c², {1 - 27 / 49:.0%} less")
print(f"VGG-16: {vgg.sums[0]:,} parameters, {full:.0%} of them in full layers; "
      f"{vgg.sums[1] / 1e9:.2f} billion multiply-adds")  # fmt: skip
assert vgg.sums[0] == 138_357_544  # "138 million" in its Table 2

# %%
# **138,357,544** parameters, **89%** of them in the last three layers, which are full as in AlexNet. And **15.47**
# billion multiply-adds.
#
# GoogLeNet, 2014
# ---------------
# Two ideas. Before an expensive kernel, 1 x 1 convolutions reduce the channels. And no full layers: after the last
# module the *mean* of each map goes into one matrix of 1024 x 1000. The sizes are those of its Table 1.


def inception(net, name, one, reduce3, three, reduce5, five, pool):
    """Four branches side by side, whose maps are concatenated."""
    shape = net.shape
    for branch in (
        (Conv2d(shape[2], one, 1), ReLU()),
        (Conv2d(shape[2], reduce3, 1), ReLU(), Conv2d(reduce3, three, 3, pad=1), ReLU()),
        (Conv2d(shape[2], reduce5, 1), ReLU(), Conv2d(reduce5, five, 5, pad=2), ReLU()),
        (Conv2d(shape[2], pool, 1), ReLU()),
    ):
        net.shape = shape
        net.add(name, *branch)
    net.outputs[name] += math.prod(shape)  # of the last branch's pool, 3 x 3 with stride 1
    net.shape = *shape[:2], one + three + five + pool


google = Count(224, 224, 3).add("conv1", Conv2d(3, 64, 7, 2, 3), ReLU(), MaxPool(), LRN())
google.add("conv2", Conv2d(64, 64, 1), ReLU(), Conv2d(64, 192, 3, pad=1), ReLU(), LRN(), MaxPool())
MODULES = {
    "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64), "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64), "4c": (128, 128, 256, 24, 64, 64), "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128), "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128),
}  # fmt: skip
maps_after = []
for name, sizes in MODULES.items():
    inception(google, name, *sizes)
    maps_after.append(google.shape[2])
    if name in ("3b", "4e"):
        google.add(name, MaxPool())
print("maps after each module:", *maps_after)
assert maps_after == [256, 480, 512, 512, 512, 528, 832, 832, 1024]  # as Table 1 has them
google.add("mean", AvgPool(7, 7)).add("fc", Linear((1, 1, 1024), 1000))
print(f"GoogLeNet: {google.sums[0]:,} parameters, AlexNet has {alex.sums[0] / google.sums[0]:.1f} times as many; "
      f"{google.sums[1] / 1e9:.2f} billion multiply-adds")  # fmt: skip
assert google.sums[0] == 6_998_552

# %%
# **6,998,552** parameters. AlexNet has **8.7** times as many; "12 times", says the paper on GoogLeNet. The **1.58**
# billion multiply-adds are twice AlexNet's.
#
# ResNet-50, 2015
# ---------------
# Deeper plain nets had larger *training* errors: they were harder to optimise. ResNet adds each block's input to its
# output, so a block learns a difference. A block is 1 x 1, 3 x 3, 1 x 1, with batch normalisation (two parameters for
# each map) after each convolution instead of a bias.


def normalised(net, name, *convolution):
    net.add(name, Conv2d(*convolution), bias=False, extra=2 * convolution[1])
    net.outputs[name] += math.prod(net.shape)  # of the normalisation


resnet = Count(224, 224, 3)
normalised(resnet, "conv1", 3, 64, 7, 2, 3)
resnet.add("conv1", ReLU(), MaxPool())
for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), 2):
    for block in range(blocks):
        name, before, stride = f"conv{stage}", resnet.shape, 2 if stage > 2 and block == 0 else 1
        for sizes in ((before[2], width, 1, stride), (width, width, 3, 1, 1), (width, 4 * width, 1)):
            normalised(resnet, name, *sizes)
            resnet.add(name, ReLU())
        if block == 0:  # the input has to get the output's shape before the two are added
            after, resnet.shape = resnet.shape, before
            normalised(resnet, name, before[2], 4 * width, 1, stride)
            assert resnet.shape == after
resnet.add("mean", AvgPool(7, 7)).add("fc", Linear((1, 1, 2048), 1000))
print(f"ResNet-50: {resnet.sums[0]:,} parameters, {resnet.sums[1] / 1e9:.2f} billion multiply-adds")
assert round(resnet.sums[1] / 1e9, 1) in (3.8, 3.9)  # "3.8 x 10^9 FLOPs" in its Table 1

# %%
# **25,557,032** parameters and **3.86** billion multiply-adds, in fifty layers.
#
# Side by side
# ------------
# How many images would fit on the authors' GPU in one batch? The errors are the published ones: top-5 on the
# validation images, of one net, averaged over ten crops (VGG-16: over all positions, at several scales).

nets = {"LeNet-5": lenet, "AlexNet": alex, "VGG-16": vgg, "GoogLeNet": google, "ResNet-50": resnet}
published = {"AlexNet": 18.2, "VGG-16": 7.5, "GoogLeNet": 9.15, "ResNet-50": 6.71}
batches = {}
print(f"{'':10}{'parameters':>13}{'multiply-adds':>16}{'MB of outputs':>15}{'batch in 3 GB':>15}{'top-5 error':>13}")
for name, net in nets.items():
    size, work, numbers = (int(value) for value in net.sums)
    batches[name] = int((3e9 - 12 * size) // (8 * numbers))
    error = f"{published[name]} %" if name in published else ""
    print(f"{name:10}{size:13,}{work:16,}{4e-6 * numbers:15.2f}{batches[name]:15,}{error:>13}")
with_gib = [int((3 * 2**30 - 12 * int(net.sums[0])) // (8 * int(net.sums[2]))) for net in list(nets.values())[1:]]
print("batches in 3 x 2^30 bytes:", *with_gib)
assert batches["VGG-16"] < 10 and batches["ResNet-50"] < 15 and with_gib == [161, 6, 45, 11]

# %%
# AlexNet fills a GTX 580 with **147** images. On the same GPU VGG-16 could be trained with batches of **5**, ResNet-50
# with **11** (6 and 11 if the card has 3 x 2^30 bytes): they needed the GPUs of 2014 and 2015. Parameters are not what
# made nets better: from AlexNet to GoogLeNet the error is halved with fewer of them. What grew is depth, the outputs,
# and the work that each parameter does: **12** multiply-adds in AlexNet, **226** in GoogLeNet.

print("multiply-adds for each parameter:", *(f"{name} {net.sums[1] / net.sums[0]:.0f}" for name, net in nets.items()))

figure, (two, five) = plt.subplots(1, 2, figsize=(11, 4), width_ratios=[1, 1.15])
ratios = {"image": 224 * 224 * 3 / 1024, "training\nimages": 1_281_167 / 60_000, "parameters": alex.sums[0] / trained,
          "multiply-\nadds": alex.sums[1] / lenet.sums[1], "outputs": alex.sums[2] / lenet.sums[2]}  # fmt: skip
two.bar(range(len(ratios)), ratios.values(), color=[MUTED, MUTED, VERMILION, VERMILION, VERMILION])
two.set(yscale="log", title="AlexNet over LeNet-5", ylabel="times", ylim=(1, 6000))
two.set_xticks(range(len(ratios)), ratios)
for at, value in enumerate(ratios.values()):
    two.text(at, value * 1.15, f"{value:,.0f}", ha="center", color=INK)
for name, net in nets.items():
    size, work, numbers = net.sums
    colour = VERMILION if name == "AlexNet" else BLUE
    five.scatter(size / 1e6, work / 1e9, 2e-5 * numbers + 8, color=colour, alpha=0.6)
    label = name + (f"\n{published[name]} %" if name in published else "")
    left = name in ("VGG-16", "GoogLeNet", "ResNet-50")
    five.annotate(label, (size / 1e6, work / 1e9), (-26 if left else 14, 0), textcoords="offset points", va="center",
                  ha="right" if left else "left")  # fmt: skip
five.set(xscale="log", yscale="log", xlabel="million parameters", ylabel="billion multiply-adds", xlim=(0.03, 500),
         ylim=(1e-4, 60), title="areas: bytes of outputs; numbers: top-5 error")  # fmt: skip
keep(figure, "22_before_and_after")

# %%
# Try
# ---
# - Give VGG-16 GoogLeNet's end, the mean of each map and one matrix: how many parameters are left?
#
#   .. answer::
#
#      15,227,688: the convolutions' 14,714,688, and 512 x 1000 + 1000. A ninth of them, and 0.8 % less work.
#
# - Without its 1 x 1 reductions, how many multiply-adds would module 3a need for its 3 x 3 and 5 x 5 kernels?
#
#   .. answer::
#
#      294 million, 28 x 28 x 192 x (9 x 128 + 25 x 32), instead of 114 million.
#
# - With batches of 32 images, how wide could AlexNet be on one GPU of 3 GB?
#
#   .. answer::
#
#      1.73 times as wide, with 178 million parameters. Outputs are now 29 % of the memory and weights the rest, which
#      grow with the square of the width.
#
# Exercise
# --------
# Find the largest batch for which a net fits into a GPU's memory when it does not train but predicts, in
# ``lessons/exercises/ex22_batch.py``; then ``pytest -m ex22``.

"""
Lesson 10: The whole network on one page
========================================

:Question: Which layers have the 60 million parameters and which do the work, and which of the paper's counts are wrong?
:Paper: §3.5, Figure 2, and three numbers of the abstract and §1.
:At the end: you have counted AlexNet by hand, to the last parameter, and drawn it to scale.
:Takes: 2 s on two cores.
:Run: ``python lessons/10_network.py``

Guess first: which layer holds most of the parameters, and which does most of the work?
"""

# %%
# Counting by hand
# ----------------
# Eight layers have weights. Columns a and b each hold half of every layer but the last: fc8 is on column a only. conv2,
# conv4 and conv5 read only their own column's maps, so their kernels are half as deep. This restriction changes the
# counts; that there are two GPUs does not.

import matplotlib.pyplot as plt
import numpy as np
from shared import BLUE, INK, LIGHT_BLUE, MUTED, VERMILION, keep

from tinyalex.network import alexnet
from tinyalex.network.summary import rows
from tinyalex.recipes import recipe

#          maps, kernel size, channels that a kernel reads, side of the output
CONVS = {"conv1": (96, 11, 3, 55), "conv2": (256, 5, 48, 27), "conv3": (384, 3, 256, 13), "conv4": (384, 3, 192, 13),
         "conv5": (256, 3, 192, 13)}  # fmt: skip
FULL = {"fc6": (6 * 6 * 256, 4096), "fc7": (4096, 4096), "fc8": (4096, 1000)}

parameters, products, neurons = {}, {}, {}
for name, (maps, k, depth, side) in CONVS.items():
    parameters[name] = k * k * depth * maps + maps
    products[name] = k * k * depth * maps * side**2
    neurons[name] = maps * side**2
for name, (inputs, outputs) in FULL.items():
    parameters[name] = inputs * outputs + outputs
    products[name], neurons[name] = inputs * outputs, outputs

print(f"{'':8}{'parameters':>14}{'multiply-adds':>15}{'neurons':>10}")
for name in parameters:
    print(f"{name:8}{parameters[name]:14,}{products[name]:15,}{neurons[name]:10,}")
print(f"{'sum':8}{sum(parameters.values()):14,}{sum(products.values()):15,}{sum(neurons.values()):10,}")

# %%
# **60,965,224** parameters ("60 million"), **724,406,816** multiply-adds for one image, **659,272** neurons
# ("650,000"). fc6 alone holds **62%** of the parameters. The convolutions hold **3.8%** of them and do **91.9%** of the
# work: a kernel is used at every output position, a fully connected weight once.

conv_share = sum(parameters[name] for name in CONVS) / sum(parameters.values())
work_share = sum(products[name] for name in CONVS) / sum(products.values())
print(f"fc6 has {parameters['fc6'] / sum(parameters.values()):.0%} of the parameters; "
      f"the convolutions have {conv_share:.1%} and do {work_share:.1%} of the work")  # fmt: skip

# %%
# The package counts the same
# ---------------------------
# ``describe`` computes the shapes of all layers without allocating arrays. Here on one device, and on two with a column
# each: the counts are the same.

settings = recipe.load("paper")
for devices in (1, 2):
    network = alexnet.describe(settings.net, devices=devices)
    found = {}
    for column in rows(network).values():
        for row in column:
            for name in parameters:
                if row.layer.startswith(name):
                    found[name] = found.get(name, 0) + np.array([row.parameters, row.multiply_adds, row.neurons])
    for name in parameters:
        assert tuple(found[name]) == (parameters[name], products[name], neurons[name]), name
assert sum(parameters.values()) == 60_965_224 and sum(products.values()) == 724_406_816
print("tinyalex.network.summary agrees, on one device and on two")

# %%
# Errors in the paper
# -------------------
# The caption of Figure 2 gives the neurons as 253,440-186,624-64,896-64,896-43,264-4096-4096-1000. All are right but
# the first: 55 x 55 x 96 = **290,400**. The caption's number is 55 x **48** x 96; perhaps a column's 48 maps got in.
# It is too small by 7 x 55 x 96 = **36,960**. And "650,000" fits the right sum, not the caption's **622,312**.
#
# §1 says that each convolutional layer "contains no more than 1% of the model's parameters". conv3 has **1.45%** and
# conv4 **1.09%**.

caption = {"conv1": 253_440, "conv2": 186_624, "conv3": 64_896, "conv4": 64_896, "conv5": 43_264,
           "fc6": 4096, "fc7": 4096, "fc8": 1000}  # fmt: skip
wrong = {name: (caption[name], neurons[name]) for name in caption if caption[name] != neurons[name]}
assert wrong == {"conv1": (253_440, 290_400)} and 253_440 == 55 * 48 * 96
print(
    f"caption off at {wrong}, by {7 * 55 * 96:,}; 55 x 48 x 96 = {55 * 48 * 96:,}; its sum is {sum(caption.values()):,}"
)
shares = {name: parameters[name] / sum(parameters.values()) for name in CONVS}
print("shares of the parameters:", ", ".join(f"{name} {share:.2%}" for name, share in shares.items()))

# %%
# §3.5 applies the ReLU "to the output of every convolutional and fully-connected layer". Not to the last one: fc8 goes
# straight into the softmax, in the text's own description as in the program, and a class may have a negative logit.

last = [row.kind for row in rows(alexnet.describe(settings.net, devices=2))[0]][-2:]
assert last == ["Dropout", "Linear"], last
print("the last two layers:", *last, "- no ReLU after fc8")

# %%
# What convolution saves
# ----------------------
# §1: compared to nets "with similarly-sized layers", convolutional nets "have much fewer connections and parameters".
# The image has **150,528** numbers. If every layer of Figure 2 were fully connected to the one before, the net would
# have **117.2** billion connections, each with a weight of its own, instead of **0.724** billion connections that
# share 61 million weights: **162** times as many connections, and **1,923** times as many weights.

sizes = [224 * 224 * 3, *neurons.values()]
dense = sum(a * b for a, b in zip(sizes, sizes[1:], strict=False))
print(f"{sizes[0]:,} inputs; fully connected {dense / 1e9:.1f} billion connections, AlexNet "
      f"{sum(products.values()) / 1e9:.3f}: {dense / sum(products.values()):.0f} times as many, "
      f"and {dense / sum(parameters.values()):,.0f} times as many weights")  # fmt: skip
assert 100 < dense / sum(products.values()) < 1000

# %%
# §4.1: "the 1000 classes of ILSVRC make each training example impose 10 bits of constraint", which "turns out to be
# insufficient to learn so many parameters". A label is worth log2(1000) = **9.97** bits, all 1,281,167 of them **12.8**
# million bits: about one bit for every **5** parameters.

bits = np.log2(1000)
print(f"{bits:.2f} bits a label, {1_281_167 * bits / 1e6:.1f} million bits in all; "
      f"{sum(parameters.values()) / (1_281_167 * bits):.0f} parameters for each bit")  # fmt: skip

# %%
# Does it fit 3 GB?
# -----------------
# A GTX 580 had 3 GB. Weights, gradients and momenta take three times **232.6** MiB. Besides, every layer's output is
# kept for backward, for 128 images, and its gradient is as large. One column on a GPU takes **1.3** GiB; both columns
# on one GPU would take **2.5** GiB, without temporary buffers and without what the display uses. That explains the
# second GPU, and why they write that memory "limits the maximum size of the networks".

table = rows(alexnet.describe(settings.net, devices=2))
outputs = {column: 128 * sum(row.activation_bytes for row in table[column]) for column in table}
weights = {column: 4 * sum(row.parameters for row in table[column]) for column in table}
print(f"weights {4 * sum(parameters.values()) / 2**20:.1f} MiB in all")
for column in table:
    print(f"column {'ab'[column]}: outputs of 128 images {outputs[column] / 2**20:.0f} MiB, "
          f"and as much for their gradients; "
          f"weights, gradients and momenta {3 * weights[column] / 2**20:.0f} MiB")  # fmt: skip
need = [2 * outputs[column] + 3 * weights[column] for column in table]
print(f"one GPU a column: {max(need) / 2**30:.1f} GiB; both columns on one: {sum(need) / 2**30:.1f} GiB")
assert 0.4 < max(need) / 3e9 < 0.6 and 0.8 < sum(need) / 3e9 < 1

# %%
# What it looks like
# ------------------
# Figure 2, to scale: the height and depth of a block are the size of its maps, its width is the number of maps in a
# column.

figure, (net, bars) = plt.subplots(2, 1, figsize=(9.6, 5), height_ratios=[1.35, 1])
left = 0.0
blocks = [("input", 224, 3, 3)] + [(name, side, maps // 2, maps) for name, (maps, _, _, side) in CONVS.items()]
for name, side, maps, whole in blocks:
    width = maps / 3.2 + 4
    tops = [0] if name == "input" else [14 + side / 2, -14 - side / 2]
    for middle, shade in zip(tops, (LIGHT_BLUE, "#f6cfb2"), strict=False):
        slant = side * 0.28
        low, high = middle - side / 2, middle + side / 2
        net.fill([left, left + width, left + width, left], [low, low, high, high], color=shade, ec=INK, lw=0.7)
        net.fill([left, left + slant, left + slant + width, left + width],
                 [high, high + slant * 0.5, high + slant * 0.5, high], fc=shade, ec=INK, lw=0.7, alpha=0.6)  # fmt: skip
        net.fill([left + width, left + width + slant, left + width + slant, left + width],
                 [low, low + slant * 0.5, high + slant * 0.5, high], fc=shade, ec=INK, lw=0.7, alpha=0.8)  # fmt: skip
    net.text(left + width / 2, -136, f"{name}\n{side} x {side}\n{whole} maps", ha="center", va="top", fontsize=8)
    left += width + side * 0.28 + 66
for name, (_, units) in FULL.items():
    heights = [(14, 14 + units / 40), (-14 - units / 40, -14)] if name != "fc8" else [(14, 14 + units / 20)]
    for (low, high), shade in zip(heights, (LIGHT_BLUE, "#f6cfb2"), strict=False):
        net.fill([left, left + 5, left + 5, left], [low, low, high, high], color=shade, ec=INK, lw=0.7)
    net.text(left + 2, -136, f"{name}\n{units}", ha="center", va="top", fontsize=8)
    left += 84
net.text(96, 118, "column a", color=BLUE, weight="bold")
net.text(96, -126, "column b", color=VERMILION, weight="bold")
net.set(xlim=(-30, left - 30), ylim=(-180, 160), xticks=[], yticks=[], aspect="equal", title="AlexNet, to scale")
net.spines[:].set_visible(False)

palette = ["#08306b", "#2171b5", "#4292c6", "#6baed6", "#9ecae1", "#a63603", "#e6550d", "#fdae6b"]
for row, (counts, text) in enumerate(((parameters, "parameters"), (products, "multiply-adds"), (neurons, "neurons"))):
    start = 0.0
    for (name, count), shade in zip(counts.items(), palette, strict=True):
        share = count / sum(counts.values())
        bars.barh(row, share, left=start, color=shade, ec="white")
        if share > 0.045:
            bars.text(start + share / 2, row, f"{name} {share:.0%}", ha="center", va="center", fontsize=8,
                      color="white" if shade not in palette[3:5] + palette[7:] else INK)  # fmt: skip
        start += share
    bars.text(-0.01, row, text, ha="right", va="center", color=MUTED)
bars.set(ylim=(2.6, -0.6), xlim=(0, 1), yticks=[], xticks=[])
bars.spines[:].set_visible(False)
keep(figure, "10_network")

# %%
# Try
# ---
# - ``tinyalex summary original`` prints all of this, layer by layer and column by column.
# - Let every layer read both columns (48 becomes 96, 192 becomes 384): 62,378,344 parameters. Which layers grew?
#
#   .. answer::
#
#      conv2, conv4 and conv5, which read one column in the paper: their weights double, by 307,200, 663,552 and
#      442,368.
#
# - ``recipe.load("paper", ["net.pool=2"])``: which sizes change?
#
#   .. answer::
#
#      None. 55, 27, 13 and 6 are reached with windows of 2 as well; the last row and column of 55, 27 and 13 are then
#      not read.
#
# Exercise
# --------
# Count the parameters and products of any list of layers in ``lessons/exercises/ex10_count.py``, then
# ``pytest -m ex10``.

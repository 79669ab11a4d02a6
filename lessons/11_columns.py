"""
Lesson 11: Two columns, and the bytes between them
==================================================

:Question: How do two GPUs train one net, and how many bytes do they exchange?
:Paper: §3.2, Figure 2.
:At the end: you have split a layer in two, counted every byte between the columns, and seen that mixing them is an
    error.
:Takes: 3 s on two cores.
:Run: ``python lessons/11_columns.py``

"The parallelization scheme that we employ essentially puts half of the kernels (or neurons) on each GPU, with one
additional trick: the GPUs communicate only in certain layers."
"""

# %%
# Half of the kernels each
# ------------------------
# conv4 reads only its own column's maps. So two layers of half the width, side by side, compute the same as one layer
# with two *groups*. Grouped convolution began as a way to use two GPUs.

import matplotlib.pyplot as plt
import numpy as np
from shared import INK, LIGHT_BLUE, MUTED, VERMILION, keep

from tinyalex.devices.device import Device
from tinyalex.layers import Conv2d
from tinyalex.network import alexnet
from tinyalex.network.columns import Exchange
from tinyalex.network.summary import rows
from tinyalex.randomness import key, normal
from tinyalex.recipes import recipe


def draw(*shape):
    return normal(key(0, "lesson 11", *shape), np.arange(np.prod(shape))).reshape(shape)


x = draw(2, 7, 7, 12)
a = Conv2d(6, 8, 3, pad=1).named("conv4a").build(dtype="float64")
b = Conv2d(6, 8, 3, pad=1).named("conv4b").build(dtype="float64")
both = Conv2d(12, 16, 3, pad=1, groups=2).named("conv4a", "conv4b").build(dtype="float64")
halves = np.concatenate([a.forward(x[..., :6]), b.forward(x[..., 6:])], axis=-1)
assert np.array_equal(both.forward(x), halves)
print("two halves", halves.shape, "= one layer with two groups, to the bit: even the first weights are the same")
assert a.W.size + b.W.size == 3 * 3 * 6 * 8 * 2 < 3 * 3 * 12 * 16

# %%
# An exchange
# -----------
# conv3 reads the maps of both columns. So before conv3 each column receives a copy of the other's maps and concatenates
# both, column a's first. In backward each column gets the slice of the gradient that belongs to its own maps from every
# column that read them, and adds these slices up. For two columns:


def forward(xa, xb):
    return np.concatenate([xa, xb], axis=-1), np.concatenate([xa, xb], axis=-1)


def backward(da, db, width):
    return da[..., :width] + db[..., :width], da[..., width:] + db[..., width:]


devices = [Device("cpu"), Device("cpu")]
exchange = Exchange([[0, 1], [0, 1]])
xa, xb, da, db = draw(2, 13, 13, 4), draw(2, 13, 13, 4) + 1, draw(2, 13, 13, 8), draw(2, 13, 13, 8) - 1
for expected, got in zip(forward(xa, xb), exchange.forward([xa, xb], devices), strict=True):
    assert np.array_equal(expected, got)
for expected, got in zip(backward(da, db, 4), exchange.backward([da, db], devices), strict=True):
    assert np.array_equal(expected, got)
print("tinyalex.network.columns.Exchange agrees; bytes copied:", dict(exchange.crossed))
assert sum(exchange.crossed.values()) == 4 * xa.nbytes  # a to b and b to a, there and back

# %%
# The bytes of AlexNet
# --------------------
# The columns exchange their maps before conv3, fc6 and fc7. Before fc8, which is on column a only, b sends and a
# receives. What is copied is a layer's output, 4 bytes a number, for 128 images, and in backward a gradient of the same
# size.

tensors = {"conv3": 13 * 13 * 128, "fc6": 6 * 6 * 128, "fc7": 2048, "fc8": 2048}
both_ways = {"conv3": 2, "fc6": 2, "fc7": 2, "fc8": 1}
by_hand = {name: 2 * both_ways[name] * 128 * 4 * size for name, size in tensors.items()}
network = alexnet.describe(recipe.load("original").net, devices=2)
predicted = {
    stage.name: 128 * sum(stage.exchange.bytes_per_image(shapes).values())
    for stage, shapes in zip(network.stages, network.shapes, strict=False)
}
for name, size in by_hand.items():
    print(f"before {name}: {size:12,} bytes")
    assert predicted[name] == size
print(f"in all {sum(by_hand.values()):,} bytes a step, {sum(by_hand.values()) / 2**20:.1f} MiB")
assert sum(predicted.values()) == sum(by_hand.values()) == 60_030_976

# %%
# **60,030,976** bytes, **57.2** MiB. The other way to use two GPUs is data parallelism: each has the whole net and half
# of the images, and the gradients are averaged. That takes 60,965,224 x 4 bytes in each direction, **8.1** times as
# much:

data_parallel = 2 * 4 * 60_965_224
print(f"averaging gradients: {data_parallel:,} bytes a step, {data_parallel / sum(by_hand.values()):.1f} times as much")
every_layer = recipe.load("original", ['net.talk=["conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]'])
connected = alexnet.describe(every_layer.net, devices=2)
total = 128 * sum(
    sum(stage.exchange.bytes_per_image(shapes).values())
    for stage, shapes in zip(connected.stages, connected.shapes, strict=False)
)
print(f"exchanging before every layer: {total:,} bytes, {total / sum(by_hand.values()):.1f} times as much")

# %%
# Two GPUs against one
# --------------------
# "The two-GPU net takes slightly less time to train than the one-GPU net", says §3.2. The one-GPU net of footnote 2 has
# half the kernels of each convolution, but not of conv5, and each kernel reads all maps of the layer before. It needs
# **391.5** million multiply-adds for an image; the busier of the two GPUs, which also has fc8, **364.3** million:
# **7%** less. What the exchanges cost must be less than that.

busier = max(
    sum(row.multiply_adds for row in column)
    for column in rows(alexnet.describe(recipe.load("original").net, devices=2)).values()
)
one = sum(row.multiply_adds for column in rows(alexnet.describe(recipe.load("one-gpu").net)).values() for row in column)
print(f"one-GPU net {one / 1e6:.1f} million, busier GPU of two {busier / 1e6:.1f} million: {1 - busier / one:.0%} less")
assert (one, busier) == (391_514_384, 364_251_408)

# %%
# "This allows us to precisely tune the amount of communication until it is an acceptable fraction of the amount of
# computation." The authors also ran a net whose columns exchange nothing before the end, widened to compensate (2012:
# ``layers-150.cfg``): 41.83 % instead of 40.66 % top-1 error. It is not in the paper.
#
# Two devices without a GPU
# -------------------------
# The package has *fake* devices for testing on a laptop. Their arrays compute with NumPy, but each array belongs to one
# device, and an operation on arrays of two devices raises an error. So the code that runs on two GPUs can be tested
# without one: if any layer read an array of the other column outside an exchange, this would raise.

small = recipe.load("shapes", ["net.classes=12"])
images, labels = draw(4, 56, 56, 3).astype(np.float32), np.arange(4)
losses = {}
for names in (["cpu"], ["cpu", "cpu"], ["fake:0", "fake:1"]):
    net = alexnet.build(small.net, small.init, names)
    loss, _ = net.loss_and_backward(images, labels, training=False)
    losses[" ".join(names)] = float(net.devices[0].get(loss))
    counted = sum(sum(count.values()) for count in net.crossed().values())
    print(f"{' '.join(names):14} loss {losses[' '.join(names)]:.6f}, {counted:,} bytes copied between columns")
assert np.ptp(list(losses.values())) < 1e-5

left, right = Device("fake:0"), Device("fake:1")
with left:
    mine = left.put(xa)
with right:
    yours = right.put(xb)
message = ""
try:
    mine + yours
except Exception as error:
    message = str(error).splitlines()[0]
print("mixing columns:", message)
assert "fake:1" in message and "fake:0" in message

# %%
# What it looks like
# ------------------

figure, axes = plt.subplots(figsize=(9.6, 3.3))
stops = ["image", "conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]
for row, (letter, shade) in enumerate((("a", LIGHT_BLUE), ("b", "#f6cfb2"))):
    for x, name in enumerate(stops):
        if name == "fc8" and letter == "b":
            continue
        text = name if name in ("image", "fc8") else name + letter
        axes.text(x, -row, text, ha="center", va="center", bbox={"boxstyle": "round,pad=0.45", "fc": shade, "ec": INK})
    for x in range(7 if letter == "b" else 8):
        axes.annotate("", (x + 0.64, -row), (x + 0.36, -row), arrowprops={"arrowstyle": "-|>", "color": INK})
for name, size in by_hand.items():
    x = stops.index(name) - 0.5
    for start, end in ((0, -1), (-1, 0)) if both_ways[name] == 2 else ((-1, 0),):
        width = max(size / both_ways[name] / 2**20 / 1.5, 1)
        axes.plot([x - 0.3, x + 0.3], [start * 0.8 - 0.1, end * 0.8 - 0.1], color=VERMILION, lw=width, alpha=0.5,
                  solid_capstyle="butt", zorder=0)  # fmt: skip
    axes.text(x, -1.45, f"{size / 2**20:.1f} MiB", ha="center", color=VERMILION, weight="bold")
axes.text(-0.4, -1.45, "copied in a step:", ha="left", color=MUTED)
axes.set(xlim=(-0.5, 8.5), ylim=(-1.65, 0.4), xticks=[], yticks=[], title="What the columns exchange, 128 images")
axes.spines[:].set_visible(False)
keep(figure, "11_columns")

# %%
# Try
# ---
# - ``Exchange([[0, 1], []])`` copies column b's maps to column a only. What does its backward do?
#
#   .. answer::
#
#      Column a's gradient for the maps of b goes back to b. Column b reads nothing here, so b gets this gradient only.
#
# - Put only fc8 into ``net.talk``, the list of layers that read both columns: how many bytes are left?
#
#   .. answer::
#
#      2,097,152 for a batch of 128: one device computes fc8 and needs the other's 2048 numbers, four bytes each, and
#      sends as many gradients back.
#
# - ``tinyalex train --devices fake:0 fake:1 --epochs 1 --out runs/two-devices`` trains a net on two fake devices.
#
# Exercise
# --------
# Predict the bytes of *any* connections between columns in ``lessons/exercises/ex11_bytes.py``, then
# ``pytest -m ex11``.

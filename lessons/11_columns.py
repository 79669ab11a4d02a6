"""
Lesson 11: Two columns, and what crosses between them
=====================================================

:Question: How do two GPUs train one net, and how much do they have to say to each other?
:Paper: §3.2, Figure 2.
:At the end: you have split a layer in two, counted every byte between the columns, and been caught cheating.
:Takes: 3 s on two cores.
:Run: ``python lessons/11_columns.py``

"The parallelization scheme that we employ essentially puts half of the kernels (or neurons) on each GPU, with one
additional trick: the GPUs communicate only in certain layers."
"""

# %%
# Half of the kernels each
# ------------------------
# conv4 reads only its own column's maps. So two layers of half the width, side by side, compute what one layer with two
# *groups* does. That is all that "grouped convolution" ever was: a picture of two graphics cards.

import matplotlib.pyplot as plt
import numpy as np
from shared import INK, LIGHT_BLUE, MUTED, VERMILION, keep

from tinyalex.devices.device import Device
from tinyalex.layers import Conv2d
from tinyalex.network import alexnet
from tinyalex.network.columns import Exchange
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
# conv3 reads everything. Before it the columns swap: each gets the other's maps and puts them beside its own, a first.
# Backward is the same road in the other direction. Of the gradient that a reader computed, every column is sent its own
# slice, and adds up what arrives. Write it for two columns:


def forward(xa, xb):
    return np.concatenate([xa, xb], axis=-1), np.concatenate([xa, xb], axis=-1)


def backward(da, db, width):
    return da[..., :width] + db[..., :width], da[..., width:] + db[..., width:]


devices = [Device("cpu"), Device("cpu")]
exchange = Exchange([[0, 1], [0, 1]])
xa, xb, da, db = draw(2, 13, 13, 4), draw(2, 13, 13, 4) + 1, draw(2, 13, 13, 8), draw(2, 13, 13, 8) - 1
for ours, theirs in zip(forward(xa, xb), exchange.forward([xa, xb], devices), strict=True):
    assert np.array_equal(ours, theirs)
for ours, theirs in zip(backward(da, db, 4), exchange.backward([da, db], devices), strict=True):
    assert np.array_equal(ours, theirs)
print("tinyalex.network.columns.Exchange agrees; crossed:", dict(exchange.crossed))
assert sum(exchange.crossed.values()) == 4 * xa.nbytes  # a to b and b to a, there and back

# %%
# The bytes of AlexNet
# --------------------
# The columns talk before conv3, fc6 and fc7; before fc8, which lived on column a alone, b sends and a listens. What
# crosses is a layer's output, 4 bytes a number, for 128 images: forward, and the gradient of the same size back.

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
# **60,030,976** bytes, **57.2** MiB. The other way to use two cards is to give each all of the net and half of the
# images, and to average gradients. That takes 60,965,224 x 4 bytes in each direction, **8.1** times as much:

data_parallel = 2 * 4 * 60_965_224
print(f"averaging gradients: {data_parallel:,} bytes a step, {data_parallel / sum(by_hand.values()):.1f} times as much")
talk = recipe.load("original", ['net.talk=["conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]'])
chatty = alexnet.describe(talk.net, devices=2)
everything = 128 * sum(
    sum(s.exchange.bytes_per_image(z).values()) for s, z in zip(chatty.stages, chatty.shapes, strict=False)
)
print(f"talking before every layer: {everything:,} bytes, {everything / sum(by_hand.values()):.1f} times as much")

# %%
# "This allows us to precisely tune the amount of communication until it is an acceptable fraction of the amount of
# computation." The authors also ran a net whose columns never talk before the end, widened to compensate (2012:
# ``layers-150.cfg``): 41.83 % instead of 40.66 % top-1 error. It is not in the paper.
#
# Caught cheating
# ---------------
# Two cards, on a laptop? The package has *pretend* devices. Their arrays compute like NumPy's, but know where they
# live, and refuse to be mixed. So the very step that would run on two cards can be tested on none: if any line in any
# layer reached over to the other column, it would stop here.

small = recipe.load("shapes", ["net.classes=12"])
images, labels = draw(4, 56, 56, 3).astype(np.float32), np.arange(4)
losses = {}
for names in (["cpu"], ["cpu", "cpu"], ["fake:0", "fake:1"]):
    net = alexnet.build(small.net, small.init, names)
    loss, _ = net.loss_and_backward(images, labels, training=False)
    losses[" ".join(names)] = float(net.devices[0].get(loss))
    counted = sum(sum(count.values()) for count in net.crossed().values())
    print(f"{' '.join(names):14} loss {losses[' '.join(names)]:.6f}, {counted:,} bytes crossed")
assert np.ptp(list(losses.values())) < 1e-5

left, right = Device("fake:0"), Device("fake:1")
with left:
    mine = left.put(xa)
with right:
    yours = right.put(xb)
try:
    mine + yours
    raise AssertionError("nobody noticed")
except Exception as error:
    print("mixing columns:", str(error).splitlines()[0])

# %%
# What it looks like
# ------------------

figure, axes = plt.subplots(figsize=(9.6, 3.3))
stops = ["image", "conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]
for row, (letter, shade) in enumerate((("a", LIGHT_BLUE), ("b", "#f6cfb2"))):
    for place, name in enumerate(stops):
        if name == "fc8" and letter == "b":
            continue
        text = name if name in ("image", "fc8") else name + letter
        axes.text(
            place, -row, text, ha="center", va="center", bbox={"boxstyle": "round,pad=0.45", "fc": shade, "ec": INK}
        )
    for place in range(7 if letter == "b" else 8):
        axes.annotate("", (place + 0.64, -row), (place + 0.36, -row), arrowprops={"arrowstyle": "-|>", "color": INK})
for name, size in by_hand.items():
    place = stops.index(name) - 0.5
    for start, end in ((0, -1), (-1, 0)) if both_ways[name] == 2 else ((-1, 0),):
        width = max(size / both_ways[name] / 2**20 / 1.5, 1)
        axes.plot([place - 0.3, place + 0.3], [start * 0.8 - 0.1, end * 0.8 - 0.1], color=VERMILION, lw=width,
                  alpha=0.5, solid_capstyle="butt", zorder=0)  # fmt: skip
    axes.text(place, -1.45, f"{size / 2**20:.1f} MiB", ha="center", color=VERMILION, weight="bold")
axes.text(-0.4, -1.45, "cross in a step:", ha="left", color=MUTED)
axes.set(
    xlim=(-0.5, 8.5), ylim=(-1.65, 0.4), xticks=[], yticks=[], title="What the columns tell each other, 128 images"
)
axes.spines[:].set_visible(False)
keep(figure, "11_columns")

# %%
# Try
# ---
# - ``Exchange([[0, 1], []])`` gathers both on column a. What does its backward do?
# - Put only fc8 into ``net.talk``: how many bytes are left, and who still agrees with whom?
# - ``tinyalex train --devices fake:0 fake:1 --epochs 1 --out runs/two-cards`` trains a net on two cards you do not own.
#
# Exercise
# --------
# Predict the bytes of *any* talk pattern in ``lessons/exercises/ex11_bytes.py``, then ``pytest -m ex11``.

"""
Lesson 14: What the first layer sees
====================================

:Question: What do the kernels of a trained net look like, and do the two columns see different things?
:Paper: §6.1, Figure 3.
:At the end: you have Figure 3 of a run of ours, three numbers for every kernel, and a test whether "the columns
    specialise" is more than a story.
:Takes: 4 s on two cores.
:Run: ``python lessons/14_kernels.py``

"Notice the specialization exhibited by the two GPUs, a result of the restricted connectivity described in Section 3.5.
The kernels on GPU 1 are largely color-agnostic, while the kernels on GPU 2 are largely color-specific. This kind of
specialization occurs during every run and is independent of any particular random weight initialization."
"""

# %%
# A run of two columns
# --------------------
# There is no recorded run on ImageNet in ``data/runs/`` yet; the first of these that is there is read. The figure that
# ``tinyalex train`` leaves holds the kernels themselves, one weight a square of a few dots, with one scale for all. So
# they can be read back from it, to 8 bits and up to that scale. (The run was made from a recipe; with
# ``tinyalex train`` you can make it again.)

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from shared import BLUE, HERE, INK, MUTED, VERMILION, bare, keep

from tinyalex import figures
from tinyalex.randomness import key, normal, permutation
from tinyalex.recipes import recipe

RUNS = HERE.parent / "data" / "runs"
name = next(each for each in ("imagenet", "shapes") if (RUNS / each / "kernels.png").is_file())
net = recipe.load(RUNS / name / "recipe.toml").net
k, each = net.kernels[0], net.maps[0] // net.columns


def read(picture, net=net):
    """Kernels (k, k, 3, n) of both columns, from 0 to 1, out of the figure: margins of 24 dots, labels of 36."""
    k, each = net.kernels[0], net.maps[0] // net.columns
    a_row = -(-each // -(-each // 16))
    rows, wide = -(-each // a_row), a_row * (k + 1) - 1
    dot = (picture.shape[1] - 48) // wide
    found, top = [], 24 + 36
    for _ in range(net.columns):
        grid = picture[top + dot // 2 :: dot, 24 + dot // 2 :: dot][: rows * (k + 1) - 1, :wide] / 255
        cells = [(i // a_row * (k + 1), i % a_row * (k + 1)) for i in range(each)]
        found.append(np.stack([grid[y : y + k, x : x + k] for y, x in cells], axis=-1))
        top += dot * (rows * (k + 1) - 1) + 24 + 36
    return found


with Image.open(RUNS / name / "kernels.png") as image:
    a, b = read(np.array(image.convert("RGB")))
both = np.concatenate([a, b], axis=-1)
print(f"run {name}: {both.shape[-1]} kernels of {k} x {k} x 3, {each} a column")
assert both.shape == (k, k, 3, 2 * each) and both.min() == 0 and both.max() == 1

# %%
# Is that right? Draw them again with the package's own figure, read that, and they have to be the same.

with tempfile.TemporaryDirectory() as folder, plt.rc_context({"figure.constrained_layout.use": False}):
    figures.save(figures.kernels({"a": a, "b": b}), Path(folder) / "again.png")
    with Image.open(Path(folder) / "again.png") as image:
        again = read(np.array(image.convert("RGB")))
assert np.array_equal(again[0], a) and np.array_equal(again[1], b)
print("drawn again and read again: the same")

# %%
# Three numbers a kernel
# ----------------------
# Zero is somewhere between 0 and 1: most weights are near it, so we take the median. Then, for each kernel:
#
# - *Colour*: split each weight triple into grey, the mean of R, G and B, and the rest. Which share of the energy, the
#   sum of squares, is the rest? Grey is one of three directions, so weights drawn at random have **0.67**.
# - *Strength*: its energy.
# - *Grain*: where the largest entry of its Fourier transform lies, in waves across the kernel, and in which direction.

weights = both - np.median(both)
grey = weights.mean(axis=2, keepdims=True)
energy = (weights**2).sum(axis=(0, 1, 2))
colour = ((weights - grey) ** 2).sum(axis=(0, 1, 2)) / energy
waves = np.abs(np.fft.fft2(weights, axes=(0, 1))).sum(axis=2)
frequency = np.fft.fftfreq(k, 1 / k)
peak = np.array([np.unravel_index(waves[..., i].argmax(), (k, k)) for i in range(weights.shape[3])])
down, across = frequency[peak[:, 0]], frequency[peak[:, 1]]
grain, direction = np.hypot(down, across), np.arctan2(down, across) % np.pi

drawn = normal(key(0, "lesson 14"), np.arange(k * k * 3 * 2000)).reshape(k, k, 3, 2000)
by_chance = (
    ((drawn - drawn.mean(axis=2, keepdims=True)) ** 2).sum(axis=(0, 1, 2)) / (drawn**2).sum(axis=(0, 1, 2))
).mean()
print(
    f"colour: random weights {by_chance:.2f}, these {colour.min():.2f} to {colour.max():.2f}, mean {colour.mean():.2f}"
)
print(f"grain: {np.median(grain):.1f} waves across a kernel in the median")
assert abs(by_chance - 2 / 3) < 0.01
assert np.allclose(figures.colourfulness(weights), colour)
print("tinyalex.figures.colourfulness agrees")

# %%
# Do the columns differ?
# ----------------------
# Two groups of numbers always differ a little. How often would they differ *this* much if the column had nothing to do
# with it? Deal the kernels to two columns at random, ten thousand times, and count. That is a permutation test, and it
# assumes nothing.


def deal(values, half, deals=10_000):
    """Difference of the two halves' means, and how often a random deal differs at least as much."""
    difference = values[:half].mean() - values[half:].mean()
    dealt = np.array([values[permutation(key(number, "deal"), len(values))] for number in range(deals)])
    chance = dealt[:, :half].mean(axis=1) - dealt[:, half:].mean(axis=1)
    return difference, (np.abs(chance) >= abs(difference) - 1e-12).mean(), chance


difference, p, chance = deal(colour, each)
print(f"colour, column a less column b: {difference:+.3f}; by chance as much in {p:.1%} of deals")

# %%
# Would the test notice a specialisation like the paper's? Sort the same kernels by colour, and give the greyest half to
# column a.

sorted_difference, sorted_p, _ = deal(np.sort(colour), each)
print(f"sorted by colour: {sorted_difference:+.3f}; by chance as much in {sorted_p:.2%} of deals")
assert sorted_p < 0.001 and 0 <= p <= 1
package = figures.specialisation({"a": weights[..., :each], "b": weights[..., each:]})
assert np.isclose(package.difference, abs(difference)) and (package.difference > package.by_chance) == (p < 0.05)
print(f"tinyalex.figures.specialisation: {package.difference:.3f}, below {package.by_chance:.3f} in 95 % of deals")

# %%
# So the test can see it, and whatever it says of this run is a finding. In the run on drawn images, the columns do
# *not* differ in colour beyond chance: two minutes on twelve patterns are not six days on a thousand classes.

if name == "shapes":
    assert p > 0.05

# %%
# And on photographs? ``data/runs/tiny-imagenet/`` is an hour on two cores: 50,000 images of 100 classes, ten epochs,
# and **48** kernels of 5 x 5 in each column.

photographs = recipe.load(RUNS / "tiny-imagenet" / "recipe.toml").net
with Image.open(RUNS / "tiny-imagenet" / "kernels.png") as image:
    theirs = np.concatenate(read(np.array(image.convert("RGB")), photographs), axis=-1)
its_colour = figures.colourfulness(theirs - np.median(theirs))
its_difference, its_p, _ = deal(its_colour, 48)
print(f"photographs: {len(its_colour) // 2} kernels a column, {its_colour.min():.2f} to {its_colour.max():.2f}; "
      f"column a less column b {its_difference:+.3f}, by chance as much in {its_p:.1%} of deals")  # fmt: skip
assert theirs.shape == (5, 5, 3, 96) and its_p > 0.05

# %%
# There are kernels of both kinds, from **0.25**, nearly grey, to **1.00**, nothing but colour; and each column has
# both: a difference of **0.016**, which random deals reach **67.1%** of the time. Ten epochs from He's noise are no
# test of what ninety from almost nothing do. One more thing to keep in mind when reading "during every run": the paper
# shows one, and "modulo a renumbering of the GPUs" means that a test has to ask for a difference to either side, as
# ours does.

# %%
# What it looks like
# ------------------

figure, axes = plt.subplot_mosaic("aaah;bbbg", figsize=(9.8, 4.2))
for letter, block in (("a", a), ("b", b)):
    columns = min(each, 8)
    rows = -(-each // columns)
    grid = np.ones((rows * (k + 1) - 1, columns * (k + 1) - 1, 3))
    for i in range(each):
        y, x = i // columns * (k + 1), i % columns * (k + 1)
        grid[y : y + k, x : x + k] = block[..., i]
    axes[letter].imshow(grid)
    axes[letter].set_title(f"column {letter}")
bare(axes["a"], axes["b"])
axes["h"].hist(chance, bins=50, color="#d7dce1")
axes["h"].axvline(difference, color=VERMILION, lw=2)
axes["h"].set(title=f"colour, a less b: {difference:+.2f}", yticks=[], xlabel="differences of random deals")
for part, shade, letter in ((slice(each), BLUE, "a"), (slice(each, None), VERMILION, "b")):
    axes["g"].scatter(colour[part], grain[part], 20, color=shade, label=f"column {letter}", alpha=0.8)
axes["g"].axvline(2 / 3, color=MUTED, lw=0.8, ls="--")
axes["g"].text(2 / 3, 0.75, " random", color=INK, fontsize=8)
axes["g"].set(title="each kernel", ylim=(0.7, grain.max() + 1.1), xlabel="share of colour", ylabel="waves across")
axes["g"].legend(loc="upper left", fontsize=8, handletextpad=0.1)
keep(figure, "14_kernels")

# %%
# Try
# ---
# - Test the strength or the grain of the two columns instead of their colour.
# - Test ``direction``. Why is the difference of two mean angles the wrong number to look at?
# - Train with columns that never talk, ``tinyalex train --set "net.talk=[]" --out runs/no-talk``, and read its figure.
#
# Exercise
# --------
# The share of colour, kernel by kernel, in ``lessons/exercises/ex14_colour.py``; then ``pytest -m ex14``.

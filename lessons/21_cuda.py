"""
Lesson 21: From NumPy to CUDA
=============================

:Question: How do ten lines of NumPy become a kernel that two million threads run, and how do you test it without a GPU?
:Paper: §1, "a highly-optimized GPU implementation of 2D convolution and all the other operations inherent in training";
    §3.4, overlapping pooling, the layer of this lesson.
:At the end: you have written max pooling for a GPU, forward and backward, run it on a CPU, and found which inputs show
    which mistake.
:Takes: 4 s on two cores, with g++; without it the kernels are shown but not run.
:Run: ``python lessons/21_cuda.py``

Guess first: backward adds each gradient to the pixel that was the largest. If every window has a thread of its own, and
all threads run at once, what goes wrong?
"""

# %%
# The readable form, and the reference
# ------------------------------------
# Lesson 5 built max pooling from slices: for each of the nine offsets in the window, one call of NumPy for *all* units.
# ``tinyalex/layers/pooling.py`` has that form. ``tinyalex/layers/loops/pooling.py`` has the reference: one unit at a
# time, nothing clever. A GPU needs a third form. It is nearer to the reference.

import shutil

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle
from shared import BLUE, GREEN, INK, VERMILION, bare, keep

from tinyalex import gradcheck
from tinyalex.devices import launch
from tinyalex.devices.emulated import EmulatedDevice
from tinyalex.layers import MaxPool
from tinyalex.layers.loops import pooling as reference
from tinyalex.randomness import below, key, normal

N, H, W, C, Z, S = 2, 11, 11, 8, 3, 2
HO = WO = 5
x = below(key(0, "lesson 21"), 5, np.arange(N * H * W * C)).reshape(N, H, W, C).astype(np.float32)
expected = reference.max_pool(x, Z, S)
layer = MaxPool(Z, S)
assert np.array_equal(layer.forward(x), expected) and expected.shape == (N, HO, WO, C)
print("the readable form agrees with the reference", expected.shape)

# %%
# What one thread does
# --------------------
# A GPU runs one function, the *kernel*, in many threads. They differ in two numbers, here called ``row`` and ``t``:
# which row of the output, and which number in that row. Memory has one dimension: number (n, i, j, c) of an array lies
# at ((n H + i) W + j) C + c. So a thread divides, to find out which unit is its own, and multiplies, to find its
# pixels. Threads come in blocks, whose size is a multiple of 32; a row seldom is one, so the threads beyond its end
# return at once.
#
# Nobody says in which order threads run. So try a random one.


def thread(x, y, winners, row, t):
    if t >= WO * C:
        return
    n, top, left, c = row // HO, row % HO * S, t // C * S, t % C
    corner = ((n * H + top) * W + left) * C + c
    best, winner = x[corner], 0
    for u in range(min(Z, H - top)):
        for v in range(min(Z, W - left)):
            pixel = x[corner + (u * W + v) * C]
            if pixel > best:
                best, winner = pixel, u * Z + v
    y[row * WO * C + t], winners[row * WO * C + t] = best, winner


(rows, parts), threads = launch.grid(N * HO, WO * C)
grid = [(row, t) for row in range(rows) for t in range(parts * threads)]
print(f"{rows} rows of {WO * C} numbers: {rows} x {parts} blocks of {threads} threads")
y, winners = np.zeros(expected.size, np.float32), np.zeros(expected.size, np.uint8)
for number in normal(key(1, "lesson 21"), np.arange(len(grid))).argsort():
    thread(x.ravel(), y, winners, *grid[number])
assert np.array_equal(y.reshape(expected.shape), expected)
print(f"{len(grid)} threads in a random order give the reference's numbers")

# %%
# The same in CUDA
# ----------------
# Line by line the same, in C++. ``EACH(row, t, count)`` is the package's macro for the thread's number and the early
# return. Sizes in capital letters are macros too, so the compiler divides by constants, which is faster. ``real`` is
# float or double.

FORWARD = """
extern "C" __global__ void max_pool(const real *x, real *y, unsigned char *winners, int count)
{
    EACH(row, t, count);
    const int n = row / HO, top = row % HO * S, left = t / C * S, c = t % C;
    const real *corner = x + ((n * H + top) * W + left) * C + c;
    real best = *corner;
    int winner = 0;
    for (int u = 0; u < Z && top + u < H; ++u) {
        for (int v = 0; v < Z && left + v < W; ++v) {
            const real pixel = corner[(u * W + v) * C];
            if (pixel > best) best = pixel, winner = u * Z + v;
        }
    }
    y[row * count + t] = best;
    winners[row * count + t] = winner;
}
"""

# %%
# CUDA's C++ is C++ with a few words more. ``EmulatedDevice`` defines these words, lets g++ compile the source, and runs
# the threads one after the other on NumPy's memory. On a GPU the same call starts them all: replace the device by
# ``Device("cuda:0")``, and the arrays by its arrays.

device = EmulatedDevice("float32", "float64") if shutil.which("g++") else None


def pooled(x, source=FORWARD):
    """Pool x (n, h, w, C) by the kernel; return y and the winners."""
    n, h, w, c = x.shape
    shape = MaxPool(Z, S).output_shape((h, w, c))
    sizes = {"H": h, "W": w, "C": c, "HO": shape[0], "WO": shape[1], "Z": Z, "S": S}
    y, winners = np.empty((n, *shape), x.dtype), np.empty((n, *shape), np.uint8)
    device.launch(source, "max_pool", n * shape[0], shape[1] * c, x, y, winners, **sizes)
    return y, winners


if device:
    for dtype in (np.float32, np.float64):
        made, which = pooled(x.astype(dtype))
        assert np.array_equal(made, expected) and np.array_equal(which.ravel(), winners)
    print("the CUDA source, compiled by g++, gives the same numbers in float32 and in float64")
else:
    print("no g++: the CUDA source is not run")

# %%
# Two million threads
# -------------------
# AlexNet's pool1 for 128 images: 55 x 55 x 96 numbers become 27 x 27 x 96. One thread for each is **8,957,952**
# threads. The package lets a thread compute four neighbouring channels, which it reads and writes at once:
# **2,239,488**. Each row has 27 x 24 = **648** of these, in three blocks of 256: **16%** of the threads are beyond its
# end and do nothing.
#
# What does it cost? Comparing is cheap; moving numbers is not. NumPy's nine maxima read and write the output again and
# again: **931.6** MB. The kernel keeps ``best`` in a register. It reads x once, as far as the cache holds what windows
# share, and writes y and a byte for each winner: **193.5** MB. At the 192 GB a second of a GTX 580 that takes at least
# **1.01** ms, at the 4.8 TB of an H200 at least **0.040** ms.

outputs, inputs = 128 * 27 * 27 * 96, 128 * 55 * 55 * 96
(rows, parts), threads = launch.grid(128 * 27, 27 * 96 // launch.width(96))
print(f"{outputs:,} outputs, {outputs // 4:,} threads that compute four; {27 * 24} a row, in {parts} blocks "
      f"of {threads}: {1 - 27 * 24 / (parts * threads):.0%} of the threads are idle")  # fmt: skip
by_numpy, by_kernel = 4 * outputs * (2 + 8 * 3), 4 * inputs + 5 * outputs
print(f"moved by NumPy {by_numpy / 1e6:.1f} MB, by the kernel {by_kernel / 1e6:.1f} MB: "
      f"{1e3 * by_kernel / 192e9:.2f} ms at 192 GB a second, {1e3 * by_kernel / 4.8e12:.3f} ms at 4.8 TB")  # fmt: skip
assert rows * 27 * 24 == outputs // 4 == 2_239_488 and by_numpy > 4 * by_kernel

# %%
# Neighbours read neighbours
# --------------------------
# A GPU reads memory in lines of 128 bytes, which are 32 float32 numbers, and runs 32 threads in step. If these read 32
# numbers side by side, one line serves them all. With channels last they do: thread t + 1 computes the next channel of
# the same window. With channels first it computes the next *window*, two pixels further; half of each line is not used.


def lines(last):
    """Mean number of lines that 32 threads read for the first pixels of their windows, in pool1."""
    unit = np.arange(27 * 27 * 96).reshape(-1, 32)
    if last:
        i, j, c = unit // (27 * 96), unit // 96 % 27, unit % 96
        address = ((2 * i) * 55 + 2 * j) * 96 + c
    else:
        c, i, j = unit // (27 * 27), unit // 27 % 27, unit % 27
        address = (c * 55 + 2 * i) * 55 + 2 * j
    return np.mean([len(np.unique(row // 32)) for row in address])


print(f"lines of 128 bytes for 32 threads: channels last {lines(True):.2f}, channels first {lines(False):.2f}")
assert lines(True) == 1 and lines(False) > 2.5

# %%
# With channels last it is **1.00** line, with channels first **4.01**.
#
# Backward: who adds?
# -------------------
# The reference says ``dx[winner] += dy``: each unit gives its gradient to a pixel. Windows overlap, so two threads may
# add to the same pixel. Each reads the old sum, adds, writes. If both read before either writes, one gradient is lost.
# NumPy does just that when an index occurs twice: ``dx[index] += dy`` reads all, adds, and writes all.

dy = normal(key(2, "lesson 21"), np.arange(expected.size)).reshape(expected.shape).astype(np.float32)
right = reference.max_pool_backward(dy, x, Z, S)
n, i, j, c = np.indices(expected.shape)
u, v = np.divmod(winners.reshape(expected.shape).astype(int), Z)
index = n, S * i + u, S * j + v, c
raced, summed = np.zeros(x.shape, np.float32), np.zeros(x.shape, np.float32)
raced[index] += dy
np.add.at(summed, index, dy)
lost = dy.size - len(np.unique(np.ravel_multi_index(index, x.shape)))
print(f"{lost} of {dy.size} gradients are lost, {lost / dy.size:.0%}")
assert np.allclose(summed, right, atol=1e-6) and not np.allclose(raced, right, atol=0.1) and lost > 0

# %%
# **25%** of the gradients are gone. CUDA has ``atomicAdd``, which loses nothing, but adds in any order, so that the
# last bits differ from run to run (lesson 18). The package turns the question round. Instead of *scattering*, one
# thread for each unit, it *gathers*: one thread for each **pixel**, which looks at the windows that cover it, four at
# most, and adds up the gradients of those whose maximum it is. No two threads write to the same address, and the order
# is fixed.
#
# Which windows cover pixel i? Window a has the pixels S a to S a + Z - 1. So a is at most the
# smaller of i / S and HO - 1, and at least (i - Z) / S + 1, rounded down, or 0 if i < Z.

BACKWARD = """
extern "C" __global__ void max_pool_backward(const real *dy, const unsigned char *winners, real *dx, int count)
{
    EACH(row, t, count);
    const int n = row / H, i = row % H, j = t / C, c = t % C;
    real sum = 0;
    for (int a = min(i / S, HO - 1); a >= (i < Z ? 0 : (i - Z) / S + 1); --a) {
        for (int b = min(j / S, WO - 1); b >= (j < Z ? 0 : (j - Z) / S + 1); --b) {
            const int unit = ((n * HO + a) * WO + b) * C + c;
            if (winners[unit] == (i - a * S) * Z + j - b * S) sum += dy[unit];
        }
    }
    dx[row * count + t] = sum;
}
"""

dx = np.zeros(x.shape, np.float32)
for n in range(N):  # the same in Python: each pixel gathers
    for i in range(H):
        for j in range(W):
            for a in range(0 if i < Z else (i - Z) // S + 1, min(i // S, HO - 1) + 1):
                for b in range(0 if j < Z else (j - Z) // S + 1, min(j // S, WO - 1) + 1):
                    mine = winners.reshape(expected.shape)[n, a, b] == (i - a * S) * Z + j - b * S
                    dx[n, i, j] += np.where(mine, dy[n, a, b], 0)
assert np.allclose(dx, right, atol=1e-6)
if device:
    gathered = np.empty_like(x)
    sizes = {"H": H, "W": W, "C": C, "HO": HO, "WO": WO, "Z": Z, "S": S}
    device.launch(BACKWARD, "max_pool_backward", N * H, W * C, dy, winners, gathered, **sizes)
    assert np.allclose(gathered, right, atol=1e-6)
    layer = MaxPool(Z, S).build(device)  # the package's kernels, which a layer chooses by itself
    assert np.array_equal(layer.forward(x), expected) and np.allclose(layer.backward(dy), right, atol=1e-6)
    distinct = normal(key(3, "lesson 21"), np.arange(2 * 7 * 9 * 3)).reshape(2, 7, 9, 3)
    verdict = gradcheck.check(layer, distinct)[0].verdict
    print("our kernels and the package's agree with the reference; the gradient checker says", verdict)
    assert verdict == "ok" and {"max_pool", "max_pool_backward"} <= set(device.started)

# %%
# Which inputs show a mistake?
# ----------------------------
# A test is as good as its inputs. Here are three mistakes that one makes, and four inputs. Each mistake passes with
# inputs that look reasonable: the last of several maxima instead of the first shows only where numbers are equal, a row
# of the wrong image only with two images, a forgotten edge only where a window hangs over it.

MISTAKES = {
    "the last maximum": ("pixel > best", "pixel >= best"),
    "the row of another image": ("row % HO", "row % H"),
    "the edge is forgotten": (" && left + v < W", ""),
}


def inputs_of(images, side, whole):
    values = normal(key(4, "lesson 21", side, images), np.arange(images * side * side * C))
    values = np.floor(2 * values) if whole else values
    return values.reshape(images, side, side, C).astype(np.float32)


INPUTS = {
    "1 image": inputs_of(1, 11, False), "2 images": inputs_of(2, 11, False), "equal numbers": inputs_of(1, 11, True),
    "12 x 12 pixels": inputs_of(1, 12, False),
}  # fmt: skip
found = np.zeros((len(MISTAKES), len(INPUTS)), bool)
if device:
    for (row, (wrong, by)), (column, values) in (
        (mistake, given) for mistake in enumerate(MISTAKES.values()) for given in enumerate(INPUTS.values())
    ):
        room = np.zeros(values.size + 4 * W * C, np.float32)  # what a wrong index reads behind x is zero
        memory = room[: values.size].reshape(values.shape)
        memory[...] = values
        assert FORWARD.count(wrong) == 1
        results = zip(pooled(memory, FORWARD.replace(wrong, by)), pooled(memory), strict=True)
        found[row, column] = not all(np.array_equal(got, good) for got, good in results)
    for name, row in zip(MISTAKES, found, strict=True):
        print(f"{name:25} found with: {', '.join(np.array(list(INPUTS))[row])}")
    assert (found == [[False, False, True, False], [False, True, False, False], [False, False, False, True]]).all()

# %%
# So the tests of the package's kernels take all of these: whole numbers with many ties, several images, sizes that do
# not fit, and the gradient checker on top. g++ finds one more kind of mistake, with its sanitizers: a thread that reads
# behind the end of an array. What is left for a real GPU is to measure the time, and to see that NVIDIA's compiler
# agrees.
#
# What it looks like
# ------------------

figure, (gather, race, table) = plt.subplots(1, 3, figsize=(11.5, 3.6), width_ratios=[1, 1.2, 1.35])
gather.imshow(x[0, :, :, 0], "gray", extent=(0, W, H, 0), vmin=-1)
for (a, b), colour in zip(((1, 2), (1, 3), (2, 2), (2, 3)), (BLUE, GREEN, VERMILION, INK), strict=True):
    gather.add_patch(Rectangle((S * b + 0.1, S * a + 0.1), Z - 0.2, Z - 0.2, fill=False, color=colour, lw=2))
gather.plot(6.5, 4.5, "o", color=VERMILION, ms=9, mec="white")
gather.set_title("a pixel gathers from four windows")
difference = np.abs(raced - right).sum(axis=3)
race.imshow(np.hstack([difference[0], np.full((H, 1), np.nan), difference[1]]), "magma")
race.set_title("gradients lost in two images")
bare(gather, race, table)
table.imshow(found, "Blues", vmin=0, vmax=1.6, aspect="auto")
table.set_xticks(range(len(INPUTS)), [name.replace(" ", "\n", 1) for name in INPUTS])
table.set_yticks(range(len(MISTAKES)), [name.replace(" ", "\n", 2).replace("\n", " ", 1) for name in MISTAKES])
table.set_title("which input shows which mistake" if device else "no g++: mistakes not tried")
for row, column in np.ndindex(found.shape):
    table.text(column, row, "found" if found[row, column] else "", ha="center", va="center", color="white")
keep(figure, "21_cuda")

# %%
# Try
# ---
# - Let ``thread`` write ``y[...] += best`` instead of ``y[...] = best``, and run the grid twice. Why must a kernel not
#   read what it writes?
#
#   .. answer::
#
#      The second time each output is twice as large: the result depends on what was in memory before. A kernel that
#      only writes gives the same numbers however often it runs.
#
# - Pool with z = 2 and s = 2: how many gradients does ``raced`` lose?
#
#   .. answer::
#
#      None. Windows do not overlap, so each pixel is in one window and gets at most one gradient.
#
# - ``tinyalex.kernels.response.SOURCE`` has the kernels of lesson 4's layer. How many numbers does a thread of
#   ``across`` read, and how many one of ``across_backward``?
#
#   .. answer::
#
#      5 and 14: backward needs x of the windows of all five neighbours, 2 n - 1 = 9 numbers, and five of dy. It
#      computes the divisors d again, because reading them would take longer.
#
# Exercise
# --------
# Write what one thread of average pooling's backward does, a gather, in ``lessons/exercises/ex21_gather.py``; then
# ``pytest -m ex21``.

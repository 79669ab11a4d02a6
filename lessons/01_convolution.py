"""
Lesson 1: Convolution is one matrix product
===========================================

:Question: Why does almost every fast convolution begin by copying its input?
:Paper: §3.5, the first layer: "96 kernels of size 11 x 11 x 3 with a stride of 4 pixels".
:At the end: you have written a convolution twice, as nested loops and as one matrix product, and applied it to a face.
:Takes: 3 s on two cores.
:Run: ``python lessons/01_convolution.py``

Guess first: a photograph of 227 x 227 pixels goes through that layer. How many multiplications does it take? The lesson
copies the photograph into a matrix: how many times as large as the photograph is that matrix?
"""

# %%
# A layer in seven loops
# ----------------------
# The paper's first layer "filters" the image. Spelled out: lay an 11 x 11 x 3 kernel over the image, multiply element
# by element, add up, store the sum, move the kernel by 4 pixels. An image is (height, width, channels) here, as in
# Pillow and matplotlib, and kernels are (k, k, channels, maps). A batch needs seven nested loops; for one image it is
# six.

import time

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle
from shared import INK, VERMILION, bare, keep, photograph

from tinyalex.layers import Conv2d

picture = photograph(227)
x = picture / 255 - 0.5
print("image", x.shape)


def convolve(x, W, stride):
    size, k, maps = len(x), len(W), W.shape[3]
    positions = (size - k) // stride + 1
    y = np.zeros((positions, positions, maps))
    for i in range(positions):
        for j in range(positions):
            for u in range(k):
                for v in range(k):
                    for c in range(x.shape[2]):
                        for o in range(maps):
                            y[i, j, o] += x[stride * i + u, stride * j + v, c] * W[u, v, c, o]
    return y


# %%
# Four kernels made by hand: the mean (a blur), light left of dark, light above dark, and red against green and blue.
# Training will find better ones; lesson 14 looks at those.

k, stride = 11, 4
ramp = np.sign(np.arange(k) - k // 2) / k**2
W = np.zeros((k, k, 3, 4))
W[..., 0] = 1 / (3 * k**2)
W[..., 1] = -ramp[None, :, None]
W[..., 2] = -ramp[:, None, None]
W[..., 3] = np.array([1, -0.5, -0.5]) / k**2

begin = time.perf_counter()
by_loops = convolve(x[:67, :67], W, stride)  # the top left corner only: the whole picture takes 13 times as long
loops_took = time.perf_counter() - begin
assert by_loops.shape == (15, 15, 4)
print("output of the corner", by_loops.shape)

# %%
# The whole picture: the kernel can move by 227 - 11 = 216 pixels, which is 54 steps of 4, so there are **55** output
# positions a side. With the paper's 96 kernels there are 55 x 55 x 96 outputs of 11 x 11 x 3 products each:
# **105,415,200** multiplications for one image, in the first of eight layers.

print(f"multiplications with 96 kernels: {55 * 55 * 96 * k * k * 3:,}")

# %%
# A patch is a row, a kernel is a column
# --------------------------------------
# All outputs at one position need the same 363 numbers. Copy those into one row for each position, and put the kernels
# side by side as columns: every output is then a row times a column, and the whole layer is one matrix product. The
# copying is called *im2col*. ``sliding_window_view`` is a view of all windows and copies nothing; the ``reshape``
# copies.


def im2col(x, k, stride):
    windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(0, 1))[::stride, ::stride]  # (i, j, c, u, v)
    return windows.transpose(0, 1, 3, 4, 2).reshape(-1, k * k * x.shape[2])  # rows in the order (u, v, c)


begin = time.perf_counter()
patches = im2col(x, k, stride)
by_product = (patches @ W.reshape(-1, 4)).reshape(55, 55, 4)
product_took = time.perf_counter() - begin

assert patches.shape == (3025, 363)
assert np.allclose(by_product[:15, :15], by_loops, rtol=0, atol=1e-12)
loops_took *= 55**2 / 15**2
print("output", by_product.shape)
print(f"patches {patches.shape}, {patches.size / x.size:.1f} times the numbers of the image")
print(f"loops about {1e3 * loops_took:.0f} ms, copy and product {1e3 * product_took:.1f} ms")
assert loops_took > 20 * product_took

# %%
# That is the answer. The matrix is **7.1** times as large as the image, because neighbouring patches overlap and every
# pixel is copied into several rows. In exchange all the arithmetic is one matrix product (GEMM), for which every
# processor has a highly tuned library. The Python loops are a hundred times slower or more.
#
# The package does the same
# -------------------------
# ``Conv2d`` takes a batch, so there is one more axis in front. The rest is what you have just seen.

layer = Conv2d(3, 4, k, stride).build(dtype="float64")
layer.W.value = W
assert np.allclose(layer.forward(x[None])[0], by_product, rtol=0, atol=1e-12)
print("tinyalex.layers.Conv2d agrees to 1e-12")

# %%
# And backward
# ------------
# In one dimension, with a kernel w of k numbers and stride 1, forward is the first line below. Output i reads the
# pixels i to i + k - 1, so pixel a is read by the outputs i = a - u, each time through the weight w[u]. By the chain
# rule its gradient is the sum over these outputs.
#
# .. math::
#
#    y_i = \sum_u x_{i+u} w_u \\
#    \frac{\partial y_i}{\partial x_a} = w_{a-i} \\
#    dx_a = \sum_i dy_i \frac{\partial y_i}{\partial x_a} = \sum_i dy_i w_{a-i} \\
#    dx = dy * w
#
# In this sum the two indices, i of dy and a - i of w, add up to a. In forward the two indices, i + u of x and u of w,
# differ by i. A sum in which the indices add up is what mathematics calls a convolution, written \*, here over all
# positions at which dy and w overlap ("full"). A sum in which they differ by a fixed number is a correlation. So
# forward, which the field calls convolution, is a correlation. Hence the kernel turned by 180 degrees that you read
# about: a convolution is a correlation with the turned kernel.

row, w = x[100, :9, 0], np.array([1.0, 2.0, -1.0])
dy = np.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 10.0])
assert np.allclose(np.correlate(row, w, "valid"), [(row[i : i + 3] * w).sum() for i in range(7)])
dx = np.convolve(dy, w, "full")
print("dy", dy, " w", w, " dx", dx)
small = Conv2d(1, 1, 3).build(dtype="float64")  # the same in the package: an image whose other rows do not matter
small.W.value = np.zeros((3, 3, 1, 1))
small.W.value[1, :, 0, 0] = w
small.forward(np.tile(row, (3, 1))[None, :, :, None])
assert np.allclose(small.backward(dy.reshape(1, 1, 7, 1))[0, 1, :, 0], dx, rtol=0, atol=1e-15)

# %%
# The first output read pixels 0 to 2, and gives them 1 times (1, 2, -1); the last one read pixels 6 to 8.
#
# What it looks like
# ------------------

figure, axes = plt.subplot_mosaic("PPPpppRRRRRR;aaabbbcccddd", figsize=(9.6, 5), height_ratios=[1.1, 1])
i, j = 22, 25
axes["P"].imshow(picture)
axes["P"].add_patch(Rectangle((stride * j, stride * i), k, k, fill=False, color=VERMILION, lw=1.5))
axes["P"].set_title("227 x 227 x 3")
axes["p"].imshow(picture[stride * i : stride * i + k, stride * j : stride * j + k])
axes["p"].set_title("a patch, 11 x 11 x 3")
around = patches[55 * i + j - 9 : 55 * i + j + 10]
axes["R"].imshow(around, "gray", aspect="auto", extent=(0, 363, 19, 0))
axes["R"].add_patch(Rectangle((0, 9), 363, 1, fill=False, color=VERMILION, lw=1.5, clip_on=False))
axes["R"].set_title("one patch is one row: 19 of 3025 rows of 363")
titles = ("mean", "light left of dark", "light above dark", "red against green and blue")
for name, o, title in zip("abcd", range(4), titles, strict=True):
    most = np.abs(by_product[..., o]).max()
    axes[name].imshow(by_product[..., o], "gray" if o == 0 else "RdBu_r", vmin=-most, vmax=most)
    axes[name].set_title(title, color=INK, fontsize=9)
    if o:
        axes[name].set_xlabel("red: above 0, blue: below 0", fontsize=8)
bare(*axes.values())
keep(figure, "01_convolution")

# %%
# Try
# ---
# To try something in any lesson, start it with ``python -i``, here ``python -i lessons/01_convolution.py``. When the
# lesson has ended, Python waits for your lines and knows all names of the lesson. To change a line that is further up,
# edit a copy of the file beside it.
#
# - With a stride of 1 there are 217 x 217 positions. How many times as large as the image is the matrix then? Type
#   ``im2col(x, k, 1).size / x.size``.
#
#   .. answer::
#
#      110.6: 217 x 217 rows of 363 numbers against 227 x 227 x 3. This is why fast libraries never store the whole
#      matrix.
#
# - Write ``(0, 1, 2, 3, 4)`` in place of ``(0, 1, 3, 4, 2)`` in ``im2col``: which assertion fails, and how would you
#   reorder W?
#
#   .. answer::
#
#      The shapes stay the same; the comparison of ``by_product`` with ``by_loops`` fails. The rows are now in the
#      order (c, u, v), so the kernels have to be too: ``W.transpose(2, 0, 1, 3).reshape(-1, 4)``.
#
# - Give ``Conv2d`` the option ``groups=...``: why does it refuse 2 groups of 3 channels?
#
#   .. answer::
#
#      With 2 groups each map sees half of the channels, and 3 channels have no halves. conv1 therefore has no groups.
#
# Exercise
# --------
# Two. The first needs no backward pass: write im2col for images with zeros around them, with two loops, in
# ``lessons/exercises/ex00_im2col.py``, then ``pytest -m ex00``.
#
# The backward pass of im2col *adds* every row to the pixels it was copied from. That is ``col2im``, and the input
# gradient of a convolution needs it. Write it in ``lessons/exercises/ex01_col2im.py``, then ``pytest -m ex01``.

"""
Lesson 17: The same convolution with a quarter of the multiplications
=====================================================================

:Question: Can a convolution be computed with fewer multiplications than it has products?
:Paper: §3.5 gives the layers; the algorithm is older (Toom 1963, Cook 1966, Winograd 1980) and came to convolutional
    nets later (Lavin and Gray 2015).
:At the end: you have derived an algorithm by evaluating polynomials, and measured how much precision it loses.
:Takes: 4 s on two cores.
:Run: ``python lessons/17_winograd.py``

Guess first: two neighbouring outputs of a 3-tap kernel need y0 = d0 g0 + d1 g1 + d2 g2 and y1 = d1 g0 + d2 g1 + d3 g2,
six products. What is the smallest possible number?
"""

# %%
# Four instead of six
# -------------------
# Products of suitable sums can be used for both outputs. The kernel is used for many inputs, so what is computed from g
# alone is done once and not counted.

import matplotlib.pyplot as plt
import numpy as np
from shared import BLUE, INK, MUTED, VERMILION, keep

from tinyalex.layers import Conv2d
from tinyalex.layers.cook_toom import POINTS, cook_toom
from tinyalex.layers.winograd import WinogradConv2d
from tinyalex.network import alexnet
from tinyalex.randomness import key, normal
from tinyalex.recipes import recipe


def draw(*shape):
    return normal(key(0, "lesson 17", *shape), np.arange(np.prod(shape))).reshape(shape)


def two_outputs(d, g):
    m1 = (d[0] - d[2]) * g[0]
    m2 = (d[1] + d[2]) * ((g[0] + g[1] + g[2]) / 2)
    m3 = (d[2] - d[1]) * ((g[0] - g[1] + g[2]) / 2)
    m4 = (d[1] - d[3]) * g[2]
    return np.array([m1 + m2 + m3, m2 - m3 - m4])


print("by hand:", two_outputs(np.array([1, 2, 3, 4]), np.array([1, 2, 3])))
assert two_outputs(np.array([1, 2, 3, 4]), np.array([1, 2, 3])).tolist() == [14, 20]

# %%
# By hand, for d = (1, 2, 3, 4) and g = (1, 2, 3). The kernel's four factors are g0 = 1, (1 + 2 + 3) / 2 = 3,
# (1 - 2 + 3) / 2 = 1 and g2 = 3; they are computed once. Then
#
# - m1 = (1 - 3) x 1 = -2
# - m2 = (2 + 3) x 3 = 15
# - m3 = (3 - 2) x 1 = 1
# - m4 = (2 - 4) x 3 = -6
#
# and y0 = m1 + m2 + m3 = **14**, y1 = m2 - m3 - m4 = **20**. Directly: 1 x 1 + 2 x 2 + 3 x 3 = 14 and 2 x 1 + 3 x 2 +
# 4 x 3 = 20. Why it works:
#
# .. math::
#
#    m_2 + m_3 = d_1 g_1 + d_2 (g_0 + g_2) \\
#    m_2 - m_3 = d_1 (g_0 + g_2) + d_2 g_1
#
# In y0 the term d2 g0 is too much, and m1 = d0 g0 - d2 g0 takes it away again; in y1 it is d1 g2, and m4.

d, g = draw(4), draw(3)
assert np.allclose(two_outputs(d, g), np.correlate(d, g, "valid"), rtol=1e-13)
print("two outputs with 4 products instead of 6: the same")

# %%
# Where it comes from
# -------------------
# First multiply two polynomials: g0 + g1 t + g2 t² of the kernel, and p0 + p1 t, with as many coefficients as there are
# outputs. The product s has degree 3, so its values at four points determine it. Evaluate both polynomials at 0, 1 and
# -1 (and "at infinity", which means the leading coefficient), multiply point by point, and solve for the four
# coefficients of s. A matrix A evaluates p, a matrix G evaluates g, and a matrix B solves. The circle multiplies
# element by element:
#
# .. math::
#
#    s = B [(G g) \odot (A p)]
#
# A convolutional layer computes something else, the correlation. The same three matrices compute it too, transposed:
#
# 1. For a given g the line above is s = M p, with the matrix M = B diag(G g) A. As a coefficient of a product, s[i] is
#    the sum of all g[i - j] p[j]. So g[i - j] stands in row i and column j of M.
# 2. The correlation is y[j] = d[j] g[0] + d[j + 1] g[1] + d[j + 2] g[2], the sum of all g[i - j] d[i]. These are the
#    same numbers with rows and columns exchanged: y is M, transposed, times d.
# 3. The transpose of a product is the product of the transposes in the opposite order. So for M, transposed, we get
#
# .. math::
#
#    y = A^T [(G g) \odot (B^T d)]

A, G, B = cook_toom(2, ("0", "1", "-1"))
p = draw(2)
assert A.shape == (4, 2) and G.shape == (4, 3) and B.shape == (4, 4)
assert np.allclose(B @ ((G @ g) * (A @ p)), np.convolve(g, p), rtol=1e-13)  # the polynomials' product
assert np.allclose(A.T @ ((G @ g) * (B.T @ d)), two_outputs(d, g), rtol=1e-13)
for i in range(4):
    print(f"m{i + 1}: G {G[i]}, B, transposed {B.T[i]}, A {A[i]}")

# %%
# Each line belongs to one of the products above: a row of G is its factor from g, a row of the transposed B its factor
# from d, and a row of A says how it goes into y0 and y1. In m1 both factors have the opposite sign here, which changes
# nothing. In m4 only the factor from d has, d3 - d1, so y1 *adds* m4. (Solving divides by 2. The division is done in G,
# because G g is computed only once.)
#
# m outputs of an r-tap kernel take m + r - 1 products for every m. In two dimensions, transform first the columns of a
# tile and then its rows, so that B' d becomes B' D B and G g becomes G K G' (a prime transposes). Then m x m outputs
# take (m + r - 1)² products, not m² r². For m = 4 and r = 3 that is **36** instead of **144**. The package also has m =
# 5, **49** instead of **225**, because 3 tiles of 5 cover 13 pixels with little waste.

for m in (2, 4, 5):
    print(f"m = {m}: {(m + 2) ** 2} products instead of {9 * m * m}, {9 * m * m / (m + 2) ** 2:.2f} times fewer")

m, t = 4, 6
A, G, B = cook_toom(m, POINTS[m, 3])
tile, kernel = draw(t, t), draw(3, 3)
Y = A.T @ ((G @ kernel @ G.T) * (B.T @ tile @ B)) @ A
direct = np.array([[(tile[i : i + 3, j : j + 3] * kernel).sum() for j in range(m)] for i in range(m)])
assert np.allclose(Y, direct, rtol=1e-11, atol=1e-12)
print("a tile of 4 x 4 outputs agrees with direct convolution")

# %%
# A is applied last, so first add the products over the channels. For one of the t x t places in a tile this is, for all
# tiles and all maps at once, a matrix (tiles, c) times a matrix (c, o): a few large products, which run fast.
#
# The package's layer
# -------------------

x = draw(2, 13, 13, 16)
direct, fast = (kind(16, 24, 3, pad=1).named("conv3").build(dtype="float64") for kind in (Conv2d, WinogradConv2d))
y = direct.forward(x)
assert np.abs(fast.forward(x) - y).max() < 1e-12 * np.abs(y).max() * 100
dy = draw(*y.shape)
assert np.allclose(fast.backward(dy), direct.backward(dy), rtol=1e-9, atol=1e-10)
assert np.allclose(fast.W.grad, direct.W.grad, rtol=1e-9, atol=1e-10)
print("tinyalex.layers.winograd agrees with Conv2d, forward and backward")

# %%
# Now AlexNet's own layers. The algorithm needs stride 1, and conv1 has stride 4. So pad its 11 x 11 kernel with zeros
# to 12 x 12, which is 3 x 3 blocks of 4 x 4, and take the 4 x 4 x 3 = 48 numbers of a block for channels: a step of 4
# pixels is a step of one block. Tiles at the edge are computed whole and clipped.

network = alexnet.describe(recipe.load("original").net, devices=2)
before, after, tiles = {}, {}, {}  # products of one image, and m, by layer
for stage, shapes in zip(network.stages, network.shapes, strict=False):
    shape = stage.exchange.output_shapes(shapes)[0]
    for layer in stage.columns[0]:
        if isinstance(layer, WinogradConv2d):
            m, down, across = layer.tiling(shape)
            k, s = layer.geometry["kernel"], layer.geometry["stride"]
            channels = layer.channels * s * s
            before[layer.name], tiles[layer.name] = layer.multiply_adds(shape), m
            after[layer.name] = down * across * (m + -(-k // s) - 1) ** 2 * channels * layer.maps
        shape = layer.output_shape(shape)
for name in before:
    print(
        f"{name}: {before[name]:12,} products, {after[name]:12,} by tiles with m = {tiles[name]}, "
        f"{before[name] / after[name]:.2f} times fewer"
    )
ratio = sum(before.values()) / sum(after.values())
print(f"all five: {ratio:.1f} times fewer")
assert len(before) == 5 and 2.8 < ratio < 4.5

# %%
# **4.1** times fewer in all.
#
# The cost
# --------
# More additions, and less precision. Larger tiles need more points. Points far from 0 and 1 give large intermediate
# numbers that cancel later, and in float32 few correct digits are left. The choice of points matters as much as their
# number: points of size near 1, and pairs of a number and its reciprocal, with either sign (2 and -1/2, or -3/4 and
# -4/3), keep the numbers small.


def error(m, points):
    A, G, B = (matrix.astype(np.float32) for matrix in cook_toom(m, points))
    tiles, kernels = draw(200, m + 2, m + 2), draw(200, 3, 3) / 3
    y = A.T @ ((G @ kernels.astype(np.float32) @ G.T) * (B.T @ tiles.astype(np.float32) @ B)) @ A
    windows = np.lib.stride_tricks.sliding_window_view(tiles, (3, 3), axis=(1, 2))
    return float(np.abs(y - np.einsum("nijuv,nuv->nij", windows, kernels)).max())


integers = ("0", "1", "-1", "2", "-2", "3", "-3", "4", "-4")
sizes = range(2, 9)
by_integers = [error(m, integers[: m + 1]) for m in sizes]
chosen = {m: error(m, POINTS[m, 3]) for m in (4, 5)}
for m, value in zip(sizes, by_integers, strict=True):
    with_chosen = f", with the package's points {chosen[m]:.0e}" if m in chosen else ""
    print(f"m = {m}: largest error in float32 {value:.0e}{with_chosen}")
assert by_integers[-1] > 100 * by_integers[0] and chosen[5] < by_integers[3]

figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.4))
x = np.arange(len(before))
left.bar(x - 0.2, [value / 1e6 for value in before.values()], 0.4, color="#d7dce1", label="direct")
left.bar(x + 0.2, [value / 1e6 for value in after.values()], 0.4, color=BLUE, label="by tiles")
left.set_xticks(x, [name.rstrip("a") for name in before])
left.set(title="millions of products, one column, one image")
left.legend()
work = [(m + 2) ** 2 / m**2 for m in sizes]
right.semilogy(work, by_integers, "o-", color=MUTED, label="points 0, ±1, ±2, ...")
right.semilogy([work[2], work[3]], list(chosen.values()), "o", color=VERMILION, ms=8, label="the package's points")
for m, products, value in zip(sizes, work, by_integers, strict=True):
    right.annotate(f"m = {m}", (products, value), (4, 5), textcoords="offset points", fontsize=8, color=MUTED)
right.axvline(9, color=INK, lw=0.8)
right.text(8.9, by_integers[-1], "im2col: 9", ha="right", va="top")
right.set(title="fewer products, less precision", xlabel="products per output of a 3 x 3 kernel",
          ylabel="error in float32", xlim=(1, 9.4))  # fmt: skip
right.legend(loc="center", bbox_to_anchor=(0.62, 0.6))
keep(figure, "17_winograd")

# %%
# Try
# ---
# - ``tinyalex train --set net.convolution=im2col --out runs/im2col``: up to which digit are the losses those of
#   ``tinyalex train``?
#
#   .. answer::
#
#      ``log.jsonl`` has the mean of every three steps. The first differs in the sixth decimal, the third in the fourth.
#      Each step adds its rounding, and training makes small differences larger.
#
# - Why are there no transforms for 11 x 11 at stride 1? Count the points.
#
#   .. answer::
#
#      Two outputs of an 11-tap kernel need 12 points. Points far from 0 and 1, to high powers, cost more digits than
#      float32 has (see the right half of the figure).
#
# - Use the points 0, 1, -1, 1/2, -1/2 for m = 4. Is the error larger or smaller than with the package's?
#
#   .. answer::
#
#      Twice as large: 8.0e-06 against 4.2e-06 with 0, 1, -1, 2, -1/2. A number and its reciprocal balance each other.
#
# Exercise
# --------
# Compute three outputs of a 2-tap kernel with four products in ``lessons/exercises/ex17_toom.py``, then
# ``pytest -m ex17``. The test calls your function with numbers that count their multiplications.

"""
Lesson 4: Local response normalisation
======================================

:Question: What does local response normalisation do to a map, and does it do anything at all?
:Paper: §3.3.
:At the end: you have the layer forward and backward, and a number that explains why later nets do without it.
:Takes: 16 s on two cores.
:Run: ``python lessons/04_lrn.py``

The paper calls it "a form of lateral inhibition": large responses reduce their neighbours. The neighbours are adjacent
*maps* at the same position, in an order that "is of course arbitrary and determined before training begins".
"""

# %%
# The equation, one response at a time
# ------------------------------------
# .. math::
#
#    b_i = a_i / \left( k + \alpha \sum_{j = \max(0, i - n/2)}^{\min(N - 1, i + n/2)} a_j^2 \right)^\beta
#
# with k = 2, n = 5, alpha = 1e-4 and beta = 0.75. The sum is over n neighbouring maps of N; max and min clip it at the
# first and the last maps.

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import PercentFormatter
from shared import BLUE, MUTED, bare, constant_norms, epochs, keep, measured, middles, photograph, small

from tinyalex import gradcheck
from tinyalex.layers import LRN, Conv2d
from tinyalex.randomness import key, normal
from tinyalex.training.evaluation import evaluate
from tinyalex.training.loop import Training


def lrn_loops(a, k, n, alpha, beta):
    b = np.zeros_like(a)
    for at in np.ndindex(a.shape[:-1]):  # (image, row, column)
        for i in range(a.shape[-1]):
            energy = sum(a[at][j] ** 2 for j in range(max(0, i - n // 2), min(a.shape[-1] - 1, i + n // 2) + 1))
            b[at][i] = a[at][i] / (k + alpha * energy) ** beta
    return b


# %%
# With arrays the sum is n shifted copies, added up.


def lrn(a, k, n, alpha, beta):
    padded = np.pad(a * a, [(0, 0)] * (a.ndim - 1) + [(n // 2, n // 2)])
    energy = sum(padded[..., shift : shift + a.shape[-1]] for shift in range(n))
    return a / (k + alpha * energy) ** beta


a = np.maximum(normal(key(0, "lesson 4"), np.arange(3 * 3 * 9)).reshape(3, 3, 9), 0)
strong = {"k": 1.0, "n": 5, "alpha": 1.0, "beta": 0.75}
assert np.allclose(lrn(a, **strong), lrn_loops(a, **strong), rtol=1e-14)
layer = LRN(size=5, k=1.0, alpha=1.0, beta=0.75)
assert np.allclose(layer.forward(a), lrn(a, **strong), rtol=1e-13)
verdicts = [result.verdict for result in gradcheck.check(layer, a + 0.1)]
print("loops, arrays and tinyalex.layers.LRN agree; its gradient:", *verdicts)
assert verdicts == ["ok"]

# %%
# Why alpha = 1 here? Because with the paper's alpha = 1e-4 and numbers near 1 the sum hardly matters: without the
# neighbours, the results differ by less than one part in two thousand. A test with a tolerance of 1e-3, common for a
# whole network in float32, would not notice. A test needs inputs and constants for which a bug shows.

tiny = {"k": 2.0, "n": 5, "alpha": 1e-4, "beta": 0.75}
without = a / (2 + 1e-4 * a * a) ** 0.75
difference = np.abs(without / np.where(a > 0, lrn(a, **tiny), 1) - 1)[a > 0].max()
print(f"paper's constants, neighbours left out: relative difference {difference:.5f} at most")
assert difference < 5e-4

# %%
# When does it matter?
# --------------------
# Suppose all five neighbours have the same response r. The layer divides by (2 + 5e-4 r²)^0.75. For small r that is
# 2^0.75 = **1.68** whatever r is: a constant, which the next layer's weights can undo. The sum term reaches the size of
# k at r = sqrt(2 / 5e-4) = **63**. The 2012 code divides alpha by n; there it takes **141**. This is why it matters
# that AlexNet's pixels range from 0 to 255 and not from 0 to 1.

print(f"for small responses: divide by {2**0.75:.2f}")
print(f"the sum term equals k at r = {np.sqrt(2 / (5 * 1e-4)):.0f}, in the 2012 code at {np.sqrt(2 / 1e-4):.0f}")

# %%
# Now real pixels: a face, minus its mean, through an untrained conv1 with 96 kernels of standard deviation 0.01 as in
# §5. For comparison, the same responses divided by 255, as if pixels ranged from 0 to 1.

picture = photograph(227).astype(float)
conv = Conv2d(3, 96, 11, 4, std=0.01).named("conv1").build(dtype="float64")
responses = np.maximum(conv.forward((picture - picture.mean(axis=(0, 1)))[None])[0], 0)
shrunk = lrn(responses, **tiny)
strength = 1 - shrunk / np.where(responses > 0, responses, 1) * 2**0.75  # 0: only the constant; towards 1: inhibited
strength = strength[responses > 0]
unit_scale = 1 - (1 + 1e-4 / 2 * 5 * (responses / 255) ** 2) ** -0.75
print(f"largest response {responses.max():.0f}, median of the positive {np.median(responses[responses > 0]):.0f}")
print(f"inhibition beyond the constant: median {np.median(strength):.1%}, largest {strength.max():.0%}")
print(f"with pixels from 0 to 1: largest {unit_scale.max():.3%}")
assert 0.5 > np.median(strength) > 0.001 and strength.max() > 0.2 and unit_scale.max() < 1e-3

# %%
# "The ordering of the kernel maps is of course arbitrary and determined before training begins." In another order a map
# has other neighbours, so its output changes, where responses are strong by up to **58%**. But the first weights are
# random: every order is as good as any other, and the responses of the whole layer stay the same to a few thousandths.

order = normal(key(1, "lesson 4"), np.arange(96)).argsort()
reordered = np.empty_like(shrunk)
reordered[..., order] = lrn(responses[..., order], **tiny)
change = np.abs(reordered - shrunk)[responses > 0] / shrunk[responses > 0]
print(f"another order of the maps: single outputs change by up to {change.max():.0%}, "
      f"their mean by {abs(reordered.mean() / shrunk.mean() - 1):.2%}")  # fmt: skip
assert change.max() > 0.1 and abs(reordered.mean() / shrunk.mean() - 1) < 0.01

# %%
# For typical responses the layer is a constant factor; only the strongest ones are reduced. With pixels from 0 to 1 it
# is a division by 1.68 and nothing else, to less than 0.1 %. The paper reports a gain of 1.4 points of top-1 error, but
# the run without it (2012: ``layers-148.cfg``) also left out a second, spatial normalisation that the paper does not
# mention. A later run without both norms of layer 2 did no worse.
#
# Or a constant?
# --------------
# Our own measurement (``lessons/measure.py``): test errors of the lessons' small net, five seeds, with the layers,
# without them, and with each replaced by a *constant*, the division by k^0.75 = 1.68, which has no neighbours. Seed
# 1 is run again here.

results = measured("all", "constant norm", "no norm")
for data, rows in results.items():
    tests = np.array(rows)[:, :, 1]  # (seeds, versions)
    for name, errors in zip(("normalisation", "division by 1.68", "neither"), tests.T, strict=True):
        print(f"{data}, {name:16}: {errors.mean():.1%}, seed by seed", *(f"{error:.1%}" for error in errors))
tests = np.array(results["middles"])[:, :, 1]
assert (tests[:, 0] < tests[:, 2]).all() and (tests[:, 1] < tests[:, 2]).all()

data, again = middles(720, 480), {}
versions = {"normalisation": ("paper", None), "division by 1.68": ("paper", constant_norms), "neither": ("none", None)}
for (name, (norm, change)), recorded in zip(versions.items(), tests[1], strict=True):
    *_, (run, _, _) = epochs(small("learning.epochs=9", f"net.norm={norm}"), data, seed=1, change=change)
    again[name] = evaluate(run.network, data.test, data.mean, run.recipe).top1_error
    print(f"run just now, seed 1, {name:16}: {again[name]:.1%}, recorded {recorded:.1%}")
assert max(again["normalisation"], again["division by 1.68"]) < again["neither"] - 0.05

# %%
# On drawn images the net with the layers is better than without for every seed, **12.0%** against **30.7%**, by much
# more than the paper's 1.4 points. But the constant does as well: **13.0%**, better than the layers for three of the
# five seeds. On 720 photographs of CIFAR-10 it is the same: **72.8%** with the layers, **80.6%** without, **72.0%**
# with the constant. So what helps here is not inhibition. It is the *scale*: two divisions by 1.68 make signals and
# gradients smaller, as a smaller initialisation would. The responses say why: the small net's inputs have standard
# deviation 1, and at that size the layer *is* a constant. Before you credit a layer with what its name says, replace it
# by a constant and compare. (With pixels from 0 to 255, as in the paper, the two differ; this net does not test that.)

assert (tests[:, 1] < tests[:, 0]).sum() == 3
nets = [Training(small(), middles(64, 12)).network for _ in range(2)]
print("LRN layers replaced:", constant_norms(nets[1]))
x = normal(key(2, "lesson 4"), np.arange(8 * 27 * 27 * 3)).reshape(8, 27, 27, 3).astype(np.float32)
real, constant = (net.forward(x) for net in nets)
print(f"small net, logits with LRN and with the constant: relative difference "
      f"{np.abs(real - constant).max() / np.abs(real).max():.4f}")  # fmt: skip
assert np.abs(real - constant).max() < 0.01 * np.abs(real).max()

# %%
# The Jacobian
# ------------
# Backward needs the derivative of every output by every input. With N(i) for the window of map i:
#
# .. math::
#
#    y_i = x_i d_i^{-\beta}, \quad d_i = k + \alpha \sum_{j \in N(i)} x_j^2 \\
#    \frac{\partial d_i}{\partial x_j} = 2 \alpha x_j [j \in N(i)] \\
#    \frac{\partial y_i}{\partial x_j} = [i = j] d_i^{-\beta} - 2 \alpha \beta x_i x_j d_i^{-\beta-1} [j \in N(i)] \\
#    dx_j = dy_j d_j^{-\beta} - 2 \alpha \beta x_j \sum_{i: j \in N(i)} dy_i x_i d_i^{-\beta-1}
#
# The third line is a matrix with a band of negative numbers beside its diagonal. That band is the lateral inhibition,
# and a wrong backward pass often leaves it out. Here it is by the complex step and by the formula. (The exercise asks
# for the fourth line without the matrix, which no layer can afford.)

one = a[0, 0]
jacobian = np.array([lrn(one + 1e-30j * row, **strong).imag / 1e-30 for row in np.eye(9)]).T
near = np.abs(np.subtract.outer(range(9), range(9))) <= 2
d = 1 + near @ one**2
assert np.allclose(jacobian, np.diag(d**-0.75) - 2 * 0.75 * near * np.outer(one * d**-1.75, one), rtol=0, atol=1e-15)
assert (jacobian[~near] == 0).all()
layer.forward(one[None])
assert np.allclose(layer.backward(one[None] + 1), (one + 1) @ jacobian, rtol=1e-13)
print("the Jacobian by formula, by complex step and in tinyalex.layers.LRN: the same")

# %%
# Where the face is inhibited
# ---------------------------
# What share of all 96 responses at a position does normalisation take away, beyond the constant? **15%** where they
# are strongest, at the collar and the badge, and **2.9%** in the median: dark cloth and background are hardly touched.

inhibited = 1 - shrunk.sum(axis=-1) / responses.sum(axis=-1) * 2**0.75
print(f"share taken away at a position: median {np.median(inhibited):.1%}, largest {inhibited.max():.0%}")
assert inhibited.max() > 4 * np.median(inhibited)

figure, (maps, where, scatter, band) = plt.subplots(1, 4, figsize=(12, 3.1), width_ratios=[2.0, 1.15, 1.0, 0.9])
shown = where.imshow(inhibited, "magma", vmin=0)
figure.colorbar(shown, ax=where, shrink=0.85, format=PercentFormatter(1, 0))
where.set_title("where inhibition is strong")
bare(where)
o = int(responses.mean(axis=(0, 1)).argmax())
gap = np.full((55, 3), np.nan)
maps.imshow(np.hstack([responses[..., o], gap, shrunk[..., o] * 2**0.75]), "gray", vmin=0, vmax=responses[..., o].max())
maps.set_title("one map before and after, times 1.68")
bare(maps)
some = responses[::3, ::3].reshape(-1, 96)
scatter.plot(some.ravel(), lrn(some, **tiny).ravel(), ".", ms=1, color=BLUE, rasterized=True)
scatter.plot([0, some.max()], [0, some.max() / 2**0.75], "--", color=MUTED, lw=1)
scatter.set(title="before and after", xlabel="response a", ylabel="normalised b")
most = np.abs(jacobian).max()
band.imshow(jacobian, "RdBu_r", vmin=-most, vmax=most)
band.set(title="db_i / da_j at alpha = 1", xlabel="map j", ylabel="map i", xticks=[0, 4, 8], yticks=[0, 4, 8])
keep(figure, "04_lrn")

# %%
# Try
# ---
# - ``LRN(average=True)`` divides alpha by n, as in 2012. At which response does *its* sum term equal k?
#
#   .. answer::
#
#      At 141: alpha / 5 times the sum of five r² is 1e-4 r², which is 2 at r = sqrt(2 / 1e-4).
#
# - Multiply the picture by 4. Can you still recognise the face after the layer?
#
#   .. answer::
#
#      Yes, but its brightest parts are no longer the brightest. For five equal responses r the output r / (2 + 5e-4
#      r²)^0.75 has its maximum at r = 89; beyond that, a stronger response gives a *smaller* output.
#
# - After training, would another order of the maps still be as good as any?
#
#   .. answer::
#
#      No. The weights of this layer and of the next have been learned with these neighbours. Before training nothing
#      distinguishes one order from another.
#
# Exercise
# --------
# Write the backward pass with its cross terms in ``lessons/exercises/ex04_lrn.py``, then ``pytest -m ex04``.

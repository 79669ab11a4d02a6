"""
Lesson 4: Local response normalisation
======================================

:Question: What does local response normalisation do to a map, and does it do anything at all?
:Paper: §3.3.
:At the end: you have the layer forward and backward, and a number that explains why later nets do without it.
:Takes: 4 s on two cores.
:Run: ``python lessons/04_lrn.py``

The paper calls it "a form of lateral inhibition": large responses reduce their neighbours. The neighbours are adjacent
*maps* at the same position, in an order that "is of course arbitrary and determined before training begins".
"""

# %%
# The equation, one response at a time
# ------------------------------------
# b_i = a_i / (k + alpha * sum of a_j² over n neighbouring maps)^beta, with k = 2, n = 5, alpha = 1e-4, beta = 0.75.
# At the first and the last maps the window is clipped: "max(0, i - n/2)" and "min(N - 1, i + n/2)".

import matplotlib.pyplot as plt
import numpy as np
from shared import BLUE, MUTED, bare, keep, measured, photograph

from tinyalex import gradcheck
from tinyalex.layers import LRN, Conv2d
from tinyalex.randomness import key, normal


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
# For typical responses the layer is a constant factor; only the strongest edges are reduced. With pixels from 0 to 1 it
# is a division by 1.68 and nothing else, to less than 0.1 %. The paper reports a gain of 1.4 points of top-1 error, but
# the run without it (2012: ``layers-148.cfg``) also left out a second, spatial normalisation that the paper does not
# mention. A later run without both norms of layer 2 did no worse.
#
# Our own measurement (``lessons/measure.py``): test errors of the lessons' small net with the layers and without, five
# seeds.

for data, rows in measured("all", "no norm").items():
    pairs = [(with_[1], without[1]) for with_, without in rows]
    better = sum(with_ < without for with_, without in pairs)
    print(f"{data}: with {np.mean([p[0] for p in pairs]):.1%}, without {np.mean([p[1] for p in pairs]):.1%}, "
          f"better for {better} of {len(rows)} seeds")  # fmt: skip

    assert data != "middles" or better == len(rows)

# %%
# On drawn images the net with the layers is better for every seed, and by much more than the paper's 1.4 points. But
# the small net's inputs have standard deviation 1, so by the numbers above each layer divides by 1.68 and does nothing
# else. What helps cannot be inhibition. It must be the *scale*: two such layers make signals and gradients smaller, as
# a smaller initialisation would. Before you credit a layer with what its name says, replace it by a constant and
# compare.
#
# The Jacobian
# ------------
# In the backward pass, dy_i contributes to dx_j for every j in the window: the Jacobian has a band of negative numbers
# beside its diagonal. That band is the lateral inhibition, and a wrong backward pass often leaves it out.

one = a[0, 0]
jacobian = np.array([lrn(one + 1e-30j * row, **strong).imag / 1e-30 for row in np.eye(9)]).T
assert (jacobian[np.abs(np.subtract.outer(range(9), range(9))) > 2] == 0).all()

figure, (maps, scatter, band) = plt.subplots(1, 3, figsize=(9.6, 3.2), width_ratios=[2.0, 1.1, 1])
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
# - Multiply the picture by 4. Can you still recognise the face after the layer?
# - After training, would another order of the maps still be as good as any?
#
# Exercise
# --------
# Write the backward pass with its cross terms in ``lessons/exercises/ex04_lrn.py``, then ``pytest -m ex04``.

"""
Lesson 7: One update rule, written out
======================================

:Question: What do momentum and weight decay do, and does it matter how a library writes the update?
:Paper: §5, the update rule.
:At the end: you have written three rules that people call "SGD with momentum", and seen when they differ.
:Takes: 2 s on two cores.
:Run: ``python lessons/07_update.py``

In the paper's own symbols: v := 0.9 v - 0.0005 e w - e <dL/dw>, and then w := w + v, where e is the learning rate.
"""

# %%
# The rule
# --------
# The gradient is the *mean* over the batch, so its size does not grow with the batch. The weight decay is multiplied by
# the rate, so it gets smaller when the rate does. And v is the step itself: the rate is already in it.

import matplotlib.pyplot as plt
import numpy as np
from shared import BLUE, GREEN, INK, MUTED, VERMILION, keep

from tinyalex.layers import Linear
from tinyalex.network.columns import Exchange, Stage
from tinyalex.network.network import Network
from tinyalex.randomness import key, normal
from tinyalex.training.optimizer import Optimizer


def paper(w, v, g, rate, momentum=0.9, decay=0.0005):
    v = momentum * v - decay * rate * w - rate * g
    return w + v, v


fc8 = Linear(4, 3, std=0.5).named("fc8")
net = Network([Stage("fc8", Exchange([[0]]), [[fc8]])], (4,)).build(dtype="float64")
optimizer, W = Optimizer(net), fc8.W
w, v = W.value.copy(), np.zeros_like(W.value)
for number in range(20):
    W.grad[...] = g = normal(key(0, "lesson 7", number), np.arange(12)).reshape(4, 3)
    fc8.b.grad[...] = 0
    optimizer.update(rate=0.1)
    w, v = paper(w, v, g, 0.1)
    assert np.allclose(W.value, w, rtol=1e-14)
print("twenty steps of tinyalex.training.optimizer.Optimizer give the same weights")

# %%
# Ten times the rate
# ------------------
# With a constant gradient g, v converges to the solution of v = 0.9 v - e g, which is v = -10 e g: with momentum 0.9
# the steps become **10** times as long as without. Half of that length is reached after **7** steps.

w, v, trace = 0.0, 0.0, []
for _ in range(2000):
    w, v = paper(w, v, 1.0, 0.01, decay=0.0)
    trace.append(-v / 0.01)
half = 1 + int(np.argmax(np.array(trace) > trace[-1] / 2))
print(f"with a constant gradient of 1 the step grows to {trace[-1]:.0f} times the rate; half of that at step {half}")
assert abs(trace[-1] - 10) < 1e-3 and half == 7

# %%
# Weight decay alone: a weight without gradient shrinks by the factor 1 - 10 x 0.01 x 0.0005 a step, and is halved after
# **13,866** steps. An epoch of ILSVRC-2012 is 1,281,167 / 128 = 10,010 steps, so an unused weight is halved every
# **1.4** epochs. That is a strong effect, and the paper says so: "weight decay here is not merely a regularizer: it
# reduces the model's training error". At a rate of 1e-5, where training ended, halving takes more than a thousand
# epochs.

w, v, steps = 1.0, 0.0, 0
while w > 0.5:
    w, v = paper(w, v, 0.0, 0.01)
    steps += 1
print(f"without a gradient a weight is halved after {steps:,} steps, {steps / 10010:.1f} epochs")
assert steps == 13_866

# %%
# Three rules
# -----------
# PyTorch's default keeps the rate out of v: v := 0.9 v + g, w := w - e v. Nesterov's rule uses the gradient at the
# point that momentum is about to reach. While the rate is constant, the first two give the same weights, up to
# rounding. When the rate is divided by ten they differ: the paper's v still contains the old, long steps and shrinks
# over some ten steps; PyTorch's step is ten times shorter at once.


def torch_like(w, v, g, rate, momentum=0.9, decay=0.0005):
    v = momentum * v + g + decay * w
    return w - rate * v, v


def nesterov(w, v, g, rate, momentum=0.9, decay=0.0005):
    g = g + decay * w
    v = momentum * v + g
    return w - rate * (g + momentum * v), v


bowl = np.array([1.0, 12.0])  # curvatures of a valley: flat along x, steep along y
start = np.array([-4.0, 1.5])


def descend(rule, rates):
    w, v, path = start, np.zeros(2), [start]
    for rate in rates:
        w, v = rule(w, v, bowl * w, rate)
        path.append(w)
    return np.array(path)


constant = [0.02] * 60
assert np.allclose(descend(paper, constant), descend(torch_like, constant), rtol=0, atol=1e-14)
dropped = [0.02] * 20 + [0.002] * 40
a, b = descend(paper, dropped), descend(torch_like, dropped)
apart = np.abs(a - b).max(axis=1)
print(f"constant rate: equal; divided by 10 at step 20: {apart[20]:.0e} apart then, at most {apart.max():.2f} later")
assert apart[:21].max() < 1e-14 and apart.max() > 0.3

# %%
# The extra distance is at most ten steps of the old size. In a run of 900,000 steps with three drops that is
# negligible; in an exact comparison of two programs it is a difference that is hard to find.

plain = descend(lambda w, v, g, rate: paper(w, v, g, rate, momentum=0.0), constant)
ahead = descend(nesterov, constant)
figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.4), width_ratios=[1.45, 1])
xx, yy = np.meshgrid(np.linspace(-4.4, 2.6, 200), np.linspace(-1.9, 1.9, 200))
left.contour(
    xx, yy, bowl[0] * xx**2 + bowl[1] * yy**2, levels=np.linspace(0.3, 7, 9) ** 2, colors="#dfe3e7", linewidths=1
)
for path, colour, name in (
    (plain, MUTED, "no momentum"), (descend(paper, constant), BLUE, "the paper's, and PyTorch's"),
    (ahead, GREEN, "Nesterov's"),
):  # fmt: skip
    left.plot(*path.T, ".-", color=colour, lw=1.3, ms=4, label=name)
left.plot(0, 0, "+", color=INK, ms=10)
left.set(title="sixty steps down a valley", xticks=[], yticks=[])
left.legend(loc="lower right")
right.plot(a[:, 0], color=BLUE, lw=1.8, label="the paper's")
right.plot(b[:, 0], "--", color=VERMILION, lw=1.8, label="PyTorch's")
right.axvline(20, color="#b4bac1", lw=0.8)
right.text(20.8, a[:, 0].min(), "rate / 10", color=MUTED)
right.set(title="different after a change of the rate", xlabel="step", ylabel="along the valley")
right.legend(loc="lower right")
keep(figure, "07_update")

# %%
# Try
# ---
# - A rate of 0.17: without momentum the steep direction diverges. With momentum? The largest stable rate is 2 divided
#   by the curvature without momentum, and 3.8 divided by it with 0.9.
#
#   .. answer::
#
#      With momentum it converges: 0.17 x 12 = 2.04 lies between the two limits. After sixty steps w is (-0.16, 0.05)
#      with momentum, and (-0.00, 15.9) without.
#
# - Set ``momentum=0.99`` where the gradient is constant, and remove the assertion, which is for 0.9: how many steps to
#   half the final length, and how would you change the rate?
#
#   .. answer::
#
#      69 steps, and the final step is 100 times the rate: divide the rate by ten to keep the old length.
#
# - The 2012 code gives biases twice the rate and no weight decay: ``optimizer.update(rate, bias_rate=2 * rate)``.
#
# Exercise
# --------
# "Divide the learning rate by 10 when the validation error rate stopped improving": write that rule as a function of
# the validation errors so far in ``lessons/exercises/ex07_plateau.py``, then ``pytest -m ex07``.

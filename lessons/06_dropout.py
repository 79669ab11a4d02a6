"""
Lesson 6: Dropout is many networks
==================================

:Question: What is averaged when units drop out, and how good an average is "multiply by 0.5"?
:Paper: §4.2.
:At the end: you have enumerated all 1024 networks that a layer of ten units contains, and compared three averages.
:Takes: 2 s on two cores.
:Run: ``python lessons/06_dropout.py``

"So every time an input is presented, the neural network samples a different architecture, but all these architectures
share weights. [...] At test time, we use all the neurons but multiply their outputs by 0.5, which is a reasonable
approximation to taking the geometric mean of the predictive distributions produced by the exponentially-many dropout
networks." With 4096 units nobody can look at that mean. With ten, we can.
"""

# %%
# The layer
# ---------
# In training a coin falls for every unit and every image; in backward the same coins are used again, so a silent unit
# learns nothing from this image. The package draws the coins from a hash of (seed, layer, step, image, unit): nothing
# random has to be remembered, and any number of threads or columns gets the same coins.

import matplotlib.pyplot as plt
import numpy as np
from shared import BLUE, GREEN, MUTED, VERMILION, keep, measured

from tinyalex import gradcheck
from tinyalex.layers import Dropout
from tinyalex.randomness import Step, bits, key, normal


def draw(*shape):
    return normal(key(0, "lesson 6", *shape), np.arange(np.prod(shape))).reshape(shape)


x, here = draw(8, 10), Step(seed=0, number=0)
layer = Dropout(0.5, "fc6")
y = layer.forward(x, training=True, step=here)
coins = bits(key(0, "dropout", "fc6", 0), np.arange(8)[:, None], np.arange(10)) >= 2**31
assert np.array_equal(y, x * coins)
assert np.array_equal(layer.backward(np.ones_like(x)), coins)
assert np.array_equal(layer.forward(x), 0.5 * x)  # at test time
assert [each.verdict for each in gradcheck.check(Dropout(0.5, "fc6"), x, training=True, step=here)] == ["ok"]
print(f"{np.count_nonzero(~coins)} of {coins.size} units silent in this step")

# %%
# All networks of a softmax layer
# -------------------------------
# Ten hidden units h, five classes: z = (m h) W + b, p = softmax(z), for each of the 2^10 = **1024** masks m. Three ways
# to combine 1024 predictions: average the probabilities; average their logarithms and normalise (the geometric mean);
# or do not enumerate anything, and halve h.

h, W, b = np.maximum(draw(10), 0) + 0.5, draw(10, 5), draw(5)
masks = (np.arange(1024)[:, None] >> np.arange(10) & 1).astype(float)
print(f"{len(masks)} networks")


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def averages(networks):
    geometric = np.exp(np.log(networks).mean(axis=0))
    return networks.mean(axis=0), geometric / geometric.sum()


one_layer = softmax(masks * h @ W + b)
arithmetic, geometric = averages(one_layer)
halved = softmax(0.5 * h @ W + b)
for name, p in (("arithmetic", arithmetic), ("geometric", geometric), ("halved", halved)):
    print(f"{name:10}", np.round(p, 4))
print(f"halved against geometric: {np.abs(halved - geometric).max():.0e}; "
      f"against arithmetic: {np.abs(halved - arithmetic).max():.3f}")  # fmt: skip
assert np.abs(halved - geometric).max() < 1e-13

# %%
# Not approximately: *exactly*. The logarithm of a softmax is z minus a constant, z is linear in the mask, and the mean
# of the mask is one half. So for the last hidden layer the paper's "reasonable approximation" is an equality.
#
# Two layers
# ----------
# The paper drops units in two layers. Between them is a ReLU, and a mean does not pass through a corner. Enumerate the
# masks of six and six units, 4096 networks, for 200 different inputs.

W1, W2, b2 = draw(6, 6), draw(6, 5), np.zeros(5)
inputs = np.abs(draw(200, 6)) * 2
m = (np.arange(64)[:, None] >> np.arange(6) & 1).astype(float)
hidden = np.maximum(inputs[:, None] * m @ W1, 0)  # (200, 64, 6)
networks = softmax(hidden[:, :, None] * m @ W2 + b2).reshape(200, 4096, 5)
truth = np.array([averages(each)[1] for each in networks])
guess = softmax(0.5 * np.maximum(0.5 * inputs @ W1, 0) @ W2 + b2)
gap = np.abs(guess - truth).max(axis=1)
same = (guess.argmax(axis=1) == truth.argmax(axis=1)).mean()
print(f"two layers: probabilities off by {np.median(gap):.3f} in the median, same first guess for {same:.1%} of inputs")
assert np.median(gap) > 1e-3 and same > 0.8

# %%
# Off by a few points, and nearly always the same answer. That is what "reasonable" means here.
#
# Does it help?
# -------------
# The lessons' small net on 240 images, which it can learn by heart, with dropout and without (``lessons/measure.py``,
# five seeds). Dropout also "roughly doubles the number of iterations required to converge", and twenty epochs of so few
# images are not many.

for data, seeds in measured("few images", "few images, dropout").items():
    rows = np.array(seeds).swapaxes(0, 1)
    (train, test), (train_drop, test_drop) = rows.mean(axis=1)
    better = (rows[1, :, 1] < rows[0, :, 1]).sum()
    print(f"{data}: without, training {train:.1%} test {test:.1%}; "
          f"with, training {train_drop:.1%} test {test_drop:.1%}; "
          f"better at {better} of {len(seeds)} seeds")  # fmt: skip

    assert data != "middles" or better == 0

# %%
# Not here, and at no seed: with half of its units silent the net has hardly begun to learn, as the *test* error says
# too (the training error is counted with units silent). There is nothing yet to generalise from. Dropout is a remedy
# for nets that have learned by heart, with time to spare, which is AlexNet's case: 60 million parameters and 90 epochs.
# It is not a remedy for too little training.
#
# What it looks like
# ------------------

figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.4), width_ratios=[1.3, 1])
c = int(arithmetic.argmax())
left.hist(one_layer[:, c], bins=40, color="#d7dce1")
for value, text, colour, height in (
    (arithmetic[c], "arithmetic mean", BLUE, 0.95), (geometric[c], "geometric mean", GREEN, 0.83),
    (halved[c], "halved: the same", VERMILION, 0.71),
):  # fmt: skip
    left.axvline(value, color=colour, lw=1.8, ls="--" if "halved" in text else "-")
    left.text(value + 0.01, height, text, color=colour, weight="bold", transform=left.get_xaxis_transform())
left.set(title="1024 networks give one class a probability", xlabel=f"p(class {c})", ylabel="networks")
right.plot([0, 1], [0, 1], color=MUTED, lw=0.8)
right.plot(truth.ravel(), guess.ravel(), ".", ms=3, color=VERMILION, alpha=0.5)
right.set(title="two layers: close, no more", xlabel="geometric mean of 4096 networks", ylabel="halved twice")
right.set_aspect("equal")
keep(figure, "06_dropout")

# %%
# Try
# ---
# - Make the units of the one layer louder (``3 * h``): which of the two means runs away from the other?
# - Use p = 0.8: what must "halved" become, and does the equality survive?
# - Many libraries multiply by 2 in training instead of by 0.5 at test. Which learning rates would you have to change?
#
# Exercise
# --------
# Dropout with the coins given, forward, backward and test, in ``lessons/exercises/ex06_dropout.py``; then
# ``pytest -m ex06``.

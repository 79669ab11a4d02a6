"""
Lesson 6: Dropout is many networks
==================================

:Question: What does dropout average, and how good an approximation of that average is "multiply by 0.5"?
:Paper: §4.2.
:At the end: you have enumerated all 1024 networks that a layer of ten units contains, and compared three averages.
:Takes: 8 s on two cores.
:Run: ``python lessons/06_dropout.py``

"So every time an input is presented, the neural network samples a different architecture, but all these architectures
share weights. [...] At test time, we use all the neurons but multiply their outputs by 0.5, which is a reasonable
approximation to taking the geometric mean of the predictive distributions produced by the exponentially-many dropout
networks." With 4096 units nobody can compute that mean. With ten, we can.
"""

# %%
# The layer
# ---------
# In training each unit of each image is kept or dropped with probability 1/2; backward uses the same mask, so a dropped
# unit gets no gradient from this image. The package computes the mask from a hash of (seed, layer, step, image, unit):
# no generator state has to be saved, and any number of threads or columns gives the same mask.

import matplotlib.pyplot as plt
import numpy as np
from shared import BLUE, GREEN, MUTED, VERMILION, keep, measured, middles

from tinyalex import gradcheck
from tinyalex.layers import Dropout, Linear, ReLU, SoftmaxLoss
from tinyalex.randomness import Step, bits, key, normal, permutation


def draw(*shape):
    return normal(key(0, "lesson 6", *shape), np.arange(np.prod(shape))).reshape(shape)


x, step = draw(8, 10), Step(seed=0, number=0)
layer = Dropout(0.5, "fc6")
y = layer.forward(x, training=True, step=step)
mask = bits(key(0, "dropout", "fc6", 0), np.arange(8)[:, None], np.arange(10)) >= 2**31
assert np.array_equal(y, x * mask)
assert np.array_equal(layer.backward(np.ones_like(x)), mask)
assert np.array_equal(layer.forward(x), 0.5 * x)  # at test time
assert [result.verdict for result in gradcheck.check(Dropout(0.5, "fc6"), x, training=True, step=step)] == ["ok"]
print(f"{np.count_nonzero(~mask)} of {mask.size} units dropped in this step")

# %%
# All networks of a softmax layer
# -------------------------------
# Ten hidden units h, five classes: z = (m h) W + b, p = softmax(z), for each of the 2^10 = **1024** masks m. Two ways
# to combine 1024 predictions: average the probabilities, or average their logarithms and normalise (the geometric
# mean). The paper's short cut computes one prediction, with h halved.

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
# Halving gives the geometric mean not approximately but *exactly*. The logarithm of a softmax is z minus a number that
# is the same for all classes, z is linear in the mask, and the mean of the mask is one half. So for the last hidden
# layer the paper's "reasonable approximation" is an equality.
#
# Two layers
# ----------
# The paper drops units in two layers. Between them is a ReLU, and the mean of ReLU outputs is not the ReLU of the mean.
# Enumerate the masks of six and six units, 4096 networks, for 200 different inputs.

W1, W2, b2 = draw(6, 6), draw(6, 5), np.zeros(5)
inputs = np.abs(draw(200, 6)) * 2
m = (np.arange(64)[:, None] >> np.arange(6) & 1).astype(float)
hidden = np.maximum(inputs[:, None] * m @ W1, 0)  # (200, 64, 6)
networks = softmax(hidden[:, :, None] * m @ W2 + b2).reshape(200, 4096, 5)
exact = np.array([averages(predictions)[1] for predictions in networks])
halved_twice = softmax(0.5 * np.maximum(0.5 * inputs @ W1, 0) @ W2 + b2)
gap = np.abs(halved_twice - exact).max(axis=1)
same = (halved_twice.argmax(axis=1) == exact.argmax(axis=1)).mean()
print(f"two layers: probabilities off by {np.median(gap):.3f} in the median, same top class for {same:.1%} of inputs")
assert np.median(gap) > 1e-3 and same > 0.8

# %%
# The probabilities are off by **0.069** in the median, 7 points. For **91.0%** of the inputs the top class is the same;
# for one input in eleven it is another. So for two layers it is an approximation, and for this small net a rough one.
#
# Does it help?
# -------------
# The lessons' small net on 240 images, few enough to memorise, with dropout and without (``lessons/measure.py``, five
# seeds). Dropout also "roughly doubles the number of iterations required to converge", and twenty epochs of so few
# images are few iterations.

for data, seeds in measured("few images", "few images, dropout").items():
    rows = np.array(seeds).swapaxes(0, 1)
    (train, test), (train_drop, test_drop) = rows.mean(axis=1)
    better = (rows[1, :, 1] < rows[0, :, 1]).sum()
    print(f"{data}: without, training {train:.1%} test {test:.1%}; "
          f"with, training {train_drop:.1%} test {test_drop:.1%}; "
          f"better for {better} of {len(seeds)} seeds")  # fmt: skip

    assert better == 0

# %%
# Not here, for no seed, and not on 240 photographs of CIFAR-10. Guessing among 12 classes has an error of 91.7 %;
# without dropout the net has come far below that, with dropout it is still at **75.7%** on the drawn images. With half
# of its units dropped the net has hardly begun to learn. The *test* error shows it, for which no units are dropped (the
# training error is measured with dropout on). Dropout helps a net that overfits and is trained long enough, like
# AlexNet with 60 million parameters and 90 epochs. It does not help with too little training.
#
# A net that overfits
# -------------------
# Here is such a net: three fully connected layers on 8 x 8 pixels, which are the means of 4 x 4. With **118,284**
# weights it learns 240 images by heart within a hundred steps, so the four hundred that follow are long enough.

data = middles(240, 1000)
pixels = [part.images.reshape(-1, 8, 4, 8, 4, 3).mean(axis=(2, 4)).reshape(-1, 192) for part in (data.train, data.test)]
train, test = ((part - pixels[0].mean(axis=0)) / pixels[0].std() for part in pixels)
labels = [np.asarray(part.labels) for part in (data.train, data.test)]


def trained(rate_of_dropping, seed, steps=400):
    layers = [Linear((192,), 256), ReLU(), Dropout(rate_of_dropping, "fc6")]
    layers += [Linear((256,), 256), ReLU(), Dropout(rate_of_dropping, "fc7"), Linear((256,), 12, std=0.01)]
    for i, layer in enumerate(layers[::3]):
        layer.named(f"fc{6 + i}").build(seed=seed, dtype="float64")
    loss, parameters = SoftmaxLoss(), [parameter for layer in layers for parameter in layer.parameters]
    velocities = [np.zeros(parameter.shape) for parameter in parameters]
    for number in range(steps):
        batch = permutation(key(seed, "lesson 6", number), 240)[:60]
        a = train[batch]
        for layer in layers:
            a = layer.forward(a, training=True, step=Step(seed, number))
        loss.forward(a, labels[0][batch])
        g = loss.backward()
        for layer in layers[::-1]:
            g = layer.backward(g)
        for v, parameter in zip(velocities, parameters, strict=True):
            v[...] = 0.9 * v - 0.05 * parameter.grad
            parameter.value += v
    errors = []
    for a, right in zip((train, test), labels, strict=True):
        for layer in layers:
            a = layer.forward(a)
        errors.append((a.argmax(axis=1) != right).mean())
    print(f"seed {seed}, p = {rate_of_dropping}: {sum(w.size for w in parameters):,} weights, "
          f"training error {errors[0]:.1%}, test error {errors[1]:.1%}")  # fmt: skip
    return errors


for seed in range(3):
    (train_without, test_without), (train_with, test_with) = trained(0.0, seed), trained(0.5, seed)
    assert train_without == 0 and train_with < 0.05 and test_with < test_without - 0.02

# %%
# Both nets know the training images by heart, with dropout too. On new images the one with dropout makes fewer errors,
# by some five points, for each of three seeds. (Both make many: 240 images and no convolution are little for 12
# classes.) The second net could not rely on any single unit of fc6 and fc7; "this technique reduces complex
# co-adaptations of neurons".
#
# What it looks like
# ------------------

figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.4), width_ratios=[1.3, 1])
c = int(arithmetic.argmax())
left.hist(one_layer[:, c], bins=40, color="#d7dce1")
for value, text, colour, height in (
    (arithmetic[c], "arithmetic mean", BLUE, 0.95), (geometric[c], "geometric mean", GREEN, 0.83),
    (halved[c], "halved: equal to it", VERMILION, 0.71),
):  # fmt: skip
    left.axvline(value, color=colour, lw=1.8, ls="--" if "halved" in text else "-")
    side = -1 if "arithmetic" in text else 1
    left.text(value + 0.01 * side, height, text, color=colour, weight="bold", ha="left" if side > 0 else "right",
              transform=left.get_xaxis_transform())  # fmt: skip
left.set(title="the probability of one class in 1024 networks", xlabel=f"p(class {c})", ylabel="networks")
right.plot([0, 1], [0, 1], color=MUTED, lw=0.8)
right.plot(exact.ravel(), halved_twice.ravel(), ".", ms=3, color=VERMILION, alpha=0.5)
right.set(title="two layers: only close", xlabel="geometric mean of 4096 networks", ylabel="halved twice")
right.set_aspect("equal")
keep(figure, "06_dropout")

# %%
# Try
# ---
# - Scale up the hidden units of the one layer (``3 * h``): how far apart are the two means now?
#
#   .. answer::
#
#      By 0.39: the geometric mean says 97 % for the second class, the arithmetic one 58 %. Larger logits make single
#      networks surer, and one that is sure of something else counts more in a geometric mean. Halving is still exact.
#
# - Use p = 0.8: by what must you multiply instead of 0.5, and does the equality still hold?
#
#   .. answer::
#
#      By 0.2, the probability to be kept. The equality holds if the geometric mean weights each network by its
#      probability, 0.2 for each unit that it has and 0.8 for each that it lacks.
#
# - Many libraries multiply by 2 in training instead of by 0.5 at test (inverted dropout). Which learning rates would
#   you have to change?
#
#   .. answer::
#
#      Those of the weights that read dropped units, in fc7 and fc8. Their inputs are twice as large. So the same net
#      has weights w' = w / 2, and their gradients are g' = 2 g. In each step w' has to move half as far as w:
#      rate' x 2 g = rate x g / 2, so rate' = rate / 4. Biases and all other layers are as before.
#
# Exercise
# --------
# Write dropout with a given mask, forward and backward, for training and for test, in
# ``lessons/exercises/ex06_dropout.py``; then ``pytest -m ex06``.

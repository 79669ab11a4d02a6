"""
Lesson 2: Backprop by hand, checked by numbers
==============================================

:Question: How do I know that my gradient is right?
:Paper: §5, the derivative of the objective with respect to w; §3.5, the objective itself.
:At the end: you have derived two layers, checked them three ways, and caught a bug that trains happily.
:Takes: 4 s on two cores.
:Run: ``python lessons/02_backprop.py``

A wrong gradient seldom crashes. It learns a little worse than a right one, and you blame the learning rate. So every
backward pass in this project is held to its own forward pass by a machine. This lesson builds that machine.
"""

# %%
# Two layers and what comes back
# ------------------------------
# The paper "maximizes the average across training cases of the log-probability of the correct label". Turned round:
# minimize L = -mean(log p), with p = softmax(z) and z = x W + b. Each backward pass begins with a line of calculus.
# Write dz for dL/dz and so on, n for the number of images, x.T for x with rows and columns exchanged, and
# [class is right] for 1 at the image's own class and 0 elsewhere:
#
# - softmax and logarithm together: dz = (p - [class is right]) / n
# - z = x W + b: dW = x.T dz, db = the sum of dz over its rows, dx = dz W.T

import matplotlib.pyplot as plt
import numpy as np
from shared import BLUE, GREEN, INK, MUTED, VERMILION, keep

from tinyalex import gradcheck
from tinyalex.layers import Conv2d, SoftmaxLoss
from tinyalex.randomness import key, normal


def draw(*shape):
    return normal(key(0, "lesson 2", *shape), np.arange(np.prod(shape))).reshape(shape)


x, W, b, labels = draw(4, 6), draw(6, 3), draw(3), np.array([0, 2, 1, 2])


def loss(W):
    z = x @ W + b
    z = z - z.real.max(axis=1, keepdims=True)
    return (np.log(np.exp(z).sum(axis=1)) - z[np.arange(4), labels]).mean()


z = x @ W + b
p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
dz = (p - np.eye(3)[labels]) / 4
dW = x.T @ dz
print("x", x.shape, " W", W.shape, " z", z.shape, " dz", dz.shape, " dW", dW.shape)
assert dW.shape == W.shape

ours = SoftmaxLoss()
assert np.isclose(ours.forward(z, labels), loss(W), rtol=1e-14)
assert np.allclose(ours.backward(), dz, rtol=1e-13)
print("tinyalex.layers.SoftmaxLoss agrees")

# %%
# Push and look
# -------------
# The definition of a derivative is a test: push one weight by h, and see how much the loss moves. Central differences
# push both ways, which leaves an error of order h². Small h is better, until it is not: the difference of two nearly
# equal numbers keeps few of their digits, and dividing by h blows up what is left.
#
# There is a way out. Push W by the *imaginary* number ih. Then L(W + ih) = L(W) + ih L'(W) - ..., so the derivative
# lies alone in the imaginary part. Nothing is subtracted, and h can be 1e-30.


def slope(h, way):
    push = np.zeros_like(W)
    push[1, 2] = h
    if way == "complex":
        return loss(W + 1j * push).imag / h
    if way == "forward":
        return (loss(W + push) - loss(W)) / h
    return (loss(W + push) - loss(W - push)) / (2 * h)


steps = np.logspace(-1, -20, 77)
errors = {w: [abs(slope(h, w) / dW[1, 2] - 1) for h in steps] for w in ("forward", "central", "complex")}
for way, found in errors.items():
    print(f"{way:8} best error {min(found):.0e} at step {steps[np.argmin(found)]:.0e}")
assert min(errors["forward"]) > 1e-10 > min(errors["central"]) > 1e-14
assert errors["complex"][-1] < 4e-15

# %%
# A bug that trains happily
# -------------------------
# Here is a convolution whose ``backward`` forgets one thing: the gradient of its input comes back upside down. The
# layer still learns, because dW is right; only what lies *below* it gets nonsense. A net of two layers would train.


class Upside(Conv2d):
    def backward(self, dy):
        return super().backward(dy)[:, ::-1]


image = draw(1, 6, 6, 2)
right = gradcheck.check(Conv2d(2, 3, 3, pad=1).named("right").build(dtype="float64"), image)
wrong = gradcheck.check(Upside(2, 3, 3, pad=1).named("upside").build(dtype="float64"), image)
print(gradcheck.table(right + wrong))
assert [each.verdict for each in right] == ["ok", "ok", "ok"]
assert [each.verdict for each in wrong] == ["FAIL", "ok", "ok"]

# %%
# The checker multiplies the output by random numbers, and not by ones, before it asks for the derivative. With ones the
# bug would be invisible in the middle of the image, where up and down are alike: sums do not see order. In the
# package's own tests each such bug is planted on purpose, and the suite has to reject every one.
#
# Where there is no derivative
# ----------------------------
# max(0, x) has a corner at 0, and max pooling one wherever two pixels tie. No step is small enough for a point on the
# corner. The checker looks for a bend on both sides, and then neither passes nor fails it.


class Ramp:
    def forward(self, x):
        self.x = x
        return x * (x.real > 0)

    def backward(self, dy):
        return dy * (self.x > 0)


verdict = gradcheck.check(Ramp(), np.array([[-1.0, 0.0, 2.0]]))[0].verdict
print("ReLU at -1, 0 and 2:", verdict)
assert verdict == "not differentiable here (1 of 3)"

# %%
# What it looks like
# ------------------

figure, (left, middle) = plt.subplots(1, 2, figsize=(9, 3.6), width_ratios=[1.5, 1])
for (way, found), colour in zip(errors.items(), (MUTED, VERMILION, BLUE), strict=True):
    left.loglog(steps, np.maximum(found, 1e-17), color=colour, lw=1.8, label=way)
left.invert_xaxis()
left.set(title="How wrong is a measured derivative?", xlabel="step h, smaller to the right", ylabel="relative error")
for text, at, colour in (
    ("forward", (3e-4, 6e-3), MUTED), ("central", (2e-8, 3e-11), VERMILION), ("complex", (1e-11, 5e-15), BLUE)
):  # fmt: skip
    left.text(*at, text, color=colour, weight="bold", ha="left")
left.text(2e-13, 1e-1, "rounding", color=INK, ha="center")
left.text(1e-2, 1e-13, "h is\ntoo large", color=INK, ha="center")
grid = np.linspace(-1, 1, 201)
middle.plot(grid, np.maximum(grid, 0), color=BLUE, lw=2)
for h, colour in ((0.8, VERMILION), (0.3, GREEN)):
    middle.plot([-h, h], [0, h], "o-", color=colour, lw=1.2, ms=4)
middle.set(title="At a corner every step says 0.5", xlabel="x", ylabel="max(0, x)", aspect="equal")
keep(figure, "02_backprop")

# %%
# Try
# ---
# - Compute ``x``, ``W`` and ``b`` in float32: how good can central differences become now?
# - Replace ``z.real.max`` by ``z.max``, or ``(x.real > 0)`` by ``abs(x) > 0``: what does the complex step make of it?
# - Let ``Upside`` return ``dx[:, :, ::-1]``, or halve ``self.b.grad``. Which row of the table says so?
#
# Exercise
# --------
# The input gradient of a convolution, from ``dy`` and the kernels alone, without im2col: lay the kernels over ``dy``
# turned round by 180 degrees. Write it in ``lessons/exercises/ex02_input_gradient.py``, then ``pytest -m ex02``.

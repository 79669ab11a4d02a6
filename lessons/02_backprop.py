"""
Lesson 2: Backprop by hand, checked by numbers
==============================================

:Question: How do I know that my gradient is right?
:Paper: §5, the derivative of the objective with respect to w; §3.5, the objective itself.
:At the end: you have derived the gradients of two layers, checked one of them three ways, and found a bug that does not
    stop training.
:Takes: 4 s on two cores.
:Run: ``python lessons/02_backprop.py``

A wrong gradient seldom crashes. The net learns a little worse than with a right one, and you blame the learning rate.
So a gradient checker compares every backward pass in this project with its forward pass. This lesson builds that
checker.
"""

# %%
# Two layers and their gradients
# ------------------------------
# The paper "maximizes the average across training cases of the log-probability of the correct label". Equivalently:
# minimize L = -mean(log p), with p = softmax(z) and z = x W + b. Each backward pass begins with a line of calculus.
# Write dz for dL/dz and so on, n for the number of images, x.T for the transpose of x, and [class is right] for 1 at
# the image's own class and 0 elsewhere (one-hot):
#
# - softmax and logarithm together: dz = (p - [class is right]) / n
# - z = x W + b: dW = x.T dz, db = the sum of dz over its rows, dx = dz W.T
#
# The first, for one image of class c. Its loss is :math:`-\log p_c`, the logarithm of a quotient, so a difference:
#
# .. math::
#
#    L = -\log \frac{e^{z_c}}{\sum_k e^{z_k}} = \log \sum_k e^{z_k} - z_c \\
#    \frac{\partial}{\partial z_j} \log \sum_k e^{z_k} = \frac{e^{z_j}}{\sum_k e^{z_k}} = p_j \\
#    \frac{\partial z_c}{\partial z_j} = [j = c] \\
#    \frac{\partial L}{\partial z_j} = p_j - [j = c]
#
# The mean over n images divides by n. What the net says minus what is right: no exponential is left.

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
# Followed by number
# ------------------
# One image of two numbers through three layers of two units, ReLUs between them, b = (0, 4.5) in the last. Follow the
# gradient back: each line below is the one above times a transposed matrix, or masked by a ReLU.

image = np.array([1.0, 2.0])
W1, W2, W3 = np.array([[[1, -2], [1, 0.5]], [[1, 0.5], [2, 3]], [[1, -1], [0, 1]]])
z1 = image @ W1  # (3, -1)
a1 = np.maximum(z1, 0)  # (3, 0): the second unit is off
z2 = a1 @ W2  # (3, 1.5)
a2 = np.maximum(z2, 0)
z3 = a2 @ W3 + (0, 4.5)  # (3, 3): the net cannot decide
dz3 = np.exp(z3) / np.exp(z3).sum() - (1, 0)  # (0.5, 0.5) - (1, 0): raise the first logit, lower the second
dz2 = (dz3 @ W3.T) * (z2 > 0)
da1 = dz2 @ W2.T
dz1 = da1 * (z1 > 0)
dW1 = np.outer(image, dz1)
for name, value in (("z1", z1), ("z2", z2), ("z3", z3), ("dz3", dz3), ("dz2", dz2), ("da1", da1), ("dz1", dz1)):
    print(f"{name:4}", value + 0.0)  # + 0.0 turns -0.0 into 0.0
print("dW1 ", *(dW1 + 0.0))
assert dz2.tolist() == [-1, 0.5] and da1.tolist() == [-0.75, -0.5] and dz1.tolist() == [-0.75, 0]


def loss_of(W1):
    a = image @ W1
    a = (a * (a.real > 0)) @ W2
    z = (a * (a.real > 0)) @ W3 + (0, 4.5)
    return np.log(np.exp(z).sum()) - z[0]


for at in np.ndindex(2, 2):
    change = np.zeros((2, 2), complex)
    change[at] = 1e-30j
    assert np.isclose(loss_of(W1 + change).imag / 1e-30, dW1[at], rtol=1e-14)  # the complex step, explained below

# %%
# **-0.5** arrives at the unit that is off, and stops there: its ReLU has slope 0 at -1, so for this image the weights
# in front of it have no gradient. The other unit gets **-0.75**; its weights get that times their inputs, 1 and 2.
#
# Finite differences and the complex step
# ---------------------------------------
# The definition of a derivative is a test: change one weight by h, and measure the change of the loss. Central
# differences use +h and -h, which leaves an error of order h². A smaller h is better only up to a point: the difference
# of two nearly equal numbers has few correct digits, and dividing by a small h magnifies its error.
#
# The complex step avoids this. Change W by the *imaginary* number ih. Then L(W + ih) = L(W) + ih L'(W) - ..., so the
# imaginary part divided by h is the derivative. Nothing is subtracted, and h can be 1e-30.


def derivative(h, method):
    change = np.zeros_like(W)
    change[1, 2] = h
    if method == "complex":
        return loss(W + 1j * change).imag / h
    if method == "forward":
        return (loss(W + change) - loss(W)) / h
    return (loss(W + change) - loss(W - change)) / (2 * h)


steps = np.logspace(-1, -20, 77)
errors = {
    method: [abs(derivative(h, method) / dW[1, 2] - 1) for h in steps] for method in ("forward", "central", "complex")
}
for method, found in errors.items():
    print(f"{method:8} best error {min(found):.0e} at step {steps[np.argmin(found)]:.0e}")
assert min(errors["forward"]) > 1e-10 > min(errors["central"]) > 1e-14
assert errors["complex"][-1] < 4e-15

# %%
# A bug that does not stop training
# ---------------------------------
# Here is a convolution whose ``backward`` has one bug: it returns the gradient of its input upside down. The layer
# itself still learns, because dW is right; only the layers *before* it get wrong gradients. A net of two layers would
# train.


class UpsideDown(Conv2d):
    def backward(self, dy):
        return super().backward(dy)[:, ::-1]


image = draw(1, 6, 6, 2)
right = gradcheck.check(Conv2d(2, 3, 3, pad=1).named("right").build(dtype="float64"), image)
wrong = gradcheck.check(UpsideDown(2, 3, 3, pad=1).named("upside down").build(dtype="float64"), image)
print(gradcheck.table(right + wrong))
assert [result.verdict for result in right] == ["ok", "ok", "ok"]
assert [result.verdict for result in wrong] == ["FAIL", "ok", "ok"]

# %%
# How to read the table, which ``tinyalex gradcheck`` prints too. A line is one tensor of derivatives: of the layer's
# input x, or of a parameter. *exact*: are gradient and numerical derivatives equal to the last bit? Seldom, because the
# two are computed in different orders. *approximate*: are they equal within the tolerance? *max error*: the largest
# difference, divided by the tensor's largest derivative: 1e-16 is rounding, 1 is wrong altogether. *verdict*: ok, FAIL,
# or why nothing can be said. Below a FAIL is the worst element: what backward returned there, and what forward says.
#
# The checker uses random numbers, not ones, as the upstream gradient dy. With ones, the gradient in the middle of the
# image is the same in every row, so turning it upside down would change nothing there. The package's own tests plant
# many such bugs on purpose, and the checker has to report every one.
#
# Where there is no derivative
# ----------------------------
# max(0, x) has a corner at 0, and max pooling has one wherever two pixels tie. At a corner, no step h is small enough.
# The checker compares the slopes on both sides; where they differ, a gradient between them is neither right nor wrong.
# The checker counts such elements, and does not call a tensor checked if they are more than half of it.


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
for (method, found), colour in zip(errors.items(), (MUTED, VERMILION, BLUE), strict=True):
    left.loglog(steps, np.maximum(found, 1e-17), color=colour, lw=1.8, label=method)
left.invert_xaxis()
left.set(title="How wrong is a measured derivative?", xlabel="step h, smaller to the right", ylabel="relative error")
for text, xy, colour in (
    ("forward", (3e-4, 6e-3), MUTED), ("central", (2e-8, 3e-11), VERMILION), ("complex", (1e-11, 5e-15), BLUE)
):  # fmt: skip
    left.text(*xy, text, color=colour, weight="bold", ha="left")
left.text(2e-13, 1e-1, "rounding", color=INK, ha="center")
left.text(1e-2, 1e-13, "h is\ntoo large", color=INK, ha="center")
grid = np.linspace(-1, 1, 201)
middle.plot(grid, np.maximum(grid, 0), color=BLUE, lw=2)
for h, colour in ((0.8, VERMILION), (0.3, GREEN)):
    middle.plot([-h, h], [0, h], "o-", color=colour, lw=1.2, ms=4)
middle.set(title="At a corner every step gives 0.5", xlabel="x", ylabel="max(0, x)", aspect="equal")
keep(figure, "02_backprop")

# %%
# Try
# ---
# - Compute ``x``, ``W`` and ``b`` in float32: how good can central differences become now?
#
#   .. answer::
#
#      To about 1e-5, in double precision 1e-11: the rounding error is of order 6e-8 instead of 1e-16, and the best
#      error of central differences is about its power 2/3.
#
# - Replace ``z.real.max`` by ``z.max``, or ``(x.real > 0)`` by ``abs(x) > 0``: what does the complex step give now?
#
#   .. answer::
#
#      ``z.max`` changes nothing: the loss is the same whatever is subtracted, a complex number too. ``abs(x) > 0`` is
#      true for negative x, so forward is no longer a ReLU, but the identity. The table says FAIL: backward returned 0
#      for the element -1, forward says otherwise.
#
# - Let ``UpsideDown`` return ``dx[:, :, ::-1]``, or halve ``self.b.grad``. Which row of the table shows it?
#
#   .. answer::
#
#      Turned left to right: the row of x again. Halved: the row of b, and only that one. A wrong gradient is reported
#      where it is wrong.
#
# Exercise
# --------
# Compute the input gradient of a convolution from ``dy`` and the kernels, without im2col: it is a convolution of ``dy``
# with the kernels rotated by 180 degrees. Write it in ``lessons/exercises/ex02_input_gradient.py``, then
# ``pytest -m ex02``.

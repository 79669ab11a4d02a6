"""
Lesson 20: The net that does not learn
======================================

:Question: A net does not learn. Which measurements tell why?
:Paper: §5, the learning rate, "which we adjusted manually throughout training", and biases of 1, which provide "the
    ReLUs with positive inputs".
:At the end: you have trained five nets that do not learn, found the cause of each by a measurement, and mended them.
:Takes: 25 s on two cores.
:Run: ``python lessons/20_not_learning.py``

Nothing crashes when a net does not learn. The program prints a loss, the loss does not fall, or it falls and the test
error does not. The loss alone rarely tells the cause. This lesson breaks the same net in five ways.
"""

# %%
# Five runs
# ---------
# The lessons' small net, with 720 drawn images of 12 classes. All five runs take 115 steps of at most 32 images. One
# thing is wrong in each; ``RUNS`` has it. Do not read it yet if you want to guess.

import tempfile

import matplotlib.pyplot as plt
import numpy as np
from shared import BLUE, INK, VERMILION, bare, keep, middles, small

from tinyalex.datasets import Dataset, ImageSet
from tinyalex.datasets.loading.batches import test_batches
from tinyalex.experiments.rate import rate_test
from tinyalex.randomness import key, permutation
from tinyalex.training import health
from tinyalex.training.evaluation import evaluate
from tinyalex.training.loop import Training

data = middles(720, 480)
images, labels = data.train.images, data.train.labels
mixed = labels[permutation(key(0, "lesson 20"), 720)]
biases = "init.biases={default=0.0, conv2=1.0, conv4=1.0, conv5=1.0, fc6=1.0, fc7=1.0}"
healthy = ("learning.epochs=5", "learning.rate=0.02")
RUNS = {  # what is different from the healthy run: settings, and the training images
    "A": (("learning.epochs=5", "learning.rate=0.3"), data.train),
    "B": (("learning.epochs=5", "learning.rate=0.0002"), data.train),
    "C": ((*healthy, "init.weights={default=0.01}", biases), data.train),
    "D": (healthy, ImageSet(images, mixed)),
    "E": (("learning.epochs=115", "learning.rate=0.02"), ImageSet(images[:24], labels[:24])),
}


def start(name):
    """Return a `Training` of one of the runs before its first step, or of the healthy one."""
    settings, train = RUNS.get(name, (healthy, data.train))
    return Training(small(*settings), Dataset("middles", data.classes, train, data.test))


def steps(training, count):
    """Train; return the losses and the errors of the steps, two arrays of ``count``."""
    found = []
    while len(found) < count:
        found += [training.train_step(batch).read() for batch in training.batches()]
    return np.array(found[:count]).T


curves, trained = {}, {}
for name in RUNS:
    trained[name] = start(name)
    curves[name] = steps(trained[name], 115)
    print(f"run {name}: mean loss of each 23 steps", *curves[name][0].reshape(5, 23).mean(axis=1).round(3))
print(f"ln 12 = {np.log(12):.3f}")

# %%
# **2.485** is the loss of guessing among 12 classes. Four of the runs end there, and their curves look alike. Only E's
# loss falls, so E seems to be the good one. What would you try first with A, B, C and D?

last = {name: losses[-23:].mean() for name, (losses, _) in curves.items()}
assert all(abs(last[name] - np.log(12)) < 0.1 for name in "ABCD") and last["E"] < 0.5

# %%
# Four measurements
# -----------------
# Take 32 images, and measure with each net:
#
# - *Errors*: on the images that it was trained on, and on the 480 test images.
# - *Signal*: how much do the logits depend on the image? Their spread across images, divided by their size, which is
#   their root mean square. It is 0 if all images get the same logits.
# - *Dead units*: which share of a layer's ReLUs is 0 for all 32 images? Backward multiplies by 0 there, so these images
#   do not change the weights of a dead unit. That is no harm yet: another image can give it a number above 0, or a
#   layer before it that still learns. In an untrained net about a third of a layer may be dead on 32 images. But if a
#   *whole layer* is dead for all images, neither it nor any layer before it gets a gradient. Then nothing can bring it
#   back.
# - *Step*: how far does a step move the weights? Learning rate times gradient, divided by weights; the median layer.
#   In a net that learns it is some thousandths.


def measure(training, batch):
    """Return the signal, the share of dead units in the layer that has most of them, and the step of a net."""
    network, active = training.network, {}

    def forward_hook(layer, y):  # y: (n, h, w, maps) or (n, units)
        if layer.relu:
            rows = active.setdefault(layer.relu.names[0], [])
            rows.append((y > 0).any(axis=tuple(range(y.ndim - 1))))

    logits = network.forward(batch.images, forward_hook=forward_hook).astype(float)  # (n, 12)
    signal = np.sqrt(logits.var(axis=0).mean() / (logits**2).mean())
    dead = max(1 - np.any(rows, axis=0).mean() for rows in active.values())
    network.loss_and_backward(batch.images, batch.labels, training=False)
    weights, rate = network.state(), training.recipe.learning.rate
    moved = [rate * np.linalg.norm(g) / np.linalg.norm(weights[name])
             for name, g in network.gradients().items() if name.endswith("/W")]  # fmt: skip
    return signal, dead, np.median(moved)


def errors(training):
    """Return the error on the training images and on the test images."""
    sets = training.dataset.train, data.test
    return [evaluate(training.network, each, training.dataset.mean, training.recipe).top1_error for each in sets]


batch = next(start("healthy").batches())
found = {name: measure(training, batch) for name, training in trained.items()}
tested = {name: errors(training) for name, training in trained.items()}
first = {name: measure(start(name), batch) for name in RUNS}
print("     training error  test error  signal: first, last  most dead  step")
for name, (signal, dead, step) in found.items():
    print(f"{name}   {tested[name][0]:14.1%} {tested[name][1]:11.1%} {first[name][0]:14.3f} {signal:6.3f} {dead:10.1%}"
          f"  {step:.1e}")  # fmt: skip
    assert np.isclose(signal, health.signal(trained[name].network, batch.images), atol=1e-6)
    assert np.isclose(dead, max(health.dead_relu_fraction(trained[name].network, batch.images).values()))
print("tinyalex.training.health agrees")

# %%
# Now the runs whose curves look alike have different lines.
#
# A: dead units
# -------------
# In A all units of a layer are 0 for all images, for the 32 and for all 720. So nothing of the image arrives after that
# layer, the signal is 0, and backward multiplies by 0: the median step is 0. How does a unit die? A step that is too
# large makes its weights or its bias so negative that no image brings it above 0 any more. The rate was 0.3. The
# package warns:

every = next(test_batches(data.train, data.mean, trained["A"].recipe, 720)).images
for name, training in (("the healthy net before its first step", start("healthy")), ("A", trained["A"])):
    few, most = (max(health.dead_relu_fraction(training.network, each).values()) for each in (batch.images, every))
    print(f"{name}: most dead {few:.0%} on 32 images, {most:.0%} on all 720")
    assert most == 1 if name == "A" else most < few < 0.5
monitor = health.TrainingMonitor(classes=12, batch=32, say=print)
monitor.dead_relus(health.dead_relu_fraction(trained["A"].network, batch.images))
assert found["A"][0] < 1e-6 and found["A"][1] == 1 and found["A"][2] < 1e-9 and first["A"][0] > 0.1
assert first["A"][1] < 0.5 and all(found[name][1] < 0.9 for name in "BDE")

# %%
# B: steps too small
# ------------------
# In B there is a signal, and the layers are alive. But a step moves the weights by less than a ten-thousandth. The
# loss falls, slowly. The rate was 0.0002. The package does not warn: late in a training such a rate is right.
#
# Which rate is right? Train with a rate that rises from step to step, from far too small to far too large, and see
# where the loss is lowest. ``tinyalex experiment rate`` does this, and suggests a third of that rate.

with tempfile.TemporaryDirectory() as folder:
    test = rate_test(start("healthy").recipe, data, folder, seeds=1, devices=["cpu"], steps=100, show=print)
assert found["B"][2] < 1e-4 and 0.004 < test["suggested"] < 0.1

# %%
# C: first values without a signal
# --------------------------------
# In C the logits are the same for all images too, and a layer is dead. Is it A's fault again? No: C had no signal
# *before the first step*, when most units were alive. The first weights were 0.01, and the first biases 1, as in the
# paper's text. Lesson 8 has the reason: with so small weights each layer's output is nearly its bias. The dead layer
# comes from that: a unit has nearly the same value for all images, so when a step takes it below 0, it is below 0 for
# all images at once. So measure before the first step as well. ``tinyalex train`` does. If you have changed the
# settings, it refuses to start when the signal is below **0.02**.

print(f"C before the first step: signal {first['C'][0]:.5f}, most dead {first['C'][1]:.0%}; limit {health.WEAK}")
assert first["C"][0] < health.WEAK / 10 and first["C"][1] < 0.5

# %%
# D: wrong labels
# ---------------
# In D there is a signal, the layers are alive, and a step is larger than in B, though smaller than in a net that
# learns. Can this net learn at all? Begin anew, and give it the *same* 32 images again and again. A net that is in
# order learns them by heart.

by_heart, same = start("D"), next(start("D").batches())
losses = [by_heart.train_step(same).read()[0] for _ in range(80)]
print(f"32 images by heart: loss {losses[0]:.3f}, after 80 steps {losses[-1]:.3f}; "
      f"{(mixed == labels).mean():.0%} of D's labels are right")  # fmt: skip
assert losses[-1] < 0.5 and found["D"][2] > 2 * found["B"][2] and (mixed == labels).mean() < 0.12

# %%
# It does. So the net, its rate and its first values are in order, and the fault is in the data. Look at some images
# *with their labels*, as the net gets them: the last row of the figure. The labels were in another order than the
# images, as happens if one of two lists is sorted. Look at the data first next time.
#
# E: learned by heart
# -------------------
# E's loss fell. (On its way it jumped above the loss of guessing, and fell again: a few bad steps are not a net that
# does not learn.) But compare the two errors: the net knows all of its 24 images by heart, and errs for most
# others. The loss in training alone cannot show this. The package compares both errors after each epoch, and warns:

monitor.overfitting(*tested["E"], 480, trained["E"].recipe)
assert tested["E"][0] < 0.1 and tested["E"][1] > 0.6 and curves["E"][0][10:].max() > np.log(12)

# %%
# All mended
# ----------
# Set right what was wrong: in A and B the rate, in C the first values (He's, lesson 8), in D the order of the labels,
# in E the number of images. Then all five are the same run: 720 images, a rate of 0.02, 115 steps as before.

mended = start("healthy")
curve = steps(mended, 115)
training_error, test_error = errors(mended)
signal, dead, step = measure(mended, batch)
print("mended: mean loss of each 23 steps", *curve[0].reshape(5, 23).mean(axis=1).round(3))
print(f"training error {training_error:.1%}, test error {test_error:.1%}, signal {signal:.3f}, "
      f"most dead {dead:.1%}, step {step:.1e}")  # fmt: skip
assert curve[0][-23:].mean() < 1.7 and test_error < min(error for _, error in tested.values()) - 0.1
assert signal > 0.5 and dead < 0.6 and 3e-4 < step < 3e-2 and found["B"][2] < found["D"][2] < step

# %%
# An order that works
# -------------------
# 1. Before the first step: look at images with their labels. Is there a signal?
# 2. Learn 32 images by heart. If that fails, the fault is in the net, the rate or the first values.
# 3. After some steps: dead units, and the size of a step.
# 4. After some epochs: the training error beside the test error.

figure = plt.figure(figsize=(9.8, 6.4))
above, below = figure.subfigures(2, 1, height_ratios=[3.6, 1])
texts = {
    "A": ("A: the rate is 0.3", f"dead in a layer: {found['A'][1]:.0%}"),
    "B": ("B: the rate is 0.0002", f"a step: {found['B'][2]:.0e} of the weights"),
    "C": ("C: weights 0.01, biases 1", f"signal before the first step: {first['C'][0]:.4f}"),
    "D": ("D: wrong labels", f"32 images by heart: loss {losses[-1]:.2f}"),
    "E": ("E: 24 images", f"training error {tested['E'][0]:.0%}, test error {tested['E'][1]:.0%}"),
    "mended": ("all mended", f"training error {training_error:.0%}, test error {test_error:.0%}"),
}
for axis, (name, (title, note)) in zip(above.subplots(2, 3, sharex=True, sharey=True).flat, texts.items(), strict=True):
    axis.plot(curve[0], color=BLUE, lw=1.4, alpha=1 if name == "mended" else 0.3)
    if name in curves:
        axis.plot(curves[name][0], color=VERMILION, lw=1.4)
    axis.axhline(np.log(12), color=INK, lw=0.8, ls=":")
    axis.text(4, 3.6, note, color=INK, bbox={"fc": "white", "ec": "none", "pad": 1})
    axis.set(title=title, ylim=(0, 4))
above.supxlabel("loss over steps; pale blue: all mended; dotted: ln 12, guessing", fontsize=9)
shown = below.subplots(1, 8)
for axis, picture, label in zip(shown, images, mixed, strict=False):
    axis.imshow(picture)
    axis.set_title(data.classes[label].replace(" stripes", "").replace(" ", "\n", 1), fontsize=8, weight="normal")
bare(*shown)
below.suptitle("D's first images, with the labels that the net gets", x=0.01, ha="left", fontsize=10, weight="bold")
keep(figure, "20_not_learning")

# %%
# Try
# ---
# - Go on with A's net and a rate of 0.02: ``again = start("healthy")``, which has that rate, then
#   ``again.network.load(trained["A"].network.state())`` and ``steps(again, 115)``. Does it recover?
#
#   .. answer::
#
#      No, the loss stays at 2.485. Backward multiplies by 0 in the dead layer, so the gradients before it are 0, and 0
#      times any rate is 0. Begin anew.
#
# - Mix a fifth of D's labels only, and take all measurements again. Which of them shows that something is wrong?
#   (``RUNS["F"] = healthy, ImageSet(images, np.where(np.arange(720) < 144, mixed, labels))``, then the lines in which
#   the lesson trains and measures.)
#
#   .. answer::
#
#      Hardly any. The loss falls from 2.5 to about 1.6 (without wrong labels to 0.7). The signal is 0.86, 16 % of a
#      layer is dead, a step is 4.1e-03, and 32 images are learned by heart to a loss below 0.001. Only the two errors
#      look strange, 42 % on the training images and 39 % on the test images: the higher one is that of the images that
#      the net has seen, because some of *their* labels are wrong. So wrong labels are found by looking at the images.
#
# - The warning for E also names ``data.flip``. Why must it not be used for these images?
#
#   .. answer::
#
#      Mirrored rising stripes are falling stripes, which are another class.
#
# Exercise
# --------
# Write two better measurements, in ``lessons/exercises/ex20_health.py``: a signal that ignores what softmax ignores,
# and the units that are dead not for 32 images but for all possible ones. Then ``pytest -m ex20``.

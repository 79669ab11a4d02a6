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
# The lessons' small net, with **720** drawn images of 12 classes. All five runs take **115** steps of 32 images. In
# each of them one thing is wrong. We call them A to E, and leave out for now what it is.

import tempfile
from math import log

import matplotlib.pyplot as plt
import numpy as np
from shared import BLUE, COLOURS, INK, MUTED, VERMILION, bare, keep, middles, small

from tinyalex.datasets import Dataset, ImageSet
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
    "E": (("learning.epochs=39", "learning.rate=0.02"), ImageSet(images[:96], labels[:96])),
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
for name in ("A", "B", "C", "D", "E"):
    trained[name] = start(name)
    curves[name] = steps(trained[name], 115)
    fifths = curves[name][0].reshape(5, 23).mean(axis=1)
    print(f"run {name}: mean loss of each 23 steps", *(f"{loss:.3f}" for loss in fifths))
print(f"ln 12 = {log(12):.3f}")

# %%
# **2.485** is the loss of guessing among 12 classes. Three of the runs stay there: A after a jump, C and D all the time.
# B seems to stay there too. Only E's loss falls, so E seems to be the good one. Look at the figure, and guess what is
# wrong with each run before you go on.

flat = {name: curves[name][0][-46:].mean() for name in curves}
assert all(abs(flat[name] - log(12)) < 0.1 for name in "ABCD") and flat["E"] < 0.5
assert curves["A"][0].max() > 3

# %%
# Four measurements
# -----------------
# Take a batch of test images, and measure with each net:
#
# - *Errors*: on the images that it was trained on, and on the 480 test images. Guessing errs for 91.7 %.
# - *Signal*: how much do the logits depend on the image? Their standard deviation across images, divided by their
#   size. (The size is the root of the mean square, so the result is between 0 and 1.)
# - *Dead units*: which share of a layer's ReLUs is 0 for every image? Backward multiplies by 0 there, so the weights of
#   a dead unit do not change any more. No later image can bring it back.
# - *Step*: how far does one step move the weights, relative to their size? Learning rate times gradient, divided by
#   weights. Between a thousandth and a hundredth is usual.


def measure(training, batch):
    """Return the measurements of a net as a dict."""
    network, active = training.network, {}

    def forward_hook(layer, y):  # y: (n, h, w, maps) or (n, units)
        if layer.relu:
            name = layer.relu.names[0].rstrip("ab")
            active.setdefault(name, []).append((y > 0).reshape(-1, y.shape[-1]).any(axis=0))

    logits = network.forward(batch.images, forward_hook=forward_hook)  # (n, 12)
    size = np.sqrt((logits.astype(float) ** 2).mean())
    network.loss_and_backward(batch.images, batch.labels, training=False)
    rate, weights, gradients = training.recipe.learning.rate, network.state(), network.gradients()
    moved = [rate * np.linalg.norm(gradients[each]) / np.linalg.norm(weights[each]) for each in gradients if "W" in each]
    return {
        "signal": np.sqrt(logits.astype(float).var(axis=0).mean()) / size if size else 0.0,
        "dead": 1 - np.concatenate(active["relu7"]).mean(),
        "step": float(np.median(moved)),
    }


def errors(training):
    """Return the error on the training images and on the test images."""
    sets = training.dataset.train, data.test
    return [evaluate(training.network, each, data.mean, training.recipe).top1_error for each in sets]


batch = next(start("healthy").batches())
found = {name: measure(training, batch) for name, training in trained.items()}
tested = {name: errors(training) for name, training in trained.items()}
print("run  training error  test error  signal  dead in relu7  step")
for name, each in found.items():
    print(f"{name}   {tested[name][0]:14.1%}  {tested[name][1]:10.1%}  {each['signal']:6.3f}  {each['dead']:13.1%}"
          f"  {each['step']:.1e}")  # fmt: skip
    assert np.isclose(each["signal"], health.signal(trained[name].network, batch.images), atol=1e-6)
    assert np.isclose(each["dead"], health.dead_relu_fraction(trained[name].network, batch.images)["relu7"])
print("tinyalex.training.health agrees")

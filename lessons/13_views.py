"""
Lesson 13: Ten views and several nets
=====================================

:Question: How much does averaging over views and nets improve, and what exactly is averaged?
:Paper: §4.1 (ten patches), §6 and Tables 1 and 2 (five and seven nets), footnote 5 (without).
:At the end: you have three trained nets and a table of the error with more views and more nets, with standard errors.
:Takes: 45 s on two cores.
:Run: ``python lessons/13_views.py``

"At test time, the network makes a prediction by extracting five 224 x 224 patches (the four corner patches and the
center patch) as well as their horizontal reflections (hence ten patches in all), and averaging the predictions made by
the network's softmax layer on the ten patches."
"""

# %%
# Ten views
# ---------
# Four corners and the centre, and the same five mirrored. The package returns them as a list.

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle
from shared import BLUE, COLOURS, INK, MUTED, VERMILION, bare, epochs, keep, middles, photograph, small

from tinyalex.datasets.loading import augment
from tinyalex.datasets.loading.batches import test_batches
from tinyalex.training import evaluation
from tinyalex.training.evaluation import score

views = augment.views(256, 224, 10)
by_hand = [
    ((top, left), flip) for flip in (False, True) for top, left in ((0, 0), (0, 32), (32, 0), (32, 32), (16, 16))
]
assert views == by_hand
print(f"{len(views)} views")

# %%
# Three small nets that differ only in their seed: initial weights, order of the images, crops.

data = middles(720, 480)
labels = data.test.labels
settings = small("learning.epochs=9")
nets = []
for seed in range(3):
    *_, (run, _, _) = epochs(settings, data, seed)
    nets.append(run.network)


def predict(network, count):
    """Probabilities (views, images, classes)."""
    rows = [network.predict(batch.images) for batch in test_batches(data.test, data.mean, run.recipe, 64, views=count)]
    return np.concatenate(rows).reshape(len(labels), count, -1).swapaxes(0, 1)


everything = np.stack([predict(network, 10) for network in nets])
assert everything.shape == (3, 10, 480, 12)
UPRIGHT = [0, 1, 2, 3, 4]
assert np.allclose(everything[0, 4], predict(nets[0], 1)[0], atol=1e-5)
ten = evaluation.probabilities(nets[0], data.test, data.mean, run.recipe, views=10)
assert np.allclose(everything[0].mean(axis=0), ten, atol=1e-5)
print("nets, views, images, classes:", everything.shape)
print("tinyalex.training.evaluation.probabilities gives the same average")

# %%
# When mirrored views hurt
# ------------------------
# Reflection is a "label-preserving transformation" for cats. For our drawn images it is not: mirrored, *rising* stripes
# *fall*, which is another class. So the right choice here is five views. What do the mirrored ones predict?

slanted = np.isin(labels // 2, (2, 3))
mirror = everything[:, 9].mean(axis=0).argmax(axis=1) != labels
print(f"the mirrored centre view alone: wrong for {mirror[slanted].mean():.0%} of slanted stripes, "
      f"{mirror[~slanted].mean():.0%} of all other images")  # fmt: skip
assert mirror[slanted].mean() > mirror[~slanted].mean() + 0.3

# %%
# The table
# ---------
# Average the probabilities, then take the largest. After each error its standard error for 480 images.


def error(probabilities):
    return score(probabilities, labels).top1_error


table = {
    "one net, one view": np.mean([error(net[4]) for net in everything]),
    "one net, five views": np.mean([error(net[UPRIGHT].mean(axis=0)) for net in everything]),
    "one net, ten views": np.mean([error(net.mean(axis=0)) for net in everything]),
    "three nets, one view": error(everything[:, 4].mean(axis=0)),
    "three nets, five views": error(everything[:, UPRIGHT].mean(axis=(0, 1))),
}
for name, rate in table.items():
    print(f"{name:24} {rate:6.1%} ± {np.sqrt(rate * (1 - rate) / len(labels)):.1%}")
assert table["three nets, five views"] <= table["one net, one view"] + 0.01
assert table["one net, ten views"] > table["one net, five views"] - 0.01

# %%
# The paper on ILSVRC-2010: **39.0%** with the centre patch (footnote 5), **37.5%** with ten. On ILSVRC-2012: **40.7%**
# with one net and **38.1%** with five. More views and more nets help for the same reason: their errors differ.

print("paper, 2010: 39.0% to 37.5% by ten views; 2012: 40.7% to 38.1% by five nets")

# %%
# Average what?
# -------------
# The softmax of the mean logits is the (normalised) *geometric* mean of the probabilities, not their arithmetic mean.
# The authors' program averages probabilities. The two differ when one view is very sure: a probability near 1 dominates
# the arithmetic mean, a probability near 0 dominates the geometric mean.

sure, unsure = np.array([0.98, 0.01, 0.01]), np.array([0.02, 0.49, 0.49])
arithmetic = (sure + 2 * unsure) / 3
geometric = (sure * unsure**2) ** (1 / 3)
print("one sure view of class 0 and two that doubt it:", "arithmetic", np.round(arithmetic, 2),
      "geometric", np.round(geometric / geometric.sum(), 2))  # fmt: skip
assert arithmetic.argmax() == 0 and geometric.argmax() != 0
flat = everything[:, UPRIGHT].reshape(15, 480, 12)
differ = (flat.mean(axis=0).argmax(axis=1) != np.log(flat + 1e-30).mean(axis=0).argmax(axis=1)).mean()
print(f"for 15 predictions (3 nets, 5 views) the two means choose different classes for {differ:.1%} of the images")

# %%
# What it looks like
# ------------------

figure, (crops, bars) = plt.subplots(1, 2, figsize=(9.6, 3.4), width_ratios=[1, 1.9])
crops.imshow(photograph(256))
for ((top, left), _), colour in zip(views[:5], COLOURS, strict=False):
    crops.add_patch(Rectangle((left + 1, top + 1), 222, 222, fill=False, color=colour, lw=2))
crops.set_title("five crops; also mirrored")
bare(crops)
rates = 100 * np.array(list(table.values()))
spread = np.sqrt(rates * (100 - rates) / len(labels))
shades = [MUTED, BLUE, VERMILION, BLUE, BLUE]
bars.barh(range(5), rates, xerr=spread, color=shades, alpha=0.8, error_kw={"ecolor": INK, "capsize": 3})
for row, rate in enumerate(rates):
    bars.text(rate + spread[row] + 0.5, row, f"{rate:.1f} %", va="center", weight="bold")
bars.set_yticks(range(5), table)
bars.set(title="test error, ± one standard error", ylim=(4.6, -0.6), xlim=(0, 1.15 * rates.max() + 3))
keep(figure, "13_views")

# %%
# Try
# ---
# - Average the three nets' *weights* instead of their predictions. Why is that so bad?
#
#   .. answer::
#
#      The nets have learned similar detectors, but in different units: nothing says that unit 7 of one net does what
#      unit 7 of another does. The mean of two detectors in one place detects neither. The mean of our three is as good
#      as guessing, 92 % wrong. Predictions have an order that all nets share, that of the classes.
#
# - Which two of the five views predict the same class most often?
#
#   .. answer::
#
#      The centre with a corner: 88 to 91 % of the images get the same class. Opposite corners agree on 84 and 85 %,
#      neighbouring ones on 86 to 89 %. The more pixels two views share, the less an average of them gains.
#
# - ``score(...)`` of the geometric mean: does the loss get lower, does the error change?
#
#   .. answer::
#
#      The loss is halved, from 0.32 to 0.16; the error hardly changes, 4.0 % instead of 4.2 %. The geometric mean is
#      surer, and mostly right.
#
# Exercise
# --------
# Compute the top-5 error over several views in ``lessons/exercises/ex13_views.py``; then ``pytest -m ex13``.

"""
Lesson 18: Eight GPUs
=====================

:Question: How do many GPUs train one net, why does their number change the result, and when is it worth it?
:Paper: §1: "our results can be improved simply by waiting for faster GPUs and bigger datasets to become available".
:At the end: you have summed a gradient in an order that does not depend on the number of GPUs, counted the bytes of
    three ways to divide the work, and drawn how far data parallelism goes, from 2 to 1,024 GPUs.
:Takes: 2 s on two cores.
:Run: ``python lessons/18_ranks.py``

Lesson 11 divided the *net* between two GPUs. Here every GPU has the whole net, and the *batch* is divided: data
parallelism. Each process that has a share of the batch is a **rank**.
"""

# %%
# A batch in parts
# ----------------
# The loss is a mean over images, so its gradient is a sum over parts of the batch, each weighted by its share of the
# images. Each part can be computed somewhere else. The package does this: ``learning.parts`` says how many parts.

import matplotlib.pyplot as plt
import numpy as np
from shared import BLUE, GREEN, INK, MUTED, VERMILION, keep, middles, small

from tinyalex.devices import parallel
from tinyalex.network import alexnet, summary
from tinyalex.randomness import key, normal
from tinyalex.ranks import ledger
from tinyalex.ranks import parts as part_rules
from tinyalex.ranks.parts import Parts
from tinyalex.recipes import recipe
from tinyalex.training.loop import Training

data = middles(96, 48)


def gradients(parts):
    training = Training(small(f"learning.parts={parts}", "learning.batch=96"), data, seed=4)
    training.train_step(next(training.batches()))
    return {name: value.copy() for name, value in training.network.gradients().items()}


whole, in_parts = gradients(1), gradients(4)
parallel.divide(None)
apart = max(np.abs(in_parts[name] - value).max() / np.abs(value).max() for name, value in whole.items())
equal = np.mean([np.array_equal(in_parts[name], value) for name, value in whole.items()])
print(f"four parts against one: gradients differ by {apart:.0e} of their maximum; {equal:.0%} of the tensors are equal")
assert apart < 1e-4 and equal < 0.5

# %%
# They are the same up to rounding, but not the same bits.
#
# Rounding has an order
# ---------------------
# (a + b) + c is not a + (b + c) when each sum is rounded to 24 bits. An all-reduce, as MPI and NCCL have it, adds in an
# order that depends on the number of ranks. In a *ring* each rank begins with another slice of the gradients. So eight
# GPUs and four GPUs train two nets that drift apart, and a run that goes on with another number of GPUs is no longer
# the same run. How often do the bits differ?

g = normal(key(0, "lesson 18"), np.arange(8)[:, None], np.arange(20_000)).astype(np.float32)  # gradients of 8 parts


def all_reduce(parts, ranks):
    """Each rank adds up its parts; then each slice goes round the ring, from another rank on."""
    sums = np.array([np.add.reduce(own, axis=0) for own in np.split(parts, ranks)])
    slices = np.array_split(sums, ranks, axis=1)
    return np.concatenate([np.add.reduce(np.roll(part, -rank, axis=0)) for rank, part in enumerate(slices)])


one = all_reduce(g, 1)
for ranks in (2, 4, 8):
    print(f"{ranks} ranks: {np.mean(all_reduce(g, ranks) != one):.0%} of the sums differ from those of one rank")
assert np.mean(all_reduce(g, 2) != one) > 0.1

# %%
# A tree of parts
# ---------------
# The remedy: fix the order by the *parts*, not by the ranks. Parts 0 and 1 are added, 2 and 3, and so on; then these
# sums in pairs, until one is left. A rank adds up what it has as far as this tree allows, and no further.


def tree(parts, ranks):
    """Sum in the order of the tree, with the parts divided among so many ranks."""
    rules, left = Parts(len(parts), ranks), {}
    for rank in range(ranks):
        own = {}
        for part in rules.of_rank(rank):
            part_rules.add(own, part, parts[part].copy(), np.add)
        left |= own
    return rules.total(left, np.add)


def by_hand(parts):
    while len(parts) > 1:
        parts = [a + b for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


for ranks in range(1, 9):
    assert np.array_equal(tree(g, ranks), by_hand(list(g)))
print("1 to 8 ranks: all 20,000 sums have the same bits as the tree by hand")
print("what three ranks have left of eight parts:", [Parts(8, 3).nodes(rank, 8) for rank in range(3)])

# %%
# With three ranks the second one has parts 2, 3 and 4: it may add 2 and 3, but 4 waits for 5, which is elsewhere. The
# price is that some ranks send more than one array. What else could change the bits? The sizes of matrix products: BLAS
# adds differently for 32 rows than for 64. So each part is computed alone, and divided among threads into shares whose
# number depends on the part's size only. Dropout and crops are functions of the image's number in the batch (lesson
# 12), not of the rank.
#
# Bytes
# -----
# Every rank needs the sum, and has one summand. If each rank adds up one slice, it receives that slice from all others
# and then the other slices' sums: 2 (N - 1) / N times the gradients. AlexNet has 61 million of them, 96% in the fully
# connected layers. Krizhevsky's "one weird trick" (arXiv:1404.5997) therefore divides only the convolutions by images,
# and the fully connected layers by units: then activations travel instead of weights. A third way: the gradient of a
# fully connected layer is x' dy, so send its *factors* x and dy and let everyone multiply.

net = summary.for_ledger(alexnet.describe(recipe.load("original").net))
print("\n".join(ledger.table(net, (2, 8, 64), 128)))
eight = [way(net, 8, 128) / 1e6 for way in (ledger.data_parallel, ledger.one_weird_trick, ledger.factors)]
assert [round(megabytes) for megabytes in eight] == [427, 141, 112]

# %%
# With eight GPUs a rank receives **426.8** MB a step in the plain way, **141.1** MB with the trick and **111.7** MB as
# factors. With 64 the plain way is the cheapest: **480.1** MB against **1,141.4** and **876.4**, because activations
# and factors grow with the number of images, and the weights do not.
#
# How far does it go?
# -------------------
# A model on paper. A GPU takes 6.6 ms for 128 images (measured on one H200 in TF32). The gradients of the fully
# connected layers can travel while the convolutions go backward, which takes about half of the 6.6 ms; the other
# gradients cannot. Eight GPUs share a machine; machines are connected by a network.

STEP, HIDDEN = 6.61e-3, 3.3e-3  # seconds; measured in one GPU's benchmark, and about half of it
LINKS = {  # bytes a second: between GPUs of a machine, for each, and between machines, for all eight together
    "NVLink and 8 x 400 Gb/s": (450e9, 330e9),
    "NVLink and 100 Gb/s": (450e9, 10e9),
    "PCIe and 100 Gb/s": (20e9, 10e9),
}
head = sum(inputs * outputs + outputs for inputs, outputs in net.dense)


def efficiency(gpus, inside, between):
    """The share of its time that a GPU computes."""
    machines, local = max(1, gpus // 8), min(gpus, 8)
    seconds = {}
    for name, numbers in (("head", head), ("convolutions", net.convolutions)):
        seconds[name] = 2 * (local - 1) / local * 4 * numbers / inside
        seconds[name] += 2 * (machines - 1) / machines * 4 * numbers / between
    return STEP / (STEP + max(0, seconds["head"] - HIDDEN) + seconds["convolutions"])


gpus = 2 ** np.arange(1, 11)
for name, link in LINKS.items():
    shares = [efficiency(int(count), *link) for count in gpus]
    print(f"{name:24}", " ".join(f"{count}: {share:.0%}" for count, share in zip(gpus, shares, strict=True)))
assert efficiency(8, *LINKS["NVLink and 8 x 400 Gb/s"]) > 0.95 > 0.5 > efficiency(8, *LINKS["PCIe and 100 Gb/s"])

# %%
# Inside a machine with NVLink eight GPUs lose about a hundredth; over PCIe they compute **27%** of the time. This is
# why the paper's authors, whose GPUs had PCIe, divided the net and not the batch. And there is an end that no network
# moves: 1,024 GPUs with 128 images each make batches of 131,072 images, ten steps an epoch. Training with such batches
# needs other rates (the recipe ``modern-8k`` has them for 8,192 images, on 64 GPUs), and beyond that it fails.

figure, (curve, bars) = plt.subplots(1, 2, figsize=(9.6, 3.4), width_ratios=[1.4, 1])
for (name, link), colour in zip(LINKS.items(), (BLUE, GREEN, VERMILION), strict=True):
    speed = [count * efficiency(int(count), *link) for count in gpus]
    curve.loglog(gpus, speed, "o-", color=colour, lw=2, ms=4, label=name)
curve.loglog(gpus, gpus, "--", color=MUTED, lw=1, label="without any loss")
curve.legend(loc="upper left")
curve.set(title="times as fast as one GPU, on paper", xlabel="GPUs, 128 images each", xticks=gpus, ylim=(0.5, 1500))
curve.set_xticks(gpus, [str(count) for count in gpus])
curve.set_yticks([1, 10, 100, 1000], ["1", "10", "100", "1,000"])
curve.minorticks_off()
counts, width = (2, 8, 64), 0.27
for number, (way, colour) in enumerate(
    ((ledger.data_parallel, BLUE), (ledger.one_weird_trick, GREEN), (ledger.factors, VERMILION))
):
    bars.bar(np.arange(3) + (number - 1) * width, [way(net, n, 128) / 1e6 for n in counts], width, color=colour)
bars.set(title="MB that a rank receives in a step", xticks=range(3), xticklabels=[f"{n} ranks" for n in counts])
for y, text, colour in ((1080, "plain", BLUE), (990, "one weird trick", GREEN), (900, "factors", VERMILION)):
    bars.text(-0.4, y, text, color=colour, weight="bold")
bars.tick_params(colors=INK)
keep(figure, "18_ranks")

# %%
# Try
# ---
# - ``tinyalex train --ranks 2`` (with the extra ``mpi``), then ``tinyalex train --ranks 1 --set learning.parts=2`` into
#   another folder: compare the two logs.
# - ``tinyalex summary original --ranks 64``. At how many ranks does the plain way win?
#
#   .. answer::
#
#      At 64 the plain way receives least, 480 MB against 1,141 and 876. It beats the trick from 27 ranks on, and
#      factors from 35.
#
# - Give the ranks 32 images each instead of 128. Which of the three ways gains most?
#
#   .. answer::
#
#      The trick: from 141.1 to 47.5 MB at eight ranks; factors from 111.7 to 40.2. Both move activations, which shrink
#      with the number of images. The plain way moves weights, and stays at 426.8.
#
# Exercise
# --------
# Sum numbers in the order of the tree, when some parts have none, in ``lessons/exercises/ex18_tree.py``; then
# ``pytest -m ex18``.

"""
Lesson 12: A training run that you can stop and resume
======================================================

:Question: Does it learn, and does a run that was stopped end at the same place as one that was not?
:Paper: §5, "Details of learning"; Figure 3 for the kernels.
:At the end: you have written the training loop, learned 64 images by heart, and stopped a run in mid-epoch.
:Takes: 45 s on two cores.
:Run: ``python lessons/12_training.py``

The paper's run took "five to six days". Nobody's machine stays up because it is needed. So a run has to be something
that can be put down and taken up again, and "about the same" is not good enough: if the two ways differ in one bit,
then something was forgotten, and you do not know what.
"""

# %%
# The loop
# --------
# A batch, forward, loss, backward, update. Everything else is a matter of when to look. The net is ``small.toml``:
# AlexNet's wiring, two columns, at 27 x 27 pixels; the images are drawn, twelve patterns to tell apart.

import tempfile

import matplotlib.pyplot as plt
import numpy as np
from shared import BLUE, FAINT, MUTED, VERMILION, bare, keep, middles, small

from tinyalex.datasets import Dataset, ImageSet
from tinyalex.datasets.loading.batches import training_batches
from tinyalex.randomness import Step
from tinyalex.runs import checkpoint, run_folder
from tinyalex.training.evaluation import evaluate
from tinyalex.training.loop import Training

data = middles(960, 240)
settings = small("learning.epochs=8", 'init.weights={default="he", conv1=0.01}')  # a faint conv1: to see it learn


def steps(run, until):
    """Take steps, from wherever the run stands."""
    while run.step < until:
        epoch, done = divmod(run.step, run.steps_per_epoch)
        for batch in training_batches(run.dataset, run.recipe, run.seed, epoch, first_batch=done):
            yield run.train_step(batch).read()
            if run.step == until:
                break


# %%
# ``learn`` is the package's; here is what is in it, done by hand for one batch. Both must arrive at the same weights.

one, two = (Training(settings, data) for _ in range(2))
batch = next(iter(training_batches(data, one.recipe, 0, 0)))
print("batch", batch.images.shape, batch.labels.shape)
loss, error = one.train_step(batch).read()
logits = two.network.forward(batch.images, training=True, step=Step(seed=0, number=0))
assert logits.shape == (32, 12)
by_hand = two.network.loss.forward(logits, batch.labels)
two.network.backward(two.network.loss.backward())
two.optimizer.update(rate=settings.learning.rate)
assert np.isclose(loss, by_hand, rtol=1e-5)
for name, value in one.network.state().items():
    assert np.allclose(value, two.network.state()[name], rtol=1e-4, atol=1e-6), name
print(f"first loss {loss:.2f}; twelve classes and no idea make ln 12 = {np.log(12):.2f}")
assert abs(loss - np.log(12)) < 0.6

# %%
# Before anything else: by heart
# ------------------------------
# A net that cannot learn 64 images by heart has a bug, and no amount of data will help it. Eighty passes, two
# batches each.

first = ImageSet(data.train.images[:64], data.train.labels[:64])
few = Dataset("few", data.classes, first, first)
heart = Training(small("learning.epochs=80"), few)
losses = [loss for loss, _ in steps(heart, 160)]
print(f"64 images: loss {losses[0]:.2f} at first, {np.mean(losses[-10:]):.4f} in the last ten steps")
assert np.mean(losses[-10:]) < 0.3

# %%
# Two ways to the same place
# --------------------------
# Run A goes through. Run B is stopped at step 100, in the middle of its fourth epoch; it is written to a checkpoint and
# forgotten; a new process (here: a new object) reads it and goes on. A checkpoint holds weights and momenta and the
# number of the step. It holds no random state, because there is none: order, crops and dropout masks are functions of
# (seed, epoch or step, image).

moments, kernels, seen = (0, 60, 120, 240), {}, []
a = Training(settings, data)
for moment in moments:
    seen += steps(a, moment)
    kernels[moment] = np.concatenate([a.network.state()[f"conv1{c}/W"] for c in "ab"], axis=-1).copy()

with tempfile.TemporaryDirectory() as folder:
    b = Training(settings, data)
    first_part = list(steps(b, 100))
    path = b.save(folder)
    print(f"stopped at step {b.step}, epoch {b.epoch:.2f}; {path.name} has {path.stat().st_size:,} bytes")
    del b
    tensors, metadata = checkpoint.read(path)
    assert metadata["step"] == 100 and {"conv1a/W", "momentum/conv1a/W"} <= tensors.keys()
    c = Training(settings, data)
    run_folder.restore(c, tensors, metadata)
    assert c.step == 100
    second_part = list(steps(c, 240))

assert seen == first_part + second_part
for name, value in a.network.state().items():
    assert np.array_equal(value, c.network.state()[name]), name
print(f"{len(seen)} losses and {len(a.network.state())} tensors: equal to the last bit")

# %%
# Leave the momenta out of the checkpoint, and the run goes on too, and looks fine. This test is the only thing that
# would notice.
#
# Did it learn?
# -------------

score = evaluate(a.network, data.test, data.mean, a.recipe)
print(f"training error in the last epoch {np.mean(seen[-30:], axis=0)[1]:.1%}, test error {score.top1_error:.1%}; "
      f"guessing would be wrong {11 / 12:.1%} of the time")  # fmt: skip
assert score.top1_error < 0.4 and np.mean(seen[-30:], axis=0)[0] < 0.6 * np.mean(seen[:30], axis=0)[0]

figure, axes = plt.subplot_mosaic("LLL01;LLL23", figsize=(9.6, 4))
curve = np.array(seen)[:, 0]
smooth = np.convolve(curve, np.ones(15) / 15, "valid")
axes["L"].plot(np.arange(1, 101), curve[:100], color=BLUE, alpha=0.35, lw=0.8)
axes["L"].plot(np.arange(101, 241), curve[100:], color=VERMILION, alpha=0.45, lw=0.8)
axes["L"].plot(np.arange(8, 101), smooth[:93], color=BLUE, lw=2)
axes["L"].plot(np.arange(101, 234), smooth[93:], color=VERMILION, lw=2)
axes["L"].axvline(100.5, color=MUTED, lw=0.8)
axes["L"].text(103, curve.max(), "stopped and resumed", color=MUTED, va="top")
axes["L"].axhline(np.log(12), color=FAINT, zorder=0)
axes["L"].set(title="the loss of both runs, which are one", xlabel="step", ylim=(0, None))
for place, moment in enumerate(moments):
    block = kernels[moment]
    low, high = block.min(), block.max()
    grid = np.ones((4 * 6 - 1, 4 * 6 - 1, 3))
    for number in range(16):
        row, column = number // 4 * 6, number % 4 * 6
        grid[row : row + 5, column : column + 5] = (block[..., number] - low) / (high - low)
    axes[str(place)].imshow(grid)
    axes[str(place)].set_title(f"conv1, step {moment}", fontsize=9)
    bare(axes[str(place)])
keep(figure, "12_training")

# %%
# Try
# ---
# - Delete the momenta (``c.optimizer.load`` with zeros) after the resume. How far apart do the runs end?
# - Change the seed of run A alone. Which of the assertions fails first?
# - On the command line: ``tinyalex train``, Ctrl-C, and the same again.
#
# Exercise
# --------
# An order of the images that needs no memory, a function of (seed, epoch), in ``lessons/exercises/ex12_order.py``;
# then ``pytest -m ex12``.

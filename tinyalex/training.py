"""The training loop: batch, forward, loss, backward, update; now and then a test, a checkpoint and a line of log."""

import contextlib
import time
from pathlib import Path

import numpy as np

from tinyalex import alexnet, checkpoint, runs, storage
from tinyalex.datasets.feed import training_batches
from tinyalex.errors import DivergedError, Interrupted
from tinyalex.evaluation import evaluate
from tinyalex.health import first_not_finite
from tinyalex.optimizer import Optimizer
from tinyalex.randomness import Step
from tinyalex.recipe import to_toml, with_classes
from tinyalex.schedule import rates
from tinyalex.signals import Stop

SAVE_EVERY = 600.0  # seconds between checkpoints within an epoch


class Training:
    """A run: a network, its optimizer, and how far they have come.

    Parameters
    ----------
    recipe : Recipe
    dataset : Dataset
    devices : sequence of str
        One for the grouped form, or one a column.
    seed : int

    Attributes
    ----------
    step : int
        Updates done.
    errors : list of float
        Test error after each epoch.
    """

    def __init__(self, recipe, dataset, devices=("cpu",), seed=0):
        self.recipe, self.dataset, self.seed = with_classes(recipe, len(dataset.classes)), dataset, seed
        self.network = alexnet.build(self.recipe.net, self.recipe.init, devices, seed)
        self.optimizer = Optimizer(self.network, recipe.learning.momentum, recipe.learning.decay)
        self.steps_per_epoch = -(-len(dataset.need("train")) // recipe.learning.batch)
        self.step, self.errors = 0, []

    @property
    def epoch(self):
        """Epochs done, with the fraction of the one under way."""
        return self.step / self.steps_per_epoch

    @property
    def rates(self):
        """The `Rates` of the next update."""
        return rates(self.recipe.learning, self.epoch, self.errors)

    def learn(self, batch):
        """Take one step of gradient descent on a batch; return the loss and the fraction of wrong first guesses.

        Raises
        ------
        DivergedError
            If the loss is not finite. Nothing has been updated then.
        """
        now, here = self.rates, Step(self.seed, self.step)
        with self.network.step(), self.network.devices[0] as device:
            loss, logits = self.network.gradient(batch.images, batch.labels, here)
            loss, guesses = float(device.get(loss)), device.get(logits.argmax(axis=1))
        if not np.isfinite(loss):
            layer = first_not_finite(self.network, batch.images, here) or "loss"
            raise DivergedError(
                f"{layer}: numbers are no longer finite at step {self.step} (rate {now.rate:g}); "
                "no checkpoint holds them; use a smaller learning.rate"
            )
        self.optimizer.update(now.rate, now.bias_rate, now.slow)
        self.step += 1
        return loss, float((guesses != batch.labels).mean())

    def save(self, folder):
        """Write a checkpoint from which the run can go on."""
        return checkpoint.save(folder, *runs.snapshot(self))

    def resume(self, folder, show=print):
        """Go on from the newest checkpoint in a folder, if there is one; return whether there was.

        Raises
        ------
        CheckpointError
            If it belongs to another recipe, seed or data set.
        """
        found = runs.find(folder, self.recipe, self.seed, self.dataset, show)
        if found:
            tensors, metadata = found
            runs.restore(tensors, self.network, self.optimizer)
            self.step, self.errors = metadata["step"], list(metadata["errors"])
        return bool(found)


def train(recipe, dataset, out, devices=("cpu",), seed=0, show=print, until=None):
    """Train a network, or go on where the run in ``out`` stopped, and leave a log and checkpoints there.

    Parameters
    ----------
    recipe : Recipe
    dataset : Dataset
    out : str or Path
        The run folder.
    devices : sequence of str
    seed : int
    show : callable
        Gets lines of text about the progress.
    until : callable, optional
        ``until(training)`` is asked before each epoch whether to end there.

    Returns
    -------
    Score
        On the test images, at the end.
    """
    out, test = Path(out), dataset.need("test")
    run = Training(recipe, dataset, devices, seed)
    total, result = run.recipe.learning.epochs * run.steps_per_epoch, None
    with runs.hold(out), Stop() as stop, contextlib.ExitStack() as stack:
        if run.resume(out, show):
            show(f"going on at step {run.step} of {total}")
        storage.write_text(out / runs.RECIPE, to_toml(run.recipe))
        log = stack.enter_context(contextlib.closing(runs.Log(out, total, run.step, show)))
        stack.enter_context(runs.saving(run, out))
        while len(run.errors) < run.recipe.learning.epochs and not run.rates.finished and not (until and until(run)):
            if len(run.errors) == run.step // run.steps_per_epoch:  # else it was stopped before this epoch's test
                _epoch(run, out, log, stop)
            result = evaluate(run.network, test, dataset.mean, run.recipe)
            run.errors.append(result.top1_error)
            log.write("test", time=time.time(), epoch=run.epoch, step=run.step, **result._asdict())
            log.say(f"epoch {run.epoch:.0f}  test error {result.top1_error:.2%}  top-5 {result.top5_error:.2%}")
            run.save(out)
        return result or evaluate(run.network, test, dataset.mean, run.recipe)


def _epoch(run, out, log, stop):
    # From where the run stands to the end of the epoch; stops early, with a checkpoint, when asked to.
    epoch, done = divmod(run.step, run.steps_per_epoch)
    every = max(1, run.steps_per_epoch // 20)
    noise, devices = run.rates.colour_noise, run.network.devices
    batches = training_batches(run.dataset, run.recipe, run.seed, epoch, done, noise, devices)
    saved = started = time.monotonic()
    images, seen = 0, []
    with contextlib.closing(batches):
        for batch in batches:
            seen.append(run.learn(batch))
            images += len(batch.images)
            loss, error = np.mean(seen[-every:], axis=0)
            speed, waited = np.array([images, batches.waited]) / (time.monotonic() - started)
            pace = f"{speed:.0f} images/s" + (f", {waited:.0%} of the time waiting for data" if waited > 0.01 else "")
            log.step(epoch=f"{run.epoch:.2f}", loss=f"{loss:.3f}", error=f"{error:.1%}", speed=pace)
            figures = {"time": time.time(), "epoch": run.epoch, "step": run.step, "rate": run.rates.rate}
            if run.step % every == 0:
                log.write("train", **figures, loss=loss, top1_error=error, images_per_s=speed)
            if stop.asked or time.monotonic() - saved > SAVE_EVERY:
                path, saved = run.save(out), time.monotonic()
                log.write("saved", **figures, path=path.name)
            if stop.asked:
                break
    if run.step % run.steps_per_epoch == 0:
        loss, error = np.mean(seen, axis=0)
        log.write("epoch", **figures, loss=loss, top1_error=error, images_per_s=speed, waited=waited)
        log.say(f"epoch {run.epoch:.0f}  training loss {loss:.3f}  error {error:.2%}  {pace}")
    if stop.asked:
        raise Interrupted(f"stopped at step {run.step}, saved in {path}; the same command goes on from there")

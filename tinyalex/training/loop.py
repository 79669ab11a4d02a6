"""The training loop: batch, forward, loss, backward, update; now and then a test, a checkpoint and a line of log."""

import contextlib
import time
from pathlib import Path

import numpy as np

from tinyalex.datasets.loading.feed import training_batches
from tinyalex.network import alexnet
from tinyalex.randomness import Step
from tinyalex.recipes.recipe import to_toml, with_classes
from tinyalex.runs import checkpoint, resume, run_folder
from tinyalex.runs.replay import explained
from tinyalex.runs.runlog import quietly
from tinyalex.runs.saver import Keeper, Terms
from tinyalex.system import storage
from tinyalex.system.signals import Stop
from tinyalex.training import health
from tinyalex.training.evaluation import evaluate
from tinyalex.training.optimizer import Optimizer
from tinyalex.training.schedule import rates
from tinyalex.training.step_metrics import Means, Outcome, outcomes


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
    origin : dict or None
        What `finetune.begin` says of the run that this one began with.
    seen : list of Outcome
        Of the steps of the epoch under way.
    late : bool
        Whether a step's outcome is read, and looked at, when the next step is on its way.
    """

    def __init__(self, recipe, dataset, devices=("cpu",), seed=0):
        self.recipe, self.dataset, self.seed = with_classes(recipe, len(dataset.classes)), dataset, seed
        self.steps_per_epoch, self.errors = -(-len(dataset.need("train")) // recipe.learning.batch), []
        self.begin(devices)
        self.late = not self.network.devices[0].on_host

    def begin(self, devices):
        """Make the network as it is before the first step."""
        self.network = alexnet.build(self.recipe.net, self.recipe.init, devices, self.seed)
        learning = self.recipe.learning
        self.optimizer = Optimizer(self.network, learning.momentum, learning.decay, learning.decays)
        self.step, self.seen, self.origin = 0, [], None

    @property
    def epoch(self):
        """Epochs done, with the fraction of the one under way."""
        return self.step / self.steps_per_epoch

    @property
    def rates(self):
        """The `Rates` of the next update."""
        return rates(self.recipe.learning, self.epoch, self.errors[: self.step // self.steps_per_epoch])

    def batches(self):
        """Make the batches from here to the end of the epoch; its colour noise is that of its begin."""
        epoch, done = divmod(self.step, self.steps_per_epoch)
        noise = rates(self.recipe.learning, epoch, self.errors[:epoch]).colour_noise
        return training_batches(self.dataset, self.recipe, self.seed, epoch, done, noise, self.network.devices)

    def learn(self, batch, examine=False):
        """Take one step of gradient descent on a batch; return its `Outcome`.

        Raises
        ------
        DivergedError
            If the loss is not finite; with ``examine`` also if a gradient is not. Nothing has been updated then. Of a
            run that is `late` it comes out of the `Outcome`, unless ``examine``.
        """
        now, here = self.rates, Step(self.seed, self.step)
        with self.network.step(), self.network.devices[0] as device:
            loss, logits = self.network.gradient(batch.images, batch.labels, here)
            outcome = Outcome(device, loss, logits.argmax(axis=1) != device.put(batch.labels))
        if examine or not self.late:
            health.examine(self.network, batch, here, now.rate, outcome, gradients=examine)
        self.optimizer.update(now.rate, now.bias_rate, now.slow)
        if self.step % self.steps_per_epoch == 0:
            self.seen = []
        self.seen.append(outcome)
        self.step += 1
        outcome.place(self.step, self.epoch, self.rates.rate, len(self.seen))
        return outcome

    def save(self, folder, tested=False):
        """Write a checkpoint from which the run can go on; ``tested``: its last error is that of these weights."""
        return checkpoint.save(folder, *run_folder.snapshot(self, tested))


def train(recipe, dataset, out, devices=("cpu",), seed=0, show=print, terms=None, until=None):
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
    terms : Terms, optional
        On which a run begins or goes on, and how often it is saved.
    until : callable, optional
        ``until(training)`` is asked before each epoch whether to end there.

    Returns
    -------
    Score
        On the test images, at the end.
    """
    out, test, show, terms = Path(out), dataset.need("test"), quietly(show), terms or Terms()
    run = Training(recipe, dataset, devices, seed)
    total, result = run.recipe.learning.epochs * run.steps_per_epoch, None
    with run_folder.hold(out), Stop(saves=True) as stop, contextlib.ExitStack() as stack:
        resume.start(run, out, terms, show)
        storage.write_text(out / run_folder.RECIPE, to_toml(run.recipe))
        log = stack.enter_context(contextlib.closing(run_folder.Log(out, total, run.step, show, len(run.errors))))
        stack.enter_context(run_folder.saving(run, out))
        if run.origin and not run.step:
            log.write("begin", time=time.time(), epoch=run.epoch, step=run.step, origin=run.origin)
        stack.enter_context(explained(run, out, log))
        keeper = Keeper(run, out, log, stop, terms)
        while not _done(run, until):
            if len(run.errors) == run.step // run.steps_per_epoch:  # else it was stopped before this epoch's test
                _epoch(run, log, keeper)
            result = evaluate(run.network, test, dataset.mean, run.recipe, between=keeper.tend)
            run.errors.append(result.top1_error)
            silent = health.silent_units(run.network, run_folder.first_batch(run).images)
            log.write("test", time=time.time(), epoch=run.epoch, step=run.step, **result._asdict(), silent=silent)
            log.say(f"epoch {run.epoch:.0f}  test error {result.top1_error:.2%}  top-5 {result.top5_error:.2%}")
            keeper.watch.units(silent)
            keeper.save(tested=True)
        result = result or evaluate(run.network, test, dataset.mean, run.recipe, between=keeper.leave)
        keeper.leave()
    return result


def _done(run, until):
    # `until` is asked between epochs: a run that was stopped within one ends where it would have ended.
    whole = run.step == len(run.errors) * run.steps_per_epoch
    return len(run.errors) == run.recipe.learning.epochs or run.rates.finished or (until and whole and until(run))


def _epoch(run, log, keeper):
    # From where the run stands to the end of the epoch.
    means, batches, started, images = Means(run), run.batches(), time.monotonic(), 0
    with contextlib.closing(batches):
        for outcome in outcomes(run, batches, keeper.due):
            images += outcome.images
            loss, error = means.latest(outcome)
            speed, waited = np.array([images, batches.waited]) / (time.monotonic() - started)
            pace = f"{speed:.0f} images/s" + (f", {waited:.0%} of the time waiting for data" if waited > 0.01 else "")
            log.step(epoch=f"{outcome.epoch:.2f}", loss=f"{loss:.3f}", error=f"{error:.1%}", speed=pace)
            figures = {"time": time.time(), "epoch": outcome.epoch, "step": outcome.step, "rate": outcome.rate}
            if outcome.step % means.every == 0:
                log.write("train", **figures, loss=loss, top1_error=error, images_per_s=speed)
            if outcome.step % run.steps_per_epoch:  # the last one's turn is when the epoch is in the log
                keeper.note(outcome)
    loss, error = means.latest(outcome, run.steps_per_epoch)
    log.write("epoch", **figures, loss=loss, top1_error=error, images_per_s=speed, waited=waited)
    log.say(f"epoch {run.epoch:.0f}  training loss {loss:.3f}  error {error:.2%}  {pace}")
    keeper.watch.waiting(batches.waited, waited)
    keeper.note(outcome)

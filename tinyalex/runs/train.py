"""A training run: runs the training loop, tests after each epoch, and writes log and checkpoints to a run folder."""

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinyalex.recipes.recipe import Recipe, to_toml
from tinyalex.runs import resume, run_folder
from tinyalex.runs.checkpoint_manager import CheckpointManager
from tinyalex.runs.replay import explain_divergence
from tinyalex.runs.resume import ResumeOptions
from tinyalex.runs.runlog import Log, quietly
from tinyalex.system import storage
from tinyalex.system.signals import StopRequests
from tinyalex.training import health
from tinyalex.training.evaluation import Score, evaluate
from tinyalex.training.loop import Training
from tinyalex.training.step_metrics import RunningMeans


def train(
    recipe: Recipe,
    dataset: Any,
    out: str | Path,
    devices: Sequence[str] = ("cpu",),
    seed: int = 0,
    show: Callable[[str], object] = print,
    options: ResumeOptions | None = None,
    stop_condition: Callable[[Training], bool] | None = None,
    kernels: bool = True,
    after_epoch: Callable[[Path], object] | None = None,
) -> Score:
    """Train a network, or resume the run in `out`, and write a log and checkpoints there.

    Parameters
    ----------
    recipe : Recipe
    dataset : Dataset
    out : str or Path
        The run folder.
    devices : sequence of str
    seed : int
    show : callable
        Called with lines of text about the progress.
    options : ResumeOptions, optional
    stop_condition : callable, optional
        Called as ``stop_condition(training)`` before each epoch; training ends there if it returns True.
    kernels : bool
        As in `Network.build`.
    after_epoch : callable, optional
        Called as ``after_epoch(out)`` when training begins and when an epoch has been tested and saved.

    Returns
    -------
    Score
        The network's score on the test images, at the end.
    """
    out, test, show, options = Path(out), dataset.need("test"), quietly(show), options or ResumeOptions()
    run_folder.check_files(out)
    training = Training(recipe, dataset, devices, seed, kernels)
    steps, result = training.recipe.learning.epochs * training.steps_per_epoch, None
    with run_folder.hold(out), StopRequests(saves=True) as stop, contextlib.ExitStack() as stack:
        origin = resume.start(training, out, options, show)
        storage.write_text(out / run_folder.RECIPE, to_toml(training.recipe))
        log = stack.enter_context(contextlib.closing(Log(out, steps, training.step, show, len(training.errors))))
        if origin and not training.step:
            log.write("begin", time=time.time(), epoch=training.epoch, step=training.step, origin=origin)
        checkpoints = CheckpointManager(training, out, log, stop, options, origin)
        stack.enter_context(checkpoints.saved_on_data_error())
        stack.enter_context(explain_divergence(training, out, log))
        after_epoch = after_epoch or (lambda folder: None)
        after_epoch(out)
        while not _finished(training, stop_condition):
            tested_epochs, trained_epochs = len(training.errors), training.step // training.steps_per_epoch
            if tested_epochs == trained_epochs:  # else the run was stopped between an epoch and its test
                _train_epoch(training, log, checkpoints)
            result = evaluate(
                training.network, test, dataset.mean, training.recipe, after_batch=checkpoints.save_if_due
            )
            training.errors.append(result.top1_error)
            dead = health.dead_relu_fraction(training.network, run_folder.next_batch(training).images)
            now = {"time": time.time(), "epoch": training.epoch, "step": training.step}
            scores, top5 = result._asdict(), f"  top-5 {result.top5_error:.2%}"
            if len(training.dataset.classes) <= 5:  # then the right class is always among the first five
                del scores["top5_error"]
                top5 = ""
            log.write("test", **now, **scores, dead_relu=dead)
            log.say(f"epoch {training.epoch:.0f}  test error {result.top1_error:.2%}{top5}")
            checkpoints.monitor.dead_relus(dead)
            checkpoints.save(tested=True)
            after_epoch(out)
        result = result or evaluate(
            training.network, test, dataset.mean, training.recipe, after_batch=checkpoints.stop_if_requested
        )
        checkpoints.stop_if_requested()
    return result


def _finished(training: Training, stop_condition: Callable[[Training], bool] | None) -> bool:
    # The condition is checked only between epochs, so that a run stopped within one ends where it would have ended.
    between = training.step == len(training.errors) * training.steps_per_epoch
    return training.finished or bool(stop_condition and between and stop_condition(training))


def _train_epoch(training: Training, log: Log, checkpoints: CheckpointManager) -> None:
    # Trains from the current step to the end of the epoch.
    means, batches, started, images = RunningMeans(training), training.batches(), time.monotonic(), 0
    with contextlib.closing(batches):
        for metrics in training.train_steps(batches, synchronize=checkpoints.due):
            images += metrics.images
            loss, error = means.add(metrics)
            speed, waited = np.array([images, batches.waited]) / (time.monotonic() - started)
            pace = f"{speed:.0f} images/s" + (f", {waited:.0%} of the time waiting for data" if waited > 0.01 else "")
            log.step(epoch=f"{metrics.epoch:.2f}", loss=f"{loss:.3f}", error=f"{error:.1%}", speed=pace)
            now = {"time": time.time(), "epoch": metrics.epoch, "step": metrics.step, "rate": metrics.rate}
            if metrics.step % means.window == 0:
                log.write("train", **now, loss=loss, top1_error=error, images_per_s=speed)
            if metrics.step % training.steps_per_epoch:  # after the last step, see below: the epoch is logged first
                checkpoints.after_step(metrics)
    loss, error = means.add(metrics, training.steps_per_epoch)
    log.write("epoch", **now, loss=loss, top1_error=error, images_per_s=speed, waited=waited)
    log.say(f"epoch {training.epoch:.0f}  training loss {loss:.3f}  error {error:.2%}  {pace}")
    checkpoints.monitor.waiting(batches.waited, waited)
    checkpoints.after_step(metrics)

"""A training run: runs the training loop, tests after each epoch, and writes log and checkpoints to a run folder."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tinyalex.devices.device import Device
from tinyalex.network import alexnet, memory
from tinyalex.ranks.world import ALONE, World
from tinyalex.recipes.recipe import Recipe, to_toml, with_classes
from tinyalex.runs import fingerprint, resume, run_folder
from tinyalex.runs.checkpoint_manager import CheckpointManager
from tinyalex.runs.replay import explain_divergence
from tinyalex.runs.requests import AgreedRequests
from tinyalex.runs.resume import ResumeOptions
from tinyalex.runs.runlog import Log, NoLog, quietly
from tinyalex.system import hashes, storage
from tinyalex.system.signals import StopRequests
from tinyalex.training import cautions, health, reference, schedule
from tinyalex.training.evaluation import Score, evaluate, shows_top5
from tinyalex.training.loop import Training
from tinyalex.training.step_metrics import RunningMeans
from tinyalex.words import counted

_LOOKED_AT = 512  # images at most, to count dead units: every layer's output is kept for them


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
    world: World = ALONE,
    how: str = "ordered",
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
    world : World
        The ranks that train together, each of which calls this function. Rank 0 writes and shows.
    how : {"ordered", "fast"}
        How they sum their gradients: see `tinyalex.ranks.sums`.
    after_epoch : callable, optional
        Called as ``after_epoch(out)`` when training begins and when an epoch has been tested and saved.

    Returns
    -------
    Score
        The network's score on the test images, at the end.
    """
    out, options = Path(out), options or ResumeOptions()
    dataset.need("test")
    show = quietly(show) if world.leads else lambda text: None
    if world.leads:
        run_folder.check_files(out)
    parts = world.broadcast(resume.parts(recipe, out, world.size) if world.leads else None)
    recipe = replace(recipe, learning=replace(recipe.learning, parts=parts))
    _check_memory(recipe, dataset, devices, kernels, show, world)
    training = Training(recipe, dataset, devices, seed, kernels, world, how)
    steps, result = training.recipe.learning.epochs * training.steps_per_epoch, None
    recorded = reference.find(training.recipe, len(dataset.need("train")), len(dataset.need("test")))
    with contextlib.ExitStack() as stack:
        signals = stack.enter_context(StopRequests(saves=True))
        requests = AgreedRequests(signals, world) if world.size > 1 else None
        if requests:
            training.agree = requests.agree
        origin, log = None, NoLog()  # type: tuple[dict[str, Any] | None, Log | NoLog]
        if world.size > 1:
            world.check_equal(_facts(training))
        if world.leads:
            stack.enter_context(run_folder.hold(out))
            origin = resume.start(training, out, options, show)
            storage.write_text(out / run_folder.RECIPE, to_toml(training.recipe))
            log = stack.enter_context(contextlib.closing(Log(out, steps, training.step, show, len(training.errors))))
        if world.size > 1:
            _share_state(training)
        if origin and not training.step:
            log.write("begin", time=time.time(), epoch=training.epoch, step=training.step, origin=origin)
        for line in cautions.before_training(training.recipe, dataset, not origin) if not training.step else ():
            log.say(f"warning: {line}")
        checkpoints = CheckpointManager(training, out, log, requests or signals, options, origin)
        if requests:
            requests.late = checkpoints.late
        stack.enter_context(checkpoints.saved_on_data_error())
        stack.enter_context(explain_divergence(training, out, log))
        after_epoch = after_epoch or (lambda folder: None)
        after_epoch(out)
        while not _finished(training, stop_condition):
            tested_epochs, trained_epochs = len(training.errors), training.step // training.steps_per_epoch
            if tested_epochs == trained_epochs:  # else the run was stopped between an epoch and its test
                _train_epoch(training, log, checkpoints)
            result = _test(training, checkpoints.save_if_due)
            judged_by = training.recipe.judged_by
            training.errors.append(result.top1_error if judged_by == "test error" else result.mean_class_error)
            dead = {}
            if world.leads:
                some = run_folder.next_batch(training).images[:_LOOKED_AT]
                dead = health.dead_relu_fraction(training.network, some)
            now = {"time": time.time(), "epoch": training.epoch, "step": training.step}
            scores, top5 = result._asdict(), f"  top-5 {result.top5_error:.2%}"
            if not shows_top5(len(training.dataset.classes)):
                del scores["top5_error"]
                top5 = ""
            ended = _stopped_early(training)
            log.write("test", **now, **scores, dead_relu=dead, **ended)
            mean = result.mean_class_error  # equal to the top-1 error where all classes have as many images
            of_classes = f"  mean of the classes {mean:.2%}" if abs(mean - result.top1_error) > 1e-9 else ""
            log.say(f"epoch {training.epoch:.0f}  test error {result.top1_error:.2%}{of_classes}{top5}")
            if recorded:
                log.say(recorded.line(training.errors))
            checkpoints.monitor.dead_relus(dead)
            if errors := [metrics.read()[1] for metrics in training.epoch_metrics]:  # none after a resumed epoch's end
                trained, balanced = float(np.mean(errors)), training.recipe.data.sampling == "balanced"
                tested = mean if balanced else result.top1_error  # then the training images are balanced too
                checkpoints.monitor.overfitting(trained, tested, len(dataset.need("test")), training.recipe)
            checkpoints.save(tested=True)
            after_epoch(out)
        result = result or _test(training, checkpoints.stop_if_requested)
        if requests:
            requests.agree()
        checkpoints.stop_if_requested()
        if training.finished:
            log.say(_summary(training))
    return result


def _facts(training: Training) -> dict[str, str]:
    # What has to be the same on all ranks.
    machine = fingerprint.of_training(training)
    return {
        "the recipe": hashes.text(to_toml(replace(training.recipe, data=replace(training.recipe.data, set=""))))[:8],
        "the data set": training.dataset.identity[:8],
        "the seed": str(training.seed),
        "the sum of gradients": training.how,
    } | {f"the version of {name}": machine[name] for name in ("tinyalex", "Python", "NumPy", "BLAS")}


def _share_state(training: Training) -> None:
    # Gives all ranks the state of rank 0, which has read it from a checkpoint or begun anew.
    world, state = training.world, training.state_dict()
    for kind in ("values", "momenta"):
        state[kind] = {name: world.broadcast_array(array) for name, array in state[kind].items()}
    rest = {key: value for key, value in state.items() if key not in ("values", "momenta")}
    training.load_state_dict(state | world.broadcast(rest))


def _test(training: Training, after_batch: Callable[[], object]) -> Score:
    # Ranks test different numbers of batches: they cannot agree on requests before all are done.
    world, dataset = training.world, training.dataset
    return evaluate(
        training.network,
        dataset.need("test"),
        dataset.mean,
        training.recipe,
        after_batch=None if world.size > 1 else after_batch,
        world=world,
    )


def _stopped_early(training: Training) -> dict[str, int]:
    # What the log says of the last test if `learning.stop_after` ends training.
    limit, errors = training.recipe.learning.stop_after, training.errors
    stopped = limit and schedule.stale(errors) >= limit and len(errors) < training.recipe.learning.epochs
    return {"stopped_after": limit, "best_epoch": schedule.best_epoch(errors)} if stopped else {}


def _summary(training: Training) -> str:
    # Which epoch was the best, and why training ended before its last epoch, if it did.
    best, errors = schedule.best_epoch(training.errors), training.errors
    judged_by = training.recipe.judged_by
    line = f"the lowest {judged_by} was {errors[best - 1]:.2%}, after epoch {best}"
    if ended := _stopped_early(training):
        why = f"no lower {judged_by} in {counted(ended['stopped_after'], 'epoch')} (learning.stop_after)"
        return f"training ended after epoch {len(errors)} of {training.recipe.learning.epochs}: {why}; {line}"
    return f"{line} of {len(errors)}"


def _check_memory(
    recipe: Recipe, dataset: Any, devices: Sequence[str], kernels: bool, show: Callable[[str], object], world: World
) -> None:
    if not all(Device(name, kernels).on_host for name in devices):
        return  # a GPU says itself that it has no more
    made = with_classes(recipe, len(dataset.classes))
    network = alexnet.describe(made.net, made.init)
    batch = min(made.learning.images_at_once(world.size), len(dataset.need("train")))
    if line := memory.check(network, batch, fast=kernels and set(devices) == {"cpu"}):
        show(f"warning: {line}")


def _finished(training: Training, stop_condition: Callable[[Training], bool] | None) -> bool:
    # The condition is checked only between epochs, so that a run stopped within one ends where it would have ended.
    between = training.step == len(training.errors) * training.steps_per_epoch
    return training.finished or bool(stop_condition and between and stop_condition(training))


def _train_epoch(training: Training, log: Log | NoLog, checkpoints: CheckpointManager) -> None:
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

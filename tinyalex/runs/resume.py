"""Starts or resumes a run: checks that settings, data and machine are those of the run in the folder."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinyalex.errors import CheckpointError, StalledError, UsageError
from tinyalex.recipes import recipe
from tinyalex.recipes.recipe import Recipe
from tinyalex.recipes.settings import FILES
from tinyalex.runs import checkpoint, finetune, fingerprint, retention, run_folder
from tinyalex.system import hashes, storage
from tinyalex.training import health
from tinyalex.training.loop import Training
from tinyalex.words import counted

# Settings that --change allows to change: those of learning, the algorithm of the convolutions, and the precision.
LEARNING = (
    "epochs",
    "steps",
    "rate",
    "bias_rate",
    "lr_mult",
    "momentum",
    "layer_momentum",
    "weight_decay",
    "layer_weight_decay",
    "lars",
    "scale",
    "schedule",
    "warmup",
    "patience",
    "drops",
    "class_weights",
    "stop_after",
    "phases",
)
CHANGEABLE = {*(f"learning.{key}" for key in LEARNING), "net.convolution", "net.precision"}
SAVE_EVERY = 600.0  # seconds


class ResumeOptions(NamedTuple):
    """How a run starts, resumes and is saved: the options of `tinyalex train`.

    Attributes
    ----------
    fresh : bool
        Refuse a folder that already holds a run.
    change : bool
        Resume with other learning settings than before.
    exact : bool
        Refuse to resume if the last bits may differ from those of an uninterrupted run.
    weak_signal : bool
        Start although different images give nearly equal outputs.
    save_every : float
        Seconds between checkpoints.
    command : str, optional
        The command that resumes the run, shown in messages.
    init_from : str or Path, optional
        A run, or one of its checkpoints, whose weights a new run starts with: see `tinyalex.runs.finetune`.
    """

    fresh: bool = False
    change: bool = False
    exact: bool = False
    weak_signal: bool = False
    save_every: float = SAVE_EVERY
    command: str | None = None
    init_from: str | Path | None = None


def start(
    training: Training, folder: Path, options: ResumeOptions, show: Callable[[str], object]
) -> dict[str, Any] | None:
    """Resume the run in a folder, or check a new one before its first step.

    Parameters
    ----------
    training : Training
        Gets the state of the folder's newest valid checkpoint, if there is one.
    folder : Path
        Locked by this process: see `run_folder.hold`.
    options : ResumeOptions
    show : callable
        Called with lines of text.

    Returns
    -------
    dict or None
        Where the run's first weights came from, if from another run: see `finetune.start_from`.

    Raises
    ------
    UsageError
        If the folder holds a run and `options.fresh` is set.
    CheckpointError
        If the run there has other settings or data, or none of its checkpoints can be used.
    StalledError
        If different images give nearly equal outputs of a new net.
    StorageError
        If there is no room for the first checkpoints.
    """
    run_folder.remove_partial_files(folder)
    found, origin = list(folder.glob("checkpoint-*.safetensors")), None
    if found and options.fresh:
        raise UsageError(f"{folder}: holds a run already; leave out --fresh to resume it, or give another --out folder")
    if found:
        tensors, metadata = _same_run(training, folder, options, show)
        run_folder.restore(training, tensors, metadata)
        origin = metadata.get("origin")
        finetune.same_origin(origin, options.init_from, folder)
        show(f"resuming at step {training.step} of {training.recipe.learning.epochs * training.steps_per_epoch}")
    else:
        if options.init_from:
            origin = finetune.start_from(
                training.network, options.init_from, training.dataset.classes, training.recipe.init.anew
            )
            show(finetune.line(origin))
        _check_signal(training, options, show)
    size = 2 * sum(view.nbytes for _, _, view in training.network.tensors()) + training.dataset.mean.nbytes
    storage.need_room(folder / "checkpoints", size * max(1, retention.NEWEST + 1 - len(found)))
    if origin and not found:
        run_folder.save(training, folder, origin, say=show)  # from now on the other run is no longer needed
    return origin


def parts(recipe_: Recipe, folder: Path, ranks: int) -> int:
    """Return into how many parts the batches of the run in a folder are divided: see ``learning.parts``.

    For a new run the recipe's number or, if that is 0, the number of ranks; 0 if there is only one.

    Raises
    ------
    UsageError
        If a batch has fewer images than parts.
    """
    given, batch = recipe_.learning.parts, recipe_.learning.batch
    if max(given, ranks) > batch:
        what, less = ("learning.parts", "parts") if given else ("ranks", "ranks")
        raise UsageError(f"{what}: {max(given, ranks)}, but a batch has {counted(batch, 'image')}; give fewer {less}")
    if given or not any(folder.glob("checkpoint-*.safetensors")):
        return given or (ranks if ranks > 1 else 0)
    _, metadata = run_folder.read(checkpoint.newest(folder))
    return recipe.parse(metadata["recipe"]).learning.parts


def _same_run(
    training: Training, folder: Path, options: ResumeOptions, show: Callable[[str], object]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    damaged: list[str] = []
    tensors, metadata = run_folder.read(checkpoint.newest(folder, damaged))
    for line in damaged:
        show(f"warning: {line}")
    old_mean, new_mean = tensors["data/mean"], training.dataset.mean
    if metadata["dataset"] != training.dataset.identity:
        new_mean = old_mean  # the message names the data set; do not also name its mean image
    changed = [
        (key, old, new)
        for key, old, new in (
            *recipe.differences(recipe.parse(metadata["recipe"]), training.recipe),
            ("classes", metadata["classes"], list(training.dataset.classes)),
            ("seed", metadata["seed"], training.seed),
            ("data set", metadata["dataset"][:8], training.dataset.identity[:8]),
            ("mean image", hashes.array(old_mean)[:8], hashes.array(new_mean)[:8]),
        )
        if old != new
    ]
    # Epochs that are given replace the least number of steps.
    if any(key == "learning.epochs" for key, _, _ in changed):
        changed = [(key, old, new) for key, old, new in changed if (key, new) != ("learning.steps", None)]
    changes = recipe.describe(changed)
    if any(key not in CHANGEABLE for key, _, _ in changed):
        raise CheckpointError(f"{folder}: the run here had {changes}; give another --out folder")
    if changed and not options.change:
        raise CheckpointError(
            f"{folder}: the run here had {changes}; add --change to resume with that, or give another --out folder"
        )
    if metadata["step"] > training.recipe.learning.epochs * training.steps_per_epoch:
        raise CheckpointError(
            f"{folder}: the run here is at epoch {metadata['epoch']:.4g}, beyond learning.epochs = "
            f"{training.recipe.learning.epochs}; give more epochs, or another --out folder"
        )
    if changed:
        show(f"changed from step {metadata['step']} on: the run had {changes}")
    differences = fingerprint.differences(metadata.get("fingerprint") or {}, fingerprint.of_training(training))
    if differences and options.exact:
        raise CheckpointError(
            f"{folder}: the run here was made with {differences}; restore that to resume it, or leave out --exact"
        )
    if differences:
        show(f"warning: the run was made with {differences}: it resumes correctly, but the last bits may differ")
    return tensors, metadata


def _check_signal(training: Training, options: ResumeOptions, show: Callable[[str], object]) -> None:
    batch = run_folder.next_batch(training)
    if len(batch.labels) < 8:
        return  # too few images to measure it
    strength = health.signal(training.network, batch.images)
    if strength >= health.WEAK:
        return
    line = (
        f"signal: {strength:.1%} of the size of the logits depends on the image, {health.WEAK:.0%} or more is usual: "
        "the loss may stay at the level of guessing"
    )
    if not _shipped(training.recipe) and not options.weak_signal:
        values = "initW, initB" if training.recipe.net.kind == FILES else "init.weights, init.biases"
        raise StalledError(f"{line}; choose {values} and data.scale together, or add --weak-signal")
    show(f"warning: {line}")


def _shipped(made: Recipe) -> bool:
    # Whether net, initialization and input scale are those of a recipe that comes with the package.
    if made.name not in recipe.names():
        return False
    ours = recipe.load(made.name)
    free = {key: getattr(made.net, key) for key in ("classes", "convolution", "precision")}
    net = dataclasses.replace(ours.net, **free)
    return (net, ours.init, ours.data.scale, ours.data.mean) == (made.net, made.init, made.data.scale, made.data.mean)

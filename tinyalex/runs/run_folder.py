"""A run folder: what training writes there, and how the other commands read it."""

import contextlib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinyalex.errors import CheckpointError, DivergedError, UsageError
from tinyalex.network import alexnet
from tinyalex.network.network import Network
from tinyalex.recipes import recipe
from tinyalex.recipes.recipe import Recipe
from tinyalex.runs import checkpoint, fingerprint, retention
from tinyalex.runs.runlog import LOG, Log, is_log, read_log
from tinyalex.system import lock, ownership, storage
from tinyalex.training import health
from tinyalex.training.loop import Training
from tinyalex.words import counted

__all__ = [
    "LOG",
    "RECIPE",
    "REPORT",
    "Log",
    "Run",
    "export",
    "hold",
    "load",
    "next_batch",
    "read",
    "read_log",
    "restore",
    "save",
]
__all__ += ["adopt", "check_files", "remove_partial_files", "snapshot", "tensors_of"]

RECIPE, REPORT = "recipe.toml", "report.html"
_CHECKPOINT = re.compile(r"checkpoint-(\d{8,})(?:-\d+)?\.safetensors")
# Pictures of earlier versions, which kept no list of what they made.
_OLD_PICTURES = ("curves", "architecture", "kernels", "panel", "neighbours", "codes", "race")


def _all(kind: type) -> Callable[[Any], bool]:
    return lambda value: type(value) is list and all(type(item) is kind for item in value)


_FIELDS: dict[str, Callable[[Any], bool]] = {  # key of the metadata: whether a value is valid
    "recipe": lambda value: type(value) is str,
    "dataset": lambda value: type(value) is str,
    "seed": lambda value: type(value) is int,
    "classes": _all(str),
    "words": lambda value: value is None or _all(str)(value),
    "errors": _all(float),
    "fingerprint": lambda value: value is None or (type(value) is dict and _all(str)(list(value.values()))),
}


class Run(NamedTuple):
    """A trained network, and what is needed to use it on images.

    Attributes
    ----------
    network : Network
    recipe : Recipe
    classes : list of str
    words : list of str
        Readable names of the classes.
    mean : ndarray, shape (S, S, 3)
        Mean training image.
    metadata : dict
        Metadata of the checkpoint.
    passed_over : list of str
        A message for each checkpoint that was skipped because it does not verify, although it would have been taken.
    path : Path
        The file that holds these weights.
    """

    network: Network
    recipe: Recipe
    classes: list[str]
    words: list[str]
    mean: np.ndarray
    metadata: dict[str, Any]
    passed_over: list[str]
    path: Path = Path()


def tensors_of(state: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return the values and momenta of a `Training.state_dict` under the names that they have in a checkpoint."""
    return state["values"] | {f"momentum/{name}": momentum for name, momentum in state["momenta"].items()}


def snapshot(
    training: Training, origin: dict[str, Any] | None = None, tested: bool = False
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return what a checkpoint of a `Training` holds: all tensors on the host, and the metadata.

    Parameters
    ----------
    training : Training
    origin : dict, optional
        Where the run's first weights came from: see `finetune.start_from`.
    tested : bool
        Whether the last entry of `Training.errors` is the error of these weights.

    Raises
    ------
    DivergedError
        If a number is not finite.
    """
    state = training.state_dict()
    tensors = tensors_of(state)
    bad = health.not_finite(tensors)
    if bad:
        raise DivergedError(f"{bad}: no longer finite at step {training.step}; not saved, use a smaller learning.rate")
    metadata = {
        "kind": "checkpoint",
        "step": state["step"],
        "epoch": training.epoch,
        "errors": state["errors"],
        "judged_by": training.recipe.judged_by,
        "tested": tested,
        "drops": training.rates.drops,
        "seed": training.seed,
        "recipe": recipe.to_toml(training.recipe),
        "classes": list(training.dataset.classes),
        "words": list(training.dataset.words),
        "dataset": training.dataset.identity,
        "origin": origin,
        "fingerprint": fingerprint.of_training(training),
    }
    return tensors | {"data/mean": training.dataset.mean, "epoch/seen": state["epoch_metrics"]}, metadata


def save(
    training: Training,
    folder: str | Path,
    origin: dict[str, Any] | None = None,
    tested: bool = False,
    say: Callable[[str], object] | None = None,
) -> Path:
    """Write a checkpoint from which a training run can resume, and return its path; see `snapshot`."""
    return checkpoint.save(folder, *snapshot(training, origin, tested), say=say)


def restore(training: Training, tensors: dict[str, np.ndarray], metadata: dict[str, Any]) -> None:
    """Restore a `Training` to the state that a checkpoint holds."""
    names = training.network.state()
    training.load_state_dict(
        {
            "values": {name: tensors[name] for name in names},
            "momenta": {name: tensors[f"momentum/{name}"] for name in names},
            "step": metadata["step"],
            "errors": metadata["errors"],
            "epoch_metrics": tensors["epoch/seen"],
        }
    )


def hold(folder: str | Path) -> contextlib.AbstractContextManager[None]:
    """Lock a run folder for this process, and create it if it is missing: see `tinyalex.system.lock.hold`."""
    return lock.hold(folder, "training", "--out")


def check_files(folder: str | Path, pictures: Iterable[str] = (), pages: Iterable[str] = ()) -> None:
    """Check that no file that training writes in a folder is somebody else's; nothing is written to a new folder.

    Parameters
    ----------
    folder : str or Path
    pictures : iterable of str
        Names of the pictures that are going to be drawn there, without ".png".
    pages : iterable of str
        Names of other files that are going to be written there.

    Raises
    ------
    StorageError
        See `tinyalex.system.ownership.check`.
    """
    adopt(folder)
    if not ownership.is_marked(folder):  # then what is named like a checkpoint has to be one at least
        for path in Path(folder).glob("checkpoint-*.safetensors"):
            try:
                if path.is_file():
                    checkpoint.inspect(path)
                else:
                    ownership.check(path)
            except CheckpointError:
                ownership.check(path)
    for name in (RECIPE, LOG, *(f"{picture}.png" for picture in pictures), *pages):
        ownership.check(Path(folder) / name)


def adopt(folder: str | Path) -> None:
    """List in a run folder of an earlier version which files are the run's; other folders are left as they are.

    Such a folder is recognised by a checkpoint, under the name that its own step gives, or by the records of its log.
    """
    folder = Path(folder)
    if not folder.is_dir() or ownership.is_marked(folder):
        return
    checkpoints = {}
    for path, metadata in checkpoint.by_step(folder):
        name = _CHECKPOINT.fullmatch(path.name)
        if name and int(name[1]) == metadata["step"] and metadata.get("kind") != "weights":
            checkpoints[path.name] = metadata.get("recipe")
    begun = lock.is_lock(folder / lock.NAME) and _is_empty(folder / LOG)  # and stopped before its first record
    logged = is_log(folder / LOG)
    if not (checkpoints or begun or (logged and read_log(folder))):
        return
    growing = [lock.NAME] if lock.is_lock(folder / lock.NAME) else []
    growing += [LOG] if logged else []
    recipes = [RECIPE] if _is_resolved(folder / RECIPE, checkpoints.values()) else []
    pictures = [f"{name}.png" for name in _OLD_PICTURES if ownership.is_picture(folder / f"{name}.png")]
    pages = [REPORT] if ownership.is_page(folder / REPORT) else []
    ownership.adopt(folder, checkpoints, [*recipes, *pictures, *pages], growing)


def _is_empty(path: Path) -> bool:
    return path.is_file() and not path.stat().st_size


def _is_resolved(path: Path, known: Iterable[str]) -> bool:
    # Whether a recipe is one that training wrote: that of a checkpoint, or in the form in which recipes are written.
    if not path.is_file():
        return False
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        # Earlier versions had fewer keys.
        return text in known or set(text.splitlines()) <= set(recipe.to_toml(recipe.parse(text)).splitlines())
    except UsageError:
        return False


def remove_partial_files(folder: str | Path) -> None:
    """Remove the temporary files that a killed process left in a folder; the caller must `hold` it."""
    ownership.remove_partial_files(folder)


def next_batch(training: Training) -> Any:
    """Return the next `Batch` of a `Training`, the whole of it."""
    with contextlib.closing(training.batches(whole=True)) as batches:
        return next(batches)


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read a checkpoint, or a file of weights, and check it against the net that its own recipe describes.

    Returns
    -------
    tensors, metadata
        See `checkpoint.read`.

    Raises
    ------
    CheckpointError
        As `checkpoint.read`, and if a tensor is missing, unknown or of another shape, or holds a NaN or an infinity.
    """
    tensors, metadata = checkpoint.read(path, _shapes(path))
    bad, mean = health.not_finite(tensors), tensors["data/mean"]
    if bad:
        raise CheckpointError(f"{path}: {bad} is not a finite number; use an older checkpoint or train again")
    if mean.ndim != 3 or mean.shape != (mean.shape[0], mean.shape[0], 3):
        raise CheckpointError(
            f"{path}: data/mean is {mean.shape}, not a square image; use an older checkpoint or train again"
        )
    return tensors, metadata


def _shapes(path: Path) -> Callable[[dict[str, Any]], dict[str, tuple]]:
    def shapes(metadata: dict[str, Any]) -> dict[str, tuple]:
        for field, fits in _FIELDS.items():
            if not fits(metadata.get(field)):
                raise CheckpointError(
                    f"{path}: {field}: {metadata.get(field)!r:.60} is not valid; use an older checkpoint or train again"
                )
        classes, words = metadata["classes"], metadata.get("words") or metadata["classes"]
        try:
            settings = recipe.parse(metadata["recipe"])
        except UsageError as error:
            raise CheckpointError(f"{path}: its recipe is not valid ({error}); use another file") from error
        if not len(classes) == len(words) == settings.net.classes:
            counts = f"{counted(len(classes), 'class')} with {len(words)} names, but the net has {settings.net.classes}"
            raise CheckpointError(f"{path}: {counts}; use an older checkpoint or train again")
        wanted: dict[str, tuple] = {}
        for parameter in alexnet.describe(settings.net).parameters():
            width = parameter.shape[-1] // len(parameter.names)
            wanted |= {
                f"{name}/{parameter.kind}": ("float32", (*parameter.shape[:-1], width)) for name in parameter.names
            }
        if metadata.get("kind") != "weights":
            wanted |= {f"momentum/{name}": form for name, form in wanted.items()} | {"epoch/seen": ("float64", None)}
        return wanted | {"data/mean": ("float32", None)}

    return shapes


def load(path: str | Path, devices: Sequence[str] = ("cpu",), kernels: bool = True, best: bool = False) -> Run:
    """Build the network of one of a run folder's checkpoints, of a checkpoint's file, or of a file of weights.

    Parameters
    ----------
    path : str or Path
        A folder or a file.
    devices : sequence of str
    kernels : bool
        See `Network.build`.
    best : bool
        Of a folder, take the checkpoint with the lowest test error, as `checkpoint.best` does. False: the newest.

    Returns
    -------
    Run

    Examples
    --------
    Of a run folder with one checkpoint, which holds the initial weights:

    >>> import tempfile
    >>> import numpy as np
    >>> from tinyalex import Training, datasets, load_run, recipe
    >>> from tinyalex.runs import run_folder
    >>> images = datasets.ImageSet(np.zeros((2, 64, 64, 3), "uint8"), np.array([0, 1]))
    >>> training = Training(recipe.load("shapes"), datasets.Dataset("two", ["left", "right"], images, images))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = run_folder.save(training, folder)
    ...     run = load_run(folder)
    >>> run.classes, run.metadata["step"], run.network.input_shape
    (['left', 'right'], 0, (56, 56, 3))
    """
    source = Path(path)
    for attempt in range(3):
        rejected: list[str] = []
        choose = checkpoint.best if best else checkpoint.newest
        found = choose(source, rejected) if source.is_dir() else source
        try:
            tensors, metadata = read(found)
            break
        except CheckpointError:
            if attempt == 2 or found.exists():
                raise  # else a training process has removed it since: take the one that is newest now
    settings = recipe.parse(metadata["recipe"])
    network = alexnet.build(settings.net, settings.init, devices, seed=None, kernels=kernels, fall_back=True)
    network.load({name: tensors[name] for name in network.state()})
    classes = list(metadata["classes"])
    words = list(metadata.get("words") or classes)
    return Run(network, settings, classes, words, tensors["data/mean"], metadata, rejected, found)


def better_than(run: Run, folder: str | Path) -> tuple[Path, str, dict[str, Any]] | None:
    """Return the checkpoint in a run's folder that ``best`` takes, if it is not that of a `Run`, or None.

    If the weights of the `Run` were not tested, any tested checkpoint is better. Only headers are read.

    Returns
    -------
    path : Path
    compared : str
        "a lower" or "an equal", for its test error: of equal ones the earliest is the best.
    metadata : dict
    """
    own = run.metadata["errors"][-1] if run.metadata.get("tested") and run.metadata["errors"] else math.inf
    found = retention.by_error(checkpoint.by_step(folder)) if Path(folder).is_dir() else []
    if not found or (own, run.metadata["step"]) <= (found[0][1]["errors"][-1], found[0][1]["step"]):
        return None
    path, metadata = found[0]
    return path, "a lower" if metadata["errors"][-1] < own else "an equal", metadata


def check_export(path: str | Path) -> None:
    """Raise ForeignFileError if `export` would have to replace a file that is not an unchanged one of its own."""
    storage.check(Path(path), checkpoint.is_export)


def export(run: Run, path: str | Path) -> Path:
    """Write a `Run` to a file of weights: what `load` needs, without what a run needs to resume.

    A file of weights that `export` wrote and nobody has changed is replaced, any other file is not.

    Returns
    -------
    Path
    """
    tensors = {name: device.get(view) for name, device, view in run.network.tensors()}
    kept = (
        "step",
        "epoch",
        "errors",
        "judged_by",
        "tested",
        "seed",
        "recipe",
        "classes",
        "words",
        "dataset",
        "fingerprint",
    )
    metadata = {"kind": "weights"} | {key: run.metadata[key] for key in kept if key in run.metadata}
    checkpoint.write(Path(path), tensors | {"data/mean": run.mean}, metadata, may_replace=checkpoint.is_export)
    return Path(path)

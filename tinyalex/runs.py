"""A run folder: what training leaves there, and how the other commands read it."""

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tinyalex import alexnet, checkpoint, lock, recipe, storage
from tinyalex.errors import CheckpointError, DataError

LOG, RECIPE = "log.jsonl", "recipe.toml"


class Run(NamedTuple):
    """A trained network and what its images have to look like.

    Attributes
    ----------
    network : Network
    recipe : Recipe
    classes : list of str
    words : list of str
        Their names for people.
    mean : ndarray, shape (S, S, 3)
        Mean training image.
    metadata : dict
        The checkpoint's.
    """

    network: object
    recipe: object
    classes: list
    words: list
    mean: np.ndarray
    metadata: dict


def snapshot(run):
    """Return what a checkpoint of a `Training` keeps: all tensors on the host, and the metadata."""
    tensors = {name: device.get(view) for name, device, view in run.network.tensors()}
    tensors |= {f"momentum/{name}": device.get(view) for name, device, view in run.optimizer.tensors()}
    metadata = {
        "step": run.step,
        "epoch": run.epoch,
        "errors": run.errors,
        "seed": run.seed,
        "recipe": recipe.to_toml(run.recipe),
        "classes": list(run.dataset.classes),
        "words": list(run.dataset.words),
        "dataset": run.dataset.identity,
        "origin": run.origin,
    }
    return tensors | {"data/mean": run.dataset.mean}, metadata


def restore(tensors, network, optimizer=None):
    """Copy a checkpoint's tensors into a network, and into an optimizer if there is one."""
    shapes = {name: tuple(value.shape) for name, value in network.state().items()}
    wanted = shapes if optimizer is None else shapes | {f"momentum/{name}": shape for name, shape in shapes.items()}
    for name, shape in wanted.items():
        found = tensors[name].shape if name in tensors else "nothing"
        if found != shape:
            raise CheckpointError(f"checkpoint: {name} is {found}, this net wants {shape}; it is of another net")
    network.load(tensors)
    if optimizer is not None:
        optimizer.load({name: tensors[f"momentum/{name}"] for name in shapes})


def hold(folder):
    """Keep a run folder, made if it is missing, to this process: see `tinyalex.lock.hold`."""
    return lock.hold(folder, "training", "--out")


@contextlib.contextmanager
def saving(run, folder):
    """Save a `Training` in its folder when its data cannot be read any more, before the DataError goes on."""
    try:
        yield
    except DataError as error:
        if not run.step:
            raise
        path = run.save(folder)
        raise DataError(
            f"{error}; stopped at step {run.step}, saved in {path}; when the data are whole, the same command goes on"
        ) from error


def find(folder, settings, seed, dataset, show=print):
    """Read the newest checkpoint of a run folder, to go on with it; None if there is none.

    Parameters
    ----------
    folder : Path
    settings : Recipe
    seed : int
    dataset : Dataset
    show : callable
        Gets a line for every newer checkpoint that is damaged.

    Raises
    ------
    CheckpointError
        If it belongs to another recipe, seed or data set.
    """
    if not any(Path(folder).glob("checkpoint-*.safetensors")):
        return None
    damaged = []
    tensors, metadata = checkpoint.read(checkpoint.newest(folder, damaged))
    for line in damaged:
        show(f"warning: {line}")
    then = recipe.parse(metadata["recipe"])
    for what, old, new in (
        *_settings(then, settings),
        ("seed", metadata["seed"], seed),
        ("data set", metadata["dataset"][:8], dataset.identity[:8]),
    ):
        if old != new:
            raise CheckpointError(f"{folder}: its run had {what} {old}, now it is {new}; give another --out folder")
    return tensors, metadata


def _settings(then, now):
    # (key, value then, value now) for every setting of two recipes; where the data lie does not matter.
    for part in ("net", "init", "data", "learning"):
        old, new = dataclasses.asdict(getattr(then, part)), dataclasses.asdict(getattr(now, part))
        yield from ((f"{part}.{key}", old[key], new[key]) for key in old if key != "set")


def load(folder, devices=("cpu",)):
    """Read the newest checkpoint of a run folder, or one checkpoint file, and build its network.

    Returns
    -------
    Run
    """
    folder = Path(folder)
    path = checkpoint.newest(folder) if folder.is_dir() else folder
    tensors, metadata = checkpoint.read(path)
    settings = recipe.parse(metadata["recipe"])
    network = alexnet.build(settings.net, settings.init, devices, seed=None)
    restore(tensors, network)
    classes = list(metadata["classes"])
    return Run(network, settings, classes, list(metadata.get("words", classes)), tensors["data/mean"], metadata)


def read_log(folder):
    """Return the records of a run's log, oldest first; a last line that was cut off is left out."""
    records = []
    path = Path(folder) / LOG
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


class Log:
    """Writes ``log.jsonl``, one object a line, and tells the person who watches.

    Parameters
    ----------
    folder : Path
    steps : int
        Of the whole run, for the progress bar.
    done : int
        Steps that are behind us already; what the log says of later ones is cut off.
    show : callable
        Gets plain lines of text. The bar appears on a terminal only.
    """

    def __init__(self, folder, steps, done=0, show=print):
        from tqdm import tqdm

        path = Path(folder) / LOG
        kept = [json.dumps(record) + "\n" for record in read_log(folder) if record["step"] <= done and done]
        storage.write_text(path, "".join(kept))  # all of it or the one before, whenever somebody pulls the plug
        self._file = path.open("a", encoding="utf-8")
        self._show = show
        self._bar = tqdm(total=steps, initial=done, unit="step", disable=None, leave=False, dynamic_ncols=True)

    def write(self, event, **fields):
        """Add a record; numbers that are not finite become null, as JSON wants."""
        fields = {key: _plain(value) for key, value in fields.items() if value is not None}
        self._file.write(json.dumps({"event": event, **fields}) + "\n")
        self._file.flush()

    def step(self, **figures):
        """Move the bar on and show figures beside it."""
        self._bar.set_postfix_str("  ".join(f"{name} {value}" for name, value in figures.items()), refresh=False)
        self._bar.update()

    def say(self, text):
        """Show a line of text, above the bar if there is one."""
        self._bar.clear()
        self._show(text)

    def close(self):
        self._bar.close()
        self._file.close()


def _plain(value):
    if isinstance(value, float | np.floating):
        if not np.isfinite(value):
            return None
        return float(f"{value:.7g}") if abs(value) < 1e6 else round(float(value), 3)
    return value

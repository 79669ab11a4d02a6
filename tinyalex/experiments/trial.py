"""Train one net once and save its errors, so that an experiment that was stopped can be resumed."""

import json
from pathlib import Path

from tinyalex.errors import StalledError, StorageError, UsageError
from tinyalex.recipes import recipe as recipes
from tinyalex.runs import run_folder
from tinyalex.runs.resume import ResumeOptions
from tinyalex.runs.train import train
from tinyalex.system import storage
from tinyalex.training import evaluation

RESULT = "result.json"


def trial(recipe, dataset, folder, devices, seed, show, weak_signal=False):
    """Train a net to the end and measure its errors, or read the errors that an earlier call saved.

    Parameters
    ----------
    recipe : Recipe
    dataset : Dataset
    folder : Path
        Run folder. A run that was stopped there is resumed; a finished one is not repeated.
    devices : sequence of str
        One per column, or one for all columns; devices beyond the net's columns are not used.
    seed : int
    show : callable
        Called with the lines that training prints.
    weak_signal : bool
        Train a net that does not learn to the end, too.

    Returns
    -------
    dict
        Fractions: "top1_error" and "top5_error" on the test images; "train_error", the top-1 error on the training
        images, without augmentation; "gap", the top-1 test error minus the training error.
    """
    path = Path(folder) / RESULT
    if not path.is_file():
        devices = devices[: recipe.net.columns]
        named = {"show": show, "options": ResumeOptions(weak_signal=weak_signal)}
        try:
            score = train(recipe, dataset, folder, devices, seed, **named)
        except StalledError:
            if not weak_signal:
                raise
            score = train(recipe, dataset, folder, devices, seed, **named)  # resumes, and does not stop a second time
        run = run_folder.load(folder, devices)
        on_training = evaluation.evaluate(run.network, dataset.train, run.mean, run.recipe)
        found = {"top1_error": score.top1_error, "top5_error": score.top5_error, "train_error": on_training.top1_error}
        storage.write_text(path, json.dumps(found | {"gap": score.top1_error - on_training.top1_error}) + "\n")
    return read_json(path, ("top1_error", "top5_error", "train_error", "gap"), float)


def read_json(path, keys, kind):
    """Read a file of an experiment, whatever version wrote it; StorageError unless these keys hold such values."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(type(found.get(key)) in (kind, {float: int}.get(kind)) for key in keys):
        raise StorageError(f"{path}: was not made by tinyalex, or is damaged; move it, or give another --out")
    return found


def check_settings(folder, recipe, dataset):
    """Save an experiment's settings in its folder, or compare them with those saved by an earlier call.

    Parameters
    ----------
    folder : Path
    recipe : Recipe
        The recipe that is varied.
    dataset : Dataset

    Raises
    ------
    UsageError
        If the folder holds an experiment with another recipe or data set.
    StorageError
        If a file of the settings' name is somebody else's.
    """
    path = Path(folder) / "settings.json"
    if not path.is_file():
        current = {"recipe": recipes.to_toml(recipe), "data": dataset.identity}
        storage.write_text(path, json.dumps(current, indent=1) + "\n")
    saved = read_json(path, ("recipe", "data"), str)
    try:
        recipe_then = recipes.parse(saved["recipe"])
    except UsageError as error:
        raise StorageError(f"{path}: its recipe is not valid ({error}); move it, or give another --out") from error
    changed = [
        *recipes.differences(recipe_then, recipe),
        *([] if saved["data"] == dataset.identity else [("data set", saved["data"][:8], dataset.identity[:8])]),
    ]
    if changed:
        raise UsageError(
            f"{folder}: the experiment here had {recipes.describe(changed)}; give another folder with --out"
        )

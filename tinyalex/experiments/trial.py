"""One net, trained once, and what came of it: kept, so that an experiment that was stopped goes on."""

import json
from pathlib import Path

from tinyalex.errors import UsageError
from tinyalex.recipes import recipe as recipes
from tinyalex.runs import run_folder
from tinyalex.runs.train import train
from tinyalex.system import storage
from tinyalex.training import evaluation

RESULT = "result.json"


def trial(recipe, dataset, folder, devices, seed, show):
    """Train a net to the end and score it, or read what an earlier call found.

    Parameters
    ----------
    recipe : Recipe
    dataset : Dataset
    folder : Path
        Of the run. A run that was stopped there goes on; a finished one is not repeated.
    devices : sequence of str
        One a column, or one for all; those that the net has no column for are left idle.
    seed : int
    show : callable
        Gets the lines of training.

    Returns
    -------
    dict
        Fractions: "top1_error" and "top5_error" of the test images, "train_error" of the training images, seen as the
        test images are. "gap" is what the test error is above it.
    """
    path = Path(folder) / RESULT
    if not path.is_file():
        devices = devices[: recipe.net.columns]
        score = train(recipe, dataset, folder, devices, seed, show=show)
        run = run_folder.load(folder, devices)
        seen = evaluation.evaluate(run.network, dataset.train, run.mean, run.recipe)
        found = {"top1_error": score.top1_error, "top5_error": score.top5_error, "train_error": seen.top1_error}
        storage.write_text(path, json.dumps(found | {"gap": score.top1_error - seen.top1_error}) + "\n")
    return json.loads(path.read_text(encoding="utf-8"))


def claim(folder, recipe, dataset):
    """Give an experiment its folder; refuse a folder where another one began.

    Parameters
    ----------
    folder : Path
    recipe : Recipe
        What the nets have in common.
    dataset : Dataset
    """
    path = Path(folder) / "settings.json"
    if not path.is_file():
        kept = {"recipe": recipes.to_toml(recipe), "data": dataset.identity}
        storage.write_text(path, json.dumps(kept, indent=1) + "\n")
    kept = json.loads(path.read_text(encoding="utf-8"))
    for what, same in (("recipe", recipes.parse(kept["recipe"]) == recipe), ("data", kept["data"] == dataset.identity)):
        if not same:
            raise UsageError(f"{folder}: an experiment with another {what} is kept there; give another --out")

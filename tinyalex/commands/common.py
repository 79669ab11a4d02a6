"""What commands share: printing, the data set of a recipe or a run, a run's pictures."""

import sys
from dataclasses import replace
from pathlib import Path

from tinyalex.errors import DataError, UsageError


def say(text):
    """Print, and let whoever reads a pipe or a log see it at once."""
    print(text, flush=True)


def trained(place, devices=("cpu",), kernels=True):
    """Load a run, and name on stderr the newer checkpoints that were passed over."""
    from tinyalex.runs import run_folder

    run = run_folder.load(place, devices, kernels)
    for line in run.passed_over:
        print(f"tinyalex: warning: {line}; the one before it is taken", file=sys.stderr, flush=True)
    return run


def with_data(recipe, where):
    """Give the recipe that names the data set used, so that the run's folder and its checkpoints do."""
    named = {"shapes", "cifar10"}
    where = where if where is None or where in named else str(Path(where).resolve())
    if not (where or recipe.data.set):
        raise UsageError(f"recipe {recipe.name}: names no data set; add --data with a folder or a tar of images")
    return recipe if where is None else replace(recipe, data=replace(recipe.data, set=where))


def with_shown_classes(recipe):
    """Give a recipe whose net has as many classes as the data a number of them, without reading data."""
    from tinyalex.datasets import shapes
    from tinyalex.recipes import recipe as recipes

    if recipe.net.classes == 0 and recipe.data.set == "shapes":
        return recipes.with_classes(recipe, len(shapes.CLASSES))
    if recipe.net.classes == 0:
        raise UsageError("net.classes: 0 means as many as the data has; add --set net.classes=N to see N")
    return recipe


def load(where, seed):
    """Load a data set."""
    from tinyalex import datasets

    return datasets.load(where, seed)


def same_classes(run, dataset):
    """Give the data set if its classes are the run's."""
    if list(dataset.classes) != list(run.classes):
        other = sorted(set(dataset.classes) ^ set(run.classes))
        which = f"{other[0]!r} is not in both" if other else "in another order"
        raise DataError(
            f"{dataset.name}: not the {len(run.classes)} classes of the run ({which}); give the data of its training"
        )
    return dataset


def describe(dataset):
    """Say what a data set holds."""
    return (
        f"{dataset.name}: {len(dataset.train):,} training and {len(dataset.test):,} test images of "
        f"{dataset.train.size} x {dataset.train.size}, {len(dataset.classes)} classes"
    )


def score_line(score):
    """Say how often a network was wrong."""
    return f"test error {score.top1_error:.2%}, top-5 error {score.top5_error:.2%}, loss {score.loss:.4f}"


def draw(gallery, names, folder):
    """Draw pictures of a `figures.gallery.Gallery`; yield each one's path and what it shows."""
    from tinyalex import figures

    for name in names:
        figure, line = gallery.draw(name)
        figures.save(figure, folder / f"{name}.png")
        yield folder / f"{name}.png", line

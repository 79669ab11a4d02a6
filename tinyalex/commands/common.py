"""What commands share: printing, loading a run or a data set, completing a recipe, saving a run's pictures."""

import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path

from tinyalex.commands import suggestion
from tinyalex.errors import DataError, UsageError
from tinyalex.words import counted


def print_line(text):
    """Print and flush, so that the reader of a pipe or a log file sees the line at once."""
    print(text, flush=True)


def load_run(path, devices=("cpu",), kernels=True):
    """Load a run; warn on stderr about newer checkpoints that were skipped because they are damaged."""
    from tinyalex.runs import run_folder

    run = run_folder.load(path, devices, kernels)
    for line in run.passed_over:
        print(f"tinyalex: warning: {line}; the checkpoint before it is used", file=sys.stderr, flush=True)
    return run


def load_dataset(path, seed):
    """Load a data set; if it cannot be used as it is, the DataError names the `tinyalex prepare` that may help."""
    from tinyalex import datasets
    from tinyalex.datasets import containers

    try:
        return datasets.load(path, seed)
    except DataError as error:
        source = Path(path)
        if source.is_file() and containers.refusal(source):
            raise
        if command := suggestion.prepare_command(source):
            out = shlex.quote(command[-1])
            remedy = f"prepare the images, which may have any size and layout: {shlex.join(command)}"
            raise DataError(f"{error}; or {remedy}; then give --data {out}") from error
        if source.is_dir() and (instead := containers.instead_of_images(source)):
            raise DataError(f"{path}: no images found; {instead}") from error
        raise


def with_data(recipe, path):
    """Return the recipe with ``data.set`` filled in (from ``--data`` if given), as it is saved with a run."""
    path = path or os.path.expanduser(recipe.data.set)
    if not path:
        raise UsageError(f"recipe {recipe.name}: names no data set; add --data with a folder or a tar of images")
    path = path if path in {"shapes", "cifar10"} else str(Path(path).resolve())
    return replace(recipe, data=replace(recipe.data, set=path))


def with_class_count(recipe):
    """Return the recipe with ``net.classes`` filled in, without reading any data; only for the drawn shapes."""
    from tinyalex.datasets import shapes
    from tinyalex.recipes import recipe as recipes

    if recipe.net.classes == 0 and recipe.data.set == "shapes":
        return recipes.with_classes(recipe, len(shapes.CLASSES))
    if recipe.net.classes == 0:
        raise UsageError("net.classes: 0 means as many as the data has; add --set net.classes=N for a net of N classes")
    return recipe


def check_classes(run, dataset):
    """Return the data set if it has the run's classes; raise `DataError` otherwise."""
    if list(dataset.classes) != list(run.classes):
        differing = sorted(set(dataset.classes) ^ set(run.classes))
        reason = f"{differing[0]!r} is only in one of the two" if differing else "they are in another order"
        raise DataError(
            f"{dataset.name}: does not have the {counted(len(run.classes), 'class')} of the run ({reason}); "
            "give the data that the run was trained on"
        )
    return dataset


def describe_dataset(dataset):
    """Return a line with the sizes of a data set."""
    return (
        f"{dataset.name}: {len(dataset.train):,} training and {counted(len(dataset.test), 'test image')} of "
        f"{dataset.train.size} x {dataset.train.size}, {counted(len(dataset.classes), 'class')}"
    )


def score_line(score, classes):
    """Return a line with a network's errors and loss. Of five classes or fewer, no top-5 error."""
    top5 = f", top-5 error {score.top5_error:.2%}" if classes > 5 else ""
    return f"test error {score.top1_error:.2%}{top5}, loss {score.loss:.4f}"


def save_pictures(gallery, names, folder):
    """Draw pictures of a `tinyalex.gallery.gallery.Gallery`; yield each file's path and a line about its contents."""
    from tinyalex import figures

    for name in names:
        figure, line = gallery.draw(name)
        figures.save(figure, folder / f"{name}.png")
        yield folder / f"{name}.png", line

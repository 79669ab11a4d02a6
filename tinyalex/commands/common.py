"""What commands share: printing, loading a run or a data set, completing a recipe."""

import contextlib
import os
import sys
from dataclasses import replace
from pathlib import Path

from tinyalex.errors import DataError, UsageError


def print_line(text):
    """Print and flush, so that the reader of a pipe or a log file sees the line at once."""
    print(text, flush=True)


def print_if_possible(text):
    """Print; if the output is closed or full, print no more from then on: that does not end work of hours."""
    try:
        print_line(text)
    except OSError:
        silence(sys.stdout)


def print_warning(line):
    """Print a warning to stderr, if that is possible."""
    try:
        print(f"tinyalex: warning: {line}", file=sys.stderr, flush=True)
    except OSError:
        silence(sys.stderr)


def silence(stream):
    """Let a stream that is closed, or whose disk is full, drop what is and will be written to it."""
    with contextlib.suppress(OSError):  # if it is no file
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def load_run(path, devices=("cpu",), kernels=True):
    """Load a run; warn on stderr about newer checkpoints that were skipped because they are damaged."""
    from tinyalex.runs import run_folder

    run = run_folder.load(path, devices, kernels)
    for line in run.passed_over:
        print_warning(f"{line}; the checkpoint before it is used")
    return run


def load_dataset(path, seed):
    """Load a data set."""
    from tinyalex import datasets

    return datasets.load(path, seed)


def with_data(recipe, path):
    """Return the recipe with ``data.set`` filled in (from ``--data`` if given), as it is saved with a run."""
    names = {"shapes", "cifar10"}
    path = path if path is None or path in names else str(Path(path).resolve())
    if not (path or recipe.data.set):
        raise UsageError(f"recipe {recipe.name}: names no data set; add --data with a folder or a tar of images")
    return recipe if path is None else replace(recipe, data=replace(recipe.data, set=path))


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
            f"{dataset.name}: does not have the {len(run.classes)} classes of the run ({reason}); "
            "give the data that the run was trained on"
        )
    return dataset


def describe_dataset(dataset):
    """Return a line with the sizes of a data set."""
    return (
        f"{dataset.name}: {len(dataset.train):,} training and {len(dataset.test):,} test images of "
        f"{dataset.train.size} x {dataset.train.size}, {len(dataset.classes)} classes"
    )


def score_line(score):
    """Return a line with a network's errors and loss."""
    return f"test error {score.top1_error:.2%}, top-5 error {score.top5_error:.2%}, loss {score.loss:.4f}"

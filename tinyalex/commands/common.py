"""What commands share: printing, loading a run or a data set, completing a recipe."""

import contextlib
import os
import sys
from dataclasses import replace
from pathlib import Path

from tinyalex.commands import suggestion
from tinyalex.errors import DataError, UsageError
from tinyalex.words import counted

CLASSES = 1000  # in what is shown of a recipe that takes the number of classes from the data


def print_line(text):
    """Print and flush, so that the reader of a pipe or a log file sees the line at once."""
    print(text, flush=True)


def print_if_possible(text):
    """Print; if the output is closed or full, print no more from then on: that does not end work of hours."""
    try:
        print_line(text)
    except OSError:
        silence(sys.stdout)


def print_to_stderr(text):
    """Print a line to stderr, where it is not mistaken for a result, if that is possible."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        silence(sys.stderr)


def print_warning(line):
    """Print a warning to stderr, if that is possible."""
    print_to_stderr(f"tinyalex: warning: {line}")


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


def load_dataset(data, seed, show=print_line, size=None):
    """Load the data set of a recipe's section ``data``.

    If it cannot be used as it is, the DataError names the `tinyalex prepare` that may help, with the ``size`` that is
    needed.
    """
    from tinyalex import datasets
    from tinyalex.datasets import containers

    try:
        return datasets.load(data.set, seed, data.test_share or 0.0, show)
    except DataError as error:
        source = Path(data.set)
        if source.is_file() and containers.refusal(source):
            raise
        if remedy := suggestion.remedy(source, size):
            raise DataError(f"{error}; or {remedy}") from error
        if source.is_dir() and (instead := containers.instead_of_images(source)):
            raise DataError(f"{source}: no images found; {instead}") from error
        raise


def with_data(recipe, path, test_share=None):
    """Return the recipe with ``data.set`` and ``data.test_share`` filled in, as it is saved with a run.

    Parameters
    ----------
    recipe : Recipe
    path : str or None
        ``--data``; None: the recipe's.
    test_share : float, optional
        ``--test-share``; None: the recipe's.
    """
    path = path or os.path.expanduser(recipe.data.set)
    if not path:
        raise UsageError(f"recipe {recipe.name}: names no data set; add --data with a folder or a tar of images")
    path = path if path in {"shapes", "cifar10"} else str(Path(path).resolve())
    share = recipe.data.test_share if test_share is None else test_share
    return replace(recipe, data=replace(recipe.data, set=path, test_share=share))


def load_dataset_of_run(run, options, show=print_line):
    """Load the data set for a command on a run: that of ``--data`` and ``--test-share``, else the run's.

    For other data without test images the run's share is used, as they may be the run's data in another place.
    """
    data, lines = with_data(run.recipe, options.data, options.test_share).data, []
    seed, size = run.metadata["seed"], len(run.mean)
    if options.data is None or options.test_share is not None or not data.test_share:
        return load_dataset(data, seed, show, size)
    try:
        dataset = load_dataset(data, seed, lines.append, size)
    except UsageError:  # it has test images
        return load_dataset(replace(data, test_share=None), seed, show, size)
    for line in lines:
        show(line)
    return dataset


def with_class_count(recipe, show=print_line):
    """Return the recipe with ``net.classes`` filled in, without reading any data: 1000 if the data would say.

    A line then says so.
    """
    from tinyalex.datasets import shapes
    from tinyalex.recipes import recipe as recipes

    if recipe.net.classes == 0 and recipe.data.set == "shapes":
        return recipes.with_classes(recipe, len(shapes.CLASSES))
    if recipe.net.classes == 0:
        show(f"{recipe.name}: for {CLASSES:,} classes, as it takes their number from the data; --set net.classes=N")
        return recipes.with_classes(recipe, CLASSES)
    return recipe


def check_classes(run, dataset):
    """Return the data set with its classes in the order of the run's; raise `DataError` if it has others.

    Version 0.1.0 sorted numbers as text: 1, 10, 2.
    """
    from tinyalex.datasets import parts

    if differing := sorted(set(dataset.classes) ^ set(run.classes)):
        raise DataError(
            f"{dataset.name}: does not have the {counted(len(run.classes), 'class')} of the run ({differing[0]!r} is "
            "only in one of the two); give the data that the run was trained on"
        )
    classes = list(run.classes)
    return dataset if list(dataset.classes) == classes else parts.reordered(dataset, classes)


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

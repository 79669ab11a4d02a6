"""What commands share: printing, loading a run or a data set, completing a recipe."""

import contextlib
import difflib
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from tinyalex.commands import suggestion
from tinyalex.errors import CheckpointError, DataError, StorageError, UsageError
from tinyalex.words import brief, counted

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


def warn_of_slow_blas(devices):
    """Print a warning if a command computes on the CPU, and its BLAS runs below what the processor can do."""
    from tinyalex.devices import machine

    if set(devices) & {"cpu"} and (line := machine.slow_blas()):
        print_warning(line)


def set_loader_threads(options):
    """Apply ``--loader-threads``; UsageError if it is out of range."""
    from tinyalex.datasets.loading import batches

    count = options.loader_threads
    if count is not None and not 1 <= count <= 256:
        raise UsageError(f"--loader-threads {count}: give a number of threads from 1 to 256")
    batches.set_threads(count)


def choose_device(world):
    """Choose a device for a command without ``--devices``: the GPU with the most free memory, or the CPU.

    Several ranks compute on the CPU, as they would have to share the GPU.

    Returns
    -------
    list of str
        The device, such as "cuda:0".
    where : str
        "on cuda:0, NVIDIA H200", or "on the CPU", and why if CuPy is installed.
    """
    from tinyalex.devices import cuda

    if world.size > 1:
        return ["cpu"], "on the CPU"
    found = cuda.look()
    if found["gpus"]:
        number = max(range(len(found["gpus"])), key=lambda index: found["gpus"][index]["free"])
        return [f"cuda:{number}"], f"on cuda:{number}, {found['gpus'][number]['name']}"
    return ["cpu"], f"on the CPU ({found['missing']})" if found["cupy"] else "on the CPU"


def silence(stream):
    """Let a stream that is closed, or whose disk is full, drop what is and will be written to it."""
    with contextlib.suppress(OSError):  # if it is no file
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def load_run(path, devices=("cpu",), kernels=True, best=False):
    """Load a run; warn on stderr about checkpoints that were skipped because they are damaged."""
    from tinyalex.runs import run_folder

    check_run(path)
    run = run_folder.load(path, devices, kernels, best)
    for line in run.passed_over:
        print_warning(f"{line}; {run.path.name} is used")
    return run


def check_run(path):
    """Raise CheckpointError if a path can be no run; the message names runs that are there."""
    from tinyalex.runs import run_folder

    path = Path(path)
    if not path.exists():
        raise CheckpointError(f"{path}: no such run; {_runs_here(path)}")
    if path.is_dir() and not any(path.glob("checkpoint-*")) and not (path / run_folder.LOG).exists():
        raise CheckpointError(f"{path}: holds no run; {_runs_here(path)}")
    if path.is_file() and path.suffix != ".safetensors" and not _may_be_weights(path):
        instead = f"give its folder, {path.parent}" if is_run(path.parent) else _runs_here(path)
        raise CheckpointError(f"{path}: not a run, nor a file of weights; {instead}")


def is_run(path):
    """Return whether a folder holds checkpoints."""
    return os.path.isdir(path) and any(Path(path).glob("checkpoint-*.safetensors"))


def _may_be_weights(path):
    # Whether a file begins as safetensors do: with the length of a header, 8 bytes, and the header, a JSON object.
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read(9)[8:] == b"{"
    return True  # whoever reads it says why it cannot be read


def which_checkpoint(run):
    """Return which of its run's checkpoints a `Run` is: "step 72, test error 3.20%"."""
    tested = run.metadata.get("tested") and run.metadata["errors"]
    error = f", {run.metadata.get('judged_by', 'test error')} {run.metadata['errors'][-1]:.2%}" if tested else ""
    return f"step {run.metadata['step']}{error}"


def batch_that_fits(run, batch, options):
    """Return how many of ``batch`` images a command on a run should compute at a time, so that they fit into memory.

    Fewer than asked for are reported on stderr; the results differ by rounding at most.
    """
    from tinyalex.network import alexnet, memory

    if not all(device.on_host for device in run.network.devices):
        return batch
    fast = options.kernels and set(options.devices) == {"cpu"}
    fitting = memory.fits(alexnet.describe(run.recipe.net, run.recipe.init), batch, fast) or 1
    if fitting < batch:
        print_warning(f"memory: not enough is free for {batch} images at a time; {fitting} at a time are computed")
    return fitting


def _runs_here(path):
    # What to give for a run that is not there: a run of that or a similar name, those in runs/, or how to make one.
    inside = Path(path).glob("*/checkpoint-*.safetensors") if os.path.isdir(path) else ()
    runs = sorted({str(file.parent) for file in [*inside, *Path("runs").glob("*/checkpoint-*.safetensors")]})
    named = [run for run in runs if Path(run).name == Path(path).name]
    word = Path(path).name.lower()
    near = {run: difflib.SequenceMatcher(None, word, Path(run).name.lower()).ratio() for run in runs}
    similar = [run for run in sorted(runs, key=near.__getitem__, reverse=True) if near[run] >= 0.6]
    if named or runs:
        return f"give {' or '.join(named or similar[:1] or runs[:4])}"
    return "give the folder that tinyalex train --out wrote; tinyalex train makes one in runs/shapes"


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
        if remedy := suggestion.remedy(source, size, data.test_share):
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

    Raises
    ------
    DataError
        If the run's data are no longer where they were; the message names ``--data``.
    """
    if options.data is None and (moved := moved_data(run)):
        raise DataError(f"{moved}; give their new place with --data")
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


def find_test_image(name, dataset):
    """Return a test image of a data set by its name in the report, or by its file's name alone if that is unique.

    Returns
    -------
    uint8 array, shape (S, S, 3)
        As it is stored in the set.

    Raises
    ------
    DataError
        If there is none of that name, or several are.
    """
    names, bare = dataset.test_names(), name.removeprefix("test/")
    found = [k for k, other in enumerate(names) if other == name]
    found = found or [k for k, other in enumerate(names) if other == bare or other.rpartition("/")[2] == bare]
    if len(found) == 1:
        return dataset.need("test").read(np.array(found))[0]
    if found:
        some = " or ".join(names[k] for k in found[:2])
        raise DataError(f"{name}: {len(found)} test images of {dataset.name} have this name; give {some}")
    sources = dataset.manifest["sources"] if hasattr(dataset, "manifest") else [dataset.name]
    paths = [Path(source, part, name) for source in sources for part in ("", "train")]
    if path := next((path for path in paths if path.is_file()), None):
        remedy = f"if it is a training image, give its path: {path}"
    else:
        remedy = f"give the path of an image, such as {paths[0]}, or the name of a test image from report.html"
    raise DataError(f"{name}: No such file, and no test image of {dataset.name} with this name; {remedy}")


def check_writable(out):
    """Raise StorageError if a folder cannot be made, or written to, before hours of work for it."""
    there = next(path for path in (Path(out), *Path(out).absolute().parents) if path.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise StorageError(f"{out}: cannot be written, as {there} is read-only here; give another folder: --out FOLDER")


def moved_data(run):
    """Return a line about the data of a run that are no longer where they were when it was trained; "" if they are."""
    path = run.recipe.data.set
    if not path or path in {"shapes", "cifar10"} or os.path.exists(os.path.expanduser(path)):
        return ""
    return f"{path}: the data that the run was trained on are no longer there"


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

    check_class_names(run, dataset.name, dataset.classes)
    classes = list(run.classes)
    return dataset if list(dataset.classes) == classes else parts.reordered(dataset, classes)


def check_class_names(run, name, classes):
    """Raise `DataError` if the classes of the data with a name are not those of a run, in any order."""
    if differing := sorted(set(classes) ^ set(run.classes)):
        raise DataError(
            f"{name}: does not have the {counted(len(run.classes), 'class')} of the run "
            f"({brief(differing[0])} is only in one of the two); give the data that the run was trained on"
        )


def describe_dataset(dataset):
    """Return a line with the sizes of a data set."""
    test = dataset.test if dataset.unlabelled is None else dataset.unlabelled
    without = "" if dataset.unlabelled is None else " without labels"
    return (
        f"{dataset.name}: {len(dataset.train):,} training and {counted(len(test), 'test image')}{without} of "
        f"{dataset.train.size} x {dataset.train.size}, {counted(len(dataset.classes), 'class')}"
    )


def score_line(score, classes):
    """Return a line with a network's errors and loss. Of five classes or fewer, no top-5 error.

    The mean of the classes' errors is left out where all classes have as many images, as it is the top-1 error then.
    """
    from tinyalex.training.evaluation import shows_top5

    differs = abs(score.mean_class_error - score.top1_error) > 1e-9
    mean = f", mean of the classes {score.mean_class_error:.2%}" if differs else ""
    top5 = f", top-5 error {score.top5_error:.2%}" if shows_top5(classes) else ""
    return f"test error {score.top1_error:.2%}{mean}{top5}, loss {score.loss:.4f}"

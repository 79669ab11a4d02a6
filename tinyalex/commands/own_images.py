"""Images of one's own, of any size and layout: what is in them, which recipe suits them, and their prepared set."""

import contextlib
import itertools
import os
import shlex
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tinyalex.commands import suggestion
from tinyalex.commands.common import check_class_names, is_run, load_dataset, load_dataset_of_run
from tinyalex.errors import CheckpointError, DataError, StorageError, UsageError
from tinyalex.recipes import recipe as recipes
from tinyalex.words import counted

_MOST_SMALL = 2000  # training images: of fewer, a fifth is tested on, of more a tenth
_BUSY = 1.5  # if a step takes so many times as long as its processor time, the line has both
_DAMAGED = "remove that folder: the same command prepares the images again"


@dataclass(frozen=True)
class Source:
    """Images, with what is known about them.

    Attributes
    ----------
    path : Path
    survey : Survey
        With the test images that were drawn from every class, if the source has none.
    index : Index or None
        None if the source is a finished set.
    note : str
        Where the test images come from, for a line of text.
    share : float or None
        The share of every class that was drawn as test images; None if the source has test images of its own.
    words : list of str
        Names of the classes to show to people.
    """

    path: Path
    survey: Any
    index: Any
    note: str
    share: float | None = None
    words: list[str] = field(default_factory=list)


@contextlib.contextmanager
def opened(path, share, show, to_test=False):
    """Index the images of a source and survey them; in the block, archives that had to be unpacked can be read.

    Parameters
    ----------
    path : str
        Whatever `tinyalex prepare` reads, or a prepared set.
    share : float or None
        ``--test-share``; None: a fifth or a tenth of every class, if there are no test images.
    show : callable
        Called with lines of text.
    to_test : bool
        Whether the images are only tested on; else some of them have to be training images.

    Yields
    ------
    Source
    """
    from tinyalex.datasets import survey
    from tinyalex.datasets.index import sources, subset

    if is_finished(path):
        yield _finished(path, show)
        return
    source = Path(path)
    if share == 1 and not to_test:
        raise UsageError("--test-share 1: leaves no images to train on; give a number below 1, such as 0.2")
    if not source.exists():
        raise DataError(f"{path}: no such folder or file; give a folder, a tar or a zip of images")
    with _scratch() as scratch:
        lines: list[str] = []
        index = sources.index([path], scratch, lines.append)
        for line in lines:
            if scratch not in line:  # where it is unpacked to does not matter: it is removed again
                show(line)
        if share and index.splits["test"]:
            subset.check_no_test(share, len(index.splits["test"]))
        if not index.splits["train"] and not to_test:
            found = counted(len(index.splits["test"]), "image")
            raise DataError(
                f"{path}: its {found} are test images, by the names of folders or lists; add training images"
            )
        note, part = counted(len(index.splits["test"]), "test image"), None
        if not index.splits["test"]:
            total = len(index.splits["train"])
            part = share if share is not None else 0.2 if total < _MOST_SMALL else 0.1
            if not part:
                raise DataError(f"{path}: has no test images; leave out --test-share 0, or give --test-share 0.1")
            index = subset.split_off_test(index, part, 0, lambda _: None)
            if not index.splits["test"]:
                raise DataError(
                    f"{path}: {counted(total, 'image')} of {counted(len(index.classes), 'class')}, one of each, so "
                    "none is left to test on; add images"
                )
            note = f"no test images: {counted(len(index.splits['test']), 'image')} of them, {part:.0%} of every class"
            note += ", rounded to whole images" if abs(len(index.splits["test"]) / total - part) > 0.05 else ""
            note += ", to test on" if share is None else ", to test on as --test-share says"
            tested = {entry.label for entry in index.splits["test"]}
            alone = [name for label, name in enumerate(index.classes) if label not in tested]
            note += f", none of {alone[0]} and {counted(len(alone) - 1, 'other')}" if alone[1:] else ""
            note += f", none of {alone[0]}, which has a single image" if len(alone) == 1 else ""
        yield Source(source, survey.of_index(index), index, note, part, index.words)


def is_finished(path):
    """Return whether images need no preparation: the drawn shapes, or a prepared set."""
    from tinyalex.datasets.shards import prepared

    return path == "shapes" or prepared.is_prepared(Path(path))


def _finished(path, show):
    from tinyalex import datasets
    from tinyalex.datasets import survey

    dataset = datasets.load(path, show=show)
    grey = dataset.manifest["odd"].get("grey", 0) if hasattr(dataset, "manifest") else 0
    dataset.need("train")
    note = counted(len(dataset.need("test")), "test image")
    return Source(Path(path), survey.of_prepared(dataset, grey), None, note, words=dataset.words)


@contextlib.contextmanager
def _scratch():
    try:
        with tempfile.TemporaryDirectory(prefix="tinyalex-") as folder:
            yield folder
    except FileNotFoundError as error:
        if "temporary directory" not in str(error):
            raise
        raise StorageError(f"{error.strerror}; set TMPDIR to a folder that can be written") from error


def advised(source, devices, init_from):
    """Return the `Advice` for a source on devices; training starts with the weights of ``init_from``, if given."""
    from tinyalex.devices.device import Device
    from tinyalex.runs import finetune
    from tinyalex.training import advice

    run = recipes.parse(finetune.read(init_from)[1]["recipe"], "a run") if init_from else None
    return advice.choose(source.survey, not Device(devices[0]).on_host, run)


def facts(source):
    """Yield a line about what is in a source, and one for each thing about its classes that may spoil a run."""
    from tinyalex.training import cautions

    yield describe(source)
    for check in (cautions.unequal, cautions.single, cautions.few):
        if line := check(source.survey, source.words):
            yield line


def describe(source):
    """Return a line about what is in a source."""
    found = source.survey
    total = found.train + (found.test if source.share else 0)
    most, least = max(found.counts), min(found.counts)
    each = f"{most:,} of each" if most == least else f"{least:,} to {most:,} of each"
    low, half, high = found.side(0), found.side(0.5), found.sides[-1]
    sides = f"of {low} pixels" if low == high else f"of {low} to {high:,} pixels (half up to {half:,})"
    colour = "grey" if found.grey > 0.9 else f"colour ({found.grey:.0%} grey)" if found.grey > 0.02 else "colour"
    what = "squares" if source.index is None else "shorter sides"
    return (
        f"{source.path}: {counted(total, 'image')}, {counted(found.classes, 'class')}, {each} to train on, {what} "
        f"{sides}, {colour}; {source.note}"
    )


def plan(made, source):
    """Return a line about how a recipe trains on a source."""
    from tinyalex.training import advice

    steps, epochs = advice.steps(made, source.survey.train)
    learning = made.learning
    return (
        f"images of {made.image_size} x {made.image_size}, batches of {learning.batch}, {counted(steps, 'step')} "
        f"({counted(epochs, 'epoch')}), rate {learning.rate:g}"
    )


def duration(made, source, devices, kernels=True, prepared=True, workers=1):
    """Time a few training steps of a recipe; return a line about how long training and preparing take.

    Parameters
    ----------
    made : Recipe
    source : Source
    devices : sequence of str
    kernels : bool
    prepared : bool
        Whether the images are prepared already.
    workers : int
        Processes that prepare them.
    """
    from tinyalex.training import advice

    made = recipes.with_classes(replace(made, net=replace(made.net, classes=0)), source.survey.classes)
    seconds, alone, timed = advice.step_seconds(made, devices, kernels)
    steps = advice.work(made, source.survey.train, source.survey.test)
    line = f"about {_minutes(seconds * steps)} of training, from {counted(timed, 'step')} timed here now"
    if devices[0] == "cpu" and seconds > _BUSY * alone:
        line += f" (other programs are running; without them {_minutes(alone * steps)})"
    if not prepared and source.survey.decode_seconds:
        images = source.survey.train + source.survey.test
        line += f", and {_minutes(source.survey.decode_seconds * images / workers)} to prepare the images"
    return line


def with_run(made, out, init_from):
    """Complete a recipe with ``init.like_run`` by the net of the run that --init-from names, or of the one in --out."""
    from tinyalex.runs import finetune

    if not made.init.like_run:
        return made
    if any(out.glob("checkpoint-*")):
        return finetune.like_run(made, out)
    if not init_from:
        raise UsageError(
            f"recipe {made.name}: starts with the weights of another run; add --init-from RUN, or train without: "
            "tinyalex train --data DATA chooses a recipe"
        )
    return finetune.like_run(made, init_from)


def prepare(source, made, parent, share, show):
    """Prepare a source for a recipe, unless that has been done and the source has not changed since.

    Parameters
    ----------
    source : Source
    made : Recipe
    parent : Path
        The folder that runs are in.
    share : float or None
        ``--test-share``.
    show : callable

    Returns
    -------
    Path
        The prepared set.
    """
    from tinyalex.datasets import survey
    from tinyalex.datasets.shards import manifest
    from tinyalex.devices import parallel
    from tinyalex.prepare import complete, once

    if source.index is None:
        return source.path
    out = once.folder(parent, source.path, made.image_size, share)
    check_place(source.path, out)
    if once.is_complete(out):
        show(f"images: {out}, prepared earlier from {source.path}, which has not changed since")
        return out
    show(f"images: prepared once, in {out}, which is used again as long as {source.path} does not change")
    for line in survey.enlargement(source.survey, made.image_size):
        show(line)
    name = os.fsencode(Path(os.path.realpath(source.path)).name).decode("utf-8", "replace")
    try:
        once.make(out, source.index, [name], made.image_size, parallel.processors(), show)
    except DataError as error:
        if "--max-bad" not in str(error):
            raise
        told, _, most = str(error).partition("; repair them")
        words = ["tinyalex", "prepare", str(source.path), "SET", "--size", str(made.image_size)]
        words += ["--test-share", f"{source.share:g}"] if source.share else []
        words += ["--max-bad", most.rpartition(" ")[2]]
        raise DataError(f"{told}; repair or remove them, or prepare without them: {shlex.join(words)}") from None
    for line in complete.cautions(manifest.read(out)):
        show(line)
    return out


def prepared_earlier(path, made, parent, share):
    """Return the set that `prepare` made of a source for a recipe; None if there is none, or the source was changed."""
    from tinyalex.prepare import once

    if not Path(path).exists() or is_finished(path):
        return None
    out = once.folder(parent, path, made.image_size, share)
    return out if once.is_complete(out) else None


def set_of_run(made, path, parent, share, source=None):
    """Return the prepared set that a run was trained on, if it is made of the images of a source as they are now.

    Lists may have changed since: they are names of classes, as other labels would give other images.

    Parameters
    ----------
    made : Recipe
        The run's, which names its set.
    path : str
        The source.
    parent : Path
        The folder that runs are in.
    share : float or None
        ``--test-share``.
    source : Source, optional
        What is known about the source, if it has been opened.

    Returns
    -------
    Path or None
        None if the run was trained on other images. A set that was removed since is where it has to be made again.
    """
    from tinyalex.prepare import once

    own = Path(made.data.set)
    if is_finished(path):
        return own if os.path.realpath(path) == os.path.realpath(own) else None
    place = once.folder(parent, path, made.image_size, share)
    if place.name == own.name:
        return place
    if not once.is_complete(own):
        return None
    with contextlib.nullcontext(source) if source else opened(path, share, lambda _: None) as found:
        return own if once.is_made_of(own, found.index, made.image_size) else None


def check_place(path, out, remedy="give --out with a folder outside it"):
    """Raise UsageError if a prepared set would be inside its source."""
    from tinyalex.datasets.index import sources

    try:
        sources.check_output([path], out)
    except UsageError as error:
        raise UsageError(f"{str(error).split(';')[0]}; {remedy}") from None


def load_to_test(run, folder, options, show):
    """Load the data set on which `tinyalex evaluate` tests a run: that of --data is prepared, if training would do it.

    Parameters
    ----------
    run : Run
    folder : str
        The run, as it was given: sets are prepared beside it.
    options : argparse.Namespace
        With ``data`` and ``test_share``.
    show : callable
        Called with lines of text.

    Returns
    -------
    Dataset
    """
    if options.data in (None, "cifar10") or is_finished(options.data):
        return load_dataset_of_run(run, options, show)
    lines, size = [], len(run.mean)
    try:
        dataset = load_dataset_of_run(run, options, lines.append)
        if dataset.unlabelled is not None or (len(dataset.test) and dataset.test.size == size):
            for line in lines:
                show(line)
            return dataset
    except DataError:
        if not suggestion.prepare_command(Path(options.data)):
            raise
    above = Path(folder) if is_run(folder) else Path(folder).parent
    made = replace(run.recipe, data=replace(run.recipe.data, size=size))
    with opened(options.data, options.test_share, show, to_test=True) as source:
        check_class_names(run, options.data, source.index.classes)
        if source.share and options.test_share is None:
            show(f"{source.path}: {source.note}; to test on all images: --test-share 1")
        place = prepare(source, made, above.parent, options.test_share, show)
        return load(made, place, run.metadata["seed"], show)[1]


def load(made, out, seed, show):
    """Open the prepared set in a folder, for a recipe; returns the recipe with the set's path, and the set."""
    made = replace(made, data=replace(made.data, set=str(Path(out).resolve()), test_share=None))
    try:
        return made, load_dataset(made.data, seed, show)
    except DataError as error:
        raise DataError(f"{str(error).split(';')[0]}; {_DAMAGED}") from error


def default_out(path):
    """Return the run folder for a source, if none is given: in ``runs``, here or, inside the source, beside it."""
    out, source = Path("runs") / default_name(path), Path(os.path.realpath(path))
    if source.is_dir() and source in Path(os.path.realpath(out)).parents:
        return Path(os.path.relpath(source.parent)) / out
    return out


def free(out):
    """Return a run folder that does not exist yet: ``runs/photos-2`` for ``runs/photos``."""
    return next(path for k in itertools.count(2) if not (path := out.with_name(f"{out.name}-{k}")).exists())


def refuse_other_images(out, path, again):
    """Raise CheckpointError for a run folder that holds a run on other images; ``again``: the command for these."""
    raise CheckpointError(
        f"{out}: holds a run on other images than {path} has now, or with another --test-share; to train on these: "
        f"{again}"
    )


def default_name(path):
    """Return the name of the run folder for a source, if no recipe is named: that of the source."""
    from tinyalex.datasets.index.archives import stem

    return stem(os.path.basename(os.path.realpath(path))) or "images"


def command(path, share, init_from=None, out=None):
    """Return the command that trains on a source with the recipe that suits it, to be typed."""
    words = ["tinyalex", "train", "--data", str(path), *(["--out", str(out)] if out else [])]
    words += ["--test-share", f"{share:g}"] if share is not None else []
    return shlex.join(words + (["--init-from", str(init_from)] if init_from else []))


def _minutes(seconds):
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"

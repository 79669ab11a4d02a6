"""Show the five most probable classes of images."""

import argparse
import csv
import json
import os
import shlex
import sys
from pathlib import Path

import numpy as np

from tinyalex.commands.common import (
    batch_that_fits,
    find_test_image,
    is_run,
    load_dataset_of_run,
    load_run,
    moved_data,
    print_line,
    print_to_stderr,
)
from tinyalex.commands.options import RUN, checkpoint, kernels_note, machine, no_kernels, user_path
from tinyalex.errors import DataError, TinyalexError, UsageError

_AT_ONCE = 128  # images in memory
_DRAWN = 80  # images in the picture
_SHOWN = 5  # classes


def options(command):
    """Add the command's options to its parser."""
    command.add_argument(
        "images",
        nargs="+",
        type=user_path,
        metavar="IMAGE",
        help="an image file of any size; or a folder: then all image files in it, and in folders in it; or -: then the "
        "files and folders that standard input names, one a line; or the name of a test image as report.html shows it",
    )
    command.add_argument("--run", type=user_path, required=True, metavar="RUN", help=RUN)
    form = command.add_mutually_exclusive_group()
    form.add_argument(
        "--json",
        action="store_true",
        help="print a JSON list with one object per image: image, and classes, the five most probable first; or error",
    )
    form.add_argument(
        "--csv",
        action="store_true",
        help="print a table with one row per image: file, class_1, probability_1, and so on up to class_5, the most "
        "probable first, and error: what is wrong with an image that cannot be read, whose classes are empty",
    )
    command.add_argument(
        "--picture",
        type=user_path,
        metavar="FILE",
        help=f"draw the images, at most {_DRAWN}, with their five classes into a new PNG file",
    )
    checkpoint(command, best=True)
    machine(command)
    no_kernels(command)


def run(options):
    """Classify images; one that cannot be read is reported after the others, and makes the exit code 3."""
    from tinyalex import figures
    from tinyalex.runs.classifier import Classifier

    if options.picture and Path(options.picture).suffix.lower() != ".png":
        raise UsageError(f"--picture {options.picture}: a PNG file is written; give a name that ends in .png")
    if options.picture:
        figures.check_files([options.picture], marked=False)
    _check_images(options)
    run = load_run(options.run, options.devices, options.kernels, options.best)
    net, read = Classifier(run), _Reader(run)
    report = (_Json if options.json else _Csv if options.csv else _Text)(run, options)
    errors, drawn, probabilities = [], [], []
    paths = [path for given in _given(options.images) for path in _files(given)]
    at_once = batch_that_fits(run, min(_AT_ONCE, len(paths)), options)
    for begin in range(0, len(paths), at_once):
        part = paths[begin : begin + at_once]
        images = [read(path) for path in part]
        found = iter(net.probabilities([image for image in images if not isinstance(image, DataError)]))
        for path, image in zip(part, images, strict=True):
            if isinstance(image, DataError):
                errors.append(image)
                report.add(path, error=image)
                continue
            p = next(found)
            report.add(path, best=[(i, float(p[i])) for i in np.argsort(-p, kind="stable")[:_SHOWN]])
            if len(drawn) < _DRAWN:
                drawn, probabilities = [*drawn, image], [*probabilities, p]
    report.end()
    if options.picture and drawn:
        try:
            figures.save(figures.panel(drawn, None, np.array(probabilities), run.words), options.picture, marked=False)
        except TinyalexError as error:
            errors.append(error)
    if errors:
        raise ExceptionGroup("images", errors)


def _given(words):
    # The command's words; for "-", the names on standard input: lines, or separated by bytes of 0 as find -print0 does.
    for word in words:
        if word != "-":
            yield word
            continue
        text = os.fsdecode(sys.stdin.buffer.read())
        names = text.split("\0") if "\0" in text else [line.removesuffix("\r") for line in text.split("\n")]
        if not any(map(str.strip, names)):
            raise UsageError("-: no names of files on standard input; give one a line, as find and ls print them")
        yield from (name for name in names if name.strip())


def _files(given):
    # A file, or the images of a folder as `tinyalex prepare` lists them.
    from tinyalex.datasets.index import folder
    from tinyalex.datasets.index.listing import Listing, Skipped
    from tinyalex.datasets.index.sources import MOST

    if not os.path.isdir(given):
        return [given]
    listing = Listing(given, MOST, Skipped(), lambda name: False, lambda: None)
    folder.list_files(given, (given,), listing)
    return [span.file for spans in listing.images.values() for span in spans] or [given]


def _check_images(options):
    # Refuse, before any work, what can be no image: the run, and the name of a file for the table.
    for given in options.images:
        if is_run(given) and not os.path.isdir(options.run):
            raise UsageError(f"{given}: a run; write --run {given}, and the images without an option")
        table = Path(given).suffix.lower() in (".csv", ".json", ".tsv", ".txt")
        if (options.csv or options.json) and table and not os.path.exists(given):
            flag = "--csv" if options.csv else "--json"
            words = ["tinyalex", *(word for word in options.argv if word != given)]
            command = f"{shlex.join(words)} > {shlex.quote(given)}"
            raise UsageError(f"{given}: no such file; {flag} takes no name, it prints; to write a file: {command}")


class _Reader:
    # Returns an image file as RGB, uint8 (h, w, 3), as `tinyalex prepare` reads it, or a test image of the run's data
    # that has this name; or a DataError.
    def __init__(self, run):
        self._run, self._dataset = run, None

    def __call__(self, path):
        from tinyalex.runs.classifier import read_image

        if os.path.isdir(path):
            return DataError(f"{path}: a folder without images; give an image file, or a folder that holds some")
        try:
            return self._test_image(path) if self._is_name(path) else read_image(path)
        except DataError as error:
            return error

    def _is_name(self, path):
        data = self._run.recipe.data.set
        return not os.path.lexists(path) and data not in ("", "shapes", "cifar10") and not moved_data(self._run)

    def _test_image(self, name):
        if self._dataset is None:
            options = argparse.Namespace(data=None, test_share=None)
            self._dataset = load_dataset_of_run(self._run, options, print_to_stderr)
        return find_test_image(name, self._dataset)


class _Text:
    def __init__(self, run, options):
        self._words = run.words
        if not options.kernels:
            print_line(f"computed on {' and '.join(options.devices)}{kernels_note(options)}")

    def add(self, path, best=(), error=None):
        from tinyalex.datasets import names

        if best:
            print_line("\n".join([names.shown(path), *(f"  {p:6.1%}  {_bar(p)}  {self._words[i]}" for i, p in best)]))

    def end(self):
        pass


class _Json:
    def __init__(self, run, options):
        self._run, self._items = run, []

    def add(self, path, best=(), error=None):
        classes, words = self._run.classes, self._run.words
        found = [{"class": classes[i], "words": words[i], "probability": p} for i, p in best]
        self._items.append({"image": path, "error": str(error)} if error else {"image": path, "classes": found})

    def end(self):
        print_line(json.dumps(self._items, indent=2, ensure_ascii=False))


class _Csv:
    def __init__(self, run, options):
        self._classes, self._ranks = run.classes, min(_SHOWN, len(run.classes))
        self._table = csv.writer(sys.stdout, lineterminator="\n")
        pairs = [(f"class_{rank}", f"probability_{rank}") for rank in range(1, self._ranks + 1)]
        self._table.writerow(["file", *sum(pairs, ()), "error"])

    def add(self, path, best=(), error=None):
        cells = [cell for i, p in best for cell in (self._classes[i], f"{p:.6g}")] or [""] * (2 * self._ranks)
        self._table.writerow([path, *cells, error or ""])

    def end(self):
        sys.stdout.flush()


def _bar(probability, width=24):
    block = "█" if (sys.stdout.encoding or "").lower().startswith("utf") else "#"
    return (block * round(probability * width)).ljust(width)

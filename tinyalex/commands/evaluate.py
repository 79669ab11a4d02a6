"""Measure the top-1 and top-5 error on the test images, of one net or of the average of several."""

import contextlib
import itertools
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tinyalex.commands import own_images
from tinyalex.commands.common import (
    batch_that_fits,
    check_classes,
    choose_device,
    describe_dataset,
    load_run,
    print_line,
    print_to_stderr,
    score_line,
    set_loader_threads,
    warn_of_slow_blas,
)
from tinyalex.commands.options import (
    DATA,
    RUN,
    checkpoint,
    kernels_note,
    loader_threads,
    machine,
    no_kernels,
    ranks,
    test_share,
    user_path,
)  # fmt: skip
from tinyalex.errors import DataError, ForeignFileError, UsageError
from tinyalex.words import counted


def options(command):
    """Add the command's options to its parser."""
    command.add_argument(
        "runs",
        nargs="+",
        type=user_path,
        metavar="RUN",
        help=f"{RUN}; with several runs, their nets' probabilities are averaged",
    )
    command.add_argument("--data", type=user_path, metavar="DIR", help=f"{DATA} (default: the first run's)")
    test_share(command, "the first run's recipe's, or a tenth to a fifth", whole=True)
    command.add_argument(
        "--views",
        type=int,
        choices=(1, 9, 10),
        default=1,
        help="crops per test image, whose probabilities are averaged; 1: the centre; 9: a grid of three by three; "
        "10: the corners and the centre, and their mirror images, as in the paper (default: 1)",
    )
    command.add_argument(
        "--classes",
        action="store_true",
        help="also print the errors of each class, highest first, and the pairs most often confused",
    )
    command.add_argument(
        "--write",
        type=user_path,
        metavar="FILE",
        help="also write the five most probable classes of every test image: as ILSVRC's contests score them, with a "
        "line of ids an image, if the set is ILSVRC's and was made with its devkit, else as a table of files and "
        "classes; test images without labels are only written",
    )
    command.add_argument("--json", action="store_true", help="print a JSON object; errors are fractions")
    checkpoint(command, best=False)  # of the best one the error would be too low: these images chose it
    machine(command, None, "a GPU if there is one, else cpu")
    loader_threads(command)
    ranks(command)
    no_kernels(command)


def run(options):
    """Print the errors of each net on the test images, and those of their average."""
    from tinyalex.ranks import launch
    from tinyalex.runs import run_folder
    from tinyalex.training import evaluation

    set_loader_threads(options)
    world = options.world
    where = f"on {' '.join(options.devices)}" if options.devices else None
    if not options.devices:
        options.devices, where = choose_device(world)
    options.devices = launch.own_devices(options.devices, world)
    if options.write and world.leads:  # before the work, not after it
        _check_new(options.write)
    warn_of_slow_blas(options.devices if world.leads else [])
    scores, total, dataset, without_reflections = [], 0.0, None, []
    for path in options.runs:  # one at a time, because several nets may not fit into memory
        run = load_run(path, options.devices, options.kernels, options.best)
        show = (print_to_stderr if options.json else print_line) if world.leads else lambda text: None
        ordered = check_classes(run, dataset or own_images.load_to_test(run, path, options, show))
        if dataset is None:
            dataset, words = ordered, run.words
        labelled = dataset.unlabelled is None or not options.write
        images = dataset.need("test") if labelled else dataset.unlabelled
        if options.classes and not labelled:
            raise UsageError(f"--classes: the test images of {dataset.name} have no labels; leave the option out")
        if options.data and world.leads and (seen := _trained_on(run, images)):
            show(
                f"warning: {path} was trained on {seen:,} of these {counted(len(images), 'image')}; the error on them "
                "says nothing about new ones"
            )
        if options.write:
            names = dataset.test_list()  # before the work, as a set may have none
        batch = min(run.recipe.learning.batch, len(images) * options.views)
        if (fitting := batch_that_fits(run, batch, options)) < batch:
            learning = replace(run.recipe.learning, batch=fitting)
            run = run._replace(recipe=replace(run.recipe, learning=learning))
        found = _probabilities(run, images, options)
        if list(run.classes) != list(dataset.classes):  # those of the first run
            found = found[:, [run.classes.index(name) for name in dataset.classes]]
        if labelled:
            net = _Net(path, run.metadata["step"], run.path, run_folder.better_than(run, path))
            scores.append((net, evaluation.score(found, images.labels)))
        total = total + found
        if options.views == 10 and not run.recipe.data.flip:
            without_reflections.append(path)
        del run
    with world.apart():
        if world.leads:
            average, labels = total / len(options.runs), np.asarray(images.labels)
            result = evaluation.score(average, labels) if labelled else None
            try:
                if options.json:
                    print_line(json.dumps(_as_json(options, scores, result, average, labels, dataset.classes)))
                else:
                    _print(options, where, scores, result, average, labels, dataset, words, without_reflections)
            finally:  # neither of the two fails because the other one does
                written = _write(options.write, average, dataset.classes, names) if options.write else None
            if written:
                show(written)


def _print(options, where, scores, result, average, labels, dataset, words, without_reflections):
    classes = len(dataset.classes)
    views = f"; {options.views} views" if options.views > 1 else ""
    print_line(f"{describe_dataset(dataset)}{views}; {where}{kernels_note(options)}")
    for path in without_reflections:
        print_line(f"{path} was trained without reflections, but half of these views are reflected; --views 9 has none")
    for net, score in scores:
        print_line(f"{net.path}, step {net.step}: {score_line(score, classes)}")
        if net.better:
            print_line(
                f"  {net.path} also holds {_shown(net.better)}; --best takes it, as predict, explain and report do"
            )
    if len(scores) > 1:
        means = np.mean([score for _, score in scores], axis=0)
        print_line(f"mean of these {len(scores)} errors: {score_line(result._make(means), classes)}")
        print_line(f"average of these {len(scores)} nets: {score_line(result, classes)}")
    if options.classes:
        print_line("\n".join(["", *_tables(average, labels, words)]))


def _trained_on(run, images):
    # How many of some images are among those of the prepared set that a run was trained on, by the hashes of pixels.
    from tinyalex.datasets.shards import prepared, shards

    try:
        trained = prepared.load(Path(run.recipe.data.set)).train.hashes
    except DataError:  # it is no prepared set, or is no longer there
        return 0
    hashes = getattr(images, "hashes", None)
    if hashes is None:
        found = (shards.record_hash(image) for k in range(len(images)) for image in images.read(np.array([k])))
        hashes = np.array([int.from_bytes(each, "little") for each in found], np.uint64)
    return int(np.isin(hashes, trained).sum())


class _Net(NamedTuple):
    # What is printed of one of the nets: ``better`` is what `better_than` returns.
    path: str
    step: int
    checkpoint: Path
    better: tuple | None


def _shown(better):
    path, compared, metadata = better
    from tinyalex.runs import retention

    return f"{path.name}, which had {compared} {retention.error(metadata)} after epoch {len(metadata['errors'])}"


def _write(path, average, classes, names):
    # Write the file of results; return a line that says so.
    from tinyalex.system import storage
    from tinyalex.training import submission

    found = submission.results(average, classes, names)
    storage.write_bytes(Path(path), found.text.encode(), may_replace=lambda _: False)
    return f"{path}: {counted(len(average), 'image')}, {found.form}"


def _check_new(path):
    # Files of results have no mark by which one of ours could be told from somebody else's, so none is replaced.
    if os.path.lexists(path):
        raise ForeignFileError(f"{path}: exists already; give another name, or remove it first")


def _probabilities(run, images, options):
    # With a bar, or lines on stderr, as ten views of many images take minutes.
    from tinyalex.system.progress import Progress
    from tinyalex.training import evaluation

    batch = max(1, run.recipe.learning.batch // options.views)
    world = options.world
    show = print_to_stderr if world.leads else lambda text: None
    with contextlib.closing(Progress(-(-len(images) // world.size), 0, show, every=60.0)) as progress:
        done = itertools.accumulate(itertools.repeat(batch))
        return evaluation.probabilities(
            run.network, images, run.mean, run.recipe, options.views,
            world=world,
            after_batch=lambda: progress.update(min(next(done), -(-len(images) // world.size))),
        )  # fmt: skip


def _as_json(options, scores, result, average, labels, classes):
    from tinyalex.training import confusion
    from tinyalex.training.evaluation import shows_top5

    def fields(score):  # without what says nothing, as in the text
        return {name: value for name, value in score._asdict().items() if name != "top5_error" or with_top5}

    with_top5 = shows_top5(len(classes))
    found = {**(fields(result) if result else {"count": len(labels)}), "views": options.views}
    found["devices"] = list(options.devices)
    found["nets"] = [
        {"run": str(net.path), "step": net.step, "checkpoint": net.checkpoint.name, **fields(score)}
        | ({"better": net.better[0].name} if net.better else {})
        for net, score in scores
    ]
    if options.classes:
        rows = [fields(row) for row in confusion.by_class(average, labels) if row.count]
        for row in rows:
            row["class"] = classes[row.pop("label")]
            row["taken_for"] = [classes[label] for label in row["taken_for"]]
        found["classes"] = rows
        found["confused"] = [
            pair._asdict() | {"first": classes[pair.first], "second": classes[pair.second]}
            for pair in confusion.confused(average, labels)
        ]
    return found


def _tables(average, labels, words):
    from tinyalex.datasets.names import padded
    from tinyalex.datasets.names import width as columns
    from tinyalex.training import confusion
    from tinyalex.training.evaluation import shows_top5

    names = [(word.split(",")[0].strip() or word)[:24] for word in words]
    width = max(5, *map(columns, names)) + 2
    with_top5 = shows_top5(len(names))
    top5 = f"{'top-5 error':>13}" if with_top5 else ""
    yield f"{'class':<{width}}{'images':>8}{'top-1 error':>13}{top5}  most often mistaken for"
    rows = [row for row in confusion.by_class(average, labels) if row.count]
    for row in sorted(rows, key=lambda row: (-row.top1_error, -row.top5_error, row.label)):
        top5 = f"{row.top5_error:>13.2%}" if with_top5 else ""
        mistake = row.mistaken_for(names)
        yield f"{padded(names[row.label], width)}{row.count:>8,}{row.top1_error:>13.2%}{top5}  {mistake}".rstrip()
    name, mean = "mean of the classes", np.mean([row.top1_error for row in rows])
    yield f"{name}{mean:>{width + 21 - len(name)}.2%}"
    pairs = confusion.confused(average, labels)
    if pairs:
        yield from ("", "most often confused")
    for pair in pairs:
        a, b = names[pair.first], names[pair.second]
        yield f"{pair.times:>7,}  {a} as {b} {pair.first_as_second:,}, {b} as {a} {pair.second_as_first:,}"

"""Measure the top-1 and top-5 error on the test images, of one net or of the average of several."""

import contextlib
import itertools
import json
from dataclasses import replace

import numpy as np

from tinyalex.commands.common import (
    batch_that_fits,
    check_classes,
    describe_dataset,
    load_dataset_of_run,
    load_run,
    print_line,
    print_to_stderr,
    score_line,
    warn_of_slow_blas,
)
from tinyalex.commands.options import DATA, RUN, kernels_note, machine, no_kernels, test_share, user_path


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
    test_share(command, "the first run's")
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
    command.add_argument("--json", action="store_true", help="print a JSON object; errors are fractions")
    machine(command)
    no_kernels(command)


def run(options):
    """Print the errors of each net on the test images, and those of their average."""
    from tinyalex.training import evaluation

    warn_of_slow_blas(options.devices)
    scores, total, dataset, without_reflections = [], 0.0, None, []
    for path in options.runs:  # one at a time, because several nets may not fit into memory
        run = load_run(path, options.devices, options.kernels)
        show = print_to_stderr if options.json else print_line
        dataset = dataset or load_dataset_of_run(run, options, show)
        images = check_classes(run, dataset).need("test")
        batch = min(run.recipe.learning.batch, len(images) * options.views)
        if (fitting := batch_that_fits(run, batch, options)) < batch:
            learning = replace(run.recipe.learning, batch=fitting)
            run = run._replace(recipe=replace(run.recipe, learning=learning))
        found = _probabilities(run, images, options)
        scores.append((path, run.metadata["step"], evaluation.score(found, images.labels)))
        total, words = total + found, run.words
        if options.views == 10 and not run.recipe.data.flip:
            without_reflections.append(path)
        del run
    average, labels = total / len(scores), np.asarray(images.labels)
    result = evaluation.score(average, labels)
    if options.json:
        print_line(json.dumps(_as_json(options, scores, result, average, labels, dataset.classes)))
        return
    classes = len(dataset.classes)
    views = f"; {options.views} views" if options.views > 1 else ""
    print_line(f"{describe_dataset(dataset)}{views}{kernels_note(options)}")
    for path in without_reflections:
        print_line(f"{path} was trained without reflections, but half of these views are reflected; --views 9 has none")
    for path, step, score in scores:
        print_line(f"{path}, step {step}: {score_line(score, classes)}")
    if len(scores) > 1:
        means = np.mean([score for _, _, score in scores], axis=0)
        print_line(f"mean of these {len(scores)} errors: {score_line(result._make(means), classes)}")
        print_line(f"average of these {len(scores)} nets: {score_line(result, classes)}")
    if options.classes:
        print_line("\n".join(["", *_tables(average, labels, words)]))


def _probabilities(run, images, options):
    # With a bar, or lines on stderr, as ten views of many images take minutes.
    from tinyalex.system.progress import Progress
    from tinyalex.training import evaluation

    batch = max(1, run.recipe.learning.batch // options.views)
    with contextlib.closing(Progress(len(images), 0, print_to_stderr, every=60.0)) as progress:
        done = itertools.accumulate(itertools.repeat(batch))
        return evaluation.probabilities(
            run.network, images, run.mean, run.recipe, options.views,
            after_batch=lambda: progress.update(min(next(done), len(images))),
        )  # fmt: skip


def _as_json(options, scores, result, average, labels, classes):
    from tinyalex.training import confusion

    found = {**result._asdict(), "views": options.views}
    found["nets"] = [{"run": str(path), "step": step, **score._asdict()} for path, step, score in scores]
    if options.classes:
        rows = [row._asdict() for row in confusion.by_class(average, labels) if row.count]
        for row in rows:
            row["class"], confused_with = classes[row.pop("label")], row["taken_for"]
            row["taken_for"] = None if confused_with < 0 else classes[confused_with]
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
        mistake = f"{names[row.taken_for]} ({row.times:,})" if row.times else ""
        top5 = f"{row.top5_error:>13.2%}" if with_top5 else ""
        yield f"{padded(names[row.label], width)}{row.count:>8,}{row.top1_error:>13.2%}{top5}  {mistake}".rstrip()
    pairs = confusion.confused(average, labels)
    if pairs:
        yield from ("", "most often confused")
    for pair in pairs:
        a, b = names[pair.first], names[pair.second]
        yield f"{pair.times:>7,}  {a} as {b} {pair.first_as_second:,}, {b} as {a} {pair.second_as_first:,}"

"""Tell the top-1 and top-5 error on the test images, of one net or of several averaged."""

import json

import numpy as np

from tinyalex.commands.common import describe, load, same_classes, say, score_line, trained, with_data
from tinyalex.commands.options import DATA, RUN, kernels_note, machine, no_kernels


def options(command):
    """Add the command's options to its parser."""
    command.add_argument(
        "runs", nargs="+", metavar="RUN", help=f"{RUN}; the probabilities of several nets are averaged"
    )
    command.add_argument("--data", metavar="DIR", help=f"{DATA} (default: the first run's)")
    command.add_argument(
        "--views",
        type=int,
        choices=(1, 9, 10),
        default=1,
        help="crops of each image, averaged after the softmax: the centre, a grid of nine, or the corners and the "
        "centre with their reflections (default: 1)",
    )
    command.add_argument(
        "--classes", action="store_true", help="errors class by class, the worst first, and the most confused pairs"
    )
    command.add_argument("--json", action="store_true", help="one JSON object, errors as fractions")
    machine(command)
    no_kernels(command)


def run(options):
    """Say how often trained networks are wrong about test images, each by itself and averaged."""
    from tinyalex.training import evaluation

    scores, total, dataset, unmirrored = [], 0.0, None, []
    for where in options.runs:  # one after the other: several nets may not fit beside each other
        run = trained(where, options.devices, options.kernels)
        dataset = dataset or load(with_data(run.recipe, options.data).data.set, run.metadata["seed"])
        images = same_classes(run, dataset).need("test")
        found = evaluation.probabilities(run.network, images, run.mean, run.recipe, options.views)
        scores.append((where, run.metadata["step"], evaluation.score(found, images.labels)))
        total, words = total + found, run.words
        if options.views == 10 and not run.recipe.data.flip:
            unmirrored.append(where)
        del run
    average, labels = total / len(scores), np.asarray(images.labels)
    result = evaluation.score(average, labels)
    if options.json:
        say(json.dumps(_as_json(options, scores, result, average, labels, dataset.classes)))
        return
    say(f"{describe(dataset)}{f'; {options.views} views' if options.views > 1 else ''}{kernels_note(options)}")
    for where in unmirrored:
        say(f"{where} was trained without reflections, which half of these views are; --views 9 has none")
    for where, step, score in scores:
        say(f"{where}, step {step}: {score_line(score)}")
    if len(scores) > 1:
        means = np.mean([score for _, _, score in scores], axis=0)
        say(f"mean of these {len(scores)}: {score_line(result._make(means))}")
        say(f"their average as one net: {score_line(result)}")
    if options.classes:
        say("\n".join(["", *_tables(average, labels, words)]))


def _as_json(options, scores, result, average, labels, classes):
    from tinyalex.training import confusion

    found = {**result._asdict(), "views": options.views}
    found["nets"] = [{"run": str(where), "step": step, **score._asdict()} for where, step, score in scores]
    if options.classes:
        rows = [row._asdict() for row in confusion.by_class(average, labels) if row.count]
        for row in rows:
            row["class"], other = classes[row.pop("label")], row["taken_for"]
            row["taken_for"] = None if other < 0 else classes[other]
        found["classes"] = rows
        found["confused"] = [
            pair._asdict() | {"first": classes[pair.first], "second": classes[pair.second]}
            for pair in confusion.confused(average, labels)
        ]
    return found


def _tables(average, labels, words):
    from tinyalex.training import confusion

    names = [word.split(",")[0][:24] for word in words]
    wide = max(5, *map(len, names)) + 2
    yield f"{'class':<{wide}}{'images':>8}{'top-1 error':>13}{'top-5 error':>13}  most often taken for"
    rows = [row for row in confusion.by_class(average, labels) if row.count]
    for row in sorted(rows, key=lambda row: (-row.top1_error, -row.top5_error, row.label)):
        other = f"{names[row.taken_for]} ({row.times:,})" if row.times else ""
        line = f"{names[row.label]:<{wide}}{row.count:>8,}{row.top1_error:>13.2%}{row.top5_error:>13.2%}  {other}"
        yield line.rstrip()
    pairs = confusion.confused(average, labels)
    if pairs:
        yield from ("", "most confused")
    for pair in pairs:
        one, other = names[pair.first], names[pair.second]
        yield f"{pair.times:>7,}  {one} as {other} {pair.first_as_second:,}, {other} as {one} {pair.second_as_first:,}"

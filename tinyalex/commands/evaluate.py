"""Tell the top-1 and top-5 error on the test images."""

import json

from tinyalex.commands.common import describe, load, same_classes, say, score_line, with_data
from tinyalex.commands.options import DATA, RUN, machine


def options(command):
    """Add the command's options to its parser."""
    command.add_argument("run", metavar="RUN", help=RUN)
    command.add_argument("--data", metavar="DIR", help=f"{DATA} (default: the run's)")
    command.add_argument("--json", action="store_true", help="one JSON object, errors as fractions")
    machine(command)


def run(options):
    """Say how often a trained network is wrong about test images."""
    from tinyalex import evaluation, runs

    run = runs.load(options.run, options.devices)
    dataset = same_classes(run, load(with_data(run.recipe, options.data).data.set, run.metadata["seed"]))
    result = evaluation.evaluate(run.network, dataset.need("test"), run.mean, run.recipe)
    if options.json:
        say(json.dumps(result._asdict()))
    else:
        say(f"{describe(dataset)}; step {run.metadata['step']}\n{score_line(result)}")

"""Draw a run's curves, first-layer kernels and top-5 panel into its folder."""

from pathlib import Path

from tinyalex.commands.common import draw, load, same_classes, say
from tinyalex.commands.options import DATA, threads


def options(command):
    """Add the command's options to its parser."""
    command.add_argument("run", metavar="RUN", help="the folder of a run")
    command.add_argument("--data", metavar="DIR", help=f"{DATA} (default: the run's)")
    threads(command)


def run(options):
    """Draw a run's curves, first-layer kernels and top-five panel into its folder."""
    from tinyalex import runs

    run = runs.load(options.run)
    where = options.data or run.recipe.data.set
    dataset = same_classes(run, load(where, run.metadata["seed"])) if where else None
    for path in draw(Path(options.run), dataset):
        say(path)
    if dataset is None:
        say("no data set is named in the run's recipe: add --data for the top-five panel")

"""Train a network, or go on with a run that was stopped."""

from pathlib import Path

from tinyalex import recipe as recipes
from tinyalex.commands.common import describe, draw, load, say, score_line, with_data
from tinyalex.commands.options import DATA, machine, recipe
from tinyalex.errors import StorageError


def options(command):
    """Add the command's options to its parser."""
    recipe(command, "shapes")
    command.add_argument("--data", metavar="DIR", help=f"{DATA} (default: the recipe's)")
    command.add_argument(
        "--out",
        metavar="RUN",
        help="folder for the log, the checkpoints and the pictures; a run that "
        "was stopped there goes on (default: runs/RECIPE)",
    )
    command.add_argument(
        "--epochs",
        type=int,
        metavar="N",
        help="passes over the training images; the recipe's phases move in proportion (default: the recipe's)",
    )
    command.add_argument("--seed", type=int, default=0, metavar="S", help="of everything random (default: 0)")
    machine(command)


def run(options):
    """Train, and draw the figures; in a folder with an unfinished run, go on with it."""
    from tinyalex import training
    from tinyalex.backend import Device
    from tinyalex.figures.gallery import QUICK, Gallery

    overrides = list(options.set) + ([] if options.epochs is None else [f"learning.epochs={options.epochs}"])
    recipe = with_data(recipes.load(options.recipe, overrides), options.data)
    for name in options.devices:
        Device(name)  # better to hear now than after the data are loaded that it is not there
    out = Path(options.out or Path("runs") / recipe.name)
    if out.exists() and not out.is_dir():
        raise StorageError(f"{out}: is a file; give --out a folder")
    dataset = load(recipe.data.set, options.seed)
    recipe = recipes.with_classes(recipe, len(dataset.classes))
    say(recipes.to_toml(recipe))
    say(f"{describe(dataset)}; {out} gets the results; {' and '.join(options.devices)}, seed {options.seed}")
    result = training.train(recipe, dataset, out, options.devices, options.seed, show=say)
    pictures = [path for path, _ in draw(Gallery(out, dataset), QUICK, out)]
    say(score_line(result))
    say(f"look at {', '.join(map(str, pictures))}")

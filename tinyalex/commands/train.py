"""Train a network, or go on with a run that was stopped."""

from pathlib import Path

from tinyalex import recipe as recipes
from tinyalex.commands.common import describe, draw, load, say, score_line, with_data
from tinyalex.commands.options import DATA, RUN, machine, recipe
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
    command.add_argument(
        "--init-from",
        metavar="RUN",
        help=f"begin with the weights of another run ({RUN}), layer by layer where they fit, as for other classes",
    )
    command.add_argument(
        "--footnote-3",
        action="store_true",
        help="train as the nets of footnote 3 were: on four fifths until the last one is told no better, on all until "
        "it is known as well, then at lower rates; a run for each of these stages in --out",
    )
    command.add_argument("--seed", type=int, default=0, metavar="S", help="of everything random (default: 0)")
    machine(command)


def run(options):
    """Train, and draw the figures; in a folder with an unfinished run, go on with it."""
    from tinyalex import finetune, footnote3, training
    from tinyalex.backend import Device

    overrides = list(options.set) + ([] if options.epochs is None else [f"learning.epochs={options.epochs}"])
    recipe = with_data(recipes.load(options.recipe, overrides), options.data)
    for name in options.devices:
        Device(name)  # better to hear now than after the data are loaded that it is not there
    out = Path(options.out or Path("runs") / recipe.name)
    if out.exists() and not out.is_dir():
        raise StorageError(f"{out}: is a file; give --out a folder")
    first = out / footnote3.STAGES[0] if options.footnote_3 else out
    if options.init_from and not any(first.glob("checkpoint-*")):
        finetune.read(options.init_from)  # better to hear now, again
    dataset = load(recipe.data.set, options.seed)
    recipe = recipes.with_classes(recipe, len(dataset.classes))
    say(recipes.to_toml(recipe))
    say(f"{describe(dataset)}; {out} gets the results; {' and '.join(options.devices)}, seed {options.seed}")
    train = footnote3.train if options.footnote_3 else training.train
    result = train(recipe, dataset, out, options.devices, options.seed, show=say, init_from=options.init_from)
    pictures = draw(out / footnote3.STAGES[-1] if options.footnote_3 else out, dataset)
    say(score_line(result))
    say(f"look at {', '.join(str(path) for path in pictures)}")

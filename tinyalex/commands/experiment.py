"""Run one of the paper's comparisons over several seeds, and set what it gives beside the paper."""

from pathlib import Path

from tinyalex.commands.common import load, say, with_data
from tinyalex.commands.options import DATA, machine
from tinyalex.errors import UsageError
from tinyalex.experiments.catalogue import COMPARISONS, RACE
from tinyalex.recipes import recipe as recipes


def options(command):
    """Add the command's options to its parser."""
    told = "; ".join(f"{name}: {each.title}" for name, each in COMPARISONS.items())
    command.add_argument(
        "name", choices=[RACE, *COMPARISONS], metavar="NAME", help=f"{RACE}: epochs to 25 %% training error; {told}"
    )
    command.add_argument("--data", default="shapes", metavar="DIR", help=f"{DATA} (default: shapes)")
    command.add_argument(
        "--recipe",
        metavar="RECIPE",
        help=f"what is varied (default: cifar10-columns; for {RACE} cifar10-relu)",
    )
    command.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a key of the recipe; may be repeated"
    )
    number = {"type": int, "metavar": "N"}
    command.add_argument("--seeds", help=f"how often each net is trained (default: 5; for {RACE} 1)", **number)
    command.add_argument("--train-images", default=5000, help="at most so many (default: 5000)", **number)
    command.add_argument("--test-images", default=2000, help="at most so many (default: 2000)", **number)
    command.add_argument(
        "--epochs", help=f"of each training (default: the recipe's); for {RACE} the most (default: 60)", **number
    )
    command.add_argument("--search-epochs", default=2, help=f"after which {RACE} compares rates (default: 2)", **number)
    command.add_argument(
        "--out",
        default="experiments",
        metavar="DIR",
        help="folder; results go into DIR/NAME, where an experiment that was stopped goes on (default: experiments)",
    )
    machine(command)


def run(options):
    """Train all that the comparison needs, say what was found, and keep it."""
    from tinyalex.devices.device import Device
    from tinyalex.experiments import catalogue, report
    from tinyalex.experiments.experiment import experiment

    recipe = _recipe(options)
    if options.name != RACE:
        catalogue.find(options.name, recipe)  # better to hear now that this net cannot be varied so
    for name in options.devices:
        Device(name)
    images = options.train_images, options.test_images, options.search_epochs
    seeds = (1 if options.name == RACE else 5) if options.seeds is None else options.seeds
    if min(*images, seeds) < 1:
        raise UsageError("--seeds, --train-images, --test-images and --search-epochs: give 1 or more of each")
    dataset = _images(recipe, options.train_images, options.test_images)
    recipe = recipes.with_classes(recipe, len(dataset.classes))
    out = Path(options.out) / options.name
    say(f"{options.name}: seeds {list(range(seeds))}, {' and '.join(options.devices)}; {out} gets the results")
    result = experiment(options.name, recipe, dataset, out, seeds, options.devices, options.search_epochs, say)
    say("\n" + report.text(result))
    say(f"look at {', '.join(str(path) for path in report.write(result, out))}")


def _images(recipe, train, test):
    from tinyalex.datasets import shapes
    from tinyalex.datasets.sample import sample

    if recipe.data.set == "shapes":  # draw no more than are wanted
        return sample(shapes.load(0, min(train, shapes.TRAIN), min(test, shapes.TEST)), train, test, recipe.net.input)
    return sample(load(recipe.data.set, 0), train, test, recipe.net.input)


def _recipe(options):
    # Drawn stripes that rise would fall in a mirror; their classes are as many as they are.
    race = options.name == RACE
    overrides = [*(["data.flip=false"] if options.data == "shapes" else []), "net.classes=0"]
    epochs = 60 if race and options.epochs is None else options.epochs
    overrides += options.set + ([] if epochs is None else [f"learning.epochs={epochs}"])
    recipe = recipes.load(options.recipe or ("cifar10-relu" if race else "cifar10-columns"), overrides)
    return with_data(recipe, options.data)

"""Repeat one of the paper's comparisons with several seeds, or search for a learning rate."""

from pathlib import Path

from tinyalex.commands.common import load_dataset, print_if_possible, print_line, warn_of_slow_blas, with_data
from tinyalex.commands.options import DATA, changes, machine, ranks, test_share, user_path
from tinyalex.errors import UsageError
from tinyalex.experiments.catalogue import COMPARISONS, ENSEMBLE, RACE, RATE
from tinyalex.experiments.rate import STEPS, rates_of
from tinyalex.recipes import recipe as recipes
from tinyalex.recipes.settings import FILES

SEARCH_EPOCHS = 2


def options(command):
    """Add the command's options to its parser."""
    titles = "; ".join(f"{name}: {comparison.title}" for name, comparison in COMPARISONS.items())
    command.add_argument(
        "name",
        choices=[RACE, RATE, ENSEMBLE, *COMPARISONS],
        metavar="NAME",
        help=f"what to do; {RATE}: raise the learning rate from step to step, and suggest one for the recipe and the "
        f"data; {RACE}: compare epochs until 25 %% training error with each activation (Figure 1); {ENSEMBLE}: "
        f"average nets of several seeds (Table 2); compare {titles}",
    )
    command.add_argument("--data", type=user_path, default="shapes", metavar="DIR", help=f"{DATA} (default: shapes)")
    test_share(command, "the recipe's data.test_share, or 0")
    command.add_argument(
        "--recipe",
        type=user_path,
        metavar="RECIPE",
        help=f"recipe whose net is varied (default: cifar10-columns; for {RACE}: cifar10-relu; for {RATE}: shapes)",
    )
    changes(command)
    number = {"type": int, "metavar": "N"}
    command.add_argument(
        "--seeds", help=f"train each net N times, with different seeds (default: 5; for {RACE} and {RATE}: 1)", **number
    )
    command.add_argument("--steps", help=f"{RATE} only: steps (default: {STEPS})", **number)
    command.add_argument("--train-images", default=5000, help="use at most N training images (default: 5000)", **number)
    command.add_argument("--test-images", default=2000, help="use at most N test images (default: 2000)", **number)
    command.add_argument(
        "--epochs",
        help=f"epochs of each training (default: the recipe's); for {RACE}: at most so many (default: 60); not for "
        f"{RATE}, which takes --steps",
        **number,
    )
    command.add_argument(
        "--search-epochs",
        help=f"{RACE} only: train with each learning rate for N epochs before the rates are compared (default: "
        f"{SEARCH_EPOCHS})",
        **number,
    )
    command.add_argument(
        "--out",
        type=user_path,
        default="experiments",
        metavar="DIR",
        help="save everything in DIR/NAME; an experiment that was stopped there is resumed (default: experiments)",
    )
    machine(command)
    ranks(command)


def run(options):
    """Train the nets of the comparison, print the result and save it."""
    from tinyalex.devices.device import Device
    from tinyalex.experiments import catalogue
    from tinyalex.experiments.experiment import experiment
    from tinyalex.ranks import launch

    world = options.world
    _check_options(options)
    if world.size > 1 and options.name in (RACE, RATE):
        raise UsageError(f"--ranks: {options.name} takes one step after the other; leave out --ranks")
    options.devices = launch.own_devices(options.devices, world)
    recipe = _recipe(options)
    if recipe.net.kind == FILES:
        raise UsageError(f"experiment: varies nets of other kinds than {FILES}, which recipe {recipe.name} has")
    steps = STEPS if options.steps is None else options.steps
    if options.name == RATE:
        rates_of(1.0, steps)  # raises UsageError now
    elif options.name not in (RACE, ENSEMBLE):
        catalogue.find(options.name, recipe)  # raises UsageError now if this net cannot be varied that way
    for name in options.devices:
        Device(name)
    warn_of_slow_blas(options.devices)
    search_epochs = SEARCH_EPOCHS if options.search_epochs is None else options.search_epochs
    images = options.train_images, options.test_images, search_epochs
    seeds = (1 if options.name in (RACE, RATE) else 5) if options.seeds is None else options.seeds
    if min(*images, seeds) < 1:
        raise UsageError("--seeds, --train-images, --test-images and --search-epochs: give 1 or more for each")
    dataset = _images(recipe, options.train_images, options.test_images)
    catalogue.check_images(options.name, recipe, dataset.train.size)
    recipe = recipes.with_classes(recipe, len(dataset.classes))
    out = Path(options.out) / options.name
    show = print_if_possible if world.leads else lambda text: None
    show(f"{options.name}: seeds {list(range(seeds))}, devices {' '.join(options.devices)}; results go to {out}")
    result = experiment(options.name, recipe, dataset, out, seeds, options.devices, search_epochs, show, steps, world)
    with world.apart():
        if world.leads:
            _show_results(result, out)


def _show_results(result, out):
    from tinyalex.experiments import report

    print_line("\n" + report.text(result))
    paths, reason = report.write(result, out)
    print_line(f"saved {', '.join(map(str, paths))}")
    if reason:
        print_line(f"warning: the picture is not drawn ({reason}); the same command draws it from what is saved")


def _check_options(options):
    # An option that does nothing in this experiment is refused, with the one to use.
    if options.name == RATE and options.epochs is not None:
        raise UsageError(f"--epochs {options.epochs}: {RATE} takes steps, not epochs; give --steps (default: {STEPS})")
    if options.name != RATE and options.steps is not None:
        raise UsageError(f"--steps {options.steps}: for {RATE} only; give --epochs")
    if options.name != RACE and options.search_epochs is not None:
        raise UsageError(f"--search-epochs {options.search_epochs}: for {RACE} only; leave it out")


def _images(recipe, train, test):
    from tinyalex.datasets import shapes
    from tinyalex.datasets.sample import sample

    if recipe.data.set == "shapes" and not recipe.data.test_share:  # draw only as many as are used
        return sample(shapes.load(0, min(train, shapes.TRAIN), min(test, shapes.TEST)), train, test, recipe.net.input)
    return sample(load_dataset(recipe.data, 0), train, test, recipe.net.input)


def _recipe(options):
    # Reflecting a drawn image can turn it into one of another class (rising stripes fall), so shapes are not flipped.
    race = options.name == RACE
    overrides = [*(["data.flip=false"] if options.data == "shapes" else []), "net.classes=0"]
    epochs = 60 if race and options.epochs is None else options.epochs
    overrides += options.set + ([] if epochs is None else [f"learning.epochs={epochs}"])
    default = {RACE: "cifar10-relu", RATE: "shapes"}.get(options.name, "cifar10-columns")
    recipe = recipes.load(options.recipe or default, overrides)
    return with_data(recipe, options.data, options.test_share)

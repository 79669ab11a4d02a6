"""Look at images and say which recipe suits them: sizes, classes, settings, and the minutes of training here."""

from pathlib import Path

from tinyalex.commands import own_images
from tinyalex.commands.common import is_run, print_line
from tinyalex.commands.options import RUN, machine, test_share, user_path
from tinyalex.errors import UsageError
from tinyalex.recipes import recipe as recipes


def options(command):
    """Add the command's options to its parser."""
    command.add_argument(
        "data",
        type=user_path,
        metavar="DATA",
        help="a folder, a tar, a zip or a list of images in any layout that tinyalex prepare knows, or a prepared set",
    )
    command.add_argument(
        "--init-from", type=user_path, metavar="RUN", help=f"start with the weights of another run ({RUN})"
    )
    test_share(command, "a tenth to a fifth")
    machine(command)


def run(options):
    """Print what is in the images, a recipe with its settings and time, and the command that trains it."""
    from tinyalex.datasets import download, survey
    from tinyalex.devices import parallel
    from tinyalex.runs.run_folder import RECIPE
    from tinyalex.training import advice

    if options.data == "shapes":
        raise UsageError("shapes: the drawn images have a recipe of their own; to train it, type tinyalex train")
    path = str(download.cifar10()) if options.data == "cifar10" else options.data
    with own_images.opened(path, options.test_share, print_line) as source:
        chosen = own_images.advised(source, options.devices, options.init_from)
        made = own_images.with_run(recipes.load(chosen.name, chosen.overrides), Path(), options.init_from)
        for line in own_images.facts(source):
            print_line(line)
        for line in survey.enlargement(source.survey, made.image_size):
            print_line(line)
        print_line(f"recipe {made.name}: {chosen.reason}: {own_images.plan(made, source)}")
        workers = parallel.processors()
        print_line(own_images.duration(made, source, options.devices, prepared=False, workers=workers))
        if row := advice.nearest(source.survey, made.name):
            print_line(
                f"measured on other photographs, which may be easier or harder: {row.data}, {row.recipe}: "
                f"{row.error:.1%} test error; by guessing {row.guessing:.1%}"
            )
        out = default = own_images.default_out(path)
        if is_run(out) and (out / RECIPE).is_file():
            earlier = recipes.load(out / RECIPE)
            if not own_images.set_of_run(earlier, path, out.parent, options.test_share, source):
                out = own_images.free(out)
                print_line(f"{default}: holds a run on other images, so these need another folder")
        given = None if out == Path("runs") / own_images.default_name(path) else out
        print_line(f"to train: {own_images.command(options.data, options.test_share, options.init_from, given)}")

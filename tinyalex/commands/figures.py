"""Draw what a run can show: curves, architecture, kernels, top-5 panel, neighbours, codes; of two runs, their race."""

from pathlib import Path

from tinyalex.commands.common import draw, load, same_classes, say, with_shown_classes
from tinyalex.commands.options import DATA, machine
from tinyalex.errors import CheckpointError, DataError, UsageError
from tinyalex.recipes import recipe as recipes


def options(command):
    """Add the command's options to its parser."""
    from tinyalex.gallery.gallery import NAMES

    command.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="the folder of a run; of two, for Figure 1: their training errors; or the name or file of a recipe, for "
        "its architecture",
    )
    command.add_argument("--only", nargs="+", choices=NAMES, metavar="PICTURE", help=f"of {', '.join(NAMES)}")
    command.add_argument("--data", metavar="DIR", help=f"{DATA} (default: the run's)")
    command.add_argument(
        "--among", type=int, default=10_000, metavar="N", help="training images to find neighbours in (default: 10000)"
    )
    command.add_argument(
        "--out", metavar="DIR", help="folder for the pictures (default: the run's; a recipe's: this one)"
    )
    machine(command)


def run(options):
    """Draw what there is to draw, and say what each picture shows."""
    paths = [Path(each) for each in options.runs]
    if options.among < 1:
        raise UsageError(f"--among {options.among}: give 1 or more")
    if len(paths) > 2:
        raise UsageError(f"figures: {len(paths)} runs; give one, or two for Figure 1")
    if len(paths) == 2:
        made = _race(paths, _out(options, paths[0]))
    elif paths[0].is_dir():
        made = _run(options, paths[0], _out(options, paths[0]))
    else:
        made = _recipe(options, _out(options, Path()))
    for path, line in made:
        say(f"{path}: {line}")


def _out(options, default):
    out = Path(options.out) if options.out else default
    out.mkdir(parents=True, exist_ok=True)
    return out


def _run(options, folder, out):
    from tinyalex.gallery.gallery import NAMES, OF_FILES, OF_IMAGES, Gallery
    from tinyalex.runs import run_folder

    names = options.only or NAMES
    if not any(folder.glob("checkpoint-*")) and (folder / run_folder.RECIPE).is_file() and not options.only:
        say(f"{folder}: no checkpoint, so no more than {' and '.join(OF_FILES)}")
        names = OF_FILES
    gallery = Gallery(folder, None, options.among, options.devices)
    if set(names) - set(OF_FILES):
        where = options.data or gallery.run.recipe.data.set
        if where and set(names) & set(OF_IMAGES):
            gallery.dataset = same_classes(gallery.run, load(where, gallery.run.metadata["seed"]))
        elif not where:
            say("no data set is named in the run's recipe: add --data for pictures of images")
            names = [name for name in names if name not in OF_IMAGES]
    yield from draw(gallery, names, out)


def _race(folders, out):
    from tinyalex import figures
    from tinyalex.runs import run_folder

    curves = []
    for folder in folders:
        errors = [record["top1_error"] for record in run_folder.read_log(folder) if record["event"] == "epoch"]
        if not errors:
            raise DataError(f"{folder}: no log of an epoch; give the folder of a run")
        curves.append((folder.resolve().name, errors))
    figures.save(figures.race(curves), out / "race.png")
    yield out / "race.png", f"training error of {curves[0][0]} and {curves[1][0]}"


def _recipe(options, out):
    from tinyalex import figures
    from tinyalex.gallery.gallery import of_recipe

    (name,) = options.runs
    if name not in recipes.names() and not name.endswith(".toml"):
        raise CheckpointError(f"{name}: no such folder; give that of a run, or one of {', '.join(recipes.names())}")
    if unfit := set(options.only or ()) - {"architecture"}:
        raise UsageError(f"--only {min(unfit)}: a recipe has an architecture alone; give the folder of a run")
    recipe = with_shown_classes(recipes.load(name))
    figure, line = of_recipe(recipe)
    figures.save(figure, out / f"{recipe.name}.png")
    yield out / f"{recipe.name}.png", line

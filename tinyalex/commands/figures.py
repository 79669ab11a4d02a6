"""Draw the paper's figures and the learning curves of a run."""

from pathlib import Path

from tinyalex.commands.common import (
    CLASSES,
    check_classes,
    check_run,
    load_dataset_of_run,
    moved_data,
    print_line,
    with_class_count,
)
from tinyalex.commands.options import DATA, among, machine, several, test_share, user_path
from tinyalex.errors import CheckpointError, DataError, UsageError
from tinyalex.recipes import recipe as recipes


def options(command):
    """Add the command's options to its parser."""
    from tinyalex.gallery.gallery import NAMES

    command.add_argument(
        "runs",
        nargs="+",
        type=user_path,
        metavar="RUN",
        help="the folder of a run, or its file of weights; two folders to compare their training errors (Figure 1); or "
        "the name or file of a recipe to draw its architecture (Figure 2)",
    )
    several(
        command,
        "--only",
        **among(NAMES, "picture"),
        metavar="PICTURE",
        help=f"pictures to draw: {', '.join(NAMES)} (default: all)",
    )
    command.add_argument("--data", type=user_path, metavar="DIR", help=f"{DATA} (default: the run's)")
    test_share(command, "the run's")
    command.add_argument(
        "--among",
        type=int,
        default=10_000,
        metavar="N",
        help="search the nearest images among N training images (default: 10000)",
    )
    command.add_argument(
        "--out",
        type=user_path,
        metavar="DIR",
        help="folder for the pictures (default: the run's folder; for a file: the current one)",
    )
    machine(command)


def run(options):
    """Draw the pictures and print a line about each."""
    paths = [Path(run) for run in options.runs]
    if options.among < 1:
        raise UsageError(f"--among {options.among}: give 1 or more")
    if len(paths) > 2:
        raise UsageError(f"figures: {len(paths)} runs given; give one, or two to compare them")
    if len(paths) == 2:
        pictures = _race(paths, _out(options, paths[0]))
    elif paths[0].suffix == ".safetensors" and not paths[0].is_dir():
        pictures = _run(options, paths[0], _out(options, Path()))
    elif paths[0].is_dir():
        pictures = _run(options, paths[0], _out(options, paths[0]))
    else:
        pictures = _recipe(options, _out(options, Path()))
    for path, line in pictures:
        print_line(f"{path}: {line}")


def _out(options, default):
    from tinyalex.runs import run_folder

    out = Path(options.out) if options.out else default
    out.mkdir(parents=True, exist_ok=True)
    run_folder.adopt(out)
    return out


def _run(options, folder, out):
    from tinyalex import figures
    from tinyalex.explain.deconvolution import obstacle
    from tinyalex.gallery.gallery import NAMES, WITH_IMAGES, WITHOUT_CHECKPOINT, Gallery
    from tinyalex.runs import run_folder

    if not (folder / run_folder.RECIPE).is_file():
        check_run(folder)
    names = options.only or NAMES
    if not folder.is_dir():
        if "curves" in (options.only or ()):
            raise UsageError(f"{folder}: has no log to draw curves from; give the folder of a run")
        names = [name for name in names if name != "curves"]
    if not any(folder.glob("checkpoint-*")) and (folder / run_folder.RECIPE).is_file() and not options.only:
        print_line(f"{folder}: has no checkpoint, so only {' and '.join(WITHOUT_CHECKPOINT)} can be drawn")
        names = WITHOUT_CHECKPOINT
    figures.check_files(out / f"{name}.png" for name in names)  # before the first of them is drawn
    gallery = Gallery(folder, None, options.among, options.devices)
    if set(names) - set(WITHOUT_CHECKPOINT):
        missing = "" if options.data else moved_data(gallery.run)
        if not (options.data or gallery.run.recipe.data.set):
            missing = "the run's recipe names no data set"
        with_images = [name for name in names if name in WITH_IMAGES]
        if missing and with_images and with_images != list(names):
            print_line(f"{missing}: add --data to draw {', '.join(with_images)}")
            names = [name for name in names if name not in WITH_IMAGES]
        elif with_images:
            gallery.dataset = check_classes(gallery.run, load_dataset_of_run(gallery.run, options))
        if "deconvolution" in names and not options.only and (layer := obstacle(gallery.run.network)):
            print_line(f"no deconvolution: {layer.name} is a {type(layer).__name__}, and it is defined for ReLU alone")
            names = [name for name in names if name != "deconvolution"]
    for name in names:
        figure, line = gallery.draw(name)
        figures.save(figure, out / f"{name}.png")
        yield out / f"{name}.png", line


def _race(folders, out):
    from tinyalex import figures
    from tinyalex.runs import run_folder

    curves = []
    for folder in folders:
        errors = [record["top1_error"] for record in run_folder.read_log(folder) if record["event"] == "epoch"]
        if not errors:
            raise DataError(f"{folder}: its log has no finished epoch; give the folder of a run")
        curves.append((folder.resolve().name, errors))
    figures.save(figures.race(curves), out / "race.png")
    yield out / "race.png", f"training error of {curves[0][0]} and {curves[1][0]}"


def _recipe(options, out):
    from tinyalex import figures
    from tinyalex.gallery.gallery import of_recipe

    (name,) = options.runs
    if name not in recipes.names() and not name.endswith(".toml"):
        raise CheckpointError(
            f"{name}: no such folder; give the folder of a run, or a recipe: {', '.join(recipes.names())}"
        )
    if unavailable := set(options.only or ()) - {"architecture"}:
        raise UsageError(
            f"--only {min(unavailable)}: of a recipe only the architecture can be drawn; give the folder of a run"
        )
    recipe, note = recipes.load(name), ""
    if not recipe.net.classes and recipe.data.set != "shapes":
        recipe = recipes.with_classes(recipe, CLASSES)
        note = f" (with {CLASSES:,} classes; a run has as many as its data)"
    figure, line = of_recipe(with_class_count(recipe))
    figures.save(figure, out / f"{recipe.name}.png")
    yield out / f"{recipe.name}.png", line + note

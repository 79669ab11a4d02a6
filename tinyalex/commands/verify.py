"""Check that a prepared set is unchanged since tinyalex prepare made it."""

from pathlib import Path

from tinyalex.commands.common import print_line
from tinyalex.commands.options import threads, user_path
from tinyalex.errors import DataError, UsageError


def options(command):
    """Add the command's options to its parser."""
    command.add_argument("data", type=user_path, metavar="DATA", help="a folder made by tinyalex prepare")
    command.add_argument(
        "--full",
        action="store_true",
        help="also read every image, compare its hash, and compute the mean image and covariance again "
        "(default: check everything except the pixels)",
    )
    command.add_argument(
        "--speed",
        action="store_true",
        help="also measure for some seconds how fast images are read and decoded, and say how long an epoch takes and "
        "which order and format suit",
    )
    threads(command)


def run(options):
    """Check the set and print a line for each thing checked; damage is raised as errors."""
    from tinyalex.datasets.shards import verify

    _check(Path(options.data))
    verify.verify(options.data, options.full, show=print_line)
    if options.speed:
        from tinyalex.datasets import load, speed
        from tinyalex.network import memory

        images = load(options.data).need("train")
        for line in speed.lines(speed.of_set(images), len(images), images.is_jpeg, memory=memory.host()[1]):
            print_line(line)
    print_line(
        "all of the set is unchanged" if options.full else "all but the pixels is unchanged; --full also checks these"
    )


def _check(path):
    # Raise DataError if there is no prepared set, with the name of one that is meant: a run's, that of a source that
    # training has prepared, or those in a folder.
    from tinyalex.datasets.shards import prepared
    from tinyalex.prepare import once
    from tinyalex.recipes import recipe
    from tinyalex.runs import run_folder

    if prepared.is_prepared(path):
        return
    sets, name = [], path.resolve().name
    if (path / run_folder.RECIPE).is_file():
        try:
            sets = [Path(recipe.load(path / run_folder.RECIPE).data.set)]
        except UsageError:
            sets = []
    elif path.is_dir():
        sets = sorted(path.iterdir())
    made = [*Path("runs", once.FOLDER).glob("*"), *path.parent.glob(f"{once.FOLDER}/*")]
    sets += sorted(each for each in made if once.source_name(each) == name)
    sets = [str(each) for each in sets if each.is_dir() and prepared.is_prepared(each)]
    what = "not a prepared set" if path.exists() else "no such folder"
    remedy = " or ".join(dict.fromkeys(sets[:3])) or "a folder made by tinyalex prepare"
    raise DataError(f"{path}: {what}; give {remedy}")

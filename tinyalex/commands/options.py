"""Options that several commands share."""

from tinyalex.recipes.recipe import names

DATA = (
    "data set: shapes, cifar10, a folder made by tinyalex prepare, or a folder or tar with CIFAR's files or with "
    "images as {train,test}/CLASS/*.jpg or *.png"
)
RUN = "the folder of a run, one of its checkpoints, or a file written by tinyalex export"


def recipe(command, default):
    """Add the recipe and ``--set``."""
    command.add_argument(
        "recipe",
        nargs="?",
        default=default,
        metavar="RECIPE",
        help=f"one of {', '.join(names())}, or the path of a TOML file (default: {default})",
    )
    changes(command)


def changes(command):
    """Add ``--set``."""
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a key of the recipe, for example --set learning.rate=0.02; may be repeated",
    )


def machine(command):
    """Add ``--devices`` and ``--threads``."""
    command.add_argument(
        "--devices",
        nargs="+",
        default=["cpu"],
        metavar="D",
        help="devices to compute on: cpu, cuda:0, cuda:1, ..., or fake:0, a simulated GPU; with two devices each takes "
        "one column of the net (default: cpu)",
    )
    threads(command)


def no_kernels(command):
    """Add ``--no-kernels``, which arrives as ``options.kernels``."""
    command.add_argument(
        "--no-kernels",
        dest="kernels",
        action="store_false",
        help="run the readable layers, without CUDA kernels, fused layers and NumPy's fast forms: slower, for reading "
        "and checking",
    )


def kernels_note(options):
    """Return what to add to a line about where a command computes."""
    return "" if options.kernels else ", readable layers (--no-kernels)"


def threads(command):
    """Add ``--threads``, which `tinyalex.cli` applies."""
    command.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: one per processor)")

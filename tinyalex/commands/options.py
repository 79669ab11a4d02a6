"""Options that several commands have."""

from tinyalex.recipes.recipe import names

DATA = (
    "shapes, cifar10, a folder that tinyalex prepare made, or a folder or tar: CIFAR-10's files, or "
    "{train,test}/CLASS/*.jpg or png"
)
RUN = "the folder of a run, or one of its checkpoints"


def recipe(command, default):
    """Add the recipe and changes to it."""
    command.add_argument(
        "recipe",
        nargs="?",
        default=default,
        metavar="RECIPE",
        help=f"one of {', '.join(names())}, or the path of a TOML file (default: {default})",
    )
    changes(command)


def changes(command):
    """Add changes to a recipe."""
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a key of the recipe, as in --set learning.rate=0.02; may be repeated",
    )


def machine(command):
    """Add where to compute."""
    command.add_argument(
        "--devices",
        nargs="+",
        default=["cpu"],
        metavar="D",
        help="where to compute: cpu, cuda:0 or fake:0; two take one column each (default: cpu)",
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
    """Add the number of threads, which `tinyalex.cli` sets."""
    command.add_argument("--threads", type=int, metavar="N", help="threads on the CPU (default: one a processor)")

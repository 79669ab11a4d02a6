"""Options that several commands share."""

from tinyalex.recipes.recipe import names

DATA = (
    "data set: shapes, cifar10, a folder made by tinyalex prepare, or a folder, a tar or a zip with CIFAR's files or "
    "with square images of one size as {train,test}/CLASS/*.jpg or in another layout that prepare knows"
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


def test_share(command, default):
    """Add ``--test-share``; None, the default, stands for the given one."""
    command.add_argument(
        "--test-share",
        type=float,
        metavar="F",
        help="if a folder or an archive of images has no test images: the fraction of every class to test on, from 0 "
        f"to 1 (default: {default})",
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


def rate_file(command):
    """Add the second of a pair of cuda-convnet's files, which arrives as ``options.rates``."""
    command.add_argument(
        "rates",
        nargs="?",
        metavar="LAYER-PARAMS.cfg",
        help="after a LAYERS.cfg of cuda-convnet, the authors' code of 2012: its file of learning rates",
    )

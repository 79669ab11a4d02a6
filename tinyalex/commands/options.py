"""Options that several commands share, and the kinds of values that options take: paths, and several words."""

import argparse
import os
import re

from tinyalex.recipes.recipe import names
from tinyalex.words import did_you_mean

DATA = (
    "data set: shapes, cifar10, a folder made by tinyalex prepare, or a folder, a tar or a zip with CIFAR's files or "
    "with square images of one size as {train,test}/CLASS/*.jpg or in another layout that prepare knows"
)
RUN = "the folder of a run, one of its checkpoints, or a file written by tinyalex export"


def user_path(text):
    """Return a path that was given on the command line, with ~ replaced by the user's home; "" is refused.

    Every option or argument that names a file or folder has this type: the shell replaces ~ only at the beginning of a
    word, not in ``--out=~/run``.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError("the path is empty; give one")
    return os.path.expanduser(text)


def several(command, flag, fits, values=None, **about):
    """Add an option that takes several values: ``--devices cpu cpu``, ``--devices cpu,cpu`` or given twice.

    A word that does not fit ends the values, so that a positional argument may follow them.

    Parameters
    ----------
    command : argparse.ArgumentParser
    flag : str
        "--devices".
    fits : function of str
        Whether a word after the first value is another one.
    values : function of str
        Returns the list of values in a word (default: those between commas).
    **about
        For `add_argument`.
    """
    command.several[flag] = fits
    command.add_argument(flag, action=_Several, type=values or _split, **about)


class _Several(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        before = getattr(namespace, self.dest)
        setattr(namespace, self.dest, [*(before if before is not self.default else []), *values])


def _split(text):
    return [value for value in map(str.strip, text.split(",")) if value] or [text]


def among(known, what):
    """Return ``fits`` and ``values`` of `several` for an option whose values are some of ``known``."""

    def values(text):
        for value in _split(text):
            if value not in known:
                raise argparse.ArgumentTypeError(f"{value}: no such {what}{did_you_mean(value, known)}")
        return _split(text)

    return {"fits": lambda word: _split(word)[0] in known, "values": values}


def recipe(command, default, shown=None):
    """Add the recipe and ``--set``; ``shown`` says what the default is, if not a recipe."""
    command.add_argument(
        "recipe",
        nargs="?",
        type=user_path,
        default=default,
        metavar="RECIPE",
        help=f"one of {', '.join(names())}, or the path of a TOML file (default: {shown or default})",
    )
    changes(command)


def changes(command):
    """Add ``--set``."""
    several(
        command,
        "--set",
        fits=re.compile(r"\w[\w.]*=").match,
        values=lambda text: [text],
        default=[],
        metavar="KEY=VALUE",
        help="change a key of the recipe, for example --set learning.rate=0.02; may be repeated",
    )


def test_share(command, default, whole=False):
    """Add ``--test-share``; None, the default, stands for the given one. ``whole``: 1 is offered."""
    command.add_argument(
        "--test-share",
        type=float,
        metavar="F",
        help="if a folder or an archive of images has no test images: the fraction of every class to test on, from 0 "
        f"to 1{'; 1: all images' if whole else ''} (default: {default})",
    )


def checkpoint(command, best):
    """Add ``--best`` and ``--last``, which arrive as ``options.best``.

    Parameters
    ----------
    command : argparse.ArgumentParser
    best : bool
        Whether the checkpoint with the lowest test error is the default.
    """
    default, choice = " (default)", command.add_mutually_exclusive_group()
    choice.add_argument(
        "--best",
        action="store_true",
        default=best,
        help="of a run's folder, take the checkpoint with the lowest test error (where rare classes count more: mean "
        "error of the classes) among those that were tested, the earliest of equal ones; the last if none was"
        f"{default if best else ''}",
    )
    choice.add_argument(
        "--last",
        dest="best",
        action="store_false",
        help=f"of a run's folder, take the last checkpoint{'' if best else default}",
    )


def machine(command, default=("cpu",), shown="cpu"):
    """Add ``--devices`` and ``--threads``; ``shown`` says what the default is."""
    several(
        command,
        "--devices",
        fits=re.compile(r"(cpu|cuda|fake|gpu|mps)[:\d,]*").match,
        default=default and list(default),
        metavar="D",
        help="devices to compute on: cpu, cuda:0, cuda:1, ..., or fake:0, a simulated GPU; with two devices each takes "
        f"one column of the net (default: {shown})",
    )
    threads(command)


def ranks(command):
    """Add ``--ranks`` and ``--patience``."""
    from tinyalex.ranks.world import PATIENCE

    command.add_argument(
        "--ranks",
        type=int,
        metavar="N",
        help="run as N processes on this machine, each with its part of every batch, and with its share of --devices; "
        "needs the extra mpi (on several machines: mpiexec -n N tinyalex ...)",
    )
    command.add_argument(
        "--patience",
        type=float,
        default=PATIENCE,
        metavar="SECONDS",
        help=f"with several processes: end the run if one of them does not answer for so long (default: {PATIENCE:g})",
    )


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


def loader_threads(command):
    """Add ``--loader-threads``, which `tinyalex.commands.common.set_loader_threads` applies."""
    command.add_argument(
        "--loader-threads",
        type=int,
        metavar="N",
        help="threads that read, decode and crop images while the net computes; any number gives the same results "
        "(default: 1 on the CPU; on a GPU 4, or one per processor if there are JPEG files to decode)",
    )


def rate_file(command):
    """Add the second of a pair of cuda-convnet's files, which arrives as ``options.rates``."""
    command.add_argument(
        "rates",
        nargs="?",
        type=user_path,
        metavar="LAYER-PARAMS.cfg",
        help="after a LAYERS.cfg of cuda-convnet, the authors' code of 2012: its file of learning rates",
    )

"""The command line: options in, one function of `tinyalex.commands` called; the only place that prints errors.

Exit codes: 0 done; 1 a fault of the program, or a check that failed; 2 usage; 3 data; 4 weights or checkpoint;
5 diverged; 6 folder in use; 7 disk or permission; 8 device; 75 stopped and saved, can go on; 130 interrupted.
"""

import argparse
import errno
import os
import sys
import traceback

from tinyalex import __version__
from tinyalex.errors import DeviceError, Interrupted, StorageError, TinyalexError, UsageError
from tinyalex.recipe import names

_STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR}

_DATA = "shapes, cifar10, or a folder or tar: CIFAR-10's files, or {train,test}/CLASS/*.jpg or png"
_RUN = "the folder of a run, or one of its checkpoints"


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UsageError(f"{message}; see {self.prog} --help")


def main(argv=None):
    """Run a command.

    Parameters
    ----------
    argv : list of str, optional
        Without the program's name; the process's own when not given.

    Returns
    -------
    int
        The exit code.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        parser = _parser()
        options = parser.parse_args(argv)
        if "command" not in options:
            parser.print_help()
            return 2
        if getattr(options, "threads", None) is not None:
            from tinyalex import parallel

            parallel.set_threads(options.threads)
        from tinyalex import commands

        code = getattr(commands, options.command)(options) or 0
        sys.stdout.flush()
        return code
    except SystemExit as stop:  # --help and --version
        return stop.code
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return _report("interrupted", 130)
    except Interrupted as stop:
        return _report(str(stop), stop.exit_code, "tinyalex:")
    except Exception as error:
        if "--debug" in argv:
            traceback.print_exc()
        if isinstance(error, ExceptionGroup):
            return max(_report(*_told(each)) for each in error.exceptions)
        return _report(*_told(error))


def _told(error):
    """Return an error's line and exit code."""
    if isinstance(error, OSError) and error.errno in _STORAGE:
        return f"{error.filename or 'output'}: {error.strerror}; make room or check permissions", StorageError.exit_code
    if isinstance(error, MemoryError):
        return f"memory: {error or 'not enough'}; use a smaller learning.batch or net", DeviceError.exit_code
    if isinstance(error, TinyalexError):
        return str(error), error.exit_code
    return f"{type(error).__name__}: {error}; a fault of tinyalex: add --debug and report what it shows", 1


def _report(line, code, who="tinyalex: error:"):
    print(who, " ".join(line.splitlines()), file=sys.stderr, flush=True)
    return code


def _parser():
    parser = _Parser(
        prog="tinyalex",
        description="AlexNet (2012) from scratch: train it, look at it, check its gradients.",
        epilog="tinyalex train, without more, trains a two-column net on images that tinyalex draws itself.",
    )
    parser.add_argument("--version", action="version", version=f"tinyalex {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    train = _command(commands, "train", "train a network, or go on with a run that was stopped")
    _recipe(train, "shapes")
    train.add_argument("--data", metavar="DIR", help=f"{_DATA} (default: the recipe's)")
    train.add_argument(
        "--out",
        metavar="RUN",
        help="folder for the log, the checkpoints and the pictures; a run that "
        "was stopped there goes on (default: runs/RECIPE)",
    )
    train.add_argument(
        "--epochs",
        type=int,
        metavar="N",
        help="passes over the training images; the recipe's phases move in proportion (default: the recipe's)",
    )
    train.add_argument("--seed", type=int, default=0, metavar="S", help="of everything random (default: 0)")
    _machine(train)

    evaluate = _command(commands, "evaluate", "tell the top-1 and top-5 error on the test images")
    evaluate.add_argument("run", metavar="RUN", help=_RUN)
    evaluate.add_argument("--data", metavar="DIR", help=f"{_DATA} (default: the run's)")
    evaluate.add_argument("--json", action="store_true", help="one JSON object, errors as fractions")
    _machine(evaluate)

    predict = _command(commands, "predict", "name the five most probable classes of pictures")
    predict.add_argument("images", nargs="+", metavar="IMAGE", help="a picture of any size")
    predict.add_argument("--run", required=True, metavar="RUN", help=_RUN)
    predict.add_argument("--json", action="store_true", help="a JSON list, an object for each picture")
    predict.add_argument("--picture", metavar="FILE", help="draw the pictures and their five classes into a PNG file")
    _machine(predict)

    summary = _command(commands, "summary", "show a net's layers: shapes, parameters, work, bytes between columns")
    _recipe(summary, "original")

    gradcheck = _command(commands, "gradcheck", "compare every gradient with one found another way")
    gradcheck.add_argument(
        "what",
        nargs="?",
        metavar="LAYER|RECIPE",
        help="a kind of layer (conv, lrn, maxpool, ...), or a recipe, whose net is made small "
        "(default: every layer, and the net of original with its two columns)",
    )
    gradcheck.add_argument(
        "--method",
        choices=["complex", "central"],
        default="complex",
        help="complex step, good to the last digits, or central differences (default: complex)",
    )
    _threads(gradcheck)

    figures = _command(commands, "figures", "draw a run's curves, first-layer kernels and top-5 panel into its folder")
    figures.add_argument("run", metavar="RUN", help="the folder of a run")
    figures.add_argument("--data", metavar="DIR", help=f"{_DATA} (default: the run's)")
    _threads(figures)
    return parser


def _command(commands, name, text):
    command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    command.set_defaults(command=name)
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return command


def _recipe(command, default):
    command.add_argument(
        "recipe",
        nargs="?",
        default=default,
        metavar="RECIPE",
        help=f"one of {', '.join(names())}, or the path of a TOML file (default: {default})",
    )
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a key of the recipe, as in --set learning.rate=0.02; may be repeated",
    )


def _machine(command):
    command.add_argument(
        "--devices",
        nargs="+",
        default=["cpu"],
        metavar="D",
        help="where to compute: cpu, cuda:0 or fake:0; two take one column each (default: cpu)",
    )
    _threads(command)


def _threads(command):
    command.add_argument("--threads", type=int, metavar="N", help="threads on the CPU (default: one a processor)")

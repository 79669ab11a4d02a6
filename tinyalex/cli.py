"""The command line: options in, one module of `tinyalex.commands` run; the only place that prints errors.

Exit codes: 0 done; 1 a fault of the program, or a check that failed; 2 usage; 3 data; 4 weights or checkpoint;
5 diverged; 6 folder in use; 7 disk or permission; 8 device; 75 stopped and saved, can go on; 130 interrupted.
"""

import argparse
import contextlib
import errno
import os
import sys
import traceback

from tinyalex import __version__
from tinyalex.commands import ALL
from tinyalex.errors import DeviceError, Interrupted, StorageError, TinyalexError, UsageError

_STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}
_PATH = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG}


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
    _settle_output()
    try:
        parser = _parser()
        options = parser.parse_args(argv)
        if "run_command" not in options:
            parser.print_help()
            return 2
        if getattr(options, "threads", None) is not None:
            from tinyalex.devices import parallel

            parallel.set_threads(options.threads)
        options.argv = argv
        code = options.run_command.run(options) or 0
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


def _settle_output():
    # Where there is no stream text goes nowhere, and letters that an encoding lacks are escaped: neither ends a run.
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _told(error):
    """Return an error's line and exit code."""
    if isinstance(error, OSError) and error.errno in _STORAGE | _PATH:
        remedy = "give another path" if error.errno in _PATH else "make room or check permissions"
        return f"{error.filename or 'output'}: {error.strerror}; {remedy}", StorageError.exit_code
    if type(error).__module__.split(".")[0] in ("cupy", "cupy_backends") and not isinstance(error, MemoryError):
        line = f"{type(error).__name__}: {error}; what failed may have been asked of the card earlier"
        return f"{line}: CUDA_LAUNCH_BLOCKING=1 shows where; checkpoints are whole", DeviceError.exit_code
    if isinstance(error, MemoryError):
        return f"memory: {error or 'not enough'}; use a smaller learning.batch or net", DeviceError.exit_code
    if isinstance(error, TinyalexError):
        return str(error), error.exit_code
    return f"{type(error).__name__}: {error}; a fault of tinyalex: add --debug and report what it shows", 1


def _report(line, code, who="tinyalex: error:"):
    with contextlib.suppress(OSError):  # nobody is there to read it
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

    for module in ALL:
        name = module.__name__.rsplit(".", 1)[1]
        text = (module.__doc__ or name).split(".\n")[0].rstrip(".")  # python -OO has no docstrings
        command = commands.add_parser(name, help=text[0].lower() + text[1:], description=f"{text}.", allow_abbrev=False)
        command.set_defaults(run_command=module)
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
        module.options(command)
    return parser

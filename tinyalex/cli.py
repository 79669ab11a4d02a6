"""The command line: parse the options, run one module of `tinyalex.commands`, and print errors.

Only this module prints errors and returns exit codes: 0 done; 1 a bug in tinyalex, a check that failed, or matplotlib
that cannot be used; 2 usage; 3 data; 4 weights or checkpoint; 5 diverged; 6 folder in use; 7 disk or permission; 8
device; 75 stopped and saved, can be resumed; 130 interrupted by Ctrl-C; 141 the reader of a pipe closed it.
"""

import argparse
import contextlib
import errno
import os
import re
import shutil
import sys
import textwrap
import traceback

# Before NumPy is imported: its BLAS would start a thread for each processor of the machine, of which we use none
# (`tinyalex.devices.parallel`), and end the process where a container does not allow so many.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from tinyalex import __version__
from tinyalex.commands import ALL, groups, spellings
from tinyalex.commands.common import print_warning, silence
from tinyalex.errors import DeviceError, Interrupted, StorageError, TinyalexError, UsageError

_REMEDIES = dict.fromkeys(
    (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
    "free some space or check the permissions",
) | dict.fromkeys(
    (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG), "give another path"
)


class _Parser(argparse.ArgumentParser):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.words = ()  # what was typed after the command
        self.several = {}  # options that take several values: see `tinyalex.commands.options.several`

    def format_help(self, everything=False):
        """Format the help; that of a command with many options in groups, and without the less used ones."""
        name = self.prog.rpartition(" ")[2]
        if name not in groups.GROUPS:
            return super().format_help()
        formatter = self._get_formatter()
        shown, others = groups.grouped(name, [action for action in self._actions if action.help != argparse.SUPPRESS])
        words = [_shown(action) for actions in shown.values() for action in actions if not action.option_strings]
        formatter.add_usage(" ".join(["%(prog)s [option ...]", *words]), [], [])
        formatter.add_text(self.description)
        for heading, actions in (shown | ({"less used": others} if everything else {})).items():
            formatter.start_section(heading)
            formatter.add_arguments(actions)
            formatter.end_section()
        text = formatter.format_help()
        if not everything:
            flags = [action.option_strings[-1] for action in others if action.option_strings]
            names = ", ".join(flag for flag in flags if not flag.startswith("--help"))
            more = f"More options, which {self.prog} --help-all explains: {names}"
            columns = shutil.get_terminal_size().columns - 2
            text += "\n" + textwrap.fill(more, columns, break_on_hyphens=False) + "\n"
        return text

    def error(self, message):
        if "arguments are required" in message:
            message += spellings.required(self.prog.rpartition(" ")[2], message, self.words)
        raise UsageError(f"{message}; see {self.prog} --help")


def _shown(action):
    # A positional argument in the line of usage.
    return {"?": "[{}]", "+": "{} ..."}.get(action.nargs, "{}").format(action.metavar)


class _HelpAll(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        print(parser.format_help(everything=True), end="")
        parser.exit()


def main(argv=None):
    """Run a command.

    Parameters
    ----------
    argv : list of str, optional
        Arguments without the program's name (default: those of this process).

    Returns
    -------
    int
        The exit code.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    _set_up_output()
    code = _run(argv)
    # Python would change the exit code if it could not write what is left in the buffers.
    try:
        sys.stdout.flush()
    except OSError as error:
        silence(sys.stdout)
        code = code or (141 if isinstance(error, BrokenPipeError) else _report(*_message_and_code(error)))
    try:
        sys.stderr.flush()
    except OSError:
        silence(sys.stderr)
    return code


def _run(argv):
    ranks = None
    try:
        options = _parse(argv)
        if options is None:
            return 2
        options.argv = argv
        if "ranks" in options:
            from tinyalex.ranks import launch, world

            if options.ranks is not None and options.ranks < 1:
                raise UsageError(f"--ranks {options.ranks}: give a number of processes, 1 or more")
            if not 0 < options.patience < float("inf"):
                raise UsageError(f"--patience {options.patience:g}: give a number of seconds above 0")
            if (options.ranks or 1) > 1 and not world.launcher():
                return launch.run(options.ranks, argv)
            options.world = ranks = world.join(options.patience)
            if options.ranks and options.ranks != ranks.size:
                raise UsageError(
                    f"--ranks {options.ranks}: {world.launcher()} has started {ranks.size}; leave out --ranks"
                )
        if "threads" in options:
            _start_threads(options.threads, ranks)
        code = options.run_command.run(options) or 0
        if ranks:
            ranks.leave()
        return code
    except SystemExit as stop:  # --help and --version
        return stop.code or 0
    except BrokenPipeError:  # the reader of our output, such as head, has closed the pipe
        silence(sys.stdout)
        return _end_all(ranks, None, 141)
    except KeyboardInterrupt:
        return _end_all(ranks, "interrupted", 130)
    except Interrupted as stop:
        if not ranks or ranks.leads:
            _report(str(stop), stop.exit_code, "tinyalex:")
        if ranks:
            ranks.leave()
        return stop.exit_code
    except Exception as error:
        if "--debug" in argv:
            with contextlib.suppress(OSError):
                traceback.print_exc()
        if ranks and ranks.size > 1:
            return _end_all(ranks, *_message_and_code(error))
        if isinstance(error, ExceptionGroup):
            return max(_report(*_message_and_code(member)) for member in error.exceptions)
        return _report(*_message_and_code(error))


def _end_all(ranks, line, code):
    # Report what ended this process, unless a lower rank does, and end the other ranks, which would wait for it.
    if ranks and ranks.size > 1:
        ranks.let_lower_ranks_speak()
    if line:
        _report(line, code)
    if ranks:
        ranks.abort(code)
    return code


def _start_threads(count, ranks=None):
    from tinyalex.devices import container, parallel

    if count is None and ranks and ranks.size > 1 and "TINYALEX_THREADS" not in os.environ:
        count = max(1, parallel.processors() // ranks.local_size)
    if count is not None:
        parallel.set_threads(count)
    workers = parallel.workers()
    if workers.threads < workers.wanted:
        warning = (
            f"only {workers.threads} of {workers.wanted} threads can be started ({container.limit_of_processes()})"
        )
        print_warning(f"{warning}; the command continues with these")


def _set_up_output():
    # Replace a missing stream by the null device and escape characters that the encoding lacks: printing must not end
    # a run. The null device gets numbers 0 to 2, as far as they are free: the next file that is opened would get them
    # otherwise, and with them what libraries print.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            null = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(null, mode, encoding="utf-8"))  # noqa: SIM115
        elif name != "stdin" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _message_and_code(error):
    """Return an error's message, one line, and its exit code."""
    if _no_more_processes(error):
        from tinyalex.devices import container

        why = f"no thread or process can be started ({container.limit_of_processes()})"
        return f"{why}; allow more of them, or use --threads 1 or --workers 1", DeviceError.exit_code
    if isinstance(error, FileNotFoundError) and "No usable temporary directory" in str(error):
        return f"{error.strerror}; set TMPDIR to a folder that can be written", StorageError.exit_code
    if isinstance(error, OSError) and error.errno:
        remedy = _REMEDIES.get(error.errno, "check that path, and its disk")
        what = error.strerror
        if error.errno == errno.EEXIST and error.filename:
            link = os.readlink(error.filename) if os.path.islink(error.filename) else ""
            what = f"is a link to {link}, which does not exist" if link else "is a file, not a folder"
        return f"{error.filename or 'output'}: {what}; {remedy}", StorageError.exit_code
    if type(error).__module__.split(".")[0] in ("cupy", "cupy_backends") and not isinstance(error, MemoryError):
        line = f"{type(error).__name__}: {error}; the operation that failed may have been started earlier"
        remedy = "set CUDA_LAUNCH_BLOCKING=1 to see which; saved checkpoints are not affected"
        return f"{line}: {remedy}", DeviceError.exit_code
    if isinstance(error, MemoryError):
        return f"memory: {error or 'not enough'}; use a smaller learning.batch or net", DeviceError.exit_code
    if isinstance(error, TinyalexError):
        return str(error), error.exit_code
    if isinstance(error, ImportError):
        package = error.name.split(".")[0] if error.name else ""
        if package and package != "tinyalex":
            line = f"{package}: cannot be imported ({error}); install tinyalex and what it needs again"
            return f"{line}: {sys.executable} -m pip install --force-reinstall {package}", UsageError.exit_code
    return f"{type(error).__name__}: {error}; a bug in tinyalex: run it again with --debug and report the traceback", 1


def _no_more_processes(error):
    if isinstance(error, BlockingIOError):  # from fork; from a pipe that is full it says how much was written
        return error.errno == errno.EAGAIN and not hasattr(error, "characters_written")
    return isinstance(error, RuntimeError) and str(error) == "can't start new thread"


def _report(line, code, prefix="tinyalex: error:"):
    try:
        sys.stderr.write(f"{prefix} {' '.join(line.splitlines())}\n")  # at once, as ranks share a terminal
        sys.stderr.flush()
    except OSError:
        silence(sys.stderr)
    return code


def _parse(argv):
    # The options of a command, or None after printing the help if there is no command.
    parser, commands = _parsers()
    begin = next((number for number, word in enumerate(argv) if not word.startswith("-")), len(argv))
    options = parser.parse_args(argv[:begin])
    if begin == len(argv):
        parser.print_help()
        return None
    name, words = argv[begin], argv[begin + 1 :]
    if name not in commands:
        parser.error(f"{name}: no such command{spellings.command(name, commands, words)}")
    command = commands[name]
    command.words = words
    words = _one_value_each(words, command.several)
    if {"-h", "--help", "--help-all", "--"} & set(words):  # which Python 3.11 does not handle below
        return command.parse_args(words, options)
    _refuse_unknown_options(name, command, words)
    # Options may stand between the positional arguments, and before them.
    return command.parse_intermixed_args(words, options)


def _refuse_unknown_options(name, command, words):
    # Before argparse takes the value of an option that it does not know for a positional argument.
    known = [flag for action in command._actions if action.help != argparse.SUPPRESS for flag in action.option_strings]
    for number, word in enumerate(words):
        if re.match(r"--?[A-Za-z]", word) and word.partition("=")[0] not in command._option_string_actions:
            following = next((other for other in words[number + 1 : number + 2] if not other.startswith("-")), None)
            command.error(spellings.option(name, word, following, known))


def _one_value_each(words, several):
    # Repeat an option that takes several values before each of them, so that a positional argument may follow the last.
    separated, option = [], None  # the option whose values may follow
    for number, word in enumerate(words):
        if word == "--":
            return separated + words[number:]
        alone = bool(option) and separated[-1] == option  # it has no value yet
        if option and not word.startswith("-") and (alone or several[option](word)):
            separated[len(separated) - alone :] = [f"{option}={word}"]
        else:
            option = word.partition("=")[0] if word.partition("=")[0] in several else None
            separated.append(word)
    return separated


def _parsers():
    parser = _Parser(
        prog="tinyalex",
        description="AlexNet (2012) from scratch: train it, evaluate it, draw its figures, check its gradients.",
        epilog="To start, run tinyalex train: it trains a two-column net on images that tinyalex draws itself.",
    )
    parser.add_argument("--version", action="version", version=f"tinyalex {__version__}")
    debug = {"action": "store_true", "help": "print the traceback if there is an error"}
    parser.add_argument("--debug", **debug)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    for module in ALL:
        name = module.__name__.rsplit(".", 1)[1].rstrip("_")  # import_, as import is a word of Python
        text = (module.__doc__ or name).split(".\n")[0].rstrip(".")  # python -OO removes docstrings
        command = commands.add_parser(name, help=text[0].lower() + text[1:], description=f"{text}.", allow_abbrev=False)
        command.set_defaults(run_command=module)
        command.add_argument("--debug", **debug)
        if name in groups.GROUPS:
            command.add_argument("--help-all", action=_HelpAll, nargs=0, help="explain the less used options too")
        module.options(command)
    return parser, commands.choices

"""The package's exceptions: each has a one-line message and the command's exit code.

Only `tinyalex.cli` catches them, prints the message and exits.
"""

import collections.abc
import difflib

_SIMILAR = 0.6  # ratio of difflib's SequenceMatcher from which a name is suggested


class TinyalexError(Exception):
    """Base class; the message is one line for the user, ``exit_code`` is what the command returns."""

    exit_code = 1


class UsageError(TinyalexError):
    """An invalid option, recipe key or value."""

    exit_code = 2


class ShapeError(UsageError, ValueError):
    """An array or a layer whose shape or dtype does not fit."""


class DataError(TinyalexError):
    """Unusable images, labels or data sets."""

    exit_code = 3


class CheckpointError(TinyalexError):
    """Unusable weights or checkpoints."""

    exit_code = 4


class DivergedError(TinyalexError):
    """Training produced numbers that are not finite."""

    exit_code = 5


class StalledError(DivergedError):
    """Training does not learn: its numbers are finite, but the loss stays at the level of guessing."""


class BusyError(TinyalexError):
    """A run folder that another process is writing to."""

    exit_code = 6


class StorageError(TinyalexError):
    """No space or no permission to write a file."""

    exit_code = 7


class ForeignFileError(StorageError):
    """A file that tinyalex did not make is where it would write."""


class DeviceError(TinyalexError):
    """A device that does not exist or has no memory left."""

    exit_code = 8


class Interrupted(TinyalexError):
    """Stopped on request after a checkpoint was saved; the run can be resumed."""

    exit_code = 75


def did_you_mean(word: str, candidates: collections.abc.Iterable[str]) -> str:
    """Return what to add to a message about an unknown word: the candidate that resembles it, or all of them.

    Dotted words are compared by their last parts, so that ``learning.foo`` does not resemble ``learning.drops``.

    Examples
    --------
    >>> did_you_mean("trian", ["train", "predict"])
    '; did you mean "train"?'
    >>> did_you_mean("vacation", ["train", "predict"])
    '; give one of train, predict'
    """

    def similarity(one: str, other: str) -> float:
        return difflib.SequenceMatcher(None, one.lower(), other.lower()).ratio()

    def similarity_of_ends(candidate: str) -> float:
        return similarity(word.rpartition(".")[2], candidate.rpartition(".")[2])

    candidates = list(candidates)
    best = max(candidates, key=lambda candidate: similarity(word, candidate) + similarity_of_ends(candidate))
    if similarity_of_ends(best) >= _SIMILAR:
        return f'; did you mean "{best}"?'
    section = f"{word.rpartition('.')[0]}."
    return f"; give one of {', '.join([name for name in candidates if name.startswith(section)] or candidates)}"

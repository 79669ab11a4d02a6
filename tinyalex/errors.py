"""The package's exceptions: each has a one-line message and the command's exit code.

Only `tinyalex.cli` catches them, prints the message and exits.
"""


class TinyalexError(Exception):
    """Base class; the message is one line for the user, ``exit_code`` is what the command returns."""

    exit_code = 1


class PictureError(TinyalexError):
    """A picture that cannot be drawn, because matplotlib cannot be used here."""


class UsageError(TinyalexError):
    """An invalid option, recipe key or value."""

    exit_code = 2


class ShapeError(UsageError, ValueError):
    """An array or a layer whose shape or dtype does not fit."""


class OrderError(UsageError, RuntimeError):
    """A call that needs another call before it: backward without its forward."""


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

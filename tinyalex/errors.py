"""What can go wrong, as a person should hear it: one line and an exit code.

Only `tinyalex.cli` prints these and exits; everything else raises them.
"""


class TinyalexError(Exception):
    """An error with a message for people; ``exit_code`` is what the command returns."""

    exit_code = 1


class UsageError(TinyalexError):
    """An option, a recipe key or a value that cannot be meant."""

    exit_code = 2


class ShapeError(UsageError, ValueError):
    """An array, or a layer, whose size does not fit what it meets."""


class DataError(TinyalexError):
    """Images, labels or a data set that cannot be used as they are."""

    exit_code = 3


class CheckpointError(TinyalexError):
    """Weights or a checkpoint that cannot be used as they are."""

    exit_code = 4


class DivergedError(TinyalexError):
    """Training produced numbers that are not finite."""

    exit_code = 5


class StalledError(DivergedError):
    """Training does not learn, or cannot begin to: its numbers are finite, but the loss stays that of guessing."""


class BusyError(TinyalexError):
    """A run folder that another process is writing to."""

    exit_code = 6


class StorageError(TinyalexError):
    """No space, or no permission, where something has to be written."""

    exit_code = 7


class DeviceError(TinyalexError):
    """A device that is not there, or that has no memory left."""

    exit_code = 8


class Interrupted(TinyalexError):
    """Stopped on request after a checkpoint was saved; the run can be resumed."""

    exit_code = 75

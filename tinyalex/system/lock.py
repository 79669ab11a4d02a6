"""A lock that lets one process write to a folder. The system releases it when the process ends, however it ends."""

import contextlib
import fcntl
import os
import platform
import re
from pathlib import Path

from tinyalex.errors import BusyError, StorageError
from tinyalex.system import ownership

NAME = ".lock"
_held: set[int] = set()  # descriptors of the locks that this process holds


def _after_fork():
    # The locks are the parent's; with a copy of its descriptors, a forked process would keep them when it has ended.
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_after_fork)


def is_lock(path):
    """Return whether there is a file with the contents of a lock: nothing, or the process that writes to its folder."""
    return path.is_file() and not path.is_symlink() and _fits(path.read_bytes())


def _fits(content):
    return not content or re.fullmatch(rb"process \d+ on \S*", content) is not None


@contextlib.contextmanager
def hold(folder, doing, other):
    """In the block, lock a folder for this process; the folder is created if it is missing.

    Parameters
    ----------
    folder : str or Path
    doing : str
        What this process does there, for the error message of a second one: "training".
    other : str
        The option or argument that gives another folder: "--out".

    Raises
    ------
    BusyError
        If another process holds the lock; the message names that process and its machine.
    StorageError
        If the file system has no locks, or there is a file of the lock's name that tinyalex did not make.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    path = Path(folder) / NAME
    if is_lock(path):  # of an earlier version; if it is not, nothing is lost: an empty file is left empty
        ownership.adopt(Path(folder), [], growing=[NAME])
    ownership.claim(path)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    _held.add(descriptor)
    try:
        if not _fits(os.pread(descriptor, 1000, 0)):
            raise StorageError(f"{path}: was not made by tinyalex; move it, or give another {other}")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = os.pread(descriptor, 1000, 0).decode("utf-8", "replace") or "it has just started"
            if os.fstat(descriptor).st_nlink > 1:
                what = f"is a hard link, and another process is {doing} in the folder of the same file ({who})"
                raise BusyError(f"{path}: {what}; copy the folder without hard links, or wait for it") from None
            raise BusyError(
                f"{folder}: another process is {doing} here ({who}); wait for it or give another {other}"
            ) from None
        except OSError as error:
            raise StorageError(
                f"{folder}: cannot be locked ({error.strerror}); give another {other}, on a file system that has locks"
            ) from error
        with contextlib.suppress(OSError):  # the lock also works on a full disk
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {platform.node()}".encode(), 0)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                if descriptor in _held:  # else this is a forked process
                    os.ftruncate(descriptor, 0)
    finally:
        if descriptor in _held:
            _held.remove(descriptor)
            os.close(descriptor)

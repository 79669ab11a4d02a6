"""One writer a folder: a lock that says who holds it, and that the kernel opens when the holder ends."""

import contextlib
import fcntl
import os
import platform
from pathlib import Path

from tinyalex.errors import BusyError, StorageError

NAME = ".lock"


@contextlib.contextmanager
def hold(folder, doing, other):
    """Keep a folder, made if it is missing, to this process.

    Parameters
    ----------
    folder : str or Path
    doing : str
        What this process does there, for whoever comes second: "training".
    other : str
        What names another folder: "--out".

    Raises
    ------
    BusyError
        If another process holds it; the line names that process and its machine.
    StorageError
        If the disk cannot lock a file.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    file = os.open(Path(folder) / NAME, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = os.pread(file, 1000, 0).decode("utf-8", "replace") or "it has just begun"
            raise BusyError(
                f"{folder}: another process is {doing} here ({who}); wait for it or give another {other}"
            ) from None
        except OSError as error:
            raise StorageError(
                f"{folder}: cannot be locked ({error.strerror}); give another {other}, on a disk that knows locks"
            ) from error
        with contextlib.suppress(OSError):  # on a full disk it is a lock all the same
            os.ftruncate(file, 0)
            os.pwrite(file, f"process {os.getpid()} on {platform.node()}".encode(), 0)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.ftruncate(file, 0)
    finally:
        os.close(file)

"""Files that are there whole or not at all: written beside, flushed to the disk, then renamed."""

import contextlib
import errno
import os
import shutil
from pathlib import Path

from tinyalex.errors import StorageError


@contextlib.contextmanager
def atomic_write(path):
    """Open a file to write bytes to, which takes its name when all of it is on the disk.

    Parameters
    ----------
    path : str or Path
        Its folder is made when missing; a file of this name is replaced. Only one process may write it at a time.

    Yields
    ------
    binary file

    Raises
    ------
    StorageError
        No space or no permission. Whatever went wrong, a file that was there before is as it was.
    """
    path = Path(path)
    temporary = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            yield file
        flush(temporary)
        os.replace(temporary, path)
        flush(path.parent)
    except OSError as error:
        remove(temporary)
        raise StorageError(
            f"{path}: cannot be written ({error.strerror or error}); make room and check permissions"
        ) from error
    except BaseException:  # Ctrl-C included
        remove(temporary)
        raise


def write_text(path, text):
    """Write a small text file so that a reader finds all of it or the one before; StorageError when that fails."""
    with atomic_write(path) as file:
        file.write(text.encode())


def flush(path):
    """Have the disk hold what was written to a file, or the names in a folder; the next read comes from the disk.

    Some file systems keep a folder's names by themselves, and refuse.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not os.path.isdir(path):
                raise
        if hasattr(os, "posix_fadvise"):  # not on macOS, where it may come from memory
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def need_room(path, size):
    """Refuse to begin what will not fit on a file's disk.

    Raises
    ------
    StorageError
        If fewer than ``size`` bytes are free there.
    """
    folder = next(folder for folder in Path(path).absolute().parents if folder.is_dir())
    free = shutil.disk_usage(folder).free
    if size > free:
        raise StorageError(f"{path}: needs {size:,} bytes, {free:,} are free on that disk; make room")


def remove(path):
    """Remove a file if it is there and can be removed."""
    with contextlib.suppress(OSError):
        os.unlink(path)

"""Atomic file writes: to a temporary file, which is flushed to the disk and then renamed."""

import contextlib
import errno
import os
import shutil
from pathlib import Path

from tinyalex.errors import StorageError


@contextlib.contextmanager
def replacing(path, temporary, verify=None):
    """In the block the caller writes a temporary file; after it, this flushes the file and renames it to `path`.

    If anything fails, in the block or after it, the temporary file is removed and a file at `path` stays as it was.

    Parameters
    ----------
    path : Path
        Its folder is created if it is missing.
    temporary : Path
        In the same folder.
    verify : callable, optional
        Called between the flush and the renaming, to check what is on the disk; it raises an error to stop there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
        flush(temporary)
        if verify:
            verify()
        os.replace(temporary, path)
        flush(path.parent)
    except BaseException:  # Ctrl-C included
        remove(temporary)
        raise


@contextlib.contextmanager
def atomic_write(path):
    """Open a binary file for writing; it gets its name when the block ends and all of it is on the disk.

    Parameters
    ----------
    path : str or Path
        Its folder is created if missing; a file of this name is replaced. Only one process may write it at a time.

    Yields
    ------
    binary file

    Raises
    ------
    StorageError
        No space or no permission. Whatever fails, a file that was there before stays as it was.
    """
    path = Path(path)
    temporary = path.with_name(path.name + ".part")
    try:
        with replacing(path, temporary), open(temporary, "wb") as file:
            yield file
    except OSError as error:
        raise StorageError(
            f"{path}: cannot be written ({error.strerror or error}); make room and check permissions"
        ) from error


def write_text(path, text):
    """Write a small text file atomically; StorageError if that fails."""
    with atomic_write(path) as file:
        file.write(text.encode())


def flush(path):
    """Flush a file, or the names in a folder, to the disk, and drop it from the cache: the next read is from the disk.

    Some file systems refuse to flush a folder, since they write its names at once; that is no error.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not os.path.isdir(path):
                raise
        if hasattr(os, "posix_fadvise"):  # macOS has none: there the next read may come from the cache
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def need_room(path, size):
    """Check that the disk of a file has room for it, before it is written.

    Raises
    ------
    StorageError
        If fewer than ``size`` bytes are free there.
    """
    folder = next(folder for folder in Path(path).absolute().parents if folder.is_dir())
    free = shutil.disk_usage(folder).free
    if size > free:
        raise StorageError(f"{path}: needs {size:,} bytes, but {free:,} are free on that disk; make room")


def remove(path):
    """Remove a file; no error if it does not exist or cannot be removed."""
    with contextlib.suppress(OSError):
        os.unlink(path)

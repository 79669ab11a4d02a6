"""Atomic file writes: to a temporary file, which is flushed to the disk and then renamed.

A file that tinyalex did not make is never replaced: see `tinyalex.system.ownership`.
"""

import contextlib
import errno
import os
import shutil
from pathlib import Path

from tinyalex.errors import StorageError
from tinyalex.system import ownership


@contextlib.contextmanager
def replacing(path, verify=None, contents_hash=None, new=False):
    """In the block the caller fills a temporary file; after it, this flushes the file and renames it to `path`.

    If anything fails, in the block or after it, the temporary file is removed and a file at `path` stays as it was.

    Parameters
    ----------
    path : Path
        Its folder is created if it is missing.
    verify : callable, optional
        Called with the temporary file between the flush and the renaming, to check what is on the disk; it raises an
        error to stop there.
    contents_hash : str, optional
        `ownership.digest` of what is written; None for large files and files that grow.
    new : bool
        Refuse any file that is at `path`, and leave no marker in its folder: for single files that a user names.

    Yields
    ------
    Path
        The temporary file, empty, in the same folder.

    Raises
    ------
    StorageError
        If there is a file at `path` that tinyalex did not make.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _check(path, new)
    temporary = ownership.unlisted_partial(path) if new else ownership.partial(path)
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        yield temporary
        flush(temporary)
        if verify:
            verify(temporary)
        if new:
            _check(path, new)
        else:
            ownership.claim([path], contents_hash)
        os.replace(temporary, path)
        flush(path.parent)
    except BaseException:  # Ctrl-C included
        remove(temporary)
        raise


@contextlib.contextmanager
def atomic_write(path, contents_hash=None, new=False):
    """Open a binary file for writing; it gets its name when the block ends and all of it is on the disk.

    Parameters
    ----------
    path : str or Path
        Its folder is created if missing; a file of this name that tinyalex made is replaced. Only one process may
        write it at a time.
    contents_hash, new
        See `replacing`.

    Yields
    ------
    binary file

    Raises
    ------
    StorageError
        No space or no permission, or a file of this name that tinyalex did not make. Whatever fails, a file that was
        there before stays as it was.
    """
    path = Path(path)
    try:
        with replacing(path, None, contents_hash, new) as temporary, open(temporary, "wb") as file:
            yield file
    except OSError as error:
        raise StorageError(
            f"{path}: cannot be written ({error.strerror or error}); make room and check permissions"
        ) from error


def write_bytes(path, content, new=False):
    """Write a small file atomically, unless a file of this name has these contents already; see `atomic_write`."""
    if os.path.isfile(path) and not os.path.islink(path):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            if file.read(len(content) + 1) == content:
                return
    with atomic_write(path, ownership.digest(content), new) as file:
        file.write(content)


def write_text(path, text):
    """Write a small text file: see `write_bytes`."""
    write_bytes(path, text.encode())


def _check(path, new):
    if not new:
        ownership.check(path)
    elif os.path.lexists(path):
        raise StorageError(f"{path}: exists already; give another name")


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

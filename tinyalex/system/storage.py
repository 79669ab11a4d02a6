"""Atomic file writes: to a temporary file, which is flushed to the disk and then renamed.

A file that tinyalex did not make is never replaced: see `tinyalex.system.ownership`.
"""

import contextlib
import errno
import os
import shutil
from pathlib import Path

from tinyalex.errors import ForeignFileError, StorageError
from tinyalex.system import ownership

_STAMP = object()  # a file is recognised by its stamp


@contextlib.contextmanager
def replacing(path, verify=None, identity=_STAMP, may_replace=None):
    """In the block the caller fills a temporary file; after it, this flushes the file and renames it to `path`.

    If anything fails, in the block or after it, the temporary file is removed and a file at `path` stays as it was.

    Parameters
    ----------
    path : Path
        Its folder is created if it is missing.
    verify : callable, optional
        Called with the temporary file between the flush and the renaming, to check what is on the disk; it raises an
        error to stop there.
    identity : str or None, optional
        How the file is recognised later: by `ownership.digest` of what is written; None, for a file that grows, by its
        name; default: by its `ownership.stamp`.
    may_replace : callable, optional
        For single files that a user names: leave no marker in the folder, and replace a file only if
        ``may_replace(path)``, which recognises it by its contents.

    Yields
    ------
    Path
        The temporary file, empty, in the same folder.

    Raises
    ------
    ForeignFileError
        If there is a file at `path` that tinyalex did not make.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    check(path, may_replace)
    ownership.remove_partial_files(path.parent, of=path)
    temporary = ownership.partial(path)
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    ownership.writing.add(os.path.abspath(temporary))
    try:
        yield temporary
        flush(temporary)
        if verify:
            verify(temporary)
        if may_replace is None:
            ownership.claim(path, ownership.stamp(temporary) if identity is _STAMP else identity)
            os.replace(temporary, path)
        else:
            _rename(temporary, path, may_replace)
        flush(path.parent)
    except BaseException:  # Ctrl-C included
        remove(temporary)
        raise
    finally:
        ownership.writing.discard(os.path.abspath(temporary))


def _rename(temporary, path, may_replace):
    # A file that appears under the name at this moment is not replaced: a new hard link never replaces a file.
    check(path, may_replace)
    if not os.path.lexists(path):
        try:
            os.link(temporary, path, follow_symlinks=False)
        except FileExistsError:
            check(path, may_replace)
        except OSError:  # the file system has no hard links
            pass
        else:
            os.unlink(temporary)
            return
    os.replace(temporary, path)


def check(path, may_replace=None):
    """Raise ForeignFileError if `replacing` would have to replace a file of somebody else."""
    if may_replace is None:
        ownership.check(path)
    elif os.path.lexists(path) and not (path.is_file() and not path.is_symlink() and may_replace(path)):
        raise ForeignFileError(f"{path}: exists already, and is not one that this command made; give another name")


@contextlib.contextmanager
def atomic_write(path, identity=_STAMP, may_replace=None):
    """Open a binary file for writing; it gets its name when the block ends and all of it is on the disk.

    Parameters
    ----------
    path : str or Path
        Its folder is created if missing; a file of this name that tinyalex made is replaced. Only one process may
        write it at a time.
    identity, may_replace
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
        with replacing(path, None, identity, may_replace) as temporary, open(temporary, "wb") as file:
            yield file
    except OSError as error:
        raise StorageError(
            f"{path}: cannot be written ({error.strerror or error}); make room and check permissions"
        ) from error


def write_bytes(path, content, may_replace=None):
    """Write a small file atomically, unless a file of this name has these contents already; see `atomic_write`."""
    if os.path.isfile(path) and not os.path.islink(path):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            if file.read(len(content) + 1) == content:
                return
    with atomic_write(path, ownership.digest(content), may_replace) as file:
        file.write(content)


def write_text(path, text):
    """Write a small text file: see `write_bytes`."""
    write_bytes(path, text.encode())


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


def drop_cached(descriptor, offset, length):
    """Drop a part of a file from the system's page cache, so that its next reading is the disk's; not on macOS."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, offset, length, os.POSIX_FADV_DONTNEED)

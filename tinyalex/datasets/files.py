"""Read the files of a data set one by one, from a folder or from a tar archive.

Archives are read as a stream: nothing is extracted, and only regular files with safe names are used.
"""

import os
import tarfile
import zipfile
from pathlib import Path

from tinyalex.datasets import containers, tars
from tinyalex.errors import DataError

_LARGEST = 256 << 20  # bytes: CIFAR's own files have 30 MB
_DEEPEST = 3  # levels of folders: cifar10/train/cat


def read_files(path, wanted):
    """Read the wanted files below a folder or in a tar (plain, gz, bz2 or xz).

    Parameters
    ----------
    path : Path
    wanted : function of a tuple of str to bool
        Called with the parts of a file's name, ``("train", "cat", "1.jpg")``.

    Yields
    ------
    parts : tuple of str
    content : bytes

    Raises
    ------
    DataError
        If there is nothing at ``path``, or it cannot be read.
    """
    if path.is_dir():
        return _read_folder(path, wanted)
    if path.is_file():
        try:
            reason = containers.refusal(path)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
        if reason or zipfile.is_zipfile(path):
            raise DataError(f"{path}: {reason or 'is a zip, which training does not read'}")
        return _read_tar(path, wanted)
    raise DataError(f"{path}: no such folder or file; give a folder or tar of images, `shapes` or `cifar10`")


def _read_folder(path, wanted):
    for folder, subfolders, names in os.walk(path, onerror=_unreadable):
        depth = len(Path(folder).relative_to(path).parts)
        subfolders[:] = sorted(subfolders) if depth < _DEEPEST else []
        for name in sorted(names):
            file = Path(folder, name)
            parts = file.relative_to(path).parts
            if wanted(parts) and file.is_file():
                try:
                    size = file.stat().st_size
                    content = file.read_bytes() if size <= _LARGEST else b""
                except OSError as error:
                    _unreadable(error)
                yield parts, _checked(file, size, content)


def _unreadable(error):
    raise DataError(f"{error.filename}: cannot be read ({error.strerror}); check its permissions") from error


def _read_tar(path, wanted):
    with tars.damage(path), tarfile.open(path, "r|*") as archive:
        for member in tars.walk(archive):
            if not tars.refusal(member) and wanted(tars.parts(member)):
                content = archive.extractfile(member).read() if member.size <= _LARGEST else b""
                yield tars.parts(member), _checked(f"{path}: {member.name}", member.size, content)


def _checked(name, size, content):
    if size > _LARGEST:
        raise DataError(f"{name}: {size:,} bytes is larger than any file of these data sets; remove it")
    if len(content) != size:
        raise DataError(f"{name}: ends after {len(content):,} of {size:,} bytes; fetch it again")
    return content

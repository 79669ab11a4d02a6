"""Download CIFAR-10 from its public address and check its MD5 sum."""

import contextlib
import hashlib
import http.client
import os
import tempfile
import urllib.request
from pathlib import Path

from tinyalex.datasets.streams import copy_blocks
from tinyalex.errors import DataError, StorageError

ADDRESS = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
MD5 = {
    "cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530",
    "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
}
NAMES = (*MD5, "cifar-10-batches-bin", "cifar-10-batches-py", "cifar10", "cifar10-jpeg.tar.xz")


def cifar10(folder=Path("data")):
    """Return the path of CIFAR-10 below a folder, in whatever form it is there; download it if it is not.

    Raises
    ------
    DataError
        If it cannot be downloaded, or its MD5 sum is not the known one.
    StorageError
        If it cannot be written.
    """
    for name in NAMES:
        if (folder / name).exists():
            return folder / name
    return fetch(ADDRESS, folder / NAMES[0], MD5[NAMES[0]])


def fetch(address, target, md5):
    """Download to a temporary file beside ``target`` and rename it once its MD5 sum is right.

    Parameters
    ----------
    address : str
    target : Path
    md5 : str
        32 hexadecimal digits.

    Returns
    -------
    Path
        ``target``.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise StorageError(
            f"{target.parent}: cannot be written to ({error.strerror}); choose another folder"
        ) from error
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb", buffering=0) as file:
            found = _copy(address, target, file)
        if found != md5:
            raise DataError(f"{address}: MD5 is {found}, not {md5}; the file is damaged or has changed, try again")
        if os.path.lexists(target):  # made meanwhile, or a link to nowhere
            raise StorageError(f"{target}: exists already; move it, or choose another folder")
        temporary.replace(target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
    return target


def _writer(file, target):
    # A full disk is reported as such, not as a failed download.
    def write(block):
        rest = memoryview(block)
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except OSError as error:
            raise StorageError(f"{target}: cannot be written ({error.strerror}); free some space") from error

    return write


def _copy(address, target, file):
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with urllib.request.urlopen(address, timeout=30) as source:
            total = int(source.headers.get("Content-Length") or 0) or None
            copy_blocks(source.read, (_writer(file, target), digest.update), target.name, total)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(
            f"{address}: cannot be downloaded ({reason}); download it elsewhere and put it at {target}"
        ) from error
    return digest.hexdigest()

"""CIFAR-10 from its public address, checked."""

import contextlib
import hashlib
import http.client
import os
import tempfile
import urllib.request
from pathlib import Path

from tinyalex.datasets.streams import pump
from tinyalex.errors import DataError, StorageError

ADDRESS = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
MD5 = {
    "cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530",
    "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
}
PLACES = (*MD5, "cifar-10-batches-bin", "cifar-10-batches-py", "cifar10", "cifar10-jpeg.tar.xz")


def cifar10(folder=Path("data")):
    """Give the path of CIFAR-10 below a folder: what is there in any form, or a fresh download.

    Raises
    ------
    DataError
        If it cannot be fetched, or is not what it was when this was written.
    StorageError
        If it cannot be kept.
    """
    for place in PLACES:
        if (folder / place).exists():
            return folder / place
    return fetch(ADDRESS, folder / PLACES[0], MD5[PLACES[0]])


def fetch(address, target, md5):
    """Download a file, beside its place first, and move it there once its MD5 sum is right.

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
    beside = Path(name)
    try:
        with os.fdopen(handle, "wb", buffering=0) as file:
            found = _copy(address, target, file)
        if found != md5:
            raise DataError(f"{address}: MD5 is {found}, not {md5}; a damaged or another file, try again")
        beside.replace(target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()
    return target


def _writer(file, target):
    # A full disk is no fault of the network's.
    def write(block):
        rest = memoryview(block)
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except OSError as error:
            raise StorageError(f"{target}: cannot be written ({error.strerror}); make room") from error

    return write


def _copy(address, target, file):
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with urllib.request.urlopen(address, timeout=30) as source:
            total = int(source.headers.get("Content-Length") or 0) or None
            pump(source.read, (_writer(file, target), digest.update), target.name, total)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(
            f"{address}: cannot be fetched ({reason}); download it elsewhere and put it at {target}"
        ) from error
    return digest.hexdigest()

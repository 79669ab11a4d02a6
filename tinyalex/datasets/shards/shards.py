"""A shard: a file of a few hundred images of one size, with their labels and a hash of each.

Little-endian: 16 bytes of magic; 16 bytes that name the plan by which the set was prepared; uint32 split (0 train,
1 test), number of the shard, count, size S; int32 labels (count,); 8 bytes of hash for each image; then the images,
uint8 (count, S, S, 3). The hash of a shard is that of all before the images, and so covers them as well.
"""

import errno
import hashlib
import os
import struct
import time
from pathlib import Path

import numpy as np

from tinyalex.errors import DataError, StorageError
from tinyalex.system import storage

SPLITS = ("train", "test")
_MAGIC = b"tinyalex shard 1"
_HEAD = struct.Struct("<16s16s4I")
_WAITS = (0.1, 0.5, 2.0)  # seconds before each further try to read
_REMEDY = "copy it again from where it is whole, or remove it and prepare the set again"


def file_name(split, number):
    """Name a shard's file: ``train-00000.shard``."""
    return f"{split}-{number:05d}.shard"


def record_hash(record):
    """Hash an image, uint8 (S, S, 3); 8 bytes."""
    return hashlib.blake2b(np.ascontiguousarray(record), digest_size=8).digest()


def write(path, plan, split, number, labels, records):
    """Write a shard, whole or not at all.

    Parameters
    ----------
    path : str or Path
        ``folder / file_name(split, number)``.
    plan : str
        32 hexadecimal digits.
    split : "train" or "test"
    number : int
        Of the shard within its split, from 0.
    labels : integers (n,)
    records : uint8 (n, S, S, 3)

    Returns
    -------
    str
        The shard's hash, 32 hexadecimal digits: what the manifest keeps.

    Raises
    ------
    StorageError
        No space or no permission; nothing is left behind then.
    """
    records = np.ascontiguousarray(records, np.uint8)
    labels = np.asarray(labels).astype("<i4")
    fixed = _HEAD.pack(_MAGIC, bytes.fromhex(plan), SPLITS.index(split), number, len(records), records.shape[1])
    head = fixed + labels.tobytes() + b"".join(map(record_hash, records))
    with storage.atomic_write(path) as file:
        file.write(head)
        file.write(records.reshape(-1))
    return _hash(head)


class Shard:
    """A shard, open for reading; several threads may read at once.

    The file stays open, so that it may be renamed or removed meanwhile.

    Parameters
    ----------
    folder : str or Path
    manifest : dict
        From `tinyalex.datasets.shards.manifest.read`: what the shard has to be.
    split : "train" or "test"
    number : int

    Attributes
    ----------
    path : Path
    labels : int64 (count,)
    hashes : uint64 (count,)
        `record_hash` of each image, as a little-endian number.

    Raises
    ------
    DataError
        If the file is missing, cut, not the one that is meant, or damaged before its images, or if a label is no class.
    StorageError
        If this process may not have so many files open.
    """

    def __init__(self, folder, manifest, split, number):
        entry, classes = manifest["splits"][split]["shards"][number], len(manifest["classes"])
        self.path, self._plan, self._name = Path(folder) / entry["file"], manifest["plan"], (split, number)
        self._count, self._digest, self._size = entry["count"], entry["hash"], manifest["size"]
        self._offset, self._bytes = _HEAD.size + 12 * self._count, 3 * self._size**2
        try:
            head = self._open()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise StorageError(f"{self.path}: {error.strerror}; allow more with ulimit -n") from error
            raise DataError(f"{self.path}: cannot be opened ({error.strerror}); {_REMEDY}") from error
        self.labels = np.frombuffer(head, "<i4", self._count, _HEAD.size).astype(np.int64)
        self.hashes = np.frombuffer(head, "<u8", self._count, _HEAD.size + 4 * self._count).astype(np.uint64)
        # Here, on the host: on a device a label that is too large would quietly become another.
        for at in np.flatnonzero((self.labels < 0) | (self.labels >= classes))[:1]:
            self._refuse(f"image {at}: label {self.labels[at]}, but {classes} classes")

    def __len__(self):
        return self._count

    def read(self, first, rows):
        """Read neighbouring images.

        Parameters
        ----------
        first : int
            Number of the first, within the shard.
        rows : list of uint8 (S, S, 3)
            To be filled.

        Raises
        ------
        DataError
            If that fails four times, within some seconds.
        """
        for wait in (0, *_WAITS):
            try:
                if wait:
                    time.sleep(wait)
                    self._open()
                file = self._file  # held while it is read, should another thread open it again
                if os.preadv(file.descriptor, rows, self._offset + first * self._bytes) == len(rows) * self._bytes:
                    return
                problem = "ends early"
            except OSError as error:
                problem = error.strerror
        raise DataError(f"{self.path}: image {first}: cannot be read ({problem}); check the disk, then {_REMEDY}")

    def damaged(self, at, image):
        """Tell what is wrong with image number ``at`` as it was read: a line, or None if it is as it was prepared."""
        if int.from_bytes(record_hash(image), "little") == self.hashes[at]:
            return None
        return f"{self.path}: image {at}: its pixels are not as they were prepared; {_REMEDY}"

    def _open(self):
        # Open the file, if it is the one that is meant; return what stands before its images.
        file = _File(self.path)
        head = os.pread(file.descriptor, self._offset, 0)
        magic, plan, split, number, count, size = _HEAD.unpack(head[: _HEAD.size].ljust(_HEAD.size, b"\0"))
        there, meant = os.fstat(file.descriptor).st_size, self._offset + self._count * self._bytes
        if magic != _MAGIC:
            self._refuse("not a shard, or a damaged one")
        if plan.hex() != self._plan:
            self._refuse("of another prepared set")
        if (SPLITS[split % 2], number) != self._name:
            self._refuse(f"is {file_name(SPLITS[split % 2], number)} under another name")
        if (count, size) != (self._count, self._size):
            self._refuse(f"{count} images of {size} x {size}, not {self._count} of {self._size} x {self._size}")
        if there != meant:
            self._refuse(f"{there:,} bytes, not {meant:,}")
        if _hash(head) != self._digest:
            self._refuse("its labels or hashes are not as they were prepared")
        self._file = file
        return head

    def _refuse(self, what):
        raise DataError(f"{self.path}: {what}; {_REMEDY}")


class _File:
    """An open file that is closed when nobody holds it any more."""

    def __init__(self, path):
        self.descriptor = os.open(path, os.O_RDONLY)

    def __del__(self):
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


def _hash(head):
    return hashlib.blake2b(head, digest_size=16).hexdigest()

"""A shard: a file of a few hundred images of one size, with their labels and a hash of each.

Little-endian: 16 bytes of magic; 16 bytes that identify the plan by which the set was prepared; uint32 split (0 train,
1 test), number of the shard, count, size S; int32 labels (count,); 8 bytes of hash for each image; then the images,
uint8 (count, S, S, 3). A shard's hash is that of everything before the images; as this includes the images' hashes, it
covers them as well.

In a set of JPEG files, a shard has another magic, and its images are these files, of any length, one after the other.
Before them, 8 bytes of hash for each file and uint32 its length follow the hashes, which are those of the decoded
pixels.
"""

import errno
import hashlib
import itertools
import os
import struct
import time
from pathlib import Path

import numpy as np

from tinyalex.datasets.shards import jpeg
from tinyalex.errors import DataError, StorageError
from tinyalex.system import storage

SPLITS = ("train", "test")
_MAGIC, _MAGIC_JPEG = b"tinyalex shard 1", b"tinyalex shard 2"
_HEAD = struct.Struct("<16s16s4I")
_RETRY_WAITS = (0.1, 0.5, 2.0)  # seconds before each further try to read
_REMEDY = "copy it again from an intact set, or remove it and run the same tinyalex prepare again"


def file_name(split, number):
    """Return the name of a shard's file: ``train-00000.shard``."""
    return f"{split}-{number:05d}.shard"


def record_hash(record):
    """Hash an image, uint8 (S, S, 3); 8 bytes."""
    return _short_hash(np.ascontiguousarray(record))


def write(path, plan, split, number, labels, records):
    """Write a shard, completely or not at all.

    Parameters
    ----------
    path : str or Path
        ``folder / file_name(split, number)``.
    plan : str
        32 hexadecimal digits.
    split : "train" or "test"
    number : int
        Number of the shard within its split, from 0.
    labels : integers (n,)
    records : uint8 (n, S, S, 3)

    Returns
    -------
    str
        The shard's hash for the manifest, 32 hexadecimal digits.

    Raises
    ------
    StorageError
        If there is no space or no permission; then no file is left behind.
    """
    records = np.ascontiguousarray(records, np.uint8)
    head = _head(_MAGIC, plan, split, number, labels, records)
    with storage.atomic_write(path) as file:
        file.write(head)
        file.write(records.reshape(-1))
    return _hash(head)


def write_jpeg(path, plan, split, number, labels, records, files):
    """Write a shard of JPEG files, completely or not at all.

    Parameters
    ----------
    path, plan, split, number, labels
        See `write`.
    records : uint8 (n, S, S, 3)
        The pixels of the decoded files.
    files : list of bytes, of length n

    Returns
    -------
    str
        As `write`.
    """
    lengths = np.array([len(file) for file in files], "<u4").tobytes()
    head = _head(_MAGIC_JPEG, plan, split, number, labels, records) + b"".join(map(_short_hash, files)) + lengths
    with storage.atomic_write(path) as stream:
        stream.write(head)
        for file in files:
            stream.write(file)
    return _hash(head)


def _head(magic, plan, split, number, labels, records):
    fixed = _HEAD.pack(magic, bytes.fromhex(plan), SPLITS.index(split), number, len(records), records.shape[1])
    return fixed + np.asarray(labels).astype("<i4").tobytes() + b"".join(map(record_hash, records))


def is_shard(path):
    """Return whether a file begins as a shard does."""
    with open(path, "rb") as file:
        return file.read(len(_MAGIC)) in (_MAGIC, _MAGIC_JPEG)


def is_shard_of(path, plan, split, number):
    """Return whether there is a file, not a link, that begins as a certain shard of a plan does."""
    begin = struct.pack("<16s2I", bytes.fromhex(plan), SPLITS.index(split), number)
    if not path.is_file() or path.is_symlink() or not is_shard(path):
        return False
    with open(path, "rb") as file:
        return file.read(len(_MAGIC) + len(begin))[len(_MAGIC) :] == begin


class Shard:
    """A shard, open for reading; several threads may read at a time.

    The file stays open, so reading still works if it is renamed or removed.

    Parameters
    ----------
    folder : str or Path
    manifest : dict
        From `tinyalex.datasets.shards.manifest.read`: what the shard has to match.
    split : "train" or "test"
    number : int

    Attributes
    ----------
    path : Path
    labels : int64 (count,)
    hashes : uint64 (count,)
        `record_hash` of each image, as a little-endian number.
    foreign_decoder : str
        For JPEG files that another version of the library decoded when the set was prepared, both versions: the last
        bits of pixels may differ then. Else "".

    Raises
    ------
    DataError
        If the file is missing, truncated, another shard than expected, or damaged before its images, or if a label is
        not a class.
    StorageError
        If the system does not allow this process so many open files.
    """

    def __init__(self, folder, manifest, split, number):
        entry, classes = manifest["splits"][split]["shards"][number], len(manifest["classes"])
        self.path, self._plan, self._name = Path(folder) / entry["file"], manifest["plan"], (split, number)
        self._count, self._digest, self._size = entry["count"], entry["hash"], manifest["size"]
        self._is_jpeg = "jpeg" in manifest
        self._offset = _HEAD.size + (24 if self._is_jpeg else 12) * self._count
        then, now = manifest.get("decoder", {}).get("libjpeg"), jpeg.library()
        differs = self._is_jpeg and then not in (None, now)
        self.foreign_decoder = f"libjpeg {then} then, {now} now" if differs else ""
        try:
            head = self._open()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise StorageError(f"{self.path}: {error.strerror}; raise the limit with ulimit -n") from error
            raise DataError(f"{self.path}: cannot be opened ({error.strerror}); {_REMEDY}") from error
        self.labels = np.frombuffer(head, "<i4", self._count, _HEAD.size).astype(np.int64)
        self.hashes = np.frombuffer(head, "<u8", self._count, _HEAD.size + 4 * self._count).astype(np.uint64)
        if self._is_jpeg:
            self._file_hashes = np.frombuffer(head, "<u8", self._count, _HEAD.size + 12 * self._count)
        # Checked here, because a GPU would take a label out of range for another class, without an error.
        for at in np.flatnonzero((self.labels < 0) | (self.labels >= classes))[:1]:
            self._refuse(f"image {at}: label {self.labels[at]}, but the classes are 0 to {classes - 1}")

    def __len__(self):
        return self._count

    def read(self, first, rows):
        """Read consecutive images.

        Parameters
        ----------
        first : int
            Number of the first image within the shard.
        rows : list of uint8 (S, S, 3)
            Arrays that are filled.

        Raises
        ------
        DataError
            If reading fails four times, over some seconds, or a JPEG file is damaged.
        """
        if not self._is_jpeg:
            self._fill(first, rows)
            return
        for at, (content, row) in enumerate(zip(self.fetch(first, len(rows)), rows, strict=True), first):
            self.unpack(at, content, row)

    def fetch(self, first, count):
        """Read consecutive images as they are stored: a list of pixels, uint8 (S, S, 3), or of JPEG files, bytes."""
        if not self._is_jpeg:
            rows = [np.empty((self._size, self._size, 3), np.uint8) for _ in range(count)]
            self._fill(first, rows)
            return rows
        whole = bytearray(int(self._ends[first + count] - self._ends[first]))
        self._fill(first, [whole])
        ends = (self._ends[first : first + count + 1] - self._ends[first]).tolist()
        return [bytes(memoryview(whole)[start:end]) for start, end in itertools.pairwise(ends)]

    def unpack(self, at, content, out):
        """Write the pixels of image number ``at``, as fetched, to an array; DataError if a JPEG file is damaged."""
        if not self._is_jpeg:
            out[...] = content
            return
        problem = None
        if int.from_bytes(_short_hash(content), "little") != self._file_hashes[at]:
            problem = "its JPEG file is not as it was prepared"
        else:
            try:
                jpeg.decode(content, self._size, out)
            except DataError as error:
                problem = f"its JPEG file cannot be decoded ({error})"
        if problem:
            self._refuse(f"image {at}: {problem}")

    def damaged(self, at, image):
        """Compare image number ``at``, as read, with its hash; return an error message, or None if it matches."""
        if int.from_bytes(record_hash(image), "little") == self.hashes[at]:
            return None
        return f"{self.path}: image {at}: its pixels are not as they were prepared; {_REMEDY}"

    def drop_cached(self, first, count):
        """Drop consecutive images from the system's page cache."""
        begin, end = int(self._ends[first]), int(self._ends[first + count])
        storage.drop_cached(self._file.descriptor, self._offset + begin, end - begin)

    def _fill(self, first, buffers):
        # Fill buffers with the bytes from an image on.
        wanted = sum(memoryview(buffer).nbytes for buffer in buffers)
        for wait in (0, *_RETRY_WAITS):
            try:
                if wait:
                    time.sleep(wait)
                    self._open()
                file = self._file  # keeps this descriptor open if another thread reopens the file
                if os.preadv(file.descriptor, buffers, self._offset + int(self._ends[first])) == wanted:
                    return
                problem = "ends early"
            except OSError as error:
                problem = error.strerror
        raise DataError(f"{self.path}: image {first}: cannot be read ({problem}); check the disk, then {_REMEDY}")

    def _open(self):
        # Open the file, check that it is the expected shard, and return the bytes before its images.
        file = _File(self.path)
        head = os.pread(file.descriptor, self._offset, 0)
        magic, plan, split, number, count, size = _HEAD.unpack(head[: _HEAD.size].ljust(_HEAD.size, b"\0"))
        found = os.fstat(file.descriptor).st_size
        if magic != (_MAGIC_JPEG if self._is_jpeg else _MAGIC):
            self._refuse("not a shard, or a damaged one")
        if plan.hex() != self._plan:
            self._refuse("belongs to another prepared set")
        if (SPLITS[split % 2], number) != self._name:
            self._refuse(f"is {file_name(SPLITS[split % 2], number)} under another name")
        if (count, size) != (self._count, self._size):
            self._refuse(f"{count} images of {size} x {size}, not {self._count} of {self._size} x {self._size}")
        lengths = np.full(count, 3 * size**2, np.int64)
        if self._is_jpeg and len(head) == self._offset:
            lengths = np.frombuffer(head, "<u4", count, self._offset - 4 * count).astype(np.int64)
        ends = np.concatenate([[0], np.cumsum(lengths)])
        if self._is_jpeg and _hash(head) != self._digest:  # before what its lengths say is believed
            self._refuse("its labels, hashes or lengths are not as they were prepared")
        if found != (expected := self._offset + int(ends[-1])):
            self._refuse(f"{found:,} bytes, not {expected:,}")
        if _hash(head) != self._digest:
            self._refuse("its labels or hashes are not as they were prepared")
        self._file, self._ends = file, ends
        return head

    def _refuse(self, what):
        raise DataError(f"{self.path}: {what}; {_REMEDY}")


class _File:
    """An open file that is closed when the last reference to it is dropped."""

    def __init__(self, path):
        self.descriptor = os.open(path, os.O_RDONLY)

    def __del__(self):
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


def _short_hash(content):
    return hashlib.blake2b(content, digest_size=8).digest()


def _hash(head):
    return hashlib.blake2b(head, digest_size=16).hexdigest()

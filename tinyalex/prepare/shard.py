"""The job of a worker process, one shard: read, decode, resize, add up, write."""

import contextlib
import functools
import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from PIL import __version__ as pillow

from tinyalex.datasets import picture, statistics
from tinyalex.datasets.shards import jpeg, shards
from tinyalex.errors import DataError, DeviceError, StorageError
from tinyalex.prepare import records
from tinyalex.system import ownership, storage
from tinyalex.words import counted

PER_SHARD = 512  # images; fewer in the last of a split, and where some could not be decoded
WORK = "work"  # folder in the set's folder for files that are needed until the set is complete
NEW = "new"  # folder in WORK for files that are being written
_HARMLESS = {"grey", "exif orientation"}  # properties of JPEG files that may be stored as they are


class Task(NamedTuple):
    """A shard to be made; picklable.

    Attributes
    ----------
    out : str
        Folder of the set.
    plan : str
        32 hexadecimal digits.
    split : "train" or "test"
    number : int
        Number of the shard within its split.
    size : int
        Side of an image.
    entries : list of Entry
        The images, in the order that they get in the shard.
    quality : int or None
        That of the JPEG files to store; None: pixels are stored.
    """

    out: str
    plan: str
    split: str
    number: int
    size: int
    entries: list
    quality: int | None = None

    @property
    def path(self):
        """The shard's file."""
        return Path(self.out) / shards.file_name(self.split, self.number)

    @property
    def record(self):
        """The file of its record."""
        return Path(self.out) / WORK / f"{self.path.stem}.record"

    def reading_order(self):
        """Return the indices of the entries in the order in which their bytes are stored."""
        return sorted(range(len(self.entries)), key=lambda i: (self.entries[i].file, self.entries[i].offset))


def make(task, reporter):
    """Make a shard and its record; the bytes depend on the task alone.

    Parameters
    ----------
    task : Task
    reporter : tinyalex.prepare.workers.Reporter
        Gets the position, in reading order, of the image that is being read.

    Returns
    -------
    int
        The number of images that could not be decoded.

    Raises
    ------
    DataError, StorageError
        If a source cannot be read, or the shard cannot be written, or a file of its name is somebody else's.
    """
    try:
        return _make(task, reporter)
    except MemoryError:
        images = f"{counted(len(task.entries), 'image')} of {task.size} x {task.size}"
        raise DeviceError(f"{task.path}: no memory for {images}; use fewer workers or a smaller --size") from None


def _make(task, reporter):
    images = _buffer(len(task.entries), task.size)
    reasons, odd, files = {}, Counter(), _Files(task) if task.quality else None
    with contextlib.closing(_Reader()) as reader:
        for part, i in enumerate(task.reading_order()):
            reporter.begin(part)
            content = reader.read(task.entries[i])
            try:
                images[i], unusual = _image(content, task.entries[i], task.size)
                odd.update(unusual)
                if files:
                    images[i] = files.add(i, images[i], content, unusual)
            except DataError as reason:
                reasons[i] = str(reason)
    kept = [i for i in range(len(images)) if i not in reasons]
    images = images[kept] if reasons else images
    labels = [task.entries[i].label for i in kept]
    total, products = statistics.pixel_sums(images)
    skipped = [[task.entries[i].name, reasons[i]] for i in sorted(reasons)]
    reporter.computed()
    name = task.plan, task.split, task.number

    def write(path):
        if files:
            return shards.write_jpeg(path, *name, labels, images, [files.content[i] for i in kept])
        return shards.write(path, *name, labels, images)

    digest, odd = _write(task, task.path, reporter, write), dict(sorted(odd.items()))
    jpegs = files.counts if files else {}
    record = records.Record(len(kept), digest, products.tolist(), skipped, odd, decoder(), total, jpegs)
    _write(task, task.record, reporter, lambda path: records.write(path, record))
    return len(skipped)


@functools.lru_cache(maxsize=1)
def _buffer(count, size):
    # Reused for every shard: new memory from the system would cost as much time as writing the file.
    return np.empty((count, size, size, 3), np.uint8)


def location(entry):
    """Return where an entry's bytes are, for messages."""
    is_own_file = os.path.basename(entry.file) == os.path.basename(entry.name)
    return entry.file if is_own_file else f"{entry.file}: {entry.name}"


def decoder():
    """Return the versions of the libraries that decode and resize, on which the last bits of pixels depend."""
    return {"pillow": pillow, "libjpeg": jpeg.library(), "filter": picture.FILTER}


class _Files:
    # The JPEG files of a shard, by the numbers of its entries, and what the manifest says of them.
    def __init__(self, task):
        self._task, self.content = task, {}
        self.counts = {"kept": 0, "bytes": 0, "squares": 0, "largest": 0}

    def add(self, number, pixels, source, unusual):
        # Take an entry's pixels and source file; return the pixels of the file that is stored.
        size, entry = self._task.size, self._task.entries[number]
        content, decoded = source, None
        if entry.form != "planes32" and not set(unusual) - _HARMLESS and len(source) <= pixels.nbytes:
            with contextlib.suppress(DataError):  # of another size, as a rule
                decoded = jpeg.decode(source, size)
        kept = decoded is not None and np.array_equal(decoded, pixels)
        if not kept:
            content = jpeg.encode(pixels, self._task.quality)
            decoded = jpeg.decode(content, size)
        differences = np.abs(decoded.astype(np.int64) - pixels)
        self.content[number] = content
        self.counts["kept"] += kept
        self.counts["bytes"] += len(content)
        self.counts["squares"] += int((differences**2).sum())
        self.counts["largest"] = max(self.counts["largest"], int(differences.max()))
        return decoded


def _image(content, entry, size):
    # Return an entry's image, uint8 (S, S, 3), and a list of its unusual properties.
    if entry.form == "planes32":
        pixels = np.frombuffer(content, np.uint8).reshape(3, 32, 32).transpose(1, 2, 0)
        return picture.square(Image.fromarray(np.ascontiguousarray(pixels)), size), []
    try:
        image, odd = picture.decode(content)
        return picture.square(image, size), odd
    except MemoryError:
        raise DeviceError(f"{location(entry)}: no memory to decode it; use fewer workers") from None


def _write(task, path, reporter, write):
    # Write under a name with this process's number: a worker whose caller was killed may be writing the same shard.
    temporary = Path(task.out) / WORK / NEW / f"{os.getpid()}-{path.name}"
    written = write(temporary)
    reporter.exit_if_orphaned()
    ownership.claim(path, ownership.stamp(temporary))
    try:
        os.replace(temporary, path)
        storage.flush(path.parent)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror}); check its folder") from error
    return written


class _Reader:
    # Reads entries. The last file stays open, because in reading order the next entry is often in the same file.
    def __init__(self):
        self._file, self._descriptor = None, None

    def read(self, entry):
        try:
            if self._file != entry.file:
                self.close()
                self._descriptor = os.open(entry.file, os.O_RDONLY)
                self._file = entry.file
            content = os.pread(self._descriptor, entry.size, entry.offset)
        except PermissionError as error:
            raise StorageError(f"{entry.file}: cannot be read ({error.strerror}); check its permissions") from error
        except OSError as error:
            raise DataError(
                f"{location(entry)}: cannot be read ({error.strerror}); check the disk, then run the same command again"
            ) from error
        if len(content) != entry.size:
            raise DataError(f"{location(entry)}: it became shorter; do not change the sources during a preparation")
        return content

    def close(self):
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._file = self._descriptor = None

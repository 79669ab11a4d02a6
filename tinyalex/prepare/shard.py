"""One worker's work on one shard: read, decode, resize, add up, write."""

import contextlib
import functools
import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, features
from PIL import __version__ as pillow

from tinyalex.datasets import picture, statistics
from tinyalex.datasets.shards import shards
from tinyalex.errors import DataError, DeviceError, StorageError
from tinyalex.prepare import records
from tinyalex.system import storage

PER_SHARD = 512  # images; fewer in the last of a split, and where some could not be decoded
WORK = "work"  # folder, within that of the set, of what is there until the set is complete
NEW = "new"  # folder in there, of files that are not in their place yet


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
        Of the shard within its split.
    size : int
        Side of an image.
    entries : list of Entry
        In the order that they are to have in the shard.
    """

    out: str
    plan: str
    split: str
    number: int
    size: int
    entries: list

    @property
    def path(self):
        """The shard's file."""
        return Path(self.out) / shards.file_name(self.split, self.number)

    @property
    def record(self):
        """The file of its record."""
        return Path(self.out) / WORK / f"{self.path.stem}.record"

    def reading(self):
        """Numbers of the entries in the order in which they lie on the disk."""
        return sorted(range(len(self.entries)), key=lambda i: (self.entries[i].file, self.entries[i].offset))


def make(task, desk):
    """Make a shard and its record: the same bytes whoever makes it, whenever.

    Parameters
    ----------
    task : Task
    desk : tinyalex.prepare.workers.Desk
        Gets the number, in the order of reading, of the image that is at hand.

    Returns
    -------
    int
        How many of its images could not be decoded.

    Raises
    ------
    DataError, StorageError
        If a source cannot be read, or the shard cannot be written.
    """
    try:
        return _make(task, desk)
    except MemoryError:
        images = f"{len(task.entries)} images of {task.size} x {task.size}"
        raise DeviceError(f"{task.path}: no memory for {images}; use fewer workers or a smaller --size") from None


def _make(task, desk):
    images = _room(len(task.entries), task.size)
    reasons, odd = {}, Counter()
    with contextlib.closing(_Sources()) as sources:
        for part, i in enumerate(task.reading()):
            desk.at(part)
            content = sources.read(task.entries[i])
            try:
                images[i], unusual = _image(content, task.entries[i], task.size)
                odd.update(unusual)
            except DataError as reason:
                reasons[i] = str(reason)
    kept = [i for i in range(len(images)) if i not in reasons]
    images = images[kept] if reasons else images
    labels = [task.entries[i].label for i in kept]
    total, products = statistics.pixel_sums(images)
    skipped = [[task.entries[i].name, reasons[i]] for i in sorted(reasons)]
    desk.computed()
    name = task.plan, task.split, task.number
    digest = _put(task, task.path, desk, lambda path: shards.write(path, *name, labels, images))
    record = records.Record(len(kept), digest, products.tolist(), skipped, dict(sorted(odd.items())), decoder(), total)
    _put(task, task.record, desk, lambda path: records.write(path, record))
    return len(skipped)


@functools.lru_cache(maxsize=1)
def _room(count, size):
    # Kept from shard to shard: to get as much fresh memory from the system would cost as much as to write it.
    return np.empty((count, size, size, 3), np.uint8)


def where(entry):
    """Say where an entry's bytes are."""
    own = os.path.basename(entry.file) == os.path.basename(entry.name)
    return entry.file if own else f"{entry.file}: {entry.name}"


def decoder():
    """Tell the versions of what decodes and resizes, on which the last bits of pixels depend."""
    turbo = features.version("libjpeg_turbo")
    jpeg = f"turbo {turbo}" if turbo else features.version("jpg")
    return {"pillow": pillow, "libjpeg": str(jpeg), "filter": picture.FILTER}


def _image(content, entry, size):
    # The square uint8 (S, S, 3) of an entry, and what was unusual about it.
    if entry.form == "planes32":
        pixels = np.frombuffer(content, np.uint8).reshape(3, 32, 32).transpose(1, 2, 0)
        return picture.square(Image.fromarray(np.ascontiguousarray(pixels)), size), []
    try:
        image, odd = picture.decode(content)
        return picture.square(image, size), odd
    except MemoryError:
        raise DeviceError(f"{where(entry)}: no memory to decode it; use fewer workers") from None


def _put(task, path, desk, write):
    # Under a name of this process first: one whose caller was killed may still be at the same shard.
    beside = Path(task.out) / WORK / NEW / f"{os.getpid()}-{path.name}"
    written = write(beside)
    desk.needed()
    try:
        os.replace(beside, path)
        storage.flush(path.parent)
    except OSError as error:
        raise StorageError(f"{path}: cannot be put in place ({error.strerror}); check its folder") from error
    return written


class _Sources:
    # Reads entries; holds the file open that it read last, which in their order is often the next one too.
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
                f"{where(entry)}: cannot be read ({error.strerror}); when it can, the same command goes on from here"
            ) from error
        if len(content) != entry.size:
            raise DataError(f"{where(entry)}: shorter than it was; leave the sources as they are while they are read")
        return content

    def close(self):
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._file = self._descriptor = None

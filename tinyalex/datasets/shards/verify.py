"""Verify a prepared set: quickly everything except the pixels, or in full every byte and the statistics."""

import math
import threading
from pathlib import Path

import numpy as np

from tinyalex.datasets import duplicates
from tinyalex.datasets.shards import manifest, prepared, test_list
from tinyalex.datasets.shards.shard_set import allow_many_files
from tinyalex.datasets.shards.shards import SPLITS, Shard
from tinyalex.datasets.statistics import mean_image, pixel_sums
from tinyalex.devices import parallel
from tinyalex.errors import DataError
from tinyalex.system import bars
from tinyalex.words import counted

_BYTES = 8 << 20  # read at a time by each thread
_LISTED = 20  # faults that are listed one by one; the others are counted


def verify(folder, full=False, show=print):
    """Verify that a prepared set is as it was made.

    Parameters
    ----------
    folder : str or Path
    full : bool
        True: also read every image and compare its hash, and compute the mean image and the covariance again and
        compare them exactly, in the worker threads of `tinyalex.devices.parallel`.
    show : callable
        Called with a line of text for each thing that was checked.

    Raises
    ------
    DataError
        If the folder is not a finished prepared set or its manifest is damaged: then nothing else can be checked.
    ExceptionGroup
        Of a DataError for each other fault.
    """
    folder, faults = Path(folder), []
    found = prepared.manifest_of(folder)
    _describe(folder, found, show)
    mean = _attempt(faults, manifest.read_mean, folder, found)
    show(_line(manifest.MEAN, mean is not None, "numbers and hash"))
    known = len(faults)
    if names := _attempt(faults, test_list.read, folder, found):
        show(_line(test_list.NAME, True, f"{counted(len(names.names), 'name')}, plan and hash"))
    elif len(faults) > known:
        show(_line(test_list.NAME, False, "plan and hash"))
    allow_many_files()
    shards = {split: _open(folder, found, split, faults, show) for split in SPLITS}
    listed = {shard["file"] for split in SPLITS for shard in found["splits"][split]["shards"]}
    for name in sorted({path.name for path in folder.glob("*.shard")} - listed):
        show(f"{name:<14} not part of the set")
    if full:
        _read_all(folder / manifest.NAME, found, shards, mean, faults, show)
    else:
        show(f"{'pixels':<14} not read; --full reads them all")
    if faults:
        faults.sort(key=str)  # threads find them in any order
        more = [DataError(f"{folder}: {len(faults) - _LISTED} more faults")] if len(faults) > _LISTED else []
        raise ExceptionGroup(f"{folder}: {len(faults)} faults", faults[:_LISTED] + more)


def _describe(folder, found, show):
    classes = counted(len(found["classes"]), "class")
    show(f"{folder}: {found['kind']}, {classes}, {found['size']} x {found['size']} pixels")
    show("made with " + ", ".join(f"{what} {version}" for what, version in found["decoder"].items()))
    notes = {"left out": sum(len(found["splits"][split]["skipped"]) for split in SPLITS)} | found["odd"]
    notes["duplicates"] = len(found["duplicates"])
    show("notes on the images: " + (", ".join(f"{n:,} {what}" for what, n in notes.items() if n) or "none"))
    if found["duplicates"]:
        show(duplicates.describe(found["duplicates"], found["classes"]))
    if "jpeg" in found:
        show(jpeg_line(found))
    show(_line(manifest.NAME, True, f"fields, counts and hash; identity {found['identity'][:8]}"))


def jpeg_line(found):
    """Return a line about the JPEG files of a set and how their pixels differ from those that they were made from.

    Parameters
    ----------
    found : dict
        The set's manifest.
    """
    jpeg, images = found["jpeg"], sum(part["count"] for part in found["splits"].values())
    line = f"stored as JPEG of quality {jpeg['quality']}, {jpeg['bytes'] / max(1, images) / 1000:.1f} kB an image"
    if jpeg["kept"]:
        line += f"; {jpeg['kept']:,} of {images:,} are the sources' own files"
    if not jpeg["squares"]:
        return f"{line}; the pixels are those of a set without --jpeg"
    rms = math.sqrt(jpeg["squares"] / (images * 3 * found["size"] ** 2))
    return f"{line}; pixels differ from those of a set without --jpeg by {rms:.2g} (rms), at most {jpeg['largest']}"


def _open(folder, found, split, faults, show):
    # Open all shards of a split; return those without faults.
    count, images = len(found["splits"][split]["shards"]), found["splits"][split]["count"]
    shards = [_attempt(faults, Shard, folder, found, split, number) for number in range(count)]
    good = [shard for shard in shards if shard is not None]
    text = f"{counted(images, 'image')} in {counted(count, 'shard')}: sizes, headers, labels, lists of hashes"
    if len(good) == count > 0:
        per_class = np.bincount(np.concatenate([shard.labels for shard in good]), minlength=len(found["classes"]))
        per_class = f"{per_class.min():,} to {counted(per_class.max(), 'image')} a class"
        text += "; without labels" if split == "test" and manifest.is_unlabelled(found) else f"; {per_class}"
    show(_line(split, len(good) == count, text))
    return good


def _read_all(path, found, shards, mean, faults, show):
    source, known = found["statistics"]["from"], len(faults)
    jobs = [(shard, split == source) for split in SPLITS for shard in shards[split]]
    with _Reader(found["size"], sum(len(shard) for shard, _ in jobs), faults) as reader:
        parallel.workers().run(reader.read, jobs)
    text = f"{counted(reader.count, 'image')}, each compared with its hash"
    if reader.decoded_otherwise:
        text += f"; {reader.decoded_otherwise:,} decode to slightly other pixels ({jobs[0][0].foreign_decoder})"
    show(_line("pixels", len(faults) == known, text))
    if reader.decoded_otherwise:
        show(f"{'statistics':<14} not computed again, because of the other decoder")
    elif source not in SPLITS:
        show(f"{'statistics':<14} taken from another set, {source[:8]}; not computed again")
    elif faults:
        show(f"{'statistics':<14} not computed again, because of the faults above")
    else:
        wrong = list(reader.disagreements(found["statistics"], mean))
        faults += [DataError(f"{path}: statistics.{line}; prepare the set in another folder") for line in wrong]
        show(_line("statistics", not wrong, f"mean image and covariance, recomputed from the {source} pixels"))


class _Reader:
    # Reads shards in several threads; adds up pixels and collects faults under a lock.

    def __init__(self, size, count, faults):
        self._size, self._faults, self.count, self._summed, self.decoded_otherwise = size, faults, 0, 0, 0
        self._total, self._products = np.zeros((size, size, 3), np.int64), np.zeros((3, 3), np.int64)
        self._lock, self._stopped = threading.Lock(), False
        self._bar = bars.bar(total=count, unit=" images")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._stopped = True  # after Ctrl-C the threads read no further
        self._bar.close()

    def read(self, job):
        shard, summed = job
        few = min(len(shard), max(1, _BYTES // (3 * self._size**2)))
        space = np.empty((few, self._size, self._size, 3), np.uint8)
        for first in range(0, len(shard), few):
            if self._stopped:
                return
            images, errors, otherwise = space[: len(shard) - first], [], 0
            try:
                contents = shard.fetch(first, len(images))
            except DataError as error:
                with self._lock:
                    self._faults.append(error)
                return
            for at, (content, image) in enumerate(zip(contents, images, strict=True), first):
                try:
                    shard.unpack(at, content, image)
                except DataError as error:
                    errors.append(error)
                    continue
                if line := shard.damaged(at, image):
                    otherwise += bool(shard.foreign_decoder)
                    errors += [] if shard.foreign_decoder else [DataError(line)]
            sums = pixel_sums(images) if summed else (0, 0)
            with self._lock:
                self._faults += errors
                self.decoded_otherwise += otherwise
                self._total += sums[0]
                self._products += sums[1]
                self._summed += summed * len(images)
                self.count += len(images)
                self._bar.update(len(images))

    def disagreements(self, recorded, mean):
        if self._total.sum(axis=(0, 1)).tolist() != recorded["sum"]:
            yield f"sum: not that of the {recorded['from']} pixels"
        if self._products.tolist() != recorded["products"]:
            yield f"products: not those of the {recorded['from']} pixels"
        if not np.array_equal(mean_image(self._total, self._summed), mean):
            yield f"mean: not that of the {recorded['from']} images"


def _attempt(faults, function, *arguments):
    try:
        return function(*arguments)
    except DataError as error:
        faults.append(error)
        return None


def _line(what, right, text):
    return f"{what:<14} {'right' if right else 'WRONG'}: {text}"

"""Measure how fast a disk and the processors deliver images, and say which order and which format suit them.

What was read is dropped from the system's page cache first, as far as the system allows it: a disk of a virtual machine
may have another cache below.
"""

import itertools
import os
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from tinyalex import randomness
from tinyalex.datasets.loading.shuffle_buffer import PIECE
from tinyalex.datasets.shards import jpeg
from tinyalex.devices import parallel
from tinyalex.errors import StorageError
from tinyalex.system.progress import duration
from tinyalex.system.storage import drop_cached

_SECONDS = 1.0  # of each measurement
_READERS = 4  # threads that read one by one, as many as training on a GPU has
_FILE = 128 << 20  # bytes of the file that is written to measure a disk
_QUALITY = 90  # of the JPEG files with which another format is compared
_OF_PHOTOGRAPHS = 0.135  # bytes of such a file, for one of their pixels
_CLOSE = 1.25  # a way of reading that takes less than so many times as long as the fastest is not worth a change
IMAGENET = 1_281_167  # training images of ILSVRC-2012


class Speed(NamedTuple):
    """Images a second.

    Attributes
    ----------
    one_by_one : float
        Read at random, as with ``data.order = "random"``.
    in_order : float
        Read shard after shard.
    decoded : float
        Decoded by all processors, if they are JPEG files.
    size : int
        Side of the images.
    stored, as_jpeg : float
        Bytes of an image as it is stored, and as a JPEG file.
    """

    one_by_one: float
    in_order: float
    decoded: float
    size: int
    stored: float
    as_jpeg: float


def of_set(images, seconds=_SECONDS):
    """Measure a prepared set.

    Parameters
    ----------
    images : ShardSet
    seconds : float
        Of each of two or three measurements.

    Returns
    -------
    Speed
    """
    count, few = len(images), max(1, PIECE // (3 * images.size**2))
    chosen = randomness.permutation(randomness.key(time.time_ns(), "speed"), count)
    pieces = [(first, min(few, int(end) - first)) for start, end in zip(images.starts, images.starts[1:], strict=False)
              for first in range(int(start), int(end), few)]  # fmt: skip
    first = len(pieces) * int(chosen[0]) // count  # anywhere in the set

    def measure(spans, threads):
        for span in spans:
            images.drop_cached(*span)
        return _rate(spans, images.fetch, seconds, threads)

    one_by_one = measure([(int(index), 1) for index in chosen], _READERS)
    in_order = measure(pieces[first:] + pieces[:first], 1)
    some = chosen[:64]
    files = [images.fetch(int(index), 1)[0] for index in some]
    stored = sum(memoryview(file).nbytes for file in files) / len(files)
    if not images.is_jpeg:
        files = [jpeg.encode(pixels, _QUALITY) for pixels in files]
    decoded, as_jpeg = _decoding(files, images.size, seconds), sum(map(len, files)) / len(files)
    return Speed(one_by_one, in_order, decoded, images.size, stored, as_jpeg)


def of_folder(folder, size=256, seconds=_SECONDS):
    """Measure the disk of a folder with a file that is written there and removed again.

    Raises
    ------
    StorageError
        If no file can be written there.
    """
    record = 3 * size**2
    noise = randomness.bits(randomness.key(0, "speed"), np.arange(1 << 20)).tobytes()  # nothing to compress
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            for _ in range(_FILE // len(noise)):
                file.write(noise)
            file.flush()
            os.fsync(file.fileno())
            spots = randomness.permutation(randomness.key(time.time_ns(), "speed"), _FILE // record)

            def read(first, count):
                os.pread(file.fileno(), count * record, first * record)

            def measure(spans, threads):
                drop_cached(file.fileno(), 0, _FILE)
                return _rate(spans, read, seconds, threads)

            one_by_one = measure([(int(spot), 1) for spot in spots], _READERS)
            few = max(1, PIECE // record)
            in_order = measure([(first, few) for first in range(0, _FILE // record - few, few)], 1)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be measured ({error.strerror}); give a folder to write to") from error
    coarse = np.frombuffer(noise, np.uint8)[: 3 * (size // 8) ** 2].reshape(size // 8, size // 8, 3)
    files = [jpeg.encode(np.repeat(np.repeat(coarse, 8, 0), 8, 1), _QUALITY)]
    return Speed(one_by_one, in_order, _decoding(files, size, seconds), size, record, _OF_PHOTOGRAPHS * record)


def lines(speed, images, is_jpeg=False, column=15, memory=None):
    """Return lines about the speeds, how long an epoch of so many images takes at least, and what suits.

    Parameters
    ----------
    speed : Speed
    images : int
    is_jpeg : bool
        Whether the set has JPEG files.
    column : int
        Where the text begins, after the line's name.
    memory : int, optional
        Free bytes, in which the system keeps what was read.
    """
    rate = speed.in_order * speed.stored / 1e6
    one_by_one, in_order = _round(speed.one_by_one), _round(speed.in_order)
    yield (
        f"{'disk':<{column}}{one_by_one} images/s one by one, {in_order} in the order of shards ({rate:,.0f} MB/s); "
        f"images of {speed.size} x {speed.size}"
    )
    processors = parallel.processors()
    yield f"{'decoding':<{column}}{_round(speed.decoded)} JPEG files a second on {processors} processors"
    ways = dict(_ways(speed, is_jpeg))
    best = min(ways, key=lambda way: images / ways[way])
    listed = ", ".join(f"{duration(images / rate)} {way}" for way, rate in ways.items())
    yield f"{'epoch':<{column}}of {images:,} images takes at least: {listed}"
    if memory and images * speed.stored < memory / 2:
        yield f"{'suits':<{column}}any order: the images fit into memory; after the first epoch the disk is not read"
        return
    here = next(way for way, rate in ways.items() if rate * _CLOSE >= ways[best])
    yield f"{'suits':<{column}}{_ADVICE[here]}"


_ONE_BY_ONE, _IN_ORDER, _ONE_JPEG = "one by one", "in the order of shards", "as JPEG one by one"
_ORDERED_JPEG, _PIXELS = "as JPEG in the order of shards", "as pixels in the order of shards"
_ADVICE = {
    _ONE_BY_ONE: "images read one by one: nothing has to be changed",
    _IN_ORDER: "the order of shards: tinyalex train --set data.order=shards",
    _ONE_JPEG: "JPEG files: tinyalex prepare --jpeg",
    _ORDERED_JPEG: "JPEG files in the order of shards: tinyalex prepare --jpeg, tinyalex train --set data.order=shards",
    _PIXELS: "pixels in the order of shards: tinyalex prepare without --jpeg, tinyalex train --set data.order=shards",
}


def _ways(speed, is_jpeg):
    # Yield (way, images a second), that which changes least first.
    if is_jpeg:
        yield _ONE_BY_ONE, min(speed.one_by_one, speed.decoded)
        yield _IN_ORDER, min(speed.in_order, speed.decoded)
        yield _PIXELS, speed.in_order * speed.stored / (3 * speed.size**2)
        return
    yield _ONE_BY_ONE, speed.one_by_one
    yield _IN_ORDER, speed.in_order
    yield _ONE_JPEG, min(speed.one_by_one, speed.decoded)  # a disk that seeks takes as long for a small file
    yield _ORDERED_JPEG, min(speed.in_order * speed.stored / speed.as_jpeg, speed.decoded)


def _rate(spans, read, seconds, threads):
    # Read spans (first, count) in turn for some seconds; return images a second.
    spans, lock, done = iter(spans), threading.Lock(), 0
    begun = time.perf_counter()

    def work():
        nonlocal done
        while True:
            with lock:
                span = next(spans, None)
            if span is None:
                return
            read(*span)
            with lock:
                done += span[1]
            if time.perf_counter() - begun >= seconds:
                return

    with ThreadPoolExecutor(threads) as pool:
        for job in [pool.submit(work) for _ in range(threads)]:
            job.result()
    return done / (time.perf_counter() - begun)


def _decoding(files, size, seconds):
    turns = itertools.cycle([(number, 1) for number in range(len(files))])
    return _rate(turns, lambda number, _: jpeg.decode(files[number], size), seconds, parallel.processors())


def _round(rate):
    return f"{float(f'{rate:.2g}'):,.0f}"

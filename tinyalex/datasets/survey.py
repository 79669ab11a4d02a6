"""What is in a set of images before any is prepared: how many, of which classes and sizes, grey or in colour.

`enlargement` has the warnings about a size that does not suit them.

Counts are of all images. Sizes and colours are those of a sample, of which the first are decoded completely, for as
long as a second or two: that also measures how long preparing the whole set takes on this disk.
"""

import contextlib
import io
import itertools
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from tinyalex import randomness
from tinyalex.datasets import picture
from tinyalex.datasets.dataset import Dataset
from tinyalex.datasets.index.entries import Entry, Index
from tinyalex.errors import DataError

_SAMPLE = 300  # images whose headers are read
_DECODED, _SECONDS = 40, 1.5  # of these, at most so many are decoded, in about that time
_LARGER, _LARGE = 10, 100e6  # times the bytes of the source, and bytes: of a larger prepared set a line warns
_HEADER = 1 << 16  # bytes of a file that usually hold the size of its picture


class Survey(NamedTuple):
    """What is known about a set of images.

    Attributes
    ----------
    train, test : int
        Numbers of images.
    counts : tuple of int
        Training images of each class.
    sides : tuple of int
        Shorter sides of the sampled images in pixels, ascending.
    grey : float
        Share of the sampled images that are grey.
    source_bytes : int
        Of the images as they are stored now; 0 if they are prepared.
    decode_seconds : float
        To read and decode one image, on average; 0 if there is nothing to decode.
    """

    train: int
    test: int
    counts: tuple[int, ...]
    sides: tuple[int, ...]
    grey: float
    source_bytes: int
    decode_seconds: float

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.counts)

    @property
    def imbalance(self) -> float:
        """How many times as many training images the largest class has as the smallest."""
        return max(self.counts) / max(1, min(self.counts))

    def side(self, share: float) -> int:
        """Return the shorter side that a share of the images is below or at: 0.5 gives the median."""
        return self.sides[min(len(self.sides) - 1, int(share * len(self.sides)))]

    def smaller(self, size: int) -> float:
        """Return the share of the images that are enlarged if they are prepared to ``size``."""
        return float(np.searchsorted(self.sides, size)) / len(self.sides)


def of_index(index: Index, decode: bool = True) -> Survey:
    """Survey the images of an index, of which there is at least one; without ``decode`` read only their headers."""
    train, test = index.splits["train"], index.splits["test"]
    entries: Sequence[Entry] = train or test
    key = randomness.key(0, "survey", len(entries))
    sample = [entries[k] for k in randomness.permutation(key, len(entries))[:_SAMPLE].tolist()]
    sides, grey, decoded, begin, spent = [], 0, 0, time.perf_counter(), 0.0
    for entry in sample:
        if entry.form != "image":
            sides.append(32)
            continue
        whole = decode and decoded < _DECODED and spent < _SECONDS
        if (found := _look(entry, whole)) is None:
            continue
        sides.append(found[0])
        grey += found[1]
        if whole:
            decoded, spent = decoded + 1, time.perf_counter() - begin
    if not sides:
        raise DataError(f"{sample[0].file}: none of {len(sample)} images can be decoded; check that they are images")
    counts = np.bincount([entry.label for entry in train or test], minlength=len(index.classes)).tolist()
    size = sum(entry.size for entry in itertools.chain(train, test))
    return Survey(
        len(train),
        len(test),
        tuple(counts),
        tuple(sorted(sides)),
        grey / len(sides),
        size,
        spent / decoded if decoded else 0.0,
    )


def of_prepared(dataset: Dataset, grey: int = 0) -> Survey:
    """Survey a set whose images are squares of one size; ``grey`` of them are known to be grey."""
    counts = np.bincount(np.asarray(dataset.train.labels), minlength=len(dataset.classes)).tolist()
    images = len(dataset.train) + len(dataset.test)
    return Survey(
        len(dataset.train), len(dataset.test), tuple(counts), (dataset.train.size,), grey / max(1, images), 0, 0.0
    )


def enlargement(found: Survey, size: int, option: str = "") -> Iterator[str]:
    """Yield warnings about images that ``size`` enlarges, and about a set that is much larger than its source.

    Parameters
    ----------
    found : Survey
    size : int
        Side of the prepared images.
    option : str
        The option that gives another size, which the warnings then name: "--size".
    """
    smallest, half = found.side(0), found.side(0.5)
    if share := found.smaller(size):
        remedy = f"; {option} {smallest} enlarges none" if option else ""
        yield (
            f"warning: {share:.0%} of the images (of {len(found.sides):,} looked at) are smaller than {size} x {size} "
            f"and are enlarged; the smallest has {smallest} pixels{remedy}"
        )
    images = found.train + found.test
    made = 3 * size**2 * images
    if found.source_bytes and made > max(_LARGE, _LARGER * found.source_bytes):
        yield (
            f"warning: the set takes {_bytes(made)}, although the images take {_bytes(found.source_bytes)}"
            + (f"; with {option} {half} it takes {_bytes(3 * half**2 * images)}" if option and half < size else "")
        )


def _bytes(count: float) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if count >= unit:
            return f"{count / unit:,.1f} {name}"
    return f"{count / 1e3:,.1f} kB"


def _look(entry: Entry, decode: bool) -> tuple[int, bool] | None:
    # The shorter side of a picture, and whether it is grey; None if it cannot be read, which preparing reports.
    with contextlib.suppress(Exception), warnings.catch_warnings():  # decoders raise anything on damaged bytes
        warnings.simplefilter("ignore")
        with open(entry.file, "rb") as file:
            file.seek(entry.offset)
            content = file.read(entry.size if decode else min(entry.size, _HEADER))
            if decode:
                image, _ = picture.decode(content)
                pixels = np.asarray(image)
                return min(image.size), pixels.ndim == 2 or bool((np.ptp(pixels, axis=2) == 0).all())
            try:
                with Image.open(io.BytesIO(content)) as header:
                    return min(header.size), header.mode in ("1", "L", "LA", "I", "I;16")
            except Exception:  # a header that is longer
                file.seek(entry.offset)
                with Image.open(io.BytesIO(file.read(entry.size))) as header:
                    return min(header.size), header.mode in ("1", "L", "LA", "I", "I;16")
    return None

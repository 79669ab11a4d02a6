"""Index CIFAR-10's own files: the pixels are written to one scratch file, from which images are read by offset."""

from pathlib import Path

import numpy as np

from tinyalex.datasets import cifar
from tinyalex.datasets.index.entries import Entry, Index
from tinyalex.datasets.index.labels import read_span
from tinyalex.errors import DataError
from tinyalex.system.storage import atomic_write

_BYTES = 3 * 32 * 32


def is_cifar10(listing):
    """Return whether a source has files with CIFAR-10's names."""
    return any(cifar.is_part(parts[-1:]) for parts in listing.documents)


def read(listings):
    """Read CIFAR-10 into memory.

    Parameters
    ----------
    listings : list of Listing
        Together they have the six files and no images.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        If a file is missing or damaged, or there are image files as well.
    """
    files = {}
    for listing in listings:
        if listing.images:
            raise DataError(f"{listing.source}: image files as well as files of CIFAR-10; give one set at a time")
        for span in listing.documents.values():
            if cifar.is_part((span.name,)):
                if span.name in files:
                    raise DataError(f"{listing.source}: a second {span.name}; give CIFAR-10 once")
                files[span.name] = read_span(span)
    return cifar.assemble(listings[0].source, files)


def index(listings, scratch, skipped):
    """Index CIFAR-10, which `read` reads.

    Parameters
    ----------
    listings : list of Listing
    scratch : Path
    skipped : Skipped

    Returns
    -------
    Index
        Images are named train/00000 and so on, in the order of the files and their records.
    """
    dataset = read(listings)
    path = Path(scratch) / f"cifar10-{dataset.identity[:12]}.planes"
    sets = {"train": dataset.train, "test": dataset.test}
    if not path.exists():
        with atomic_write(path) as file:
            for images in sets.values():
                file.write(np.ascontiguousarray(images.images.transpose(0, 3, 1, 2)))
    classes, first, splits = sorted(dataset.classes), 0, {}
    for split, images in sets.items():
        labels = [classes.index(dataset.classes[label]) for label in images.labels]
        splits[split] = [
            Entry(f"{split}/{k:05d}", label, str(path), (first + k) * _BYTES, _BYTES, "planes32")
            for k, label in enumerate(labels)
        ]
        first += len(labels)
    return Index("CIFAR-10", classes, list(classes), splits, skipped.rows())

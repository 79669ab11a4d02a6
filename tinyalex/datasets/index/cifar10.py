"""Index CIFAR-10's or CIFAR-100's own files: pixels go to one scratch file, from which images are read by offset."""

from pathlib import Path

import numpy as np

from tinyalex.datasets import cifar
from tinyalex.datasets.index.entries import Entry, Index
from tinyalex.datasets.index.labels import read_span
from tinyalex.errors import DataError
from tinyalex.system.storage import atomic_write

_BYTES = 3 * 32 * 32
_TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}


def is_cifar10(listing):
    """Return whether a source has files with the names of CIFAR-10's or CIFAR-100's."""
    return cifar.is_set(parts[-1] for parts in listing.documents)


def leave_out(listing):
    """Take files with the usual names of CIFAR-100's, such as ``train``, from a listing that is not of that set."""
    for parts in [parts for parts in listing.documents if cifar.is_part(parts[-1:])]:
        listing.skipped.add("/".join(parts), "not an image by its name")
        del listing.documents[parts]


def read(listings):
    """Read CIFAR-10 or CIFAR-100 into memory.

    Parameters
    ----------
    listings : list of Listing
        Together they have all files of the set, and no images.

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
            raise DataError(f"{listing.source}: image files as well as files of CIFAR; give one set at a time")
        for span in listing.documents.values():
            if cifar.is_part((span.name,)):
                if span.name in files:
                    raise DataError(f"{listing.source}: a second {span.name}; give CIFAR once")
                files[span.name] = read_span(span)
    return cifar.assemble(listings[0].source, files)


def index(listings, scratch, skipped):
    """Index CIFAR-10 or CIFAR-100, which `read` reads.

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
    path = Path(scratch) / f"{dataset.name}-{dataset.identity[:12]}.planes"
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
    return Index(_TITLES[dataset.name], classes, list(classes), splits, skipped.rows())

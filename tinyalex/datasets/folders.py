"""Images in class folders, or with a list of labels, in a folder or an archive: read into memory."""

import hashlib
import itertools
import tempfile
from pathlib import Path

import numpy as np

from tinyalex.datasets import duplicates, picture
from tinyalex.datasets.dataset import Dataset, ImageNames, ImageSet
from tinyalex.datasets.index import cifar10, sources, subset
from tinyalex.datasets.index.listing import Skipped
from tinyalex.errors import DataError, StorageError

_LARGEST = 512  # pixels a side, because all images are kept in memory


def decode(content, file, size=None):
    """Decode an image file, as `tinyalex.datasets.picture` does.

    Parameters
    ----------
    content : bytes
    file : str
        Its name, for messages.
    size : int, optional
        Side that the image must have.

    Returns
    -------
    uint8 (S, S, 3)

    Raises
    ------
    DataError
        If it is not an image, or has another size.
    """
    try:
        image, _ = picture.decode(content)
    except DataError as reason:
        raise DataError(f"{file}: {reason}; repair, convert or remove it") from reason
    w, h = image.size
    if w == h == (size or w) and w <= _LARGEST:
        return np.array(image.convert("RGB"))
    wanted = f"{size} x {size} like the others" if size else f"square and at most {_LARGEST} a side"
    raise DataError(f"{file}: {w} x {h} pixels, but it has to be {wanted}; resize it")


def load(path, test_share=0.0, show=print):
    """Read the images of a folder or an archive into memory, or CIFAR-10 from its own files.

    Which files are images, and of which class and split, is found out as `tinyalex prepare` does.

    Parameters
    ----------
    path : Path
        Of anything that `tinyalex.datasets.index.sources.index` takes.
    test_share : float
        The share of every class that becomes the test images, if there are none. The same images are taken each time.
    show : callable
        Called with lines of text, for example about files that are skipped.

    Returns
    -------
    Dataset
        Classes are in the order of the index; images are sorted by class, then by name.

    Raises
    ------
    DataError
        If there is nothing at the path, or what is there cannot be used; if images are not square or differ in size.
    UsageError
        If ``test_share`` is out of range, or there are test images.
    """
    if not path.exists():
        raise DataError(f"{path}: no such folder or file; give a folder or tar of images, `shapes` or `cifar10`")
    subset.check(test_share, None, None)
    skipped = Skipped()
    with _Scratch() as scratch:
        listings = sources.list_files([path], scratch, show, skipped)
        own_files = cifar10.is_cifar10(listings[0])
        found = cifar10.read(listings) if own_files else sources.index_images(listings, show, skipped)
        if skipped:
            show(skipped.summary())
        if own_files:
            subset.check_no_test(test_share, len(found.test))
            return found
        return _read(path, subset.split_off_test(found, test_share, 0, show), show)


class _Scratch:
    # A temporary folder, made when its path is first asked for: only packed archives need one.

    def __init__(self):
        self._made = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self._made:
            self._made.cleanup()

    def __fspath__(self):
        try:
            self._made = self._made or tempfile.TemporaryDirectory(prefix="tinyalex-")
        except FileNotFoundError as error:
            raise StorageError(f"{error.strerror}; set TMPDIR to a folder that can be written") from error
        return self._made.name


def _read(path, index, show):
    splits = {
        split: sorted(entries, key=lambda entry: (entry.label, entry.name)) for split, entries in index.splits.items()
    }
    images, names, size = {"train": [], "test": []}, [], None
    if index.unlabelled:
        splits["unlabelled"], splits["test"] = splits["test"], []
        images["unlabelled"] = []
    for split, entries in splits.items():
        for entry, content in zip(entries, _contents(entries), strict=True):
            is_own_file = Path(entry.file).name == Path(entry.name).name
            image = decode(content, entry.file if is_own_file else f"{path}: {entry.name}", size)
            size = len(image)
            images[split].append(image)
            names.append(f"{'test' if split == 'unlabelled' else split}/{entry.name}")
    hashes = [hashlib.blake2b(image, digest_size=8).digest() for each in images.values() for image in each]
    if groups := duplicates.find(np.array(list(map(int.from_bytes, hashes)), np.uint64), names):
        show(duplicates.describe(groups, index.classes))
    none = np.empty((0, size, size, 3), np.uint8)
    sets = {
        split: ImageSet(
            np.stack(images[split]) if entries else none, np.array([entry.label for entry in entries], np.int64)
        )
        for split, entries in splits.items()
    }
    listed = ImageNames([entry.name for entry in splits.get("unlabelled") or splits["test"]], index.ids)
    return Dataset(str(path), index.classes, **sets, listed=listed, described=index.words)


def _contents(entries):
    """Iterate over the bytes of entries; a file is opened once for consecutive entries."""
    for name, group in itertools.groupby(entries, key=lambda entry: entry.file):
        try:
            with open(name, "rb") as file:
                for entry in group:
                    file.seek(entry.offset)
                    yield file.read(entry.size)
        except OSError as error:
            raise DataError(f"{name}: cannot be read ({error.strerror}); check its permissions") from error

"""From whatever somebody has on disk to an index of images: what it is, is found out by looking.

    ILSVRC-2012's tars and devkit       Kaggle's ILSVRC/Data/CLS-LOC        Tiny ImageNet, also in several tars
    class folders, with or without train and val, as folders, tars or zips  CIFAR-10 in its published forms
    flat validation images with a list of labels

Nothing of an image is read here, and nothing is extracted from an archive.
"""

import os
from pathlib import Path

from tinyalex.datasets import cifar
from tinyalex.errors import DataError, UsageError
from tinyalex.prepare.index import archives, cifar10, folder, layout, md5, numbered, splits, subset, unpack
from tinyalex.prepare.index.classes import settle
from tinyalex.prepare.index.documents import Documents, is_document
from tinyalex.prepare.index.entries import Entry, Index
from tinyalex.prepare.index.listing import Listing, Place, Skipped, is_image

MOST = 1_600_000  # images and folders of a source: ILSVRC-2012 has 1.43 million, test images included


def index(
    sources,
    scratch,
    show,
    test_share=0.0,
    seed=0,
    classes=None,
    per_class=None,
    numeric_folders=False,
    verify_md5=False,
    most=MOST,
):
    """Find out what the sources are, and list their images.

    Parameters
    ----------
    sources : list of str or Path
        One or more: folders, archives (tar, plain or packed by gzip, bzip2 or xz; zip), lists of labels or of classes.
        Several make one set.
    scratch : str or Path
        Folder for what has to be unpacked before it can be read by offset; it has to stay until the images are read.
        What an earlier call with the same sources left there is taken again.
    show : callable
        Gets lines of text.
    test_share : float
        Part of every class that becomes the test split, from 0 up to 1, if no source has one; drawn by ``seed``.
    seed : int
    classes, per_class : int, optional
        For trying things out: only so many classes, the first ones, and so many images of each a split.
    numeric_folders : bool
        Whether class folders that are called 0, 1, 2, ... 10 are to be sorted as numbers.
    verify_md5 : bool
        Whether every archive has to be one of those published.
    most : int
        Images and folders that a source may have.

    Returns
    -------
    Index

    Raises
    ------
    DataError
        If something is damaged or missing, or does not belong together.
    UsageError
        If options cannot be meant, or ``scratch`` lies in a source.
    StorageError
        If there is no room for unpacking.
    """
    from tqdm import tqdm

    subset.check(test_share, classes, per_class)
    check_out(sources, scratch)
    skipped = Skipped()

    def unpacked(path):
        if verify_md5:
            md5.verify(path, show)
        return unpack.plain(path, scratch, show)

    with tqdm(desc="looking", unit=" files", disable=None, leave=False) as bar:
        listings = [Listing(str(source), most, skipped, _wanted, bar.update) for source in sources]
        for listing in listings:
            _look(Path(listing.source), unpacked, listing)
    if any(map(cifar10.holds, listings)):
        found = cifar10.index(listings, scratch, skipped)
    else:
        found = _index(listings, skipped, numeric_folders, show)
    if skipped:
        show(f"{skipped.told()}; skipped.tsv in the set will list them")
    return subset.few(subset.share_out(found, test_share, seed), classes, per_class, seed)


def check_out(sources, out):
    """Refuse to write into what is read.

    Parameters
    ----------
    sources : list of str or Path
    out : str or Path
        Folder to be written to; it need not be there yet.

    Raises
    ------
    UsageError
        If it is a source, or lies inside of one.
    """
    target = Path(os.path.realpath(out))
    for source in sources:
        place = Path(os.path.realpath(source))
        if place in (target, *target.parents):
            raise UsageError(f"{out}: lies in {source}, which is to be read; choose another folder")


def _wanted(name):
    return is_document(name) or cifar.is_part((name,))


def _look(path, unpacked, listing):
    """List a source, whatever it is."""
    try:
        listing.source.encode()
        if path.is_dir():
            folder.read(str(path), (layout.root(Path(os.path.abspath(path)).name),), listing)
            beside = bool(listing.images)
            for parts, file in sorted(listing.packed.items()):
                if beside:
                    listing.skipped.add("/".join(parts), "an archive beside images")
                else:
                    _look_into(Path(file), parts, unpacked, listing)
        elif not path.is_file():
            raise DataError(f"{path}: no such folder or file; give images in a folder, a tar or a zip")
        elif unpack.is_archive(path) or archives.is_archive(path.name):
            _look_into(path, (path.name,), unpacked, listing)
        elif is_image(path.name):
            raise DataError(f"{path}: a single image; give the folder it is in")
        else:  # a list of labels or of classes
            listing.documents[path.name,] = Place(path.name, str(path), 0, path.stat().st_size)
    except UnicodeEncodeError as error:
        raise DataError(f"{os.fsencode(path)!r}: a name that is not UTF-8; rename it") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error


def _look_into(path, parts, unpacked, listing):
    below = (*parts[:-1], layout.root(archives.stem(parts[-1])))
    archives.read(unpacked(path), str(path), below, listing)


def _index(listings, skipped, numeric_folders, show):
    parts = [part for listing in listings for part in layout.arrange(listing)]
    documents = Documents(listings)
    numbered.rename(parts, documents, numeric_folders)
    documents.label(parts)
    train, test = splits.choose(parts)
    if not train and not test:
        sources = " ".join(listing.source for listing in listings)
        told = f" ({skipped.told()})" if skipped else ""
        raise DataError(f"{sources}: no images found{told}; wanted class folders, ILSVRC's tars, or CIFAR-10's files")
    kind = _kind(train, test)
    classes = settle(train, test, documents, show)
    words = [documents.words.get(name, name) for name in classes]
    labels = {name: label for label, name in enumerate(classes)}
    entries = {"train": _entries(train, labels), "test": _entries(test, labels)}
    return Index(kind, classes, words, entries, skipped.all())


def _kind(train, test):
    parts = train + test
    if any("CLS-LOC" in part.base for part in parts):
        return "ILSVRC as on Kaggle"
    if any((*part.base, name, "images") in part.listing.images for part in train for name in part.classes):
        return "Tiny ImageNet"
    listed = [image.name for part in test for image, _ in part.values]
    if any(part.listing.nested for part in train) or any(name.startswith("ILSVRC2012_val_") for name in listed):
        return "ILSVRC-2012"
    return "class folders" if any(part.classes for part in parts) else "images with a list of labels"


def _entries(parts, labels):
    """Make the entries of a split, sorted by name; the parts are used up, for a million images are not held twice."""
    entries = []
    for part in parts:
        for name, images in part.classes.items():
            entries += [Entry(f"{name}/{image.name}", labels[name], *image[1:]) for image in images]
            images.clear()
        entries += [Entry(image.name, labels[name], *image[1:]) for image, name in part.values]
    entries.sort()
    for one, other in zip(entries, entries[1:], strict=False):
        if one.name == other.name:
            raise DataError(f"{other.name}: twice, in {one.file} and in {other.file}; give every image once")
    return entries

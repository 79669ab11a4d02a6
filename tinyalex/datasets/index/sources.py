"""Index the images of folders, archives and lists; what they are is found out from their contents.

    ILSVRC's tars and devkits           Kaggle's ILSVRC/Data/CLS-LOC        Tiny ImageNet, also in several tars
    class folders, with or without train and val, as folders, tars or zips  CIFAR-10 and CIFAR-100 as published
    flat validation images with a list of labels

No image is read here, and no archive is extracted into files.
"""

import os
import shlex
from pathlib import Path

from tinyalex.datasets import cifar, containers, names
from tinyalex.datasets.index import (
    archives,
    cifar10,
    contest,
    devkit,
    folder,
    layout,
    md5,
    named,
    numbered,
    patches,
    splits,
    subset,
    unpack,
)
from tinyalex.datasets.index.classes import resolve
from tinyalex.datasets.index.documents import Documents, flat, is_document, leave_out_samples
from tinyalex.datasets.index.entries import Entry, Index
from tinyalex.datasets.index.labels import WNID
from tinyalex.datasets.index.listing import FileSpan, Listing, Skipped
from tinyalex.datasets.picture import is_image
from tinyalex.errors import DataError, UsageError
from tinyalex.system import bars
from tinyalex.words import counted

MOST = 1_600_000  # images and folders in a source; ILSVRC-2012 has 1.43 million, test images included


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
    test_set=None,
):
    """Find out what the sources are, and index their images.

    Parameters
    ----------
    sources : list of str or Path
        One or more: folders, archives (tar, plain or packed by gzip, bzip2, xz or zstd; zip), lists of labels or of
        classes. Together they make one set.
    scratch : str or Path
        Folder for archives that have to be unpacked; it is needed until the images have been read. Files that an
        earlier call with the same sources left there are used again.
    show : callable
        Called with lines of text.
    test_share : float
        Share of every class that becomes the test split, from 0 up to 1, if the sources have none; drawn by ``seed``.
    seed : int
    classes, per_class : int, optional
        To try things out: use only the first ``classes`` classes, and at most ``per_class`` images of each per split.
    numeric_folders : bool
        The class folders are named by their positions, from 0, in the list of classes.
    verify_md5 : bool
        Accept only archives with a published MD5 sum.
    most : int
        The largest number of images and folders in a source.
    test_set : "val", "test" or None
        Which images become the test split if there are both: see `splits.choose`.

    Returns
    -------
    Index

    Raises
    ------
    DataError
        If something is damaged or missing, or the sources do not fit together.
    UsageError
        If an option is out of range, or ``scratch`` is inside a source.
    StorageError
        If the disk is too full for unpacking.
    """
    subset.check(test_share, classes, per_class)
    check_output(sources, scratch)
    skipped = Skipped()
    listings = list_files(sources, scratch, show, skipped, verify_md5, most)
    if any(map(cifar10.is_cifar10, listings)):
        found = cifar10.index(listings, scratch, skipped)
    else:
        found = index_images(listings, show, skipped, numeric_folders, test_set)
    if skipped:
        show(skipped.summary())
    return subset.take(subset.split_off_test(found, test_share, seed, show), classes, per_class, seed)


def list_files(sources, scratch, show, skipped, verify_md5=False, most=MOST):
    """List the files of sources; the parameters are those of `index`.

    Returns
    -------
    list of Listing
        One for each source; files that are not used are added to ``skipped``, a `Skipped`.
    """

    def unpacked(path):
        if verify_md5:
            md5.verify(path, show)
        return unpack.as_plain_tar(path, scratch, show)

    with bars.bar(desc="listing", unit=" files") as bar:
        listings = [Listing(str(source), most, skipped, _wanted, bar.update) for source in sources]
        for listing in listings:
            _list(Path(listing.source), unpacked, listing)
    return listings


def check_output(sources, out):
    """Refuse an output folder inside a source.

    Parameters
    ----------
    sources : list of str or Path
    out : str or Path
        Folder to be written to; it need not exist yet.

    Raises
    ------
    UsageError
        If it is a source or is inside one.
    """
    target = Path(os.path.realpath(out))
    for source in sources:
        resolved = Path(os.path.realpath(source))
        if resolved in (target, *target.parents):
            where = "is the source itself" if resolved == target else f"is inside the source {source}"
            raise UsageError(f"{out}: {where}; choose another folder")


def _wanted(name):
    return is_document(name) or cifar.is_part((name,))


def _list(path, unpacked, listing):
    """List the files of a source, of whatever kind it is."""
    try:
        if path.is_dir():
            root = layout.root_name(listing.class_name(Path(os.path.abspath(path)).name))
            folder.list_files(str(path), (root,), listing)
            has_images = bool(listing.images)
            for parts, file in sorted(listing.packed.items()):
                if has_images and not _is_class(parts, listing):
                    listing.skipped.add("/".join(parts), "an archive beside images")
                else:
                    _list_archive(Path(file), parts, unpacked, listing)
        elif not path.is_file():
            raise DataError(f"{path}: no such folder or file; give images in a folder, a tar or a zip")
        elif reason := containers.refusal(path):
            raise DataError(f"{path}: {reason}")
        elif unpack.is_archive(path) or archives.is_archive(path.name):
            _list_archive(path, (path.name,), unpacked, listing)
        elif is_image(path.name):
            raise DataError(f"{path}: a single image; give the folder it is in")
        else:  # a list of labels or of classes
            listing.documents[path.name,] = FileSpan(path.name, str(path), 0, path.stat().st_size)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error


def _is_class(parts, listing):
    # Whether an archive beside images is that of a class which has no folder: train/n01440764.tar beside val/x.JPEG.
    name = archives.stem(parts[-1])
    return WNID.fullmatch(name) is not None and (*parts[:-1], name) not in listing.folders


def _list_archive(path, parts, unpacked, listing):
    below = (*parts[:-1], layout.root_name(archives.stem(parts[-1])))
    archives.list_members(unpacked(path), str(path), below, listing)


def index_images(listings, show, skipped, numeric_folders=False, test_set=None):
    """Index the images of listings that are not of CIFAR's own files; the parameters are those of `index`.

    Returns
    -------
    Index
    """
    for listing in listings:
        cifar10.leave_out(listing)
        devkit.leave_out_images(listing)
        leave_out_samples(listing)
        named.sort_into_classes(listing)
    patches.apply(listings, show)
    groups = [group for listing in listings for group in layout.group_images(listing)]
    year = contest.year_of(listings, [(group.name, flat(group)) for group in groups])
    documents = _documents(listings, groups, skipped, year)
    documents.assign_labels(groups, show)
    layout.settle(groups, show)
    if numeric_folders:
        numbered.rename(groups, documents)
    train, test, unlabelled = splits.choose(groups, test_set, show)
    if not train and not test:
        sources = " ".join(listing.source for listing in listings)
        passed = f" ({skipped.summary()})" if skipped else ""
        for listing in listings:
            if Path(listing.source).is_dir() and (instead := containers.instead_of_images(Path(listing.source))):
                raise DataError(f"{listing.source}: no images found; {instead}")
        packed = next((listing.source for listing in listings if Path(listing.source).is_file()), None)
        unpacked = f"; if they are in it, unpack it and give the folder: {_unpacking(packed)}" if packed else ""
        raise DataError(
            f"{sources}: no images found{passed}; expected class folders, ILSVRC's tars, or CIFAR's files{unpacked}"
        )
    if nested := sorted(name for group in groups for name in group.classes if "/" in name):
        show(f"{groups[0].name}: folders inside folders; their classes are named by their paths, such as {nested[0]}")
    if not train and any(group.classes and len(group.base) == 1 for group in test):
        show(f"{test[0].name}: taken as test images, as its name says")
    kind = _kind(train, test, year)
    images_without = [image for group in test for image in group.flat] if unlabelled else []
    if unlabelled:
        documents.declare_classes()
        if not train and not documents.declared:
            what = f"the devkit ({contest.devkit_of(year)})" if year else "a list of their labels"
            raise DataError(
                f"{test[0].name}: {counted(len(images_without), 'image')} without labels, and no list of classes; give "
                f"{what} too, or to classify pictures one by one: tinyalex predict"
            )
    classes = resolve(train, [] if unlabelled else test, documents, show)
    for line in names.notes(classes, _spellings(listings)):
        show(line)
    words = [names.shown(documents.words.get(name, name)) for name in classes]
    labels = {name: label for label, name in enumerate(classes)}
    entries = {"train": _entries(train, labels), "test": _entries(test, labels)}
    if unlabelled:
        show(f"{test[0].name}: test images without labels, which `tinyalex evaluate --write` classifies")
        entries["test"] = sorted(Entry(image.name, 0, *image[1:]) for image in images_without)
    return Index(kind, classes, words, entries, skipped.rows(), documents.class_ids(classes), unlabelled)


def _unpacking(archive):
    command = ["unzip"] if str(archive).lower().endswith(".zip") else ["tar", "xf"]
    return shlex.join([*command, str(archive)])


def _documents(listings, groups, skipped, year):
    """Return the lists of all sources. Beside complete class folders, those of labels and damaged ones are left out."""
    tested = any(group.split == "val" and group.classes for group in groups)
    complete = all(
        group.classes and (group.split or len(group.classes) > 1) or group.split == "test" and tested
        for group in groups
    )  # fmt: skip
    for listing in listings if complete else ():
        for parts, span in list(listing.documents.items()) if listing.images else ():
            try:
                reason = "a list of labels" if Documents([listing.with_documents({parts: span})]).labels else ""
            except DataError:
                reason = "a list that cannot be read"
            if reason:
                skipped.add("/".join(parts), f"{reason}, which class folders do not need")
                del listing.documents[parts]
    return Documents(listings, year)


def _spellings(listings):
    found = {}
    for listing in listings:
        for name, spellings in listing.spellings.items():
            found.setdefault(name, set()).update(spellings)
    return found


def _kind(train, test, year):
    groups = train + test
    if any("CLS-LOC" in group.base for group in groups):
        return "ILSVRC as on Kaggle"
    if any((*group.base, name, "images") in group.listing.images for group in train for name in group.classes):
        return "Tiny ImageNet"
    listed = [image.name for group in test for image in [*group.flat, *(image for image, _ in group.values)]]
    if any(named.is_named(images[0].name) for group in groups for images in group.classes.values()):
        return "ILSVRC-2012"
    if any(group.listing.nested for group in train) or any(map(contest.image, listed)):
        return f"ILSVRC-{year or 2012}"
    return "class folders" if any(group.classes for group in groups) else "images with a list of labels"


def _entries(groups, labels):
    """Make the entries of a split, sorted by name; the groups are emptied, to save memory with a million images."""
    entries = []
    for group in groups:
        for name, images in group.classes.items():
            entries += [Entry(f"{name}/{image.name}", labels[name], *image[1:]) for image in images]
            images.clear()
        entries += [Entry(image.name, labels[name], *image[1:]) for image, name in group.values]
    entries.sort()
    for one, other in zip(entries, entries[1:], strict=False):
        if one.name == other.name:
            raise DataError(f"{other.name}: occurs twice, in {one.file} and in {other.file}; give every image once")
    return entries

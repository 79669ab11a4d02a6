"""List the files of a folder, in the order of their names; links are followed, loops are not."""

import os

from tinyalex.datasets import names
from tinyalex.errors import DataError
from tinyalex.prepare.index.archives import is_archive
from tinyalex.prepare.index.listing import is_image

_DEEPEST = 8  # levels of folders below the source: ILSVRC/Data/CLS-LOC/train/n01440764 are five


def list_files(path, root, listing):
    """Add the files below a folder to a listing.

    Parameters
    ----------
    path : str
    root : tuple of str
        The folder's name in the listing.
    listing : Listing

    Raises
    ------
    DataError
        If a folder or an image cannot be read.
    """
    try:
        with os.scandir(path) as found:
            entries = sorted(found, key=lambda entry: os.fsencode(entry.name))
        for entry in entries:
            _add(entry, (*root, names.readable(entry.name)), listing)
    except OSError as error:
        raise DataError(
            f"{error.filename or path}: cannot be read ({error.strerror}); check its permissions"
        ) from error


def _add(entry, parts, listing):
    if not listing.is_relevant(parts[:1], parts[1:]):
        return
    listing.tick()
    wanted = is_archive(entry.name) or listing.is_wanted(entry.name)
    if not wanted and entry.is_symlink() and not os.path.exists(entry.path):
        listing.skipped.add("/".join(parts), "a dangling link")
        return
    if entry.is_dir():
        if is_image(entry.name):
            listing.skipped.add("/".join(parts), "a folder")
        elif len(parts) > _DEEPEST + 1 or _links_to_parent(entry):
            listing.skipped.add("/".join(parts), "a folder that is too deep, or a link to a folder above it")
        else:
            parts = (*parts[:-1], listing.class_name(entry.name))
            listing.add_folder(parts)
            list_files(entry.path, parts, listing)
        return
    size = entry.stat().st_size  # raises for a dangling link
    if not entry.is_file():
        listing.skipped.add("/".join(parts), "not a regular file")
    elif is_archive(entry.name):
        listing.packed[parts] = entry.path
    else:
        if is_image(entry.name):
            _check_image(entry)
        listing.add_file(parts, entry.path, 0, size)


def _check_image(entry):
    if not os.access(entry.path, os.R_OK):
        raise DataError(f"{entry.path}: cannot be read (Permission denied); check its permissions")


def _links_to_parent(entry):
    here, there = os.path.realpath(os.path.dirname(entry.path)), os.path.realpath(entry.path)
    return entry.is_symlink() and f"{here}/".startswith(f"{there}/")

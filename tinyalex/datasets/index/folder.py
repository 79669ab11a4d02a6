"""List the files of a folder, in the order of their names. Links are followed, unless they dangle or make a loop."""

import os

from tinyalex.datasets import names
from tinyalex.datasets.index.archives import is_archive
from tinyalex.datasets.picture import is_image
from tinyalex.errors import DataError
from tinyalex.system.ownership import is_drawn


def list_files(path, root, listing, above=()):
    """Add the files below a folder to a listing.

    Parameters
    ----------
    path : str
    root : tuple of str
        The folder's name in the listing.
    listing : Listing
    above : tuple of str
        The real paths of the folders that are being listed, outermost first.

    Raises
    ------
    DataError
        If a folder or an image cannot be read.
    """
    here = (*above, os.path.realpath(path))
    try:
        with os.scandir(path) as found:
            entries = sorted(found, key=lambda entry: os.fsencode(entry.name))
        for entry in entries:
            _add(entry, (*root, names.readable(entry.name)), listing, here)
    except OSError as error:
        raise DataError(
            f"{error.filename or path}: cannot be read ({error.strerror}); check its permissions"
        ) from error


def _add(entry, parts, listing, above):
    dangling = entry.is_symlink() and not os.path.exists(entry.path)
    is_folder = not dangling and entry.is_dir()
    if not listing.is_relevant(parts[:1], parts[1:], is_folder):
        return
    listing.tick()
    if dangling:
        listing.skipped.add("/".join(parts), "a dangling link")
    elif is_folder:
        if entry.is_symlink() and os.path.realpath(entry.path) in above:
            listing.skipped.add("/".join(parts), "a link to a folder above it")
        else:
            parts = (*parts[:-1], listing.class_name(entry.name))
            listing.add_folder(parts)
            list_files(entry.path, parts, listing, above)
    elif not entry.is_file():
        listing.skipped.add("/".join(parts), "not a regular file")
    elif is_archive(entry.name):
        listing.packed[parts] = entry.path
    elif is_drawn(entry.path):
        listing.skipped.add("/".join(parts), "a picture that tinyalex drew")
    else:
        if is_image(entry.name):
            _check_image(entry)
        listing.add_file(parts, entry.path, 0, entry.stat().st_size)


def _check_image(entry):
    if not os.access(entry.path, os.R_OK):
        raise DataError(f"{entry.path}: cannot be read (Permission denied); check its permissions")

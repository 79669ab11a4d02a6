"""Images in tars, found by reading headers only: later they are read by offset, and nothing is ever extracted.

ILSVRC's training images are a tar of tars, one a class; a tar inside a tar is taken for a folder of its name.
"""

import os
import tarfile

from tinyalex.datasets import tars
from tinyalex.errors import DataError

ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".zip")
_HEADER = 1 << 20  # bytes that a header may have; some have to be read whole


def is_archive(name):
    """Tell an archive by its file's name."""
    return name.lower().endswith(ENDINGS)


def stem(name):
    """Give an archive's name without its ending; other names as they are."""
    for ending in sorted(ENDINGS, key=len, reverse=True):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name


def read(path, shown, root, listing):
    """List the members of a plain tar.

    Parameters
    ----------
    path : str
        The tar; after unpacking, another file than the source.
    shown : str
        The source's name, for messages.
    root : tuple of str
        Folder that its members are put under.
    listing : Listing

    Raises
    ------
    DataError
        If it is no tar, is damaged, or ends early: named with the member and its place.
    """
    with tars.damage(shown), open(path, "rb") as file:
        window = _Window(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        _read(window, path, shown, root, listing, inner=False)


def _read(window, path, shown, root, listing, inner):
    with tars.damage(shown), tarfile.open(fileobj=window, mode="r:") as archive:
        for member in tars.walk(archive):
            listing.tick()
            below = tars.parts(member)
            parts = root + below
            if member.isdir():
                if listing.ours(root, below):
                    listing.folder(parts)
                continue
            if reason := tars.refusal(member):
                listing.skipped.add(member.name, reason)
                continue
            _check_room(window, shown, member)
            if not listing.ours(root, below):
                continue
            place = window.start + member.offset_data
            if not is_archive(member.name):
                listing.add(parts, path, place, member.size)
            elif inner or not member.name.lower().endswith(".tar"):
                listing.skipped.add("/".join(parts), "an archive inside an archive")
            else:
                listing.nested = True
                listing.folder(stemmed := (*parts[:-1], stem(parts[-1])))
                inside = _Window(window.descriptor, place, member.size)
                _read(inside, path, f"{shown}: {member.name}", stemmed, listing, inner=True)


def _check_room(window, shown, member):
    room = window.size - member.offset_data
    if member.size > room:
        raise DataError(
            f"{shown}: {member.name} should have {member.size:,} bytes from byte {window.start + member.offset_data:,} "
            f"on, but the archive ends after {max(0, room):,} of them; fetch it again"
        )


class _Window:
    """A piece of a file that looks like a file to tarfile, which it keeps from reading anything large."""

    def __init__(self, descriptor, start, size):
        self.descriptor, self.start, self.size, self._place = descriptor, start, size, 0

    def tell(self):
        return self._place

    def seek(self, place):
        self._place = place

    def read(self, count):
        if not 0 <= count <= _HEADER:
            raise tarfile.ReadError(f"a header of {count:,} bytes")
        room = max(0, self.size - self._place)
        content = os.pread(self.descriptor, min(count, room), self.start + self._place)
        self._place += len(content)
        return content

"""List the files of a tar by reading its headers only: images are read by offset later, and nothing is extracted.

ILSVRC's training images are a tar of tars, one for each class; a tar inside a tar is treated as a folder of its name.
"""

import os
import tarfile

from tinyalex.datasets import tars
from tinyalex.datasets.index.links import Links
from tinyalex.errors import DataError

ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst", ".zip")
_HEADER = 1 << 20  # most bytes of a header, as some headers are read in one piece


def is_archive(name):
    """Return whether a file is an archive, by its name."""
    return name.lower().endswith(ENDINGS)


def stem(name):
    """Return an archive's name without its ending, and other names unchanged."""
    for ending in sorted(ENDINGS, key=len, reverse=True):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name


def list_members(path, shown, root, listing):
    """Add the members of an uncompressed tar to a listing.

    Parameters
    ----------
    path : str
        Path of the tar; not that of the source if it was unpacked.
    shown : str
        The source's name, for messages.
    root : tuple of str
        Folder in the listing that the members are put in.
    listing : Listing

    Raises
    ------
    DataError
        If it is not a tar, is damaged, or ends early; then the message names the member and its offset.
    """
    with tars.damage(shown), open(path, "rb") as file:
        window = _Window(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        _list(window, path, shown, root, listing, inner=False)


def _list(window, path, shown, root, listing, inner):
    links = Links()
    for member, below in _members(window, shown, listing.skipped):
        listing.tick()
        if member.issym() or member.islnk():
            links.add(below, member)
            continue
        below = listing.readable(below, member.isdir())
        if listing.is_relevant(root, below, member.isdir()):
            parts = root + below
            if member.isdir():
                listing.add_folder(parts)
            elif not is_archive(member.name):
                listing.add_file(parts, path, window.start + member.offset_data, member.size)
            elif inner or not member.name.lower().endswith(".tar"):
                listing.skipped.add("/".join(parts), "an archive inside an archive")
            else:
                listing.nested = True
                listing.add_folder(stemmed := (*parts[:-1], stem(parts[-1])))
                inside = _Window(window.descriptor, window.start + member.offset_data, member.size)
                _list(inside, path, f"{shown}: {member.name}", stemmed, listing, inner=True)
    if links:
        _follow(links, window, path, shown, root, listing)


def _follow(links, window, path, shown, root, listing):
    """Add what the links of a tar lead to, under the links' names, to a listing."""
    found, refused = links.resolve(listing.count_one)
    for link, reason in refused:
        _skip_link(link, reason, root, listing)
    by_target, dangling = {}, dict(found)
    for link, target in found:
        by_target.setdefault(target, []).append(link)
    for member, below in _members(window, shown):
        for depth in range(len(below) + 1):
            for link in by_target.get(below[:depth], ()):
                dangling.pop(link, None)
                name = listing.readable((*link, *below[depth:]), member.isdir())
                if not listing.is_relevant(root, name, member.isdir()):
                    continue
                if member.isdir():
                    listing.add_folder(root + name)
                elif member.isreg() and is_archive(name[-1]):
                    listing.skipped.add("/".join(root + name), "a link to an archive inside an archive")
                elif member.isreg():
                    listing.add_file(root + name, path, window.start + member.offset_data, member.size)
    for link in dangling:
        _skip_link(link, "a dangling link", root, listing)


def _skip_link(link, reason, root, listing):
    if listing.is_relevant(root, link):
        listing.skipped.add("/".join((*root, *link)), reason)


def _members(window, shown, skipped=None):
    """Iterate over the members of a tar that can be used, with the parts of their names."""
    window.seek(0)
    with tars.damage(shown), tarfile.open(fileobj=window, mode="r:") as archive:
        for member in tars.walk(archive):
            below = tars.parts(member)
            if member.isdir() and not below:
                continue  # "./", the top itself
            if reason := tars.refusal(member):
                if skipped is not None:
                    skipped.add(member.name, reason)
                continue
            if member.isreg():
                _check_complete(window, shown, member)
            yield member, below


def _check_complete(window, shown, member):
    room = window.size - member.offset_data
    if member.size > room:
        raise DataError(
            f"{shown}: {member.name} should have {member.size:,} bytes from byte {window.start + member.offset_data:,} "
            f"on, but the archive ends after {max(0, room):,} of them; fetch it again"
        )


class _Window:
    """A byte range of a file as a file object for tarfile; refuses reads of more than a header."""

    def __init__(self, descriptor, start, size):
        self.descriptor, self.start, self.size, self._position = descriptor, start, size, 0

    def tell(self):
        return self._position

    def seek(self, position):
        self._position = position

    def read(self, count):
        if not 0 <= count <= _HEADER:
            raise tarfile.ReadError(f"a header of {count:,} bytes")
        room = max(0, self.size - self._position)
        content = os.pread(self.descriptor, min(count, room), self.start + self._position)
        self._position += len(content)
        return content

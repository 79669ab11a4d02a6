"""The files of a source, by folder: names, sizes and where their bytes are; no file is opened."""

import copy
from typing import NamedTuple

from tinyalex.datasets import names
from tinyalex.datasets.picture import is_image
from tinyalex.errors import DataError

LARGEST = 64 << 20  # bytes of an image file: ILSVRC's largest has 15 MB
_DEEPEST = 8  # levels of folders below the source: ILSVRC/Data/CLS-LOC/train/n01440764 are five
_NAMED = 100  # skipped files that are named for each reason; the others are counted
# Folders and files that systems and tools leave in folders of images, in lower case; hidden ones besides.
_TOOL_FOLDERS = {"lost+found", "__macosx", "@eadir", "#recycle", "@recycle", "#snapshot", "$recycle.bin", "recycler"}
_TOOL_FOLDERS |= {"system volume information", "__pycache__"}
_TOOL_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}


class FileSpan(NamedTuple):
    """A byte range of a file: a whole file, or a member of an archive. ``name`` is its own, without folders."""

    name: str
    file: str
    offset: int
    size: int


class Skipped:
    """Files that were skipped, with the reason: for each reason a hundred names and the number of further ones."""

    def __init__(self):
        self._names, self._counts = {}, {}

    def add(self, name, reason):
        """Add a name; bytes in it that are not UTF-8 are escaped."""
        name = names.readable(name)
        named = self._names.setdefault(reason, [])
        self._counts[reason] = self._counts.get(reason, 0) + 1
        if len(named) < _NAMED:
            named.append(name)

    def __bool__(self):
        return bool(self._counts)

    def summary(self):
        """Return one line: for each reason the first name and the number of others."""
        more = {reason: f" and {count - 1:,} more" if count > 1 else "" for reason, count in self._counts.items()}
        return "skipped: " + ", ".join(
            f"{names.shown(first[0])}{more[reason]} ({names.shown(reason)})" for reason, first in self._names.items()
        )

    def rows(self):
        """Return (name, reason) pairs."""
        pairs = [(name, reason) for reason, named in self._names.items() for name in named]
        more = {reason: count - _NAMED for reason, count in self._counts.items() if count > _NAMED}
        return pairs + [(f"and {count:,} more", reason) for reason, count in more.items()]


class Listing:
    """The files of one source.

    Parameters
    ----------
    source : str
        Path of the source, for messages.
    most : int
        The largest number of images and folders allowed.
    skipped : Skipped
    wanted : function of a file's name to bool
        Returns whether a file that is not an image is kept, in ``documents``.
    tick : function
        Called for every file and folder, to show progress.

    Attributes
    ----------
    images : dict of tuple of str to list of FileSpan
        By folder: ("toy", "train", "n01440764").
    documents : dict of tuple of str to FileSpan
        By full name, ("toy", "val.txt"): lists and tables that came with the images.
    folders : dict of tuple of str to int
        Number of files of any kind in each folder.
    packed : dict of tuple of str to str
        Paths of archives that are in a folder.
    nested : bool
        Whether the source is a tar with tars inside.
    spellings : dict of str to set of str
        The names that folders with letters beyond ASCII have on the disk, by the class that they name.
    """

    def __init__(self, source, most, skipped, wanted, tick):
        self.source, self.skipped, self.tick = source, skipped, tick
        self.images, self.documents, self.folders, self.packed, self.nested = {}, {}, {}, {}, False
        self.spellings = {}
        self._most, self._count, self._wanted, self._left_out = most, 0, wanted, set()

    def class_name(self, name):
        """Return the class that a folder's name stands for."""
        if name.isascii():
            return name
        self.spellings.setdefault(names.class_name(name), set()).add(name)
        return names.class_name(name)

    def readable(self, parts, is_folder):
        """Return the parts of a member's path as they are listed: folders as classes, a file as a readable name."""
        *above, name = parts or ("",)
        return (*map(self.class_name, above), self.class_name(name) if is_folder else names.readable(name))

    def add_folder(self, parts):
        """Add a folder."""
        if parts not in self.folders:
            self.count_one()
            self.folders[parts] = 0

    def is_relevant(self, root, parts, is_folder=False):
        """Return whether a name below ``root`` is to be listed: not hidden, nor a system's or a tool's, nor too deep.

        A folder that is not listed is added to those skipped.
        """
        for depth, part in enumerate(parts, 1):
            in_folder, reason = is_folder or depth < len(parts), ""
            if part.startswith(".") or part.lower() in (_TOOL_FOLDERS if in_folder else _TOOL_FILES):
                reason = "hidden, or made by a system or a tool"
            elif in_folder and len(root) + depth > _DEEPEST + 1:
                reason = f"a folder more than {_DEEPEST} levels deep"
            if reason and in_folder and (folder := (*root, *parts[:depth])) not in self._left_out:
                self.count_one()
                self._left_out.add(folder)
                self.skipped.add("/".join(folder), reason)
            if reason:
                return False
        return True

    def add_file(self, parts, file, offset, size):
        """Add a file: as an image, as a document, or as skipped."""
        folder, name = parts[:-1], parts[-1]
        self.add_folder(folder)
        self.folders[folder] += 1
        if not is_image(name):
            if self._wanted(name):
                self.documents[parts] = FileSpan(name, file, offset, size)
            else:
                self.skipped.add("/".join(parts), "not an image by its name")
        elif size > LARGEST:
            self.skipped.add("/".join(parts), f"larger than {LARGEST >> 20} MB")
        else:
            self.count_one()
            self.images.setdefault(folder, []).append(FileSpan(name, file, offset, size))

    def with_documents(self, documents):
        """Return a copy with other documents."""
        other = copy.copy(self)
        other.documents = documents
        return other

    def count_one(self):
        """Count an image, a folder or a link; raise DataError if there are too many."""
        self._count += 1
        if self._count > self._most:
            raise DataError(
                f"{self.source}: more than {self._most:,} images and folders; if these are right, raise --most-files"
            )

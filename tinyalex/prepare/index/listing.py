"""What a source holds, by folder: names, places and sizes; nothing is opened."""

from typing import NamedTuple

from tinyalex.datasets.folders import ENDINGS
from tinyalex.errors import DataError

LARGEST = 64 << 20  # bytes of an image file: ILSVRC's largest has 15 MB
_NAMED = 100  # skipped files that are named, a reason
_NOT_OURS = {"lost+found", "__MACOSX", "@eaDir", "$RECYCLE.BIN"}  # folders that file systems and tools leave


class Place(NamedTuple):
    """A file, or a piece of one: its own name without folders, and where its bytes are."""

    name: str
    file: str
    offset: int
    size: int


class Skipped:
    """What was passed over and why: the first hundred for a reason by name, then how many more there were."""

    def __init__(self):
        self._names, self._counts = {}, {}

    def add(self, name, reason):
        """Note a name; one whose bytes are no text is written with escapes."""
        name = name.encode("utf-8", "backslashreplace").decode()
        names = self._names.setdefault(reason, [])
        self._counts[reason] = self._counts.get(reason, 0) + 1
        if len(names) < _NAMED:
            names.append(name)

    def __bool__(self):
        return bool(self._counts)

    def told(self):
        """Say it in a line: of each reason the first name, and how many more."""
        more = {reason: f" and {count - 1:,} more" if count > 1 else "" for reason, count in self._counts.items()}
        return "passed over: " + ", ".join(f"{names[0]}{more[why]} ({why})" for why, names in self._names.items())

    def all(self):
        """Give (name, reason) pairs."""
        pairs = [(name, reason) for reason, names in self._names.items() for name in names]
        more = {reason: count - _NAMED for reason, count in self._counts.items() if count > _NAMED}
        return pairs + [(f"and {count:,} more", reason) for reason, count in more.items()]


class Listing:
    """The files of one source.

    Parameters
    ----------
    source : str
        Its path, for messages.
    most : int
        Images and folders it may have.
    skipped : Skipped
    wanted : function of a file's name to bool
        Tells which files besides images are worth noting.
    tick : function
        Called for every file and folder, of whatever kind.

    Attributes
    ----------
    images : dict of tuple of str to list of Place
        By folder: ("toy", "train", "n01440764").
    documents : dict of tuple of str to Place
        By full name: ("toy", "val.txt").
    folders : dict of tuple of str to int
        How many files a folder has, of any kind.
    packed : dict of tuple of str to str
        Archives that lie in a folder: their paths.
    nested : bool
        Whether there were tars inside a tar.
    """

    def __init__(self, source, most, skipped, wanted, tick):
        self.source, self.skipped, self.tick = source, skipped, tick
        self.images, self.documents, self.folders, self.packed, self.nested = {}, {}, {}, {}, False
        self._most, self._count, self._wanted = most, 0, wanted

    def folder(self, parts):
        """Note that there is a folder."""
        if parts not in self.folders:
            self._grow()
            self.folders[parts] = 0

    def ours(self, root, parts):
        """Tell whether a name below ``root`` is worth looking at: not hidden, nor in what a tool or a system left."""
        for part in parts:
            if part in _NOT_OURS:
                self.skipped.add("/".join((*root, *parts)), "below a folder that is no part of a data set")
                return False
            if part.startswith("."):
                return False
        return True

    def add(self, parts, file, offset, size):
        """Note a file: an image, a document, or nothing of ours."""
        folder, name = parts[:-1], parts[-1]
        self.folder(folder)
        self.folders[folder] += 1
        if not is_image(name):
            if self._wanted(name):
                self.documents[parts] = Place(name, file, offset, size)
            else:
                self.skipped.add("/".join(parts), "not an image by its name")
        elif size > LARGEST:
            self.skipped.add("/".join(parts), f"larger than {LARGEST >> 20} MB")
        else:
            self._grow()
            self.images.setdefault(folder, []).append(Place(name, file, offset, size))

    def wants(self, name):
        """Tell whether a file of this name is worth noting."""
        return is_image(name) or self._wanted(name)

    def _grow(self):
        self._count += 1
        if self._count > self._most:
            raise DataError(
                f"{self.source}: more than {self._most:,} images and folders; if that is right, raise --most-files"
            )


def is_image(name):
    """Tell an image by its file's name."""
    return name.lower().endswith(ENDINGS)

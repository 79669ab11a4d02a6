"""What an index of images consists of."""

from dataclasses import dataclass
from typing import NamedTuple


class Entry(NamedTuple):
    """One image to be: what it is called, what it shows, and where its bytes are.

    A tuple and not more, because ImageNet has 1.3 million of them.

    Attributes
    ----------
    name : str
        Unique within its split, and what the split is sorted by: "n01440764/n01440764_10026.JPEG" where the folder is
        the class, "ILSVRC2012_val_00000001.JPEG" where a list names it.
    label : int
        Number of its class.
    file : str
        A file on disk that holds the bytes: the image's own, a tar, or a scratch file.
    offset, size : int
        Where in that file they begin, and how many there are.
    form : "image" or "planes32"
        An encoded picture; or the 3072 bytes of a CIFAR record: 32 x 32 of red, then green, then blue.
    """

    name: str
    label: int
    file: str
    offset: int
    size: int
    form: str = "image"


@dataclass(frozen=True)
class Index:
    """All images of a set, each with its label and its place on disk; none has been opened yet.

    Attributes
    ----------
    kind : str
        What the sources turned out to be, for people: "ILSVRC-2012", "Tiny ImageNet", "CIFAR-10", "class folders"...
    classes : list of str
        In the order of their bytes, whatever the machine's language; label k is ``classes[k]``.
    words : list of str
        The same for people; ``classes[k]`` where nobody says.
    splits : dict of str to list of Entry
        "train" and "test" (validation images are the test split), sorted by name; one of them may be empty.
    skipped : list of (str, str)
        What was there and is not an image of the set, with the reason.
    """

    kind: str
    classes: list
    words: list
    splits: dict
    skipped: list

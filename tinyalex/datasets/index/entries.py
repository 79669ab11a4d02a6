"""`Index` and `Entry`: the images of a set before they are read."""

from dataclasses import dataclass, field
from typing import NamedTuple


class Entry(NamedTuple):
    """One image: its name, its class, and where its bytes are.

    A tuple, to save memory: ImageNet has 1.3 million of them.

    Attributes
    ----------
    name : str
        Unique within its split, which is sorted by it: "n01440764/n01440764_10026.JPEG" if the folder is
        the class, "ILSVRC2012_val_00000001.JPEG" if a list has the label.
    label : int
        Number of its class.
    file : str
        Path of the file that holds the bytes: the image's own, a tar, or a scratch file.
    offset, size : int
        The bytes in that file.
    form : "image" or "planes32"
        An encoded image; or the 3072 bytes of a CIFAR record: 32 x 32 of red, then green, then blue.
    """

    name: str
    label: int
    file: str
    offset: int
    size: int
    form: str = "image"


@dataclass(frozen=True)
class Index:
    """All images of a set, each with its label and where its bytes are; none has been decoded yet.

    Attributes
    ----------
    kind : str
        What the sources were recognised as: "ILSVRC-2012", "Tiny ImageNet", "CIFAR-10", "class folders"...
    classes : list of str
        In the order of their bytes, whatever the locale, or as numbers if all of them are; label k is ``classes[k]``.
    words : list of str
        Names of the classes to show to people; ``classes[k]`` where the sources have none.
    splits : dict of str to list of Entry
        "train" and "test" (validation images are the test split), sorted by name; one of them may be empty.
    skipped : list of (str, str)
        Names of files that are not used, with the reason.
    ids : dict of str to int
        The number of each class in an ILSVRC devkit that came with the images; empty without one.
    unlabelled : bool
        Whether the labels of the test images are unknown; they are 0 here.
    """

    kind: str
    classes: list
    words: list
    splits: dict
    skipped: list
    ids: dict = field(default_factory=dict)
    unlabelled: bool = False

"""Lists that say what images show: by file name or by position, as class names or as numbers.

    ILSVRC2012_val_00000001.JPEG 65                 Caffe's val.txt: 0 to 999, in the order of the sorted wnids
    490                                             the devkit's ground truth: 1 to 1000, ids of its own, by position
    val_2.JPEG <tab> n04070727 <tab> 4 0 60 55      Tiny ImageNet's val_annotations.txt
    ILSVRC2012_val_00000001,n01751748 111 108 ...   Kaggle's LOC_val_solution.csv
    n01440764 tench, Tinca tinca                    class names: synset_words.txt, words.txt, wnids.txt and others

Which of them a list is, is seen from its lines; its file's name only says that it is worth reading.
"""

import re
from collections import Counter
from typing import NamedTuple

from tinyalex.errors import DataError

LABELS = {
    *("val.txt", "val_annotations.txt", "loc_val_solution.csv"),
    *("ilsvrc2012_validation_ground_truth.txt", "imagenet_2012_validation_synset_labels.txt"),
}
NAMES = {"synset_words.txt", "synsets.txt", "wnids.txt", "words.txt", "loc_synset_mapping.txt"}
ALL_OF_WORDNET = "words.txt"  # Tiny ImageNet's names 82,115 synsets: no list of the set's classes
WNID = re.compile(r"n\d{8}")
_LARGEST = 64 << 20  # bytes of a list


class Labels(NamedTuple):
    """What a list says.

    Attributes
    ----------
    file : str
        What to call it in messages.
    folder : tuple of str
        Where it lay.
    names : list of str, or None
        Images, without folder and ending; None: all of them, in the order of their names.
    values : list of str, or list of int
        Class names, or numbers.
    """

    file: str
    folder: tuple
    names: list
    values: list

    @property
    def numbers(self):
        """Whether the values are numbers."""
        return isinstance(self.values[0], int)


def content(place):
    """Read a small file of a source."""
    if place.size > _LARGEST:
        raise DataError(f"{place.name}: {place.size:,} bytes is more than any list of labels has; leave it out")
    try:
        with open(place.file, "rb") as file:
            file.seek(place.offset)
            return file.read(place.size)
    except OSError as error:
        raise DataError(f"{place.file}: cannot be read ({error.strerror}); check its permissions") from error


def lines(place):
    """Read a list's lines: in UTF-8 with or without a mark, ending either way; blank ones at the end do not count."""
    try:
        text = content(place).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{place.name}: not UTF-8 at byte {error.start:,}; is it a text file?") from error
    found = text.rstrip().split("\n") if text.strip() else []
    for number, line in enumerate(found):
        if not line.strip():
            raise DataError(f"{place.name}: line {number + 1:,} of {len(found):,} is blank; take it out or fill it in")
    return [line.strip() for line in found]


def read_names(place):
    """Read a list of classes.

    Returns
    -------
    dict of str to str
        Class to its name for people, or to "", in the list's order.
    """
    found = {}
    for number, line in enumerate(lines(place)):
        name, *words = line.split(None, 1)
        if name in found:
            raise DataError(f"{place.name}: line {number + 1:,} names {name} again; keep one of the lines")
        found[name] = words[0].strip() if words else ""
    return found


def is_list_of_names(place):
    """Tell whether a list is one of classes: every line begins with another wnid."""
    first = [line.split()[0] for line in lines(place)]
    return all(WNID.fullmatch(each) for each in first) and len(set(first)) == len(first) > 0


def read_labels(place, folder):
    """Read a list of labels.

    Parameters
    ----------
    place : Place
    folder : tuple of str
        Where it lay in its source.

    Returns
    -------
    Labels
    """
    found = lines(place)
    if found and found[0].lower().startswith("imageid,"):  # Kaggle's heading
        rows = [line.split()[0].split(",") for line in found[1:]]  # boxes follow the wnid
    elif any("\t" in line for line in found):
        rows = [line.split("\t") for line in found]
    else:
        rows = [line.rsplit(None, 1) for line in found]
    if not rows:
        raise DataError(f"{place.name}: no labels in it; fetch it again")
    width = min(len(rows[0]), 2)
    for number, row in enumerate(rows):
        if min(len(row), 2) != width or not all(part.strip() for part in row[:2]):
            raise DataError(
                f"{place.name}: {found[number + len(found) - len(rows)]!r} is neither a label nor an image with a label"
            )
    values = [row[width - 1].strip() for row in rows]
    names = [bare(row[0].strip()) for row in rows] if width == 2 else None
    if names and (twice := [name for name, count in Counter(names).items() if count > 1]):
        raise DataError(f"{place.name}: {twice[0]} has more than one label; keep one")
    if all(re.fullmatch(r"-?\d{1,9}", value) for value in values):
        values = [int(value) for value in values]
    elif names is None and not all(WNID.fullmatch(value) for value in values):
        odd = next(value for value in values if not WNID.fullmatch(value))
        raise DataError(f"{place.name}: {odd!r} is no label; wanted numbers, wnids, or images with either")
    return Labels(place.name, folder, names, values)


def bare(name):
    """Take folders and the ending of an image off a name, however it is written."""
    return re.sub(r"\.(jpe?g|png|bmp|ppm)$", "", name.rsplit("/", 1)[-1], flags=re.IGNORECASE)

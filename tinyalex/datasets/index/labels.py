"""Read lists of labels, by file name or by position, with class names or with numbers; and lists of classes.

    ILSVRC2012_val_00000001.JPEG 65                 Caffe's val.txt: 0 to 999, in the order of the sorted wnids
    490                                             a ground truth: 1 to 1000, ids of the devkit, by position
    val_2.JPEG <tab> n04070727 <tab> 4 0 60 55      Tiny ImageNet's val_annotations.txt
    ILSVRC2012_val_00000001,n01751748 111 108 ...   Kaggle's LOC_val_solution.csv
    n01440764 tench, Tinca tinca                    class names: synset_words.txt, words.txt, wnids.txt and others

The form of a list is recognised from its lines; by its name a file is only recognised as a list.
"""

import re
from collections import Counter
from typing import NamedTuple

from tinyalex.datasets.index import contest
from tinyalex.datasets.picture import is_image
from tinyalex.errors import DataError
from tinyalex.words import brief

_LABELS = {"val.txt", "val_annotations.txt", "loc_val_solution.csv"}
NAMES = {"synset_words.txt", "synsets.txt", "wnids.txt", "words.txt", "loc_synset_mapping.txt"}
ALL_OF_WORDNET = "words.txt"  # Tiny ImageNet's names 82,115 synsets, so it is not a list of the set's classes
WNID = re.compile(r"n\d{8}")
_LARGEST = 64 << 20  # bytes of a list


class Labels(NamedTuple):
    """The labels of a list.

    Attributes
    ----------
    file : str
        The list's name, for messages.
    folder : tuple of str
        The folder it is in.
    names : list of str, or None
        The images' names without folder and ending; None: the values are those of all images, sorted by name.
    values : list of str, or list of int
        Class names or numbers.
    from_table : bool
        Whether it is a table, as `tables` reads them.
    """

    file: str
    folder: tuple
    names: list
    values: list
    from_table: bool = False

    @property
    def has_numbers(self):
        """Whether the values are numbers, not class names."""
        return isinstance(self.values[0], int)

    @property
    def truth(self):
        """The `contest.Name` of a contest's ground truth; None for other lists."""
        return contest.truth(self.file)


def is_list_of_labels(name):
    """Return whether a file is a known list of labels, by its name."""
    return name.lower() in _LABELS or contest.truth(name) is not None


def read_span(span):
    """Return the bytes of a small file of a source."""
    if span.size > _LARGEST:
        raise DataError(f"{span.name}: {span.size:,} bytes is larger than any list of labels; leave it out")
    try:
        with open(span.file, "rb") as file:
            file.seek(span.offset)
            return file.read(span.size)
    except OSError as error:
        raise DataError(f"{span.file}: cannot be read ({error.strerror}); check its permissions") from error


def read_lines(span):
    """Return a list's lines, stripped; UTF-8, with or without a byte order mark; blank ones at the end are dropped."""
    try:
        text = read_span(span).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{span.name}: not UTF-8 at byte {error.start:,}; is it a text file?") from error
    found = text.rstrip().split("\n") if text.strip() else []
    for number, line in enumerate(found):
        if not line.strip():
            raise DataError(f"{span.name}: line {number + 1:,} of {len(found):,} is blank; remove it or fill it in")
    return [line.strip() for line in found]


def read_names(span):
    """Read a list of classes.

    Returns
    -------
    dict of str to str
        Class to the name to show to people, or to "", in the list's order.
    """
    found = {}
    for number, line in enumerate(read_lines(span)):
        name, *words = line.split(None, 1)
        if name in found:
            raise DataError(f"{span.name}: line {number + 1:,} names {name} again; keep one of the lines")
        found[name] = words[0].strip() if words else ""
    return found


def is_list_of_names(span):
    """Return whether a list is one of classes: every line begins with a different wnid."""
    first = [line.split()[0] for line in read_lines(span)]
    return all(WNID.fullmatch(word) for word in first) and len(set(first)) == len(first) > 0


def read_labels(span, folder):
    """Read a list of labels.

    Parameters
    ----------
    span : FileSpan
    folder : tuple of str
        The folder it is in, within its source.

    Returns
    -------
    Labels
    """
    found = read_lines(span)
    if found and found[0].lower().startswith("imageid,"):  # Kaggle's heading
        rows = [line.split()[0].split(",") for line in found[1:]]  # bounding boxes follow the wnid
    elif any("\t" in line for line in found):
        rows = [line.split("\t") for line in found]
    else:
        rows = [line.rsplit(None, 1) for line in found]
    if not rows:
        raise DataError(f"{span.name}: has no labels; fetch it again")
    width = min(len(rows[0]), 2)
    for number, row in enumerate(rows):
        if min(len(row), 2) != width or not all(part.strip() for part in row[:2]):
            line = found[number + len(found) - len(rows)]
            raise DataError(f"{span.name}: {brief(line)} is neither a label nor an image name with a label")
    values = [row[width - 1].strip() for row in rows]
    names = [bare_name(row[0].strip()) for row in rows] if width == 2 else None
    if names and (twice := [name for name, count in Counter(names).items() if count > 1]):
        raise DataError(f"{span.name}: {twice[0][:60]} has more than one label; keep one")
    if all(re.fullmatch(r"-?\d{1,9}", value) for value in values):
        values = [int(value) for value in values]
    elif names is None and not all(WNID.fullmatch(value) for value in values):
        odd = next(value for value in values if not WNID.fullmatch(value))
        what = f"{brief(odd)} is not a label"
        raise DataError(f"{span.name}: {what}; expected numbers, wnids, or image names with either")
    return Labels(span.name, folder, names, values)


def bare_name(name):
    """Return an image's name without folders and without its ending, in upper or lower case."""
    own = name.rsplit("/", 1)[-1]
    return own.rpartition(".")[0] if is_image(own) else own

"""Tables of labels for images in one folder: CSV files with a line an image, as people and spreadsheets write them.

    file,label                    photo;class;split                 b1.jpg <tab> owl
    "owl, grey/1.jpg",owl         1;owl;train                       b2.jpg <tab> jay

Separated by commas, semicolons or tabs, with or without a heading, with any columns besides. The column of the files is
the one that names most of the images; names may have folders, or no ending.
"""

import codecs
import csv
import re
import unicodedata
from collections import Counter
from typing import NamedTuple

from tinyalex.datasets.index.labels import read_span
from tinyalex.datasets.index.layout import root_name
from tinyalex.datasets.names import shown
from tinyalex.datasets.picture import is_image
from tinyalex.errors import DataError

ENDINGS = (".csv", ".tsv")
# Headings of columns of classes; in a table with several of them the first in this order is read.
_CLASS = (
    *("class", "classname", "label", "labelname", "labels", "classes", "category", "categoryname", "target", "name"),
    *("species", "breed", "tag", "classid", "labelid", "categoryid", "id"),
)
_SPLIT = ("split", "set", "subset", "dataset", "partition", "fold", "usage", "phase")
_FILE = ("file", "filename", "filepath", "path", "image", "imageid", "imagename", "imagepath", "img", "photo")


def is_table(name):
    """Return whether a file is a table, by its name."""
    return name.lower().endswith(ENDINGS)


class Match(NamedTuple):
    """What a table says about some images.

    Attributes
    ----------
    values : list of (item, str, str)
        The items of images that have a class, in the table's order, each with the class and with "train", "val" or
        "test", or "" if no column says the split.
    line : str
        What was read, for people: columns, and lines and images that do not fit.
    """

    values: list
    line: str


class Images:
    """Images by all the names that a table may use for them.

    Parameters
    ----------
    items : dict of str to object
        The path of each image, "photos/owl/1.jpg", and what stands for it.
    """

    def __init__(self, items):
        self._exact, self._bare = {}, {}
        for path, item in items.items():
            parts = _normal(path).split("/")
            for k in range(len(parts)):
                name = "/".join(parts[k:])
                self._exact.setdefault(name, []).append(item)
                self._bare.setdefault(_without_ending(name), []).append(item)

    def find(self, name):
        """Return the items that a name may stand for: with as many of its folders as fit, ending first."""
        parts = _normal(name.strip().replace("\\", "/")).split("/")
        for table, spell in ((self._exact, str), (self._bare, _without_ending)):
            for k in range(len(parts)):
                if found := table.get(spell("/".join(parts[k:]))):
                    return found
        return []


def match(span, images):
    """Read a table and find its images.

    Parameters
    ----------
    span : FileSpan
    images : Images

    Returns
    -------
    Match, or None
        None if it names no image.

    Raises
    ------
    DataError
        If an image has two classes or a name could be that of two images, or if the column of classes is not clear.
    """
    text, note = _decoded(span)
    rows, column = max(
        (_by_column(text, sign, images) for sign in ",;\t"), key=lambda found: found[1][1] if found[1] else 0
    )
    if not column or not column[1]:
        return None
    at = column[0]
    heading = rows[0] if _is_heading(rows, at, images) else None
    body = rows[1:] if heading else rows
    of_class = _class_column(span.name, heading, body, at)
    of_split, unused = _split_column(span.name, heading, body)
    chosen, splits, repeated, unknown, without = {}, {}, 0, [], 0
    for row in body:
        name, value = row[at].strip(), row[of_class].strip() if len(row) > of_class else ""
        value = re.sub(r"^(\d+)\.0+$", r"\1", value)  # as pandas writes whole numbers
        found = images.find(name) if name else []
        if len(found) > 1:
            raise DataError(
                f"{span.name}: {shown(name)} is the name of {len(found)} images; write their folders as well"
            )
        if not value:
            without += 1
        elif not found:
            unknown.append(name)
        elif chosen.setdefault(found[0], value) != value:
            both = f"{shown(chosen[found[0]])} and {shown(value)}"
            raise DataError(f"{span.name}: {shown(name)} has two classes, {both}; keep one")
        else:
            repeated += found[0] in splits
            splits[found[0]] = root_name(row[of_split].strip()) if of_split is not None else ""
    title = [repr(heading[k].strip()) if heading else str(k + 1) for k in (at, of_class)]
    line = f"{span.name}: the classes of {len(chosen):,} images, from the columns {title[0]} and {title[1]}{note}"
    line += f"; their splits from {heading[of_split].strip()!r}" if of_split is not None else unused
    line += f"; {repeated:,} {_lines(repeated)} repeated" if repeated else ""
    line += f"; {without:,} {_lines(without)} without a class" if without else ""
    line += (
        f"; {len(unknown):,} {_lines(len(unknown))} without an image, such as {shown(unknown[0])}" if unknown else ""
    )
    return Match([(item, value, splits[item]) for item, value in chosen.items()], line)


def _lines(count):
    return "line" if count == 1 else "lines"


def _normal(name):
    return unicodedata.normalize("NFC", name).removeprefix("./")


def _without_ending(name):
    return name.rpartition(".")[0] if is_image(name) else name


def _decoded(span):
    content = read_span(span)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):  # a spreadsheet's "Unicode text"
        return content.decode("utf-16", "replace"), ""
    try:
        return content.decode("utf-8-sig"), ""
    except UnicodeDecodeError as error:
        if content.startswith(codecs.BOM_UTF8):
            raise DataError(f"{span.name}: not UTF-8 at byte {error.start + 3:,}, though it begins as such") from error
        return content.decode("cp1252", "replace"), " (not UTF-8, read as Windows-1252)"


def _by_column(text, sign, images):
    # Return the rows that a separator gives, and (column, how many images it names) of the column that names most.
    lines = text.splitlines(keepends=True)
    lines = lines[1:] if lines and re.fullmatch(r'"?sep=.?"?\s*', lines[0]) else lines
    try:
        rows = [row for row in csv.reader(lines, delimiter=sign, skipinitialspace=True) if any(map(str.strip, row))]
    except csv.Error:
        return [], None
    counts = Counter(k for row in rows for k, cell in enumerate(row) if cell.strip() and images.find(cell))
    at, count = max(counts.items(), key=lambda pair: (pair[1], -pair[0]), default=(0, 0))
    return [row for row in rows if len(row) > at], (at, count)


def _is_heading(rows, at, images):
    first = rows[0][at].strip()
    if is_image(first) or images.find(first):
        return False
    return any(map(_word, rows[0])) or any(is_image(row[at].strip()) for row in rows[1:])


def _word(cell):
    word = re.sub(r"[^a-z]", "", cell.lower())
    return word if word in _CLASS + _FILE else ""


def _split_column(file, heading, body):
    # The column of splits, if there is one, and a note on one that has other words.
    note = ""
    for k, cell in enumerate(heading or ()):
        if re.sub(r"[^a-z]", "", cell.lower()) not in _SPLIT:
            continue
        values = {row[k].strip() if len(row) > k else "" for row in body}
        others = sorted(value for value in values if root_name(value) not in ("train", "val", "test"))
        if not others:
            return k, ""
        title, other = shown(cell.strip()), shown(others[0]) or "nothing"
        if len(others) < len(values):
            raise DataError(
                f"{file}: the column {title} says {other} in some lines, which is not a split; write train, val or "
                "test in all of them"
            )
        note = f"; the column {title} is not used: {other} is not a split"
    return None, note


def _class_column(file, heading, body, at):
    filled = {k for row in body for k, cell in enumerate(row) if cell.strip()} - {at}
    if not filled:
        raise DataError(f"{file}: has a column of images, but none of classes; add one named label")
    if len(filled) == 1 or not heading:
        return min(filled, key=lambda k: (k < at, k))  # the next one after the images
    named = [k for k in sorted(filled) if k < len(heading) and _word(heading[k]) in _CLASS]
    if not named:
        others = ", ".join(shown(heading[k].strip()) for k in sorted(filled) if k < len(heading))
        raise DataError(f"{file}: none of the columns {others} is named label or class; rename the one of the classes")
    numbers = {k: all(re.fullmatch(r"-?[\d.]*", row[k].strip()) for row in body if len(row) > k) for k in named}
    return min(named, key=lambda k: (numbers[k], _CLASS.index(_word(heading[k]))))  # a name before a number

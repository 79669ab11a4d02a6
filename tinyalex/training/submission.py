"""Lists of the classes that a net finds in test images: ILSVRC's files of results, or a table.

65 431 12 970 4                         ILSVRC: a line an image, in the order of the images' numbers; at most five
970 65 3 228 1                          ids of classes, the most probable first (readme.txt of the devkits)

file,class 1,class 2                    other sets: CSV, in the order of the files' names
cat/1.png,cat,owl
"""

import csv
import io
import re
from typing import NamedTuple

import numpy as np

from tinyalex.datasets.dataset import ImageNames
from tinyalex.errors import DataError
from tinyalex.words import counted

_GUESSES = 5  # per image, in the contests' rules
_ROWS = 4096  # images that are ranked at a time
_NUMBERED = re.compile(r"(ILSVRC\d{4}_(?:val|test))_(\d{8})\.JPE?G", re.IGNORECASE)


class Results(NamedTuple):
    """A file of results.

    Attributes
    ----------
    text : str
    form : str
        What its lines are, for people.
    """

    text: str
    form: str


def best(probabilities: np.ndarray) -> np.ndarray:
    """Return the labels of the five most probable classes of each image, of equal ones the lower label first.

    Parameters
    ----------
    probabilities : ndarray, shape (n, classes)

    Returns
    -------
    ndarray of int, shape (n, min(5, classes))

    Raises
    ------
    DataError
        If a probability is not finite: no class is more probable than another one then.
    """
    if count := int((~np.isfinite(probabilities).all(axis=1)).sum()):
        raise DataError(
            f"the net gives probabilities that are not finite for {counted(count, 'image')}; nothing is written; "
            "use an earlier checkpoint"
        )
    chosen = np.empty((len(probabilities), min(_GUESSES, probabilities.shape[1])), np.int64)
    for first in range(0, len(chosen), _ROWS):
        rest = probabilities[first : first + _ROWS].copy()
        images = np.arange(len(rest))
        for k in range(chosen.shape[1]):
            found = rest.argmax(axis=1)  # of equal ones the first
            rest[images, found] = -np.inf
            chosen[first : first + _ROWS, k] = found
    return chosen


def results(probabilities: np.ndarray, classes: list[str], names: ImageNames) -> Results:
    """Return the file of results of a net: in ILSVRC's form if the images and their classes are the contest's.

    Parameters
    ----------
    probabilities : ndarray, shape (n, classes)
    classes : list of str
    names : ImageNames
        Of the images, in the order of the probabilities.

    Raises
    ------
    DataError
        If a probability is not finite.
    """
    labels = best(probabilities)
    order = sorted(range(len(labels)), key=lambda k: names.names[k])
    why = _why_no_contest(classes, names)
    if not why:
        ids = [names.ids[name] for name in classes]
        lines = [" ".join(str(ids[label]) for label in labels[k]) + "\n" for k in order]
        first = names.names[order[0]].partition("_")[0]
        form = f"{counted(labels.shape[1], 'id')} of classes each, as {first.replace('ILSVRC', 'ILSVRC-')} scores them"
        return Results("".join(lines), form)
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(["file", *(f"class {k + 1}" for k in range(labels.shape[1]))])
    table.writerows([names.names[k], *(classes[label] for label in labels[k])] for k in order)
    return Results(stream.getvalue(), f"a table of files and classes{why}")


def _why_no_contest(classes: list[str], names: ImageNames) -> str:
    # Return why the contest's form cannot be used, or "".
    found = [match for name in names.names if (match := _NUMBERED.fullmatch(name))]
    if len(found) < len(names.names) or len({match[1] for match in found}) != 1:
        return "; the set is not of an ILSVRC contest"
    if not names.ids.keys() >= set(classes):
        return ", as no devkit came with the images; prepare them with it for the contest's form"
    missing = set(range(1, len(found) + 1)) - {int(match[2]) for match in found}
    if missing:
        return f", as image number {min(missing):,} is missing; the contest's form has a line for every image"
    return ""

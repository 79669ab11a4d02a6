"""Read the table of an ILSVRC devkit, meta.mat or meta_clsloc.mat: the synset of each of its ids, 1 to 1000.

The ids are not in the order of the wnids, so an id is turned into a label by its wnid, never by its position. The field
of the ids has the contest's year in its name: ILSVRC2010_ID, ILSVRC2012_ID, ILSVRC2015_CLSLOC_ID.
"""

import re
from typing import NamedTuple

from tinyalex.datasets.index import contest, matfile
from tinyalex.datasets.index.labels import WNID, read_span
from tinyalex.errors import DataError

TABLES = {"meta.mat", "meta_clsloc.mat"}
_ID = re.compile(r"ILSVRC(\d{4})(?:_CLSLOC)?_ID")
_IMAGES = {"feature", "features", "demo", "evaluation"}  # folders beside data/; that of 2010 has pictures in one


class Synsets(NamedTuple):
    """A devkit's classes.

    Attributes
    ----------
    year : int
        As `contest.same_year` gives it.
    ids : dict of int to str
        Id to wnid, of the synsets without descendants, which are ILSVRC's classes.
    words : dict of str to str
        Wnid to the names of its synset.
    """

    year: int
    ids: dict
    words: dict


def leave_out_images(listing):
    """Add the images of a devkit's own programs to those skipped."""
    homes = {parts[:-2] for parts in listing.documents if parts[-1].lower() in TABLES and parts[-2:-1] == ("data",)}
    for home in homes:
        for folder in [folder for folder in listing.images if folder[: len(home)] == home]:
            if folder[len(home) : len(home) + 1] and folder[len(home)] in _IMAGES:
                for image in listing.images.pop(folder):
                    listing.skipped.add("/".join((*folder, image.name)), "an image of the devkit")


def read_synsets(span):
    """Read such a table.

    Parameters
    ----------
    span : FileSpan

    Returns
    -------
    Synsets

    Raises
    ------
    DataError
        If the file is damaged or not such a table.
    """
    content = read_span(span)
    try:
        rows = matfile.read(content)["synsets"]
        leaves = [row for row in rows if row.get("num_children", [0]) == [0]]
        field = next(filter(_ID.fullmatch, rows[0]))
        ids = {int(row[field][0]): row["WNID"] for row in leaves}
        words = {row["WNID"]: row["words" if "words" in row else "name"] for row in leaves}
    except Exception as error:  # a damaged file can make the reader raise anything
        raise DataError(
            f"{span.name}: no synsets in it, or damaged ({type(error).__name__}); fetch the devkit again"
        ) from error
    if sorted(ids) != list(range(1, len(leaves) + 1)) or len(words) != len(leaves):
        raise DataError(f"{span.name}: its ids are not 1 to {len(leaves):,}; fetch the devkit again")
    if odd := [each for pair in words.items() for each in pair if not isinstance(each, str)] or [
        wnid for wnid in words if not WNID.fullmatch(wnid)
    ]:
        raise DataError(f"{span.name}: {odd[0]!r} is not a synset's name; fetch the devkit again")
    return Synsets(contest.same_year(int(_ID.fullmatch(field)[1])), ids, words)

"""Read the ILSVRC-2012 devkit's meta.mat: the synset of each of its ids, 1 to 1000.

The ids are not in the order of the wnids, so an id is turned into a label by its wnid, never by its position.
"""

from tinyalex.datasets.index import matfile
from tinyalex.datasets.index.labels import WNID, read_span
from tinyalex.errors import DataError


def read_synsets(span):
    """Read meta.mat.

    Parameters
    ----------
    span : FileSpan

    Returns
    -------
    ids : dict of int to str
        Id to wnid, of the synsets without descendants, which are ILSVRC's classes.
    words : dict of str to str
        Wnid to the names of its synset.

    Raises
    ------
    DataError
        If the file is damaged or not such a table.
    """
    content = read_span(span)
    try:
        leaves = [row for row in matfile.read(content)["synsets"] if row["num_children"] == [0]]
        ids = {int(row["ILSVRC2012_ID"][0]): row["WNID"] for row in leaves}
        words = {row["WNID"]: row["words"] for row in leaves}
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
    return ids, words

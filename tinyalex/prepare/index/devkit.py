"""The ILSVRC-2012 devkit's meta.mat: which of its ids, 1 to 1000, is which synset.

The ids are in no order that anything else uses: an id becomes a label by way of its wnid, never by its position.
"""

from tinyalex.errors import DataError
from tinyalex.prepare.index import matfile
from tinyalex.prepare.index.labels import WNID, content


def synsets(place):
    """Read meta.mat.

    Parameters
    ----------
    place : Place

    Returns
    -------
    ids : dict of int to str
        Id to wnid, of the synsets that have no others below them: ILSVRC's classes.
    words : dict of str to str
        Wnid to its name for people.

    Raises
    ------
    DataError
        If the file is not what it should be.
    """
    whole = content(place)
    try:
        leaves = [row for row in matfile.read(whole)["synsets"] if row["num_children"] == [0]]
        ids = {int(row["ILSVRC2012_ID"][0]): row["WNID"] for row in leaves}
        words = {row["WNID"]: row["words"] for row in leaves}
    except Exception as error:  # whatever a damaged file makes the reader trip over
        raise DataError(
            f"{place.name}: no synsets in it, or damaged ({type(error).__name__}); fetch the devkit again"
        ) from error
    if sorted(ids) != list(range(1, len(leaves) + 1)) or len(words) != len(leaves):
        raise DataError(f"{place.name}: its ids are not 1 to {len(leaves):,}, each once; fetch the devkit again")
    if odd := [each for pair in words.items() for each in pair if not isinstance(each, str)] or [
        wnid for wnid in words if not WNID.fullmatch(wnid)
    ]:
        raise DataError(f"{place.name}: {odd[0]!r} is no name of a synset; fetch the devkit again")
    return ids, words

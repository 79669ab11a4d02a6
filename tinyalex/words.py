"""Words in messages: things are counted, and names that are not known are answered with similar ones."""

import difflib
from collections.abc import Iterable

_SIMILAR = 0.6  # ratio of difflib's SequenceMatcher from which a name is suggested


def counted(number: int, noun: str) -> str:
    """Return a number with a noun in its singular or plural.

    Examples
    --------
    >>> counted(1, "image"), counted(1281167, "training image"), counted(0, "class")
    ('1 image', '1,281,167 training images', '0 classes')
    """
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{number:,} {noun if number == 1 else plural}"


def brief(text: str, most: int = 60) -> str:
    """Return a text in quotes for a message, cut if it is long: labels of a table may be whole paragraphs.

    Examples
    --------
    >>> brief("cat"), brief("tabby " * 1000, 16)
    ("'cat'", "'tabby tabby tabb'... (6,000 characters)")
    """
    return repr(text) if len(text) <= most else f"{text[:most]!r}... ({len(text):,} characters)"


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """Return what to add to a message about an unknown word: the candidate that resembles it, or all of them.

    Dotted words are compared by their last parts, so that ``learning.foo`` does not resemble ``learning.drops``.

    Examples
    --------
    >>> did_you_mean("trian", ["train", "predict"])
    '; did you mean "train"?'
    >>> did_you_mean("vacation", ["train", "predict"])
    '; give one of train, predict'
    """

    def similarity(one: str, other: str) -> float:
        return difflib.SequenceMatcher(None, one.lower(), other.lower()).ratio()

    def similarity_of_ends(candidate: str) -> float:
        return similarity(word.rpartition(".")[2], candidate.rpartition(".")[2])

    candidates = list(candidates)
    best = max(candidates, key=lambda candidate: similarity(word, candidate) + similarity_of_ends(candidate))
    if similarity_of_ends(best) >= _SIMILAR:
        return f'; did you mean "{best}"?'
    section = f"{word.rpartition('.')[0]}."
    return f"; give one of {', '.join([name for name in candidates if name.startswith(section)] or candidates)}"

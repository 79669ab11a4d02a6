"""Names of files and classes as they come from disks: bytes that are not UTF-8, two forms of é, control characters.

A class keeps its name, which may contain anything that a file's name may; only bytes that are not UTF-8 are escaped,
and composed and decomposed letters are the same. What people see, on a terminal and in pictures, is `shown`.
"""

import unicodedata
from collections import defaultdict

# Characters that would break a line or change how the rest of it looks: control characters, line and paragraph
# separators, halves of pairs, and the formatting characters that switch the direction of writing.
_BREAKING = {"Cc", "Zl", "Zp", "Cs"}
_DIRECTIONS = {*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}


def readable(name):
    """Return a file's name with its bytes that are not UTF-8 written as ``\\xe9``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def class_name(name):
    """Return the class of a folder's name: `readable`, with composed letters (Unicode's form NFC)."""
    return unicodedata.normalize("NFC", readable(name))


def shown(name):
    """Return a name on one line: characters that break a line, or that change its direction, are escaped."""
    return "".join(
        char.encode("unicode_escape").decode()
        if unicodedata.category(char) in _BREAKING or char in _DIRECTIONS
        else char
        for char in name
    )


def width(text):
    """Return how many columns of a terminal a text takes: two for wide characters, none for combining ones."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.category(char) in ("Mn", "Me", "Cf") for char in text)


def padded(text, columns):
    """Return a text filled up with spaces to a number of columns of a terminal."""
    return text + " " * (columns - width(text))


def notes(classes, spellings):
    """Yield lines about classes that may not be what was meant.

    Parameters
    ----------
    classes : list of str
    spellings : dict of str to set of str
        The names of the folders of each class.
    """
    for name in classes:
        if len(spellings.get(name, ())) > 1:
            yield f"{shown(name)}: the folders of this class are named in two Unicode forms of the same letters"
    same = defaultdict(list)
    for name in classes:
        same[name.casefold()].append(shown(name))
    for alike in same.values():
        if len(alike) > 1:
            yield f"{' and '.join(alike)} differ only in upper and lower case; they are {len(alike)} classes"

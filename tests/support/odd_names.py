"""A small set whose classes and files have names that no one would choose, but that disks have."""

import os
import unicodedata

import numpy as np

from tests.support import toy_imagenet

ACCENT = "\N{LATIN SMALL LETTER E WITH ACUTE}tude"
# Names of folders, and the classes that they become, where these differ.
FOLDERS = [
    os.fsdecode(b"caf\xe9"),  # Latin-1, not UTF-8
    "no\N{NO-BREAK SPACE}break",
    "\N{WOMAN}\N{ZERO WIDTH JOINER}\N{WOMAN}\N{ZERO WIDTH JOINER}\N{GIRL}",
    "\N{HEBREW LETTER HET}\N{HEBREW LETTER TAV}\N{HEBREW LETTER VAV}\N{HEBREW LETTER LAMED}",
    "\N{ARABIC LETTER QAF}\N{ARABIC LETTER TAH}\N{ARABIC LETTER TEH MARBUTA}",
    "two\nlines",
    "a\ttab",
    "long " + 40 * "name, " + "end",
    ACCENT,
    "Cat",
    "cat",
    "\N{CJK UNIFIED IDEOGRAPH-732B} \N{KATAKANA LETTER NE}\N{KATAKANA LETTER KO} \N{HANGUL SYLLABLE GO}",
    "$a_b$ \\alpha",
    ", comma first",
    "\x1b[31mred",
    "\N{RIGHT-TO-LEFT OVERRIDE}gnp",
    "\"quoted\" 'too'",
    "%s {0} [bold]#",
    "-x",
    " spaces ",
]
CLASSES = sorted("caf\\xe9" if name.startswith("caf") else name for name in FOLDERS)


def make(root):
    """Write two training images and a test image of each class; in the test part one name is in decomposed form."""
    rng = np.random.default_rng(0)
    contents = {}
    for name in FOLDERS:
        other = unicodedata.normalize("NFD", name) if name == ACCENT else name
        file = name[:60]
        contents |= {
            f"train/{name}/{file}.jpg": None,
            f"train/{name}/{file}\n2.jpg": None,
            f"test/{other}/{file}.jpg": None,
        }
    return toy_imagenet.tree(root, {name: toy_imagenet.jpeg(rng, 24, 24) for name in contents})

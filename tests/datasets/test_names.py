"""Names as they come from disks: escaped bytes, composed letters, one line, columns of a terminal."""

import os
import unicodedata

import pytest

from tests.support import odd_names
from tests.support.toy_imagenet import tar, tree
from tinyalex.datasets import Dataset, ImageSet, names
from tinyalex.datasets.index.sources import index


@pytest.mark.parametrize(
    ("raw", "readable"),
    [(b"caf\xe9", "caf\\xe9"), ("café".encode(), "café"), (b"\xff\xfe", "\\xff\\xfe"), (b"a\\b", "a\\b"), (b"", "")],
)
def test_bytes_that_are_not_utf_8_are_escaped(raw, readable):
    assert names.readable(os.fsdecode(raw)) == readable
    assert names.readable(readable) == readable


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("two\nlines", "two\\nlines"),
        ("a\ttab", "a\\ttab"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\u202egnp", "\\u202egnp"),
        ("a\u2028b", "a\\u2028b"),
        ("half \udce9", "half \\udce9"),
        ("no\u00a0break", "no\u00a0break"),
        ("\u732b café", "\u732b café"),
        ("\U0001f469\u200d\U0001f467", "\U0001f469\u200d\U0001f467"),
    ],
)
def test_what_is_shown_stays_on_one_line(name, shown):
    assert names.shown(name) == shown and names.shown(shown) == shown
    assert len(names.shown(name).splitlines()) == 1


def test_the_width_on_a_terminal():
    for text, columns in (("cat", 3), ("猫", 2), ("e\u0301", 1), ("", 0), ("ｆｕｌｌ", 8)):
        assert names.width(text) == columns and names.width(names.padded(text, 9)) == 9


def test_the_words_of_a_data_set_stay_on_one_line():
    import numpy as np

    images = ImageSet(np.zeros((2, 8, 8, 3), np.uint8), np.array([0, 1]))
    dataset = Dataset("x", ["a\nb", "c"], images, images)
    assert dataset.classes == ["a\nb", "c"] and dataset.words == ["a\\nb", "c"]


@pytest.mark.parametrize("form", ["folder", "tar"])
def test_two_unicode_forms_are_one_class_and_names_that_differ_in_case_are_two(form, tmp_path):
    composed, decomposed = (unicodedata.normalize(form, odd_names.ACCENT) for form in ("NFC", "NFD"))
    files = dict.fromkeys(
        [f"train/{composed}/1.png", f"train/{decomposed}/2.png", "train/Cat/1.png", "train/cat/1.png"]
    )
    files |= dict.fromkeys([f"test/{decomposed}/1.png", "test/Cat/1.png", "test/cat/1.png"])
    files = {name: name.encode() for name in files}
    source = tree(tmp_path / "set", files) if form == "folder" else tmp_path / "set.tar"
    if form == "tar":
        tar(source, files)
    lines = []
    seen = index([source], tmp_path / "work", lines.append)
    assert seen.classes == ["Cat", "cat", composed]
    assert [entry.name for entry in seen.splits["train"] if entry.label == 2] == [
        f"{composed}/1.png",
        f"{composed}/2.png",
    ]
    assert lines == [
        f"{composed}: the folders of this class are named in two Unicode forms of the same letters",
        "Cat and cat differ only in upper and lower case; they are 2 classes",
    ]


def test_the_odd_names_become_their_classes(tmp_path):
    seen = index([odd_names.make(tmp_path / "odd")], tmp_path / "work", print)
    assert seen.classes == odd_names.CLASSES
    assert len(seen.splits["train"]) == 2 * len(seen.splits["test"]) == 2 * len(odd_names.FOLDERS)
    assert all(len(word.splitlines()) == 1 for word in seen.words)

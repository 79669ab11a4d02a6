"""Tables of labels (CSV) beside flat images: their forms, and lines and images that do not fit."""

import unicodedata

import pytest

from tests.support.toy_imagenet import tree
from tinyalex.datasets.index.sources import index
from tinyalex.errors import DataError

CATS, DOGS = ("1", "3", "5"), ("2", "4")
EXPECTED = {f"{k}.jpg": "cat" if k in CATS else "dog" for k in CATS + DOGS}


@pytest.fixture
def photos(tmp_path):
    return tree(tmp_path / "photos", dict.fromkeys(EXPECTED, b"x"))


@pytest.fixture
def look(tmp_path, photos):
    """Write a table beside the photos; return the labels by name, the classes and the lines shown."""

    def look(table, *more, name="labels.csv"):
        lines = []
        tree(photos, {name: table if isinstance(table, bytes) else table.encode()})
        seen = index([photos, *more], tmp_path / "work", lines.append)
        assert seen.splits["test"] == []
        return {entry.name: seen.classes[entry.label] for entry in seen.splits["train"]}, seen, lines

    return look


def lines_of(form, heading="", labels=None):
    labels = labels or EXPECTED
    return heading + "".join(form.format(name=name, stem=name[:-4], label=label) for name, label in labels.items())


FORMS = {
    "plain": lines_of("{name},{label}\n", "file,label\n"),
    "name": lines_of("{name},{label}\n", "file,name\n"),
    "other headings": lines_of("{name},{label}\n", "Dateiname,Tier\n"),
    "no heading": lines_of("{name},{label}\n"),
    "spaces": lines_of("{name} , {label}\n", "file , label\n"),
    "quoted": lines_of('"{name}","{label}"\n', '"file","label"\n'),
    "CRLF": lines_of("{name},{label}\r\n", "file,label\r\n"),
    "CR": lines_of("{name},{label}\r", "file,label\r"),
    "BOM": b"\xef\xbb\xbf" + lines_of("{name},{label}\n", "file,label\n").encode(),
    "UTF-16": lines_of("{name}\t{label}\r\n", "file\tlabel\r\n").encode("utf-16"),
    "semicolon": lines_of("{name};{label}\n", "file;label\n"),
    "tab": lines_of("{name}\t{label}\n", "file\tlabel\n"),
    "sep": lines_of("{name};{label}\n", "sep=;\nfile;label\n"),
    "no ending": lines_of("{stem},{label}\n", "id,breed\n"),
    "no ending, no heading": lines_of("{stem},{label}\n"),
    "another ending": lines_of("{stem}.PNG,{label}\n", "id,breed\n"),
    "folder": lines_of("photos/{name},{label}\n", "file,label\n"),
    "other folders": lines_of("/home/me/Photos/{name},{label}\n", "file,label\n"),
    "Windows": lines_of("C:\\photos\\{name},{label}\n", "file,label\n"),
    "./": lines_of("./{name},{label}\n", "file,label\n"),
    "more columns": lines_of("7,{name},me,{label},0.5\n", "line,image,author,label,score\n"),
    "label first": lines_of("{label},{name}\n", "class,image\n"),
    "label first, no heading": lines_of("{label},{name}\n"),
    "more columns, no heading": lines_of("{name},{label},0.5\n"),
    "number and name": lines_of("{name},3,{label}\n", "file,label,name\n"),
    "quoted comma": lines_of('"{name}","{label}","a, b\nc"\n', "file,label,remark\n"),
    "blank lines": lines_of("\n{name},{label}\n\n", "file,label\n"),
    "no newline at the end": lines_of("{name},{label}\n", "file,label\n").rstrip(),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_table(look, form):
    labels, seen, lines = look(FORMS[form])
    assert labels == EXPECTED and seen.classes == ["cat", "dog"] and seen.kind == "images with a list of labels"
    assert len(lines) == 1 and "labels.csv: the classes of 5 images, from the columns " in lines[0]


@pytest.mark.parametrize("name", ["labels.csv", "Labels.CSV", "my photos.tsv", "train.csv"])
def test_a_table_of_any_name(look, name):
    assert look(FORMS["plain"], name=name)[0] == EXPECTED


def test_a_table_given_as_a_source_of_its_own(look, photos, tmp_path):
    table = tree(tmp_path / "elsewhere", {"my.csv": FORMS["plain"].encode()}) / "my.csv"
    lines = []
    seen = index([photos, table], tmp_path / "work", lines.append)
    assert {entry.name: seen.classes[entry.label] for entry in seen.splits["train"]} == EXPECTED
    assert lines == [f"{table}: the classes of 5 images, from the columns 'file' and 'label'"]


def test_numbers_are_the_names_of_classes_unless_there_is_a_list_of_them(look):
    numbers = {name: "3" if label == "cat" else "12" for name, label in EXPECTED.items()}
    for form in ("{name},{label}\n", "{name},{label}.0\n"):
        labels, seen, _ = look(lines_of(form, "file,label\n", numbers))
        assert labels == numbers and set(seen.classes) == {"3", "12"}


@pytest.mark.parametrize("first", [0, 1])
def test_numbers_with_a_list_of_classes(look, photos, first):
    tree(photos, {"synset_words.txt": b"n00000001 cat\nn00000002 dog\n"})
    numbers = {name: str(first + (label == "dog")) for name, label in EXPECTED.items()}
    if first:  # ids of wnids are those of the devkit
        with pytest.raises(DataError, match="labels are ids from 1, which are not in the order of the class names"):
            look(lines_of("{name},{label}\n", "file,label\n", numbers))
    else:
        labels, seen, _ = look(lines_of("{name},{label}\n", "file,label\n", numbers))
        assert seen.classes == ["n00000001", "n00000002"] and seen.words == ["cat", "dog"]
        assert [label[-1] for label in labels.values()] == [str(1 + (EXPECTED[name] == "dog")) for name in labels]


def test_lines_and_images_that_do_not_fit_are_counted(look, photos):
    table = FORMS["plain"].replace("4.jpg,dog\n", "") + "1.jpg,cat\n1.jpg,cat\n6.jpg,cat\n8.jpg,dog\n4.jpg,\n"
    labels, seen, lines = look(table)
    assert labels == {name: label for name, label in EXPECTED.items() if name != "4.jpg"}
    file = photos / "labels.csv"
    assert lines[0] == (
        f"{file}: the classes of 4 images, from the columns 'file' and 'label'; 2 lines repeated; 1 line without a "
        f"class; 2 lines without an image, such as 6.jpg; 1 of the images in {photos} not in it, left out: 4.jpg"
    )
    assert ("photos/4.jpg", f"not in {file}") in seen.skipped


NONE = "names none of the 5 images without a class, such as photos/1.jpg"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (FORMS["plain"] + "1.jpg,dog\n", "1.jpg has two classes, cat and dog; keep one"),
        (lines_of("{name}\n", "file\n"), "has a column of images, but none of classes; add one named label"),
        (lines_of("{name},\n", "file,label\n"), "has a column of images, but none of classes; add one named label"),
        (
            lines_of("{name},{label},me\n", "file,Tier,Autor\n"),
            "none of the columns Tier, Autor is named label or class; rename the one of the classes",
        ),
        ("file,label\na.jpg,cat\n", NONE),
        (b"\x00\x01\x02", NONE),
        (b"", NONE),
        (b"\xef\xbb\xbffile,label\n1.jpg,caf\xe9\n", "not UTF-8 at byte 23, though it begins as such"),
    ],
)
def test_tables_that_cannot_be_used(look, photos, table, message):
    with pytest.raises(DataError) as caught:
        look(table)
    assert str(caught.value) == f"{photos}/labels.csv: {message}"


def test_windows_1252_is_read_and_said(look):
    labels, _, lines = look(lines_of("{name};{label}\n", "file;label\n").replace("cat", "Käfer").encode("cp1252"))
    assert set(labels.values()) == {"Käfer", "dog"} and lines[0].endswith(" (not UTF-8, read as Windows-1252)")


def test_names_are_compared_whatever_their_unicode_form(look, photos):
    for name in EXPECTED:
        (photos / name).rename(photos / unicodedata.normalize("NFD", f"é{name}"))
    labels, _, _ = look(unicodedata.normalize("NFC", lines_of("é{name},{label}\n", "file,label\n")))
    assert sorted(labels.values()) == sorted(EXPECTED.values())


def test_images_of_a_split_with_its_table(look, photos, tmp_path):
    """As on Kaggle: train/ with a table beside it, test/ without labels, and a table of how to submit predictions."""
    root = tree(
        tmp_path / "dogs", {f"train/{name}": b"x" for name in EXPECTED} | {"test/9.jpg": b"", "test/1.jpg": b""}
    )
    tree(root, {"train.csv": lines_of("{stem},{label}\n", "id,breed\n").encode()})
    tree(root, {"sample_submission.csv": b"id,beagle,pug\n9,0.5,0.5\n1,0.5,0.5\n"})
    seen = index([root], tmp_path / "work", print)
    assert {entry.name: seen.classes[entry.label] for entry in seen.splits["train"]} == EXPECTED
    assert seen.splits["test"] == [] and ("dogs/test", "2 images: without labels") in seen.skipped
    reason = "a sample of results, which are no labels"
    assert ("dogs/sample_submission.csv", reason) in seen.skipped


@pytest.mark.parametrize("word, said", [("", "nothing"), ("holdout", "holdout")])
def test_a_column_of_splits_with_another_word_in_some_lines_is_refused(look, word, said):
    splits = {name: "train" if name == "1.jpg" else word for name in EXPECTED}
    table = "".join(f"{name},{label},{splits[name]}\n" for name, label in EXPECTED.items())
    with pytest.raises(
        DataError, match=f"the column split says {said} in some lines, which is not a split; write train"
    ):
        look(f"file,label,split\n{table}")


def test_a_column_of_folds_is_named_and_not_used(look):
    table = "".join(f"{name},{label},fold1\n" for name, label in EXPECTED.items())
    labels, _, lines = look(f"file,label,fold\n{table}")
    assert labels == EXPECTED and lines[0].endswith("; the column fold is not used: fold1 is not a split")


def test_a_column_of_splits(look, tmp_path, photos):
    lines = []
    of_split = {"1.jpg": "train", "2.jpg": "Train", "3.jpg": "valid", "4.jpg": "test", "5.jpg": "test"}
    table = "".join(f"{name},{EXPECTED[name]},{split}\n" for name, split in of_split.items())
    tree(photos, {"labels.csv": f"file,label,data set\n{table}".encode()})
    seen = index([photos], tmp_path / "work", lines.append)
    assert [entry.name for entry in seen.splits["train"]] == ["1.jpg", "2.jpg"]
    assert [entry.name for entry in seen.splits["test"]] == ["3.jpg"]  # as with folders, val goes before test
    assert lines[0].endswith("from the columns 'file' and 'label'; their splits from 'data set'")
    assert ("photos", "2 images: a third split") in seen.skipped


def test_validation_images_with_a_table(tmp_path):
    tree(tmp_path / "set", {f"train/{name}/{name}.png": b"" for name in ("cat", "dog")})
    tree(tmp_path / "set", {"val/1.png": b"", "val/2.png": b"", "val.csv": b"file,label\n1.png,dog\n2.png,cat\n"})
    seen = index([tmp_path / "set"], tmp_path / "work", print)
    assert {entry.name: seen.classes[entry.label] for entry in seen.splits["test"]} == {"1.png": "dog", "2.png": "cat"}
    assert len(seen.splits["train"]) == 2


def test_class_folders_go_before_a_table(tmp_path):
    tree(tmp_path / "set", {f"{name}/{name}.png": b"" for name in ("cat", "dog")})
    tree(tmp_path / "set", {"labels.csv": b"file,label\ncat.png,dog\n"})
    lines = []
    seen = index([tmp_path / "set"], tmp_path / "work", lines.append)
    assert [entry.name for entry in seen.splits["train"]] == ["cat/cat.png", "dog/dog.png"]
    assert "set/labels.csv (a table of labels, which no image needs)" in lines[0]


def test_a_table_that_contradicts_class_folders_is_refused(tmp_path):
    """Folders of photographers are no classes; a table with other names for the same classes does no harm."""
    images = {f"{folder}/{k}.jpg": b"" for folder in ("ann", "bob") for k in (1, 2)}
    root = tree(tmp_path / "set", images)
    tree(root, {"labels.csv": b"file,label\nann/1.jpg,cat\nann/2.jpg,dog\nbob/1.jpg,cat\nbob/2.jpg,dog\n"})
    with pytest.raises(DataError) as caught:
        index([root], tmp_path / "work", print)
    assert str(caught.value) == (
        f"{root}/labels.csv: gives other classes than the folders ann, bob; remove it if the folders are the classes, "
        "or else put all images into one folder"
    )
    tree(root, {"labels.csv": b"file,label\nann/1.jpg,0\nann/2.jpg,0\nbob/1.jpg,1\nbob/2.jpg,1\n"})
    assert index([root], tmp_path / "work", print).classes == ["ann", "bob"]

"""Lists of labels: their forms, Caffe's numbers and the devkit's ids, and classes that have to agree."""

import io
import re
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from tests.support import toy_imagenet
from tests.support.toy_imagenet import CLASSES, found, tar, tree
from tinyalex.datasets.index import devkit as devkit_table
from tinyalex.datasets.index import matfile
from tinyalex.datasets.index.listing import FileSpan
from tinyalex.datasets.index.sources import index
from tinyalex.errors import DataError, TinyalexError, UsageError

TRUTH = "ILSVRC2012_validation_ground_truth.txt"
# The first labels of ILSVRC-2012's validation images: Caffe's label, the devkit's id.
FIRST = [(65, 490), (970, 361), (230, 171), (809, 822), (516, 297)]


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return toy_imagenet.make(tmp_path_factory.mktemp("imagenet"))


def short(message):
    """Remove the folder from the path that a message about a list begins with."""
    return re.sub(r"^/\S*/(?=[\w.]+\.(txt|mat): )", "", message)


@pytest.fixture
def look(tmp_path):
    def look(*sources, **options):
        lines = []
        seen = index(sources, tmp_path / "work", lines.append, **options)
        return seen, [short(line) for line in lines if "unpacking" not in line]

    return look


@pytest.fixture
def refused(look):
    def refused(*sources, kind=DataError, **options):
        with pytest.raises(TinyalexError) as caught:
            look(*sources, **options)
        assert type(caught.value) is kind and "\n" not in str(caught.value)
        return short(str(caught.value))

    return refused


def devkit(toy, tmp_path, **changed):
    """The toy's devkit as a folder, with some of its files changed."""
    contents = toy_imagenet.devkit(toy) | {name: content for name, content in changed.items() if content is not None}
    return tree(tmp_path / "devkit", {name: each for name, each in contents.items() if name not in _gone(changed)})


def _gone(changed):
    return [name for name, content in changed.items() if content is None]


def truth(toy):
    return toy_imagenet.devkit(toy)[f"data/{TRUTH}"]


def test_ids_become_labels_by_name(toy, look):
    seen, _ = look(toy.train, toy.val, toy.devkit)
    ids = [int(line) for line in truth(toy).split()]
    labels = [entry.label for entry in seen.splits["test"]]
    assert labels == [toy.labels["test"][entry.name] for entry in seen.splits["test"]]
    assert [toy.ids[CLASSES[label]] for label in labels] == ids
    assert [label + 1 for label in labels] != ids, "an id is not the label plus one"


@pytest.mark.parametrize(
    "spell",
    [
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: text.rstrip(),
        lambda text: text + b"\n\r\n",
    ],
)
def test_harmless_differences_of_text_files(toy, look, tmp_path, spell):
    seen, _ = look(toy.val, devkit(toy, tmp_path, **{f"data/{TRUTH}": spell(truth(toy))}))
    assert {entry.name: entry.label for entry in seen.splits["test"]} == toy.labels["test"]


def test_a_list_of_another_length(toy, refused, tmp_path):
    what = f"for 9 images in {toy.val}; every image needs one label"
    for spoilt, count in ((b"\n".join(truth(toy).split()[:-1]), 8), (truth(toy) + b"1\n", 10)):
        path = devkit(toy, tmp_path, **{f"data/{TRUTH}": spoilt})
        assert refused(toy.val, path) == f"{TRUTH}: {count} labels {what}"
    path = tmp_path / "fewer.tar"
    names = sorted(toy.labels["test"])
    tar(path, {name: toy.content[name] for name in names[1:]})
    assert refused(path, toy.devkit) == f"{TRUTH}: 9 labels for 8 images in {path}; every image needs one label"
    shorter = b"\n".join(truth(toy).split()[1:])
    assert refused(path, devkit(toy, tmp_path, **{f"data/{TRUTH}": shorter})) == (
        f"{TRUTH}: 8 labels for 8 images in {path}, but ILSVRC2012_val_00000002 is number 1 of them; "
        "one is missing and there is another one too many"
    )


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        (b"1\n2\n\n3\n1\n2\n3\n1\n2\n3\n", "line 3 of 10 is blank; remove it or fill it in"),
        (b"", "has no labels; fetch it again"),
        (b"0\n1\n2\n" * 3, "label 0, but the devkit's ids begin at 1; are all labels too small by one?"),
        (b"1\n2\n4\n" * 3, "labels from 1 to 4, but the devkit's ids are 1 to 3; fetch it again"),
        (b"1\n2\ncat\n" * 3, "'1' is not a label; expected numbers, wnids, or image names with either"),
        (b"1\n2\n3 x\n" * 3, "'3 x' is neither a label nor an image name with a label"),
        (b"<html>\n<body>\n", "'<html>' is not a label; expected numbers, wnids, or image names with either"),
        (b"1\n\xff\n", "not UTF-8 at byte 2; is it a text file?"),
    ],
)
def test_a_damaged_ground_truth(toy, refused, tmp_path, spoilt, message):
    assert refused(toy.val, devkit(toy, tmp_path, **{f"data/{TRUTH}": spoilt})) == f"{TRUTH}: {message}"


def test_a_damaged_or_missing_table_of_ids(toy, refused, tmp_path):
    good = toy_imagenet.devkit(toy)["data/meta.mat"]
    for spoilt in (
        good[: len(good) // 2],
        b"",
        b"MATLAB 5.0 MAT-file" + bytes(200),
        good.replace(b"synsets", b"sinsets"),
    ):
        message = refused(toy.val, devkit(toy, tmp_path, **{"data/meta.mat": spoilt}))
        assert re.fullmatch(r"meta.mat: no synsets in it, or damaged \(\w+\); fetch the devkit again", message)
    twice = toy_imagenet.meta({1: CLASSES[0], 2: CLASSES[1], 4: CLASSES[2]}, dict.fromkeys(CLASSES, "x"))
    assert refused(toy.val, devkit(toy, tmp_path, **{"data/meta.mat": twice})) == (
        "meta.mat: its ids are not 1 to 3; fetch the devkit again"
    )
    shutil.rmtree(tmp_path / "devkit")
    assert refused(toy.train, toy.val, devkit(toy, tmp_path, **{"data/meta.mat": None})) == (
        f"{TRUTH}: its labels are ids from 1, which are not in the order of the class names; "
        "give the devkit too (ILSVRC2012_devkit_t12.tar.gz), or its data/meta.mat"
    )


def test_class_folders_need_no_devkit(toy, look, tmp_path):
    path = devkit(toy, tmp_path, **{"data/meta.mat": b"damaged"})
    assert len(look(toy.folder, path)[0].splits["test"]) == 9


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", [np.float64, np.uint8, np.int16])
def test_matlab_files_as_scipy_writes_them(compressed, kind):
    stream, tree = io.BytesIO(), {"number": kind([[1, 2], [3, 4]]), "text": "café, ähre", "of": {"of": {"x": kind(7)}}}
    scipy.io.savemat(stream, {"a": tree, "b": kind(5), "c": ["one", "two"], "d": ""}, do_compression=compressed)
    assert matfile.read(stream.getvalue()) == {
        "a": [{"number": [1, 3, 2, 4], "text": "café, ähre", "of": [{"of": [{"x": [7]}]}]}],
        "b": [5],
        "c": "otnweo",  # by columns
        "d": "",
    }


@pytest.mark.parametrize("version", ["6.1_SOL2", "6.5.1_GLNX86", "7.1_GLNX86", "7.4_GLNX86"])
def test_matlab_files_as_matlab_wrote_them(version):
    """Files that come with SciPy, from several machines; one is big-endian."""
    folder = Path(scipy.io.matlab.__file__).parent / "tests/data"
    if not folder.is_dir():
        pytest.skip("SciPy was installed without its own tests")

    def read(name):
        return matfile.read((folder / f"{name}_{version}.mat").read_bytes())[name]

    assert read("teststructarr") == [{"one": [1], "two": [2]}, {"one": "number 1", "two": "number 2"}]
    assert read("teststructnest") == [{"one": [1], "two": [{"three": "number 3"}]}]
    assert read("teststring") == '"Do nine men interpret?" "Nine men," I nod.'
    assert read("testmatrix") == [1, 2, 3, 2, 0, 0, 3, 0, 0, 4, 0, 0, 5, 0, 0]
    assert read("testcell") is None and read("testsparse") is None


def test_any_damaged_byte_of_a_matlab_file_gives_a_table_or_an_error(toy, tmp_path):
    """Whatever single byte is changed: a table or a DataError, never a crash."""
    whole = toy_imagenet.devkit(toy)["data/meta.mat"]
    path = tmp_path / "meta.mat"
    for at in range(120, len(whole), 5):
        for value in (0, 255, whole[at] ^ 1, whole[at] ^ 16):
            path.write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])
            try:
                _, ids, words = devkit_table.read_synsets(FileSpan("meta.mat", str(path), 0, len(whole)))
                assert sorted(ids) == list(range(1, len(ids) + 1)) and sorted(words) == sorted(ids.values())
            except DataError as error:
                assert str(error).startswith("meta.mat: ")


def test_a_matlab_file_that_goes_deep_or_grows_large(monkeypatch):
    deep = {"x": 1}
    for _ in range(30):
        deep = {"x": deep}
    stream = io.BytesIO()
    scipy.io.savemat(stream, {"a": deep, "b": np.zeros(1000)}, do_compression=True)
    found = matfile.read(stream.getvalue())["a"]
    for _ in range(4):
        found = found[0]["x"]
    assert found is None
    monkeypatch.setattr(matfile, "_LARGEST", 4000)
    with pytest.raises(ValueError, match="too large"):
        matfile.read(stream.getvalue())


def listed(tmp_path, labels, names=None):
    """A folder with a list of labels, and a list of the classes if ``names`` are given."""
    text = "".join(f"{name} {label}\n" for name, label in labels.items())
    folder = tree(tmp_path / "lists", {"val.txt": text.encode()})
    if names:
        tree(folder, {"synset_words.txt": "".join(f"{name}\n" for name in names).encode()})
    return folder


def test_caffes_numbers_and_the_devkits_are_told_apart(toy, look, refused, tmp_path):
    labels = toy.labels["test"]
    seen, lines = look(toy.val, listed(tmp_path, labels, CLASSES))
    assert {entry.name: entry.label for entry in seen.splits["test"]} == labels and lines == []

    ids = listed(tmp_path, {name: toy.ids[CLASSES[label]] for name, label in labels.items()}, CLASSES)
    with_devkit = tree(tmp_path / "meta", {"meta.mat": toy_imagenet.devkit(toy)["data/meta.mat"]})
    seen, _ = look(toy.val, ids, with_devkit)
    assert {entry.name: entry.label for entry in seen.splits["test"]} == labels
    assert refused(toy.val, ids) == (
        "val.txt: its labels are ids from 1, which are not in the order of the class names; "
        "give the devkit too (ILSVRC2012_devkit_t12.tar.gz), or its data/meta.mat"
    )


def test_ambiguous_numbers_are_taken_as_caffes_with_a_message(toy, look, tmp_path):
    names = [*CLASSES, "n99999999"]  # labels 1 and 2 of four classes
    labels = {name: max(1, label) for name, label in toy.labels["test"].items()}
    seen, lines = look(toy.val, listed(tmp_path, labels, names))
    assert {entry.name: entry.label for entry in seen.splits["test"]} == labels and seen.classes == names
    assert lines == [
        "val.txt: labels from 1 to 2 for 4 classes are taken as Caffe's, from 0; if they are the devkit's ids, from 1, "
        "give the devkit too"
    ]


def test_what_shows_how_numbers_are_read_is_said(toy, look, refused, tmp_path):
    """0 or the number of classes decides; if neither occurs and both readings are possible, it is an error."""
    labels = toy.labels["test"]
    table = tree(tmp_path / "meta", {"meta.mat": toy_imagenet.devkit(toy)["data/meta.mat"]})
    ids = {name: toy.ids[CLASSES[label]] for name, label in labels.items()}
    seen, lines = look(toy.val, listed(tmp_path, ids, CLASSES), table)
    assert lines == [
        "val.txt: labels from 1 to 3 for 3 classes are the devkit's ids, from 1, as 3 occurs and 0 does not"
    ]
    assert {entry.name: entry.label for entry in seen.splits["test"]} == labels
    shutil.rmtree(tmp_path / "lists")
    seen, lines = look(toy.val, listed(tmp_path, labels), table)  # the devkit is a list of the classes, too
    assert {entry.name: entry.label for entry in seen.splits["test"]} == labels and lines == []
    either = listed(tmp_path, dict.fromkeys(labels, 1) | {min(labels): 2})
    message = (
        "val.txt: labels from 1 to 2 for 3 classes may be numbers from 0 or the devkit's ids, from 1, as neither 0 "
    )
    assert refused(toy.val, either, table) == f"{message}nor 3 occurs; give class names instead"
    tree(either, {"synset_words.txt": "\n".join(CLASSES).encode()})
    assert refused(toy.val, either, table) == (
        f"{message}nor 3 occurs; give class names instead, or leave out the devkit if they are from 0"
    )
    assert look(toy.val, either)[0].splits["test"][0].label == 2


def test_numbers_of_other_classes_than_wnids(look, refused, tmp_path):
    tree(tmp_path / "set", {f"train/{name}/1.png": b"" for name in ("cat", "dog", "owl")})
    tree(tmp_path / "set", {f"val/{k}.png": b"" for k in range(3)})

    def labels(*numbers):
        return tree(tmp_path / "set", {"val.txt": "".join(f"{k}.png {n}\n" for k, n in enumerate(numbers)).encode()})

    assert [entry.label for entry in look(labels(0, 2, 1))[0].splits["test"]] == [0, 2, 1]
    seen, lines = look(labels(1, 3, 2))
    assert [entry.label for entry in seen.splits["test"]] == [0, 2, 1]
    assert lines == ["val.txt: labels from 1 to 3 for 3 classes are numbers from 1, as 3 occurs and 0 does not"]
    assert refused(labels(1, 2, 1)) == (
        "val.txt: labels from 1 to 2 for 3 classes may be numbers from 0 or numbers from 1, as neither 0 nor 3 occurs; "
        "give class names instead"
    )


@pytest.mark.parametrize("number", [-1, 4, 3])
def test_numbers_out_of_range(toy, refused, tmp_path, number):
    labels = toy.labels["test"] | {"ILSVRC2012_val_00000001.JPEG": number}
    low = min(0, number)
    assert refused(toy.val, listed(tmp_path, labels, CLASSES)) == (
        f"val.txt: labels from {low} to {max(labels.values())} for 3 classes; expected Caffe's labels, from 0 to 2, "
        "or the devkit's ids, from 1 to 3"
    )


def test_numbers_without_a_usable_list_of_classes(toy, refused, tmp_path):
    assert refused(toy.val, listed(tmp_path, toy.labels["test"])) == (
        "val.txt: has labels from 0 to 2, but there is no list of classes; give synset_words.txt if they are Caffe's, "
        "from 0, or the devkit if they are its ids, from 1"
    )
    assert refused(toy.val, listed(tmp_path, toy.labels["test"], CLASSES[::-1])) == (
        "val.txt: has numbers, but the list of classes is not sorted; use class names instead"
    )
    assert refused(toy.train, toy.val, listed(tmp_path, toy.labels["test"], [*CLASSES, "n99999999"])) == (
        f"{toy.train}: not the same classes as the list of classes, n99999999 missing; both need the same"
    )


def test_lists_and_images_that_do_not_match(toy, refused, tmp_path):
    labels = toy.labels["test"]
    less = {name: label for name, label in labels.items() if not name.endswith("3.JPEG")}
    assert refused(toy.train, toy.val, listed(tmp_path, less)) == (
        f"val.txt: 8 labels for 9 images in {toy.val}; ILSVRC2012_val_00000003 has no label; every image needs one "
        "label"
    )
    assert refused(toy.train, toy.val, listed(tmp_path, labels | {"elsewhere.JPEG": 1})) == (
        f"val.txt: 10 labels for 9 images in {toy.val}; elsewhere has no image; every image needs one label"
    )
    text = b"ILSVRC2012_val_00000001.JPEG 0\nILSVRC2012_val_00000001.JPEG 1\n"
    assert refused(toy.train, toy.val, tree(tmp_path / "lists", {"val.txt": text})) == (
        "val.txt: ILSVRC2012_val_00000001 has more than one label; keep one"
    )
    words = b"n01440764 tench\nn01440764 fish\n"
    assert refused(toy.train, tree(tmp_path / "words", {"synset_words.txt": words})) == (
        "synset_words.txt: line 2 names n01440764 again; keep one of the lines"
    )


def test_an_annotation_of_a_class_without_training_images(toy, refused, tmp_path):
    labels = {name: CLASSES[label] for name, label in toy.labels["test"].items()}
    labels["ILSVRC2012_val_00000002.JPEG"] = "n77777777"
    assert refused(toy.train, toy.val, listed(tmp_path, labels)) == (
        f"{toy.val}: not the same classes as {toy.train}, n77777777 too many; both need the same"
    )


# The real thing


def synsets(test_data):
    with tarfile.open(test_data / "ilsvrc2012-val227-dev.tar") as archive:
        text = archive.extractfile("ilsvrc2012-val227-dev/synset_words.txt").read().decode()
    return [line.split()[0] for line in text.splitlines()]


def test_real_validation_images(test_data, look):
    seen, lines = look(test_data / "ilsvrc2012-val227-dev.tar")
    assert seen.kind == "ILSVRC-2012" and len(seen.classes) == 1000 and len(seen.splits["test"]) == 320
    for label, wnid, words in (
        (0, "n01440764", "tench, Tinca tinca"),
        (1, "n01443537", "goldfish, Carassius auratus"),
        (999, "n15075141", "toilet tissue, toilet paper, bathroom tissue"),
    ):
        assert (seen.classes[label], seen.words[label]) == (wnid, words)
    labels = {entry.name: entry.label for entry in seen.splits["test"]}
    assert [labels[f"ILSVRC2012_val_{k:08d}.JPEG"] for k in (347, 556, 699, 890, 1133)] == [472, 625, 397, 25, 834]
    assert lines == [
        "val.txt: labels from 1 to 997 for 1,000 classes are taken as Caffe's, from 0; if they are the devkit's ids, "
        "from 1, give the devkit too"
    ]


def full(test_data, tmp_path):
    """Names, labels and ids of 2,000 validation images that begin as the real ones do, as empty files in a tar."""
    wnids = synsets(test_data)
    ids = dict(FIRST)
    others = iter(sorted(set(range(1, 1001)) - set(ids.values())))
    ids |= {label: next(others) for label in range(1000) if label not in ids}
    labels = [label for label, _ in FIRST]
    labels += np.random.default_rng(5).permutation(np.arange(2_000) % 1000)[len(FIRST) :].tolist()
    with tarfile.open(tmp_path / "ILSVRC2012_img_val.tar", "w") as archive:
        for number in range(1, 2_001):
            archive.addfile(tarfile.TarInfo(f"ILSVRC2012_val_{number:08d}.JPEG"))
    table = toy_imagenet.meta({ids[label]: wnid for label, wnid in enumerate(wnids)}, {wnid: wnid for wnid in wnids})
    tree(tmp_path / "devkit", {"meta.mat": table, TRUTH: "".join(f"{ids[label]}\n" for label in labels).encode()})
    return wnids, labels


def test_the_first_validation_labels(test_data, look, refused, tmp_path):
    """490, 361, 171, 822, 297 in the devkit are 65, 970, 230, 809, 516 everywhere else; other lists are refused."""
    wnids, labels = full(test_data, tmp_path)
    seen, _ = look(tmp_path / "ILSVRC2012_img_val.tar", tmp_path / "devkit")
    assert seen.classes == wnids and [entry.label for entry in seen.splits["test"]] == labels
    assert [entry.label for entry in seen.splits["test"]][:5] == [65, 970, 230, 809, 516]

    names = [entry.name for entry in seen.splits["test"]]
    shifted = listed(tmp_path, {name: label + 1 for name, label in zip(names, labels, strict=True)}, wnids)
    (tmp_path / "devkit" / TRUTH).unlink()  # TensorFlow's lists number the classes from 1; 0 is the background
    few = [(name, label) for name, label in zip(names, labels, strict=True) if label not in (0, 999)]
    with tarfile.open(tmp_path / "few.tar", "w") as archive:
        for name, _ in few:
            archive.addfile(tarfile.TarInfo(name))
    some = tree(tmp_path / "some", {"val.txt": "".join(f"{name} {label}\n" for name, label in few).encode()})
    seen, lines = look(tmp_path / "few.tar", some, tmp_path / "devkit")  # known images decide
    assert [entry.label for entry in seen.splits["test"]] == [label for _, label in few]
    assert lines == [
        "val.txt: labels from 1 to 998 for 1,000 classes are numbers from 0, as ILSVRC2012_val_00000001 has 65, and "
        "shows n01751748"
    ]
    message = refused(tmp_path / "ILSVRC2012_img_val.tar", shifted, tmp_path / "devkit")
    assert (
        message.startswith("val.txt: ILSVRC2012_val_00000001.JPEG has label n") and "but it shows n01751748" in message
    )


# Classes that have to agree


def folders(tmp_path, train, val):
    tree(tmp_path / "set/train", {f"{name}/{name}.JPEG": b"1" for name in train})
    return tree(tmp_path / "set", {f"val/{name}/v{name}.JPEG": b"2" for name in val})


def test_classes_that_differ_between_train_and_val(refused, tmp_path):
    path = folders(tmp_path, ["n1", "n2", "n3"], ["n1", "n2", "n4"])
    assert refused(path) == (
        f"{path}/val: not the same classes as {path}/train, n3 missing and n4 too many; both need the same"
    )
    shutil.rmtree(path / "val/n4")
    assert refused(path) == f"{path}/val: not the same classes as {path}/train, n3 missing; both need the same"
    shutil.rmtree(path / "train/n3")
    tree(path, {f"val/n{k}/1.JPEG": b"" for k in range(3, 9)})
    assert refused(path) == (
        f"{path}/val: not the same classes as {path}/train, n3, n4, n5 and 3 more too many; both need the same"
    )


def test_empty_and_superfluous_class_folders(look, refused, tmp_path):
    path = folders(tmp_path, ["n1", "n2"], ["n1", "n2"])
    for name in ("lost+found", ".Trash-0", "__MACOSX"):
        (path / "train" / name).mkdir()
    tree(path, {"train/.DS_Store": b"", "train/__MACOSX/n1/._n1.JPEG": b"x"})
    seen, _ = look(path)
    assert seen.classes == ["n1", "n2"]
    assert ("set/train/lost+found", "hidden, or made by a system or a tool") in seen.skipped
    (path / "train/n3").mkdir()
    (path / "train/n4").mkdir()
    tree(path, {"train/n4/readme.txt": b""})
    assert refused(path) == f"{path}/train: no images in n3, n4; fill them, or remove those that are no classes"
    tar(tmp_path / "x.tar", {"n1.tar": tar(None, {"n1_1.JPEG": b"1"}), "n2.tar": tar(None, {})})
    assert refused(tmp_path / "x.tar") == (
        f"{tmp_path}/x.tar: no images in n2; fill them, or remove those that are no classes"
    )


def test_a_single_class_is_refused(refused, tmp_path):
    path = folders(tmp_path, ["n1"], ["n1"])
    assert refused(path) == f"{path}/train: only one class, 'n1'; give images of at least two"
    assert refused(path / "val").endswith("only one class, 'n1'; give images of at least two")
    tree(tmp_path / "flat", {"data/1.JPEG": b"", "data/2.JPEG": b""})
    assert refused(tmp_path / "flat").endswith("flat: only one class, 'data'; give images of at least two")


def test_class_folders_in_two_folders(refused, tmp_path):
    tree(tmp_path / "two", {f"{parent}/{name}/1.png": b"" for parent in ("a", "b") for name in ("cat", "dog")})
    two = tmp_path / "two"
    assert refused(two) == f"{two}: class folders in two folders, {two}/a and {two}/b; give one of them"


@pytest.mark.parametrize("names", [
    ["1", "2", "5", "10", "20", "50"],
    [str(number) for number in range(11)],
    ["1990", "2000", "2010"],
    ["-1", "0", "1"],
    ["00000", "00001", "00042"],
    ["2", "007", "7", "10"],
])  # fmt: skip
def test_folders_whose_names_are_numbers_are_classes_in_the_order_of_the_numbers(look, tmp_path, names):
    names = sorted(names, key=lambda name: (int(name), name))
    seen, lines = look(tree(tmp_path / "set", {f"{name}/x.png": name.encode() for name in names}))
    assert seen.classes == seen.words == names and lines == []
    assert {names[label].encode() for label, _ in found(seen.splits["train"]).values()} == set(map(str.encode, names))
    assert all(names[label].encode() == content for label, content in found(seen.splits["train"]).values())


def test_names_of_which_some_are_numbers_are_sorted_as_text(look, tmp_path):
    names = ["0", "1", "10", "2", "cat"]
    assert look(tree(tmp_path / "set", {f"{name}/x.png": b"" for name in names}))[0].classes == names


def test_a_list_whose_labels_are_the_numbers_of_the_folders(look, tmp_path):
    """Labels 5 and 10 are the folders 5 and 10, not positions."""
    path = tree(tmp_path / "set", {f"train/{name}/{name}.png": b"" for name in ("1", "5", "10")})
    tree(path, {"val/a.png": b"", "val/b.png": b"", "val.txt": b"a.png 10\nb.png 5\n"})
    seen, _ = look(path)
    assert seen.classes == ["1", "5", "10"]
    assert [(entry.name, entry.label) for entry in seen.splits["test"]] == [("a.png", 2), ("b.png", 1)]


def test_numbers_that_are_positions_in_a_list_of_classes(look, refused, tmp_path):
    """Like ImageNetV2: folder 2 is the third wnid, also where folder 1 is missing."""
    path = tree(tmp_path / "imagenetv2-val", {"0/x.jpeg": b"0", "2/x.jpeg": b"2"})
    names = tree(tmp_path / "names", {"synsets.txt": "\n".join(CLASSES).encode()})
    seen, _ = look(path, names, numeric_folders=True)
    assert seen.classes == CLASSES and seen.splits["train"] == []
    assert found(seen.splits["test"]) == {f"{CLASSES[0]}/x.jpeg": (0, b"0"), f"{CLASSES[2]}/x.jpeg": (2, b"2")}
    tree(path, {"3/x.jpeg": b""})
    assert refused(path, names, numeric_folders=True) == (
        f"{path}: the class folder 3, but the list of classes has 0 to 2"
    )
    (path / "3").rename(path / "02")
    assert refused(path, names, numeric_folders=True) == f"{path}: two class folders with the same number; rename one"
    (path / "02").rename(path / "cat")
    assert refused(path, names, numeric_folders=True, kind=UsageError) == (
        f"{path}: the class folder cat is not a number; leave --numeric-folders out"
    )


def test_messages_name_the_path_of_a_list(toy, tmp_path):
    packed, folder = tmp_path / "set.tar", tree(tmp_path / "set", {"lists/val.txt": b"one\ntwo"})
    tar(packed, {"set/val/1.JPEG": b"", "set/val.txt": b"one\ntwo"})
    for source, shown in ((packed, "/set/val.txt"), (folder, "/lists/val.txt"), (folder / "lists/val.txt", "")):
        with pytest.raises(DataError, match=f"^{source}{shown}: 'one' is not a label; expected numbers, wnids, or"):
            index([toy.folder, source], tmp_path / "work", print)


def test_the_order_of_classes_is_that_of_their_bytes(look, tmp_path):
    names = ["Zebra", "ant", "ähre", "Ant", "z", "10 km", "9 km"]
    seen, _ = look(tree(tmp_path / "set", {f"{name}/x.png": name.encode() for name in names}))
    assert (
        seen.classes
        == sorted(names, key=lambda name: name.encode())
        == ["10 km", "9 km", "Ant", "Zebra", "ant", "z", "ähre"]
    )
    assert all(seen.classes[label].encode() == content for label, content in found(seen.splits["train"]).values())


def test_the_same_name_twice(toy, refused, tmp_path):
    name = next(iter(toy.labels["train"]))
    copy = tree(tmp_path / "more", {name: b"another", "n01443537/new.JPEG": b"", "n15075141/new.JPEG": b""})
    assert (
        refused(toy.train, copy) == f"{name}: occurs twice, in {toy.train} and in {copy}/{name}; give every image once"
    )
    assert "twice" in refused(toy.folder, toy.folder)
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        for name in ("cat/1.png", "dog/1.png", "cat/1.png"):
            archive.addfile(tarfile.TarInfo(name))
    assert refused(path) == f"cat/1.png: occurs twice, in {path} and in {path}; give every image once"

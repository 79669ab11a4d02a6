"""Data sets from files: CIFAR-10 in three forms and class folders, as folders and tars, and what is refused, how."""

import errno
import hashlib
import http.client
import io
import os
import pickle
import struct
import tarfile
import urllib.error
import urllib.request
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinyalex import datasets
from tinyalex.datasets import cifar, download, folders, pickled
from tinyalex.errors import DataError, StorageError

PARTS = [f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"]
FORMS = ["folder", "tar", "gz", "xz"]


def refused(where):
    with pytest.raises(DataError) as caught:
        datasets.load(where)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(str(where))
    return message.removeprefix(str(where))


@pytest.fixture(scope="module")
def records():
    """Six files of 7 pictures with labels, {name: (uint8 (7, 32, 32, 3), labels)}."""
    rng = np.random.default_rng(0)
    return {part: (rng.integers(0, 256, (7, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, 7)) for part in PARTS}


def planes(images):
    return images.transpose(0, 3, 1, 2).reshape(len(images), -1)


def binary_form(records):
    return {
        f"{part}.bin": b"".join(
            bytes([label]) + planes(image[None]).tobytes() for image, label in zip(*record, strict=True)
        )
        for part, record in records.items()
    } | {"batches.meta.txt": "\n".join(cifar.CLASSES).encode() + b"\n\n", "readme.html": b"<html>"}


def python2_pickle(images, labels):
    """A pickle as Python 2 wrote it in 2009, opcode by opcode: strings are bytes, the array is made by numpy.core."""

    def text(value):
        return b"U" + bytes([len(value)]) + value + b"q\x01"

    data = planes(images).tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x08cnumpy\nndarray\nq\x09K\x00\x85U\x01b\x87Rq\x0a(K\x01"
        + (b"M" + struct.pack("<H", len(images)))
        + b"M\x00\x0c\x86cnumpy\ndtype\nq\x0bU\x02u1K\x00K\x01\x87Rq\x0c"
        + b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        + (b"\x89T" + struct.pack("<i", len(data)) + data + b"tb")
    )
    numbers = b"]q\x05(" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    names = b"]q\x0e(" + b"".join(text(b"leptodactylus_%d.png" % k) for k in range(len(labels))) + b"e"
    batch = text(b"batch_label") + text(b"training batch 1 of 5")
    body = batch + text(b"labels") + numbers + text(b"data") + array + text(b"filenames") + names
    return b"\x80\x02}q\x00(" + body + b"u."


def python_form(records, protocol):
    meta = {"num_cases_per_batch": 7, "label_names": cifar.CLASSES, "num_vis": 3072}
    if protocol == "python 2":
        made = {part: python2_pickle(*record) for part, record in records.items()}
        meta = {k.encode(): [n.encode() for n in v] if isinstance(v, list) else v for k, v in meta.items()}
        return made | {"batches.meta": pickle.dumps(meta, 2)}
    return {
        part: pickle.dumps({b"data": planes(images), b"labels": labels.tolist(), "batch_label": "x"}, protocol)
        for part, (images, labels) in records.items()
    } | {"batches.meta": pickle.dumps(meta, protocol)}


def png(image):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def pictures():
    """{split/class/file: uint8 (10, 10, 3)}, not in order."""
    rng = np.random.default_rng(1)
    names = [
        f"{split}/{name}/{k}.png" for k in (2, 1, 10) for name in ("dog", "cat", "ant") for split in ("train", "test")
    ]
    return {name: rng.integers(0, 256, (10, 10, 3), dtype=np.uint8) for name in names}


def store(contents, form, root, inside="set"):
    """Write {name: bytes} as a folder or a tar; return the path to load."""
    if form == "folder":
        for name, content in contents.items():
            file = root / "data" / inside / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        return root / "data"
    path = root / f"data.tar.{form}"
    with tarfile.open(path, "w" if form == "tar" else f"w:{form}") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"{inside}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def holds(dataset, records):
    assert dataset.name == "cifar10" and dataset.classes == cifar.CLASSES
    for found, parts in ((dataset.train, PARTS[:5]), (dataset.test, PARTS[5:])):
        np.testing.assert_array_equal(found.images, np.concatenate([records[part][0] for part in parts]))
        np.testing.assert_array_equal(found.labels, np.concatenate([records[part][1] for part in parts]))
        assert found.images.dtype == np.uint8 and found.labels.dtype == np.int64 and found.size == 32


@pytest.mark.parametrize("form", FORMS)
def test_cifar_binary(records, form, tmp_path):
    path = store(binary_form(records), form, tmp_path, "cifar-10-batches-bin")
    holds(datasets.load(path), records)
    if form == "folder":
        holds(datasets.load(str(path / "cifar-10-batches-bin")), records)


@pytest.mark.parametrize("protocol", ["python 2", 0, 1, 2, 3, 4])
def test_cifar_python(records, protocol, tmp_path):
    if protocol in (0, 1):
        records = {part: (images[:2], labels[:2]) for part, (images, labels) in records.items()}
    holds(datasets.load(store(python_form(records, protocol), "gz", tmp_path, "cifar-10-batches-py")), records)


def test_an_array_pickled_by_columns():
    data = np.arange(6, dtype=np.uint8).reshape(2, 3)
    for order in "CF":
        found = pickled.read(pickle.dumps({"data": np.array(data, order=order)}, 2), "x")["data"]
        np.testing.assert_array_equal(found, data)


def test_the_python_2_form_is_what_pickle_reads(records):
    """Python's own pickle reads the hand-written opcodes as intended."""
    images, labels = records["test_batch"]
    found = pickle.loads(python2_pickle(images, labels), encoding="bytes")
    np.testing.assert_array_equal(found[b"data"], planes(images))
    assert found[b"labels"] == labels.tolist() and len(found[b"filenames"]) == 7


def test_all_forms_have_one_identity(records, tmp_path):
    binary = datasets.load(store(binary_form(records), "gz", tmp_path))
    python = datasets.load(store(python_form(records, 2), "folder", tmp_path))
    assert binary.identity == python.identity
    changed = binary.train.images.copy()
    changed[3, 4, 5, 1] ^= 1
    labels = binary.train.labels.copy()
    labels[0] += 1
    for train in (
        datasets.ImageSet(changed, binary.train.labels),
        datasets.ImageSet(binary.train.images, labels),
        datasets.ImageSet(binary.train.images[:-1], binary.train.labels[:-1]),
    ):
        assert datasets.Dataset("cifar10", binary.classes, train, binary.test).identity != binary.identity
    renamed = datasets.Dataset("cifar10", binary.classes[::-1], binary.train, binary.test)
    assert renamed.identity != binary.identity


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c: c.pop("data_batch_3.bin"), ": data_batch_3.bin is missing; CIFAR-10 has five"),
        (lambda c: c.pop("test_batch.bin"), ": test_batch.bin is missing; "),
        (
            lambda c: c.update({"test_batch.bin": c["test_batch.bin"][:-1]}),
            ": test_batch.bin: 21,510 bytes is not a whole",
        ),
        (lambda c: c.update({"data_batch_1.bin": b""}), ": data_batch_1.bin: 0 bytes is not a whole"),
        (lambda c: c.update({"data_batch_2.bin": b"\x0a" + bytes(3072)}), ": data_batch_2.bin: label 10, but"),
        (lambda c: c.update({"batches.meta.txt": b"cat\ndog"}), ": batches.meta.txt does not name ten classes"),
    ],
)
def test_damaged_binary(records, spoil, message, tmp_path):
    contents = binary_form(records)
    spoil(contents)
    assert refused(store(contents, "folder", tmp_path)).startswith(message)


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/never",)


BAD_PICKLES = {
    "system": (pickle.dumps({"data": Evil()}, 2), "the pickle uses 'posix system', not allowed"),
    "protocol 5": (
        pickle.dumps({"data": np.zeros(3, "u1")}, 5),
        "the pickle uses 'numpy._core.numeric _frombuffer'",
    ),
    "system 4": (pickle.dumps({"data": Evil()}, 4), "the pickle uses 'posix system', not allowed"),
    "eval": (b"c__builtin__\neval\n(S'1'\ntR.", "the pickle uses '__builtin__ eval'"),
    "instance": (b"(i__main__\nThing\n.", "pickle instruction INST is not allowed in"),
    "object": (b"(cnumpy\nndarray\no.", "pickle instruction OBJ is not allowed in"),
    "new": (b"\x80\x02cnumpy\nndarray\n)\x81.", "pickle instruction NEWOBJ is not allowed in"),
    "persistent": (b"Pthing\n.", "pickle instruction PERSID is not allowed in"),
    "extension": (b"\x80\x02\x82\x01.", "pickle instruction EXT1 is not allowed in"),
    "object array": (pickle.dumps({"data": np.array([None]), "labels": []}, 2), "a damaged pickle (TypeError)"),
    "float array": (pickle.dumps({"data": np.zeros(3), "labels": []}, 2), "a damaged pickle (TypeError)"),
    "list": (pickle.dumps([1, 2]), "holds a list, expected a dictionary"),
    "cut off": (pickle.dumps({"data": [1, 2]}, 2)[:-3], "a damaged pickle ("),
    "empty": (b"", "a damaged pickle ("),
    "text": (b"<html>not found</html>", "a damaged pickle ("),
    "pop": (b"\x80\x02].N", "holds a list, expected"),
    "no mark": (b"\x80\x02]K\x01e.", "a damaged pickle (IndexError)"),
    "no memory": (b"\x80\x02}h\x05.", "a damaged pickle (KeyError)"),
    "dtype called on": (b"cnumpy\ndtype\nK\x01K\x02\x86R.", "a damaged pickle (TypeError)"),
    "not callable": (b"K\x01)R.", "a damaged pickle (TypeError)"),
    "unfilled": (
        b"\x80\x02}U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n\x85Rs.",
        "a damaged pickle (",
    ),
    "lying shape": (
        python2_pickle(np.zeros((2, 32, 32, 3), np.uint8), [1, 2]).replace(b"M\x02\x00", b"M\x03\x00"),
        "a damaged pickle (ValueError)",
    ),
    "only marks": (b"\x80\x02((.", "a damaged pickle (ValueError)"),
    "no data": (pickle.dumps({"labels": [1]}, 2), "has no `data` of 3,072 bytes an image"),
    "counts": (pickle.dumps({"data": np.zeros((2, 3072), "u1"), "labels": [1]}, 2), "1 labels for 2 images"),
    "label": (pickle.dumps({"data": np.zeros((1, 3072), "u1"), "labels": [11]}, 2), "label 11, but"),
    "text label": (pickle.dumps({"data": np.zeros((1, 3072), "u1"), "labels": ["1"]}, 2), "1 labels for 1 images"),
}


@pytest.mark.parametrize("name", BAD_PICKLES)
def test_hostile_pickles_are_refused_and_never_run(records, name, tmp_path, monkeypatch):
    content, message = BAD_PICKLES[name]
    monkeypatch.setattr(os, "system", lambda _: pytest.fail("the pickle was run"))
    contents = python_form(records, 2) | {"data_batch_4": content}
    assert refused(store(contents, "folder", tmp_path)).startswith(f": data_batch_4: {message}")


def test_any_damaged_byte_of_a_pickle_gives_a_result_or_a_data_error(records):
    """Whatever single byte is changed: a dictionary or a DataError, no other exception."""
    images, labels = records["test_batch"]
    whole = bytearray(python2_pickle(images[:1], labels[:1]))
    offsets = [k for k in range(len(whole)) if k < 250 or k > len(whole) - 60]
    for at in offsets:
        for value in (0, 40, 82, 98, 255, whole[at] ^ 1):
            spoilt = bytes(whole[:at]) + bytes([value]) + bytes(whole[at + 1 :])
            try:
                assert isinstance(pickled.read(spoilt, "x"), dict)
            except DataError as error:
                assert str(error).startswith("x: ")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("inside", [".", "cifar10"])
def test_class_folders(pictures, form, inside, tmp_path):
    contents = {name: png(image) for name, image in pictures.items()}
    contents |= {"train/dog/.hidden.png": b"", "train/dog/notes.txt": b"x", "readme.png": b"x", "train/stray.png": b"x"}
    dataset = datasets.load(store(contents, form, tmp_path, inside))
    assert dataset.classes == ["ant", "cat", "dog"]
    for split, found in (("train", dataset.train), ("test", dataset.test)):
        names = sorted(name for name in pictures if name.startswith(split))  # 1, 10, 2: the order of the names
        np.testing.assert_array_equal(found.images, [pictures[name] for name in names])
        assert found.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3 and found.labels.dtype == np.int64


def test_classes_of_a_folder_have_the_words_of_its_list(pictures, tmp_path):
    contents = {name: png(image) for name, image in pictures.items()}
    contents["words.txt"] = b"dog\tdog, domestic dog\nant\tant, emmet\ncow\tcow\n"
    folder = Path(store(contents, "folder", tmp_path, "."))
    dataset = datasets.load(folder)
    assert dataset.classes == ["ant", "cat", "dog"]
    assert dataset.words == ["ant, emmet", "cat", "dog, domestic dog"]
    (folder / "words.txt").unlink()
    without = datasets.load(folder)
    assert without.words == without.classes and without.identity == dataset.identity


def test_two_sets_in_one_folder_are_refused(pictures, tmp_path):
    contents = {f"{home}/{name}": png(image) for home in "xy" for name, image in pictures.items()}
    path = store(contents, "folder", tmp_path, ".")
    assert refused(path) == f": class folders in two folders, {path}/x and {path}/y; give one of them"


def test_two_images_of_one_name_are_refused(pictures, tmp_path):
    contents = {f"{split}/{name[6:]}": png(image) for split in ("train1", "train2") for name, image in pictures.items()}
    path = store(contents, "folder", tmp_path, ".")
    with pytest.raises(DataError, match="^(ant/1.png): occurs twice, in .*train1/\\1 and in .*train2/\\1; give every"):
        datasets.load(path)


def test_all_kinds_of_pictures_become_rgb(pictures, tmp_path):
    contents = {name: png(image) for name, image in pictures.items()}
    grey = np.arange(100, dtype=np.uint8).reshape(10, 10)
    contents["train/ant/0.PNG"] = png(grey)
    stream = io.BytesIO()
    Image.fromarray(pictures["test/ant/1.png"]).convert("CMYK").save(stream, "JPEG")
    contents["train/ant/00.Jpeg"] = stream.getvalue()
    stream = io.BytesIO()
    Image.fromarray(pictures["test/ant/1.png"]).quantize(256).save(stream, "PNG")
    contents["train/ant/000.png"] = stream.getvalue()
    images = datasets.load(store(contents, "folder", tmp_path)).train.images
    assert images.shape == (12, 10, 10, 3)
    np.testing.assert_array_equal(images[0], np.repeat(grey[..., None], 3, axis=2))


def broken_cases(pictures):
    good = png(pictures["train/cat/1.png"])
    large = png(np.zeros((10, 12, 3), np.uint8))
    claims = bytearray(good)
    claims[16:24] = struct.pack(">II", 60_000, 60_000)  # a picture of 10 GB
    claims[29:33] = struct.pack(">I", zlib.crc32(bytes(claims[12:29])))
    other, mend = "not a JPEG, PNG, BMP, PPM, GIF, TIFF, WebP or AVIF file", "repair, convert or remove it"
    return {
        "cut off": (good[: len(good) // 2], f": a broken PNG file (image file is truncated); {mend}"),
        "empty": (b"", f": {other}: it is empty; {mend}"),
        "html": (b"<html>", f": {other}: it begins with b'<html>'; {mend}"),
        "size": (
            large,
            ": 12 x 10 pixels, but it has to be 10 x 10 like the others; resize it",
        ),
        "smaller": (
            png(np.zeros((9, 9, 3), np.uint8)),
            ": 9 x 9 pixels, but it has to be 10 x 10 like the others; resize it",
        ),
        "bomb": (bytes(claims), f": more than 89,478,485 pixels; {mend}"),
    }


@pytest.mark.parametrize("case", ["cut off", "empty", "html", "size", "smaller", "bomb"])
@pytest.mark.parametrize("form", ["folder", "xz"])
def test_broken_images(pictures, form, case, tmp_path):
    content, message = broken_cases(pictures)[case]
    contents = {name: png(image) for name, image in pictures.items()} | {"train/dog/10.png": content}
    where = "/set/train/dog/10.png" if form == "folder" else ": dog/10.png"
    assert refused(store(contents, form, tmp_path)) == f"{where}{message}"


def test_pixels_are_those_of_a_prepared_set():
    """Of 16 bits the upper 8; white under transparency; CMYK without Adobe's marker is not inverted."""
    clear = Image.new("RGBA", (10, 10), (200, 100, 50, 0))
    deep, inks = Image.fromarray(np.full((10, 10), 33_900, np.uint16)), Image.new("CMYK", (10, 10), (50, 210, 130, 255))
    for image, form, wanted in ((clear, "PNG", 255), (deep, "PNG", 132), (inks, "JPEG", (50, 210, 130))):
        stream = io.BytesIO()
        image.save(stream, form)
        content = stream.getvalue()
        if form == "JPEG":
            at = content.index(b"\xff\xee")  # Pillow writes the marker and the complement
            content = content[:at] + content[at + 2 + int.from_bytes(content[at + 2 : at + 4]) :]
        found = folders.decode(content, "a", 10)
        assert np.abs(found.astype(int) - wanted).max() <= 2 and found.shape == (10, 10, 3)


IMAGES = np.zeros((4, 3, 3, 3), np.uint8)
WANTED = "labels have to be whole numbers from 0 {}, one an image"


class Reader:
    """A set of images without checks of its own."""

    size = 3

    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.images)


WRONG_LABELS = pytest.mark.parametrize("labels, seen", [
    ([0, 1, 2], "3 labels for 4 images"),
    ([0, 1, 2, 0, 1], "5 labels for 4 images"),
    ([], "0 labels for 4 images"),
    ([[0], [1], [2], [0]], "labels of shape (4, 1) for 4 images"),
    (2, "labels of shape () for 4 images"),
    ([0, 1, 3, 5], "image 2 has label 3"),
    ([0, -1, 1, 2], "image 1 has label -1"),
    ([0.0, 1.0, 2.0, 0.0], "labels of type float64"),
    ([0.0, 1.5, np.nan, 0.0], "labels of type float64"),
    ([True, False, True, False], "labels of type bool"),
    (["0", "1", "2", "0"], "labels of type <U1"),
    ([0, 1, 2, None], "labels of type object"),
])  # fmt: skip


@WRONG_LABELS
def test_image_set_with_wrong_labels_is_refused(labels, seen):
    if "label 3" in seen:  # a class that only a data set can count
        return
    with pytest.raises(DataError) as caught:
        datasets.ImageSet(IMAGES, np.array(labels))
    assert str(caught.value) == f"labels: {seen}; {WANTED.format('on')}"


def test_labels_as_a_list_are_refused():
    with pytest.raises(DataError, match=r"^labels: a list instead of an array; .*: use numpy.array\(labels\)$"):
        datasets.ImageSet(IMAGES, [0, 1, 2, 0])


@pytest.mark.parametrize("images, message", [
    (IMAGES / 255, r"numbers of type float64; give bytes from 0 to 255: of images from 0 to 1, \(255 \* images\)"),
    (IMAGES.astype("float32") + np.nan, "numbers of type float32; give bytes from 0 to 255"),
    (IMAGES.astype(int) - 1, "numbers of type int64; give bytes"),
    (IMAGES.astype("uint16") + 300, "numbers of type uint16; give bytes"),
    (IMAGES.astype(bool), "numbers of type bool; give bytes"),
    (IMAGES.tolist(), "a list instead of an array; use"),
    (IMAGES[0], r"an array of shape \(3, 3, 3\); give \(images, side, side, 3\)"),
    (IMAGES[:, :2], r"an array of shape \(4, 2, 3, 3\)"),
    (IMAGES[..., :1], r"an array of shape \(4, 3, 3, 1\)"),
    (np.zeros((4, 0, 0, 3), "uint8"), r"an array of shape \(4, 0, 0, 3\)"),
])  # fmt: skip
def test_images_that_are_no_bytes_are_refused(images, message):
    with pytest.raises(DataError, match=f"^images: {message}"):
        datasets.ImageSet(images, np.array([0, 1, 2, 0]))


@WRONG_LABELS
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_data_set_with_wrong_labels_is_refused(split, labels, seen):
    sets = {name: datasets.ImageSet(IMAGES, np.array([0, 1, 2, 0])) for name in ("train", "test")}
    sets[split] = Reader(IMAGES, np.array(labels))
    with pytest.raises(DataError) as caught:
        datasets.Dataset("pets", ["ant", "cat", "dog"], **sets)
    assert str(caught.value) == f"pets: {split}: {seen}; {WANTED.format('to 2')}"


@pytest.mark.parametrize("kind", ["uint8", "int32", "int64"])
def test_labels_of_any_integer_type_are_accepted(kind):
    images = datasets.ImageSet(IMAGES, np.array([2, 0, 1, 2], kind))
    nothing = datasets.ImageSet(IMAGES[:0], np.array([]))
    assert datasets.Dataset("pets", ["ant", "cat", "dog"], images, nothing).train is images


@pytest.mark.parametrize(("size", "seen"), [((10, 12), "12 x 10"), ((600, 600), "600 x 600")])
def test_images_that_are_not_square_or_too_large(size, seen):
    wanted = "square and at most 512 a side; resize it"
    with pytest.raises(DataError, match=f"^a.png: {seen} pixels, but it has to be {wanted}$"):
        folders.decode(png(np.zeros((*size, 3), np.uint8)), "a.png")


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (lambda name: "ant" in name, "/set/train: only one class, 'ant'; give images of at least two"),
        (
            lambda name: "test/cat" not in name,
            "/set/test: not the same classes as {}/set/train, cat missing; both need the same",
        ),
        (
            lambda name: "train/dog" not in name,
            "/set/test: not the same classes as {}/set/train, dog too many; both need the same",
        ),
        (
            lambda name: False,
            ": no images found (skipped: data/set/notes.txt (not an image by its name)); expected class folders, "
            "ILSVRC's tars, or CIFAR's files",
        ),
    ],
)
def test_incomplete_class_folders(pictures, keep, message, tmp_path):
    contents = {name: png(image) for name, image in pictures.items() if keep(name)} | {"notes.txt": b""}
    path = store(contents, "folder", tmp_path)
    assert refused(path) == message.format(path)


@pytest.mark.parametrize("split, other", [("train", "test"), ("test", "train")])
def test_a_set_without_training_or_test_images_has_the_other_ones(pictures, split, other, tmp_path):
    contents = {name: png(image) for name, image in pictures.items() if name.startswith(split)}
    dataset = datasets.load(store(contents, "folder", tmp_path))
    assert len(dataset.need(split)) == 9 and getattr(dataset, other).images.shape == (0, 10, 10, 3)
    with pytest.raises(DataError, match=f": has no {other}"):
        dataset.need(other)


def test_nothing_there(tmp_path):
    wanted = ": no such folder or file; give a folder or tar of images, `shapes` or `cifar10`"
    assert refused(tmp_path / "nothing") == wanted
    assert refused(tmp_path).startswith(": no images found")


@pytest.mark.parametrize("form", ["tar", "gz", "xz"])
@pytest.mark.parametrize("cut", [0, 3, 700, 0.5, 0.9, -1100])
def test_archives_cut_off(pictures, form, cut, tmp_path):
    """A partial download is never accepted, even if it stopped between two files."""
    path = store({name: png(image) for name, image in pictures.items()}, form, tmp_path)
    whole = path.read_bytes()
    if form == "tar":
        whole = whole[: 18 * 1024 + 1024]  # without the padding after the two blocks that end a tar
    keep = int(len(whole) * cut) if 0 < cut < 1 else cut if cut >= 0 else len(whole) + cut
    path.write_bytes(whole[: max(0, keep)])
    message = refused(path)
    assert message.endswith("; fetch it again") and (
        message.startswith(": not a tar archive, or a damaged one (") or "but the archive ends after" in message
    )


def test_a_tar_cut_off_between_two_files(pictures, tmp_path):
    path = store({name: png(image) for name, image in pictures.items()}, "tar", tmp_path)
    with tarfile.open(path) as archive:
        last = archive.getmembers()[-1].offset
    for end in (last, last + 100):
        path.write_bytes(path.read_bytes()[:end])
        assert refused(path) == ": not a tar archive, or a damaged one (it ends early); fetch it again"


def test_unsafe_members_are_skipped(pictures, tmp_path):
    """Absolute names, names with .., links and devices: none is read, and nothing is written."""
    path = tmp_path / "set.tar"
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(np.zeros((10, 10, 3), np.uint8)))
    with tarfile.open(path, "w") as archive:
        for name in ("/train/evil/1.png", "../train/evil/1.png", "train/../1.png", "train\\evil/e/1.png"):
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"evil"))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            member = tarfile.TarInfo("train/evil/2.png")
            member.type, member.linkname = kind, str(secret)
            archive.addfile(member)
        for name, image in pictures.items():
            member = tarfile.TarInfo(f"./{name}")
            content = png(image)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    before = sorted(tmp_path.rglob("*"))
    assert datasets.load(path).classes == ["ant", "cat", "dog"]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_member_that_claims_a_terabyte(tmp_path):
    path = tmp_path / "set.tar"
    member = tarfile.TarInfo("train/cat/1.png")
    member.size = 1 << 40
    path.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    assert refused(path) == (
        ": train/cat/1.png should have 1,099,511,627,776 bytes from byte 512 on, but the archive ends after 1,024 of "
        "them; fetch it again"
    )


@pytest.fixture
def published(records, tmp_path, monkeypatch):
    """A public address that is a local file."""
    (tmp_path / "public").mkdir()
    path = store(binary_form(records), "gz", tmp_path / "public")
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setattr(download, "ADDRESS", path.as_uri())
    monkeypatch.setitem(download.MD5, "cifar-10-binary.tar.gz", md5)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return path


def test_cifar_is_downloaded_once(records, published, monkeypatch):
    holds(datasets.load("cifar10"), records)
    assert os.listdir("data") == ["cifar-10-binary.tar.gz"]
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: pytest.fail("downloaded again"))
    holds(datasets.load("cifar10"), records)


def test_a_download_with_another_md5_is_thrown_away(published, monkeypatch):
    monkeypatch.setitem(download.MD5, "cifar-10-binary.tar.gz", "0" * 32)
    md5 = hashlib.md5(published.read_bytes()).hexdigest()
    with pytest.raises(DataError) as caught:
        datasets.load("cifar10")
    address = published.as_uri()
    assert (
        str(caught.value) == f"{address}: MD5 is {md5}, not {'0' * 32}; the file is damaged or has changed, try again"
    )
    assert os.listdir("data") == []


def test_no_network(published, monkeypatch):
    def unreachable(*_, **__):
        raise urllib.error.URLError(OSError("Name or service not known"))

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    with pytest.raises(DataError) as caught:
        datasets.load("cifar10")
    assert str(caught.value) == (
        f"{download.ADDRESS}: cannot be downloaded (Name or service not known); "
        "download it elsewhere and put it at data/cifar-10-binary.tar.gz"
    )
    assert os.listdir("data") == []


def test_a_download_that_breaks_off(published, monkeypatch):
    class Breaking(io.BytesIO):
        headers = {"Content-Length": "100"}

        def read(self, size):
            raise self.error

    for error in (
        ConnectionResetError("reset by peer"),
        http.client.IncompleteRead(b""),
        http.client.BadStatusLine(""),
    ):
        monkeypatch.setattr(Breaking, "error", error, raising=False)
        monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: Breaking())
        with pytest.raises(DataError, match="cannot be downloaded"):
            datasets.load("cifar10")
        assert os.listdir("data") == []


def test_a_full_disk_is_not_reported_as_a_failed_download(published, monkeypatch):
    def fdopen(handle, *given, **options):
        os.close(handle)
        return open("/dev/full", "wb", buffering=0)

    monkeypatch.setattr(download.os, "fdopen", fdopen)
    with pytest.raises(
        StorageError, match=r"^data/cifar-10-binary.tar.gz: cannot be written \(No space left on device"
    ):
        datasets.load("cifar10")
    assert os.listdir("data") == []


def test_the_download_folder_cannot_be_made(published):
    Path("data").write_text("a file")
    with pytest.raises(StorageError, match="^data: cannot be written to"):
        datasets.load("cifar10")


def test_the_published_sums():
    assert download.ADDRESS == "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    assert download.MD5 == {
        "cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530",
        "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
    }


@pytest.mark.slow
def test_real_cifar(test_data):
    dataset = datasets.load(test_data / "cifar10-jpeg.tar.xz")
    assert (len(dataset.train), len(dataset.test), dataset.train.size) == (50_000, 10_000, 32)
    assert dataset.classes == cifar.CLASSES
    assert np.bincount(dataset.train.labels).tolist() == [5000] * 10
    assert np.bincount(dataset.test.labels).tolist() == [1000] * 10
    np.testing.assert_allclose(dataset.mean.mean(axis=(0, 1)), [125.3, 123.0, 113.9], atol=0.5)  # published values


def test_class_folders_need_no_temporary_folder_and_packed_ones_name_what_to_set(tmp_path, monkeypatch):
    for name in ("train/a", "train/b", "test/a", "test/b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8), (len(name), ord(name[-1]), 0)).save(tmp_path / "set" / name / "1.png")
    with tarfile.open(tmp_path / "set.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "set", "set")

    def none(**options):
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(folders.tempfile, "TemporaryDirectory", none)
    assert datasets.load(tmp_path / "set").classes == ["a", "b"]
    with pytest.raises(StorageError, match="set TMPDIR to a folder that can be written"):
        datasets.load(tmp_path / "set.tar.gz")

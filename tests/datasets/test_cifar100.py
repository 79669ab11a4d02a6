"""CIFAR-100 in its two published forms, loaded and prepared; toy files with the real names."""

import pickle

import numpy as np
import pytest

from tests.support import toy_imagenet
from tinyalex import cli, datasets
from tinyalex.datasets import cifar
from tinyalex.datasets.index.sources import index
from tinyalex.datasets.shards import prepared
from tinyalex.errors import DataError

NAMES = sorted(f"fine_{k:02d}" for k in range(100))
COARSE = [f"coarse_{k:02d}" for k in range(20)]


@pytest.fixture(scope="module")
def records():
    rng = np.random.default_rng(0)
    return {
        name: (rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8), rng.permutation(100)[:count])
        for name, count in (("train", 100), ("test", 40))
    }


def planes(images):
    return images.transpose(0, 3, 1, 2).reshape(len(images), -1)


def binary(records):
    return {
        f"{name}.bin": np.hstack([fine[:, None] // 5, fine[:, None], planes(images)]).astype(np.uint8).tobytes()
        for name, (images, fine) in records.items()
    } | {
        "fine_label_names.txt": "".join(f"{name}\n" for name in NAMES).encode(),
        "coarse_label_names.txt": "".join(f"{name}\n" for name in COARSE).encode(),
    }


def python(records, protocol=2):
    made = {}
    for name, (images, fine) in records.items():
        fields = {b"filenames": [b"x.png"] * len(fine), b"batch_label": b"one", b"data": planes(images)}
        fields |= {b"fine_labels": fine.tolist(), b"coarse_labels": (fine // 5).tolist()}
        made[name] = pickle.dumps(fields, protocol)
    meta = {b"fine_label_names": [name.encode() for name in NAMES], b"coarse_label_names": [b"x"] * 20}
    return made | {"meta": pickle.dumps(meta, protocol), "file.txt~": b""}


FORMS = {"cifar-100-binary": binary, "cifar-100-python": python}
PLACES = ["folder", "its own folder", "tar.gz"]


@pytest.fixture(params=[(form, place) for form in FORMS for place in PLACES], ids=" ".join)
def source(request, records, tmp_path):
    form, place = request.param
    contents = {f"{form}/{name}": content for name, content in FORMS[form](records).items()}
    if place == "tar.gz":
        path = tmp_path / f"{form}.tar.gz"
        toy_imagenet.tar_gz(path, contents)
        return path
    folder = toy_imagenet.tree(tmp_path / "data", contents)
    return folder if place == "folder" else folder / form


def test_fine_labels_are_read(source, records):
    dataset = datasets.load(source)
    assert dataset.name == "cifar100" and dataset.classes == NAMES
    for name, found in (("train", dataset.train), ("test", dataset.test)):
        np.testing.assert_array_equal(found.images, records[name][0])
        np.testing.assert_array_equal(found.labels, records[name][1])


def test_it_is_indexed_as_it_is_loaded(source, records, tmp_path):
    found = index([source], tmp_path / "work", print)
    assert found.kind == "CIFAR-100" and found.classes == NAMES
    for name, (images, fine) in records.items():
        seen = toy_imagenet.found(found.splits[name])
        wanted = [(label, pixels.tobytes()) for label, pixels in zip(fine, planes(images), strict=True)]
        assert [seen[key] for key in sorted(seen)] == wanted


def test_it_is_prepared(records, tmp_path, capsys):
    source = tmp_path / "cifar-100-python.tar.gz"
    toy_imagenet.tar_gz(source, {f"cifar-100-python/{name}": each for name, each in python(records).items()})
    assert cli.main(["prepare", str(source), str(tmp_path / "set"), "--workers", "1"]) == 0
    assert "CIFAR-100, 100 training and 40 test images of 32 x 32, 100 classes" in capsys.readouterr().out
    made = prepared.load(tmp_path / "set")
    assert made.classes == NAMES
    for name, images in (("train", made.train), ("test", made.test)):
        wanted = {int(label): image for image, label in zip(*records[name], strict=True)}
        for image, label in zip(images.read(np.arange(len(images))), images.labels, strict=True):
            np.testing.assert_array_equal(image, wanted[int(label)])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c: c.pop("fine_label_names.txt"), "fine_label_names.txt, with the names of the classes, is missing; "),
        (
            lambda c: c.update({"test.bin": c["test.bin"][:-1]}),
            "test.bin: 122,959 bytes is not a whole number of 3,074-",
        ),
        (lambda c: c.update({"test.bin": b"\0\x64" + bytes(3072)}), "test.bin: label 100, but CIFAR-100 has 0 to 99; "),
        (lambda c: c.update({"fine_label_names.txt": b"a\nb"}), "fine_label_names.txt does not name 100 classes; "),
    ],
)
def test_damaged_files_are_refused(records, spoil, message):
    contents = binary(records)
    spoil(contents)
    with pytest.raises(DataError) as caught:
        cifar.assemble("data", contents)
    assert str(caught.value).startswith(f"data: {message}") and str(caught.value).endswith("fetch it again")


def test_a_missing_file_is_named(records):
    contents = python(records)
    del contents["test"]
    with pytest.raises(DataError, match="^data: test is missing; CIFAR-100 has a file train and a file test$"):
        cifar.assemble("data", contents)


def test_a_file_called_train_beside_class_folders_is_no_cifar(tmp_path, capsys):
    image = toy_imagenet.jpeg(np.random.default_rng(0))
    folder = toy_imagenet.tree(tmp_path / "set", {f"{name}/1.jpg": image for name in ("cat", "dog")})
    toy_imagenet.tree(folder, {"train": b"a shell script", "meta": b"\xff"})
    assert cli.main(["prepare", str(folder), str(tmp_path / "out"), "--workers", "1", "--size", "8"]) == 0
    assert "skipped: set/meta and 1 more (not an image by its name)" in capsys.readouterr().out

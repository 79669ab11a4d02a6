"""Prepared sets at run time: images are read as they were written, and faults are reported before training."""

import hashlib
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import threading

import numpy as np
import pytest

from tests.support.prepared_sets import PLAN, flip, in_memory, make, pictures, rewrite
from tinyalex import datasets
from tinyalex.datasets import Dataset, statistics
from tinyalex.datasets.shards import manifest, shards
from tinyalex.errors import DataError

REMEDY = "copy it again from an intact set, or remove it and run the same tinyalex prepare again"


def refused(folder):
    """The message for a set that cannot be opened: one line that begins with its path, which is cut off here."""
    with pytest.raises(DataError) as caught:
        datasets.load(folder)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"{folder}")
    return message.removeprefix(f"{folder}").lstrip("/")


@pytest.fixture
def folder(tmp_path):
    return make(tmp_path / "set")


# The format, and reading.


def test_the_file_is_as_documented(folder):
    labels, images = pictures("train", 20, 8)
    content = (folder / "train-00003.shard").read_bytes()  # 20 images, six a shard: the last two
    assert content[:16] == b"tinyalex shard 1" and content[16:32].hex() == PLAN
    assert struct.unpack("<4I", content[32:48]) == (0, 3, 2, 8)
    assert np.frombuffer(content[48:56], "<i4").tolist() == labels[18:].tolist()
    for k in (0, 1):
        assert content[56 + 8 * k : 64 + 8 * k] == hashlib.blake2b(images[18 + k].tobytes(), digest_size=8).digest()
    assert content[72:] == images[18:].tobytes()
    found = json.loads((folder / "manifest.json").read_text())
    assert found["splits"]["train"]["shards"][3] == {
        "file": "train-00003.shard",
        "count": 2,
        "hash": hashlib.blake2b(content[:72], digest_size=16).hexdigest(),
    }
    assert struct.unpack("<4I", (folder / "test-00001.shard").read_bytes()[32:48]) == (1, 1, 4, 8)


@pytest.mark.parametrize("indices", [
    [], [7], range(20), range(19, -1, -1), [3, 3, 4, 5, 6, 7, 3], [19, 0, 18, 1, 5, 6], np.uint8([5, 6, 7]),
])  # fmt: skip
def test_images_come_in_the_order_asked_for(folder, indices):
    dataset, wanted = datasets.load(folder), in_memory("train", 20)
    found = dataset.train.read(np.array(list(indices), int))
    np.testing.assert_array_equal(found, wanted.images[list(indices)])
    assert found.dtype == np.uint8
    space = np.full((2 * len(found) + 1, 8, 8, 3), 9, np.uint8)
    assert dataset.train.read(indices, out=space[: 2 * len(found) : 2]) is not None
    np.testing.assert_array_equal(space[: 2 * len(found) : 2], found)
    assert (space[1::2] == 9).all() and (space[-1] == 9).all()


def test_it_can_be_used_like_a_set_in_memory(folder):
    dataset, train, test = datasets.load(folder), in_memory("train", 20), in_memory("test", 10)
    assert (len(dataset.train), len(dataset.test), dataset.train.size, dataset.test.size) == (20, 10, 8, 8)
    assert dataset.train.labels.dtype == np.int64 and dataset.train.labels.tolist() == train.labels.tolist()
    np.testing.assert_array_equal(dataset.test.read(np.arange(10)), test.images)
    whole = Dataset("whole", dataset.classes, train, test)
    np.testing.assert_array_equal(dataset.mean, whole.mean)
    assert dataset.mean.dtype == np.float32
    for ours, expected in zip(dataset.colour, whole.colour, strict=True):
        np.testing.assert_array_equal(ours, expected)
    space = np.empty((3, 8, 8, 3), np.uint8)
    assert train.read([4, 4, 1], out=space) is space and (space == train.images[[4, 4, 1]]).all()
    with pytest.raises(IndexError):
        dataset.train.read([20])
    with pytest.raises(IndexError):
        dataset.train.read([-1])


def test_statistics_are_exact():
    for shape in ((700, 32, 32, 3), (5, 7, 7, 3), (1, 1, 1, 3)):
        images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        images[0] = 255
        pixels = images.reshape(-1, 3).astype(object)  # Python's integers
        total, products = statistics.pixel_sums(images)
        np.testing.assert_array_equal(total, images.astype(np.int64).sum(axis=0))
        np.testing.assert_array_equal(products, pixels.T @ pixels)


def test_principal_colours_are_those_of_the_covariance():
    pixels = np.random.default_rng(0).integers(0, 256, (1000, 3)) // [[1, 2, 5]]
    deviations, vectors = statistics.principal_colours(1000, pixels.sum(axis=0), pixels.T @ pixels)
    np.testing.assert_allclose(vectors * deviations**2 @ vectors.T, np.cov(pixels.T, bias=True), atol=1e-9)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=1e-12)
    assert (np.diff(deviations) > 0).all()


def test_many_threads_read_at_once(tmp_path):
    dataset, wanted = datasets.load(make(tmp_path, train=200, per_shard=7)).train, in_memory("train", 200)
    wrong = []

    def read(seed):
        for order in np.random.default_rng(seed).permuted(np.tile(np.arange(200), (30, 1)), axis=1):
            if not np.array_equal(dataset.read(order[:50]), wanted.images[order[:50]]):
                wrong.append(seed)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert wrong == []


def test_the_identity_depends_on_the_contents_only(tmp_path):
    def identity(name, **changes):
        return datasets.load(make(tmp_path / name, **changes)).identity

    first = identity("a")
    assert identity("b", kind="from elsewhere", words=["x", "y", "z"]) == first
    shutil.move(tmp_path / "a", tmp_path / "moved")
    assert datasets.load(tmp_path / "moved").identity == first
    others = [identity("c", train=19), identity("d", size=9), identity("e", classes=4), identity("f", per_shard=5)]
    others += [identity("g", classes=3, test=9), identity("h", plan="0" * 32)]
    assert len({first, *others}) == 7 and all(len(each) == 32 for each in others)


def test_removed_files_can_still_be_read(folder):
    dataset = datasets.load(folder)
    for path in folder.glob("*.shard"):
        path.unlink()
    np.testing.assert_array_equal(dataset.train.read(np.arange(20)), in_memory("train", 20).images)


def test_more_shards_than_files_may_be_open(tmp_path):
    make(tmp_path, train=90, per_shard=1, test=2, size=2)
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (60, int(sys.argv[2])))\n"
        "from tinyalex import cli; sys.exit(cli.main(['verify', sys.argv[1]]))"
    )
    run = [sys.executable, "-c", code, str(tmp_path)]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert subprocess.run([*run, str(hard)], capture_output=True).returncode == 0
    done = subprocess.run([*run, "60"], capture_output=True, text=True)
    assert done.returncode == 7 and ".shard: Too many open files; raise the limit with ulimit -n\n" in done.stderr


def test_files_are_closed_with_the_last_reference(folder):
    before = len(os.listdir("/dev/fd"))
    dataset = datasets.load(folder)
    assert len(os.listdir("/dev/fd")) == before + 6
    del dataset
    assert len(os.listdir("/dev/fd")) == before


# Shards that are not what they should be.


def cut(path, count):
    os.truncate(path, path.stat().st_size + count)


@pytest.mark.parametrize("count", [-1, 1, -192, 500, 192])
@pytest.mark.parametrize("name", ["train-00001.shard", "test-00001.shard"])
def test_s1_another_size(folder, name, count):
    size = (folder / name).stat().st_size
    cut(folder / name, count)
    assert refused(folder) == f"{name}: {size + count:,} bytes, not {size:,}; {REMEDY}"


@pytest.mark.parametrize("size", [0, 1, 15, 16, 47, 48, 60, 100])
def test_s1_cut_within_the_header(folder, size):
    os.truncate(folder / "train-00000.shard", size)
    what = refused(folder)
    assert what.startswith("train-00000.shard: ") and what.endswith(REMEDY)


def test_s2_damaged_pixels_are_found_when_a_set_is_opened(tmp_path):
    """With one wrong bit in each image, a few checked images are enough; which ones are checked changes each time."""
    make(tmp_path, train=100, per_shard=100)
    for image in range(100):
        flip(tmp_path / "train-00000.shard", 48 + 12 * 100 + 192 * image + 7 * image % 192, image % 8)
    found = {refused(tmp_path) for _ in range(20)}
    assert len(found) > 1
    for line in found:
        number, _, rest = line.removeprefix("train-00000.shard: image ").partition(": ")
        assert int(number) < 100 and rest == f"its pixels are not as they were prepared; {REMEDY}"


def test_s3_a_shard_is_missing(folder):
    (folder / "test-00000.shard").unlink()
    assert refused(folder) == f"test-00000.shard: cannot be opened (No such file or directory); {REMEDY}"


def test_s3_a_shard_with_fewer_images(folder):
    labels, images = pictures("train", 5, 8)
    shards.write(folder / "train-00000.shard", PLAN, "train", 0, labels, images)
    assert refused(folder) == f"train-00000.shard: 5 images of 8 x 8, not 6 of 8 x 8; {REMEDY}"


@pytest.mark.parametrize("one, other, what", [
    ("train-00001", "train-00002", "is train-00002.shard under another name"),
    ("train-00001", "test-00001", "is test-00001.shard under another name"),
])  # fmt: skip
def test_s3_shards_under_other_names(folder, one, other, what):
    os.replace(folder / f"{other}.shard", folder / f"{one}.shard")
    assert refused(folder) == f"{one}.shard: {what}; {REMEDY}"


def test_s3_shards_of_two_sets(folder, tmp_path):
    other = make(tmp_path / "other", plan="f" * 32)
    shutil.copy(other / "train-00001.shard", folder)
    assert refused(folder) == f"train-00001.shard: belongs to another prepared set; {REMEDY}"


def test_s3_the_same_plan_but_other_images(folder):
    labels, images = pictures("train", 6, 8)
    shards.write(folder / "train-00000.shard", PLAN, "train", 0, labels, images ^ 1)
    assert refused(folder) == f"train-00000.shard: its labels or hashes are not as they were prepared; {REMEDY}"


def test_s3_no_shard_at_all(folder):
    (folder / "train-00001.shard").write_bytes(b"<html>not found</html>" * 100)
    assert refused(folder) == f"train-00001.shard: not a shard, or a damaged one; {REMEDY}"


@pytest.mark.parametrize("label", [3, 1000, -1])
def test_s4_a_label_that_is_not_a_class(folder, label):
    """It is refused even if every hash is right, before a GPU could take it for another class."""
    labels, images = pictures("test", 6, 8)
    labels[4] = label
    found = manifest.read(folder)
    digest = shards.write(folder / "test-00000.shard", PLAN, "test", 0, labels, images)
    found["splits"]["test"]["shards"][0]["hash"] = digest
    rewrite(folder, splits=found["splits"])
    assert refused(folder) == f"test-00000.shard: image 4: label {label}, but the classes are 0 to 2; {REMEDY}"


# The manifest.

SHARD = "splits.train.shards.1"
OTHER = ", not 'tinyalex prepared set 1'; "


def put(*where, value):
    """A change to a manifest: sets the value of a field."""

    def change(found):
        for name in where[:-1]:
            found = found[name]
        found[where[-1]] = value

    return change


def shard(number, field, value):
    """A change to the entry of a training shard."""
    return put("splits", "train", "shards", number, field, value=value)


@pytest.mark.parametrize("change, said", [
    (put("format", value="tinyalex prepared set 5"), f"format: 'tinyalex prepared set 5'{OTHER}written by another "),
    (put("format", value="tinyalex prepared set 17"), f"format: 'tinyalex prepared set 17'{OTHER}written by another"),
    (put("format", value="something"), f"format: 'something'{OTHER}not the manifest of a prepared set"),
    (put("format", value=1), f"format: 1{OTHER}not the manifest"),
    (lambda found: found.pop("format"), "format: missing; not the manifest"),
    (lambda found: found.pop("classes"), "classes: missing"),
    (put("colours", value=3), "colours: not a field of this format"),
    (put("statistics", "mode", value=3), "statistics.mode: not a field of this format"),
    (put("size", value=True), "size: true is not a whole number"),
    (put("size", value=8.0), "size: 8.0 is not a whole number"),
    (put("size", value="8"), 'size: "8" is not a whole number'),
    (put("size", value=0), "size: 0 is not from 1 to 4096"),
    (put("size", value=1 << 40), "size: 1099511627776 is not from 1 to 4096"),
    (put("seed", value=-1), "seed: -1 is not a whole number"),
    (put("seed", value=1 << 70), "seed: 1180591620717411303424 is not a whole number"),
    (put("seed", value=None), "seed: null is not a whole number"),
    (put("plan", value=PLAN.upper()), 'plan: "0123456789ABCDEF0123456789ABCDEF" is not 32 hexadecimal digits'),
    (put("identity", value="0" * 32), "identity: not that of the classes and shards"),
    (put("classes", value={"a": 1}), 'classes: {"a": 1} is not a list'),
    (put("classes", 2, value=7), "classes.2: 7 is not text"),
    (put("classes", 2, value="n00000001"), "classes: fewer than two, or one is repeated"),
    (put("classes", value=["n"]), "classes: fewer than two, or one is repeated"),
    (put("words", value=["x"]), "words: 1 for 3 classes"),
    (put("splits", value=[]), "splits: [] is not an object"),
    (lambda found: found["splits"].pop("test"), "splits.test: missing"),
    (put("splits", "train", "count", value=21), "splits.train.count: 21 is not the sum of its shards'"),
    (shard(1, "count", value=float("nan")), SHARD + ".count: NaN is not a whole number"),
    (shard(1, "count", value=0), SHARD + ".count: 0"),
    (shard(1, "file", value="../../evil"), SHARD + ".file: '../../evil', not 'train-00001.shard'"),
    (shard(1, "hash", value="?" * 32), SHARD + '.hash: "????????????????????????????????" is not'),
    (put("splits", "test", "shards", 1, "hash", value="0" * 32), "identity: not that of the classes and shards"),
    (put("splits", "test", "skipped", value=[{"name": "x"}]), "splits.test.skipped.0.reason: missing"),
    (put("statistics", "sum", value=[1, 2]), "statistics: not 3 sums"),
    (put("statistics", "products", 1, value=[1, 2]), "statistics: not 3 sums and 3 x 3 products"),
    (put("statistics", "products", 1, 1, value=float("inf")), "statistics.products.1.1: Infinity is not"),
    (put("statistics", "images", value=19), "statistics.images: 19, not the number of train images"),
    (put("statistics", "from", value="test"), "statistics.images: 20, not the number of test images"),
    (put("statistics", "from", value="elsewhere"), "statistics.from: 'elsewhere' is neither train, test nor"),
    (put("statistics", "pixels", value=19), "statistics.pixels: 19 in 20 images"),
    (put("statistics", "mean", "file", value="/etc/passwd"), "statistics.mean.file: '/etc/passwd', not 'mean.f32'"),
    (put("odd", "png", value=-1), "odd.png: -1 is not a whole number"),
    (put("duplicates", value=[["a", 1]]), "duplicates.0.1: 1 is not text"),
    (put("check", value="0" * 32), "check: it was changed after it was written"),
    (put("kind", value="drawm"), "check: it was changed after it was written"),
    (put("odd", "png", value=2), "check: it was changed after it was written"),
])  # fmt: skip
def test_s5_a_manifest_with_a_wrong_field(folder, change, said):
    found = json.loads((folder / "manifest.json").read_text())
    change(found)
    (folder / "manifest.json").write_text(json.dumps(found, indent=1) + "\n")
    line = refused(folder)
    assert line.startswith(f"manifest.json: {said}") and "; " in line


@pytest.mark.parametrize("change, said", [
    (lambda text: text[:-20], "not valid JSON (Unterminated"),
    (lambda text: "", "not valid JSON (Expecting value"),
    (lambda text: "[]", "format: missing; not the manifest"),
    (lambda text: "null", "format: missing; not the manifest"),
    (lambda text: '{"format": 1, "format": 2}', "not valid JSON (an object has the same key twice)"),
    (lambda text: text.replace('"seed": 0', '"seed": 0,\n "seed": 0'), "not valid JSON (an object has the same key"),
    (lambda text: "[" * 100_000, "not valid JSON ("),
    (lambda text: text.replace('"seed": 0', '"seed": ' + "9" * 5000), "not valid JSON (Exceeds"),
    (lambda text: text.replace('"seed": 0', '"seed":  0'), "check: it was changed"),
    (lambda text: text + " ", "check: it was changed"),
])  # fmt: skip
def test_s5_a_manifest_whose_text_was_changed(folder, change, said):
    path = folder / "manifest.json"
    path.write_text(change(path.read_text()))
    assert refused(folder).startswith(f"manifest.json: {said}")


def test_s5_a_manifest_that_is_not_utf_8(folder):
    (folder / "manifest.json").write_bytes(b"\xff\xfe{}")
    assert refused(folder).startswith("manifest.json: not valid JSON (")


def test_a_manifest_can_hold_any_name(tmp_path):
    """File names that are not UTF-8 can be listed among skipped images and duplicates."""
    words = ["K\u00e4fer", "\u732b", "b\udcff"]
    assert datasets.load(make(tmp_path, words=words, duplicates=[["a\udcfe", "b"]])).words == words


@pytest.mark.parametrize("value, said", [
    (np.nan, "has values outside 0 to 255"), (-1, "has values outside"), (256, "has values outside"),
    (np.inf, "has values outside"), (17, "it was changed after it was written"),
])  # fmt: skip
def test_s5_a_mean_with_a_wrong_number(folder, value, said):
    mean = np.fromfile(folder / "mean.f32", "<f4")
    mean[100] = value
    mean.tofile(folder / "mean.f32")
    assert refused(folder).startswith(f"mean.f32: {said}")


def test_s5_a_mean_of_another_shape(folder):
    cut(folder / "mean.f32", -12)
    assert refused(folder).startswith("mean.f32: 756 bytes, but an image of 8 x 8 has 768; ")
    (folder / "mean.f32").unlink()
    assert refused(folder).startswith("mean.f32: cannot be read (No such file or directory); ")


def test_an_unfinished_set_is_refused(folder, tmp_path):
    (folder / "manifest.json").unlink()
    assert refused(folder) == ": this set is not complete; run the same tinyalex prepare again"
    (tmp_path / "begun" / "work").mkdir(parents=True)
    assert refused(tmp_path / "begun") == ": this set is not complete; run the same tinyalex prepare again"

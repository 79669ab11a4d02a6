"""The job of one worker, the plan, and records; all in this process."""

import errno
import io
import os

import numpy as np
import pytest
from PIL import Image

from tests.support import folders
from tinyalex import randomness
from tinyalex.datasets import picture
from tinyalex.datasets.index.entries import Entry, Index
from tinyalex.datasets.shards import shards
from tinyalex.errors import DataError, DeviceError, StorageError, UsageError
from tinyalex.prepare import complete, plan, records, shard
from tinyalex.prepare.sheet import choose


class Reporter:
    """Records what is reported."""

    def __init__(self):
        self.parts = []

    def begin(self, part):
        self.parts.append(part)

    def computed(self):
        self.parts.append("computed")

    def exit_if_orphaned(self):
        pass


def jpeg(rng):
    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


@pytest.fixture
def contents():
    """{name: bytes} of seven JPEGs."""
    rng = np.random.default_rng(3)
    return {f"cat/{k}.JPEG": jpeg(rng) for k in range(7)}


def entries(contents, root):
    """Write contents into one file, not in the order of their names, with gaps; even ones are of class 0."""
    made, blob = [], b""
    for name in sorted(contents, key=lambda name: name[::-1]):
        blob += b"gap"
        made.append(Entry(name, int(name[4:-5]) % 2, str(root / "all.tar"), len(blob), len(contents[name])))
        blob += contents[name]
    (root / "all.tar").write_bytes(blob)
    return sorted(made)


def task(found, root, size=16, split="train", number=0):
    return shard.Task(str(root / "out"), "ab" * 16, split, number, size, found)


def opened(made):
    """The record of a task, and the labels and images of its shard."""
    record = records.read(made.record, made.size)
    found = shards.Shard(made.path.parent, complete.header(made, record, ["ant", "cat"]), made.split, made.number)
    images = np.empty((record.count, made.size, made.size, 3), np.uint8)
    if record.count:
        found.read(0, list(images))
    return record, found.labels, images


def test_a_shard_holds_its_images_in_their_order(contents, tmp_path):
    found = entries(contents, tmp_path)
    found = [found[k] for k in (3, 0, 6, 1, 5, 2, 4)]
    reporter = Reporter()
    assert shard.make(task(found, tmp_path), reporter) == 0
    record, labels, images = opened(task(found, tmp_path))
    wanted = [picture.square(picture.decode(contents[entry.name])[0], 16) for entry in found]
    np.testing.assert_array_equal(images, wanted)
    assert labels.tolist() == [1, 0, 0, 1, 1, 0, 0] and reporter.parts == [*range(7), "computed"]
    offsets = [found[k].offset for k in task(found, tmp_path).reading_order()]
    assert offsets == sorted(offsets)
    assert folders.names(tmp_path / "out" / "work" / "new") == []
    sums = np.array(wanted, dtype=object)
    np.testing.assert_array_equal(record.total, sums.sum(axis=0))
    pixels = sums.reshape(-1, 3)
    assert record.products == (pixels.T @ pixels).tolist() and record.count == 7 and record.skipped == []


def test_images_that_cannot_be_decoded_are_left_out(contents, tmp_path):
    contents["cat/2.JPEG"] = contents["cat/2.JPEG"][:300]
    contents["cat/5.JPEG"] = b""
    contents["cat/6.JPEG"] = b"<html>not found</html>"
    found = entries(contents, tmp_path)
    assert shard.make(task(found, tmp_path), Reporter()) == 3
    record, labels, images = opened(task(found, tmp_path))
    assert [name for name, _ in record.skipped] == ["cat/2.JPEG", "cat/5.JPEG", "cat/6.JPEG"]
    assert record.skipped[1][1].endswith("it is empty") and "<html>" in record.skipped[2][1]
    good = [entry.name for entry in found if entry.name not in dict(record.skipped)]
    wanted = [picture.square(picture.decode(contents[name])[0], 16) for name in good]
    np.testing.assert_array_equal(images, wanted)
    np.testing.assert_array_equal(record.total, np.array(wanted, dtype=int).sum(axis=0))
    assert labels.tolist() == [0, 1, 1, 0] and record.count == 4


def test_jpeg_files_of_the_right_size_are_kept_and_others_are_made(contents, tmp_path):
    """Pixels are those of the files in the shard, sums are theirs, and the record says how they differ."""
    scene = Image.fromarray(np.random.default_rng(5).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    for name, image, form, more in (
        ("cat/1.JPEG", scene, "JPEG", {"quality": 60}),
        ("cat/3.JPEG", scene.convert("L"), "JPEG", {"progressive": True}),
        ("cat/4.JPEG", scene.convert("CMYK"), "JPEG", {}),  # decoded by rules of our own
        ("cat/5.JPEG", scene, "PNG", {}),
    ):
        stream = io.BytesIO()
        image.save(stream, form, **more)
        contents[name] = stream.getvalue()
    contents["cat/6.JPEG"] = contents["cat/6.JPEG"][:300]
    found = entries(contents, tmp_path)
    made = task(found, tmp_path)._replace(quality=90)
    assert shard.make(made, Reporter()) == 1
    record, labels, images = opened(made)
    good = [entry.name for entry in found if entry.name != "cat/6.JPEG"]
    before = np.array([picture.square(picture.decode(contents[name])[0], 16) for name in good])
    header = complete.header(made, record, ["ant", "cat"])
    files = shards.Shard(made.path.parent, header, "train", 0).fetch(0, 6)
    kept = [name for name, file in zip(good, files, strict=True) if file == contents[name]]
    assert kept == ["cat/1.JPEG", "cat/3.JPEG"]
    after = np.array([picture.square(picture.decode(file)[0], 16) for file in files])
    np.testing.assert_array_equal(images, after)
    np.testing.assert_array_equal(record.total, after.sum(axis=0, dtype=int))
    differences = np.abs(after.astype(int) - before)
    assert record.jpeg == {
        "kept": 2, "bytes": sum(map(len, files)), "squares": (differences**2).sum(), "largest": differences.max(),
    }  # fmt: skip
    assert not differences[[good.index(name) for name in kept]].any() and differences.max() > 0
    assert [name for name, _ in record.skipped] == ["cat/6.JPEG"] and len(labels) == 6


def test_planes_of_cifar(tmp_path):
    picture32 = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    (tmp_path / "batch").write_bytes(b"\7" + picture32.transpose(2, 0, 1).tobytes())
    found = [Entry("1", 0, str(tmp_path / "batch"), 1, 3072, "planes32")]
    for size in (32, 16):
        shard.make(task(found, tmp_path, size), Reporter())
        _, _, images = opened(task(found, tmp_path, size))
        np.testing.assert_array_equal(images[0], picture.square(Image.fromarray(picture32), size))
        assert size != 32 or (images[0] == picture32).all()


def test_unusual_images_are_counted(contents, tmp_path):
    stream = io.BytesIO()
    Image.new("L", (9, 9)).save(stream, "PNG")
    contents["cat/3.JPEG"] = contents["cat/4.JPEG"] = stream.getvalue()
    shard.make(task(entries(contents, tmp_path), tmp_path), Reporter())
    assert opened(task(entries(contents, tmp_path), tmp_path))[0].odd == {"grey": 2, "png": 2}


@pytest.mark.parametrize(
    ("number", "error", "message"),
    [
        (errno.EACCES, StorageError, "cannot be read (Permission denied); check its permissions"),
        (errno.EIO, DataError, "cannot be read (Input/output error)"),
        (errno.ENOENT, DataError, "cannot be read (No such file or directory)"),
    ],
)
def test_a_source_that_cannot_be_read_stops_the_work(contents, tmp_path, monkeypatch, number, error, message):
    found, real = entries(contents, tmp_path), os.open

    def refuse(path, *flags, **rest):
        if str(path).endswith("all.tar"):
            raise OSError(number, os.strerror(number), path)
        return real(path, *flags, **rest)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(error) as caught:
        shard.make(task(found, tmp_path), Reporter())
    assert str(caught.value).startswith(str(tmp_path / "all.tar")) and message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_source_that_became_shorter(contents, tmp_path):
    found = entries(contents, tmp_path)
    os.truncate(tmp_path / "all.tar", max(entry.offset for entry in found) + 10)
    with pytest.raises(DataError, match=r"all.tar: cat/\d.JPEG: it became shorter"):
        shard.make(task(found, tmp_path), Reporter())


def test_no_memory(contents, tmp_path, monkeypatch):
    def exhausted(content):
        raise MemoryError

    monkeypatch.setattr(picture, "decode", exhausted)
    with pytest.raises(DeviceError, match="no memory to decode it; use fewer workers"):
        shard.make(task(entries(contents, tmp_path), tmp_path), Reporter())
    monkeypatch.setattr(shard, "_buffer", lambda count, size: exhausted(b""))
    with pytest.raises(DeviceError, match="no memory for 7 images of 16 x 16; use fewer workers or a smaller --size$"):
        shard.make(task(entries(contents, tmp_path), tmp_path), Reporter())


def test_the_location_of_an_image_in_its_own_file_or_in_an_archive():
    assert shard.location(Entry("cat/1.JPEG", 0, "/data/cat/1.JPEG", 0, 9)) == "/data/cat/1.JPEG"
    assert shard.location(Entry("cat/1.JPEG", 0, "/data/train.tar", 512, 9)) == "/data/train.tar: cat/1.JPEG"


def test_damaged_records_are_ignored(contents, tmp_path):
    made = task(entries(contents, tmp_path), tmp_path)
    assert records.read(made.record, 16) is None
    shard.make(made, Reporter())
    whole = made.record.read_bytes()
    assert records.read(made.record, 16) is not None and records.read(made.record, 17) is None
    for at in (0, 15, 16, 500, len(whole) - 1):
        made.record.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert records.read(made.record, 16) is None
    for length in (0, 10, 16, 1000, len(whole) - 1):
        made.record.write_bytes(whole[:length])
        assert records.read(made.record, 16) is None


# The plan.


def index(train=1100, test=3, **changes):
    splits = {
        split: [Entry(f"{k:05d}.JPEG", k % 2, "x.tar", 1000 * k, 900) for k in range(count)]
        for split, count in (("train", train), ("test", test))
    }
    return Index(
        **({"kind": "drawn", "classes": ["ant", "cat"], "words": ["a", "c"], "splits": splits, "skipped": []} | changes)
    )


def test_shards_are_512_images_of_a_permutation(tmp_path):
    identity, tasks = plan.make(index(), tmp_path, 16, seed=4)
    assert [(each.split, each.number, len(each.entries)) for each in tasks] == [
        ("train", 0, 512),
        ("train", 1, 512),
        ("train", 2, 76),
        ("test", 0, 3),
    ]
    order = randomness.permutation(randomness.key(4, "shards", "train"), 1100)
    assert [entry.name for each in tasks[:3] for entry in each.entries] == [f"{k:05d}.JPEG" for k in order]
    assert {each.plan for each in tasks} == {identity} and len(identity) == 32
    assert plan.make(index(), tmp_path / "elsewhere", 16, 4)[0] == identity


def test_the_plan_depends_on_every_setting_and_image(tmp_path):
    entries = index().splits["train"]
    changed = [
        plan.make(index(), tmp_path, 17, 4),
        plan.make(index(), tmp_path, 16, 5),
        plan.make(index(train=1099), tmp_path, 16, 4),
        plan.make(index(classes=["ant", "dog"]), tmp_path, 16, 4),
        *(
            plan.make(
                index(splits={"train": [entries[0]._replace(**change), *entries[1:]], "test": []}), tmp_path, 16, 4
            )
            for change in ({"name": "0"}, {"label": 1}, {"size": 901}, {"form": "planes32"}, {})
        ),
    ]
    names = [plan.make(index(), tmp_path, 16, 4)[0]] + [identity for identity, _ in changed]
    assert len(set(names)) == len(names)


def test_the_plan_does_not_depend_on_where_the_bytes_are(tmp_path):
    moved = [entry._replace(file="y.tar", offset=5) for entry in index().splits["train"]]
    splits = {"train": moved, "test": index().splits["test"]}
    assert plan.make(index(splits=splits), tmp_path, 16, 4)[0] == plan.make(index(), tmp_path, 16, 4)[0]


# How many images may be left out.


@pytest.mark.parametrize(
    ("text", "images", "most"),
    [
        ("0.01%", 100, 1),
        ("0.01%", 1_331_167, 133),
        ("0%", 1000, 0),
        ("0.5%", 1000, 5),
        ("0.5%", 199, 0),
        ("20", 10, 20),
        ("0", 10, 0),
        ("100%", 10, 10),
    ],
)
def test_max_bad(text, images, most):
    assert complete.allowed(text, images) == most


@pytest.mark.parametrize("text", ["", "%", "many", "-1", "-1%", "101%", "1.5", "nan%", "inf%", "inf"])
def test_invalid_max_bad(text):
    with pytest.raises(UsageError, match="^--max-bad: "):
        complete.allowed(text, 10)


# The contact sheet.


@pytest.mark.parametrize(
    ("labels", "shown", "each"),
    [
        (np.arange(3000) % 3, 3, 10),
        (np.arange(3000) % 20, 20, 4),
        (np.arange(3000) % 300, 40, 2),
        (np.arange(300), 80, 1),
        (np.array([1, 1, 1]), 1, 3),
    ],
)
def test_a_sheet_shows_classes_evenly(labels, shown, each):
    chosen = choose(labels, 80)
    classes, counts = np.unique(labels[chosen], return_counts=True)
    assert len(classes) == shown and set(counts) == {each} and len(set(chosen)) == len(chosen)
    assert (np.diff(labels[chosen]) >= 0).all() and classes[0] == labels.min() and classes[-1] == labels.max()


def test_a_sheet_prefers_classes_with_several_images():
    labels = np.concatenate([np.arange(300), np.arange(0, 300, 3)])
    chosen = choose(labels, 80)
    assert len(chosen) == 80 and set(np.unique(labels[chosen], return_counts=True)[1]) == {2}

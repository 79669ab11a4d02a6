"""Sets of JPEG files: pixels as Pillow decodes them, damage that is named, statistics of what is trained on."""

import hashlib
import io
import json
import struct
import threading

import numpy as np
import pytest
from PIL import Image

from tests.support.prepared_sets import flip, make, pictures
from tinyalex import datasets
from tinyalex.cli import main
from tinyalex.datasets import Dataset, ImageSet, picture
from tinyalex.datasets.shards import jpeg, manifest, prepared, shards, verify
from tinyalex.errors import DataError

REMEDY = "copy it again from an intact set, or remove it and run the same tinyalex prepare again"
SIZE = 24
HEAD = 48 + 24 * 6  # bytes before the files in a shard of six


@pytest.fixture
def folder(tmp_path):
    return make(tmp_path / "set", size=SIZE, quality=80)


def by_hand(path):
    """The files in a shard, as its format says, without the package's reader."""
    content = path.read_bytes()
    magic, _, _, _, count, size = struct.unpack("<16s16s4I", content[:48])
    assert magic == b"tinyalex shard 2" and size == SIZE
    hashes = [content[48 + 12 * count + 8 * k :][:8] for k in range(count)]
    lengths = struct.unpack(f"<{count}I", content[48 + 20 * count : 48 + 24 * count])
    files, at = [], 48 + 24 * count
    for length in lengths:
        files.append(content[at : at + length])
        at += length
    assert at == len(content) and [hashlib.blake2b(file, digest_size=8).digest() for file in files] == hashes
    return files


def faults(folder):
    try:
        verify.verify(folder, True, show=lambda line: None)
    except ExceptionGroup as group:
        return [str(each).removeprefix(f"{folder}/") for each in group.exceptions]
    return []


def test_the_pixels_are_those_of_the_files_in_the_shards(folder):
    files = [file for k in range(4) for file in by_hand(folder / f"train-{k:05d}.shard")]
    wanted = np.array([picture.square(picture.decode(file)[0], SIZE) for file in files])
    found = datasets.load(folder)
    np.testing.assert_array_equal(found.train.read(np.arange(20)), wanted)
    order = np.random.default_rng(0).permutation(20)
    np.testing.assert_array_equal(found.train.read(order), wanted[order])
    differences = np.abs(wanted.astype(int) - pictures("train", 20, SIZE)[1])
    assert 0 < differences.max() < 90  # they are the drawn pictures, with a loss
    whole = Dataset("whole", found.classes, ImageSet(wanted, found.train.labels), found.test)
    np.testing.assert_array_equal(found.mean, whole.mean)
    assert faults(folder) == []


@pytest.mark.parametrize("grey", [False, True])
def test_the_decoder_gives_the_bits_of_the_decoder_of_files(grey):
    rng = np.random.default_rng(1)
    for quality in (1, 50, 90, 100):
        image = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        image = np.repeat(image[..., :1], 3, axis=2) if grey else image
        file = jpeg.encode(image, quality)
        assert Image.open(io.BytesIO(file)).mode == ("L" if grey else "RGB")
        wanted = picture.square(picture.decode(file)[0], SIZE)
        np.testing.assert_array_equal(jpeg.decode(file, SIZE), wanted)


def test_many_threads_decode_at_once(folder):
    images = datasets.load(folder).train
    wanted, wrong = images.read(np.arange(20)), []

    def read(seed):
        for order in np.random.default_rng(seed).permuted(np.tile(np.arange(20), (10, 1)), axis=1):
            if not np.array_equal(images.read(order), wanted[order]):
                wrong.append(seed)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not wrong


def starts(folder, name="train-00001.shard"):
    """Where the files of a shard begin."""
    return np.cumsum([HEAD, *map(len, by_hand(folder / name))]).tolist()


def test_a_damaged_file_is_refused_by_its_number(folder, capsys):
    begin = starts(folder)
    flip(folder / "train-00001.shard", begin[4] + 300)
    line = f"train-00001.shard: image 4: its JPEG file is not as it was prepared; {REMEDY}"
    images = shards.Shard(folder, manifest.read(folder), "train", 1)
    space = np.empty((6, SIZE, SIZE, 3), np.uint8)
    images.read(0, list(space[:4]))  # the others are read
    with pytest.raises(DataError) as caught:
        images.read(0, list(space))
    assert str(caught.value) == f"{folder}/{line}"
    flip(folder / "train-00001.shard", begin[2] + 5)
    assert faults(folder) == [line.replace("image 4", "image 2"), line]
    assert main(["verify", str(folder)]) == 0  # which reads no pixels
    assert main(["verify", str(folder), "--full"]) == 3
    assert f"tinyalex: error: {folder}/{line}\n" in capsys.readouterr().err


def test_training_ends_with_one_line_that_names_the_damaged_image(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tinyalex.datasets.shards.shard_set._SPOT_CHECKS", 0)
    set_ = make(tmp_path / "set", size=SIZE, quality=80, train=18, test=6)
    (tmp_path / "small.toml").write_text(
        "[net]\ninput = 20\nmaps = [4, 8, 8, 8, 8]\nkernels = [5, 3, 3, 3, 3]\nstride = 1\nhidden = 16\nclasses = 0\n"
        "[init]\nweights = { default = 'he' }\n[learning]\nbatch = 6\nepochs = 1\nrate = 0.0001\n"
    )
    flip(set_ / "train-00001.shard", starts(set_)[3] + 200)
    arguments = ["train", str(tmp_path / "small.toml"), "--data", str(set_), "--out", str(tmp_path / "run")]
    assert main([*arguments, "--weak-signal"]) == 3
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tinyalex: error")]
    assert len(errors) == 1
    assert f"{set_}/train-00001.shard: image 3: its JPEG file is not as it was prepared; {REMEDY}" in errors[0]


def test_every_flipped_bit_is_found(folder):
    rng, files = np.random.default_rng(0), sorted(path for path in folder.iterdir() if path.suffix == ".shard")
    for number in range(60):
        path = files[number % len(files)]
        at, bit = int(rng.integers(path.stat().st_size)), int(rng.integers(8))
        flip(path, at, bit)
        found = faults(folder)
        assert len(found) == 1 and path.name in found[0], (path.name, at, bit, found)
        flip(path, at, bit)
    assert faults(folder) == []


def test_a_file_with_the_right_hash_that_is_no_jpeg_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(jpeg, "encode", lambda image, quality: b"\xff\xd8\xff nothing")
    with pytest.raises(DataError):  # the helper decodes what it wrote
        make(tmp_path / "other", size=SIZE, quality=80)
    monkeypatch.undo()
    labels, images = pictures("train", 2, SIZE)
    small = jpeg.encode(images[0][:8, :8], 90)
    entry = {"file": "train-00000.shard", "count": 2}
    entry["hash"] = shards.write_jpeg(
        tmp_path / "train-00000.shard", "ab" * 16, "train", 0, labels, images, [small, b"\xff\xd8\xff no"]
    )
    header = {
        "plan": "ab" * 16,
        "size": SIZE,
        "classes": ["a", "b"],
        "jpeg": {},
        "splits": {"train": {"shards": [entry]}},
    }
    opened = shards.Shard(tmp_path, header, "train", 0)
    for at, reason in enumerate(("8 x 8 pixels of mode RGB", ".*")):
        with pytest.raises(DataError, match=rf"image {at}: its JPEG file cannot be decoded \({reason}\); copy it"):
            opened.unpack(at, opened.fetch(at, 1)[0], np.empty((SIZE, SIZE, 3), np.uint8))


def test_another_version_of_the_decoder_is_said_and_not_called_damage(folder, monkeypatch, capsys):
    """A decoder of another version may give other last bits; its pixels are as right, the sums are another's."""
    decode = jpeg.decode

    def otherwise(content, size, out=None):
        out = decode(content, size, out)
        out[0, 0, 0] ^= 1
        return out

    with monkeypatch.context() as patch:  # the same version that gives other pixels is a fault
        patch.setattr(jpeg, "decode", otherwise)
        with pytest.raises(DataError, match="its pixels are not as they were prepared"):
            datasets.load(folder)
        assert len(faults(folder)) == 21  # twenty, and the number of the others
    then, version = jpeg.library(), "turbo 9.9"
    monkeypatch.setattr(jpeg, "decode", otherwise)
    monkeypatch.setattr(jpeg, "library", lambda: version)
    found = datasets.load(folder)
    assert found.decoder == "libjpeg turbo 9.9"
    assert main(["verify", str(folder), "--full"]) == 0
    said = capsys.readouterr().out
    assert f"30 decode to slightly other pixels (libjpeg {then} then, turbo 9.9 now)" in said
    assert "statistics     not computed again, because of the other decoder" in said


def test_the_version_of_the_decoder_is_part_of_the_fingerprint(folder, tmp_path):
    from tests.support.small_runs import small
    from tinyalex.runs import fingerprint
    from tinyalex.training.loop import Training

    found = fingerprint.of_training(Training(small(), datasets.load(folder)))
    assert found["JPEG decoder"] == f"libjpeg {jpeg.library()}"
    pixels = make(tmp_path / "pixels", size=SIZE)
    assert "JPEG decoder" not in fingerprint.of_training(Training(small(), datasets.load(pixels)))


def test_versions_that_do_not_know_the_format_refuse_it(folder):
    """Format 1 has no field "jpeg", and the number of the format says so."""
    found = json.loads((folder / "manifest.json").read_text())
    assert found["format"] == "tinyalex prepared set 3"
    for change, line in (
        ({"format": "tinyalex prepared set 1"}, "jpeg: not a field of this format"),
        ({"jpeg": {"quality": 80}}, "jpeg.bytes: missing"),
        ({"jpeg": found["jpeg"] | {"quality": 0}}, "jpeg.quality: 0 is not from 1 to 100"),
    ):
        (folder / "manifest.json").write_text(json.dumps(found | change, indent=1) + "\n")
        with pytest.raises(DataError, match=line):
            manifest.read(folder)


def test_a_shard_of_pixels_in_a_set_of_files_is_refused(folder, tmp_path):
    pixels = make(tmp_path / "pixels", size=SIZE)
    (folder / "train-00000.shard").write_bytes((pixels / "train-00000.shard").read_bytes())
    with pytest.raises(DataError, match="not a shard, or a damaged one"):
        prepared.load(folder)


@pytest.mark.parametrize("plant", ["no hash", "shifted"])
def test_planted_bugs_are_noticed(folder, monkeypatch, plant):
    """Without the comparison of hashes, or with files cut one byte off, the tests above fail."""
    begin = starts(folder)
    if plant == "no hash":
        flip(folder / "train-00001.shard", begin[5] - 40)  # near the end of image 4
        monkeypatch.setattr(
            shards.Shard, "unpack", lambda self, at, content, out: jpeg.decode(content, self._size, out)
        )
        assert any("its pixels" in line for line in faults(folder))  # not by the file's hash, but by the pixels'
    else:
        fetch = shards.Shard.fetch
        monkeypatch.setattr(shards.Shard, "fetch", lambda *arguments: [content[:-1] for content in fetch(*arguments)])
        with pytest.raises(DataError, match="its JPEG file is not as it was prepared"):
            datasets.load(folder)

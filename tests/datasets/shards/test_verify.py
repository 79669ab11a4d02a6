"""Verifying prepared sets: every changed bit is found, and the output lists what was checked."""

import errno
import os
import time

import numpy as np
import pytest

from tests.support import folders
from tests.support.prepared_sets import flip, make, rewrite
from tinyalex.cli import main
from tinyalex.datasets.shards import manifest, shards, verify
from tinyalex.devices import parallel
from tinyalex.errors import DataError

REMEDY = "copy it again from an intact set, or remove it and run the same tinyalex prepare again"


@pytest.fixture
def folder(tmp_path):
    return make(tmp_path / "set")


def faults(folder, full=True):
    """The faults that verifying finds, one line each, without the folder's name."""
    lines = []
    try:
        verify.verify(folder, full, show=lambda line: None)
    except DataError as error:
        lines = [str(error)]
    except ExceptionGroup as group:
        assert all(type(each) is DataError for each in group.exceptions)
        lines = [str(each) for each in group.exceptions]
    assert all(line.startswith(f"{folder}") and "\n" not in line for line in lines)
    return [line.removeprefix(f"{folder}").removeprefix("/") for line in lines]


def test_a_whole_set(folder, capsys):
    assert main(["verify", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{folder}: drawn, 3 classes, 8 x 8 pixels",
        "made with pillow 12.0, libjpeg 9.5, filter bicubic",
        "notes on the images: 1 png",
        f"manifest.json  right: fields, counts and hash; identity {manifest.read(folder)['identity'][:8]}",
        "mean.f32       right: numbers and hash",
        "train          right: 20 images in 4 shards: sizes, headers, labels, lists of hashes; 6 to 7 images a class",
        "test           right: 10 images in 2 shards: sizes, headers, labels, lists of hashes; 3 to 4 images a class",
        "pixels         not read; --full reads them all",
        "all but the pixels is unchanged; --full also checks these",
    ]
    assert main(["verify", str(folder), "--full"]) == 0
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "pixels         right: 30 images, each compared with its hash",
        "statistics     right: mean image and covariance, recomputed from the train pixels",
        "all of the set is unchanged",
    ]


def test_images_left_out_are_listed(tmp_path, capsys):
    make(tmp_path, train=0, odd={"cmyk": 22, "grey": 1234}, duplicates=[["a", "b"], ["c", "d"]])
    splits = manifest.read(tmp_path)["splits"]
    splits["test"]["skipped"] = [{"name": "x.JPEG", "reason": "cut off"}]
    rewrite(tmp_path, splits=splits)
    (tmp_path / "test-00017.shard").touch()
    assert main(["verify", str(tmp_path), "--full"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert "notes on the images: 1 left out, 22 cmyk, 1,234 grey, 2 duplicates" in said
    assert "test-00017.shard not part of the set" in said
    assert "train          right: 0 images in 0 shards: sizes, headers, labels, lists of hashes" in said
    assert "statistics     taken from another set, ffffffff; not computed again" in said


def test_every_flipped_bit_is_found(folder):
    """Three hundred random bits in all files; unless it is in the pixels, the quick check finds it too."""
    rng, files = np.random.default_rng(0), [folder / name for name in folders.names(folder)]
    assert len(files) == 8
    for number in range(300):
        path = files[number % 8]
        at, bit = int(rng.integers(path.stat().st_size)), int(rng.integers(8))
        flip(path, at, bit)
        found = faults(folder)
        assert found and all(path.name in line for line in found), (path.name, at, bit, found)
        pixels = path.suffix == ".shard" and at >= 48 + 12 * (path.stat().st_size - 48) // (12 + 192)
        if pixels:
            image = (at - path.stat().st_size) // 192 % (path.stat().st_size // 192)
            assert found == [f"{path.name}: image {image}: its pixels are not as they were prepared; {REMEDY}"]
        assert bool(faults(folder, full=False)) == (not pixels)
        flip(path, at, bit)
    assert faults(folder) == []


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_all_faults_are_reported_at_once(folder, threads, monkeypatch):
    monkeypatch.setattr(parallel, "_workers", parallel.Workers(threads))
    flip(folder / "train-00000.shard", 48 + 12 * 6 + 192 * 2 + 5)
    flip(folder / "train-00000.shard", 48 + 12 * 6 + 192 * 4 + 5)
    flip(folder / "train-00003.shard", 55)
    flip(folder / "mean.f32", 8)
    (folder / "test-00001.shard").unlink()
    assert [line.partition(" not ")[0] for line in faults(folder)] == [
        "mean.f32: it was changed after it was written; copy the set again from an intact copy, or prepare it in "
        "another folder",
        "test-00001.shard: cannot be opened (No such file or directory); copy it again from an intact set, or "
        "remove it and run the same tinyalex prepare again",
        "train-00000.shard: image 2: its pixels are",
        "train-00000.shard: image 4: its pixels are",
        "train-00003.shard: its labels or hashes are",
    ]


def test_the_command_ends_with_code_3(folder, capsys):
    flip(folder / "train-00002.shard", 48 + 12 * 6 + 192 * 2 + 5)
    flip(folder / "test-00000.shard", 20)
    assert main(["verify", str(folder), "--full"]) == 3
    said = capsys.readouterr()
    assert said.err == (
        f"tinyalex: error: {folder}/test-00000.shard: belongs to another prepared set; {REMEDY}\n"
        f"tinyalex: error: {folder}/train-00002.shard: image 2: its pixels are not as they were prepared; {REMEDY}\n"
    )
    for line in ("test           WRONG: 10 images", "pixels         WRONG: 24 images", "train          right: 20"):
        assert line in said.out
    assert "statistics     not computed again, because of the faults above" in said.out and "unchanged" not in said.out


def test_a_long_list_is_cut(tmp_path):
    make(tmp_path, train=60, per_shard=2)
    for path in tmp_path.glob("train*.shard"):
        path.unlink()
    found = faults(tmp_path)
    assert len(found) == 21 and found[-1] == ": 10 more faults"
    assert found[3].startswith("train-00003.shard: cannot be opened (No such file or directory)")


def test_a_disk_that_cannot_read(folder, monkeypatch):
    monkeypatch.setattr(shards, "_RETRY_WAITS", (0.001,))
    preadv = os.preadv

    def broken(descriptor, rows, offset):
        if offset == 48 + 12 * 4 and len(rows) == 4:  # the test images' second shard
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return preadv(descriptor, rows, offset)

    monkeypatch.setattr(os, "preadv", broken)
    assert faults(folder) == [
        f"test-00001.shard: image 0: cannot be read (Input/output error); check the disk, then {REMEDY}"
    ]


@pytest.mark.parametrize("change, said", [
    (lambda kept: kept["sum"].__setitem__(1, kept["sum"][1] + 1), "sum: not that of the train pixels"),
    (lambda kept: kept["products"][0].__setitem__(2, 7), "products: not those of the train pixels"),
])  # fmt: skip
def test_statistics_that_are_not_those_of_the_pixels(folder, change, said):
    """All hashes are right, but the recorded sums are not those of the pixels."""
    kept = manifest.read(folder)["statistics"]
    change(kept)
    rewrite(folder, statistics=kept)
    assert faults(folder, full=False) == []
    assert faults(folder) == [f"manifest.json: statistics.{said}; prepare the set in another folder"]


def test_a_mean_that_is_not_that_of_the_images(folder):
    kept = manifest.read(folder)["statistics"]
    mean = np.fromfile(folder / "mean.f32", "<f4").reshape(8, 8, 3)
    mean[3, 4, 1] = np.nextafter(mean[3, 4, 1], np.float32(255))
    kept["mean"] = manifest.write_mean(folder, mean)
    rewrite(folder, statistics=kept)
    assert faults(folder) == [
        "manifest.json: statistics.mean: not that of the train images; prepare the set in another folder"
    ]


def test_statistics_of_the_test_images(tmp_path):
    make(tmp_path, train=0, test=15)
    rewrite(tmp_path, statistics=manifest.read(tmp_path)["statistics"] | {"from": "test"})
    assert faults(tmp_path) == []
    kept = manifest.read(tmp_path)["statistics"]
    kept["sum"][0] -= 1
    rewrite(tmp_path, statistics=kept)
    assert faults(tmp_path) == [
        "manifest.json: statistics.sum: not that of the test pixels; prepare the set in another folder"
    ]


def test_the_number_of_images_read_at_a_time_does_not_matter(folder, monkeypatch):
    monkeypatch.setattr(verify, "_BYTES", 500)  # two images, the last of a shard alone
    make(folder, per_shard=7)
    assert faults(folder) == []
    flip(folder / "train-00001.shard", -1 + (folder / "train-00001.shard").stat().st_size)
    assert faults(folder) == [f"train-00001.shard: image 6: its pixels are not as they were prepared; {REMEDY}"]


def test_folders_that_are_not_prepared_sets(tmp_path, folder):
    assert faults(tmp_path) == [": not a prepared set; give a folder made by tinyalex prepare"]
    assert faults(tmp_path / "nothing") == [": not a prepared set; give a folder made by tinyalex prepare"]
    (folder / "manifest.json").unlink()
    assert faults(folder) == [": this set is not complete; run the same tinyalex prepare again"]


def test_after_ctrl_c_the_threads_stop_reading(folder, monkeypatch):
    """After Ctrl-C the rest of a large set is not read."""
    monkeypatch.setattr(parallel, "_workers", parallel.Workers(2))
    fetch, seen = shards.Shard.fetch, []

    def pressed(self, first, count):
        seen.append(self.path.name)
        if len(seen) == 1:
            raise KeyboardInterrupt
        time.sleep(0.01)  # longer than the caller needs to notice, also on a busy machine
        return fetch(self, first, count)

    make(folder, train=200, per_shard=1)
    monkeypatch.setattr(shards.Shard, "fetch", pressed)
    with pytest.raises(KeyboardInterrupt):
        verify.verify(folder, True, show=lambda line: None)
    parallel.workers().run(lambda k: None, range(2))  # runs after all jobs that were still queued
    assert len(seen) < 200

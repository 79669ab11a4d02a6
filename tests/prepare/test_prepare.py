"""The command `tinyalex prepare`: what it makes, how it resumes, and its messages when something is wrong."""

import io
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.programs import kill_prepare
from tests.support import folders, toy_imagenet
from tinyalex import datasets, randomness
from tinyalex.cli import main
from tinyalex.datasets import picture
from tinyalex.datasets.shards import manifest, prepared
from tinyalex.figures import page
from tinyalex.prepare import complete, plan, records, shard
from tinyalex.system import lock, ownership

contents = kill_prepare.contents


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """1,100 training and 60 test images of four classes: three shards and one."""
    return kill_prepare.pictures(tmp_path_factory.mktemp("source") / "pictures")


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    """The set made by an uninterrupted run with two workers."""
    out = tmp_path_factory.mktemp("whole") / "set"
    assert main(["prepare", str(source), str(out), "--size", "16", "--workers", "2"]) == 0
    return out


@pytest.fixture
def few(tmp_path):
    """Four images of two classes in each split."""
    return kill_prepare.pictures(tmp_path / "few", 4, 4, 2)


@pytest.fixture
def prepare(capsys):
    """Run the command; return its exit code, the lines printed, and the error message."""

    def run(*arguments):
        capsys.readouterr()
        code = main(["prepare", *map(str, arguments)])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err and err.count("\n") <= 1
        return code, out.splitlines(), err.strip().removeprefix("tinyalex: error: ")

    return run


SMALL = ("--size", "16", "--workers", "1")


# What it makes.


def test_a_set_of_jpeg_files(few, tmp_path, prepare):
    """The same bytes for any number of workers, and for a shard that is made again; other options are refused."""
    one, two = tmp_path / "one", tmp_path / "two"
    code, out, _ = prepare(few, one, "--jpeg", *SMALL)
    assert code == 0 and any(line.startswith("stored as JPEG of quality 90, ") for line in out)
    assert prepare(few, two, "--jpeg", "--size", "16", "--workers", "2")[0] == 0
    shard_ = (one / "train-00000.shard").read_bytes()
    assert shard_ == (two / "train-00000.shard").read_bytes()
    (two / "train-00000.shard").unlink()
    assert prepare(few, two, "--jpeg", *SMALL)[0] == 0
    assert shard_ == (two / "train-00000.shard").read_bytes()
    for options, message in (
        (
            (),
            "made with images stored as JPEG of quality 90, requested pixels; give another folder, or the same option",
        ),
        (
            ("--jpeg", "--quality", "80"),
            "made with images stored as JPEG of quality 90, requested JPEG of quality 80; ",
        ),
    ):
        code, _, error = prepare(few, one, *options, *SMALL)
        assert code == 3 and error.startswith(f"{one}: {message}")
    code, _, error = prepare(few, tmp_path / "x", "--quality", "80", *SMALL)
    assert (code, error) == (2, "--quality 80: is that of JPEG files; add --jpeg, or leave it out")
    assert datasets.load(one).decoder.startswith("libjpeg ")


def test_the_set_holds_the_pictures(source, whole):
    found = datasets.load(whole)
    assert found.classes == [f"class {k}" for k in range(4)] and found.manifest["kind"] == "class folders"
    for split, folder, images in (("train", "train", found.train), ("test", "val", found.test)):
        _, tasks = plan.make(_index(source, folder, split), whole, 16, 0)
        entries = [entry for task in tasks for entry in task.entries]
        wanted = [picture.square(picture.decode(Path(entry.file).read_bytes())[0], 16) for entry in entries]
        np.testing.assert_array_equal(images.read(np.arange(len(images))), wanted)
        assert images.labels.tolist() == [int(Path(entry.file).parent.name[-1]) for entry in entries]
        assert [entry.name for entry in entries] != sorted(entry.name for entry in entries)
        if split == "train":
            everything = np.array(wanted, dtype=np.int64)
    np.testing.assert_array_equal(found.mean, (everything.sum(axis=0) / 1100).astype(np.float32))
    sums, pixels = found.manifest["statistics"], everything.reshape(-1, 3)
    assert sums["sum"] == pixels.sum(axis=0).tolist() and sums["products"] == (pixels.T @ pixels).tolist()
    deviations, vectors = found.colour
    covariance = np.cov(pixels.T, bias=True)
    np.testing.assert_allclose(vectors @ np.diag(deviations**2) @ vectors.T, covariance, rtol=1e-9)


def _index(source, folder, split):
    from tinyalex.datasets.index.entries import Entry, Index

    names = sorted(path.relative_to(source / folder).as_posix() for path in (source / folder).rglob("*.JPEG"))
    entries = [Entry(n, 0, str(source / folder / n), 0, (source / folder / n).stat().st_size) for n in names]
    return Index("", [], [], {"train": [], "test": []} | {split: entries}, [])


def test_only_the_files_of_the_set_are_left(whole):
    files = [f"train-{k:05d}.shard" for k in range(3)] + ["test-00000.shard", "manifest.json", "mean.f32"]
    files.append("test_images.json")
    assert folders.names(whole) == sorted([*files, "contact_sheet.png", ".lock"])
    with Image.open(whole / "contact_sheet.png") as sheet:
        assert min(sheet.size) > 500
    made = json.loads((whole / "manifest.json").read_text())
    assert made["sources"] == ["pictures"] and made["size"] == 16 and made["per_shard"] == 512
    assert made["decoder"] == shard.decoder() and made["odd"] == {} and made["duplicates"] == []


@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_workers_makes_the_same_bytes(source, whole, prepare, tmp_path, workers):
    code, lines, _ = prepare(source, tmp_path / "set", "--size", 16, "--workers", workers)
    assert code == 0 and contents(tmp_path / "set") == contents(whole)
    assert re.fullmatch(
        ".*/set: class folders, 1,100 training and 60 test images of 16 x 16, 4 classes; identity [0-9a-f]{8}", lines[0]
    )
    assert lines[-1] == f"look at {tmp_path}/set/contact_sheet.png to check images and class names"


def test_a_complete_set_is_not_changed(source, whole, prepare):
    before, times = contents(whole), {path: path.stat().st_mtime_ns for path in whole.glob("*.*")}
    (whole / "contact_sheet.png").unlink()
    assert prepare(source, whole, "--size", 16)[0] == 0
    assert contents(whole) == before
    assert all(
        path.stat().st_mtime_ns == then for path, then in times.items() if path.suffix in (".shard", ".json", ".f32")
    )


def test_a_small_ilsvrc_2012(tmp_path, prepare):
    """ILSVRC's nested tar, flat tar and devkit: every image has the class that the devkit gives it."""
    toy = toy_imagenet.make(tmp_path)
    code, lines, _ = prepare(toy.train, toy.val, toy.devkit, tmp_path / "set", *SMALL)
    assert code == 0 and "not all of ILSVRC-2012, which has 1,281,167 training images" in lines
    found = datasets.load(tmp_path / "set")
    assert found.classes == toy.classes and found.words == toy.words
    for split, images in (("train", found.train), ("test", found.test)):
        wanted = {
            picture.square(picture.decode(toy.content[name])[0], 16).tobytes(): label
            for name, label in toy.labels[split].items()
        }
        got = images.read(np.arange(len(images)))
        assert {image.tobytes(): label for image, label in zip(got, images.labels.tolist(), strict=True)} == wanted


def test_usual_sizes_of_sets():
    assert [plan.usual_size(kind) for kind in ("ILSVRC-2012", "Tiny ImageNet", "CIFAR-10", "class folders")] == [
        256,
        64,
        32,
        256,
    ]


# Unusual pictures, and pictures that cannot be decoded.


def encoded(image, form, **options):
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def test_unusual_pictures_are_used_and_counted(few, prepare, tmp_path):
    rgb = Image.new("RGB", (20, 30), (200, 100, 50))
    turned = Image.Exif()
    turned[0x0112] = 6
    pictures = {
        "1 png": encoded(rgb, "PNG"),
        "2 cmyk": encoded(rgb.convert("CMYK"), "JPEG", quality=95),
        "3 grey": encoded(rgb.convert("L"), "JPEG"),
        "4 16-bit": encoded(Image.fromarray(np.full((9, 9), 40_000, np.uint16)), "PNG"),
        "5 palette": encoded(rgb.quantize(4), "PNG"),
        "6 alpha": encoded(Image.new("RGBA", (20, 30), (200, 100, 50, 128)), "PNG"),
        "7 turned": encoded(rgb, "JPEG", exif=turned.tobytes()),
        "8 broken exif": encoded(rgb, "JPEG", exif=turned.tobytes()[:-8]),
        "9 dot": encoded(Image.new("RGB", (1, 1)), "JPEG"),
        "10 line": encoded(Image.new("RGB", (1, 5000)), "JPEG"),
    }
    for name, content in pictures.items():
        (few / "train" / "class 0" / f"{name}.JPEG").write_bytes(content)
    code, lines, _ = prepare(few, tmp_path / "set", *SMALL)
    assert code == 0
    kinds = "1 16-bit, 1 alpha, 1 cmyk, 1 exif orientation, 2 grey, 1 palette, 4 png, 1 with decoder warnings"
    assert f"not plain colour JPEGs, but used like the others: {kinds}" in lines
    found = datasets.load(tmp_path / "set")
    got = {tuple(image[8, 8]) for image in found.train.read(np.arange(len(found.train))).astype(int)}
    for wanted in ((200, 100, 50), (124, 124, 124), (156, 156, 156), (228, 178, 153), (0, 0, 0)):
        assert any(np.abs(np.subtract(wanted, each)).max() <= 3 for each in got), wanted


def spoil(few):
    """Damage three pictures of eight."""
    good = sorted((few / "train").rglob("*.JPEG"))
    good[0].write_bytes(good[0].read_bytes()[:-200])
    good[1].write_bytes(b"")
    good[2].write_bytes(b"<html>404</html>")
    return [path.relative_to(few / "train").as_posix() for path in good[:3]]


def test_images_of_every_format_are_prepared(prepare, tmp_path):
    """And one that needs a plugin is left out with a hint."""
    scene = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8))
    for k, form in enumerate(("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM")):
        path = tmp_path / "set" / ("cat", "dog")[k % 2] / f"{k}.{form.lower()}"
        path.parent.mkdir(parents=True, exist_ok=True)
        scene.save(path, form)
    (tmp_path / "set/cat/x.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    code, lines, _ = prepare(tmp_path / "set", tmp_path / "out", "--size", 16, "--workers", 1)
    unusual = "not plain colour JPEGs, but used like the others: 1 bmp, 1 gif, 1 palette, 1 png, 1 ppm, 1 tiff, 1 webp"
    assert code == 0 and unusual in lines
    left_out = next(line for line in lines if line.startswith("left out: "))
    assert left_out.startswith("left out: 1 image that cannot be decoded, for example cat/x.heic: ")
    made = prepared.load(tmp_path / "out")
    files = (tmp_path / "set").glob("*/[0-9].*")
    wanted = sorted(picture.square(picture.decode(path.read_bytes())[0], 16).tobytes() for path in files)
    assert sorted(image.tobytes() for image in made.train.read(np.arange(7))) == wanted


def test_too_many_pictures_that_cannot_be_decoded(few, prepare, tmp_path):
    bad, out = spoil(few), tmp_path / "set"
    (few / "train" / "class 1" / "folder.JPEG").mkdir()
    code, _, error = prepare(few, out, *SMALL)
    assert code == 3 and error.startswith(f"{out}: 3 of 8 images cannot be decoded, for example class ")
    assert error.endswith("repair them and use another folder, or leave them out: --max-bad 3") and "\n" not in error
    assert not (out / "manifest.json").exists()
    rows = [line.split("\t") for line in (out / "skipped.tsv").read_text().splitlines()]
    assert sorted(row[1] for row in rows if row[0] == "train") == sorted(bad)
    done = {path.name: path.stat().st_mtime_ns for path in out.glob("*.shard")}
    assert prepare(few, out, *SMALL, "--max-bad", "2")[0] == 3
    code, lines, _ = prepare(few, out, *SMALL, "--max-bad", "3")
    left_out = next(line for line in lines if line.startswith("left out: "))
    assert code == 0 and left_out.startswith("left out: 3 images that cannot be decoded, for example class ")
    assert left_out.endswith(f"; {out}/skipped.tsv lists them")
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("*.shard")} == done
    made = manifest.read(out)
    assert sorted(each["name"] for each in made["splits"]["train"]["skipped"]) == sorted(bad)
    assert made["splits"]["train"]["count"] == 1 and len(datasets.load(out).train) == 1


def test_one_picture_that_cannot_be_decoded_is_allowed(few, prepare, tmp_path):
    path = next((few / "train").rglob("*.JPEG"))
    path.write_bytes(path.read_bytes()[:-50])
    assert prepare(few, tmp_path / "set", *SMALL)[0] == 0
    assert prepare(few, tmp_path / "other", *SMALL, "--max-bad", "0")[0] == 3


def test_a_shard_without_any_decodable_picture(few, prepare, tmp_path):
    for path in (few / "val").rglob("*.JPEG"):
        path.write_bytes(b"")
    code, _, error = prepare(few, tmp_path / "set", *SMALL, "--max-bad", "100%")
    assert code == 3 and "test-00000.shard: none of its images can be decoded" in error


def test_a_last_shard_without_any_decodable_picture_is_left_out(prepare, tmp_path, monkeypatch):
    """The counts of the other shards are added up, and duplicates have their right names."""
    monkeypatch.setattr(plan, "PER_SHARD", 3)
    for split, count in (("train", 7), ("val", 3)):
        for k in range(count):
            path = tmp_path / f"few/{split}/c{k % 2}/{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), (9 * k, 0, 200 * (split == "val"))).save(path)
    train = sorted((tmp_path / "few/train").rglob("*.png"))
    order = randomness.permutation(randomness.key(0, "shards", "train"), 7)
    train[order[6]].write_bytes(b"")  # the only one in the last shard
    train[order[0]].write_bytes(b"no image")  # the first one of its shard
    train[order[5]].write_bytes(train[order[1]].read_bytes())
    code, lines, _ = prepare(tmp_path / "few", tmp_path / "set", *SMALL, "--max-bad", "2")
    assert code == 0 and "not plain colour JPEGs, but used like the others: 8 png" in lines
    found = datasets.load(tmp_path / "set")
    assert len(found.train) == 5 and not (tmp_path / "set/train-00002.shard").exists()
    wanted = sorted(f"train/{path.parent.name}/{path.name}" for path in (train[order[1]], train[order[5]]))
    assert found.manifest["duplicates"] == [wanted]
    assert (
        prepare(tmp_path / "few", tmp_path / "set", *SMALL)[0] == 0 and len(datasets.load(tmp_path / "set").train) == 5
    )


def test_duplicates_are_reported(few, prepare, tmp_path):
    one, other, third = sorted((few / "train").rglob("*.JPEG"))[:3]
    shutil.copy(one, few / "val" / "class 1" / "copy.JPEG")
    other.write_bytes(third.read_bytes())
    code, lines, _ = prepare(few, tmp_path / "set", *SMALL)
    assert code == 0
    names = [path.relative_to(few / "train").as_posix() for path in (one, other, third)]
    assert (
        "duplicates: 2 images, 1 of them in both training and test, 2 in several classes, such as "
        f"test/class 1/copy.JPEG and train/{names[0]}; see the manifest"
    ) in lines
    assert manifest.read(tmp_path / "set")["duplicates"] == sorted(
        [["test/class 1/copy.JPEG", f"train/{names[0]}"], [f"train/{names[1]}", f"train/{names[2]}"]]
    )


# Statistics.


def test_validation_images_alone(few, prepare, tmp_path):
    shutil.rmtree(few / "train")
    code, lines, _ = prepare(few, tmp_path / "own", *SMALL)
    assert code == 0 and any(
        line.startswith("warning: mean image and colours are computed from the test images") for line in lines
    )
    assert manifest.read(tmp_path / "own")["statistics"]["from"] == "test"


def test_the_mean_of_another_set(few, whole, prepare, tmp_path):
    code, lines, _ = prepare(few, tmp_path / "set", *SMALL, "--mean-from", whole)
    assert code == 0 and not any("warning" in line for line in lines)
    other, found = datasets.load(whole), datasets.load(tmp_path / "set")
    assert found.manifest["statistics"] == other.manifest["statistics"] | {"from": other.identity}
    np.testing.assert_array_equal(found.mean, other.mean)
    code, _, error = prepare(few, tmp_path / "set", *SMALL)
    assert code == 3 and f"made with mean from {other.identity}, requested its own" in error
    code, _, error = prepare(few, tmp_path / "large", "--size", 20, "--mean-from", whole)
    assert code == 3 and "its mean image has size 16, this set 20" in error
    assert prepare(few, tmp_path / "large", "--size", 20, "--mean-from", tmp_path)[0] == 3
    assert not (tmp_path / "large").exists()


# Resuming.


@pytest.mark.slow
def test_killed_anywhere_it_resumes_to_the_same_bytes(source, whole, tmp_path):
    """Two kills; `python -m tests.programs.kill_prepare` makes fifty of them."""
    lines = []
    _, _, wrong = kill_prepare.sweep(source, whole, tmp_path, 2, length=1.5, seed=time.time_ns(), say=lines.append)
    assert wrong == 0, lines


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.slow
def test_stopped_on_request(source, whole, tmp_path, number):
    out = tmp_path / "set"
    process = kill_prepare.start(source, out)
    wait_for((out / "work" / "plan.json").exists)
    os.killpg(process.pid, number)  # as a terminal does: to the workers too
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 75, said
    assert re.search(r"stopped; [\d,]+ of 1,160 images are done, run the same command again to continue$", said)
    assert "Traceback" not in said
    with pytest.raises(ProcessLookupError):  # no process is left, a moment later
        for _ in range(100):
            os.killpg(process.pid, 0)
            time.sleep(0.05)
    if number == signal.SIGINT:
        assert "1,100 training" in kill_prepare.finish(source, out)
        assert contents(out) == contents(whole)


def test_stopped_while_the_sources_are_indexed(few, tmp_path, prepare, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    for what in (interrupted, lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM)):
        monkeypatch.setattr("tinyalex.datasets.index.sources.index", what)
        code, _, error = prepare(few, tmp_path / "set", *SMALL)
        assert code == 75 and not (tmp_path / "set").exists()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def unfinished(whole, out, keep=("train-00000", "test-00000")):
    """Make the folder of a preparation that was stopped when the shards ``keep`` were done."""
    (out / "work").mkdir(parents=True)
    made = manifest.read(whole)
    settings = {"size": 16, "seed": 0, "subset": "all", "test share": 0.0, "mean from": "its own", "plan": made["plan"]}
    plan.begin(out, settings)
    found = datasets.load(whole)
    for split, images in (("train", found.train), ("test", found.test)):
        for number, entry in enumerate(made["splits"][split]["shards"]):
            name = entry["file"].removesuffix(".shard")
            if name in keep:
                shutil.copy(whole / entry["file"], out)
                part = images.read(np.arange(512 * number, 512 * number + entry["count"])).astype(np.int64)
                pixels = part.reshape(-1, 3)
                products, total = (pixels.T @ pixels).tolist(), part.sum(axis=0)
                record = records.Record(entry["count"], entry["hash"], products, [], {}, shard.decoder(), total)
                records.write(out / "work" / f"{name}.record", record)


ALL = ("train-00000", "train-00001", "train-00002", "test-00000")


class Killed(BaseException):
    """An exception that no code catches."""


@pytest.mark.parametrize(
    "moment", ["manifest.write_mean", "manifest.write", "figures.page.save", "ownership.remove_made"]
)
def test_stopped_while_the_set_is_completed(source, whole, prepare, tmp_path, monkeypatch, moment):
    """All shards are done; then follow the mean, the manifest, the contact sheet, and removing the scratch folder."""

    def killed(*arguments, **_):
        if "new" not in str(arguments[0]):
            raise Killed

    out = tmp_path / "set"
    unfinished(whole, out, ALL)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        module = {"manifest": manifest, "figures": page, "ownership": ownership}[moment.split(".")[0]]
        patch.setattr(module, moment.split(".")[-1], killed)
        prepare(source, out, "--size", 16)
    assert prepare(source, out, "--size", 16)[0] == 0
    assert contents(out) == contents(whole)


def test_finished_shards_are_not_made_again(source, whole, prepare, tmp_path):
    unfinished(whole, tmp_path / "set")
    (tmp_path / "set" / "work" / "new").mkdir()
    (tmp_path / "set" / "work" / "new" / "123-train-00001.shard.part").write_bytes(b"half")
    before = (tmp_path / "set" / "train-00000.shard").stat().st_mtime_ns
    code, lines, _ = prepare(source, tmp_path / "set", "--size", 16)
    assert code == 0 and lines[0] == "continuing: 572 of 1,160 images are done"
    assert (tmp_path / "set" / "train-00000.shard").stat().st_mtime_ns == before
    assert contents(tmp_path / "set") == contents(whole)


def test_damaged_shards_are_made_again(source, whole, prepare, tmp_path):
    out = tmp_path / "set"
    unfinished(whole, out, ALL)
    os.truncate(out / "train-00000.shard", 5000)
    (out / "train-00001.shard").unlink()
    record = out / "work" / "train-00002.record"
    status = record.stat()
    record.write_bytes(bytes(status.st_size))
    os.utime(record, ns=(status.st_atime_ns, status.st_mtime_ns))  # damaged, but not by somebody who wrote to it
    code, lines, _ = prepare(source, out, "--size", 16)
    assert code == 0 and sum(line.startswith("warning: ") and "makes the shard again" in line for line in lines) == 2
    assert contents(out) == contents(whole)


def test_a_damaged_finished_set_is_repaired(source, whole, prepare, tmp_path):
    """By the command that made it."""
    out = tmp_path / "set"
    shutil.copytree(whole, out)
    os.truncate(out / "train-00000.shard", 5000)
    (out / "test-00000.shard").unlink()
    code, lines, _ = prepare(source, out, "--size", 16)
    assert code == 0 and contents(out) == contents(whole) and not (out / "work").exists()
    assert [line.split(":")[0] for line in lines[:2]] == ["warning", "warning"]
    assert lines[2] == "continuing: 588 of 1,160 images are done"


def test_a_repaired_shard_has_to_be_the_same_as_before(prepare, tmp_path):
    images = [(tmp_path / "few" / f"{split}/c{k}/1.bmp", 99 * k) for split in ("train", "val") for k in (0, 1)]
    for path, level in images:
        path.parent.mkdir(parents=True)
        Image.new("RGB", (16, 16), (level,) * 3).save(path)
    assert prepare(tmp_path / "few", tmp_path / "set", *SMALL)[0] == 0
    Image.new("RGB", (16, 16), "red").save(images[0][0])
    (tmp_path / "set/train-00000.shard").unlink()
    code, _, error = prepare(tmp_path / "few", tmp_path / "set", *SMALL)
    assert code == 3
    assert error == (
        f"{tmp_path}/set/train-00000.shard: made again, but its contents are not the same as before; prepare the set "
        "in another folder"
    )
    (tmp_path / "set/train-00000.shard").unlink()
    Image.new("RGB", (16, 16), (0, 0, 0)).save(images[0][0])
    assert prepare(tmp_path / "few", tmp_path / "set", *SMALL)[0] == 0


def test_another_decoder_version_is_reported_and_recorded(source, whole, prepare, tmp_path):
    out = tmp_path / "set"
    unfinished(whole, out)
    path = out / "work" / "train-00000.record"
    records.write(path, records.read(path, 16)._replace(decoder=shard.decoder() | {"pillow": "11.0.0"}))
    code, lines, _ = prepare(source, out, "--size", 16)
    both = " and ".join(sorted(["11.0.0", shard.decoder()["pillow"]]))
    assert (
        code == 0 and f"warning: some images were decoded with pillow {both}; their pixels may differ slightly" in lines
    )
    assert manifest.read(out)["decoder"]["pillow"] == both


# What it refuses, with which message.


@pytest.mark.parametrize("finished", [True, False])
def test_other_settings(source, whole, prepare, tmp_path, finished):
    out = whole
    if not finished:
        unfinished(whole, out := tmp_path / "set")
    before = contents(out)
    same = "; give another folder, or the same option"
    assert prepare(source, out, "--size", 24) == (3, [], f"{out}: made with size 16, requested 24{same}")
    assert prepare(source, out, "--size", 16, "--seed", 1) == (3, [], f"{out}: made with seed 0, requested 1{same}")
    other = f"{out}: made from other images, or another part of them; give another folder"
    subset = prepare(source, out, "--size", 16, "--subset", "2x5")
    assert subset == (3, [], other if finished else f"{out}: made with subset all, requested 2x5{same}")
    hint = "warning: no test images, which training needs; --test-share 0.1 takes a tenth of every class for them"
    assert prepare(source / "train", out, "--size", 16) == (3, [hint], other)
    assert contents(out) | {".lock": b""} == before | {".lock": b""}


def test_classes_of_one_image_have_none_to_test_on(prepare, tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (16, 16), "red" if name == "cat" else "blue").save(tmp_path / "photos" / name / "1.png")
    code, lines, _ = prepare(tmp_path / "photos", tmp_path / "set", "--size", 16, "--test-share", 0.2)
    (warning,) = [line for line in lines if line.startswith("warning: no test images")]
    assert code == 0 and "no class has enough images to spare one" in warning


def test_a_damaged_plan(source, whole, prepare, tmp_path):
    unfinished(whole, tmp_path / "set")
    (tmp_path / "set" / "work" / "plan.json").write_text('{"size": 16')
    code, _, error = prepare(source, tmp_path / "set", "--size", 16)
    assert code == 3 and error.startswith(f"{tmp_path}/set/work/plan.json: damaged (")


def test_too_little_space_is_reported_before_the_first_shard(few, prepare, tmp_path, monkeypatch):
    real = os.statvfs(tmp_path)
    small = os.statvfs_result([*real[:4], 1_000_000 // real.f_frsize, *real[5:]])
    monkeypatch.setattr(os, "statvfs", lambda path: small)
    code, _, error = prepare(few, tmp_path / "set", "--size", 256)
    assert code == 7 and re.search(r"/set: needs 3\.\d MB, 999\.\d kB are free; free some space", error)
    assert not (tmp_path / "set").exists()
    kept = tmp_path / "empty"
    kept.mkdir()
    assert prepare(few, kept, "--size", 256)[0] == 7


def test_space_is_needed_only_for_missing_shards(source, whole, prepare, tmp_path, monkeypatch):
    unfinished(whole, tmp_path / "set")
    monkeypatch.setattr(os, "statvfs", lambda path: type("Disk", (), {"f_bavail": 600, "f_frsize": 1000}))
    assert prepare(source, tmp_path / "other", "--size", 16)[0] == 7  # 1,160 images of 780 bytes
    assert prepare(source, tmp_path / "set", "--size", 16)[0] == 0  # 588 of them


@pytest.mark.slow
def test_space_that_runs_out_during_the_work(source, whole, tmp_path):
    """A limit on file sizes in place of a full disk: 512 images of 16 x 16 do not fit, the last 76 do."""
    command = [*kill_prepare.COMMAND, str(source), str(tmp_path / "set"), "--size", "16", "--workers", "2"]
    limited = ["bash", "-c", 'ulimit -f 300; exec "$@"', "bash", *command]
    done = subprocess.run(limited, capture_output=True, text=True)
    assert done.returncode == 7 and done.stderr.count("\n") == 1, done.stderr
    assert re.search(r"-train-0000\d.shard: cannot be written \(File too large\); make room", done.stderr)
    assert not (tmp_path / "set" / "train-00000.shard").exists()
    kill_prepare.finish(source, tmp_path / "set")
    assert contents(tmp_path / "set") == contents(whole)


def test_a_worker_that_is_killed(source, whole, prepare, tmp_path):
    """The command runs in a thread, so that the test can find its processes."""
    answers = []
    thread = threading.Thread(target=lambda: answers.append(prepare(source, tmp_path / "set", *SMALL)))
    thread.start()
    wait_for(multiprocessing.active_children)
    multiprocessing.active_children()[0].kill()
    thread.join(60)
    code, _, error = answers[0]
    assert code == 3 and re.match(rf"{source}/\w+/class \d/\d+.JPEG: the worker process died on it", error), error
    assert prepare(source, tmp_path / "set", *SMALL)[0] == 0
    assert contents(tmp_path / "set") == contents(whole)


def test_two_at_once(few, prepare, tmp_path):
    with lock.hold(tmp_path / "set", "preparing a set", "folder"):
        code, _, error = prepare(few, tmp_path / "set", *SMALL)
        who = f"process {os.getpid()} on {os.uname().nodename}"
        message = f"{tmp_path}/set: another process is preparing a set here ({who}); wait for it or give another folder"
        assert (code, error) == (6, message)
    assert prepare(few, tmp_path / "set", *SMALL)[0] == 0


def test_output_folders_that_cannot_be_used(few, prepare, tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    assert prepare(few, file, *SMALL)[0::2] == (7, f"{file}: is a file; give a folder, or a path where nothing is yet")
    code, _, error = prepare(few, file / "set", *SMALL)
    assert code == 7 and error.startswith(f"{file}")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    code, _, error = prepare(few, tmp_path / "full", *SMALL)
    assert code == 2 and error.endswith("full: holds other files; give a folder that is empty or does not exist yet")
    assert prepare(few, few / "set", *SMALL)[0] == 2 and prepare(few, few, *SMALL)[0] == 2
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    long = tmp_path / ("x" * 300)
    assert prepare(tmp_path / "loop", tmp_path / "set", *SMALL)[0] == 3
    assert prepare(few, long, *SMALL)[0::2] == (7, f"{long}: File name too long; give another path")
    for link in ("loop", "dangling"):
        code, _, error = prepare(few, tmp_path / link, *SMALL)
        assert code == 7 and error.startswith(f"{tmp_path / link}: ") and error.endswith("; give another path")
    assert os.listdir(tmp_path / "full") == ["thesis.tex"] and sorted(os.listdir(few)) == ["train", "val"]


def test_an_output_folder_without_permission(few, prepare, tmp_path, monkeypatch):
    def refused(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "mkdir", refused)
    code, _, error = prepare(few, tmp_path / "set", *SMALL)
    assert code == 7 and error == f"{tmp_path}/set: Permission denied; free some space or check the permissions"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "0"], "--size 0: give a number from 1 to 4096"),
        (["--workers", "0"], "--workers 0: give a number"),
        (["--seed", "-1"], "--seed -1: give a number"),
        (["--size", "large"], "argument --size: invalid int value: 'large'"),
        (["--max-bad", "some"], "--max-bad: 'some' is neither a number of images, such as 20, nor a share, such as"),
        (["--subset", "x"], "--subset x: give"),
        (["--test-share", "2"], "--test-share 2.0: give"),
    ],
)
def test_options_out_of_range(few, prepare, tmp_path, options, message):
    code, _, error = prepare(few, tmp_path / "set", *options)
    assert code == 2 and error.startswith(message)
    assert not (tmp_path / "set").exists()


def test_a_subset_and_a_test_share(source, prepare, tmp_path):
    assert prepare(source, tmp_path / "set", *SMALL, "--subset", "3x7")[0] == 0
    found = datasets.load(tmp_path / "set")
    assert np.bincount(found.train.labels).tolist() == np.bincount(found.test.labels).tolist() == [7, 7, 7]
    assert prepare(source / "train", tmp_path / "shared", *SMALL, "--test-share", "0.1")[0] == 0
    assert len(datasets.load(tmp_path / "shared").test) == 112  # 27.5 of each class, rounded to even


def test_a_released_lock_file_is_empty(tmp_path):
    with lock.hold(tmp_path / "set", "preparing", "folder"):
        assert (tmp_path / "set" / ".lock").read_text().startswith("process ")
    assert (tmp_path / "set" / ".lock").read_bytes() == b""
    assert complete.SKIPPED.endswith(".tsv")

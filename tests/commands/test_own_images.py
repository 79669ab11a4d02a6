"""A folder of photographs and one command: advice, a prepared set that is made once, and training, on toys."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tinyalex
from tests.support.folders import names
from tinyalex import datasets, figures
from tinyalex.cli import main
from tinyalex.commands import own_images
from tinyalex.datasets import survey
from tinyalex.datasets.index import sources
from tinyalex.figures.page import new_figure
from tinyalex.prepare import once
from tinyalex.recipes import recipe
from tinyalex.runs import checkpoint
from tinyalex.system import ownership
from tinyalex.training import advice

# One step, of a net that is small enough for a test, whatever recipe was chosen.
TINY = ["net.maps=[4,4,4,4,4]", "net.hidden=8", "learning.batch=8", "learning.epochs=1"]
QUICK = [word for change in TINY for word in ("--set", change)] + ["--weak-signal", "--threads", "1"]


def photographs(folder, classes=2, each=10, side=(70, 90), mode="RGB"):
    """Write images of noise on a colour of their class, of many shapes, without a split."""
    rng = np.random.default_rng(classes * each)
    for label in range(classes):
        (folder / f"class {label}").mkdir(parents=True)
        for number in range(each):
            h, w = rng.integers(*side, 2)
            pixels = (rng.integers(0, 60, (h, w, 3)) + 190 * label / classes).astype(np.uint8)
            Image.fromarray(pixels).convert(mode).save(folder / f"class {label}" / f"{number}.png")
    return folder


def shorter_side(path):
    with Image.open(path) as picture:
        return min(picture.size)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to be in; no pictures are drawn, as these take most of the time, and fewer steps are timed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tinyalex.commands.train._draw", lambda *_: ([], {}))
    monkeypatch.setattr("tinyalex.training.advice._TIMED", 1)
    return tmp_path


def sets(folder="runs"):
    return sorted(Path(folder, "prepared").iterdir())


def test_one_command_prepares_trains_and_uses_the_set_again(here, capsys):
    photographs(here / "my photos")
    assert main(["train", "--data", "my photos", *QUICK]) == 0
    said = capsys.readouterr().out
    assert "my photos: 20 images, 2 classes, 8 of each to train on, shorter sides of" in said
    assert "no test images: 4 images of them, 20% of every class" in said
    assert re.search(r"recipe photos-64: .*images of 64 x 64, batches of 8, 2 steps \(1 epoch\), rate", said)
    assert re.search(r"of training, from \d steps? timed here now( \(.*\))?, and \d+ s to prepare the images\n", said)
    (made,) = sets()
    assert f"images: prepared once, in {made.relative_to('.')}" in said and made.name.startswith("my photos-64-")
    assert "recipe: runs/my photos/recipe.toml has all of its settings\n" in said and "[net]" not in said
    kept = recipe.load("runs/my photos/recipe.toml")
    assert Path(kept.data.set) == made.resolve() and kept.data.test_share is None
    assert datasets.load(made).train.size == 64

    before = {path.name: path.stat().st_mtime_ns for path in made.iterdir()}
    assert main(["train", "--data", "my photos", "--seed", "1", "--out", "runs/other", *QUICK]) == 0
    assert "prepared earlier from my photos, which has not changed since" in capsys.readouterr().out
    assert {path.name: path.stat().st_mtime_ns for path in made.iterdir()} == before

    assert main(["train", "--data", "my photos", *QUICK]) == 0  # the run is there: its recipe, no new advice
    said = capsys.readouterr().out
    assert "runs/my photos: holds a run with recipe photos-64" in said and "timed here" not in said
    assert "resuming at step 2 of 2" in said
    assert main(["evaluate", "runs/my photos"]) == 0  # the run knows its set


@pytest.mark.slow
def test_a_source_that_was_changed_is_prepared_anew(here, capsys):
    photographs(here / "p")
    assert main(["train", "--data", "p", *QUICK]) == 0
    shutil.copy("p/class 0/1.png", "p/class 0/new.png")
    assert main(["train", "--data", "p", "--out", "runs/second", *QUICK]) == 0
    assert len(sets()) == 2
    capsys.readouterr()
    assert main(["train", "--data", "p", *QUICK]) == 4  # the run in runs/p has other images
    error = capsys.readouterr().err
    assert "runs/p: holds a run on other images than p has now" in error and len(sets()) == 2
    assert shlex.split(error.rpartition(": ")[2])[:4] == ["tinyalex", "train", "--data", "p"]
    assert error.endswith("--out runs/p-2\n")
    assert main(["advise", "p", "--threads", "1"]) == 0
    assert capsys.readouterr().out.endswith("to train: tinyalex train --data p --out runs/p-2\n")


def test_names_of_classes_that_were_added_are_no_other_images(here, capsys):
    photographs(here / "p")
    assert main(["train", "--data", "p", *QUICK]) == 0
    before = recipe.load("runs/p/recipe.toml")
    Path("p/words.txt").write_text("class 0\tcat\nclass 1\tdog\n")
    capsys.readouterr()
    assert main(["train", "--data", "p", *QUICK]) == 0
    out = capsys.readouterr().out
    assert "resuming at step 2 of 2" in out and "the images have not changed since; names of classes that did" in out
    assert len(sets()) == 1 and recipe.load("runs/p/recipe.toml") == before
    (here / "p" / "class 0" / "0.png").touch()
    assert main(["train", "--data", "p", *QUICK]) == 4
    assert "holds a run on other images than p has now" in capsys.readouterr().err
    shutil.copytree(here / "p", here / "other" / "p")
    assert main(["train", "--data", "other/p", *QUICK]) == 4 and len(sets()) == 1


def test_pictures_that_tinyalex_drew_are_left_out(here, capsys):
    photographs(here / "p", each=4)
    before = once.folder(here, here / "p", 64, None)
    figure = new_figure(1, 1)
    figures.save(figure, here / "p" / "class 0" / "kernels.png")
    figures.save(figure, here / "p" / "class 1" / "1-explained.png", marked=False)
    named = (here / "p" / "class 0" / "kernels.png", here / "p" / "class 1" / "1-explained.png")
    assert all(map(ownership.is_drawn, named)) and ownership.is_picture(named[0])
    assert not ownership.is_drawn(here / "p" / "class 0" / "1.png")
    lines = []
    index = sources.index([here / "p"], here, lines.append)
    assert len(index.splits["train"]) == 8 and "kernels.png and 1 more (a picture that tinyalex drew)" in lines[-1]
    assert once.folder(here, here / "p", 64, None) == before
    old = named[1].read_bytes().replace(b"Software", b"Sxftware")  # as earlier versions marked what a user named
    named[1].write_bytes(old)
    assert ownership.is_drawn(named[1])


def test_what_training_should_know_of_its_images_is_said(here, capsys):
    photographs(here / "p", each=6)
    for number in range(3):
        path = here / "p" / "class 0" / f"{number}.png"
        shutil.copy(path, here / "p" / "class 1" / f"copy {number}.png")
        with Image.open(path) as image:
            exif = image.getexif()
            exif[0x0112] = 6
            image.save(path.with_name(f"turned {number}.png"), exif=exif)
    with own_images.opened("p", None, print) as source:  # as train and evaluate do
        own_images.prepare(source, recipe.load("photos-64"), Path("runs"), None, print)
    out = capsys.readouterr().out
    assert "3 images with an EXIF orientation, which is ignored" in out
    assert re.search(r"duplicates: 3 images, \d of them in both training and test, 3 in several classes", out)


def test_the_name_of_the_set_changes_with_the_source_and_the_settings(tmp_path):
    source = photographs(tmp_path / "p", each=2)
    same = once.folder(tmp_path, source, 64, None)
    assert once.folder(tmp_path, source, 64, None) == same
    (source / ".hidden").write_text("x")
    (source / "notes.rtf").write_text("x")
    assert once.folder(tmp_path, source, 64, None) == same  # neither is an image nor a list
    others = [once.folder(tmp_path, source, 32, None), once.folder(tmp_path, source, 64, 0.5)]
    first = source / "class 0" / "0.png"
    os.utime(first, ns=(1, 1))
    others.append(once.folder(tmp_path, source, 64, None))
    first.rename(source / "class 1" / "moved.png")
    others.append(once.folder(tmp_path, source, 64, None))
    linked = tmp_path / "elsewhere"
    linked.mkdir()
    (source / "class 2").symlink_to(linked)
    (source / "loop").symlink_to(source)
    before = once.folder(tmp_path, source, 64, None)
    Image.new("RGB", (9, 9)).save(linked / "1.png")
    assert before == others[-1]
    others.append(once.folder(tmp_path, source, 64, None))
    assert len({same, *others}) == 6


@pytest.mark.parametrize(
    "kind",
    ["zip", pytest.param("tar.gz", marks=pytest.mark.slow), "list", pytest.param("split", marks=pytest.mark.slow)],
)
def test_archives_lists_and_splits(kind, here, capsys):
    source = photographs(here / "p", each=5)
    if kind == "zip":
        with zipfile.ZipFile("p.zip", "w") as archive:
            for file in sorted(source.rglob("*.png")):
                archive.write(file, file.relative_to(here))
        source = Path("p.zip")
    elif kind == "tar.gz":
        source = Path(shutil.make_archive("packed", "gztar", source))
    elif kind == "list":
        (here / "flat").mkdir()
        lines = ["file,label"]
        for number, file in enumerate(sorted(source.rglob("*.png"))):
            shutil.copy(file, here / "flat" / f"{number}.png")
            lines.append(f"{number}.png,{file.parent.name}")
        (here / "flat" / "labels.csv").write_text("\n".join(lines))
        source = Path("flat")
    else:
        (here / "set" / "val").mkdir(parents=True)
        shutil.copytree(source, "set/train")
        for label in range(2):
            (here / "set" / "val" / f"class {label}").mkdir()
            os.rename(f"set/train/class {label}/0.png", f"set/val/class {label}/0.png")
        source = Path("set")
    assert main(["train", "--data", str(source), *QUICK]) == 0
    said = capsys.readouterr().out
    (made,) = sets()
    dataset = datasets.load(made)
    assert (len(dataset.train), len(dataset.test)) == (8, 2) and list(dataset.classes) == ["class 0", "class 1"]
    assert ("no test images" in said) == (kind != "split") and "/tmp/tinyalex-" not in said


@pytest.mark.slow
def test_a_recipe_that_is_named_is_the_one_that_is_used(here, capsys):
    photographs(here / "p", side=(100, 140))
    assert main(["train", "cifar10-columns", "--data", "p", "--set", "net.classes=0", *QUICK]) == 0
    assert sets()[0].name.startswith("p-32-") and recipe.load("runs/cifar10-columns/recipe.toml").net.input == 28
    said = capsys.readouterr().out
    assert "test images of 32 x 32" in said and "[net]\n" in said and "maps = [4, 4, 4, 4, 4]\n" in said


def test_steps_that_change_nothing_are_warned_of(here, capsys):
    """learning.steps is a least number; the warning comes when a run begins, not when it goes on."""
    photographs(here / "p")
    command = ["train", "--data", "p", *QUICK]  # 16 images in batches of 8
    assert main([*command, "--set", "learning.steps=2"]) == 0
    line = "learning.steps=2 changes nothing: it is a least number, and the recipe's 1 epoch are 2 steps"
    assert line in capsys.readouterr().err
    assert main([*command, "--set", "learning.steps=2"]) == 0 and line not in capsys.readouterr().err
    assert main([*command, "--set", "learning.steps=3", "--out", "other"]) == 0
    said = capsys.readouterr()
    assert "changes nothing" not in said.err and "epoch 2" in said.out


def test_the_worst_classes_and_mistakes_are_found_with_the_commands_of_readme(here, capsys):
    """README's example, with the names that its outputs give: worst classes, worst mistakes, one of them explained."""
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    section = text.split("## Your own photographs")[1].split("\n## ")[0]
    commands = [line.strip() for line in section.splitlines() if line.startswith("    tinyalex ")]
    assert commands[1] == "tinyalex train --data photos" and commands[3].startswith("tinyalex evaluate runs/photos ")
    photographs(here / "photos", classes=3, each=20)
    assert main([*shlex.split(commands[1])[1:], *QUICK]) == 0
    capsys.readouterr()
    assert main(shlex.split(commands[3])[1:]) == 0
    table = capsys.readouterr().out.partition("\nclass ")[2].splitlines()[1:4]
    errors = [float(row.split("%")[0].split()[-1]) for row in table]
    assert errors == sorted(errors, reverse=True) and errors[0] > 0
    page = Path("runs/photos/report.html").read_text(encoding="utf-8")
    shown = re.findall(r'<p class="file">([^<]*)</p>', page)
    assert shown and all(Path("photos", name).is_file() for name in shown)
    command = commands[4].replace("cat/0017.jpg", shlex.quote(shown[0]))
    assert command in page
    assert main(shlex.split(command)[1:]) == 0
    assert capsys.readouterr().out.startswith(f"{shown[0]}: 64 x 64 pixels")
    assert Path(f"{Path(shown[0]).stem}-explained.png").is_file()


def test_all_images_of_a_folder_can_be_tested_on(here, capsys):
    """--test-share 1: the error is that of a plain count over all files; nothing is left to train on."""
    for folder, count in (("p", 10), ("new", 7)):
        photographs(here / folder, each=count, side=(64, 65))
    assert main(["train", "--data", "p", *QUICK]) == 0
    capsys.readouterr()
    assert main(["evaluate", "runs/p", "--data", "new", "--test-share", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    net, wrong = tinyalex.load("runs/p"), 0
    for path in sorted(Path("new").rglob("*.png")):
        wrong += net.predict(path).classes[0] != path.parent.name
    assert found["count"] == 14 and found["top1_error"] == pytest.approx(wrong / 14)
    assert "top5_error" not in found and "top5_error" not in found["nets"][0]
    assert main(["train", "--data", "new", "--test-share", "1"]) == 2
    assert "--test-share 1: leaves no images to train on" in capsys.readouterr().err
    photographs(here / "large", each=3, side=(70, 90))
    before = sets()
    assert main(["evaluate", "runs/p", "--data", "large", "--test-share", "1"]) == 0  # prepared as training does
    out = capsys.readouterr().out
    (made,) = set(sets()) - set(before)
    assert "0 training and 6 test images" in out and f"images: prepared once, in {made}" in out
    assert "was trained on" not in out
    assert main(["evaluate", "runs/p", "--data", "p", "--test-share", "1"]) == 0
    assert "warning: runs/p was trained on 16 of these 20 images; " in capsys.readouterr().out
    assert main(["evaluate", "runs/p", "--data", "large"]) == 0
    out = capsys.readouterr().out
    assert "large: no test images: 2 images of them" in out and "4 training and 2 test images" in out


@pytest.mark.slow
def test_images_in_memory_are_prepared_only_if_their_size_does_not_suit_the_recipe(here, capsys):
    for side in (64, 200):  # squares of one size, which were always read into memory
        for split in ("train", "test"):
            photographs(here / f"{side}" / split, each=4, side=(side, side + 1))
        assert main(["train", "photos-64", "--data", f"{side}", "--out", f"run {side}", *QUICK]) == 0
        said = capsys.readouterr().out
        assert (f"{side}: 8 training and 8 test images of 64 x 64" in said) == (side == 64)
    assert [each.name[:7] for each in sets(".")] == ["200-64-"]


def test_no_prepare_names_the_command(here, capsys):
    photographs(here / "p")
    for words in (["train"], ["train", "photos-64"]):
        assert main([*words, "--data", "p", "--no-prepare", *QUICK]) == 3
        error = capsys.readouterr().err
        assert re.search(r"tinyalex prepare --test-share 0.1 --size 64 \S*p data/p; then give --data data/p\n", error)
    assert not Path("runs").exists()


def test_without_data_the_shapes_are_trained_as_before(here, capsys, monkeypatch):
    monkeypatch.setattr("tinyalex.datasets.load", lambda where, *_: 1 / 0 if where == "shapes" else None)
    for words in ([], ["--data", "shapes"]):
        assert main(["train", *words]) == 1 and "ZeroDivisionError" in capsys.readouterr().err


def test_what_stands_in_the_way_is_named_and_stays(here, capsys):
    photographs(here / "p", each=4)
    share = None
    place = once.folder("runs", "p", 64, share)
    place.parent.mkdir(parents=True)
    place.write_text("mine")
    assert main(["train", "--data", "p", *QUICK]) == 7
    assert f"{place}: is a file, where the prepared images of p go; move it" in capsys.readouterr().err
    assert place.read_text() == "mine"
    place.unlink()
    place.mkdir()
    (place / "mine.txt").write_text("mine")
    assert main(["train", "--data", "p", *QUICK]) == 2
    assert "holds other files; move these, or give --out in another folder" in capsys.readouterr().err
    assert names(place) == ["mine.txt"]


@pytest.mark.slow
def test_a_set_that_was_damaged_says_what_to_do(here, capsys):
    photographs(here / "p", each=4)
    assert main(["train", "--data", "p", *QUICK]) == 0
    (made,) = sets()
    with open(made / "manifest.json", "a") as file:
        file.write(" ")
    capsys.readouterr()
    assert main(["train", "--data", "p", "--out", "runs/other", *QUICK]) == 3
    assert "remove that folder: the same command prepares the images again\n" in capsys.readouterr().err


def test_inside_the_source_nothing_is_written(here, capsys, monkeypatch):
    photographs(here / "p", each=4)
    monkeypatch.chdir(here / "p")
    assert main(["train", "--data", ".", *QUICK]) == 2
    error = capsys.readouterr().err
    assert "inside the source .; to train: tinyalex train --data . " in error and error.endswith("--out ../runs/p\n")
    assert main(["advise", ".", "--threads", "1"]) == 0
    assert capsys.readouterr().out.endswith("to train: tinyalex train --data . --out ../runs/p\n")
    assert names(here / "p") == ["class 0", "class 1"]
    assert main(["train", "--data", ".", "--out", "../runs/p", *QUICK]) == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_source_that_cannot_be_written_to(here):
    photographs(here / "p", each=4)
    for folder in (here / "p", *(here / "p").iterdir()):
        folder.chmod(0o555)
    assert main(["train", "--data", "p", *QUICK]) == 0


@pytest.mark.slow
def test_nothing_in_the_source_changes(here):
    source = photographs(here / "p", each=4)
    before = {path: path.stat().st_mtime_ns for path in (source, *source.rglob("*"))}
    assert main(["train", "--data", "p", *QUICK]) == 0
    assert {path: path.stat().st_mtime_ns for path in (source, *source.rglob("*"))} == before


@pytest.mark.slow
def test_two_runs_at_once_share_one_set(here):
    """The second waits for the first, which prepares; both train."""
    photographs(here / "p", each=30, side=(200, 300))
    words = [sys.executable, "-m", "tinyalex", "train", "--data", "p", *QUICK]
    root = str(Path(__file__).parents[2])
    both = [
        subprocess.Popen([*words, "--out", f"runs/{k}"], env=os.environ | {"PYTHONPATH": root}, stdout=subprocess.PIPE)
        for k in range(2)
    ]
    said = [process.communicate()[0].decode() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert len(sets()) == 1 and all("test error" in text for text in said)


def test_a_second_run_waits_for_the_lock(here, monkeypatch):
    from tinyalex.prepare import pipeline
    from tinyalex.system import lock

    photographs(here / "p", each=4)
    place, lines = once.folder("runs", "p", 64, None), []
    held = lock.hold(place, "preparing a set", "folder")
    held.__enter__()
    monkeypatch.setattr(time, "sleep", lambda _: held.__exit__(None, None, None))
    index = sources.index([Path("p")], here / "scratch", lines.append, test_share=0.5)
    once.make(place, index, ["p"], 64, 1, lines.append)
    assert [line for line in lines if "waiting" in line] == [
        f"waiting: {place}: another process is preparing a set here (process {os.getpid()} on {os.uname().nodename})"
    ]
    assert pipeline.prepared.load(place).train.size == 64


def test_one_image_a_class_leaves_none_to_test_on(here, capsys):
    photographs(here / "p", classes=3, each=1)
    for command in ("train", "advise"):
        words = ["--data", "p"] if command == "train" else ["p"]
        assert main([command, *words]) == 3
        assert (
            "p: 3 images of 3 classes, one of each, so none is left to test on; add images\n" in capsys.readouterr().err
        )


def test_validation_images_alone_are_no_training_set(here, capsys):
    photographs(here / "val", each=3)
    assert main(["train", "--data", "val"]) == 3
    assert "its 6 images are test images, by the names of folders or lists" in capsys.readouterr().err


@pytest.mark.slow
def test_some_damaged_files_are_left_out_with_a_line(here, capsys):
    photographs(here / "p", each=20)
    (here / "p" / "class 0" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    (here / "p" / "class 1" / "broken.jpg").write_bytes(b"")
    assert main(["train", "--data", "p", *QUICK]) == 0
    assert len(datasets.load(sets()[0]).train) + len(datasets.load(sets()[0]).test) == 40
    assert (sets()[0] / "skipped.tsv").read_text().count("broken.jpg") == 2
    assert "left out: 2 images that cannot be decoded" in capsys.readouterr().out


# What prepare says before it works.


def test_prepare_warns_of_enlargement_and_of_a_missing_test_split(here, capsys):
    photographs(here / "p", each=4, side=(20, 30), mode="L")
    smallest = min(map(shorter_side, (here / "p").rglob("*.png")))
    assert main(["prepare", "p", "out", "--workers", "1"]) == 0
    said = capsys.readouterr().out
    assert "warning: no test images, which training needs; --test-share 0.1" in said
    line = (
        f"100% of the images (of 8 looked at) are smaller than 256 x 256 and are enlarged; the smallest has {smallest}"
    )
    assert f"warning: {line} pixels; --size {smallest} enlarges none\n" in said
    assert main(["prepare", "p", "other", "--workers", "1", "--size", f"{smallest}", "--test-share", "0.5"]) == 0
    assert "warning" not in capsys.readouterr().out


def test_a_set_much_larger_than_its_source_is_told():
    digits = survey.Survey(60_000, 10_000, (6_000,) * 10, (28,), 1.0, 20_000_000, 0.0)
    assert list(survey.enlargement(digits, 256, "--size"))[1] == (
        "warning: the set takes 13.8 GB, although the images take 20.0 MB; with --size 28 it takes 164.6 MB"
    )
    assert list(survey.enlargement(digits, 28, "--size")) == []
    photos = survey.Survey(1_000_000, 50_000, (1_000,) * 1000, (375, 500), 0.0, 120 * 10**9, 0.0)
    assert list(survey.enlargement(photos, 256, "--size")) == []


# The advice: which recipe for which images.


def images(count, side, classes=10, grey=0.0):
    return survey.Survey(count, count // 10, (count // classes,) * classes, (side,), grey, 0, 0.0)


@pytest.mark.parametrize(
    "count, side, grey, on_gpu, name, overrides",
    [
        (400, 64, 0.0, False, "photos-64", []),
        (400, 500, 0.0, False, "photos-128", []),
        (400, 500, 0.0, True, "photos-224", []),
        (400, 50, 0.0, False, "photos-64", []),
        (400, 64, 1.0, False, "photos-64", ["data.colour=none"]),
        (400, 7, 0.0, False, "cifar10-columns", ["net.classes=0", "data.size=28", "learning.steps=1000"]),
        (50_000, 32, 0.0, False, "cifar10-columns", ["net.classes=0"]),
        (60_000, 28, 1.0, False, "cifar10-columns", ["net.classes=0", "data.size=28", "data.flip=false"]),
        (60_000, 20, 1.0, False, "cifar10-columns", ["net.classes=0", "data.size=28", "data.flip=false"]),
        (25_000, 64, 0.0, False, "tiny-imagenet", ["learning.epochs=6"]),
        (25_000, 64, 0.0, True, "tiny-imagenet", []),
        (1_281_167, 375, 0.0, True, "modern", ["net.classes=0"]),
        (1_281_167, 375, 0.0, False, "tiny-imagenet", ["learning.epochs=3"]),
    ],
)
def test_choice(count, side, grey, on_gpu, name, overrides):
    found = advice.choose(images(count, side, grey=grey), on_gpu)
    assert (found.name, found.overrides) == (name, overrides)
    made = recipe.load(found.name, found.overrides)
    assert made.net.classes == 0 and made.net.input <= made.image_size
    if side >= 64:
        assert made.image_size <= side  # nothing is enlarged


def test_rare_classes_count_more():
    found = advice.choose(survey.Survey(410, 40, (400, 10), (64,), 0.0, 0, 0.0))
    assert found.overrides == ["data.sampling=balanced"] and "rare classes are drawn" in found.reason
    started = advice.choose(survey.Survey(410, 40, (400, 10), (64,), 0.0, 0, 0.0), run=recipe.load("tiny-imagenet"))
    assert (started.name, started.overrides) == ("finetune", ["data.sampling=balanced"])
    assert advice.choose(survey.Survey(60, 6, (50, 10), (64,), 0.0, 0, 0.0)).overrides == []


def test_a_class_of_a_single_image_is_not_tested_on(here, capsys):
    photographs(here / "photos", classes=3, each=6)
    for number in range(1, 6):
        (here / "photos" / "class 1" / f"{number}.png").unlink()
    assert main(["advise", "photos", "--threads", "1"]) == 0
    assert "of every class, to test on, none of class 1, which has a single image\n" in capsys.readouterr().out


def test_many_images_that_cannot_be_decoded(here, capsys):
    """The command that leaves them out is one that works."""
    photographs(here / "my photos", classes=2, each=10)
    for number in range(3):
        (here / "my photos" / "class 0" / f"{number}.png").write_bytes(b"no image")
    assert main(["train", "--data", "my photos"]) == 3
    error = capsys.readouterr().err
    assert "3 of 20 images cannot be decoded, for example" in error and error.count("\n") == 1
    command = error.split("prepare without them: ")[1].strip()
    assert command == "tinyalex prepare 'my photos' SET --size 64 --test-share 0.2 --max-bad 3"
    assert main([*shlex.split(command)[1:], "--workers", "1"]) == 0


def test_advise_prints_facts_recipe_time_and_command(here, capsys):
    photographs(here / "my photos", classes=3, each=8, mode="L")
    (here / "my photos" / "class 2" / "7.png").unlink()
    for number in range(1, 8):
        (here / "my photos" / "class 0" / f"{number}.png").unlink()
    assert main(["advise", "my photos", "--threads", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("my photos: 16 images, 3 classes, 1 to 6 of each to train on, shorter sides of 7")
    assert ", grey; no test images: 3 images of them, 20% of every class, to test on" in lines[0]
    assert lines[1] == (
        "imbalance: the largest class, class 1, has 6 times as many training images as the smallest, class 0; always "
        f"answering class 1 is wrong for {1 - 6 / 13:.1%}"
    )
    assert lines[2] == "warning: class class 0 has 1 training image: remove its folder or add images"
    assert lines[3].startswith("warning: half of the classes have 6 training images or fewer: too few to learn from")
    del lines[2:4]
    assert lines[2].startswith(
        "recipe photos-64: 13 images are few; rare classes are drawn as often as others (data.sampling): "
        "images of 64 x 64, batches of 32, 1,000 steps"
    )
    assert re.fullmatch(
        r"about .* of training, from \d steps? timed here now( \(.*\))?, and \d+ s to prepare the images", lines[3]
    )
    assert lines[-1] == "to train: tinyalex train --data 'my photos'" and not Path("runs").exists()


def test_sizes_are_found_in_headers_and_grey_in_pixels(tmp_path):
    source = photographs(tmp_path / "p", each=30, side=(70, 90))
    grey = Image.new("RGB", (300, 40), (90, 90, 90))  # grey, but stored in colour
    grey.save(source / "class 0" / "0.png")
    index = sources.index([source], tmp_path / "scratch", print)
    found = survey.of_index(index)
    real = sorted(map(shorter_side, source.rglob("*.png")))
    assert (found.train, found.counts, list(found.sides)) == (60, (30, 30), real) and real[0] == 40
    assert found.smaller(40) == 0 and found.smaller(41) == pytest.approx(1 / 60) and found.smaller(100) == 1
    assert found.decode_seconds > 0 and survey.of_index(index, decode=False).grey == 0
    assert found.source_bytes == sum(path.stat().st_size for path in source.rglob("*.png"))


def test_measured_runs_are_those_that_readme_shows():
    rows = []
    for row in advice.MEASURED:
        spread = f" ({min(row.errors):.1%} to {max(row.errors):.1%})" if len(row.errors) > 1 else ""
        cells = [row.data, f"`{row.recipe}`", f"{row.error:.1%}{spread}", f"{row.guessing:.1%}", str(len(row.errors))]
        rows.append(f"| {' | '.join(cells)} |".replace("%", " %"))
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    section = text.split("## Your own photographs")[1].split("\n## ")[0]
    assert [line for line in section.splitlines() if line.startswith("|")][2:] == rows and len(rows) > 1
    assert all(row.error < row.guessing and row.recipe in recipe.names() for row in advice.MEASURED)
    near = advice.nearest(images(500, 64, classes=10), "photos-64")
    assert near.recipe == "photos-64" and near.classes == 8
    assert advice.nearest(images(50_000, 64, classes=10), "photos-64") is None


# Fine-tuning from the command line.


@pytest.mark.slow
def test_fine_tuning_takes_the_net_of_the_run(here, capsys):
    photographs(here / "many", classes=3, each=10)
    photographs(here / "few", classes=2, each=5)
    assert main(["train", "--data", "many", *QUICK]) == 0
    last = ["--set", "learning.batch=4", "--set", "learning.epochs=1", "--weak-signal"]
    assert main(["train", "--data", "few", "--init-from", "runs/many", *last]) == 0
    said = capsys.readouterr().out
    assert "recipe finetune: it starts with photos-64's weights" in said
    assert re.search(r"not copied: fc8 \((init.anew|2 classes, not 3 as in that run)\)", said), said
    kept, source = recipe.load("runs/few/recipe.toml"), recipe.load("runs/many/recipe.toml")
    assert kept.net.maps == source.net.maps and kept.net.hidden == 8 and kept.net.classes == 2
    assert kept.data.size == 64 and not kept.init.like_run and kept.learning.lr_mult["fc8"] == 5.0
    again = checkpoint.newest(Path("runs/few"))
    shutil.rmtree("runs/many")
    assert main(["train", "--data", "few", "--init-from", "runs/many", *last]) == 0
    assert main(["train", "--data", "few", *last]) == 0 and checkpoint.newest(Path("runs/few")) == again
    assert main(["train", "finetune", "--data", "few", "--out", "new"]) == 2
    assert "add --init-from RUN" in capsys.readouterr().err

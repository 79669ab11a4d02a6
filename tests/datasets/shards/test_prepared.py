"""Training, evaluating and predicting with prepared sets, and what happens if the disk fails meanwhile."""

import errno
import json
import os
import shutil
import sys

import numpy as np
import pytest

from tests.support.prepared_sets import in_memory, make, pictures
from tests.support.small_runs import final, quiet, same, small
from tinyalex import datasets
from tinyalex.cli import main
from tinyalex.commands.common import check_classes
from tinyalex.datasets import Dataset, ImageSet
from tinyalex.datasets.shards import shards
from tinyalex.errors import DataError
from tinyalex.runs import checkpoint, run_folder
from tinyalex.runs.train import train
from tinyalex.training import evaluation, loop

RECIPE = """
[net]
input = 20
maps = [4, 8, 8, 8, 8]
kernels = [5, 3, 3, 3, 3]
stride = 1
hidden = 16
classes = 0

[init]
weights = { default = "he" }

[learning]
batch = 16
epochs = 1
rate = 0.0001
schedule = "phases"
"""
SHAPE = {"train": 40, "test": 12, "size": 24, "per_shard": 16}
WORDS = [f"thing {k}, whatever" for k in range(3)]


def command(folder, data):
    """The arguments of `tinyalex train` for a small net."""
    (folder / "small.toml").write_text(RECIPE)
    return ["train", str(folder / "small.toml"), "--data", str(data), "--out", str(folder / "run")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a set and a run."""
    folder = tmp_path_factory.mktemp("prepared")
    assert main(command(folder, make(folder / "set", **SHAPE))) == 0
    return folder


@pytest.fixture
def folder(tmp_path):
    return make(tmp_path / "set", **SHAPE)


@pytest.fixture
def short_waits(monkeypatch):
    monkeypatch.setattr(shards, "_RETRY_WAITS", (0.001, 0.001, 0.001))


def said(capsys):
    """The error message of a command, which has to be one line."""
    line = capsys.readouterr().err
    assert line.startswith("tinyalex: error: ") and line.count("\n") == 1
    return line.removeprefix("tinyalex: error: ").rstrip()


def test_training_from_shards_gives_the_same_weights_as_from_memory(folder, tmp_path):
    dataset = datasets.load(folder)
    train(small(epochs=2), dataset, tmp_path / "a", show=quiet)
    memory = Dataset("memory", dataset.classes, in_memory("train", 40, 24), in_memory("test", 12, 24))
    train(small(epochs=2), memory, tmp_path / "b", show=quiet)
    assert same(final(tmp_path / "a"), final(tmp_path / "b"))


# Names of classes: people are shown words, programs use classes.


def test_predictions_give_words(trained, tmp_path, capsys):
    from PIL import Image

    Image.fromarray(pictures("test", 1, 24)[1][0]).save(tmp_path / "a.png")
    predict = ["predict", str(tmp_path / "a.png"), "--run", str(trained / "run")]
    assert main([*predict, "--json"]) == 0
    top = json.loads(capsys.readouterr().out)[0]["classes"]
    assert sorted((each["class"], each["words"]) for each in top) == [(f"n{k:08d}", WORDS[k]) for k in range(3)]
    assert main(predict) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in WORDS) and "n0000" not in text


@pytest.mark.slow
def test_the_panel_gives_words(trained, monkeypatch):
    from tinyalex.gallery import gallery

    shown, panel = [], gallery.panel
    monkeypatch.setattr(gallery, "panel", lambda *arguments: shown.append(arguments[3]) or panel(*arguments))
    assert main(["figures", str(trained / "run")]) == 0
    assert shown == [WORDS]


def test_a_checkpoint_without_words_can_be_read(trained, tmp_path):
    tensors, metadata = checkpoint.read(checkpoint.newest(trained / "run"))
    assert metadata.pop("words") == WORDS
    checkpoint.save(tmp_path, tensors, metadata)
    assert run_folder.load(tmp_path).words == run_folder.load(tmp_path).classes == [f"n{k:08d}" for k in range(3)]


# Evaluating with another set than the one used for training.


def test_a_set_of_test_images_is_evaluated_with_the_mean_of_the_run(trained, tmp_path, capsys):
    validation = make(tmp_path, **SHAPE | {"train": 0, "per_shard": 5})
    run, other = run_folder.load(trained / "run"), datasets.load(validation).mean
    scores = []
    for more in ([], ["--data", str(validation)]):
        assert main(["evaluate", str(trained / "run"), "--json", *more]) == 0
        scores.append(json.loads(capsys.readouterr().out))
    assert scores[0] == scores[1]
    assert evaluation.evaluate(run.network, in_memory("test", 12, 24), other, run.recipe).loss != scores[0]["loss"]


@pytest.mark.parametrize("made, what", [
    ({"test": 0}, "set: has no test images; give a set that has a test split, or a share of every class to test on: "
     "--test-share 0.1 (of `tinyalex prepare` if the set is prepared)"),
    ({"classes": 4}, "set: does not have the 3 classes of the run ('n00000003' is only in one of the two); give the "
     "data that the run was trained on"),
    ({"size": 32}, "images: 32 x 32, but the network was trained on 24 x 24; prepare them in that size"),
])  # fmt: skip
def test_sets_that_a_run_cannot_be_evaluated_with(trained, tmp_path, capsys, made, what):
    other = make(tmp_path / "set", **SHAPE | made)
    assert main(["evaluate", str(trained / "run"), "--data", str(other)]) == 3
    assert said(capsys).removeprefix(f"{tmp_path}/") == what


def test_the_same_classes_in_another_order_are_matched_by_name(trained, folder, tmp_path, capsys):
    """Version 0.1.0 sorted classes that are numbers as text, 1 10 2, which are now 1 2 10."""
    assert main(["evaluate", str(trained / "run"), "--data", str(folder), "--json"]) == 0
    wanted = json.loads(capsys.readouterr().out)["loss"]
    dataset = datasets.load(folder)
    order = [0, 2, 1]
    dataset = Dataset(
        "set",
        [dataset.classes[k] for k in order],
        *(ImageSet(images.read(np.arange(len(images))), np.argsort(order)[images.labels]) for images in
          (dataset.train, dataset.test)),
    )  # fmt: skip
    run = run_folder.load(trained / "run")
    matched = check_classes(run, dataset)
    assert matched.classes == matched.words == run.classes != dataset.classes and len(matched.test) == 12
    found = evaluation.evaluate(run.network, matched.test, run.mean, run.recipe)
    assert found.loss == wanted != evaluation.evaluate(run.network, dataset.test, run.mean, run.recipe).loss


# S6: a set that was prepared again.


def test_s6_another_set_than_that_of_the_checkpoint(folder, tmp_path, capsys):
    assert main(command(tmp_path, folder)) == 0
    old = datasets.load(folder).identity
    shutil.rmtree(folder)
    new = datasets.load(make(folder, **SHAPE | {"train": 39})).identity
    capsys.readouterr()
    assert main(command(tmp_path, folder)) == 4
    assert f"the run here had data set {old[:8]}, now it is {new[:8]}; give another --out folder" in said(capsys)


# S7: shards that vanish, and disks that fail.


class Disk:
    """Makes reads fail from a given call on, for a number of calls."""

    def __init__(self, monkeypatch, after, times=10**9, short=False):
        preadv, self.calls, self.after = os.preadv, 0, after

        def read(*arguments):
            self.calls += 1
            if self.after < self.calls <= self.after + times:
                if short:
                    return 7
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return preadv(*arguments)

        monkeypatch.setattr(os, "preadv", read)


@pytest.mark.parametrize("short", [False, True])
def test_s7_a_read_is_tried_four_times(folder, monkeypatch, short_waits, short):
    images, wanted = datasets.load(folder).train, in_memory("train", 40, 24).images
    with monkeypatch.context() as patch:
        Disk(patch, 1, 3, short)
        np.testing.assert_array_equal(images.read(np.arange(40)), wanted)
    disk = Disk(monkeypatch, 0, short=short)
    with pytest.raises(DataError) as caught:
        images.read([33])
    what = "ends early" if short else "Input/output error"
    assert str(caught.value) == (
        f"{folder}/train-00002.shard: image 1: cannot be read ({what}); check the disk, then copy it again from "
        "an intact set, or remove it and run the same tinyalex prepare again"
    )
    assert disk.calls == 4


def test_s7_a_file_that_was_replaced_is_refused(folder, monkeypatch, short_waits):
    images = datasets.load(folder).train
    os.truncate(folder / "train-00000.shard", 300)
    with pytest.raises(DataError, match="train-00000.shard: 300 bytes, not "):
        images.read([11])
    shutil.copy(folder / "train-00001.shard", folder / "train-00000.shard")
    Disk(monkeypatch, 0, 1)
    with pytest.raises(DataError, match="train-00000.shard: is train-00001.shard under another name"):
        images.read([11])


def test_s7_a_disk_that_is_missing_for_a_moment(folder, monkeypatch, short_waits):
    """The file is missing when it is opened again, and back at the third try."""
    images, path = datasets.load(folder).train, folder / "train-00001.shard"
    path.rename(folder / "away")
    waits = []

    def wait(seconds):
        waits.append(seconds)
        if len(waits) == 2:
            (folder / "away").rename(path)

    Disk(monkeypatch, 0, 1)
    monkeypatch.setattr(shards.time, "sleep", wait)
    np.testing.assert_array_equal(images.read([16, 17]), in_memory("train", 40, 24).images[16:18])
    assert waits == [0.001, 0.001]


def test_s7_removed_shards_do_not_stop_training(folder, tmp_path):
    dataset = datasets.load(folder)
    shutil.rmtree(folder)
    assert train(small(epochs=1), dataset, tmp_path / "run", show=quiet).count == 12


def breaks_at(monkeypatch, owner, name, count):
    """Make the disk fail from the ``count``-th call of a function on."""
    owner = sys.modules[owner] if isinstance(owner, str) else owner
    disk, original, calls = Disk(monkeypatch, 10**9), getattr(owner, name), []

    def counted(*arguments, **options):
        calls.append(name)
        if len(calls) == count:
            disk.after = 0
        return original(*arguments, **options)

    monkeypatch.setattr(owner, name, counted)


@pytest.mark.parametrize("owner, name, count, steps", [
    (loop.Training, "train_step", 1, {1, 2, 3}),  # some batches are made already
    ("tinyalex.runs.train", "evaluate", 1, {3}),
    (loop.Training, "train_step", 7, {7, 8, 9}),
    ("tinyalex.runs.train", "evaluate", 3, {9}),
])  # fmt: skip
def test_s7_training_stops_with_a_checkpoint_and_resumes(
    folder, tmp_path, monkeypatch, short_waits, owner, name, count, steps
):
    dataset = datasets.load(folder)
    whole = train(small(epochs=3), dataset, tmp_path / "whole", show=quiet)
    with monkeypatch.context() as patch, pytest.raises(DataError) as caught:
        breaks_at(patch, owner, name, count)
        train(small(epochs=3), dataset, tmp_path / "cut", show=quiet)
    path = checkpoint.newest(tmp_path / "cut")
    step = checkpoint.read(path)[1]["step"]
    assert step in steps
    reading, stopped = str(caught.value).split("; stopped at ")
    assert ".shard: image " in reading and ": cannot be read (Input/output error); " in reading
    assert stopped == f"step {step}, saved in {path}; repair the data, then the same command resumes the run"
    lines = []
    assert train(small(epochs=3), dataset, tmp_path / "cut", show=lines.append) == whole
    assert lines[0] == f"resuming at step {step} of 9"
    assert same(final(tmp_path / "whole"), final(tmp_path / "cut"))
    tests = [record["step"] for record in run_folder.read_log(tmp_path / "cut") if record["event"] == "test"]
    assert tests == [3, 6, 9]


def test_s7_the_command_ends_with_code_3(folder, tmp_path, monkeypatch, short_waits, capsys):
    Disk(monkeypatch, 150)
    assert main([*command(tmp_path, folder), "--epochs", "20"]) == 3
    assert "cannot be read (Input/output error)" in said(capsys)
    assert checkpoint.newest(tmp_path / "run")


def test_s7_before_the_first_step_there_is_nothing_to_save(folder, tmp_path, monkeypatch, short_waits):
    dataset = datasets.load(folder)
    Disk(monkeypatch, 0)
    with pytest.raises(DataError, match="or remove it and run the same tinyalex prepare again$"):
        train(small(), dataset, tmp_path / "run", show=quiet)
    assert not list((tmp_path / "run").glob("checkpoint*"))


# S11: sizes that do not fit.


@pytest.mark.parametrize("batch, steps", [(1000, 1), (40, 1), (39, 2), (16, 3)])
def test_s11_batches_that_do_not_divide_the_set(folder, tmp_path, batch, steps):
    result = train(small(epochs=1, batch=batch), datasets.load(folder), tmp_path / "run", show=quiet)
    assert run_folder.read_log(tmp_path / "run")[-1]["step"] == steps
    assert result.count == 12


@pytest.mark.parametrize("made, what", [
    ({"train": 0}, "has no training images; give a set that has a train split"),
    ({"test": 0}, "has no test images; give a set that has a test split, or a share of every class to test on: "
     "--test-share 0.1 (of `tinyalex prepare` if the set is prepared)"),
])  # fmt: skip
def test_s11_no_training_images_or_no_test_images(tmp_path, capsys, made, what):
    folder = make(tmp_path / "set", **SHAPE | made)
    assert main(command(tmp_path, folder)) == 3
    assert said(capsys) == f"{folder}: {what}"
    assert not (tmp_path / "run").exists()


def test_s11_a_batch_size_of_zero(folder, tmp_path, capsys):
    assert main([*command(tmp_path, folder), "--set", "learning.batch=0"]) == 2
    assert "learning.batch" in said(capsys)

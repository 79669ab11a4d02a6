"""ILSVRC-2010 from its archives to a file of results: prepare, train, evaluate --write, from the command line.

The oracle computes errors from the file and the ground truth, as the devkit's evaluation does.
"""

import csv
import io
import json
import re
import shutil
import types

import numpy as np
import pytest
from PIL import Image

from tests.support import toy_ilsvrc2010, toy_imagenet
from tinyalex import datasets
from tinyalex.cli import main
from tinyalex.datasets import parts
from tinyalex.datasets.dataset import ImageNames
from tinyalex.datasets.shards import manifest
from tinyalex.errors import DataError
from tinyalex.runs import run_folder
from tinyalex.training import evaluation, submission

SHRUNK = (
    *("net.input=32", "net.stride=1", "net.classes=8", "net.maps=[8,8,8,8,8]", "net.hidden=32", "learning.batch=24"),
    *('init.weights={ default = "he" }', "data.shared_crop=1", "learning.phases=[]", 'learning.schedule="plateau"'),
)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return toy_ilsvrc2010.make(tmp_path_factory.mktemp("ilsvrc2010"), test=3)


def prepare(folder, *arguments):
    assert main(["prepare", *map(str, arguments), str(folder), "--size", "36", "--workers", "1"]) == 0
    return folder


@pytest.fixture(scope="module")
def prepared(toy, tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("sets") / "set", *toy.sources)


@pytest.fixture(scope="module")
def run(prepared, tmp_path_factory):
    """One step of original-2010, shrunk."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    words = ["train", "original-2010", "--data", prepared, "--out", folder, "--epochs", "1", "--weak-signal"]
    assert main([*map(str, words), "--set", *SHRUNK]) == 0
    return folder


@pytest.fixture(scope="module")
def alone(toy, prepared, tmp_path_factory):
    """The test images, with the devkit and without the ground truth."""
    folder = tmp_path_factory.mktemp("alone") / "set"
    return prepare(folder, toy.test, toy.devkit, toy.patches, "--mean-from", prepared)


@pytest.fixture
def evaluate(run, capsys):
    def evaluate(*arguments, code=0):
        capsys.readouterr()
        assert main(["evaluate", str(run), *map(str, arguments)]) == code
        captured = capsys.readouterr()
        assert code == 0 or captured.err.count("\n") == 1
        return captured.err if code else captured.out

    return evaluate


def guesses(path):
    return [list(map(int, line.split(" "))) for line in path.read_text().splitlines()]


def errors(path, truth):
    """Top-1 and top-5 error of a file of results: flat cost, as in eval_flat.m."""
    found, right = guesses(path), list(map(int, truth.split()))
    assert len(found) == len(right)
    return tuple(
        sum(label not in row[:k] for row, label in zip(found, right, strict=True)) / len(right) for k in (1, 5)
    )


@pytest.mark.parametrize("views", [1, 10])
def test_errors_of_the_file_are_those_printed(toy, evaluate, tmp_path, views):
    path = tmp_path / "results.txt"
    printed = evaluate("--write", path, "--views", views)
    truth = toy_ilsvrc2010.truth(toy, "test")
    one, five = errors(path, truth)
    assert f"test error {one:.2%}, top-5 error {five:.2%}" in printed
    assert printed.splitlines()[-1] == f"{path}: 24 images, 5 ids of classes each, as ILSVRC-2010 scores them"
    rows = guesses(path)
    assert all(len(set(row)) == 5 and set(row) <= set(range(1, 9)) for row in rows)
    assert len(set(map(tuple, rows))) > 4, "the net tells images apart, so that their order matters"
    backwards = b"\n".join(reversed(truth.split()))
    assert errors(path, backwards) != (one, five), "a wrong order is seen"


def test_the_file_fits_the_images_of_the_archive(toy, run, evaluate, tmp_path):
    """Each line is what the net says of the image of that number, read and cropped without tinyalex's index."""
    evaluate("--write", tmp_path / "results.txt")
    loaded = run_folder.load(run)
    files = toy.content | {name.split("/")[1]: each for name, each in toy_ilsvrc2010.patched(toy).items()}
    images = []
    for name in sorted(toy.labels["test"]):
        with Image.open(io.BytesIO(files[name])) as image:
            image = image.convert("RGB")
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            square = image.crop((left, top, left + side, top + side)).resize((36, 36), Image.Resampling.BICUBIC)
            images.append(np.asarray(square))
    batch = datasets.ImageSet(np.stack(images), np.zeros(len(images), np.int64))
    found = evaluation.probabilities(loaded.network, batch, loaded.mean, loaded.recipe)
    first = [toy.ids[loaded.classes[label]] for label in found.argmax(axis=1)]
    same = np.mean([row[0] == label for row, label in zip(guesses(tmp_path / "results.txt"), first, strict=True)])
    assert same > 0.9  # a rounding at the edge of the crop may decide a close case


def test_errors_as_json(toy, evaluate, tmp_path):
    found = json.loads(evaluate("--write", tmp_path / "results.txt", "--json"))
    assert (found["top1_error"], found["top5_error"]) == errors(
        tmp_path / "results.txt", toy_ilsvrc2010.truth(toy, "test")
    )


def test_test_images_without_labels_can_only_be_written(toy, alone, evaluate, tmp_path, capsys):
    evaluate("--write", tmp_path / "known.txt")
    sources = [toy.train, toy.val, toy.test, toy.devkit, toy.patches]
    beside = prepare(tmp_path / "beside", *sources, "--test-set", "test")
    lines = capsys.readouterr().out
    assert f"{toy.test}: test images without labels, which `tinyalex evaluate --write` classifies" in lines
    assert f"{beside}: ILSVRC-2010, 24 training and 24 test images without labels of 36 x 36, 8 classes" in lines
    for k, data in enumerate((alone, beside)):
        path = tmp_path / f"{k}.txt"
        printed = evaluate("--data", data, "--write", path)
        assert "error" not in printed and "24 test images without labels" in printed
        assert path.read_bytes() == (tmp_path / "known.txt").read_bytes()
        assert evaluate("--data", data, code=3) == (
            f"tinyalex: error: {data}: its 24 test images have no labels; give a set with labels, or classify them: "
            "tinyalex evaluate --write FILE\n"
        )
        assert "have no labels; leave the option out" in evaluate(
            "--data", data, "--classes", "--write", tmp_path / "x", code=2
        )
        assert not (tmp_path / "x").exists()
    found = json.loads(evaluate("--data", alone, "--write", tmp_path / "2.txt", "--json"))
    assert found == {"count": 24, "views": 1, "devices": ["cpu"], "nets": []}


def test_earlier_versions_refuse_a_set_without_labels(prepared, alone, tmp_path, capsys):
    """They would take its labels, which are 0, for true ones: its format is not the one that they read."""
    assert main(["verify", str(alone)]) == 0
    assert "headers, labels, lists of hashes; without labels\n" in capsys.readouterr().out
    assert manifest.read(alone)["format"] != manifest.FORMAT == manifest.read(prepared)["format"]
    assert len(datasets.load(alone).test) == 0
    path = shutil.copytree(alone, tmp_path / "set") / "manifest.json"
    path.write_text(path.read_text().replace(manifest.read(alone)["format"], manifest.FORMAT))
    with pytest.raises(DataError, match="check: it was changed"):
        datasets.load(path.parent)


def test_a_file_that_is_there_is_never_replaced(evaluate, tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("1 2 3 4 5\n")
    message = f"tinyalex: error: {path}: exists already; give another name, or remove it first\n"
    assert evaluate("--write", path, code=7) == message
    assert path.read_text() == "1 2 3 4 5\n"
    link = tmp_path / "link.txt"
    link.symlink_to(tmp_path / "nowhere.txt")
    assert "exists already" in evaluate("--write", link, code=7)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link.txt", "mine.txt"]


def test_neither_errors_nor_file_depend_on_the_other(run, evaluate, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    assert main(["evaluate", str(run), "--write", str(tmp_path / "file" / "results.txt")]) == 7
    captured = capsys.readouterr()
    assert "test error" in captured.out and "results.txt: cannot be written" in captured.err

    def closed(text):
        raise BrokenPipeError

    monkeypatch.setattr("tinyalex.commands.evaluate.print_line", closed)
    main(["evaluate", str(run), "--write", str(tmp_path / "results.txt")])
    assert len(guesses(tmp_path / "results.txt")) == 24


def test_other_sets_give_a_table(tmp_path, capsys):
    """Class folders, one of them with a comma in its name; of three classes no more than three are listed."""
    rng = np.random.default_rng(3)
    names = [f"{split}/{kind}/{k}.png" for split in ("train", "test") for kind in ("b, c", "a", "d") for k in range(2)]
    toy_imagenet.tree(tmp_path / "pictures", {name: toy_imagenet.jpeg(rng, 36, 36) for name in names})
    words = ["train", "original-2010", "--data", tmp_path / "pictures", "--out", tmp_path / "run", "--epochs", "1"]
    shrunk = [word.replace("classes=8", "classes=3") for word in SHRUNK]
    assert main([*map(str, words), "--weak-signal", "--set", *shrunk]) == 0
    prepare(tmp_path / "set", tmp_path / "pictures")
    for data in ("pictures", "set"):
        capsys.readouterr()
        written = tmp_path / f"{data}.csv"
        arguments = ["evaluate", tmp_path / "run", "--data", tmp_path / data, "--write", written]
        assert main(list(map(str, arguments))) == 0
        printed = capsys.readouterr().out
        form = "6 images, a table of files and classes; the set is not of an ILSVRC contest"
        assert printed.splitlines()[-1] == f"{written}: {form}"
        head, *rows = csv.reader(written.read_text().splitlines())
        assert head == ["file", "class 1", "class 2", "class 3"]
        assert [row[0] for row in rows] == sorted(f"{kind}/{k}.png" for kind in ("a", "b, c", "d") for k in range(2))
        assert all(sorted(row[1:]) == ["a", "b, c", "d"] for row in rows)
        wrong = np.mean([row[0].split("/")[0] != row[1] for row in rows])
        assert f"test error {wrong:.2%}" in printed


def test_a_set_of_an_earlier_version_gets_its_names_from_the_same_command(toy, prepared, evaluate, tmp_path):
    old = shutil.copytree(prepared, tmp_path / "old")
    listed = (old / "test_images.json").read_bytes()
    (old / "test_images.json").unlink()
    assert "test error" in evaluate("--data", old)
    assert evaluate("--data", old, "--write", tmp_path / "results.txt", code=3) == (
        f"tinyalex: error: {old}: has no names of its test images, as it is of an earlier version; run the same "
        "tinyalex prepare again, which adds them\n"
    )
    prepare(old, *toy.sources)
    assert (old / "test_images.json").read_bytes() == listed


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: text[:-9], r"damaged \(.+\)"),
        (lambda text: text.replace("00000002", "00000099"), r"damaged \(it was changed after it was written\)"),
        (lambda text: "[]", r"damaged \(.+\)"),
    ],
)
def test_damaged_names_are_refused(prepared, evaluate, tmp_path, spoil, message):
    data = shutil.copytree(prepared, tmp_path / "damaged")
    path = data / "test_images.json"
    path.write_text(spoil(path.read_text()))
    remedy = "remove it and run the same tinyalex prepare again, which writes it"
    refused = evaluate("--data", data, "--write", tmp_path / "results.txt", code=3)
    assert re.fullmatch(rf"tinyalex: error: {re.escape(str(path))}: {message}; {remedy}\n", refused)
    assert main(["verify", str(data)]) == 3


def test_names_of_another_set_are_refused(prepared, alone, evaluate, tmp_path):
    data = shutil.copytree(prepared, tmp_path / "mixed")
    shutil.copy(alone / "test_images.json", data / "test_images.json")
    assert "belongs to another prepared set" in evaluate("--data", data, "--write", tmp_path / "r.txt", code=3)


def test_the_names_stay_with_a_set_whose_classes_are_reordered(toy, prepared, alone):
    """A run of version 0.1.0 may have its classes in another order; the ids go by name."""
    for data in (prepared, alone):
        dataset = datasets.load(data)
        other = parts.reordered(dataset, dataset.classes[::-1])
        assert other.test_list() == dataset.test_list() and other.test_list().ids == toy.ids
        assert sorted(other.test_list().names) == sorted(toy.labels["test"])
        assert other.unlabelled is dataset.unlabelled


def test_nets_with_their_classes_in_another_order_are_averaged_by_name(run, evaluate, tmp_path, monkeypatch):
    known = json.loads(evaluate("--write", tmp_path / "known.txt", "--classes", "--json"))
    first = run_folder.load(run)
    network = types.SimpleNamespace(
        predict=lambda images, batch: first.network.predict(images, batch)[:, ::-1],
        **{name: getattr(first.network, name) for name in ("devices", "classes", "dtype")},
    )
    turned = first._replace(network=network, classes=first.classes[::-1], words=first.words[::-1])
    for order in ([turned, first], [first, turned], [turned]):
        left = list(order)
        monkeypatch.setattr("tinyalex.commands.evaluate.load_run", lambda *_, left=left: left.pop(0))
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.txt"
        found = json.loads(evaluate(*[run] * (len(order) - 1), "--write", path, "--classes", "--json"))
        assert path.read_bytes() == (tmp_path / "known.txt").read_bytes()
        assert found["top1_error"] == known["top1_error"] and {net["top5_error"] for net in found["nets"]} == {
            known["top5_error"]
        }
        rows = [{row["class"]: row["top5_error"] for row in each["classes"]} for each in (found, known)]
        assert rows[0] == rows[1]


def test_training_on_the_archives_themselves_names_prepare(toy, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = toy.train.parent
    words = ["train", "original-2010", "--data", str(folder), "--out", "run", "--set", "net.classes=8", "--no-prepare"]
    assert main(words) == 3
    assert (
        f": tinyalex prepare --size 256 {folder} " in capsys.readouterr().err
    )  # there are test images: no --test-share


def contest(count, ids=None):
    names = [f"ILSVRC2012_val_{k + 1:08d}.JPEG" for k in range(count)]
    return ImageNames(names, dict(zip("abcdefg", (3, 1, 2, 7, 6, 5, 4), strict=True)) if ids is None else ids)


def test_equal_probabilities_are_written_as_they_are_ranked():
    """Of equal probabilities the lower label comes first in the file, as it does in the errors."""
    p = np.round(np.random.default_rng(0).random((5000, 7)), 1)
    labels = np.arange(5000) % 7
    found = submission.best(p)
    assert found.shape == (5000, 5)
    wrong = [label not in row for row, label in zip(found, labels, strict=True)]
    assert np.mean(wrong) == evaluation.score(p, labels).top5_error
    assert np.mean(found[:, 0] != labels) == evaluation.score(p, labels).top1_error


def test_the_form_follows_the_names_and_the_devkit():
    p, classes = np.eye(7)[[2, 0, 1]], list("abcdefg")
    names = contest(3)
    shuffled = ImageNames([names.names[k] for k in (2, 0, 1)], names.ids)
    assert submission.results(p[[2, 0, 1]], classes, shuffled).text == "2 3 1 7 6\n3 1 2 7 6\n1 3 2 7 6\n"
    assert submission.results(p, classes, contest(3, {})).form == (
        "a table of files and classes, as no devkit came with the images; prepare them with it for the contest's form"
    )
    gap = ImageNames([names.names[0], *contest(4).names[2:]], names.ids)
    assert submission.results(p, classes, gap).form == (
        "a table of files and classes, as image number 2 is missing; the contest's form has a line for every image"
    )
    with pytest.raises(DataError, match="not finite for 1 image; nothing is written"):
        submission.results(np.where(np.arange(3)[:, None] == 1, np.nan, p), classes, names)

"""`tinyalex.load`: pictures of every kind give the probabilities that the command prints, or one clear error."""

import copy
import csv
import io
import json
import multiprocessing
import pickle
import shutil

import numpy as np
import pytest
from PIL import Image

import tinyalex
from tests.support.small_runs import small, stripes
from tinyalex.cli import main
from tinyalex.datasets import Dataset
from tinyalex.errors import CheckpointError, DataError
from tinyalex.runs import checkpoint, run_folder
from tinyalex.training.loop import Training


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of three tested epochs, of which the second had the lowest error, and a photograph."""
    root = tmp_path_factory.mktemp("classifier")
    data = stripes()
    training = Training(small(), Dataset("stripes", ["upright", "level"], data.train, data.test), seed=1)
    for error in (0.5, 0.25, 0.375):
        for metrics in training.train_steps(training.batches()):
            metrics.read()
        training.errors.append(error)
        run_folder.save(training, root / "run", tested=True)
    pixels = np.random.default_rng(5).integers(0, 256, (60, 80, 3), np.uint8)
    Image.fromarray(pixels).save(root / "photo.png")
    Image.fromarray(pixels).save(root / "photo.jpg")
    return root


@pytest.fixture(scope="module")
def net(folder):
    return tinyalex.load(folder / "run")


@pytest.fixture
def pixels(folder):
    return np.asarray(Image.open(folder / "photo.png"))


def same(one, other):
    return one.classes == other.classes and np.array_equal(one.probabilities, other.probabilities)


# Which checkpoint.


def test_the_best_checkpoint_is_loaded_unless_the_last_is_asked_for(folder):
    assert tinyalex.load(folder / "run").metadata["step"] == 12
    assert tinyalex.load(folder / "run", best=False).metadata["step"] == 18
    assert tinyalex.load_run(folder / "run").metadata["step"] == 18
    named = folder / "run" / "checkpoint-00000018.safetensors"
    assert tinyalex.load(named).metadata["step"] == 18


def test_among_equal_errors_the_earlier_and_untested_ones_never(tmp_path, folder):
    training = Training(small(), stripes())
    for errors, tested in (([0.5], True), ([0.5, 0.25], True), ([0.5, 0.25, 0.25], True), ([0.5, 0.25, 0.25], False)):
        training.step, training.errors = training.step + 6, errors
        tensors, metadata = run_folder.snapshot(training, tested=tested)
        checkpoint.write(tmp_path / f"checkpoint-{training.step:08d}.safetensors", tensors, metadata)
    assert checkpoint.best(tmp_path).name == "checkpoint-00000012.safetensors"
    assert checkpoint.newest(tmp_path).name == "checkpoint-00000024.safetensors"
    for step in (6, 12, 18):
        (tmp_path / f"checkpoint-{step:08d}.safetensors").unlink()
    assert checkpoint.best(tmp_path).name == "checkpoint-00000024.safetensors"  # none was tested: the last


def test_a_damaged_best_checkpoint_is_passed_over(tmp_path, folder, capsys):
    shutil.copytree(folder / "run", tmp_path / "run")
    best = tmp_path / "run" / "checkpoint-00000012.safetensors"
    content = bytearray(best.read_bytes())
    content[-5] ^= 1
    best.write_bytes(content)
    run = run_folder.load(tmp_path / "run", best=True)
    assert run.metadata["step"] == 18 and len(run.passed_over) == 1 and str(best) in run.passed_over[0]
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "weights.safetensors")]) == 0
    assert capsys.readouterr().err.endswith("; checkpoint-00000018.safetensors is used\n")


def test_training_keeps_the_best_checkpoint(folder):
    """The second of three, when only the newest two are kept otherwise."""
    steps = sorted(metadata["step"] for _, metadata in checkpoint.by_step(folder / "run"))
    assert steps == [12, 18]


def test_the_commands_take_best_and_last(folder, tmp_path, capsys):
    run, photo = str(folder / "run"), str(folder / "photo.png")
    for options, step in (([], 12), (["--best"], 12), (["--last"], 18)):
        out = tmp_path / f"{step}.safetensors"
        assert main(["export", run, str(out), *options]) == 0
        line = capsys.readouterr().out
        assert f"weights after step {step}, test error " in line
        assert checkpoint.inspect(out)["step"] == step
        assert main(["predict", photo, "--run", run, "--json", *options]) == 0
        shown = json.loads(capsys.readouterr().out)[0]["classes"]
        wanted = tinyalex.load(out).predict(photo)
        assert [item["class"] for item in shown] == wanted.classes
        assert [item["probability"] for item in shown] == wanted.probabilities.tolist()
    assert main(["predict", photo, "--run", run, "--best", "--last"]) == 2
    assert "not allowed with argument" in capsys.readouterr().err


def test_evaluate_names_its_checkpoint_and_a_better_one(folder, tmp_path, capsys):
    data = tmp_path / "data"
    images = stripes()
    for split in ("train", "test"):
        part = getattr(images, split)
        for number, image in enumerate(part.images):
            home = data / split / images.classes[part.labels[number]]
            home.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(home / f"{number}.png")
    command = ["evaluate", str(folder / "run"), "--data", str(data)]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert f"{folder / 'run'}, step 18: test error" in out
    better = "checkpoint-00000012.safetensors, which had a lower test error, 25.00% after epoch 2; --best takes it, as"
    assert better in out
    assert main([*command, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["nets"]
    assert found["checkpoint"] == "checkpoint-00000018.safetensors"
    assert found["better"] == "checkpoint-00000012.safetensors"
    assert main([*command, "--best"]) == 0
    out = capsys.readouterr().out
    assert "step 12: test error" in out and "--best takes it" not in out
    assert main([*command, "--best", "--json"]) == 0
    assert "better" not in json.loads(capsys.readouterr().out)["nets"][0]


# What predict takes and returns.


def test_three_lines_of_the_readme(folder):
    net = tinyalex.load(folder / "run")
    classes, probabilities = net.predict(folder / "photo.jpg")
    assert sorted(classes) == ["level", "upright"]
    assert probabilities[0] >= probabilities[1] and probabilities.sum() == pytest.approx(1)


def test_all_kinds_of_one_picture_agree(net, folder, pixels):
    wanted = net.predict(str(folder / "photo.png"))
    assert wanted.top() == list(zip(wanted.classes, wanted.probabilities.tolist(), strict=True))
    for same_picture in (
        folder / "photo.png",
        pixels,
        pixels / 255,
        (pixels / 255).astype(np.float32),
        np.asfortranarray(pixels),
        Image.open(folder / "photo.png"),
        Image.fromarray(pixels),
    ):
        assert same(net.predict(same_picture), wanted)
    assert not same(net.predict(pixels[:, ::-1] // 2), wanted)


def test_grey_pictures(net):
    grey = np.random.default_rng(1).integers(0, 256, (50, 40), np.uint8)
    wanted = net.predict(np.repeat(grey[:, :, None], 3, axis=2))
    for one in (grey, grey[:, :, None], grey / 255, Image.fromarray(grey)):
        assert same(net.predict(one), wanted)


def test_pillow_images_are_read_as_their_files_are(net, tmp_path):
    rng = np.random.default_rng(2)
    colour, clear = (rng.integers(0, 256, (40, 50, channels), np.uint8) for channels in (3, 4))
    made = {
        "rgba": Image.fromarray(clear),
        "la": Image.fromarray(clear).convert("LA"),
        "palette": Image.fromarray(colour).quantize(17),
        "one": Image.fromarray(colour).convert("1"),
        "deep": Image.fromarray(rng.integers(0, 2**16, (40, 50), np.uint16)),
    }
    for name, image in made.items():
        image.save(tmp_path / f"{name}.png")
        assert same(net.predict(image), net.predict(tmp_path / f"{name}.png")), name
    Image.fromarray(colour).convert("CMYK").save(tmp_path / "cmyk.tif")
    assert net.predict(Image.open(tmp_path / "cmyk.tif")).classes


def test_several_pictures_give_a_list(net, folder, pixels):
    one = net.predict(pixels)
    several = net.predict([pixels, folder / "photo.png", Image.fromarray(pixels), str(folder / "photo.jpg")])
    assert [type(each).__name__ for each in several] == ["Prediction"] * 4
    assert several[0].probabilities == pytest.approx(one.probabilities, rel=1e-5)
    assert len(net.predict((pixels, pixels))) == len(net.predict(np.stack([pixels, pixels]))) == 2
    assert net.predict([]) == []


@pytest.mark.parametrize(
    "image, message",
    [
        (np.full((4, 4, 3), 200.0), "image: floating numbers have to be from 0 to 1, but one is 200; if they are from"),
        (np.full((4, 4, 3), -0.1), "image: floating numbers have to be from 0 to 1, but one is -0.1"),
        (np.full((4, 4, 3), np.nan), "image: floating numbers have to be from 0 to 1, but one is nan"),
        (np.zeros((4, 4, 3), np.int64), "image: numbers of type int64; give bytes from 0 to 255"),
        (np.zeros((4, 4, 3), bool), "image: numbers of type bool"),
        (np.zeros((3, 40, 50), np.uint8), "image: an array of shape (3, 40, 50); use image.transpose(1, 2, 0)"),
        (np.zeros((40, 50, 4), np.uint8), "image: an array of shape (40, 50, 4); give (height, width, 3)"),
        (np.zeros((0, 4, 3), np.uint8), "image: an array of shape (0, 4, 3); give "),
        (np.zeros(7, np.uint8), "image: an array of shape (7,); give "),
        ([np.zeros((4, 4), np.uint8), 3], "image 1: a int; give the path of a file, a Pillow image, an array"),
        ("nothing.jpg", "nothing.jpg: No such file or directory; give an image file"),
        (None, "image: a NoneType; give the path"),
        (Image.new("F", (4, 4)), "image: a Pillow image of mode F that cannot be read"),
    ],
    ids=lambda given: given if isinstance(given, str) else type(given).__name__,
)
def test_what_is_no_picture_is_one_clear_error(net, image, message):
    with pytest.raises(DataError) as error:
        net.predict(image)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_a_folder_and_a_broken_file_are_named(net, folder, tmp_path):
    with pytest.raises(DataError, match="a folder; give image files"):
        net.predict(folder)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing")
    with pytest.raises(DataError, match="broken.jpg: a broken JPEG file"):
        net.predict([tmp_path / "broken.jpg"])


def test_representations(net, pixels, folder):
    assert repr(net) == (
        f"<Classifier: shapes, 20 x 20 pixels, 2 classes, step 12, test error 25.00%, from {net.path}>"
    )
    found = net.predict(pixels)
    first, second = found.classes
    p = found.probabilities
    assert repr(found) == f"<Prediction: {first} {p[0]:.1%}, {second} {p[1]:.1%}>"


def test_an_export_and_other_devices_give_the_same_classes(net, folder, tmp_path, pixels):
    run_folder.export(run_folder.load(folder / "run", best=True), tmp_path / "weights.safetensors")
    exported = tinyalex.load(tmp_path / "weights.safetensors")
    assert same(exported.predict(pixels), net.predict(pixels))
    assert "test error 25.00%" in repr(exported)
    other = tinyalex.load(folder / "run", devices=["fake:0", "fake:1"])
    assert other.predict(pixels).probabilities == pytest.approx(net.predict(pixels).probabilities, rel=1e-5)


def _predict(net, image):
    return net.predict(image)


def test_what_load_returns_is_copied_and_sent_to_other_processes(net, pixels):
    wanted = net.predict(pixels)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert same(twin.predict(pixels), wanted) and twin.network is not net.network
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert same(pool.apply(_predict, (net, pixels)), wanted)


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint here"):
        tinyalex.load(tmp_path)


# predict's table, and lists of files.


def test_a_folder_with_folders_as_a_table(folder, tmp_path, capsys):
    photo = (folder / "photo.png").read_bytes()
    for name in ("b.png", "a/x.png", "a/b/y.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo)
    (tmp_path / "photos" / "a" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    assert main(["predict", str(tmp_path / "photos"), "--run", str(folder / "run"), "--csv"]) == 3
    output = capsys.readouterr()
    head, *rows = list(csv.reader(io.StringIO(output.out)))
    assert head == ["file", "class_1", "probability_1", "class_2", "probability_2", "error"]
    assert sorted(row[0].removeprefix(f"{tmp_path}/photos/") for row in rows) == [
        "a/b/y.png", "a/broken.png", "a/x.png", "b.png"
    ]  # fmt: skip
    wanted = tinyalex.load(folder / "run").predict(folder / "photo.png")
    for row in rows:
        if "broken" in row[0]:
            assert row[1:5] == [""] * 4 and "broken PNG file" in row[5]
        else:
            assert [row[1], row[3]] == wanted.classes and row[5] == ""
            assert [float(row[2]), float(row[4])] == pytest.approx(wanted.probabilities.tolist(), rel=1e-4)
    assert "broken.png" in output.err


@pytest.mark.parametrize("separator", ["\n", "\r\n", "\0"])
def test_a_list_of_files_from_standard_input(folder, monkeypatch, capsys, separator):
    names = [str(folder / "photo.png"), str(folder / "photo.jpg")]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(separator.join([*names, ""]).encode())))
    assert main(["predict", "-", "--run", str(folder / "run"), "--csv"]) == 0
    assert [row[0] for row in csv.reader(io.StringIO(capsys.readouterr().out))][1:] == names


def test_an_empty_list_is_an_error(folder, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\n\n")))
    assert main(["predict", "-", "--run", str(folder / "run")]) == 2
    assert capsys.readouterr().err == (
        "tinyalex: error: -: no names of files on standard input; give one a line, as find and ls print them\n"
    )

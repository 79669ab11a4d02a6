"""What training cannot read as it is, `tinyalex prepare` can: the message is a command to type."""

import re
import shlex
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from tests.programs import kill_train
from tinyalex.cli import main

TINY = "[net]\ninput = 16\nmaps = [4, 4, 4, 4, 4]\nkernels = [5, 3, 3, 3, 3]\nstride = 1\nhidden = 8\nclasses = 0\n"


@pytest.fixture
def pictures(tmp_path):
    """Photographs of many sizes in a folder for each class, without a split."""
    folder = tmp_path / "my pictures"
    for name in ("cats", "dogs"):
        (folder / name).mkdir(parents=True)
        for number in range(4):
            pixels = np.random.default_rng(number).integers(0, 256, (600 + number, 520, 3), np.uint8)
            Image.fromarray(pixels).resize((30 + number, 26)).save(folder / name / f"{number}.png")
    (tmp_path / "tiny.toml").write_text(TINY)
    return folder


def archive(kind, folder):
    path = folder.with_suffix(f".{kind}")
    files = sorted(folder.rglob("*.png"))
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as out:
            for file in files:
                out.write(file, file.relative_to(folder))
    else:
        with tarfile.open(path, "w:gz" if kind.endswith("gz") else "w") as out:
            for file in files:
                out.add(file, file.relative_to(folder))
    return path


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "tar.gz"])
def test_the_command_in_the_message_prepares_what_training_cannot_read(kind, pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    source = pictures if kind == "folder" else archive(kind, pictures)
    assert main(["train", "tiny.toml", "--no-prepare", "--data", str(source), "--out", "run"]) == 3
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    command, out = re.search(r"any size and layout: (tinyalex prepare .*); then give --data (.*)\n", message).groups()
    command, (out,) = shlex.split(command), shlex.split(out)
    assert str(source) in command and command[-1] == out and not (tmp_path / out).exists()
    assert main([*command[1:], "--size", "20", "--workers", "1"]) == 0
    if kind != "folder":
        return
    words = ["train", "tiny.toml", "--data", out, "--out", "run", "--weak-signal", "--epochs", "1"]
    assert main([*words, "--set", "learning.batch=4"]) == 0


@pytest.mark.parametrize("command", [["train", "--no-prepare"], ["experiment", "dropout"], ["figures", "RUN"]])
def test_every_command_with_data_names_prepare(command, pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if "RUN" in command:
        kill_train.prepare(tmp_path)
        run = ["train", "killed.toml", "--data", "data", "--epochs", "1", "--weak-signal", "--out", "run"]
        assert main(run) == 0
        command = [command[0], "run"]
    assert main([*command, "--data", str(pictures)]) == 3
    size = {"train": "--size 28 ", "experiment": ""}.get(command[0], "--size 24 ")  # the runs have 24 x 24
    assert f"tinyalex prepare --test-share 0.1 {size}'{pictures}' " in capsys.readouterr().err


def test_the_folder_that_is_suggested_is_new_and_outside_the_source(pictures, tmp_path, monkeypatch, capsys):
    (tmp_path / "data" / "my pictures").mkdir(parents=True)
    for here, expected in ((tmp_path, "'my pictures-prepared'"), (pictures, f"'{pictures}-prepared'")):
        monkeypatch.chdir(here)
        assert main(["train", "--no-prepare", "--data", "." if here == pictures else "my pictures"]) == 3
        assert f"then give --data {expected}\n" in capsys.readouterr().err


def test_folders_of_test_images_need_no_test_share(pictures, tmp_path, capsys):
    (pictures / "val").mkdir()
    (pictures / "cats").rename(pictures / "val" / "cats")
    assert main(["train", "shapes", "--no-prepare", "--data", str(pictures)]) == 3
    assert "tinyalex prepare --size 64 '" in capsys.readouterr().err


def test_where_there_are_no_images_prepare_is_not_suggested(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("text")
    for path in (tmp_path, tmp_path / "notes.txt", tmp_path / "nothing"):
        assert main(["train", "--data", str(path)]) == 3
        assert "prepare" not in capsys.readouterr().err

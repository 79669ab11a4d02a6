"""What the commands print: counts with the right noun, no top-5 error of few classes, errors that say what to do."""

import builtins
import json
import re

import pytest

from tests.programs import other_files
from tinyalex import words
from tinyalex.cli import main
from tinyalex.commands import summary
from tinyalex.figures import curves
from tinyalex.recipes import recipe

ONE = re.compile(
    r"(?<![\d,.])1 (?:\w+ )?(?:images|epochs|shards|classes|steps|seeds|runs|nets|rounds|threads|numbers)\b"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a data set of three classes, a run on it and a prepared set."""
    root = tmp_path_factory.mktemp("made")
    other_files.prepare(root)
    return root


@pytest.mark.parametrize("number, noun, text", [
    (0, "image", "0 images"), (1, "image", "1 image"), (2, "image", "2 images"), (1, "class", "1 class"),
    (1200, "test image", "1,200 test images"), (12, "class", "12 classes"),
])  # fmt: skip
def test_counted_nouns(number, noun, text):
    assert words.counted(number, noun) == text


def test_one_is_never_followed_by_a_plural(made, tmp_path, capsys):
    """In the output of commands that count one of many things."""
    commands = [
        other_files.command(made, tmp_path, "train", {"--set": "learning.batch=1000"}),
        other_files.command(made, tmp_path, "prepare", {"--subset": "3x1"}),
        ["verify", str(tmp_path / "set")],
        other_files.command(made, tmp_path, "experiment", {}),
        other_files.command(made, tmp_path, "summary", {"--set": "net.classes=1"}),
        ["train", str(made / "killed.toml"), "--set", "net.maps=8"],
    ]
    for command in commands:
        main(command)
    printed = "".join(capsys.readouterr())
    assert printed.count("1 image") + printed.count("1 epoch") + printed.count("1 shard") > 3
    assert ONE.findall(printed) == []


def test_the_check_of_plurals_finds_them():
    assert ONE.findall("made of 1 images, 21 images, 1,001 images, 0.1 images and 1 test images") == [
        "1 images",
        "1 test images",
    ]


def test_the_top_5_error_of_few_classes_is_not_shown(made, tmp_path, capsys):
    assert len(list((made / "data" / "train").iterdir())) <= 5
    assert main(other_files.command(made, tmp_path, "train", {})) == 0
    assert main(other_files.command(made, tmp_path, "evaluate", {}, ["--classes"])) == 0
    printed = capsys.readouterr().out
    assert "test error" in printed and "top-5" not in printed
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    tests = [record for record in log if record["event"] == "test"]
    assert tests and all("top1_error" in record and "top5_error" not in record for record in tests)
    labels = {text.get_text() for axes in curves(log).axes for text in axes.texts}
    assert any("test top-1" in label for label in labels) and not any("top-5" in label for label in labels)


def test_the_top_5_error_of_many_classes_is_shown(tmp_path, capsys):
    words = ["experiment", "norm", "--train-images", "24", "--test-images", "12", "--seeds", "1", "--epochs", "1"]
    words += ["--out", str(tmp_path), "--set", "net.maps=[4,4,4,4,4]", "net.hidden=8"]
    assert main(words) == 0
    assert "top-5" in capsys.readouterr().out


@pytest.mark.parametrize("package", ["safetensors", "PIL", "tqdm", "threadpoolctl"])
def test_a_missing_package_is_not_called_a_bug(package, capsys, monkeypatch):
    real = builtins.__import__

    def missing(name, *arguments, **options):
        if name.split(".")[0] == package:
            raise ModuleNotFoundError(f"No module named '{package}'", name=package)
        return real(name, *arguments, **options)

    def run(options):
        monkeypatch.setattr(builtins, "__import__", missing)
        __import__(package)

    monkeypatch.setattr(summary, "run", run)
    code = main(["summary"])
    monkeypatch.undo()
    error = capsys.readouterr().err
    assert code == 2 and error.count("\n") == 1 and "bug" not in error
    assert f"{package}: cannot be imported (No module named '{package}'); install" in error and "pip install" in error


def test_an_output_folder_that_is_the_source_is_named_so(made, capsys):
    data = str(made / "data")
    assert main(["prepare", data, data]) == 2
    assert f"{data}: is the source itself; choose another folder" in capsys.readouterr().err
    assert main(["prepare", data, f"{data}/set"]) == 2
    assert f"{data}/set: is inside the source {data}; choose another folder" in capsys.readouterr().err


def test_the_contact_sheet_is_named_only_if_there_is_one(made, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tinyalex.prepare.sheet.draw", lambda folder, dataset: None)
    assert main(other_files.command(made, tmp_path, "prepare", {})) == 0
    assert "contact_sheet.png" not in capsys.readouterr().out


def test_a_note_counts_epochs():
    assert "1 epoch instead of" in recipe.load("shapes", ["learning.epochs=1"]).notes[0]


@pytest.mark.parametrize("number", [5, 6, 22, 28, 39, 75, 116])
def test_no_error_of_the_file_system_is_called_a_bug(number, capsys, monkeypatch):
    def fail(options):
        raise OSError(number, "what the system says", "run/x")

    monkeypatch.setattr(summary, "run", fail)
    assert main(["summary"]) == 7
    error = capsys.readouterr().err
    assert error.startswith("tinyalex: error: run/x: what the system says; ") and "bug" not in error


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_a_device_as_data_set_is_refused_at_once(device, capsys):
    assert main(["train", "--data", device]) == 3
    assert "no such folder or file" in capsys.readouterr().err

"""First tries with the options and commands of other programs: each error names what to type, and that is accepted."""

import shlex
from pathlib import Path

import pytest

from tinyalex import cli
from tinyalex.cli import main
from tinyalex.commands import groups, spellings
from tinyalex.recipes import ranges, recipe

COMMANDS = cli._parsers()[1]

TRIES = [
    ("train --lr 0.01", "--set learning.rate=0.01"),
    ("train --lr=0.01", "--set learning.rate=0.01"),
    ("train --learning-rate 0.01", "--set learning.rate=0.01"),
    ("train --learning_rate 0.01", "--set learning.rate=0.01"),
    ("train --batch-size 64", "--set learning.batch=64"),
    ("train --batch 64", "--set learning.batch=64"),
    ("train -b 64", "--set learning.batch=64"),
    ("train -b64", "--set learning.batch=64"),
    ("train --gpu 1", "--devices cuda:1"),
    ("train --gpus 2", "--devices cuda:0 cuda:1"),
    ("train --device cuda", "--devices cuda:0"),
    ("train --cuda", "--devices cuda:0"),
    ("train --output out", "--out out"),
    ("train -o out", "--out out"),
    ("train --save-dir out", "--out out"),
    ("train --name mine", "--out runs/mine"),
    ("train --dataset photos", "--data photos"),
    ("train --data-dir photos", "--data photos"),
    ("train --epoch 5", "--epochs 5"),
    ("train -e 5", "--epochs 5"),
    ("train --num-workers 4", "--threads 4"),
    ("train --pretrained runs/a", "--init-from runs/a"),
    ("train --checkpoint a.safetensors", "--init-from a.safetensors"),
    ("train --weight-decay 0.1", "--set learning.weight_decay=0.1"),
    ("train --momentum 0.8", "--set learning.momentum=0.8"),
    ("train --dropout 0.2", "--set net.dropout=0.2"),
    ("train --num-classes 2", "--set net.classes=2"),
    ("train --val photos", "--test-share 0.1"),
    ("train --fress", "--fresh"),
    ("predict x.jpg --model runs/a", "--run runs/a"),
    ("predict x.jpg --weights runs/a", "--run runs/a"),
    ("bench --batch-size 4", "--batch 4"),
    ("bench --devices cuda:0", "--device cuda:0"),
    ("experiment dropout --gpu 0", "--devices cuda:0"),
    ("prepare photos out --resize 64", "--size 64"),
    ("prepare photos out -j 2", "--workers 2"),
]
COMMAND_LINES = [
    ("train --model alexnet", "tinyalex train modern"),
    ("train --recipe shapes", "tinyalex train shapes"),
    ("train --config my.toml", "tinyalex train my.toml"),
    ("train --img-size 64", "tinyalex prepare SOURCE OUT --size 64"),
    ("train photos", "tinyalex train --data photos"),
    ("summary photos", "tinyalex train --data photos"),
    ("train shapes photos", "--data photos"),
    ("evaluate --model runs/a", "tinyalex evaluate runs/a"),
    ("evaluate", "tinyalex evaluate runs/shapes"),
    ("predict x.jpg", "tinyalex predict photo.jpg --run runs/shapes"),
    ("prepare photos", "tinyalex prepare photos data/photos"),
    ("prepare photos --out data/p", "tinyalex prepare photos data/photos"),
    ("doctor photos", "tinyalex verify photos"),
    ("evaluate nothing", "tinyalex train makes one in runs/shapes"),
    ("evaluate photos", "photos: holds no run; give "),
    ("predict x.jpg --run nothing", "tinyalex train makes one in runs/shapes"),
    ("test runs/a", '"tinyalex evaluate"'),
    ("infer x.jpg", '"tinyalex predict"'),
    ("fit", '"tinyalex train"'),
    ("help", '"tinyalex --help"'),
    ("help train", '"tinyalex train --help"'),
    ("train --resume", "leave it out: the same tinyalex train command resumes what was stopped"),
    ("train --optimizer adam", "there is one: gradient descent with momentum"),
    ("train --verbose", "--debug"),
    ("train --overwrite", "give another --out"),
    ("evaluate --batch-size 3 x", "leave it out; the batch is that of the run's recipe"),
    ("train --set lr=0.1", '"learning.rate"'),
    ("train --set learning.lr=0.1", '"learning.rate"'),
    ("train --set batch_size=3", '"learning.batch"'),
]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    (tmp_path / "photos" / "cat" / "1.jpg").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("words, remedy", TRIES, ids=[words for words, _ in TRIES])
def test_a_try_with_another_programs_option_names_ours(words, remedy, photos, capsys):
    assert cli.main(shlex.split(words)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and remedy in error
    begin = next(number for number, word in enumerate(shlex.split(words)) if word.startswith("-") and number)
    options = cli._parse([*(w for w in shlex.split(words)[:begin]), *shlex.split(remedy)])  # what it says is accepted
    if "set" in options:
        recipe.load("shapes", options.set)


@pytest.mark.parametrize("words, remedy", COMMAND_LINES, ids=[words for words, _ in COMMAND_LINES])
def test_a_first_try_is_answered_with_what_to_type(words, remedy, photos, capsys):
    assert cli.main(shlex.split(words)) in (2, 4)
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and remedy in error


def test_a_run_of_that_name_is_named(photos, tmp_path, capsys):
    for name in ("shapes", "mine"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "checkpoint-00000001.safetensors").touch()
    assert cli.main(["evaluate", "shapes"]) == 4
    assert "shapes: no such run; give runs/shapes\n" in capsys.readouterr().err
    assert cli.main(["evaluate", "other"]) == 4
    assert "give runs/mine or runs/shapes\n" in capsys.readouterr().err


def test_known_options_are_not_taken_for_others():
    """No name in the tables is an option that its command has, and no synonym is a key."""
    for name, command in COMMANDS.items():
        for action in command._actions:
            for flag in action.option_strings:
                cli._refuse_unknown_options(name, command, [flag])  # raises no UsageError
    assert not set(ranges.SYNONYMS.values()) - ranges.RULES.keys()
    assert not spellings.EXAMPLES.keys() - COMMANDS.keys()
    assert not {word for others in spellings.COMMANDS.values() for word in others} & COMMANDS.keys()


def test_an_option_that_resembles_nothing(capsys):
    assert cli.main(["train", "--nonsense"]) == 2
    assert "unrecognized arguments: --nonsense; see tinyalex train --help" in capsys.readouterr().err


@pytest.mark.parametrize("command", groups.GROUPS)
def test_the_help_is_short_and_the_long_one_complete(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main([command, "--help"]) == 0
    short = capsys.readouterr().out
    assert cli.main([command, "--help-all"]) == 0
    whole = capsys.readouterr().out
    assert len(short.splitlines()) < len(whole.splitlines())
    assert max(map(len, whole.splitlines() + short.splitlines())) <= 80
    for action in COMMANDS[command]._actions:
        for flag in action.option_strings[-1:]:
            assert flag in whole and (flag in short or flag == "--help")
    names = {name for names in groups.GROUPS[command].values() for name in names}
    assert names <= {(action.option_strings or [action.dest])[-1] for action in COMMANDS[command]._actions}


@pytest.mark.parametrize("command", COMMANDS)
def test_helps_fit_in_80_columns(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main([command, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80 and len(lines) <= 52


@pytest.fixture
def beside_a_run(tmp_path, monkeypatch):
    """A folder with something like a run in runs/flowers, and a folder of that name for photographs."""
    monkeypatch.chdir(tmp_path)
    for folder in ("runs/flowers", "runs/broken", "flowers/rose"):
        Path(folder).mkdir(parents=True)
    for run in ("runs/flowers", "runs/broken"):
        Path(run, "checkpoint-00000001.safetensors").write_bytes(b"")
    Path("runs/flowers/report.html").write_text("<!DOCTYPE html>")
    Path("rose.jpg").write_bytes(b"")


@pytest.mark.parametrize("command, message", [
    ("explain rose.jpg runs/flowers", "arguments are required: --run; write --run runs/flowers; see"),
    ("predict rose.jpg", "for example tinyalex predict photo.jpg --run runs/broken; see"),
    ("report --run runs/flowers", "give the run without an option: tinyalex report runs/flowers"),
    ("report flowers", "flowers: holds no run; give runs/flowers\n"),
    ("figures flowers", "flowers: holds no run; give runs/flowers\n"),
    ("predict rose.jpg --run flowers", "flowers: holds no run; give runs/flowers\n"),
    ("predict rose.jpg --run runs/flower", "runs/flower: no such run; give runs/flowers\n"),
    ("predict rose.jpg --run runs/flowers/report.html", "nor a file of weights; give its folder, runs/flowers\n"),
    ("predict runs/flowers --run rose.jpg", "runs/flowers: a run; write --run runs/flowers, and the images without"),
    ("verify nosuch", "nosuch: no such folder; give a folder made by tinyalex prepare\n"),
    ("verify flowers", "flowers: not a prepared set; give runs/prepared/flowers-64-0123456789ab\n"),
    ("verify runs/prepared", "runs/prepared: not a prepared set; give runs/prepared/flowers-64-0123456789ab\n"),
])  # fmt: skip
def test_a_run_or_a_set_that_is_meant_is_named(beside_a_run, capsys, command, message):
    if command.startswith("verify"):
        Path("runs/prepared/flowers-64-0123456789ab").mkdir(parents=True)
        Path("runs/prepared/flowers-64-0123456789ab/manifest.json").write_text("{}")
    assert main(command.split()) in (2, 3, 4)
    assert message in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_to_is_refused_at_once(beside_a_run, monkeypatch, capsys):
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != Path.cwd())
    assert main(["train", "--data", "flowers", "--out", "new/flowers"]) == 7
    assert "is read-only here; give another folder: --out FOLDER" in capsys.readouterr().err

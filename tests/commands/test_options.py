"""How the words of a command line are read: paths, options with several values, positional arguments among options."""

import argparse
import os
from pathlib import Path

import pytest

from tinyalex import cli
from tinyalex.commands import ALL

COMMANDS = cli._parsers()[1]
VALUES = {  # options whose value is neither a path, a number nor one of several words
    "advise": {"--devices"},
    "train": {"--set", "--devices"},
    "convert": {"--set"},
    "evaluate": {"--devices"},
    "predict": {"--devices"},
    "report": {"--devices"},
    "explain": {"--class", "--layer", "--devices"},
    "summary": {"--set"},
    "gradcheck": {"--set"},
    "figures": {"--only", "--devices"},
    "experiment": {"--set", "--devices", "name"},
    "bench": {"--set", "--device", "--contenders"},
    "prepare": {"--subset", "--max-bad"},
    "doctor": {"data"},
    "verify": set(),
    "claims": {"--verdict", "numbers"},
    "export": {"--keep"},
    "import": set(),
}


def parse(*words):
    return cli._parse([str(word) for word in words])


def path_options(command):
    """The options and arguments of a command whose values are paths."""
    return [action for action in COMMANDS[command]._actions if getattr(action.type, "__name__", "") == "user_path"]


def name(action):
    return action.option_strings[0] if action.option_strings else action.dest


@pytest.mark.parametrize("words, several, positional", [
    (["predict", "--run", "r", "--devices", "cpu", "x.jpg"], ["cpu"], ["x.jpg"]),
    (["predict", "--run", "r", "--devices", "cpu", "cpu", "x.jpg", "y.jpg"], ["cpu", "cpu"], ["x.jpg", "y.jpg"]),
    (["predict", "--devices=cpu", "x.jpg", "--run", "r", "y.jpg"], ["cpu"], ["x.jpg", "y.jpg"]),
    (["predict", "x.jpg", "--run", "r", "y.jpg"], ["cpu"], ["x.jpg", "y.jpg"]),
    (["predict", "--devices", "cpu,cpu", "x.jpg", "--run=r"], ["cpu", "cpu"], ["x.jpg"]),
    (["predict", "--devices=cuda:0,cuda:1", "x.jpg", "--run=r"], ["cuda:0", "cuda:1"], ["x.jpg"]),
    (["predict", "--devices", "cpu", "--devices", "fake:0", "x.jpg", "--run=r"], ["cpu", "fake:0"], ["x.jpg"]),
    (["predict", "--run", "r", "--devices", "cpu", "--", "-x.jpg"], ["cpu"], ["-x.jpg"]),
    (["evaluate", "--devices", "cpu", "run", "--views", "9", "other"], ["cpu"], ["run", "other"]),
    (["train", "--devices", "cpu", "shapes"], ["cpu"], "shapes"),
    (["train", "--devices", "cpu", "cpu"], ["cpu", "cpu"], None),
    (["train", "--set", "a.b=1", "net.c=[2]", "paper"], ["a.b=1", "net.c=[2]"], "paper"),
    (["train", "--set", "a=1", "--set", "b=2"], ["a=1", "b=2"], None),
    (["figures", "--only", "curves", "r"], ["curves"], ["r"]),
    (["figures", "--only", "curves,kernels", "panel", "r", "s"], ["curves", "kernels", "panel"], ["r", "s"]),
    (["bench", "--contenders", "im2col", "winograd", "cifar10-relu"], ["im2col", "winograd"], "cifar10-relu"),
    (["prepare", "a", "b", "--size", "8", "out"], None, ["a", "b", "out"]),
    (["prepare", "--size", "8", "a", "--workers=2", "out"], None, ["a", "out"]),
    (["gradcheck", "--set", "net.columns=1", "paper"], ["net.columns=1"], "paper"),
])  # fmt: skip
def test_positional_arguments_may_follow_options_with_several_values(words, several, positional):
    options = parse(*words)
    if words[0] == "prepare":
        found = [*options.sources, options.out]
    else:
        found = next(getattr(options, key) for key in ("images", "runs", "recipe", "what") if key in options)
    assert found == positional
    for key in ("contenders", "only", "set", "devices") if several else ():
        if any(word.startswith(f"--{key}") for word in words):
            assert getattr(options, key) == several


def test_without_an_option_its_default_holds_each_time():
    assert parse("train", "--devices", "cuda:0").devices == ["cuda:0"]
    assert parse("train").devices == ["cpu"] and parse("train").set == []


@pytest.mark.parametrize("words, message", [
    (["trian"], 'trian: no such command; did you mean "train"?; see tinyalex --help'),
    (["vacation"], "vacation: no such command; give one of advise, prepare, verify, train"),
    (["--nonsense", "train"], "unrecognized arguments: --nonsense; see tinyalex --help"),
    (["figures", "--only", "curvs", "r"], 'no such picture; did you mean "curves"?; see tinyalex figures --help'),
    (["bench", "--contenders", "im3col"], 'did you mean "im2col"?; see tinyalex bench --help'),
    (["train", "--devices"], "argument --devices: expected one argument; see tinyalex train --help"),
    (["train", "a", "b", "c"], "unrecognized arguments: c; see tinyalex train --help"),
    (["predict", "--run", "r"], "required: IMAGE; for example tinyalex predict photo.jpg --run runs/shapes; see "),
    (["--debug", "figures"], "required: RUN; for example tinyalex figures runs/shapes; see tinyalex figures --help"),
])  # fmt: skip
def test_usage_errors_say_which_help_to_read(words, message, capsys):
    assert cli.main(words) == 2
    assert message in capsys.readouterr().err


def test_debug_may_stand_before_the_command(capsys):
    assert cli.main(["--debug", "summary", "nonsense"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_every_option_with_a_value_says_what_kind_it_is():
    """A path that is not of the type for paths would be left out of the checks of files and of ~."""
    assert {module.__name__.rsplit(".", 1)[1].rstrip("_") for module in ALL} == COMMANDS.keys() == VALUES.keys()
    for command, parser in COMMANDS.items():
        others = {
            name(action)
            for action in parser._actions
            if action.nargs != 0 and action.type not in (int, float) and not action.choices
        }
        paths = {name(action) for action in path_options(command)}
        assert others - paths == {option for option in VALUES[command] if option != "name"}, command


CASES = [(command, action) for command in COMMANDS for action in path_options(command)]


@pytest.mark.parametrize("command, action", CASES, ids=[f"{command} {name(action)}" for command, action in CASES])
def test_every_path_is_expanded_and_never_empty(command, action, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert action.type("~/x") == str(tmp_path / "x") and action.type("~") == str(tmp_path)
    assert action.type("a~/x") == "a~/x" and action.type("x") == "x"
    for empty in ("", "  "):
        with pytest.raises(argparse.ArgumentTypeError, match="the path is empty"):
            action.type(empty)


def test_an_empty_path_is_refused_and_nothing_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for words in (["train", "--out", ""], ["train", "--out="], ["figures", "shapes", "--out", ""], ["export", "r", ""]):
        assert cli.main(words) == 2
        assert "the path is empty; give one" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_a_tilde_after_an_equals_sign_means_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["figures", "shapes", "--out=~/pictures"]) == 0
    assert (tmp_path / "pictures" / "shapes.png").is_file() and not Path("~").exists()


def test_a_tilde_in_a_recipe_means_the_home(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.toml").write_text('[data]\nset = "~/nothing"\n')
    assert cli.main(["train", str(tmp_path / "a.toml"), "--out", str(tmp_path / "run")]) == 3
    assert f"{tmp_path}/nothing: no such folder or file" in capsys.readouterr().err

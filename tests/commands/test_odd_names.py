"""Every command on a set whose classes, files and folders have odd names: nothing fails, warns or breaks a line."""

import json
import os
import tomllib
import warnings

import pytest

from tests.support import odd_names
from tinyalex import cli
from tinyalex.runs import run_folder

NET = ["input=20", "maps=[4,8,8,8,8]", "kernels=[5,3,3,3,3]", "stride=1", "hidden=16", "classes=0"]
SMALL = [*(f"--set=net.{each}" for each in NET), "--set=learning.batch=8", "--epochs=1"]


@pytest.fixture
def run(capsys):
    """Run a command that has to succeed without a warning; return what it printed."""

    def run(*arguments):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            code = cli.main(list(map(str, arguments)))
        out, err = capsys.readouterr()
        assert (code, err) == (0, "")
        return out

    return run


@pytest.mark.slow
def test_the_whole_chain(run, tmp_path):
    """Prepare, verify, train, evaluate, predict, figures and export."""
    odd = tmp_path / os.fsdecode(b"r\xe9sum\xe9 \xe7\x8c\xab\n2")  # folders, too: not UTF-8, and with a line break
    odd.mkdir()
    source, data, out = (
        odd_names.make(tmp_path / "odd \N{CJK UNIFIED IDEOGRAPH-732B}"),
        tmp_path / "s\te\nt\N{NO-BREAK SPACE}",
        odd / "run",
    )
    run("prepare", source, data, "--size", 24, "--workers", 1)
    manifest = json.loads((data / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["classes"] == odd_names.CLASSES
    run("verify", data, "--full")
    run("train", "shapes", "--data", data, "--out", out, "--weak-signal", *SMALL)
    assert tomllib.loads((out / "recipe.toml").read_text(encoding="utf-8"))["data"]["set"] == str(data)
    assert run_folder.load(out).classes == odd_names.CLASSES and run_folder.read_log(out)
    lines = run("evaluate", out, "--classes").split("\n\n")[1].splitlines()
    assert len(lines) == 2 + len(odd_names.CLASSES) and lines[-1].startswith("mean of the classes")
    classes = {row["class"] for row in json.loads(run("evaluate", out, "--classes", "--json"))["classes"]}
    assert classes == set(odd_names.CLASSES)
    images = sorted(source.glob("test/*/*.jpg"))
    assert len(run("predict", *images, "--run", out).splitlines()) == 6 * len(images)
    found = json.loads(run("predict", *images[::6], "--run", out, "--json", "--picture", odd / "p.png"))
    assert [item["image"] for item in found] == list(map(str, images[::6])) and (odd / "p.png").stat().st_size
    run("figures", out, "--only", "neighbours")
    run("figures", out, out, "--out", odd / "both")
    run("export", out, odd / "w.safetensors")
    run("evaluate", odd / "w.safetensors", "--data", data)


def test_class_folders_are_trained_on_directly(run, tmp_path):
    source = odd_names.make(tmp_path / "odd")
    run("train", "shapes", "--data", source, "--out", tmp_path / "run", "--weak-signal", *SMALL)
    assert run_folder.load(tmp_path / "run").classes == odd_names.CLASSES


@pytest.mark.slow
def test_an_experiment_reports_on_them(run, tmp_path):
    source = odd_names.make(tmp_path / "odd \N{CJK UNIFIED IDEOGRAPH-732B}\n$x$")
    sizes = "--train-images", 20, "--test-images", 10, "--seeds", 2
    printed = run("experiment", "dropout", "--data", source, "--out", tmp_path / "out", *sizes, *SMALL)
    assert "result.png" in printed.splitlines()[-1]


def test_a_path_that_no_recipe_can_hold_is_refused_before_the_work(capsys, tmp_path):
    source = odd_names.make(tmp_path / os.fsdecode(b"caf\xe9"))
    assert cli.main(["train", "shapes", "--data", str(source), "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.endswith("is not valid; give a path in UTF-8: rename what is not\n")
    assert not (tmp_path / "run").exists()

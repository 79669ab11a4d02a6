"""Commands on a run whose data have moved: what needs no data works, and the rest names --data."""

import shutil

import numpy as np
import pytest
from PIL import Image

from tests.support.small_runs import stripes
from tinyalex.cli import main

NET = ["net.input=20", "net.maps=[4,4,4,4,4]", "net.kernels=[5,3,3,3,3]", "net.stride=1", "net.hidden=8"]


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """A run, the place where its data were, and the place where they are now."""
    root = tmp_path_factory.mktemp("moved")
    data = stripes(16, 8)
    for split in ("train", "test"):
        images = getattr(data, split)
        for number, image in enumerate(images.images):
            home = root / "old" / split / data.classes[images.labels[number]]
            home.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.asarray(image)).save(home / f"{number}.png")
    command = ["train", "shapes", "--data", str(root / "old"), "--out", str(root / "run"), "--epochs", "1"]
    assert main([*command, "--set", *NET, "learning.batch=8", "--threads", "1"]) == 0
    shutil.move(root / "old", root / "new")
    return root


def where(moved):
    return f"{moved}/old: the data that the run was trained on are no longer there"


def test_figures_draws_what_needs_no_images(moved, tmp_path, capsys):
    assert main(["figures", str(moved / "run"), "--out", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    missing = "panel, neighbours, codes, occlusion, saliency, patches, deconvolution"
    assert lines[0] == f"{where(moved)}: add --data to draw {missing}"
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["architecture.png", "curves.png", "kernels.png"]


def test_figures_draws_all_with_data(moved, tmp_path, capsys):
    names = ["--only", "kernels", "panel", "neighbours"]
    assert main(["figures", str(moved / "run"), "--out", str(tmp_path), "--data", str(moved / "new"), *names]) == 0
    assert sorted(path.stem for path in tmp_path.glob("*.png")) == ["kernels", "neighbours", "panel"]


def test_figures_says_nothing_of_data_that_it_does_not_need(moved, tmp_path, capsys):
    assert main(["figures", str(moved / "run"), "--out", str(tmp_path), "--only", "kernels"]) == 0
    assert "--data" not in capsys.readouterr().out


@pytest.mark.parametrize("command", [["figures", "--only", "panel"], ["evaluate"]], ids=lambda command: command[0])
def test_what_needs_images_names_the_option(moved, tmp_path, capsys, command):
    more = ["--out", str(tmp_path)] if command[0] == "figures" else []
    assert main([command[0], str(moved / "run"), *command[1:], *more]) == 3
    assert capsys.readouterr().err == (f"tinyalex: error: {where(moved)}; give their new place with --data\n")


def test_evaluate_with_the_new_place(moved, capsys):
    assert main(["evaluate", str(moved / "run"), "--data", str(moved / "new")]) == 0
    assert "test error" in capsys.readouterr().out


def test_a_long_name_of_a_class_is_cut_in_a_message(moved, tmp_path, capsys):
    """Labels of 100,000 characters, from a table, made a message as long as that."""
    shutil.copytree(moved / "new", tmp_path / "data")
    table = tmp_path / "long"
    table.mkdir()
    lines = ["file,label"]
    for number, path in enumerate(sorted((tmp_path / "data" / "test").rglob("*.png"))):
        shutil.copy(path, table / f"{number}.png")
        lines.append(f"{number}.png,{'ab'[number % 2] * 100_000}")
    (table / "labels.csv").write_text("\n".join(lines) + "\n")
    code = main(["evaluate", str(moved / "run"), "--data", str(table), "--test-share", "0.5"])
    message = capsys.readouterr().err
    assert code == 3 and message.count("\n") == 1 and len(message) < 500, message[:300]
    assert "'... (100,000 characters)" in message

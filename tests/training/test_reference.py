"""The lines of `train` on what to expect, and the line after each epoch beside a recorded run of the same recipe."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.small_runs import small, stripes
from tinyalex.recipes import recipe
from tinyalex.runs import run_folder
from tinyalex.runs.train import train
from tinyalex.training import reference

ROOT = Path(__file__).parents[2]
RUNS = {run.recipe: run for run in reference.RECORDED}
SHAPES = RUNS["shapes"]


@pytest.mark.parametrize("run", reference.RECORDED, ids=lambda run: run.recipe)
def test_the_recorded_runs_are_those_that_are_kept(run):
    folder = ROOT / "data" / "runs" / run.recipe
    tests = [record for record in run_folder.read_log(folder) if record["event"] == "test"]
    assert run.errors == tuple(record["top1_error"] for record in tests)
    assert {record["count"] for record in tests} == {run.tested}
    kept = recipe.load(folder / "recipe.toml")
    assert kept.net.classes == run.classes and tests[0]["step"] == -(-run.images // kept.learning.batch)
    assert reference.find(replace(kept, name=run.recipe), run.images, run.tested) == run


def test_a_changed_recipe_or_other_data_have_no_recorded_run():
    def find(*changes, images=9600, tested=1920, name="shapes"):
        return reference.find(recipe.load(name, ["net.classes=12", *changes]), images, tested)

    assert find() == find("net.convolution=im2col") == SHAPES
    assert find("learning.rate=0.02") is find("learning.epochs=9") is find("net.dropout=0.4") is None
    assert find(images=9599) is find(tested=1919) is find(name="cifar10-columns") is None


@pytest.mark.parametrize("run", reference.RECORDED, ids=lambda run: run.recipe)
def test_on_track_behind_and_stalled(run):
    chance, last = 1 - 1 / run.classes, len(run.errors)
    for number in range(1, last + 1):
        assert run.verdict(run.errors[:number]) == "on track"
        assert run.verdict([0.9 * error for error in run.errors[:number]]) == "on track"
        assert run.verdict([chance] * number) == "stalled"
    late = [chance, chance, *run.errors]  # the same errors two epochs later
    assert run.verdict(late[:4]) == "behind" and run.verdict(late[:3]) in ("behind", "stalled")
    middle = run.errors[1]  # no lower since the second epoch
    assert run.verdict([run.errors[0], *[middle] * (last - 1)]) == "stalled"
    for number in range(1, last + 1):  # another seed
        assert run.verdict([error + 0.015 for error in run.errors[:number]]) == "on track"


def test_the_lines_say_how_far_the_run_is():
    assert SHAPES.line([0.71]) == "epoch 1  the recorded run of shapes had 70.47%: on track"
    behind = SHAPES.line([0.9, 0.8, 0.5, 0.2])
    assert behind == "epoch 4  the recorded run of shapes had 0.52%: behind; it was as far after 2 epochs"
    stalled = SHAPES.line([0.92])
    assert "had 70.47%: stalled; none of its tests was so high; tinyalex experiment rate" in stalled
    assert SHAPES.expectation() == (
        "to expect: test error 70.47% after epoch 1, 0.47% after epoch 5, 0.26% after 8, as in the recorded run"
    )


def test_training_prints_a_line_after_each_epoch(tmp_path, monkeypatch):
    def lines(folder, errors):
        run = reference.Recorded("small", 2, 40, 20, errors)
        monkeypatch.setattr(reference, "find", lambda made, images, tested: run)
        shown = []
        train(small(epochs=2), stripes(), tmp_path / folder, show=shown.append)
        return [line for line in shown if "the recorded run" in line]

    ahead = lines("a", (0.99, 0.98))
    assert [line.rpartition(": ")[2] for line in ahead] == ["on track", "on track"]
    assert [line.split("  ")[0] for line in ahead] == ["epoch 1", "epoch 2"]
    none = []
    monkeypatch.setattr(reference, "find", lambda *_: None)
    train(small(epochs=1), stripes(), tmp_path / "b", show=none.append)
    assert none and not [line for line in none if "recorded" in line]


def test_what_is_expected_on_imagenet_has_its_sources():
    first, second = reference.expectations(recipe.load("original"), 1_281_167, 50_000)
    notes = (ROOT / "lessons" / "16_imagenet.py").read_text(encoding="utf-8")
    assert "40.66 % top-1 and 18.21 % top-5" in first and "40.6640" in notes
    assert first.endswith("no errors after epochs 1, 5 and 25 are recorded")
    benchmarks = (ROOT / "BENCHMARKS.md").read_text(encoding="utf-8")
    assert "Up to 9,412 images/s" in benchmarks and "| `paper` | 128 | 1,681.7 |" in benchmarks
    assert pytest.approx({"one H200": 9412, "two CPU cores": 128 / 1.6817}, abs=0.05) == reference.SPEEDS
    assert "3.4 hours on one H200" in second and "18 days on two CPU cores" in second  # 1,281,167 x 91 / speed
    assert "37.47 %" in reference.expectations(recipe.load("original-2010"), 1_261_406, 150_000)[0]
    assert reference.expectations(recipe.load("original", ["net.classes=20"]), 10_000, 1000) == []
    assert reference.expectations(recipe.load("original"), 10_000, 1000) == []
    assert reference.expectations(recipe.load("shapes", ["net.classes=12"]), 9600, 1920) == [SHAPES.expectation()]

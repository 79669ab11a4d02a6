"""Warnings before the first step: each comes when it should, from the command line, and not for the recorded runs."""

from pathlib import Path

import numpy as np
import pytest

from tests.support import prepared_sets
from tests.support.small_runs import quiet, small, stripes
from tinyalex.cli import main
from tinyalex.datasets import Dataset, ImageSet
from tinyalex.recipes import recipe
from tinyalex.runs.resume import ResumeOptions
from tinyalex.runs.train import train
from tinyalex.training import cautions

RECORDED = Path(__file__).parents[2] / "data" / "runs"
IMAGES = {"shapes": 9600, "cifar10-relu": 50_000, "tiny-imagenet": 50_000}  # training images of the recorded runs
SIDES = {"shapes": 64, "cifar10-relu": 32, "tiny-imagenet": 64}


def run(tmp_path, capsys, *settings, size=24, train=20, **changes):
    """The warnings of `tinyalex train` on a prepared set, with the small net."""
    (tmp_path / "small.toml").write_text(recipe.to_toml(small(*settings, epochs=1)))
    data = prepared_sets.make(tmp_path / "data", size=size, train=train, **changes)
    words = ["train", str(tmp_path / "small.toml"), "--data", str(data), "--out", str(tmp_path / "run")]
    assert main(words) == 0
    printed = capsys.readouterr()
    return [line for line in (printed.out + printed.err).splitlines() if "warning: " in line]


def only(lines, about):
    found = [line for line in lines if about in line]
    assert len(found) == 1, lines
    return found[0]


def test_few_steps(tmp_path, capsys):
    line = only(run(tmp_path, capsys), "steps in all")
    assert "only 2 steps in all, 1 epoch of 2; " in line and line.endswith("add --epochs 250")
    epochs = int(line.rpartition(" ")[2])
    assert cautions.steps(small(epochs=epochs), 20) is None
    assert cautions.steps(small(epochs=epochs - 1), 20) is not None
    larger = cautions.steps(recipe.load("shapes", ["learning.batch=1024"]), 9600)
    batch = int(larger.partition("learning.batch=")[2].split()[0])
    assert cautions.steps(recipe.load("shapes", [f"learning.batch={batch}"]), 9600) is None


def test_few_steps_are_enough_for_weights_of_another_run(tmp_path):
    train(small(epochs=1), stripes(), tmp_path / "a", show=quiet)
    lines = []
    train(
        small(epochs=1), stripes(), tmp_path / "b", show=lines.append, options=ResumeOptions(init_from=tmp_path / "a")
    )
    assert not [line for line in lines if "steps in all" in line]


def test_a_resumed_run_is_not_warned_again(tmp_path):
    lines = []
    for epochs in (1, 2):
        train(small(epochs=epochs), stripes(), tmp_path, show=lines.append, options=ResumeOptions(change=True))
    only(lines, "steps in all")


def test_small_crops(tmp_path, capsys):
    line = only(run(tmp_path, capsys, size=64, draw=prepared_sets.cheap_pictures), "crops of")
    assert "crops of 20 x 20 pixels show 10% of an image of 64 x 64" in line and line.endswith("OUT --size 23")
    assert cautions.crops(20, 23) is None and cautions.crops(224, 256) is None and cautions.crops(224, 768) is not None


def test_unequal_classes(tmp_path, capsys):
    def draw(split, count, size, classes):
        labels, images = prepared_sets.pictures(split, count, size, classes)
        return np.where(np.arange(count) < 2, labels, 0), images

    line = only(run(tmp_path, capsys, draw=draw, classes=2), "learns to answer")
    assert "19 training images of thing 0" in line and "1 of thing 1" in line
    assert cautions.classes(np.repeat([0, 1], [50, 10]), ["a", "b"]) is None
    assert cautions.classes(np.repeat([0, 1], [51, 10]), ["a", "b"]) is not None
    assert cautions.classes(np.zeros(9, np.int64), ["a", "b"]).endswith("add images of b")
    for word in cautions.classes(np.repeat([0, 1], [51, 10]), ["a", "b"]).split():
        if "=" in word:
            recipe.load("shapes", [word])  # the switch exists


def test_grey_images_with_colour_noise(tmp_path, capsys):
    def draw(split, count, size, classes):
        labels, images = prepared_sets.pictures(split, count, size, classes)
        return labels, np.repeat(images[..., :1], 3, axis=3)

    line = only(run(tmp_path, capsys, "data.colour=2012", draw=draw), "grey")
    assert line.endswith("--set data.colour=none")


@pytest.mark.parametrize("setting", ["data.colour=none", "data.colour_noise=0"])
def test_grey_images_without_colour_noise(setting):
    grey = ImageSet(np.full((4, 8, 8, 3), 100, np.uint8), np.zeros(4, np.int64))
    assert cautions.grey(recipe.load("modern"), grey) is not None
    assert cautions.grey(recipe.load("modern", [setting]), grey) is None


def test_one_coloured_image_is_enough():
    images = np.full((200, 8, 8, 3), 100, np.uint8)
    images[:, :, :, 0] += (5 * (np.arange(200) % 2)).astype(np.uint8)[:, None, None]
    assert cautions.grey(recipe.load("modern"), ImageSet(images, np.zeros(200, np.int64))) is None


@pytest.mark.parametrize("name", IMAGES)
def test_no_warning_for_the_recorded_runs(name):
    made = recipe.load(RECORDED / name / "recipe.toml")
    labels = np.arange(IMAGES[name]) % made.net.classes
    rng = np.random.default_rng(0)

    class Images:
        size = SIDES[name]

        def __len__(self):
            return len(labels)

        def read(self, indices):
            return rng.integers(0, 256, (len(indices), self.size, self.size, 3), dtype=np.uint8)

    images = Images()
    images.labels = labels
    dataset = Dataset("recorded", [str(number) for number in range(made.net.classes)], images, images)
    assert list(cautions.before_training(made, dataset)) == []


@pytest.mark.parametrize("name, side, images", [
    ("cifar10-11pct", 32, 50_000), ("cifar10-13pct", 32, 50_000), ("cifar10-columns", 32, 50_000),
    ("cifar10-relu", 32, 50_000), ("cifar10-tanh", 32, 50_000), ("modern", 256, 10_000), ("one-gpu", 256, 1_261_406),
    ("original", 256, 1_281_167), ("original-2010", 256, 1_261_406), ("paper", 256, 1_281_167), ("shapes", 64, 9600),
    ("six-conv", 256, 15_000_000), ("tiny-imagenet", 64, 50_000),
])  # fmt: skip
def test_no_warning_for_the_recipes_on_the_data_they_are_for(name, side, images):
    made = recipe.load(name)
    assert cautions.crops(made.net.input, side) is None and cautions.steps(made, images) is None

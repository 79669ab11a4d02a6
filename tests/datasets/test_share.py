"""A share of every class to test on (``--test-share``), for images in class folders without a test split."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.support import prepared_sets
from tinyalex import datasets
from tinyalex.cli import main
from tinyalex.datasets.index import sources
from tinyalex.errors import UsageError
from tinyalex.recipes import recipe


@pytest.fixture
def path(tmp_path):
    """A folder with three images of three classes each."""
    return draw(tmp_path / "set", "")


def draw(root, *splits):
    rng = np.random.default_rng(1)
    for split in splits:
        for name in ("ant", "cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for k in range(3):
                Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8)).save(root / split / name / f"{k}.png")
    return root


def test_a_share_of_every_class_to_test_on_is_that_of_a_prepared_set(path, tmp_path):
    lines = []
    found = [datasets.load(path, seed, test_share=0.34, show=lines.append) for seed in (0, 1)]
    wanted = sources.index([path], tmp_path / "scratch", print, test_share=0.34)
    assert lines == 2 * ["test images: 3 of 9, a share of 0.34 drawn from every class"]
    for dataset in found:  # whatever the seed, so that nets with several seeds have the same test images
        for split, images in (("train", dataset.train), ("test", dataset.test)):
            entries = wanted.splits[split]
            assert images.labels.tolist() == [entry.label for entry in entries]
            np.testing.assert_array_equal(images.images, [np.array(Image.open(entry.file)) for entry in entries])


@pytest.mark.parametrize("share, message", [
    (0.3, "--test-share 0.3: there are 9 test images already; leave the option out"),
    (1.0, "--test-share 1: there are 9 test images already; leave the option out"),
    (1.1, "--test-share 1.1: give a number from 0 to 1"),
    (-0.1, "--test-share -0.1: give a number from 0 to 1"),
    (float("nan"), "--test-share nan: give a number from 0 to 1"),
])  # fmt: skip
def test_a_share_to_test_on_that_cannot_be_used(tmp_path, share, message):
    path = draw(tmp_path / "set", "train", "test")
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        datasets.load(path, test_share=share)


@pytest.mark.parametrize("kind", ["shapes", "a prepared set"])
def test_a_share_to_test_on_is_for_image_files_only(kind, tmp_path):
    where = "shapes" if kind == "shapes" else prepared_sets.make(tmp_path / "set")
    with pytest.raises(UsageError, match="^--test-share 0.1: .* is a finished set; leave the option out, or "):
        datasets.load(where, test_share=0.1)


RECIPE = """
[net]
input = 20
maps = [4, 4, 4, 4, 4]
kernels = [5, 3, 3, 3, 3]
stride = 1
hidden = 8
classes = 0
[learning]
batch = 4
epochs = 1
"""


def test_a_run_and_its_evaluation_use_the_same_share(path, tmp_path, capsys):
    """Also of a copy of the images in another folder; of other data with test images, these."""
    (tmp_path / "small.toml").write_text(RECIPE)
    out = tmp_path / "run"
    train = ["train", str(tmp_path / "small.toml"), "--data", str(path), "--out", str(out), "--weak-signal"]
    assert main([*train, "--no-prepare"]) == 3
    assert capsys.readouterr().err.endswith(
        f"{path}: has no test images; give a set that has a test split, or a share of every class to test on: "
        "--test-share 0.1 (of `tinyalex prepare` if the set is prepared)\n"
    )
    assert main([*train, "--test-share", "0.34"]) == 0
    assert "test images: 3 of 9, a share of 0.34 drawn from every class" in capsys.readouterr().out
    assert recipe.load(str(out / "recipe.toml")).data.test_share == 0.34
    copy = shutil.copytree(path, tmp_path / "copy")
    split = draw(tmp_path / "split", "train", "test")
    counts = {}
    for name, more in {
        "same": [], "named": ["--data", str(path)], "copy": ["--data", str(copy)], "split": ["--data", str(split)],
        "other share": ["--test-share", "0.67"],
    }.items():  # fmt: skip
        assert main(["evaluate", str(out), "--json", *more]) == 0
        result = json.loads(capsys.readouterr().out)
        counts[name] = result["count"], result["loss"]
    assert counts["same"] == counts["named"] == counts["copy"]
    assert [count for count, _ in counts.values()] == [3, 3, 3, 9, 6]

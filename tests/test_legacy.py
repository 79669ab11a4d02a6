"""Files that an earlier version wrote are read: checkpoints, runs, exports, prepared sets, recipes, experiments.

They lie in tests/legacy; its README.md says which version made them, and how.
"""

import contextlib
import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tinyalex import datasets
from tinyalex.cli import main
from tinyalex.network import alexnet
from tinyalex.recipes import recipe
from tinyalex.runs import checkpoint, finetune, run_folder
from tinyalex.training import loop

LEGACY = Path(__file__).parent / "legacy"
SET, RUN, FINISHED, WEIGHTS = (LEGACY / name for name in ("set", "run", "finished", "weights.safetensors"))
RECIPE = LEGACY / "recipes" / "legacy.toml"
EXPECTED = json.loads((LEGACY / "expected.json").read_text(encoding="utf-8"))
CLASSES = ["checks", "dots", "falling", "level", "rising", "upright"]
TOLERANCE = 1e-5  # relative: other processors and numbers of threads give other last bits


def pixels(split, label, number):
    """The drawn image of this number, uint8 (20, w, 3): a pattern for each class, with noise made of whole numbers."""
    y, x = np.mgrid[:20, : 26 if number % 3 == 1 else 20]
    patterns = [(x // 3 + y // 3) % 2, (x % 5 == 0) & (y % 5 == 0)]
    patterns += [where % 6 < 3 for where in (x - y, y, x + y, x)]
    seed = (number + 100 * (split == "test")) * 15_485_863 + label * 32_452_843
    noise = (x * 7_919 + y * 104_729 + seed) % 1_009 % 61
    grey = 110 * patterns[label].astype(np.int64) + noise
    return (grey[:, :, None] + [40, 20, 0] + 9 * ((number + label) % 5)).astype(np.uint8)


def draw(folder):
    """Write the pictures of which tests/legacy/set was prepared: no codec or library decides a byte of them.

    Eight training and three test images a class. Every third one is wider than high, the last of each class is grey,
    one file is empty, and one image comes twice.
    """
    for split, count in (("train", 8), ("test", 3)):
        for label, name in enumerate(CLASSES):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                image = pixels(split, label, number)
                kind, image = ("P5", image[:, :, 0]) if number == 7 else ("P6", image)
                head = f"{kind}\n{image.shape[1]} {image.shape[0]}\n255\n".encode()
                (folder / split / name / f"{number}.ppm").write_bytes(head + image.tobytes())
    (folder / "train" / "dots" / "empty.ppm").write_bytes(b"")
    shutil.copy(folder / "test" / "dots" / "0.ppm", folder / "test" / "dots" / "again.ppm")
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("legacy") / "pictures")


def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array)).hexdigest()


def output_of(capsys, *arguments):
    """What a command prints as JSON."""
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def assert_close(found, wanted):
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape, name
        assert np.abs(found[name] - array).max(initial=0) <= TOLERANCE * np.abs(array).max(initial=0), name


# A prepared set.


def test_a_prepared_set_holds_the_same_images():
    found = datasets.load(SET)
    assert found.identity == EXPECTED["set"]["identity"]
    assert list(found.classes) == list(found.words) == CLASSES
    for split, images in (("train", found.train), ("test", found.test)):
        wanted = EXPECTED["set"][split]
        assert images.labels.tolist() == wanted["labels"]
        read = images.read(np.arange(len(images)))
        assert read.shape == (len(wanted["labels"]), 20, 20, 3)
        assert digest(read) == wanted["pixels"]
    assert digest(found.mean.astype("<f4")) == EXPECTED["set"]["mean"]
    first = found.test.labels.tolist().index(0)
    assert any(np.array_equal(found.test.read([first])[0], pixels("test", 0, number)[:, :20]) for number in (0, 2))


@pytest.mark.parametrize("options", [[], ["--full"]], ids=["quickly", "in full"])
def test_a_prepared_set_is_verified(capsys, options):
    assert main(["verify", str(SET), *options]) == 0
    assert "WRONG" not in capsys.readouterr().out


def test_a_lost_shard_is_made_again_with_the_same_bytes(tmp_path, pictures):
    out = tmp_path / "set"
    shutil.copytree(SET, out)
    (out / "contact_sheet.png").touch()  # else it would be drawn, which takes a second
    (out / "train-00000.shard").unlink()
    assert main(["prepare", str(pictures), str(out), "--size", "20", "--workers", "1"]) == 0
    for name in ("train-00000.shard", "test-00000.shard", "manifest.json", "mean.f32"):
        assert (out / name).read_bytes() == (SET / name).read_bytes(), name


# A run, and its weights.


@pytest.mark.parametrize("what", EXPECTED["evaluate"])
def test_errors_are_the_recorded_ones(capsys, what):
    name, views = what.split(", ")
    found = output_of(capsys, "evaluate", LEGACY / name, "--data", SET, "--views", views.split()[0])
    for key, wanted in EXPECTED["evaluate"][what].items():
        assert found[key] == pytest.approx(wanted, rel=TOLERANCE), key


def test_a_run_goes_on_and_ends_where_it_did(capsys, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(RUN, out)
    assert main(["train", str(RECIPE), "--data", str(SET), "--out", str(out)]) == 0
    assert "resuming at step 62 of 72" in capsys.readouterr().out
    (before, _), (wanted, _) = (checkpoint.read(checkpoint.newest(folder)) for folder in (RUN, FINISHED))
    found, metadata = checkpoint.read(checkpoint.newest(out))
    assert metadata["step"] == 72 and len(metadata["errors"]) == 12
    assert all(np.isfinite(array).all() for array in found.values())
    assert_close(found, wanted)
    # From epoch 10.25 on the recipe freezes fc6, which neither decays nor coasts then; the others learn.
    still = {name for name in before if np.array_equal(found[name], before[name]) and name != "data/mean"}
    assert still == {name for name in before if "fc6" in name}
    assert (out / "curves.png").stat().st_size > 0

    log, then = run_folder.read_log(out), run_folder.read_log(RUN)
    tests = [each for each in log if each["event"] == "test"]
    assert [each["step"] for each in tests] == list(range(6, 73, 6))
    assert [each["top1_error"] for each in tests] == pytest.approx(metadata["errors"], rel=1e-6)
    assert [each for each in log if each["step"] <= 60] == [each for each in then if each["step"] <= 60]


def test_a_run_goes_on_only_with_its_own_recipe(capsys, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(RUN, out)
    arguments = ["train", str(RECIPE), "--data", str(SET), "--out", str(out)]
    assert main([*arguments, "--set", "learning.momentum=0.8"]) == 4
    assert "learning.momentum 0.9, now it is 0.8" in capsys.readouterr().err
    assert main([*arguments, "--seed", "1"]) == 4
    assert "seed 0, now it is 1" in capsys.readouterr().err


def test_an_export_holds_the_weights_of_its_run():
    found, (wanted, _) = checkpoint.read(WEIGHTS)[0], checkpoint.read(checkpoint.newest(FINISHED))
    assert found.keys() == {name for name in wanted if not name.startswith(("momentum/", "epoch/"))}
    assert all(np.array_equal(found[name], wanted[name]) for name in found)
    run = run_folder.load(WEIGHTS)
    assert run.classes == CLASSES and run.metadata["step"] == 72
    assert all(np.array_equal(view, wanted[name]) for name, view in run.network.state().items())


@pytest.mark.parametrize("source", [WEIGHTS, FINISHED], ids=["export", "run"])
def test_another_run_begins_with_its_weights(source):
    made = recipe.load(RECIPE)
    network = alexnet.build(made.net, made.init, seed=5)
    origin = finetune.start_from(network, source, CLASSES)
    wanted = checkpoint.read(WEIGHTS)[0]
    assert origin["step"] == 72 and not origin["anew"]
    assert all(np.array_equal(view, wanted[name]) for name, view in network.state().items())


def test_an_export_predicts_the_same(capsys, pictures):
    images = [pictures / "test" / name / "0.ppm" for name in CLASSES]
    found = output_of(capsys, "predict", *images, "--run", WEIGHTS)
    for each, wanted in zip(found, EXPECTED["predict"], strict=True):
        probabilities = {one["class"]: one["probability"] for one in each["classes"]}
        assert probabilities == pytest.approx(wanted, rel=TOLERANCE)
        assert list(probabilities) == list(wanted)


# Recipes.


@pytest.mark.parametrize("name", ["original", "cifar10-11pct"])
def test_a_recipe_that_a_run_kept_is_still_that_recipe(name):
    found = recipe.load(LEGACY / "recipes" / f"{name}.toml")
    wanted = recipe.load(name, ["net.convolution=im2col"])  # then the default
    if name == "original":  # then the rate of the biases fell once, which the authors' file does not say
        fallen = [replace(phase, bias_rate=0.002 if phase.epoch else 0.02) for phase in wanted.learning.phases]
        assert fallen != list(wanted.learning.phases)
        wanted = replace(wanted, learning=replace(wanted.learning, phases=tuple(fallen)))
    assert found == wanted
    assert recipe.parse(recipe.to_toml(found)) == found


def test_every_key_of_a_recipe_is_read():
    made, kept = recipe.load(RECIPE), recipe.load(RUN / "recipe.toml")
    assert (made.net, made.init, made.learning) == (kept.net, kept.init, kept.learning)
    assert recipe.parse(recipe.to_toml(made)) == made
    net, data, learning = made.net, made.data, made.learning
    assert (net.input, net.columns, net.maps, net.hidden, net.bottleneck) == (18, 2, (4, 8, 8, 8, 8), 16, 8)
    assert (net.norm, net.dropout, net.convolution, net.precision) == ("2012", 0.1, "im2col", "float32")
    assert (made.init.weights["fc8"], made.init.biases["conv2"]) == (0.1, 0.1)
    assert (data.flip, data.shared_crop, data.mean, data.scale, data.colour) == (False, 2, "centre", 0.017, "2012")
    assert (learning.batch, learning.epochs, learning.momentum, learning.schedule) == (8, 12, 0.9, "phases")
    assert [(each.epoch, each.rate, each.bias_rate) for each in learning.phases] == [
        (0.0, 0.02, None),
        (10.25, 0.01, 0.03),
    ]


def test_the_update_is_what_the_recipe_asks_for():
    # Weight decay of all layers and of single ones, rates of biases, multipliers of single layers' rates: whatever
    # their keys are called, the second phase of the recipe makes this of v and w.
    run = loop.Training(recipe.load(RECIPE), datasets.load(SET))
    run.step = 62
    with contextlib.closing(run.batches()) as batches:
        run.train_step(next(batches))  # from here on v is not 0
        w, v = tensors(run.network.tensors()), tensors(run.optimizer.tensors())
        run.train_step(next(batches))
    gradients, after = tensors(run.network.tensors("grad")), tensors(run.optimizer.tensors())
    moved = tensors(run.network.tensors())
    assert {name.split("/")[0].rstrip("ab") for name in w} == {
        *("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "bottleneck7", "fc8")
    }
    for name, weight in w.items():
        layer, kind = name.split("/")
        layer = layer.rstrip("ab")
        rate = {"W": 0.01, "b": 0.03}[kind] * {"conv1": 0.5, "fc6": 0.0}.get(layer, 1.0)
        decay = {"conv2": 0.004, "fc8": 0.0}.get(layer, 0.002) if kind == "W" else 0.0
        wanted = 0.9 * v[name] - rate * (decay * weight + gradients[name]) if rate else v[name]
        assert np.abs(after[name] - wanted).max() <= 1e-6 * np.abs(wanted).max(), name
        assert np.abs(moved[name] - weight - wanted * (rate > 0)).max() <= 1e-6 * np.abs(weight).max(), name


def tensors(views):
    return {name: np.array(view, np.float64) for name, _, view in views}


# An experiment.


def test_an_experiment_takes_the_kept_results(capsys, tmp_path):
    shutil.copytree(LEGACY / "experiments", tmp_path / "experiments")
    kept = tmp_path / "experiments" / "dropout" / "none-0" / "result.json"
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"top1_error": 0.625}))  # which no training gives
    arguments = ["experiment", "dropout", "--train-images", "48", "--test-images", "24", "--seeds", "2"]
    arguments += ["--epochs", "1", "--set", "net.maps=[4, 8, 8, 8, 8]", "--set", "net.hidden=16"]
    arguments += ["--out", str(tmp_path / "experiments")]
    assert main(arguments) == 2  # im2col was the default
    assert "net.convolution im2col, now it is auto" in capsys.readouterr().err
    assert main([*arguments, "--set", "net.convolution=im2col"]) == 0
    assert not list(tmp_path.rglob("checkpoint-*")), "it trained again"
    found = json.loads((kept.parent.parent / "result.json").read_text(encoding="utf-8"))
    assert found["arms"][1]["top1_error"] == [0.625, 0.9583333333333334]
    assert found["arms"][0]["top5_error"] == [0.5416666666666666, 0.625]

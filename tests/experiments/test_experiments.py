"""Experiments: the nets they train, the statistics of the errors, and that a stopped experiment is resumed."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from tinyalex import errors, randomness
from tinyalex.cli import main
from tinyalex.datasets import Dataset, ImageSet
from tinyalex.datasets.sample import centre, sample
from tinyalex.experiments import catalogue, race, report, trial
from tinyalex.experiments.compare import compare
from tinyalex.experiments.effect import effect
from tinyalex.experiments.experiment import experiment
from tinyalex.figures.race import crossing
from tinyalex.recipes import recipe
from tinyalex.runs import checkpoint, run_folder
from tinyalex.system import progress
from tinyalex.training import evaluation

SMALL = ["net.maps=[4, 4, 4, 4, 4]", "net.hidden=8", "net.classes=2", "learning.batch=16", "learning.epochs=2"]


def stripes(count, side=32, seed=0):
    labels = np.arange(count) % 2
    wave = 90 * np.sin(
        np.arange(side) * 1.3 + 6 * randomness.uniform(randomness.key(seed, "waves"), np.arange(count))[:, None]
    )
    images = np.where(labels[:, None, None] == 0, wave[:, None, :], wave[:, :, None])
    return ImageSet(np.repeat(128 + images[..., None], 3, axis=3).astype(np.uint8), labels)


@pytest.fixture(scope="module")
def striped():
    return Dataset("stripes", ["upright", "level"], stripes(48), stripes(20, seed=1))


def quiet(*_):
    pass


# Seeds.


@pytest.mark.parametrize("count", [2, 3, 5, 31])
def test_effect_has_the_interval_of_the_paired_t_test(count):
    reference, other = randomness.normal(randomness.key(count, "effect"), np.arange(2)[:, None], np.arange(count))
    found = effect(reference, other + 0.3)
    test = stats.ttest_rel(other + 0.3, reference).confidence_interval(0.95)
    assert (found.mean, found.half) == pytest.approx(((test.high + test.low) / 2, (test.high - test.low) / 2), rel=3e-4)
    assert found.deviation == pytest.approx(np.std(other - reference, ddof=1))


def test_effect_is_open_where_the_interval_contains_zero():
    assert effect([0.1, 0.2, 0.3], [0.2, 0.3, 0.41]).verdict == "higher"
    assert effect([0.2, 0.3, 0.41], [0.1, 0.2, 0.3]).verdict == "lower"
    assert effect([0.1, 0.2, 0.3], [0.4, 0.1, 0.35]).verdict == "open"
    assert effect([0.1], [0.9]).verdict == "open"
    assert math.isinf(effect([0.1], [0.9]).half)


# Samples.


def test_sample_balances_the_classes_and_averages_pixels():
    labels = np.array([0] * 30 + [1] * 10 + [2] * 6)
    pixels = randomness.bits(randomness.key(0, "pixels"), np.arange(46 * 64 * 64 * 3)).astype(np.uint8)
    whole = ImageSet(pixels.reshape(46, 64, 64, 3), labels)
    made = sample(Dataset("here/data", list("abc"), whole, whole), 15, 46, 28)
    assert np.bincount(made.train.labels).tolist() == [5, 5, 5]
    assert (len(made.test), made.test.size, made.name) == (46, 32, "data")
    blocks = whole.images[7].reshape(32, 2, 32, 2, 3).astype(float).mean(axis=(1, 3))
    assert np.abs(made.test.images[7] - blocks).max() <= 0.5
    assert (sample(Dataset("x", list("abc"), whole, whole), 46, 46, 33).test.images == whole.images).all()


def test_centre_cuts_the_crop_used_in_testing(striped):
    cut = centre(striped, 28)
    assert (cut.train.images == striped.train.images[:, 2:30, 2:30]).all() and cut.test.size == 28


# Comparisons.


def changed_keys(one, other):
    return {
        f"{part}.{key}": value
        for part in ("net", "data", "learning", "init")
        for key, value in vars(getattr(other, part)).items()
        if value != getattr(getattr(one, part), key)
    }


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("norm", {"net.norm": "none"}),
        ("overlap", {"net.pool": 2}),
        ("dropout", {"net.dropout": 0.0}),
        ("colour", {"data.colour": "none"}),
        ("crops", {"data.flip": False}),
        ("talk", {"net.talk": ()}),
        ("columns", {"net.columns": 1, "net.maps": (16, 32, 48, 48, 64)}),
        ("decay", {"learning.weight_decay": 0.0}),
        ("bias", {"init.biases": {"default": 0.0}}),
    ],
)
def test_the_nets_of_a_comparison_differ_only_in_the_compared_keys(name, changed):
    comparison, (reference, other) = catalogue.find(name, recipe.load("cifar10-columns"))
    given = {key: value for key, value in changed_keys(reference, other).items() if key != "data.colour_noise"}
    assert given == changed
    assert [arm.whole_images for arm in comparison.arms] == [True, name != "crops"]


@pytest.mark.parametrize(
    ("name", "points", "source"),
    [
        ("norm", (1.4, 1.2), "ILSVRC-2012, validation images"),
        ("overlap", (0.4, 0.3), "ILSVRC-2012, validation images"),
        ("columns", (1.7, 1.2), "ILSVRC-2010, test images"),
        ("talk", (None, None), "run 150 is 1.2 and 1.1 points worse without the exchange, with conv2 and fc6 widened"),
    ],
)
def test_the_papers_numbers_are_those_of_the_runs_in_the_authors_notes(name, points, source):
    comparison = catalogue.COMPARISONS[name]
    assert comparison.paper == points and source in comparison.source


def test_init_counts_the_seeds_with_which_a_net_starts_to_learn(striped, tmp_path, monkeypatch):
    made = recipe.load("cifar10-columns", [*SMALL, "learning.epochs=1"])
    comparison, recipes = catalogue.find("init", made)
    assert {key for each in recipes for key in changed_keys(made, each)} == {"init.weights", "init.biases"}
    weights = {arm.folder: each.init.weights for arm, each in zip(comparison.arms, recipes, strict=True)}
    biases = {arm.folder: each.init.biases for arm, each in zip(comparison.arms, recipes, strict=True)}
    published = recipe.load("original").init, recipe.load("paper").init
    assert (weights["2012"], biases["2012"]) == (published[0].weights, published[0].biases)
    assert (weights["text"], biases["text"]) == (published[1].weights, published[1].biases)
    assert weights["caffe"]["fc6"] == 0.005 and biases["caffe"]["conv2"] == 0.1 and not any(biases["he"].values())
    errors_of = {"2012-0": 0.1, "2012-1": 0.2, "text-0": 0.5, "text-1": 0.29, "caffe-0": 0.5, "caffe-1": 0.49}
    keys = ("top1_error", "top5_error", "train_error", "gap")
    monkeypatch.setattr(
        "tinyalex.experiments.compare.trial",
        lambda recipe, dataset, folder, *rest, **named: dict.fromkeys(keys, errors_of.get(folder.name, 0.0)),
    )
    result = experiment("init", made, striped, tmp_path, 2, ["cpu"], 1, quiet)
    # 48 images of two classes: guessing errs for 50 %, with a standard error of 7 %
    assert [arm["starts"] for arm in result["arms"]] == [[True, True], [False, False], [False, False], [True, True]]
    line = "starts to learn: the program of 2012 2 of 2, the paper's text 0 of 2, Caffe 0 of 2, He, biases of 0 2 of 2"
    assert line in report.text(result) and "these runs" not in report.text(result)


def test_a_net_that_does_not_learn_is_trained_to_the_end_by_init_alone(striped, tmp_path, monkeypatch):
    calls, real = [], trial.train

    def stalling(*arguments, options, **named):
        calls.append(options.weak_signal)
        if len(calls) % 2:
            raise errors.StalledError("loss: the level of guessing")
        return real(*arguments, options=options, **named)

    monkeypatch.setattr(trial, "train", stalling)
    made = recipe.load("cifar10-columns", [*SMALL, "learning.epochs=1"])
    found = trial.trial(made, striped, tmp_path / "a", ["cpu"], 0, quiet, weak_signal=True)
    assert calls == [True, True] and 0 <= found["train_error"] <= 1
    with pytest.raises(errors.StalledError):
        trial.trial(made, striped, tmp_path / "b", ["cpu"], 0, quiet)


def test_size_divides_the_training_images(striped, tmp_path):
    made = recipe.load("cifar10-columns", [*SMALL, "learning.epochs=1"])
    comparison, recipes = catalogue.find("size", made)
    assert all(changed_keys(made, each) == {} for each in recipes)
    result = compare(comparison, recipes, striped, tmp_path, 1, ["cpu"], quiet)
    steps = {arm.folder: checkpoint.newest(tmp_path / f"{arm.folder}-0").stem for arm in comparison.arms}
    assert {name: int(stem[-8:]) for name, stem in steps.items()} == {"all": 3, "half": 2, "quarter": 1, "eighth": 1}
    assert [arm["name"] for arm in result["arms"]] == ["all images", "half of them", "a quarter", "an eighth"]


def test_a_claim_about_the_training_error_is_judged_by_it(striped, tmp_path):
    made = recipe.load("cifar10-columns", [*SMALL, "learning.epochs=1"])
    result = experiment("decay", made, striped, tmp_path, 2, ["cpu"], 1, quiet)
    text = report.text(result)
    assert "the paper found a higher training error; these runs" in text and "  training error  " in text
    result["effects"][0]["train_error"]["verdict"] = "higher"
    assert "the paper found a higher training error; these runs show it too" in report.text(result)


def test_depth_leaves_out_one_convolution_at_a_time():
    made, comparison = recipe.load("cifar10-columns"), catalogue.COMPARISONS["depth"]
    left_out = [arm.net(made)["maps"] for arm in comparison.arms[1:]]
    assert left_out == [
        (32, 64, 0, 96, 64),
        (32, 64, 96, 0, 64),
        (32, 64, 96, 96, 0),
    ]  # a layer with 0 maps is left out
    assert comparison.arms[0].net(made) == {}


def test_comparisons_of_columns_need_two_columns():
    with pytest.raises(errors.UsageError, match="one column"):
        catalogue.find("talk", recipe.load("cifar10-columns", ["net.columns=1"]))


def test_a_stopped_comparison_is_resumed_without_repeating_finished_runs(striped, tmp_path, monkeypatch):
    comparison, arms = catalogue.find("crops", recipe.load("cifar10-columns", SMALL))
    trained, real = [], trial.train

    def recording_train(recipe, dataset, folder, *rest, **named):
        trained.append(folder.name)
        if len(trained) == 3:
            raise errors.Interrupted("stopped")
        return real(recipe, dataset, folder, *rest, **named)

    monkeypatch.setattr(trial, "train", recording_train)
    with pytest.raises(errors.Interrupted):
        compare(comparison, arms, striped, tmp_path, 2, ("cpu",), quiet)
    found = compare(comparison, arms, striped, tmp_path, 2, ("cpu",), quiet)
    assert trained == ["random-crops-0", "centre-alone-0", "random-crops-1", "random-crops-1", "centre-alone-1"]
    # The saved errors are those of the checkpoint on the test images.
    run = run_folder.load(tmp_path / "centre-alone-1")
    assert len(run.mean) == 28
    score = evaluation.evaluate(run.network, centre(striped, 28).test, run.mean, run.recipe)
    assert found["arms"][1]["top1_error"][1] == score.top1_error
    for measure in ("top1_error", "gap"):
        reference, other = (arm[measure] for arm in found["arms"])
        assert found["effects"][0][measure]["mean"] == pytest.approx(np.mean(np.subtract(other, reference)))


def made_up_result(difference, spread, paper=(1.4, 1.2)):
    first = [0.30, 0.31, 0.32, 0.33]
    second = [error + difference + sign * spread for error, sign in zip(first, (-1, 1, -1, 1), strict=True)]
    arms = [{"name": name} | {m: values for m in ("top1_error", "top5_error", "train_error", "gap")}
            for name, values in (("with", first), ("without", second))]  # fmt: skip
    found = effect(first, second)
    values = found._asdict() | {"verdict": found.verdict}
    effects = [{"name": "without"} | {m: values for m in ("top1_error", "top5_error", "train_error", "gap")}]
    about = {"title": "a thing", "section": "3.3", "paper": list(paper), "source": "there", "recipe": "r", "seeds": 4}
    return about | {"epochs": 9, "data": {"shown": "images"}, "arms": arms, "effects": effects}


@pytest.mark.parametrize(
    ("difference", "spread", "words"),
    [(0.02, 0.001, "show it too"), (0.01, 0.05, "do not show it"), (-0.02, 0.001, "show the opposite")],
)
def test_report_states_the_difference_and_the_verdict(difference, spread, words):
    text = report.text(made_up_result(difference, spread))
    assert words in text and "paper +1.4 points" in text
    assert f"{100 * difference:+.2f} points" in text
    assert sum(verdict in text for verdict in ("show it too", "do not show it", "show the opposite")) == 1


# The race.


@pytest.mark.parametrize(
    ("errors_", "expected"),
    [
        ([0.5, 0.3, 0.2], 2.5),
        ([0.5, 0.25], 2.0),
        ([0.2], 1.0),
        ([0.5, 0.4], None),
        ([], None),
        ([0.9, 0.1, 0.9], 1.8125),
    ],
)
def test_crossing_interpolates_linearly_between_epochs(errors_, expected):
    assert crossing(errors_, 0.25) == (expected if expected is None else pytest.approx(expected))


class FakeRunner:
    """A `race.Runner` without training: its error falls at a speed that depends only on the rate."""

    max_epochs = 40

    def __init__(self, rate, best, log):
        self.rate, self.best, self.log, self.done = rate, best, log, 0

    def error(self, epoch):
        return max(0.0, 0.9 - 0.08 * epoch / (1 + abs(math.log2(self.rate / self.best))))

    @property
    def errors(self):
        return [self.error(epoch) for epoch in range(1, self.done + 1)]

    @property
    def epochs_to_goal(self):
        return crossing(self.errors, race.GOAL)

    def run_until(self, epochs):
        while self.done < min(epochs, self.max_epochs) and self.epochs_to_goal is None:
            self.done += 1
            self.log.append(self.rate)
        errors = self.errors[:epochs]
        return crossing(errors, race.GOAL) or math.inf, errors[-1]


@pytest.mark.parametrize("best", [0.001, 0.008, 0.000125])
def test_search_finds_the_fastest_rate_from_either_side(best):
    log = []
    found = race.search(lambda rate: FakeRunner(rate, best, log), 0.001, 1, quiet)
    first = next(iter(found))
    assert first == pytest.approx(best) and found[first].epochs_to_goal is not None
    assert min(found) < best < max(found)  # a rate on either side was tried
    assert log.count(first) == found[first].done  # no epoch was trained twice


def test_race_trains_both_nets_and_reads_finished_runs(striped, tmp_path):
    made = recipe.load("cifar10-relu", ["net.maps=[4, 4, 4]", "net.classes=2", "learning.batch=8", "learning.epochs=6",
                                        "init.weights.default=he", "init.weights.conv1=0.01"])  # fmt: skip
    first = race.race(made, striped, tmp_path, 2, ("cpu",), 1, quiet)
    before = {path: path.read_bytes() for path in tmp_path.rglob("log.jsonl")}
    assert race.race(made, striped, tmp_path, 2, ("cpu",), 1, quiet) == first
    assert {path: path.read_bytes() for path in tmp_path.rglob("log.jsonl")} == before
    for arm in first["arms"]:
        folder = tmp_path / f"{arm['name']}-{arm['rate']:g}-0"
        assert recipe.load(folder / "recipe.toml").net.activation == arm["name"]
        logged = [record["top1_error"] for record in run_folder.read_log(folder) if record["event"] == "epoch"]
        assert arm["errors"][0] == logged
        assert arm["needed"] == [crossing(errors_, 0.25) for errors_ in arm["errors"]]
    relu, tanh = (arm["needed"] for arm in first["arms"])
    assert first["ratio"] == [b / a if a and b else None for a, b in zip(relu, tanh, strict=True)]


def test_a_rate_that_diverges_ranks_last(striped, tmp_path):
    made = recipe.load("cifar10-relu", ["net.classes=2", "learning.epochs=3", "learning.rate=1e30"])
    runner = race.Runner(made, striped, tmp_path / "run", ("cpu",), 0)
    assert runner.run_until(2) == (math.inf, math.inf) and runner.epochs_to_goal is None
    assert len(runner.errors) == 3


# The command.


def test_the_command_saves_results_and_refuses_another_recipe_in_the_same_folder(tmp_path, capsys):
    options = ["--train-images", "24", "--test-images", "12", "--seeds", "2", "--epochs", "1", "--threads", "1"]
    options += ["--out", str(tmp_path), "--set", "net.maps=[4,4,4,4,4]", "--set", "net.hidden=8"]
    assert main(["experiment", "norm", *options]) == 0
    text = capsys.readouterr().out
    assert (
        "the paper: ILSVRC-2012, validation images (runs 145 and 148" in text
        and "24 training and 12 test images of 32 x 32, 12 classes" in text
    )
    kept = json.loads((tmp_path / "norm" / "result.json").read_text())
    assert [len(arm["top1_error"]) for arm in kept["arms"]] == [2, 2]
    assert (tmp_path / "norm" / "result.png").read_bytes().startswith(b"\x89PNG")
    assert main(["experiment", "norm", *options, "--set", "net.hidden=16"]) == 2
    assert "the experiment here had net.hidden 8, now it is 16" in capsys.readouterr().err
    assert main(["experiment", "depth3", *options]) == 2


def test_crops_of_images_from_which_nothing_is_cropped_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["experiment", "crops", "--seeds", "1", "--epochs", "1", "--train-images", "12", "--test-images", "12"]
    assert main([*words, "--set", "net.input=32"]) == 2  # the drawn images are averaged down to 32 x 32
    error = capsys.readouterr().err
    assert "reads 32 x 32 pixels and the images have 32 x 32, so there is nothing to crop" in error
    assert "such as 28" in error and not (tmp_path / "experiments").exists()
    small_net = ["--set", "net.maps=[4,4,4,4,4]", "net.hidden=8"]
    assert main([*words, "--set", "net.input=28", *small_net]) == 0


def test_no_top_5_error_of_few_classes(tmp_path, monkeypatch, capsys):
    for module in ("compare", "report"):
        monkeypatch.setattr(f"tinyalex.experiments.{module}.shows_top5", lambda classes: False)
    words = ["experiment", "norm", "--train-images", "24", "--test-images", "12", "--seeds", "1", "--epochs", "1"]
    assert main([*words, "--out", str(tmp_path), "--set", "net.maps=[4,4,4,4,4]", "net.hidden=8"]) == 0
    printed = capsys.readouterr().out
    assert "seed 0  normalized" in printed and "top-5" not in printed


def test_an_experiment_says_after_each_net_how_long_the_others_take(tmp_path, monkeypatch, capsys):
    clock = iter(range(0, 10_000, 40))
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    words = [
        "experiment",
        "norm",
        "--train-images",
        "12",
        "--test-images",
        "12",
        "--epochs",
        "1",
        "--out",
        str(tmp_path),
    ]
    small_net = ["--set", "net.maps=[4,4,4,4,4]", "net.hidden=8"]
    assert main([*words, *small_net, "--seeds", "1"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("seed ")]
    assert "left" in lines[0] and "left" not in lines[1]
    assert main([*words, *small_net, "--seeds", "2"]) == 0  # the first two are not trained again
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("seed ")]
    assert ["left" in line for line in lines] == [False, False, True, False]

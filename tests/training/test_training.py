"""Training from outside: what it writes, that it learns, resumes with the same bits, and stops on request."""

import os
import signal
import types

import numpy as np
import pytest

from tests.support import small_runs
from tests.support.small_runs import final, quiet, same, small
from tinyalex.datasets import Dataset, ImageSet
from tinyalex.datasets.loading.batches import training_batches
from tinyalex.devices import parallel
from tinyalex.errors import BusyError, CheckpointError, DivergedError, Interrupted
from tinyalex.recipes import recipe
from tinyalex.runs import checkpoint, run_folder
from tinyalex.runs.train import train
from tinyalex.training import loop
from tinyalex.training.health import first_not_finite
from tinyalex.training.step_metrics import RunningMeans, StepMetrics


@pytest.fixture(scope="module")
def stripes():
    """Return a data set of upright and level stripes: 88 training and 40 test images of 24 x 24."""
    return small_runs.stripes()


@pytest.fixture(scope="module")
def whole(stripes, tmp_path_factory):
    """Return the folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    train(small(), stripes, folder, show=quiet)
    return folder


def test_run_ended_by_stop_condition_resumes_with_the_same_bits(stripes, whole, tmp_path):
    for wanted in (1, 1, 3):
        train(
            small(),
            stripes,
            tmp_path / "parts",
            show=quiet,
            stop_condition=lambda run, wanted=wanted: run.epoch >= wanted,
        )
        assert len(checkpoint.read(checkpoint.newest(tmp_path / "parts"))[1]["errors"]) == wanted
    assert same(final(whole), final(tmp_path / "parts"))


def test_training_learns_and_writes_a_run_folder(stripes, tmp_path):
    lines = []
    result = train(small(epochs=6), stripes, tmp_path / "run", show=lines.append)
    assert result.count == 40 and result.top1_error <= 0.05, result
    records = run_folder.read_log(tmp_path / "run")
    tests = [r for r in records if r["event"] == "test"]
    assert [r["epoch"] for r in tests] == [1, 2, 3, 4, 5, 6]
    assert tests[-1]["top1_error"] == result.top1_error and "top5_error" not in tests[-1]
    epochs = [r for r in records if r["event"] == "epoch"]
    assert [r["step"] for r in epochs] == [6, 12, 18, 24, 30, 36]  # 88 images are six batches
    assert epochs[0]["loss"] > epochs[-1]["loss"] > 0
    assert all(0 <= r["top1_error"] <= 1 for r in records)
    assert recipe.load(tmp_path / "run" / "recipe.toml") == recipe.with_classes(small(epochs=6), 2)
    assert any("test error" in line for line in lines)
    run = run_folder.load(tmp_path / "run")
    assert run.classes == ["upright", "level"] and run.metadata["step"] == 36


def test_shuffled_labels_do_not_generalize(stripes, tmp_path):
    labels = np.random.default_rng(1).permutation(stripes.train.labels)
    nonsense = Dataset("nonsense", stripes.classes, ImageSet(stripes.train.images, labels), stripes.test)
    assert train(small(epochs=6), nonsense, tmp_path, show=quiet).top1_error > 0.2


@pytest.mark.parametrize("devices", [["cpu"], ["cpu", "cpu"], ["fake:0", "fake:1"]], ids=" ".join)
def test_the_same_run_twice_has_the_same_bits(stripes, tmp_path, devices):
    for name in "ab":
        train(small(epochs=1), stripes, tmp_path / name, devices, show=quiet)
    assert same(final(tmp_path / "a"), final(tmp_path / "b"))
    train(small(epochs=1), stripes, tmp_path / "c", devices, seed=1, show=quiet)
    assert not same(final(tmp_path / "a"), final(tmp_path / "c"))


class Pressed:
    """Sends this process a signal after a number of steps."""

    def __init__(self, monkeypatch, number, after):
        train_step = loop.Training.train_step

        def counted(run, batch):
            result = train_step(run, batch)
            if run.step == after:
                os.kill(os.getpid(), number)
            return result

        monkeypatch.setattr(loop.Training, "train_step", counted)


@pytest.mark.parametrize("after", [1, 5, 6, 7, 11, 12, 17, 18])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_at_any_step_it_resumes_with_the_same_bits(stripes, whole, tmp_path, monkeypatch, number, after):
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        Pressed(patch, number, after)
        with pytest.raises(
            Interrupted, match=f"stopped at step {after}, saved in .*; the same command resumes the run"
        ):
            train(small(), stripes, tmp_path / "cut", show=quiet)
    assert signal.getsignal(number) is before
    lines = []
    train(small(), stripes, tmp_path / "cut", show=lines.append)
    assert lines[0] == f"resuming at step {after} of 18"
    assert same(final(whole), final(tmp_path / "cut"))
    for event in ("test", "epoch"):
        logs = [[r for r in run_folder.read_log(folder) if r["event"] == event] for folder in (whole, tmp_path / "cut")]
        assert [r["step"] for r in logs[0]] == [r["step"] for r in logs[1]]
    assert logs[0][-1]["epoch"] == 3


def test_log_survives_a_kill_while_later_records_are_removed(stripes, tmp_path, monkeypatch):
    train(small(epochs=1), stripes, tmp_path, show=quiet)
    before = (tmp_path / "log.jsonl").read_text()

    def killed(*_):
        raise SystemExit

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(SystemExit):
        run_folder.Log(tmp_path, 18, done=3, show=quiet)
    assert (tmp_path / "log.jsonl").read_text() == before
    monkeypatch.undo()
    run_folder.Log(tmp_path, 18, done=3, show=quiet).close()
    assert [r["step"] for r in run_folder.read_log(tmp_path)] == [1, 2, 3]


def test_a_finished_run_stays_as_it_is(stripes, tmp_path):
    first = train(small(epochs=1), stripes, tmp_path, show=quiet)
    tensors = final(tmp_path)
    assert train(small(epochs=1), stripes, tmp_path, show=quiet) == first
    assert same(tensors, final(tmp_path))


def test_another_recipe_seed_or_data_set_is_refused(stripes, tmp_path):
    train(small(epochs=1), stripes, tmp_path, show=quiet)
    with pytest.raises(CheckpointError, match=r"had learning.momentum 0.9, now it is 0.5; add --change to resume"):
        train(small(epochs=1, momentum=0.5), stripes, tmp_path, show=quiet)
    with pytest.raises(CheckpointError, match="had seed 0, now it is 3"):
        train(small(epochs=1), stripes, tmp_path, seed=3, show=quiet)
    other = Dataset("stripes", stripes.classes, stripes.test, stripes.train)
    with pytest.raises(CheckpointError, match="had data set"):
        train(small(epochs=1), other, tmp_path, show=quiet)


def test_damaged_checkpoint_is_skipped_with_a_warning(stripes, tmp_path):
    train(small(epochs=2), stripes, tmp_path, show=quiet)
    whole = final(tmp_path)
    newest = checkpoint.newest(tmp_path)
    newest.write_bytes(newest.read_bytes()[:-1])
    lines = []
    train(small(epochs=2), stripes, tmp_path, show=lines.append)
    assert lines[0].startswith("warning: ") and newest.name in lines[0]
    assert lines[1] == "resuming at step 6 of 12"
    assert same(whole, final(tmp_path))


def test_second_process_is_refused(stripes, tmp_path):
    with run_folder.hold(tmp_path), pytest.raises(BusyError, match="another process is training here"):
        train(small(), stripes, tmp_path, show=quiet)
    assert not (tmp_path / "log.jsonl").exists()


def test_nan_stops_training_before_the_update(stripes, tmp_path):
    with pytest.raises(DivergedError, match=r"numbers are no longer finite at step \d+ \(rate"):
        train(small(rate=1e9, epochs=2), stripes, tmp_path, show=quiet)
    run = loop.Training(small(), stripes)
    batch = next(training_batches(stripes, run.recipe, 0, 0))
    weights = run.network.state()["conv4b/W"]
    weights[0, 0, 0, 0] = np.nan
    before = {name: np.array(value) for name, value in run.network.state().items()}
    with pytest.raises(DivergedError, match="^conv4a conv4b: "):
        run.train_step(batch)
    assert all(np.array_equal(before[name], value, equal_nan=True) for name, value in run.network.state().items())


def test_first_layer_that_is_not_finite_is_named(stripes):
    run = loop.Training(small(), stripes, ["cpu", "cpu"])
    batch = next(training_batches(stripes, run.recipe, 0, 0))
    assert first_not_finite(run.network, batch.images) is None
    run.network.state()["fc6b/b"][0] = np.inf
    assert first_not_finite(run.network, batch.images) == "fc6b"
    batch.images[3] = np.nan
    assert first_not_finite(run.network, batch.images) == "conv1a"


def test_plateau_schedule_ends_training_after_its_last_drop(stripes, tmp_path):
    # With so small a rate no test error improves: training ends after patience x (drops + 1) such epochs.
    made = small(epochs=30, rate=1e-12, schedule="plateau", patience=2, drops=1)
    train(made, stripes, tmp_path, show=quiet)
    tests = [r for r in run_folder.read_log(tmp_path) if r["event"] == "test"]
    assert len(tests) == 5  # the first is the best, then two without progress at each of two rates
    rates = [r["rate"] for r in run_folder.read_log(tmp_path) if r["event"] == "epoch"]
    assert rates[0] > rates[-1]


def test_nothing_new_is_allocated_after_the_first_steps(stripes, monkeypatch):
    # One worker: with two, a later step may need a little more, if they overlap more.
    monkeypatch.setattr(parallel, "_workers", parallel.Workers(1))
    run = loop.Training(small(), stripes)
    batches = list(training_batches(stripes, run.recipe, 0, 0))
    for batch in batches[:2]:
        run.train_step(batch)
    held = run.network.devices[0]._arena.allocated
    for batch in batches[2:5]:
        run.train_step(batch)
    assert run.network.devices[0]._arena.allocated == held > 0


@pytest.mark.parametrize("done", [0, 7, 41])
def test_running_means_are_those_of_the_latest_steps(done):
    """Over a twentieth of an epoch, or the steps done so far; a run resumed within an epoch counts those before."""
    figures, images = np.random.default_rng(1).normal(size=(85, 2)), np.array([16] * 84 + [3])
    learning, train = types.SimpleNamespace(batch=16), range(84 * 16 + 3)  # the last batch has three images
    run = types.SimpleNamespace(steps_per_epoch=85, epoch_metrics=[], dataset=types.SimpleNamespace(train=train))
    run.recipe = types.SimpleNamespace(learning=learning)
    steps = [StepMetrics.known(*pair) for pair in figures]
    for number, metrics in enumerate(steps, 1):
        metrics.set_position(number, 0.0, 0.1, number)
    run.epoch_metrics = steps[:done]
    means = RunningMeans(run)
    assert means.window == 4
    for number, metrics in enumerate(steps[done:], done + 1):
        part = slice(max(0, number - 4), number)
        expected = (figures[part] * images[part, None]).sum(axis=0) / images[part].sum()
        np.testing.assert_allclose(means.add(metrics), expected, rtol=1e-12)
    expected = (figures * images[:, None]).sum(axis=0) / len(train)
    np.testing.assert_allclose(means.add(metrics, 85), expected, rtol=1e-12)

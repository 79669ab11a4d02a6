"""Checks during training: numbers that are not finite, losses that do not fall, dead ReLU units."""

import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.support.small_runs import after, final, quiet, same, small, stripes, timeless
from tinyalex import layers
from tinyalex.datasets import Dataset, ImageSet
from tinyalex.errors import DivergedError, Interrupted, StalledError
from tinyalex.randomness import Step
from tinyalex.recipes import recipe
from tinyalex.runs import checkpoint, resume, run_folder
from tinyalex.runs.resume import ResumeOptions
from tinyalex.runs.train import train
from tinyalex.training import health, loop
from tinyalex.training.step_metrics import StepMetrics


@pytest.fixture(scope="module")
def data():
    return stripes()


@pytest.fixture
def async_metrics(monkeypatch):
    """Make every run use async metrics, as on a GPU."""
    begin = loop.Training.__init__

    def made(run, *arguments, **keywords):
        begin(run, *arguments, **keywords)
        run.async_metrics = True

    monkeypatch.setattr(loop.Training, "__init__", made)


def spoil(monkeypatch, layer, when, value=np.nan):
    """Put a NaN into a layer's bias gradient, once, at a given step."""
    backward = layers.Linear.backward
    monkeypatch.setattr(loop.Training, "now", None, raising=False)
    train_step = loop.Training.train_step

    def noted(run, *arguments, **keywords):
        loop.Training.now = run.step
        return train_step(run, *arguments, **keywords)

    def broken(self, dy):
        dx = backward(self, dy)
        if self.names[0] == layer and loop.Training.now == when:
            self.b.grad[0] = value
        return dx

    monkeypatch.setattr(loop.Training, "train_step", noted)
    monkeypatch.setattr(layers.Linear, "backward", broken)


# Async metrics.


@pytest.mark.parametrize("devices", [["cpu"], ["fake:0", "fake:1"]], ids=" ".join)
def test_async_metrics_change_neither_bits_nor_figures(data, tmp_path, monkeypatch, devices):
    train(small(epochs=1), data, tmp_path / "at once", devices, show=quiet)
    begin = loop.Training.__init__
    monkeypatch.setattr(
        loop.Training, "__init__", lambda run, *a, **k: (begin(run, *a, **k), setattr(run, "async_metrics", True))[0]
    )
    train(small(epochs=1), data, tmp_path / "late", devices, show=quiet)
    assert same(final(tmp_path / "at once"), final(tmp_path / "late"))
    assert timeless(tmp_path / "at once") == timeless(tmp_path / "late")


def test_async_metrics_are_read_after_the_next_step_is_launched(data, tmp_path, monkeypatch, async_metrics):
    events, get, train_step = [], StepMetrics.read, loop.Training.train_step

    def read(metrics):
        if metrics._values is None:
            events.append(("read", metrics.step))
        return get(metrics)

    monkeypatch.setattr(StepMetrics, "read", read)
    monkeypatch.setattr(
        loop.Training,
        "train_step",
        lambda run, batch: (events.append(("step", run.step + 1)), train_step(run, batch))[1],
    )
    train(small(epochs=1), data, tmp_path, show=quiet)
    wanted = [("step", 1)]
    for step in range(2, 7):
        wanted += [("step", step), ("read", step - 1)]
    assert events == [*wanted, ("read", 6)]


@pytest.mark.parametrize("step", [1, 4, 6, 7])
def test_stopped_while_a_step_is_unread(data, tmp_path, monkeypatch, async_metrics, step):
    train(small(epochs=2), data, tmp_path / "whole", show=quiet)
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        after(patch, step, lambda run: os.kill(os.getpid(), signal.SIGTERM))
        train(small(epochs=2), data, tmp_path / "cut", show=quiet)
    assert checkpoint.inspect(checkpoint.newest(tmp_path / "cut"))["step"] == step
    train(small(epochs=2), data, tmp_path / "cut", show=quiet)
    assert same(final(tmp_path / "whole"), final(tmp_path / "cut"))
    assert timeless(tmp_path / "whole") == timeless(tmp_path / "cut")


# Numbers that are not finite.


@pytest.mark.parametrize("planted, step", [("fc7a", 8), ("fc6a", 6), ("fc8", 7)])
@pytest.mark.parametrize("form", ["synchronous", "async"])
def test_t4_gradient_that_is_not_finite_is_found_by_replay(data, tmp_path, monkeypatch, request, planted, step, form):
    if form == "async":
        request.getfixturevalue("async_metrics")
    train(small(epochs=1), data, tmp_path, show=quiet)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("checkpoint*")}
    spoil(monkeypatch, planted, step)
    lines = []
    with pytest.raises(DivergedError) as raised:
        train(small(epochs=2), data, tmp_path, show=lines.append, options=ResumeOptions(change=True))
    text = str(raised.value)
    assert text.startswith(f"gradient of {planted}/b: numbers are no longer finite at step {step} (rate 0.0")
    images = [str(index) for index in _batch(data, step).indices[:4]]
    assert f"images {', '.join(images)}, ...)" in text and "smaller learning.rate" in text
    seen = step + (1 if form == "synchronous" else 3)  # updates made when it is noticed: in the next step, or one later
    assert f"numbers are no longer finite: repeating steps 6 to {seen} with all checks on" in lines
    assert {path.name: path.read_bytes() for path in tmp_path.glob("checkpoint*")} == before
    assert run_folder.read_log(tmp_path)[-1]["event"] == "diverged"


def _batch(data, step):
    run = loop.Training(small(), data)
    run.step = step
    return run_folder.next_batch(run)


def test_t4_without_a_checkpoint_the_replay_starts_at_step_0(data, tmp_path, monkeypatch, async_metrics):
    spoil(monkeypatch, "fc7a", 2)
    with pytest.raises(DivergedError, match="^gradient of fc7a/b: numbers are no longer finite at step 2 "):
        train(small(), data, tmp_path, show=quiet)
    assert not list(tmp_path.glob("checkpoint*"))


def test_nan_that_replay_does_not_reproduce_is_a_machine_fault(data, tmp_path, monkeypatch):
    after(monkeypatch, 3, lambda run: run.__dict__.setdefault("hit", _hit(run)))
    with pytest.raises(
        DivergedError, match="a fault of the machine, not of the settings; the same command resumes the run"
    ):
        train(small(), data, tmp_path, show=quiet)


def _hit(run):
    run.network.state()["conv3a/W"][0, 0, 0, 0] = np.nan
    return True


def test_t2_loss_that_is_not_finite_names_layer_and_images(data, tmp_path, async_metrics):
    with pytest.raises(
        DivergedError, match=r"^\S.*: numbers are no longer finite at step \d+ \(rate 9.9\d+e\+08, images \d+, "
    ):
        train(small(rate=1e9), data, tmp_path, show=quiet)
    for path in tmp_path.glob("checkpoint*"):
        assert all(np.isfinite(tensor).all() for tensor in checkpoint.read(path)[0].values())


def test_no_checkpoint_is_written_with_numbers_that_are_not_finite(data, tmp_path):
    run = loop.Training(small(), data)
    run.optimizer.load({name: np.full(view.shape, np.inf, np.float32) for name, _, view in run.optimizer.tensors()})
    with pytest.raises(DivergedError, match=r"^momentum/conv1a/W\[0, 0, 0, 0\]: no longer finite at step 0; not saved"):
        run_folder.save(run, tmp_path)
    assert not list(tmp_path.iterdir())


# A loss that stays at the level of guessing.


def monitor(lines, classes=10, batch=256, seen=0, losses=()):
    return health.TrainingMonitor(classes, batch, lines.append, seen, losses)


def test_t1_stalled_loss_warns_and_then_ends_the_run():
    lines = []
    the_monitor = monitor(lines)
    for _ in range(1999):
        the_monitor.loss(math.log(10) - 0.04, 256)
    assert lines == []
    the_monitor.loss(math.log(10) - 0.04, 256)
    assert len(lines) == 1 and lines[0].startswith(
        "warning: loss: 2.263 after 512,000 images, the level of guessing (2.303)"
    )
    for _ in range(7999):
        the_monitor.loss(math.log(10), 256)
    assert len(lines) == 1
    with pytest.raises(
        StalledError, match="after 2,560,000 images, .*init.biases.*to continue all the same, repeat the command"
    ):
        the_monitor.loss(math.log(10), 256)
    the_monitor.loss(math.log(10), 256)  # the error is raised only once


def test_t1_falling_loss_gives_no_warning():
    lines = []
    the_monitor = monitor(lines, seen=health.STALL_WARNING - 300 * 256)
    for step in range(400):
        the_monitor.loss(math.log(10) * (1 if step < 150 else 0.9), 256)
    assert lines == []


def test_t1_stalled_run_is_saved_before_it_ends(data, tmp_path, monkeypatch):
    monkeypatch.setattr(health, "STALL_END", 50)
    monkeypatch.setattr(health, "STALL_WARNING", 20)
    dull = small("init.weights={default=0.0}", rate=1e-9)
    lines, options = [], ResumeOptions(weak_signal=True)
    with pytest.raises(StalledError, match="0.693"):
        train(dull, data, tmp_path, show=lines.append, options=options)
    assert any(line.startswith("warning: loss: 0.693") for line in lines)
    assert checkpoint.inspect(checkpoint.newest(tmp_path))["step"] == 4  # 64 images
    train(dull, data, tmp_path, show=quiet, options=options)


def test_t1_resumed_run_counts_earlier_images_and_losses(data, tmp_path, monkeypatch):
    """A limit is reported once, and the mean loss also counts steps before the interruption."""
    monkeypatch.setattr(health, "STALL_WARNING", 104)  # images: an epoch of 88 and a batch of 16
    monkeypatch.setattr(health, "STALL_END", 104 + 16)
    resumed_with, begin = [], health.TrainingMonitor.__init__
    monkeypatch.setattr(
        health.TrainingMonitor, "__init__", lambda *given: (resumed_with.append(given[4:]), begin(*given))[1]
    )
    dull = small("init.weights={default=0.0}", rate=1e-9)
    lines, options = [], ResumeOptions(weak_signal=True)
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        after(patch, 7, lambda run: os.kill(os.getpid(), signal.SIGTERM))
        train(dull, data, tmp_path, show=lines.append, options=options)
    with pytest.raises(StalledError):
        train(dull, data, tmp_path, show=lines.append, options=options)
    train(dull, data, tmp_path, show=lines.append, options=options)
    assert sum(line.startswith("warning: loss: ") for line in lines) == 1
    assert [(seen, len(losses)) for seen, losses in resumed_with] == [(0, 0), (104, 1), (120, 2)]
    warnings = []
    monitor(warnings, seen=health.STALL_WARNING - 1, losses=[math.log(10) - 1] * 50).loss(math.log(10), 1)
    assert warnings == []  # the mean of all 51 has fallen


def test_t1_run_that_stalls_at_the_end_of_an_epoch_logs_that_epoch(data, tmp_path, monkeypatch):
    monkeypatch.setattr(health, "STALL_END", 2 * 88)
    dull, options = small("init.weights={default=0.0}", rate=1e-9), ResumeOptions(weak_signal=True)
    with pytest.raises(StalledError):
        train(dull, data, tmp_path, show=quiet, options=options)
    train(dull, data, tmp_path, show=quiet, options=options)
    events = [
        (each["event"], each["step"]) for each in run_folder.read_log(tmp_path) if each["event"] in ("epoch", "test")
    ]
    assert events == [(event, step) for step in (6, 12, 18) for event in ("epoch", "test")]


# The signal, and dead ReLU units.


def test_signal_measures_what_depends_on_the_image(data):
    run = loop.Training(small(), data)
    images = run_folder.next_batch(run).images
    assert health.signal(run.network, images) > 0.1
    assert health.signal(run.network, np.repeat(images[:1], 8, axis=0)) < 1e-6
    run.network.load({name: np.zeros(view.shape, np.float32) for name, _, view in run.network.tensors()})
    assert health.signal(run.network, images) == 0


def test_t1_weak_signal_is_refused_without_the_option(data, tmp_path):
    weak = small("init.weights={default=0.0001}", "init.biases={default=1.0}")
    with pytest.raises(StalledError, match="^signal: 0.0% .*init.weights, init.biases and data.scale.*--weak-signal$"):
        train(weak, data, tmp_path / "a", show=quiet)
    assert not list((tmp_path / "a").glob("checkpoint*")) and not (tmp_path / "a" / "log.jsonl").exists()
    lines = []
    train(weak, data, tmp_path / "a", show=lines.append, options=ResumeOptions(weak_signal=True))
    assert lines[0].startswith("warning: signal: 0.0% ")


def test_t1_weak_signal_of_a_shipped_recipe_only_warns(data, monkeypatch):
    monkeypatch.setattr(health, "WEAK", 2.0)
    lines = []
    run = loop.Training(small(), data)
    batch = run_folder.next_batch(run)
    monkeypatch.setattr(run_folder, "next_batch", lambda run: batch)
    run.recipe = recipe.with_classes(recipe.load("tiny-imagenet"), 2)
    resume._check_signal(run, ResumeOptions(), lines.append)
    assert lines[0].startswith("warning: signal: ")
    run.recipe = recipe.with_classes(recipe.load("tiny-imagenet", ["init.weights={default=0.01}"]), 2)
    with pytest.raises(StalledError):
        resume._check_signal(run, ResumeOptions(), lines.append)


@pytest.mark.parametrize("devices", [["cpu"], ["cpu", "cpu"], ["fake:0", "fake:1"]], ids=" ".join)
def test_dead_relu_units_are_counted(data, devices):
    run = loop.Training(small(), data, devices)
    images = run_folder.next_batch(run).images
    healthy = health.dead_relu_fraction(run.network, images)
    assert list(healthy) == [f"relu{n}" for n in range(1, 8)]
    if devices == ["cpu"]:  # compare with each layer's whole output
        seen = {}
        run.network.forward(images, forward_hook=lambda layer, y: seen.setdefault(layer.name, []).append(np.array(y)))
        for name, share in healthy.items():
            y = np.concatenate(seen[name]).reshape(-1, seen[name][0].shape[-1])
            assert share == pytest.approx((y == 0).all(axis=0).mean())
    for name, device, view in run.network.tensors():
        if name in ("fc6a/b", "fc6b/b", "conv2a/b"):
            with device:
                view[...] = -1e6
    dead = health.dead_relu_fraction(run.network, images)
    assert dead["relu6"] == 1 and dead["relu1"] == healthy["relu1"] and dead["relu2"] >= 0.5
    lines = []
    the_monitor = monitor(lines)
    the_monitor.dead_relus(dead)
    the_monitor.dead_relus(dead)
    assert sum("relu6: 100%" in line for line in lines) == 1


def test_waiting_for_data_warns_once():
    lines = []
    the_monitor = monitor(lines)
    the_monitor.waiting(29, 0.9)
    the_monitor.waiting(100, 0.2)
    assert lines == []
    the_monitor.waiting(40, 0.4)
    the_monitor.waiting(40, 0.4)
    remedy = "try --loader-threads N, and tinyalex verify DATA --speed for what suits the disk"
    assert lines == [f"warning: data: 40% of the time was spent waiting for the next batch; {remedy}"]


def test_first_gradient_that_is_not_finite_is_named(data):
    run = loop.Training(small(), data)
    batch = run_folder.next_batch(run)
    with run.network.step():
        run.network.loss_and_backward(batch.images, batch.labels, step=Step(0, 0))
    assert health.first_gradient_not_finite(run.network) is None
    run.network.gradients()["conv2b/W"][...] = np.inf
    run.network.gradients()["fc7a/b"][1] = np.nan
    assert health.first_gradient_not_finite(run.network) == "fc7a/b"  # it is the nearest to the loss


@pytest.mark.parametrize("sampling, field", [("balanced", "mean_class_error"), ("each image once", "top1_error")])
def test_overfitting_compares_errors_of_the_same_kind(tmp_path, monkeypatch, sampling, field):
    """Where training draws all classes equally often, the test error is the mean of the classes."""
    seen, whole = [], stripes()
    monkeypatch.setattr(health.TrainingMonitor, "overfitting", lambda self, training, test, *_: seen.append(test))
    few = np.sort(np.r_[np.flatnonzero(whole.test.labels == 0)[:2], np.flatnonzero(whole.test.labels == 1)])
    test = ImageSet(whole.test.images[few], whole.test.labels[few])
    made = small(f"data.sampling={sampling}", epochs=1)
    train(made, Dataset("unequal", whole.classes, whole.train, test), tmp_path, show=quiet)
    (record,) = [each for each in run_folder.read_log(tmp_path) if each["event"] == "test"]
    assert seen == [pytest.approx(record[field], abs=1e-6)]
    assert record["top1_error"] != record["mean_class_error"]


def test_overfitting_is_said_once_with_the_switches_that_are_not_on():
    lines = []
    the_monitor = monitor(lines)
    made = recipe.load("shapes")  # with dropout, without reflections and colours
    for training, test, tested in ((0.25, 0.4, 500), (0.3, 0.55, 500), (0.0, 0.5, 10)):  # high but near, or few images
        the_monitor.overfitting(training, test, tested, made)
    assert lines == []
    the_monitor.overfitting(0.05, 0.4, 500, made)
    the_monitor.overfitting(0.01, 0.4, 500, made)
    assert len(lines) == 1 and "training error 5%, test error 40%" in lines[0]
    assert "data.flip=true" in lines[0] and "data.colour=2012" in lines[0] and "dropout" not in lines[0]
    recipe.load("shapes", [word for word in lines[0].replace(",", " ").split() if word.startswith("data.")])


@pytest.mark.parametrize("name", ["shapes", "cifar10-relu", "tiny-imagenet", "figure1/relu", "figure1/tanh"])
def test_no_recorded_run_is_said_to_overfit(name):
    lines, records = [], run_folder.read_log(Path(__file__).parents[2] / "data" / "runs" / name)
    the_monitor = monitor(lines)
    trained = {round(each["epoch"]): each["top1_error"] for each in records if each["event"] == "epoch"}
    tested = {round(each["epoch"]): each for each in records if each["event"] == "test"}
    assert trained.keys() & tested.keys()
    for epoch in trained.keys() & tested.keys():
        the_monitor.overfitting(trained[epoch], tested[epoch]["top1_error"], 500, recipe.load("shapes"))
    assert lines == []


def test_a_run_that_learns_its_images_by_heart_is_told(tmp_path):
    """The test images have other labels than such images had in training, so their error cannot fall."""
    known, lines = stripes(), []
    other = ImageSet(known.test.images, 1 - known.test.labels)
    dataset = Dataset("other", known.classes, known.train, other)
    train(small("net.dropout=0", epochs=8), dataset, tmp_path, show=lines.append)
    assert sum("overfitting: training error" in line for line in lines) == 1

"""Class weights in the loss and balanced sampling: their definitions, PyTorch, gradients, and runs that are resumed."""

import json
import os
import signal

import numpy as np
import pytest

import tinyalex
from tests.support.shim import ShimDevice
from tests.support.small_runs import final, pressed, quiet, same, small, stripes, timeless
from tinyalex import gradcheck
from tinyalex.datasets import Dataset, ImageSet
from tinyalex.datasets.loading import sampling
from tinyalex.datasets.loading.batches import training_batches
from tinyalex.devices import parallel
from tinyalex.devices.device import Device
from tinyalex.errors import CheckpointError, Interrupted, ShapeError, UsageError
from tinyalex.layers import SoftmaxLoss, loops
from tinyalex.network import alexnet
from tinyalex.recipes import recipe
from tinyalex.runs import checkpoint, retention, run_folder
from tinyalex.runs.resume import ResumeOptions
from tinyalex.runs.train import train
from tinyalex.training.class_weights import class_weights
from tinyalex.training.evaluation import Score
from tinyalex.training.loop import Training

WEIGHTS = [2.0, 0.5, 1.0, 0.0, 3.0]
LABELS = np.array([0, 4, 2, 2, 1, 3, 0])


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def lopsided(few=12):
    """Stripes with 12 upright and 76 level images, which are the second class."""
    data = stripes()
    keep = np.concatenate([np.flatnonzero(data.train.labels == 0)[:few], np.flatnonzero(data.train.labels == 1)])
    train_set = ImageSet(data.train.images[keep], data.train.labels[keep])
    return Dataset("lopsided", data.classes, train_set, data.test)


# The loss.


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_weighted_loss_is_that_of_pytorch(dtype):
    torch = pytest.importorskip("torch")
    z = (4 * noise(7, 5)).astype(dtype)
    theirs = torch.tensor(z, requires_grad=True)
    weight = torch.tensor(WEIGHTS, dtype=theirs.dtype)
    expected = torch.nn.CrossEntropyLoss(weight=weight)(theirs, torch.tensor(LABELS))
    expected.backward()
    loss = SoftmaxLoss(WEIGHTS).build(dtype=dtype)
    found = loss.forward(z, LABELS)
    limit = {"float32": 1e-6, "float64": 1e-14}[dtype]
    assert found.dtype == z.dtype
    np.testing.assert_allclose(found, expected.item(), rtol=limit)
    np.testing.assert_allclose(loss.backward(), theirs.grad, rtol=limit, atol=limit)


@pytest.mark.parametrize("device", ["cpu", "fake:0", "kernels"])
def test_every_form_of_the_loss_agrees_with_the_loops(device):
    device = ShimDevice("float64") if device == "kernels" else Device(device)
    z = 4 * noise(7, 5)
    loss = SoftmaxLoss(WEIGHTS).build(device, dtype="float64")
    with device:
        found = device.get(loss.forward(device.put(z), device.put(LABELS)))
        gradient = device.get(loss.backward())
    np.testing.assert_allclose(found, loops.softmax_loss(z, LABELS, WEIGHTS), rtol=1e-13)
    np.testing.assert_allclose(gradient, loops.softmax_loss_backward(z, LABELS, WEIGHTS), rtol=1e-12, atol=1e-16)


def test_equal_weights_change_nothing_but_the_last_bits():
    z, plain, weighted = noise(7, 5), SoftmaxLoss(), SoftmaxLoss([0.3] * 5)
    np.testing.assert_allclose(weighted.forward(z, LABELS), plain.forward(z, LABELS), rtol=1e-14)
    np.testing.assert_allclose(weighted.backward(), plain.backward(), rtol=1e-12)


def test_a_batch_without_any_weight_has_no_loss_and_no_gradient():
    loss = SoftmaxLoss([0, 1.0])
    assert loss.forward(noise(3, 2), np.array([0, 0, 0])) == 0
    assert not loss.backward().any()


@pytest.mark.parametrize("weights", [[1, -1], [np.nan, 1], [np.inf, 1], [0, 0], [0.0]])
def test_weights_that_are_refused(weights):
    with pytest.raises(ShapeError, match="^SoftmaxLoss: got "):
        SoftmaxLoss(weights)


def test_weights_of_other_classes_are_refused():
    with pytest.raises(ShapeError, match=r"^SoftmaxLoss: got \(3,\), wants logits of 2 classes, as there are class w"):
        SoftmaxLoss([1, 2]).forward(noise(2, 3), np.array([0, 1]))
    made = recipe.with_classes(small(), 2)
    with pytest.raises(UsageError, match="^class weights: 3 for 2 classes; give one for each"):
        alexnet.build(made.net, made.init).weigh_classes([1, 2, 3])


class _Weighted:
    """The loss as a layer, for the gradient check."""

    def __init__(self, loss):
        self.loss = loss

    def forward(self, z):
        return self.loss.forward(z, LABELS)

    def backward(self, dy):
        return dy * self.loss.backward()


class _Unscaled(SoftmaxLoss):
    """A planted fault: a gradient that is divided by the number of images instead of the sum of their weights."""

    def backward(self):
        shifted, total, right, shares = self.saved
        self.saved = shifted, total, right, shares * self.weights[LABELS].sum() / len(shares)
        return super().backward()


@pytest.mark.parametrize("loss, right", [(SoftmaxLoss, True), (_Unscaled, False)])
def test_the_gradient_is_the_derivative_of_the_loss(loss, right):
    results = gradcheck.check(_Weighted(loss(WEIGHTS)), noise(7, 5))
    assert [not result.failed for result in results] == [right]


def test_a_whole_net_has_the_weighted_gradient():
    made = recipe.with_classes(small("net.dropout=0"), 2)
    network = alexnet.build(made.net, made.init, dtype="float64")
    network.weigh_classes([3, 1])
    images, labels = noise(3, 20, 20, 3), np.array([0, 1, 1])
    results = gradcheck.check_network(network, images, labels, inputs=False)
    assert not any(result.failed for result in results)


# What a recipe says.


def test_balanced_weights_give_each_class_the_same_sum():
    labels = np.array([0] * 12 + [1] * 76 + [3] * 5)
    weights = class_weights("balanced", list("abcd"), labels)
    sums = [weights[labels][labels == label].sum() for label in (0, 1, 3)]
    np.testing.assert_allclose(sums, len(labels) / 3)
    assert weights[labels].mean() == pytest.approx(1) and weights[2] == 0
    np.testing.assert_allclose(class_weights("balanced", list("ab"), np.array([0, 1, 1, 0])), [1, 1])


def test_a_table_of_classes_by_name():
    labels = np.array([0, 1, 2])
    names = ["black cat", "dog.v2", 'a"b']
    made = small('learning.class_weights={"black cat" = 2, \'a"b\' = 0}')
    assert class_weights(made.learning.class_weights, names, labels).tolist() == [2, 1, 0]
    assert recipe.parse(recipe.to_toml(made)) == made
    assert class_weights("none", names, labels) is None
    with pytest.raises(UsageError, match='^dgo.v2: no such class of the data, .*; did you mean "dog.v2"'):
        class_weights({"dgo.v2": 2.0}, names, labels)
    with pytest.raises(UsageError, match="^learning.class_weights: 0 for all classes"):
        class_weights(dict.fromkeys(names, 0.0), names, labels)


@pytest.mark.parametrize(
    "override, message",
    [
        ("learning.class_weights=equal", "'none' or 'balanced', or a table of classes, each a number 0 or above"),
        ("learning.class_weights={a=-1}", "'none' or 'balanced', or a table of classes, each a number 0 or above"),
        ("data.sampling=even", "give 'each image once' or 'balanced'"),
        ("learning.stop_after=-1", "give a whole number, 0 or more"),
    ],
)
def test_settings_that_are_refused(override, message):
    with pytest.raises(UsageError, match="is not valid") as error:
        small(override)
    assert message in str(error.value)


def test_weights_and_sampling_that_are_both_balanced_are_refused():
    with pytest.raises(UsageError, match="^data.sampling: 'balanced' together with learning.class_weights = "):
        small("data.sampling=balanced", "learning.class_weights=balanced")
    small("data.sampling=balanced", "learning.class_weights={level=2}")


def test_the_defaults_are_those_of_earlier_versions():
    made = small()
    assert (made.data.sampling, made.learning.class_weights, made.learning.stop_after) == ("each image once", "none", 0)
    assert Training(made, stripes()).network.loss.weights is None


# Balanced sampling.


def test_each_class_is_drawn_equally_often():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 5], [1, 7, 80, 212]))
    for seed, epoch in ((0, 0), (0, 3), (7, 0)):
        drawn = labels[sampling.balanced(seed, epoch, labels)]
        assert len(drawn) == len(labels)
        for row in drawn.reshape(-1, 4):  # a round
            assert sorted(row) == [0, 1, 2, 5]
    assert not np.array_equal(sampling.balanced(0, 0, labels), sampling.balanced(0, 1, labels))
    assert not np.array_equal(sampling.balanced(0, 0, labels), sampling.balanced(1, 0, labels))


def test_a_last_round_that_is_cut():
    labels = np.array([0] * 5 + [1] * 3 + [2] * 3)
    counts = [np.bincount(labels[sampling.balanced(0, epoch, labels)], minlength=3) for epoch in range(60)]
    assert all(count.max() - count.min() == 1 and count.sum() == 11 for count in counts)
    assert np.ptp(np.sum(counts, axis=0)) < 20  # no class is favoured: a third of the 60 cuts each


def test_a_class_goes_through_all_its_images_before_one_comes_again():
    labels = np.array([0] * 10 + [1] * 4 + [2] * 226)
    drawn = np.concatenate([sampling.balanced(2, epoch, labels) for epoch in range(9)])
    orders = set()
    for label, count in ((0, 10), (1, 4), (2, 226)):
        own = drawn[labels[drawn] == label]
        assert len(own) == 720
        for start in range(0, 720 - count + 1, count):
            part = own[start : start + count]
            assert sorted(part) == np.flatnonzero(labels == label).tolist()
            orders.add(tuple(part))
    assert len(orders) > 72 + 3  # of the small classes: not the same order again and again


def test_the_checks_notice_a_class_that_is_drawn_too_often():
    """A planted fault: the plain order of an epoch."""
    labels = np.repeat([0, 1], [10, 30])
    drawn = labels[sampling.order("each image once", 0, 0, labels)]
    assert any(sorted(row) != [0, 1] for row in drawn.reshape(-1, 2))


def test_images_that_come_twice_are_cropped_in_two_ways():
    made = recipe.with_classes(small("data.sampling=balanced"), 2)
    batches = list(training_batches(lopsided(), made, 0, 0))
    indices = np.concatenate([batch.indices for batch in batches])
    images = np.concatenate([batch.images for batch in batches])
    assert np.bincount(np.concatenate([batch.labels for batch in batches])).tolist() == [28, 28]
    pairs = [np.flatnonzero(indices == number)[:2] for number in range(12)]  # all upright images come twice
    assert not all(np.array_equal(images[one], images[other]) for one, other in pairs)


@pytest.mark.parametrize("threads", [0, 1, 5])
@pytest.mark.parametrize("first_batch", [0, 2])
def test_batches_do_not_depend_on_threads_or_where_they_begin(threads, first_batch):
    made = recipe.with_classes(small("data.sampling=balanced"), 2)
    wanted = list(training_batches(lopsided(), made, 4, 1, threads=0))[first_batch:]
    found = list(training_batches(lopsided(), made, 4, 1, first_batch, threads=threads))
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


# Runs.

SWITCHES = [
    ["data.sampling=balanced"],
    ["learning.class_weights=balanced"],
    ["data.sampling=balanced", "learning.class_weights={upright=3}"],
]


@pytest.mark.parametrize("switches", SWITCHES, ids=" ".join)
def test_a_run_that_is_stopped_has_the_same_bits(tmp_path, monkeypatch, switches):
    made, data = small(*switches, epochs=2), lopsided()
    train(made, data, tmp_path / "whole", show=quiet)
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        pressed(patch, signal.SIGINT, 5)
        train(made, data, tmp_path / "parts", show=quiet)
    train(made, data, tmp_path / "parts", show=quiet)
    assert same(final(tmp_path / "parts"), final(tmp_path / "whole"))
    assert timeless(tmp_path / "parts") == timeless(tmp_path / "whole")
    train(small(epochs=2), data, tmp_path / "plain", show=quiet)
    assert not same(final(tmp_path / "plain"), final(tmp_path / "whole"))


def test_other_settings_are_another_run(tmp_path):
    train(small(epochs=1), lopsided(), tmp_path / "run", show=quiet)
    with pytest.raises(CheckpointError, match="data.sampling each image once, now it is balanced; give another --out"):
        train(small("data.sampling=balanced", epochs=1), lopsided(), tmp_path / "run", show=quiet)
    weighted = small("learning.class_weights=balanced", epochs=2)
    with pytest.raises(CheckpointError, match="learning.class_weights none, now it is balanced; .*add --change"):
        train(weighted, lopsided(), tmp_path / "run", show=quiet)
    train(weighted, lopsided(), tmp_path / "run", show=quiet, options=ResumeOptions(change=True))


def test_devices_and_kernels_agree():
    """Three steps on the CPU, on pretend devices and with the readable layers."""
    made, data = small("learning.class_weights=balanced", "net.dropout=0"), lopsided()
    found = []
    for devices, kernels in ((["cpu"], True), (["cpu"], False), (["fake:0", "fake:1"], True)):
        training = Training(made, data, devices, kernels=kernels)
        batches = training.batches()
        found.append([training.train_step(next(batches)).read()[0] for _ in range(3)])
        batches.close()
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-4)


def test_the_threads_of_the_network_do_not_matter_for_the_order():
    before = parallel.workers().count
    try:
        orders = []
        for count in (1, 3):
            parallel.set_threads(count)
            orders.append(sampling.balanced(0, 0, np.array([0] * 9 + [1] * 3)).tolist())
    finally:
        parallel.set_threads(before)
    assert orders[0] == orders[1]


def test_the_rare_class_is_learned_with_balanced_sampling(tmp_path):
    """With eight of 52 images, and few steps, the plain net takes all for the frequent class."""
    errors = {}
    for name, switches in (("plain", []), ("balanced", SWITCHES[0])):
        score = train(small(*switches, epochs=8, rate=0.02), lopsided(8), tmp_path / name, show=quiet, seed=1)
        errors[name] = score.mean_class_error
    assert errors["balanced"] < errors["plain"] - 0.2, errors


# Stopping early.


def errors_of(monkeypatch, errors):
    """Let the tests of a run find these errors, epoch by epoch."""
    from tinyalex.runs import train as module

    real, pending = module.evaluate, iter(errors)

    def evaluate(*arguments, **keywords):
        result = real(*arguments, **keywords)
        return result._replace(top1_error=next(pending), mean_class_error=0.5)

    monkeypatch.setattr(module, "evaluate", evaluate)


def test_training_stops_without_a_better_error(tmp_path, monkeypatch):
    errors_of(monkeypatch, [0.5, 0.25, 0.3, 0.25])
    lines = []
    train(small(epochs=9, stop_after=2), stripes(), tmp_path / "run", show=lines.append)
    tests = [record for record in run_folder.read_log(tmp_path / "run") if record["event"] == "test"]
    assert [record["top1_error"] for record in tests] == [0.5, 0.25, 0.3, 0.25]
    assert [record.get("best_epoch") for record in tests] == [None, None, None, 2]
    assert tests[-1]["stopped_after"] == 2
    assert lines[-1] == (
        "training ended after epoch 4 of 9: no lower test error in 2 epochs (learning.stop_after); the lowest test "
        "error was 25.00%, after epoch 2"
    )
    again = []
    monkeypatch.undo()
    train(small(epochs=9, stop_after=2), stripes(), tmp_path / "run", show=again.append)
    assert again[-1] == lines[-1]
    assert timeless(tmp_path / "run")[-1]["best_epoch"] == 2


def test_a_run_that_does_not_stop_early_says_which_epoch_was_best(tmp_path, monkeypatch):
    errors_of(monkeypatch, [0.5, 0.25, 0.5])
    lines = []
    train(small(epochs=3, stop_after=2), stripes(), tmp_path / "run", show=lines.append)
    assert lines[-1] == "the lowest test error was 25.00%, after epoch 2 of 3"
    assert "stopped_after" not in json.dumps(run_folder.read_log(tmp_path / "run"))


def test_a_stop_within_the_last_epoch_changes_nothing(tmp_path, monkeypatch):
    made = small(epochs=9, stop_after=1)
    with monkeypatch.context() as patch:
        errors_of(patch, [0.5, 0.25, 0.3])
        train(made, stripes(), tmp_path / "whole", show=quiet)
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        errors_of(patch, [0.5, 0.25])
        pressed(patch, signal.SIGINT, 15)
        train(made, stripes(), tmp_path / "parts", show=quiet)
    errors_of(monkeypatch, [0.3])
    train(made, stripes(), tmp_path / "parts", show=quiet)
    assert same(final(tmp_path / "parts"), final(tmp_path / "whole"))
    assert timeless(tmp_path / "parts") == timeless(tmp_path / "whole")
    assert os.path.exists(tmp_path / "parts" / "checkpoint-00000012.safetensors")  # the best one


@pytest.mark.parametrize("setting", ["learning.class_weights=balanced", "data.sampling=balanced", None])
def test_the_best_epoch_is_that_of_the_lowest_mean_where_classes_are_weighted(tmp_path, monkeypatch, setting):
    """Of an epoch that answers the large class only, and a later one that tells both apart with a mistake more."""
    scores = [Score(41, 0.7, 1 / 41, 0.0, 0.5), Score(41, 0.6, 2 / 41, 0.0, 0.05)]
    monkeypatch.setitem(train.__globals__, "_test", lambda *_: scores.pop(0))
    shown = []
    made = small(*[setting] * bool(setting), epochs=2)
    train(made, stripes(), tmp_path, ["cpu"], show=shown.append)
    words, error, epoch = ("mean error of the classes", "5.00%", 2) if setting else ("test error", "2.44%", 1)
    assert f"the lowest {words} was {error}, after epoch {epoch} of 2" in shown
    assert run_folder.load(tmp_path, best=True).metadata["step"] == epoch * 6
    (reason,) = retention.pinned(checkpoint.by_step(tmp_path)).values()
    assert reason == f"lowest {words}, {error}"
    best = tinyalex.load(tmp_path)
    assert f"step {epoch * 6}, {words} {error}" in repr(best)

"""Copies of networks and layers, deep or pickled: the same bits in forward and in training, and nothing in common."""

import copy
import multiprocessing
import pickle

import numpy as np
import pytest

from tests.support import prepared_sets
from tests.support.small_runs import small, stripes
from tinyalex import datasets, layers
from tinyalex.devices.device import Device
from tinyalex.errors import OrderError, ShapeError, UsageError
from tinyalex.network import alexnet
from tinyalex.network.network import Network
from tinyalex.randomness import Step
from tinyalex.recipes import recipe
from tinyalex.runs import run_folder
from tinyalex.training.loop import Training
from tinyalex.training.optimizer import Optimizer

WAYS = {"deepcopy": copy.deepcopy, "pickle": lambda thing: pickle.loads(pickle.dumps(thing))}
FORMS = {
    "fast forms": (["cpu"], True),
    "two columns": (["cpu", "cpu"], True),
    "readable layers": (["cpu"], False),
    "fake devices": (["fake:0", "fake:1"], True),
}


@pytest.fixture(params=WAYS)
def way(request):
    return WAYS[request.param]


@pytest.fixture(params=FORMS)
def network(request):
    """A network after two training steps, so that it holds recorded calls, scratch arrays and replicas."""
    devices, kernels = FORMS[request.param]
    made = recipe.with_classes(small(), 2)
    network = alexnet.build(made.net, made.init, devices, seed=3, kernels=kernels)
    train(network, steps=2)
    return network


def noise(seed, count=9):
    return np.random.default_rng(seed).normal(size=(count, 20, 20, 3)).astype(np.float32)


def train(network, steps, first=0):
    optimizer = Optimizer(network)
    for number in range(first, first + steps):
        with network.step():
            labels = np.arange(9) % 2
            network.loss_and_backward(noise(number), labels, step=Step(1, number))
        optimizer.update(0.05)


def values(network):
    return {name: device.get(view) for name, device, view in network.tensors()}


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_a_copy_computes_and_learns_the_same_bits(network, way):
    twin = way(network)
    assert same(values(twin), values(network))
    assert np.array_equal(twin.predict(noise(7)), network.predict(noise(7)))
    train(network, 3, first=2)
    train(twin, 3, first=2)
    assert same(values(twin), values(network))


def test_a_copy_has_nothing_in_common_with_the_original(network, way):
    before, predicted = values(network), network.predict(noise(7))
    twin = way(network)
    train(twin, 2, first=5)
    assert not same(values(twin), before)
    assert same(values(network), before)
    assert np.array_equal(network.predict(noise(7)), predicted)
    assert not set(map(id, twin.devices)) & set(map(id, network.devices))
    with network.step():  # what a forward of the copy computes in between is not seen by the original's backward
        logits = network.forward(noise(1), training=True, step=Step(0, 0))
        twin.predict(noise(2))
        network.backward(network.devices[0].put(np.ones(logits.shape, np.float32)))
    gradients = {name: device.get(view) for name, device, view in network.tensors("grad")}
    with network.step():
        logits = network.forward(noise(1), training=True, step=Step(0, 0))
        network.backward(network.devices[0].put(np.ones(logits.shape, np.float32)))
    assert same(gradients, {name: device.get(view) for name, device, view in network.tensors("grad")})


@pytest.mark.parametrize("network", ["fast forms", "readable layers"], indirect=True)
def test_the_checks_notice_a_copy_that_shares_its_recorded_calls(network):
    """A planted fault: with the original's executors, the copy computes with the original's weights."""
    twin = copy.deepcopy(network)
    for _, device, view in twin.tensors():
        with device:
            view[...] = 0
    twin.executors = network.executors
    assert np.array_equal(twin.predict(noise(7)), network.predict(noise(7)))


def test_a_network_that_was_only_described_is_copied(way):
    made = recipe.with_classes(small(), 2)
    described = alexnet.describe(made.net, made.init)
    twin = way(described)
    with pytest.raises(UsageError, match="it has no arrays yet"):
        twin.predict(noise(0))
    assert same(values(twin.build(seed=4)), values(described.build(seed=4)))


def _predict(network, images):
    return network.predict(images)


def test_a_network_is_sent_to_a_process_of_its_own():
    made = recipe.with_classes(small(), 2)
    network = alexnet.build(made.net, made.init)
    train(network, 1)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert np.array_equal(pool.apply(_predict, (network, noise(7))), network.predict(noise(7)))


@pytest.mark.parametrize("device", ["cpu", "fake:0"])
@pytest.mark.parametrize(
    "layer",
    [
        layers.Conv2d(3, 4, kernel=3, pad=1),
        layers.winograd.WinogradConv2d(4, 4, kernel=3, pad=1),
        layers.Linear(6, 5),
        layers.LRN(),
        layers.MaxPool(3, 2),
        layers.DealChannels(3, 6),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_layer_is_copied_between_forward_and_backward(layer, device, way):
    inputs = {"WinogradConv2d": (2, 6, 6, 4), "Linear": (2, 6)}.get(type(layer).__name__, (2, 6, 6, 3))
    x = np.random.default_rng(0).normal(size=inputs).astype(np.float32)
    where = Device(device)
    layer = copy.deepcopy(layer).named("layer").build(where)
    with where:
        y = layer.forward(where.put(x))
    twin = way(layer)
    dy = np.random.default_rng(1).normal(size=y.shape).astype(np.float32)
    with twin.device, pytest.raises(OrderError, match="layer: backward needs a forward before it"):
        twin.backward(twin.device.put(dy))
    with where:
        dx = where.get(layer.backward(where.put(dy)))
    with twin.device as other:
        assert np.array_equal(other.get(twin.forward(other.put(x))), where.get(y))
        assert np.array_equal(other.get(twin.backward(other.put(dy))), dx)
    for parameter, copied in zip(layer.parameters, twin.parameters, strict=True):
        assert np.array_equal(where.get(parameter.grad), other.get(copied.grad))
        assert copied.names == parameter.names and copied.value is not parameter.value


def test_copies_of_a_device_are_one_device_in_a_copy_of_its_net(way):
    made = recipe.with_classes(small(), 2)
    twin = way(alexnet.build(made.net, made.init, ["cpu"]))
    assert {layer.device for _, layer in twin.layers()} == {*twin.devices, twin.loss.device}
    assert len(twin.devices) == 1


def test_a_training_is_copied_in_the_middle_of_an_epoch(way):
    training = Training(small(), stripes())
    batches = training.batches()
    for _ in range(2):
        training.train_step(next(batches))
    twin = way(training)
    for each in (training, twin):
        for metrics in each.train_steps(each.batches()):
            metrics.read()
    one, other = training.state_dict(), twin.state_dict()
    assert same(one["values"], other["values"]) and same(one["momenta"], other["momenta"])
    assert one["step"] == other["step"] == 6 and twin.optimizer._network is twin.network


def test_recipes_data_sets_and_runs_are_copied(tmp_path, way):
    made = small("learning.phases=[{epoch=0, rate=0.03}]", schedule="phases")
    assert way(made) == made
    data = stripes()
    assert data.identity == way(data).identity
    training = Training(made, data)
    run_folder.save(training, tmp_path / "run")
    run = run_folder.load(tmp_path / "run")
    twin = way(run)
    assert (twin.classes, twin.recipe, twin.metadata) == (run.classes, run.recipe, run.metadata)
    assert np.array_equal(twin.network.predict(noise(7)), run.network.predict(noise(7)))


def test_a_prepared_set_opens_its_files_again(tmp_path, way):
    folder = prepared_sets.make(tmp_path / "set")
    data = datasets.load(folder)
    twin = way(data)
    assert twin.identity == data.identity and twin.classes == data.classes
    every = np.arange(len(data.train))
    assert np.array_equal(twin.train.read(every), data.train.read(every))


# Backward belongs to the last forward.


@pytest.mark.parametrize("count", [9, 4])
def test_backward_after_predict_is_one_clear_error(network, count):
    """Before, it computed with the images of predict, or raised NumPy's error for another number of them."""
    with network.step():
        logits = network.forward(noise(1), training=True, step=Step(0, 0))
        dlogits = network.devices[0].put(np.ones(logits.shape, np.float32))
        network.predict(noise(2, count))
        with pytest.raises(OrderError, match="^network: backward needs a forward before it, with no predict or "):
            network.backward(dlogits)


def test_backward_twice_is_the_same_error(network):
    with network.step():
        logits = network.forward(noise(1))
        dlogits = network.devices[0].put(np.ones(logits.shape, np.float32))
        network.backward(dlogits)
        with pytest.raises(RuntimeError, match="^network: backward needs a forward before it"):
            network.backward(dlogits)


def test_the_gradient_of_other_logits_is_refused(network):
    with network.step():
        network.forward(noise(1, 4))
        with pytest.raises(ShapeError, match=r"^dlogits: got \(9, 2\), the logits of the last forward are \(4, 2\)"):
            network.backward(network.devices[0].put(np.ones((9, 2), np.float32)))
        network.forward(noise(1, 4))
        with pytest.raises(ShapeError, match="^dlogits: got list"):
            network.backward([[1.0, 2.0]])


def test_a_network_without_arrays_has_no_backward():
    made = recipe.with_classes(small(), 2)
    with pytest.raises(UsageError, match="it has no arrays yet"):
        alexnet.describe(made.net).backward(np.ones((1, 2), np.float32))


def test_shallow_copies_of_a_network_share_weights():
    made = recipe.with_classes(small(), 2)
    network = alexnet.build(made.net, made.init)
    twin = copy.copy(network)
    assert isinstance(twin, Network) and twin.parameters()[0] is network.parameters()[0]
    assert np.array_equal(twin.predict(noise(7)), network.predict(noise(7)))

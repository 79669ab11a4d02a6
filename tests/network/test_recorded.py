"""Training steps that repeat recorded calls give the bits of steps that run as they are written, and their streams wait
for each other as those do.
"""

import copy
import functools
import operator
import pickle

import numpy as np
import pytest

from tests.support import shim
from tests.support.fake_gpu import FakeGPU
from tests.support.layer_cases import noise
from tests.support.small_runs import small, stripes
from tinyalex.devices import device as devices
from tinyalex.devices.happens_before import Race
from tinyalex.devices.tape import Tape
from tinyalex.kernels import response
from tinyalex.layers import LRN, Conv2d, Dropout, Linear, MaxPool, ReLU, Tanh
from tinyalex.network import network as networks
from tinyalex.network import recorded
from tinyalex.network.columns import Exchange, Stage
from tinyalex.network.network import Network
from tinyalex.network.recorded import RecordedNetwork
from tinyalex.randomness import Step
from tinyalex.training.loop import Training
from tinyalex.training.optimizer import Optimizer

LABELS = np.array([0, 4, 1])


@pytest.fixture(autouse=True)
def fake_gpus(monkeypatch):
    """Build networks on fake devices that run kernels."""
    shim.ShimDevice()  # skips without g++
    monkeypatch.setattr(networks, "Device", lambda name, kernels=True: FakeGPU(name, kernels))


def built(columns, *more, record=True, names=("fake:0", "fake:1"), precision="float32"):
    """A small net with all that `original` has; the last layer is on column a alone."""
    own, both = ([[0], [1]], [[0, 1], [0, 1]]) if columns == 2 else ([[0]], [[0]])

    def stage(name, routes, layers):
        return Stage(name, Exchange(routes), [layers(column) for column in range(columns)])

    network = Network(
        [
            stage("conv1", own, lambda _: [Conv2d(3, 4, 3, 2), LRN(), MaxPool(), ReLU(), *more]),
            stage("conv2", both, lambda _: [Conv2d(4 * columns, 4, 3, pad=1, bias=0.1), ReLU()]),
            stage("fc", both, lambda column: [Linear((3, 3, 4 * columns), 8), ReLU(), Dropout(0.5, "fc", 8 * column)]),
            Stage("out", Exchange([[0, 1], []] if columns == 2 else own), [[Linear(8 * columns, 5)], []][:columns]),
        ],
        (14, 14, 3),
    ).build(names[:columns], precision=precision)
    if record:
        network.record_steps()
    return network


def train(network, sizes=(3,) * 4, before_step=lambda number: None, optimizer=None):
    """Take a step with each number of images; return all that can be seen of them."""
    optimizer, seen = optimizer or Optimizer(network, 0.9, 0.01), {}
    for number, size in enumerate(sizes):
        before_step(number)
        images = noise(size, 14, 14, 3, purpose=f"step {number}").astype("float32")
        with network.step(), network.devices[0] as device:
            loss, seen["logits", number] = network.loss_and_backward(images, LABELS[:size], step=Step(0, number))
            seen |= {(number, name): device.get(g) for name, device, g in network.tensors("grad")}
            seen["loss", number] = device.get(loss)
        optimizer.update(0.01, 0.02, {"conv2": 0.5} if number == 1 else None)
    seen |= {("logits", number): network.devices[0].get(seen["logits", number]) for number in range(len(sizes))}
    seen |= {("w", name): device.get(w) for name, device, w in network.tensors()}
    seen |= {("v", name): device.get(v) for name, device, v in optimizer.tensors()}
    return seen | {("crossed", name): dict(count) for name, count in network.crossed().items()}


def same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, np.ndarray):
            assert value.any() and value.tobytes() == other[name].tobytes(), name
        else:
            assert value == other[name], name


@functools.cache
def as_written(columns, **how):
    return train(built(columns, record=False), **how)


def both_ways(columns=1, repeated=2, **how):
    """Train as written and with recorded steps, and compare; return the network whose steps were recorded."""
    network = built(columns)
    same(as_written(columns, **how), train(network, **how))
    assert network.recorded.repeated == repeated
    return network


@pytest.mark.parametrize("columns", [1, 2])
def test_repeated_steps_give_the_same_bits(columns):
    """Also on two columns' streams, each of which has to wait for the other in every repetition."""
    both_ways(columns)


@pytest.mark.parametrize("columns", [1, 2])
def test_repeated_steps_in_bfloat16_give_the_same_bits(columns):
    written, network = (built(columns, record=record, precision="bf16") for record in (False, True))
    same(train(written), train(network))
    assert network.recorded.repeated == 2


@pytest.mark.parametrize("names", ["cuda:0", "cuda:0 cuda:0"])
def test_repeated_steps_on_a_gpu_give_the_same_bits(names, monkeypatch):
    shim.device("cuda:0")  # skips without a GPU
    monkeypatch.setattr(networks, "Device", devices.Device)
    written, network = (built(len(names.split()), record=record, names=names.split()) for record in (False, True))
    same(train(written), train(network))
    assert network.recorded.repeated == 2


def test_repeated_steps_make_patches_again_where_memory_is_small(monkeypatch):
    monkeypatch.setattr(recorded, "ROOM", 1)
    network = built(1)
    network.devices[0].memory = 240_000
    same(train(built(1, record=False)), train(network))
    assert network.recorded.repeated == 2 and network.devices[0].started.count("im2col") == 3 * 4


FAULTS = {
    "the recorded step's mask": (devices.Device, "issue_with", lambda device, *call: device.issue(*call[::-1])),
    "the recorded images": (Tape, "uses", lambda *_: []),
    "no count of bytes": (recorded._Recording, "_crossed", property(lambda _: [], lambda *_: None)),
    "the logits' own array": (recorded._Recording, "_copy", lambda recording, array: array),
    "work that is missing": (devices.Device, "copy", lambda device, to, source: operator.setitem(to, ..., source)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_in_a_repetition_is_noticed(fault, monkeypatch):
    as_written(2, sizes=(3, 3, 3))
    monkeypatch.setattr(*FAULTS[fault], raising=False)
    with pytest.raises(AssertionError):
        both_ways(2, repeated=1, sizes=(3, 3, 3))


def test_stream_that_does_not_wait_in_a_repetition_is_noticed(monkeypatch):
    """As when a repetition waited for the events as they were in the recorded step."""
    receive = devices.Device._receive

    def without(self, copy, array, source, produced, copied):
        if repeating:
            source.stream.record = lambda event: event
        try:
            receive(self, copy, array, source, produced, copied)
        finally:
            vars(source.stream).pop("record", None)

    repeating = []
    monkeypatch.setattr(devices.Device, "_receive", without)
    train(built(2))
    with pytest.raises(Race, match="copy from fake:. to fake:. on .* does not wait for"):
        train(built(2), before_step=lambda number: repeating.append(number) if number == 2 else None)


def test_shorter_batch_runs_as_written_and_the_recording_is_kept():
    both_ways(repeated=3, sizes=(3, 3, 3, 2, 3, 3))


@pytest.mark.slow
def test_another_number_of_images_twice_is_recorded_instead():
    both_ways(repeated=2, sizes=(3, 3, 3, 2, 2, 2))


def test_other_arrays_and_other_rounding_are_recorded_anew():
    """An optimizer puts all parameters into one array, and TF32 may be switched."""
    nets = [built(1, record=record) for record in (False, True)]

    def switch(network):
        def before_step(number):
            for device in network.devices:
                device.precision = "tf32" if number >= 3 else "float32"

        return before_step

    for network in nets:
        train(network, optimizer=None)
    results = [train(network, sizes=(3,) * 6, before_step=switch(network)) for network in nets]
    same(*results)
    assert nets[1].recorded.repeated == 2 + 1 + 1


def test_layers_of_other_kinds_run_as_written():
    """A tape cannot know what they start."""

    class Mine(ReLU):
        pass

    for kind in (Tanh, Mine):
        network = built(1, kind())
        assert network.recorded is None
        same(train(built(1, kind(), record=False)), train(network))
    assert built(1, ReLU()).recorded


def test_work_past_the_tape_ends_the_recording(monkeypatch):
    """A kernel's file that calls the array module starts work that a repetition would miss."""
    forward = response.forward

    def wrong(device, x, *settings):
        y, saved = forward(device, x, *settings)
        return device.xp.multiply(y, 1), saved

    as_written(1)
    monkeypatch.setattr(response, "forward", wrong)
    both_ways(repeated=0)


def test_step_that_takes_too_much_memory_is_not_recorded(monkeypatch):
    monkeypatch.setattr(recorded, "ROOM", 1 << 30)
    network = both_ways(repeated=0)
    assert network.recorded._recording is None


def test_error_while_recording_leaves_the_network_as_it_was(monkeypatch):
    def fail(number):
        if number == 1:
            monkeypatch.setattr(LRN, "backward", lambda *_: {}["nothing"])

    network, backward = built(1), LRN.backward
    with pytest.raises(KeyError):
        train(network, before_step=fail)
    monkeypatch.setattr(LRN, "backward", backward)
    assert all(device.tape is None for device in network.devices)
    other = built(1, record=False)
    other.load({name: device.get(view) for name, device, view in network.tensors()})
    same(train(other), train(network))
    assert network.recorded.repeated == 2


@pytest.mark.slow
def test_tests_between_repetitions_do_not_disturb_them():
    def predict(network):
        return lambda number: network.predict(noise(3, 14, 14, 3).astype("float32")) if number == 3 else None

    nets = [built(2, record=record) for record in (False, True)]
    seen = [train(network, before_step=predict(network)) for network in nets]
    for results in seen:
        for name in [name for name in results if name[0] == "crossed"]:
            del results[name]
    same(*seen)
    assert nets[1].recorded.repeated == 2


@pytest.mark.slow
def test_training_repeats_steps_and_gives_the_same_bits(monkeypatch):
    """Three epochs in two columns: batches are uploaded, the last is shorter, and metrics are read a step later."""
    states = []
    for supports in (lambda network: False, RecordedNetwork.supports):
        monkeypatch.setattr(RecordedNetwork, "supports", staticmethod(supports))
        training = Training(small(), stripes(), ["fake:0", "fake:1"])
        for _ in range(3):
            assert all(np.isfinite(metrics.read()).all() for metrics in training.train_steps(training.batches()))
            training.errors.append(0.5)
        states.append(training.state_dict())
    assert training.async_metrics and training.network.recorded.repeated == 18 - 2 - 3
    for kind in ("values", "momenta"):
        same(*(state[kind] for state in states))


def test_copies_of_a_network_record_for_themselves():
    network = built(1)
    train(network)
    for twin in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert twin.recorded is None


def test_backward_after_a_repeated_step_needs_a_forward():
    network = built(1)
    train(network)
    with pytest.raises(RuntimeError, match="backward needs a forward"):
        network.backward(np.zeros((3, 5), "float32"))


def test_only_whole_arrays_can_be_replaced():
    device = FakeGPU("fake:0")
    with device:
        whole = device.zeros((4, 6), "float32")
        for part, fits in ((whole, True), (whole[1:], False)):
            tape = Tape([device], 1 << 20)
            with tape.recording():
                device.copy(part, 1)
            assert len(tape.uses(device, whole)) == 1 and tape.complete == fits
        tape = Tape([device], 1 << 20)
        tape.hold(device, whole[:2])  # its address is an argument of a product
        assert tape.uses(device, whole) == [] and not tape.complete

"""Race detection on fake devices: correct programs pass, and each one with a wait left out raises."""

import numpy as np
import pytest

from tinyalex.devices import happens_before, parallel
from tinyalex.devices.device import Device
from tinyalex.devices.happens_before import DeviceMismatch, Race
from tinyalex.devices.upload import Upload
from tinyalex.network import alexnet, columns
from tinyalex.randomness import Step, key, normal
from tinyalex.recipes.settings import Init, Net
from tinyalex.training.optimizer import Optimizer

PAIRS = [("fake:0", "fake:1"), ("fake:1", "fake:0"), ("fake:0", "fake:0")]
HOST = np.arange(12.0).reshape(3, 4)


def deaf(stream):
    """A planted bug: a stream that never waits."""
    stream.wait_event = lambda event: None


@pytest.fixture(params=PAIRS, ids=" to ".join)
def pair(request):
    """Source and destination of an exchange; the same name twice gives two contexts on one device."""
    return [Device(name) for name in request.param]


def produce(device):
    """An array that a kernel of the device has written, without a wait since."""
    array = device.put(HOST)
    with device:
        array *= 2
    return array


def refused(does, what, stream, did, other_what, other):
    return (
        f"^{what} on {stream} does not wait for {other_what} on {other}, which may still {did} what it {does}; "
        "let it wait for an event of that stream$"
    )


# Between devices.


def test_exchange_waits_in_both_directions(pair):
    source, destination = pair
    with source.step(), destination.step():
        for _ in range(3):
            array = produce(source)
            copy = destination.receive(array, source)
            with source:
                array += 1
            del array
            produce(source)
            with destination:
                copy -= 1
            np.testing.assert_array_equal(destination.get(copy), HOST * 2 - 1)


def test_copy_before_its_producer_raises(pair):
    source, destination = pair
    deaf(destination.stream)
    here, there = destination.stream, source.stream
    copying = f"copy from {source.name} to {destination.name}"
    with pytest.raises(Race, match=refused("reads", copying, here, "write", "__imul__", there)):
        destination.receive(produce(source), source)


def test_copy_on_the_wrong_stream_raises(pair):
    source, destination = pair
    array = produce(source)
    copy = destination.empty(array.shape, array.dtype)
    source.stream.wait_event(destination.event(destination.stream))  # for the memory; nobody waits for the copy
    copy.data.copy_from_device_async(array.data, array.nbytes, source.stream)
    with destination, pytest.raises(Race, match=f"^__add__ on {destination.stream} does not wait for copy from"):
        copy + 1


def test_overwrite_before_a_reader_is_done_raises(pair):
    source, destination = pair
    array = produce(source)
    deaf(source.stream)
    copying = f"copy from {source.name} to {destination.name}"
    destination.receive(array, source)
    with source:
        np.testing.assert_array_equal((array + 1).shape, array.shape)  # reading it does no harm
        with pytest.raises(
            Race, match=refused("writes to", "__iadd__", source.stream, "read", copying, destination.stream)
        ):
            array += 1


@pytest.mark.parametrize("arena", [True, False], ids=["arena", "fresh"])
def test_memory_reused_before_a_reader_is_done_raises(pair, arena):
    source, destination = pair
    deaf(source.stream)
    copying = f"copy from {source.name} to {destination.name}"
    with source.step() if arena else source:
        destination.receive(produce(source), source)  # the source's array is gone
        with pytest.raises(
            Race, match=refused("takes as new memory", "empty", source.stream, "read", copying, destination.stream)
        ):
            source.empty((3, 4), "float64")
    destination.synchronize()


def test_memory_reused_after_its_readers(pair):
    source, destination = pair
    deaf(source.stream)
    destination.receive(produce(source), source)
    destination.synchronize()  # the host waits instead
    source.empty((3, 4), "float64")


def test_two_contexts_on_one_device_need_events():
    one, other = Device("fake:3"), Device("fake:3")
    array = produce(one)
    with other, pytest.raises(Race, match=f"^exp on {other.stream} does not wait for __imul__ on {one.stream}"):
        np.exp(array)
    other.stream.wait_event(one.event(one.stream))
    with other:
        np.exp(array)


def test_waiting_is_transitive():
    first, second, third = (Device(f"fake:{index}") for index in range(3))
    array = produce(first)
    second.receive(array, first)
    copy = third.empty(array.shape, array.dtype)
    third.stream.wait_event(second.event(second.stream))
    third.copying.wait_event(third.event(third.stream))
    copy.data.copy_from_device_async(array.data, array.nbytes, third.copying)


def test_event_covers_the_work_before_it(pair):
    source, destination = pair
    array = produce(source)
    event = source.event(source.stream)
    destination.stream.wait_event(event)
    copy = destination.empty(array.shape, array.dtype)
    copy.data.copy_from_device_async(array.data, array.nbytes, destination.stream)
    source.stream.wait_event(destination.event(destination.stream))
    with source:
        array += 1
    with pytest.raises(Race, match="__iadd__"):
        copy.data.copy_from_device_async(array.data, array.nbytes, destination.stream)


WRITES = {
    "assignment": lambda x: x.__setitem__(0, 1),
    "into out": lambda x: np.exp(1.0, out=x),
    "function into out": lambda x: np.sum(np.ones_like(x), axis=0, out=x[0]),
    "method into out": lambda x: (x + 1).sum(axis=0, out=x[0]),
    "in place": lambda x: x.__isub__(1),
    "copyto": lambda x: np.copyto(x, 3),
    "at": lambda x: np.add.at(x, 0, 1),
    "fill": lambda x: x.fill(3),
    "through a view": lambda x: x[1:].reshape(-1, 1).T.__setitem__(..., 3),
    "through windows": lambda x: np.copyto(x, np.lib.stride_tricks.sliding_window_view(x, (1, 1))[:, :, 0, 0]),
}  # fmt: skip
READS = {
    "ufunc": lambda x: np.add(x, 1),
    "operator": lambda x: 1 - x,
    "function": lambda x: np.concatenate([x, x]),
    "method": lambda x: x.sum(),
    "product": lambda x: x @ x.T,
    "index": lambda x: x[x.argmax(axis=0)],
    "copy of a view": lambda x: x.T.reshape(-1),
    "windows": lambda x: np.lib.stride_tricks.sliding_window_view(x, (2, 2)).sum(),
    "number": lambda x: float(x[0, 0]),
    "truth": lambda x: bool(x[0, 0]),
}


@pytest.mark.parametrize("operation", WRITES | READS)
def test_every_operation_is_checked(operation):
    one, other = Device("fake:0"), Device("fake:0")
    array = produce(one)
    with other, pytest.raises(Race, match="which may still write what it"):
        (WRITES | READS)[operation](array)
    with one:
        (WRITES | READS)[operation](array)


@pytest.mark.parametrize("operation", WRITES)
def test_every_write_waits_for_readers(operation):
    one, other = Device("fake:0"), Device("fake:0")
    array = one.put(HOST)
    one.synchronize()
    with other:
        array + 1
        READS["method"](array)
    with one, pytest.raises(Race, match="which may still read what it writes to"):
        WRITES[operation](array)


def test_views_are_no_access():
    one, other = Device("fake:0"), Device("fake:0")
    array = produce(one)
    with other:
        for view in (array[1:], array.T, array.reshape(-1), np.transpose(array), array.real, np.expand_dims(array, 0)):
            assert view.size and view.device_name == "fake:0"
    array[:2].reshape(8)  # wherever


# To and from the host.


@pytest.mark.parametrize("wrong", ["default stream", "copying stream"])
def test_host_read_without_waiting_raises(wrong):
    device = Device("fake:0")
    array = produce(device)
    stream = device.copying if wrong == "copying stream" else None
    with pytest.raises(Race, match="^get on fake:0 .* does not wait for __imul__ on fake:0 stream"):
        array.get(stream=stream)
    np.testing.assert_array_equal(device.get(array), HOST * 2)
    np.testing.assert_array_equal(array.get(stream=stream), HOST * 2)  # now the host has waited


def test_host_array_is_filled_when_the_host_has_waited():
    device = Device("fake:1")
    array, there = produce(device), np.full((3, 4), -1.0)
    array.get(stream=device.stream, out=there, blocking=False)
    arrived = device.event(device.stream)
    with device:
        array += 1  # comes after the copy
    assert (there == -1).all()
    arrived.synchronize()
    np.testing.assert_array_equal(there, HOST * 2)


def test_new_memory_first_written_by_another_stream_raises():
    """In CuPy's pool it may be memory that the first stream still uses."""
    device = Device("fake:0")
    with device:
        before = device.empty((3, 4), "float64")
        before[...] = 1
        del before
        array = device.empty((3, 4), "float64")
    with pytest.raises(Race, match="^set on .* does not wait for empty on fake:0 stream"):
        array.set(HOST, stream=device.copying)


def test_host_write_without_waiting_raises():
    device = Device("fake:0")
    with pytest.raises(Race, match="^set on .* does not wait for __imul__ on fake:0 stream"):
        produce(device).set(HOST, stream=device.copying)


def pinned(device, number=7.0):
    array = device.pinned((3, 4), "float32")
    array[...] = number
    return array


@pytest.fixture(params=["fake:0", "fake:1"])
def device(request):
    return Device(request.param)


def test_uploads_are_ordered(device):
    array = pinned(device)
    for number in range(4):
        upload = Upload(device, [array, HOST])
        with upload as (first, second), device:
            assert float(first[0, 0]) == 7 + number and float(second[0, 1]) == 1
            first *= 2
            del first, second
        upload.wait()
        array += 1


def test_work_without_waiting_for_an_upload_raises(device):
    deaf(device.stream)
    refusal = f"^__add__ on {device.stream} does not wait for set on {device.copying}"
    with Upload(device, [pinned(device)]) as (copy,), device, pytest.raises(Race, match=refusal):
        copy + 1


def test_upload_without_waiting_for_earlier_work_raises(device):
    deaf(device.copying)
    with Upload(device, [pinned(device)]) as (copy,), device:
        copy + 1
        del copy
    with pytest.raises(Race, match=f"^empty on {device.copying} does not wait for __add__ on {device.stream}"):
        Upload(device, [pinned(device)])


def test_copies_used_after_the_upload_block_raise(device):
    with Upload(device, [pinned(device)]) as (copy,):
        pass
    with device:
        copy + 1
    del copy
    with pytest.raises(Race, match="takes as new memory"):
        Upload(device, [pinned(device)])


def test_host_memory_written_before_the_upload_is_done_raises(device):
    array = pinned(device)
    upload = Upload(device, [array])
    array[1, 2] += 1
    with pytest.raises(Race, match=f"^host memory was written to while {device.copying} may still have copied from it"):
        upload.wait()
    device.copying.synchronize()  # said once


def test_host_memory_freed_before_the_upload_is_done_raises(device):
    Upload(device, [pinned(device)])
    with pytest.raises(Race, match=f"^host memory was given back while {device.copying} may still have copied from it"):
        Upload(device, [pinned(device)])


def test_pageable_host_memory_may_be_overwritten_at_once(device):
    array = HOST.copy()
    upload = Upload(device, [array])
    array[...] = 0
    upload.wait()


# Where work goes.


def test_work_goes_to_the_current_device():
    zero, one = Device("fake:0"), Device("fake:1")
    array = one.put(HOST)
    for wrong in (lambda: array + 1, lambda: one.xp.zeros(3), lambda: float(array[0, 0])):
        with (
            zero,
            pytest.raises(DeviceMismatch, match="^work on fake:1 while fake:0 is the current device; do it inside"),
        ):
            wrong()
        with zero, one:
            wrong()
    with one, zero, pytest.raises(DeviceMismatch):
        array + 1
    with pytest.raises(Race, match="^__add__ on fake:0 default stream does not wait for set on fake:0 stream"):
        zero.put(HOST) + 1


def test_workers_have_the_callers_current_device(monkeypatch):
    monkeypatch.setattr(parallel, "_workers", parallel._workers)
    parallel.set_threads(2)
    device = Device("fake:1")
    array = device.put(HOST)
    with device:
        sums = parallel.workers().run(lambda row: float(array[row].sum()), [0, 1, 2])
    assert sums == HOST.sum(axis=1).tolist()
    with pytest.raises(DeviceMismatch):
        parallel.workers().run(lambda row: float(array[row].sum()), [0, 1, 2])


def test_streams_and_events_stay_on_their_device():
    zero, one = Device("fake:0"), Device("fake:1")
    with zero, pytest.raises(RuntimeError, match="^fake:1 stream .* was entered while fake:0 is the current device$"):
        one.stream.__enter__()
    with pytest.raises(RuntimeError, match="^an event of fake:0 cannot be recorded on fake:1 stream"):
        one.stream.record(happens_before.Event())
    one.stream.wait_event(happens_before.Event())  # never recorded: nothing to wait for, as on a GPU


def test_contexts_end_on_errors():
    with pytest.raises(KeyError), Device("fake:1"), Device("fake:2"):
        raise KeyError
    with pytest.raises(DeviceMismatch, match="while fake:0 is the current device"):
        happens_before.current("fake:1")


# A whole training step.

NET = Net(input=67, maps=(6, 16, 24, 24, 16), hidden=16, classes=5)


def network(devices):
    return alexnet.build(NET, Init({"default": "he"}), devices, 0, "float64")


def step(net, optimizer=None):
    """Take one training step; return all results on the host."""
    images, labels = normal(key(0, "clocks"), np.arange(4 * 67 * 67 * 3)).reshape(4, 67, 67, 3), np.array([0, 4, 1, 1])
    with net.step():
        loss, logits = net.loss_and_backward(images, labels, step=Step(0, 0))
        results = {"loss": net.devices[0].get(loss), "logits": net.devices[0].get(logits)}
        (optimizer or Optimizer(net)).update(0.01, 0.02)
    for kind in ("value", "grad"):
        results |= {(kind, name): device.get(view) for name, device, view in net.tensors(kind)}
    return results


def largest_difference(mine, its):
    assert mine.keys() == its.keys()
    return max(np.abs(mine[name] - value).max() / np.abs(value).max() for name, value in its.items())


@pytest.fixture(scope="module")
def expected():
    return step(network(["cpu", "cpu"]))


@pytest.mark.parametrize("devices", PAIRS, ids=" ".join)
def test_training_step_has_no_race(devices, expected):
    assert largest_difference(step(network(devices)), expected) == 0


@pytest.mark.parametrize("devices", PAIRS, ids=" ".join)
@pytest.mark.parametrize("fault", ["before the copy", "before the overwrite", "either column"])
def test_training_step_without_its_waits_raises(devices, fault, monkeypatch):
    net = network(devices)
    optimizer = Optimizer(net)
    step(net, optimizer)
    receive = Device.receive

    def forgetful(self, array, source):
        stream = self.stream if fault == "before the copy" else source.stream
        deaf(stream)
        try:
            return receive(self, array, source)
        finally:
            del stream.wait_event

    if fault == "either column":
        deaf(net.devices[1].stream)
    else:
        monkeypatch.setattr(Device, "receive", forgetful)
    with pytest.raises(Race, match=f"copy from {devices[0]} to {devices[1]}|copy from {devices[1]} to {devices[0]}"):
        step(net, optimizer)


@pytest.mark.parametrize("stray", ["conv2b", "relu4", "fc7b"])
def test_layer_on_the_wrong_stream_raises(stray):
    net = network(["fake:1", "fake:1"])
    layer = next(layer for _, layer in net.layers() if layer.name == stray)
    forward, elsewhere = layer.forward, Device("fake:1")

    def misplaced(x, **options):
        with elsewhere:
            return forward(x, **options)

    layer.forward = misplaced
    with pytest.raises(Race, match=f"on {elsewhere.stream}"):
        step(net)


@pytest.mark.parametrize("way", ["forward", "backward"])
@pytest.mark.parametrize("devices", [["cpu", "cpu"], *PAIRS], ids=" ".join)
def test_wrong_half_in_the_exchange_changes_the_results(devices, way, expected, monkeypatch):
    exchange = getattr(columns.Exchange, way)

    def swapped(self, xs, devices):
        whole = exchange(self, xs, devices) if way == "forward" else list(xs)
        if self.routes == [[0, 1], [0, 1]]:  # column b takes its own maps for column a's
            with devices[1]:
                first, second = np.split(whole[1], 2, axis=-1)
                whole[1] = np.concatenate([second, first], axis=-1)
        return whole if way == "forward" else exchange(self, whole, devices)

    monkeypatch.setattr(columns.Exchange, way, swapped)
    assert largest_difference(step(network(devices)), expected) > 1e-3


def test_host_memory_given_back_before_a_read_is_done_raises():
    device = Device("fake:0")
    array = produce(device)
    device.get_async(array)
    device._arriving.clear()  # a planted bug: nothing keeps the memory
    with pytest.raises(Race, match="host memory was given back while .* may still write to it"):
        device.synchronize()


def test_host_memory_of_a_read_that_is_dropped_is_kept():
    device = Device("fake:0")
    array = produce(device)
    device.get_async(array)
    device.synchronize()
    assert (device.get_async(array)() == HOST * 2).all()

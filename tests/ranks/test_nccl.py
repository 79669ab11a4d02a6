"""Sums over GPUs, on pretend devices and with a stub of CuPy: the calls, the bits, and the waits between streams."""

import types

import numpy as np
import pytest

from tests.ranks.test_parts import reference
from tests.ranks.test_training_on_ranks import DATA, recipe_in, undivided  # noqa: F401, a fixture
from tests.support.ranks import on_ranks
from tests.support.small_runs import final, quiet, same
from tinyalex.devices import fake_nccl
from tinyalex.devices.device import Device
from tinyalex.devices.happens_before import Race
from tinyalex.errors import DeviceError
from tinyalex.ranks import nccl
from tinyalex.ranks import parts as rules
from tinyalex.ranks.parts import Parts
from tinyalex.runs import train as runs_train

SIZE = 203


def total(world, values, count, images=64, how="ordered", plant=lambda channel: None):
    device, parts = Device(f"fake:{world.rank}"), Parts(count, world.size)
    channel = nccl.Channel(device, world)
    plant(channel)
    sums = nccl.SUMS[how](channel, world, parts, SIZE, np.dtype("float32"))
    found = None
    for _ in range(2):  # the second time in the same memory
        nodes = {}
        for part in parts.of_rank(world.rank):
            if parts.slices(images)[part].start < parts.slices(images)[part].stop:
                array = sums.empty()
                with device:
                    array[:SIZE] = device.put(values[part])
                    rules.add(nodes, part, array, channel_free_add)
        under_way = sums.start(nodes, images)
        with device:
            result = under_way.finish()
            found = device.get(result[:SIZE] + 0)
    return found


def channel_free_add(first, second):
    first += second
    return first


@pytest.mark.parametrize(("count", "ranks"), [(4, 1), (4, 2), (4, 3), (6, 5), (4, 4)])
@pytest.mark.parametrize("images", [64, 3])
def test_devices_get_the_sum_of_the_tree(count, ranks, images):
    values = list(np.random.default_rng(0).standard_normal((count, SIZE)).astype(np.float32))
    there = [part.start < part.stop for part in Parts(count).slices(images)]
    expected = reference([value if used else np.zeros_like(value) for value, used in zip(values, there, strict=True)])
    for found in on_ranks(ranks, lambda world: total(world, values, count, images)):
        assert np.array_equal(found, expected)


def test_all_reduce_agrees_up_to_rounding():
    values = list(np.random.default_rng(0).standard_normal((5, SIZE)).astype(np.float32))
    for found in on_ranks(5, lambda world: total(world, values, 5, how="fast")):
        assert np.allclose(found, sum(values), atol=1e-5) and not np.array_equal(found, reference(values))


@pytest.mark.parametrize("how", ["ordered", "fast"])
@pytest.mark.parametrize("missing", ["begin", "end"])
def test_a_missing_wait_is_found(how, missing):
    values = list(np.ones((2, SIZE), np.float32))

    def plant(channel):
        setattr(channel, missing, lambda: None)

    with pytest.raises(Race, match="does not wait for"):
        on_ranks(2, lambda world: total(world, values, 2, how=how, plant=plant))


def test_a_send_outside_of_a_group_is_found():
    def run(world):
        channel = nccl.Channel(Device(f"fake:{world.rank}"), world)
        channel.send(channel.device.zeros((4,), "float32"), 1 - world.rank)

    with pytest.raises(RuntimeError, match="outside of groupStart"):
        on_ranks(2, run)


@pytest.mark.parametrize("devices", [("fake:0",), ("fake:0", "fake:1")], ids=" ".join)
def test_training_on_devices_of_several_ranks_has_the_bits_of_one(tmp_path, devices):
    def train(folder, ranks):
        def run(world):
            own = [f"fake:{len(devices) * world.rank + number}" for number in range(len(devices))]
            return runs_train.train(recipe_in(3), DATA, folder, own, seed=3, show=quiet, world=world)

        on_ranks(ranks, run)
        return final(folder)

    assert same(train(tmp_path / "1", 1), train(tmp_path / "2", 2))


def test_calls_are_those_that_cupys_nccl_takes(monkeypatch):
    # A stub that records pointers, counts and types, in place of CuPy's module: two ranks seen from rank 1.
    calls = []

    class Communicator:
        def __init__(self, *arguments):
            calls.append(("init", *arguments))

        def __getattr__(self, name):
            return lambda *arguments: calls.append((name, *arguments))

    stub = types.SimpleNamespace(
        NcclCommunicator=Communicator,
        get_unique_id=lambda: (1, 2, 3),
        groupStart=lambda: calls.append(("groupStart",)),
        groupEnd=lambda: calls.append(("groupEnd",)),
    )
    monkeypatch.setattr(fake_nccl, "attach", lambda communicator: stub)

    def run(world):
        if world.leads:
            world.broadcast((1, 2, 3))
            return None
        device = Device("fake:1")
        channel = nccl.Channel(device, world)
        sums = nccl.Ordered(channel, world, Parts(2, 2), 20, np.dtype("float32"))
        array = sums.empty()
        sums.start({(0, 1): array}, 64)
        return sums, channel, array

    sums, channel, array = on_ranks(2, run)[1]
    assert sums.padded == 32 and sums.piece == 16
    assert calls[0] == ("init", 2, (1, 2, 3), 1)
    assert [call[0] for call in calls[1:]] == ["groupStart", "recv", "send", "groupEnd", "allGather"]
    _, received, count, kind, other, stream = calls[2]
    assert (received.size, count, kind, other) == (16, 16, 7, 0) and stream is channel.stream
    _, sent, count, kind, other, _ = calls[3]
    assert np.shares_memory(sent._array, array._array[:16]) and (count, kind, other) == (16, 7, 0)
    _, own, whole, count, kind, _ = calls[5]
    assert np.shares_memory(own._array, array._array[16:]) and whole is array and (count, kind) == (16, 7)


def test_without_nccl_what_to_install_is_said(monkeypatch):
    from tinyalex.devices import cuda

    monkeypatch.setattr(cuda.importlib, "import_module", lambda name: types.SimpleNamespace(available=False))
    with pytest.raises(DeviceError, match="cuda:0: NCCL, .*pip install nvidia-nccl-cu13"):
        cuda.nccl("cuda:0")

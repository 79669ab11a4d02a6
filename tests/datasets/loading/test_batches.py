"""Batches on devices: the same bits as on the host, copied ahead, waiting counted, errors in order."""

import errno
import functools
import gc
import os
import re
import subprocess
import sys
import threading
import time
import types
from dataclasses import replace

import numpy as np
import pytest

from tests.support import prepared_sets
from tinyalex import datasets
from tinyalex.datasets.loading import augment, loader
from tinyalex.datasets.loading import batches as loading
from tinyalex.datasets.shards import shards
from tinyalex.devices.device import Device
from tinyalex.devices.fake import FakeArray
from tinyalex.devices.upload import DeviceBatch, Upload
from tinyalex.errors import DataError
from tinyalex.gallery import retrieval
from tinyalex.recipes import recipe
from tinyalex.runs import checkpoint, run_folder
from tinyalex.runs.train import train
from tinyalex.training import evaluation, loop

NET = ["net.input=20", "net.maps=[4, 8, 8, 8, 8]", "net.kernels=[5, 3, 3, 3, 3]", "net.stride=1", "net.hidden=16"]
DEVICES = [["cpu"], ["fake:0"], ["fake:0", "fake:1"], ["fake:1", "fake:1"]]


def small(**learning):
    """A small net for images of 24 x 24, with crops, flips and colours."""
    made = recipe.load("shapes", [*NET, "data.set=x", "data.flip=true", "data.colour=2012", "learning.batch=8"])
    return replace(made, learning=replace(made.learning, **({"epochs": 2, "weight_decay": 0.0} | learning)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A prepared set: 44 training and 10 test images of 24 x 24, six a shard."""
    return prepared_sets.make(tmp_path_factory.mktemp("data") / "set", train=44, size=24)


@pytest.fixture
def prepared(folder):
    return datasets.load(folder)


def loader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("tinyalex-loader")]


def quiet(*_):
    pass


def final(out):
    return checkpoint.read(checkpoint.newest(out))[0]


# The batches.


@pytest.mark.parametrize("threads", [0, 1, 7])
@pytest.mark.parametrize("names", DEVICES, ids=" ".join)
def test_devices_get_the_bits_of_the_host(prepared, names, threads):
    devices = [Device(name) for name in names]
    expected = list(loading.training_batches(prepared, small(), 3, 1, first_batch=2, threads=0))
    delivered = list(loading.training_batches(prepared, small(), 3, 1, first_batch=2, devices=devices, threads=threads))
    assert len(delivered) == len(expected) == 4
    for batch, host in zip(delivered, expected, strict=True):
        assert isinstance(batch.images, np.ndarray if names == ["cpu"] else DeviceBatch)
        assert batch.images.shape == host.images.shape and len(batch.images) == len(host.labels)
        np.testing.assert_array_equal(batch.labels, host.labels)
        np.testing.assert_array_equal(batch.indices, host.indices)
        for device in devices:
            there = device.to_device(batch.images)
            assert there is device.to_device(batch.images)
            assert isinstance(there, np.ndarray) if names == ["cpu"] else there.device_name == device.name
            np.testing.assert_array_equal(device.get(there), host.images)


@pytest.mark.parametrize("views", [1, 9, 10])
@pytest.mark.parametrize("names", DEVICES, ids=" ".join)
def test_devices_get_the_views_of_the_host(prepared, names, views):
    devices, images = [Device(name) for name in names], prepared.test
    expected = list(loading.test_batches(images, prepared.mean, small(), 4, views, threads=0))
    delivered = list(loading.test_batches(images, prepared.mean, small(), 4, views, devices))
    assert len(delivered) == len(expected) == 3
    for batch, host in zip(delivered, expected, strict=True):
        assert isinstance(batch.images, np.ndarray if names == ["cpu"] else DeviceBatch)
        np.testing.assert_array_equal(batch.labels, host.labels)
        for device in devices:
            np.testing.assert_array_equal(device.get(device.to_device(batch.images)), host.images)
            np.testing.assert_array_equal(device.get(device.to_device(batch.images[1:3])), host.images[1:3])


@pytest.mark.parametrize("names", DEVICES[1:], ids=" ".join)
def test_a_test_on_a_device_gives_the_cpu_s_results(prepared, monkeypatch, names):
    """The host crops nothing for it, and probabilities and features are the same."""
    nets = [loop.Training(small(), prepared, devices, 3).network for devices in (["cpu"] * len(names), names)]
    arguments = [prepared.test, prepared.mean, small()]
    expected = [evaluation.probabilities(nets[0], *arguments, views) for views in (1, 10)]
    expected.append(retrieval.features_of(nets[0], *arguments))
    monkeypatch.setattr(augment.Cropper, "__call__", None)
    got = [evaluation.probabilities(nets[1], *arguments, views) for views in (1, 10)]
    got.append(retrieval.features_of(nets[1], *arguments))
    for ours, host in zip(got, expected, strict=True):
        assert ours.shape == host.shape and len(host) == 10
        np.testing.assert_allclose(ours, host, rtol=1e-4, atol=1e-6)


def test_a_phase_without_colour_noise(prepared):
    device = Device("fake:0")
    delivered = loading.training_batches(prepared, small(), 3, 1, 0, 0.0, [device])
    for batch, host in zip(delivered, loading.training_batches(prepared, small(), 3, 1, 0, 0.0), strict=True):
        np.testing.assert_array_equal(device.get(device.to_device(batch.images)), host.images)


def test_the_next_batch_is_copied_before_one_is_handed_over(prepared, monkeypatch):
    """And a batch's host memory is kept until it has been read."""
    events = []

    class Recorded(Upload):
        def __init__(self, device, arrays):
            self.number = sum(what == "begin" for what, _ in events)
            events.append(("begin", self.number))
            super().__init__(device, arrays)

        def wait(self):
            events.append(("wait", self.number))
            super().wait()

    monkeypatch.setattr(loading, "Upload", Recorded)
    for number, _ in enumerate(loading.training_batches(prepared, small(batch=16), 0, 0, devices=[Device("fake:0")])):
        events.append(("learn", number))
    assert events == [
        *[("begin", 0), ("begin", 1), ("learn", 0), ("wait", 0), ("begin", 2), ("learn", 1), ("wait", 1)],
        *[("learn", 2), ("wait", 2)],
    ]


@pytest.mark.parametrize("name", ["cpu", "fake:0"])
def test_uploads_without_a_gpu(name):
    device = Device(name)
    hosts = [device.pinned((2, 3), "float32"), device.pinned((4,), "int64")]
    for number, host in enumerate(hosts):
        assert isinstance(host, np.ndarray) and host.flags.c_contiguous
        host[...] = number + 5
    upload = Upload(device, hosts)
    upload.wait()
    for host in hosts:
        host[...] = 0
    with upload as copies:
        assert [device.get(copy).tolist() for copy in copies] == [[[5.0] * 3] * 2, [6] * 4]
        assert all(isinstance(copy, FakeArray) == (name != "cpu") for copy in copies)


@pytest.mark.parametrize("names", DEVICES[1:], ids=" ".join)
@pytest.mark.parametrize("taken", [1, 2])
def test_early_exit_waits_for_copies_in_flight(prepared, names, taken):
    """If host memory were freed while a device may still read it, the device's next upload would raise."""
    devices = [Device(name) for name in names]
    batches = loading.training_batches(prepared, small(), 0, 0, devices=devices)
    for _ in range(taken):
        next(batches)
    batches.close()
    del batches
    gc.collect()
    for device in devices:
        Upload(device, [device.pinned((2, 3), "float32")]).wait()


def test_waiting_is_counted_and_nothing_else(monkeypatch):
    clock = types.SimpleNamespace(now=100.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(loading, "time", clock)

    def slow():
        for number in range(3):
            clock.now += 2
            yield number
        clock.now += 1

    batches = loading.Batches(slow())
    for seen, _ in enumerate(batches, 1):
        assert batches.waited == 2 * seen
        clock.now += 50
    assert batches.waited == 7  # the last second brought no batch, but counts as waiting


# Training.


@pytest.mark.parametrize("names", [["cpu"], ["cpu", "cpu"], ["fake:0", "fake:1"]], ids=" ".join)
def test_the_same_weights_for_any_number_of_threads(prepared, tmp_path, monkeypatch, names):
    """S12: none, one, seven; and images cropped on fake devices give the weights of images cropped on the host."""
    results = []
    for threads in (0, 1, 7):
        with monkeypatch.context() as patch:
            patch.setattr(loop, "training_batches", functools.partial(loading.training_batches, threads=threads))
            train(small(), prepared, tmp_path / str(threads), names, show=quiet)
        results.append(final(tmp_path / str(threads)))
    if len(names) == 2:
        train(small(), prepared, tmp_path / "host", ["cpu", "cpu"], show=quiet, kernels=names == ["cpu", "cpu"])
        results.append(final(tmp_path / "host"))
    for other in results[1:]:
        assert results[0].keys() == other.keys()
        assert all((results[0][name] == other[name]).all() for name in other)


def failing_disk(monkeypatch, prepared, image):
    """Let every read of one training image fail."""
    monkeypatch.setattr(shards, "_RETRY_WAITS", ())
    starts = np.cumsum([0, *map(len, prepared.train._shards)])
    number = int(np.searchsorted(starts, image, side="right")) - 1
    row, read, preadv, here = int(image - starts[number]), shards.Shard.read, os.preadv, threading.local()

    def reading(shard, first, rows):
        here.bad = shard is prepared.train._shards[number] and first <= row < first + len(rows)
        return read(shard, first, rows)

    def failing(*call):
        if here.bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return preadv(*call)

    monkeypatch.setattr(shards.Shard, "read", reading)
    monkeypatch.setattr(os, "preadv", failing)
    return prepared.train._shards[number].path.name


@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.parametrize("names", [["cpu"], ["fake:0", "fake:1"]], ids=" ".join)
def test_a_disk_that_fails_stops_the_run(prepared, tmp_path, monkeypatch, names, threads):
    """S8: the error is raised at its batch and names the shard; the steps before it are done."""
    patched = functools.partial(loading.training_batches, threads=threads)
    monkeypatch.setattr(loop, "training_batches", patched)
    epoch = loader.Epoch(prepared, small(), 0, 0)
    shard = failing_disk(monkeypatch, prepared, epoch.indices_and_params(3)[0][5])  # of batch 3
    steps, learn = [], loop.Training.train_step
    monkeypatch.setattr(loop.Training, "train_step", lambda run, batch: (steps.append(run.step), learn(run, batch))[1])
    with pytest.raises(DataError, match=f"{shard}: image .*: cannot be read \\(Input/output error\\)"):
        train(small(), prepared, tmp_path, names, show=quiet)
    assert steps == ([0, 1, 2] if names == ["cpu"] else [0, 1])  # one batch is being copied when the error comes
    assert not loader_threads()


class SlowSet:
    """A set whose reads take a given time."""

    def __init__(self, images, seconds):
        self.images, self.seconds = images, seconds
        self.size, self.labels = images.size, images.labels

    def __len__(self):
        return len(self.images)

    def read(self, indices, out=None):
        time.sleep(self.seconds)
        return self.images.read(indices, out=out)


def slowed(prepared, seconds):
    return replace(prepared, train=SlowSet(prepared.train, seconds))


@pytest.mark.parametrize("names", [["cpu"], ["fake:0", "fake:1"]], ids=" ".join)
def test_a_slow_disk_is_reported(prepared, tmp_path, names):
    """S9: no deadlock; log and output say how much of the time was spent waiting for data."""
    lines = []
    train(small(epochs=1), slowed(prepared, 0.05), tmp_path, names, show=lines.append)
    (epoch,) = [record for record in run_folder.read_log(tmp_path) if record["event"] == "epoch"]
    assert 0.01 < epoch["waited"] < 1
    (line,) = [line for line in lines if "training loss" in line]
    assert line.endswith(f", {epoch['waited']:.0%} of the time waiting for data")


def test_a_disk_that_keeps_up_is_not_mentioned(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "time", types.SimpleNamespace(monotonic=lambda: 0.0))
    lines = []
    train(small(epochs=1), prepared, tmp_path, show=lines.append)
    (epoch,) = [record for record in run_folder.read_log(tmp_path) if record["event"] == "epoch"]
    assert epoch["waited"] == 0
    assert not any("waiting" in line for line in lines)


@pytest.mark.parametrize("seconds", [0, 0.05])
@pytest.mark.parametrize("names", [["cpu"], ["fake:0", "fake:1"]], ids=" ".join)
def test_a_step_that_fails_ends_the_threads(prepared, tmp_path, monkeypatch, names, seconds):
    """S10: at once if all batches are made, else after the read in progress."""

    def fail(run, batch):
        assert loader_threads() or not seconds  # with a fast disk all batches may have been made
        raise ZeroDivisionError

    monkeypatch.setattr(loop.Training, "train_step", fail)
    with pytest.raises(ZeroDivisionError):
        train(small(), slowed(prepared, seconds), tmp_path, names, show=quiet)
    assert not loader_threads()


def test_the_loader_speed_program_runs():
    """`python -m tests.programs.loader_speed` on a tiny set, to see that it runs."""
    command = [sys.executable, "-m", "tests.programs.loader_speed", "--images", "24", "--size", "24"]
    settings = [part for setting in (*NET, "learning.batch=8") for part in ("--set", setting)]
    done = subprocess.run(
        [*command, "--recipe", "shapes", "--steps", "2", *settings], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert lines[0].startswith("24 images of 24 x 24, order random, batches of 8, crops of 20, ")
    assert len(lines) == 8 and all(" images/s " in line for line in lines[1:7])
    assert re.fullmatch(r"training: 2 steps, [\d.]+ images/s, [\d.]+% of the time waiting for data", lines[7])


def test_if_one_device_cannot_be_copied_to_the_copies_to_the_others_are_waited_for(monkeypatch):
    started, waited = [], []

    class Copy:
        def __init__(self, device, arrays):
            if started:
                raise MemoryError("no room on the second device")
            started.append(device)

        def wait(self):
            waited.append(self)

    monkeypatch.setattr(loading, "Upload", Copy)
    raw = loader.RawBatch(np.zeros((1, 4, 4, 3), np.uint8), None, None, ())
    with pytest.raises(MemoryError, match="second device"):
        loading._upload(raw, ["one", "other"])
    assert len(started) == len(waited) == 1

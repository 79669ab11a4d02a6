"""The CUDA device without a GPU: a stand-in for CuPy that computes with NumPy and checks devices, streams and events.

Its streams keep what they are given in queues. Nothing runs before it must (or, when ``eager``, everything at once), so
that a missing wait gives wrong numbers here, not only now and then on two gpus.
"""

import os
import sys
import threading
import types
import weakref

import numpy as np
import pytest

from tests.support import shim
from tinyalex.datasets import Dataset, ImageSet
from tinyalex.datasets.loading.batches import training_batches
from tinyalex.devices import fake, happens_before, launch, parallel
from tinyalex.devices.device import Device, fitting, of_one_kind
from tinyalex.devices.fake import FakeArray, FakeNumPy
from tinyalex.devices.upload import Upload
from tinyalex.errors import DeviceError, UsageError
from tinyalex.network import alexnet
from tinyalex.randomness import Step, key, normal, uniform
from tinyalex.recipes import recipe
from tinyalex.recipes.settings import Init, Net
from tinyalex.training.health import first_not_finite
from tinyalex.training.optimizer import Optimizer


class StubCuPy(types.ModuleType):
    """What `Device` uses of CuPy; arrays are `FakeArray` objects of the device that was current when they were made."""

    def __init__(self, gpus, eager):
        super().__init__("cupy")
        self.history, self.eager, self.streams, self.threads = [], eager, [], threading.local()
        stub = self

        class CUDARuntimeError(RuntimeError):
            pass

        class Card:
            def __init__(self, index):
                self.index = self.cublas_handle = index
                self.mem_info = 1 << 29, 1 << 30

            def __enter__(self):
                stub.history.append(("enter gpu", self.index))
                stub.gpus.append(self.index)

            def __exit__(self, *error):
                stub.history.append(("exit gpu", self.index))
                assert stub.gpus.pop() == self.index

        class Event:
            def __init__(self, disable_timing=False):
                assert disable_timing, "an event with a time stamp is slower"

            def synchronize(self):
                self.stream.run(self.position)

            @property
            def done(self):
                return self.stream.done >= self.position

        class Stream:
            def __init__(self, non_blocking=False):
                assert non_blocking, "a blocking stream waits for the default stream"
                self.gpu, self.queue, self.done = stub.gpus[-1], [], 0

            def __enter__(self):
                assert stub.gpus[-1] == self.gpu, "a stream of another gpu"
                stub.history.append(("enter stream", self.gpu))
                stub.streams.append(self)

            def __exit__(self, *error):
                stub.history.append(("exit stream", self.gpu))
                assert stub.streams.pop() is self

            def do(self, what, work):
                stub.history.append((what, self.gpu))
                self.queue.append(work)
                if stub.eager:
                    self.synchronize()

            def record(self, event):
                event.stream, event.position = self, len(self.queue)
                stub.history.append(("record", self.gpu))
                return event

            def wait_event(self, event):
                stream, position = event.stream, event.position  # as they are now: the event may be recorded again
                self.do("wait", lambda: stream.run(position))

            def synchronize(self):
                self.run(len(self.queue))

            def run(self, position):
                while self.done < position:
                    self.done += 1
                    self.queue[self.done - 1]()

        runtime = types.SimpleNamespace(getDeviceCount=lambda: gpus, CUDARuntimeError=CUDARuntimeError)
        runtime.runtimeGetVersion = runtime.driverGetVersion = lambda: 13020
        self.cuda = types.SimpleNamespace(Device=Card, Event=Event, Stream=Stream, runtime=runtime)
        self.cuda.alloc_pinned_memory = self.alloc_pinned_memory
        self.pinned = []

    @property
    def gpus(self):
        """The gpus that this thread entered, innermost last."""
        return self.threads.__dict__.setdefault("gpus", [0])

    def RawModule(self, code):
        def get_function(name):
            def start(blocks, threads, arguments):
                device_names = [each.device_name for each in arguments if isinstance(each, FakeArray)]
                for device_name in device_names:
                    self.check(device_name)
                memory = [getattr(each, "_array", each) for each in arguments]
                shim.run(code, name, blocks, *threads, memory)

            return start

        return types.SimpleNamespace(get_function=get_function)

    def gemm_ex(self, handle, *arguments):
        self.check(f"cuda:{handle}")
        shim.gemm_ex(handle, *arguments)

    def alloc_pinned_memory(self, size):
        self.pinned.append((self.gpus[-1], size))
        return Pinned(size)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(FakeNumPy(f"cuda:{self.gpus[-1]}"), name)

    def check(self, device_name):
        """An operation on an array: its gpu has to be current, and a stream of that gpu."""
        assert device_name == f"cuda:{self.gpus[-1]}", f"{device_name} is not the current device"
        assert self.streams and self.streams[-1].gpu == self.gpus[-1], f"{device_name}: work on the default stream"
        self.streams[-1].synchronize()  # it comes after what that stream was asked for before, and nothing else


class Pinned(bytearray):
    """Pinned host memory; the GPU reads it when it executes the copy, and it must not be freed before."""

    def reader(self, shape, dtype):
        held = weakref.ref(self)

        def read():
            assert held() is not None, "the pool had this memory back before it was read"
            return np.ndarray(shape, dtype, held())

        return read


class Memory:
    """CuPy's ``array.data``."""

    def __init__(self, array):
        self.array = array

    @property
    def ptr(self):
        return self.array._array.ctypes.data

    def copy_from_device_async(self, source, size, stream):
        assert size == source.array.nbytes == self.array.nbytes
        mine, its = self.array._array, source.array._array
        stream.do("copy", lambda: np.copyto(mine, its))


@pytest.fixture
def plant(monkeypatch):
    """Replace CuPy by the stand-in: ``plant(number of GPUs)``."""

    def plant(gpus=2, eager=False):
        stub = StubCuPy(gpus, eager)
        monkeypatch.setitem(sys.modules, "cupy", stub)
        cublas = types.ModuleType("cupy_backends.cuda.libs.cublas")
        cublas.gemmEx = stub.gemm_ex
        for package in ("cupy_backends", "cupy_backends.cuda", "cupy_backends.cuda.libs"):
            monkeypatch.setitem(sys.modules, package, types.ModuleType(package))
        monkeypatch.setitem(sys.modules, cublas.__name__, cublas)

        def upload(array, host, stream):
            assert isinstance(host, np.ndarray) and host.flags.c_contiguous and host.dtype == array.dtype
            pinned = isinstance(host.base, Pinned)
            read = host.base.reader(host.shape, host.dtype) if pinned else host.copy().view  # staged by the driver
            stream.do("put", lambda: np.copyto(array._array, read()))

        def download(array, stream=None, out=None, blocking=True):
            if not blocking:
                assert isinstance(out.base, Pinned), "only to pinned memory does a gpu copy by itself"
                stream.do("get", lambda: np.copyto(out, array._array))
                return out
            (stream or stub.streams[-1]).synchronize()
            return array._array.copy()

        def watched(method):
            def call(array, *args):
                stub.check(array.device_name)
                return method(array, *args)

            return call

        def checked(device_name, *operation, plain=fake._checked, **described):
            stub.check(device_name)
            return plain(device_name, *operation, **described)

        monkeypatch.setattr(fake, "_checked", checked)
        stream = happens_before.Stream()  # what waits for what shows in the numbers here
        monkeypatch.setattr(happens_before, "current", lambda device_name: stream)
        for name in ("__setitem__", "__float__", "__int__", "__bool__"):
            monkeypatch.setattr(FakeArray, name, watched(getattr(FakeArray, name)))
        for name, value in (("set", upload), ("get", download), ("data", property(Memory))):
            monkeypatch.setattr(FakeArray, name, value, raising=False)
        return stub

    return plant


# Whether there is a gpu.


@pytest.mark.parametrize("before, after", [(None, ":4096:8"), (":16:8", ":16:8")])
def test_cublas_workspace_is_configured_for_reproducible_bits(plant, monkeypatch, before, after):
    plant()
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG") if before is None else monkeypatch.setenv(
        "CUBLAS_WORKSPACE_CONFIG", before
    )
    Device("cuda:0")
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == after


def test_no_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(DeviceError) as error:
        Device("cuda:0")
    assert str(error.value) == "cuda:0: CuPy is not installed; pip install 'tinyalex[cuda13]' or [cuda12]"
    assert error.value.exit_code == 8


@pytest.mark.parametrize("driver, message", [
    (0, "CUDA does not answer: there is no NVIDIA driver; install one"),
    (12040, "this CuPy is for CUDA 13, the driver knows CUDA 12 at most; "
            "pip uninstall cupy-cuda13x, pip install 'tinyalex[cuda12]'"),
    (13000, "CUDA does not answer (cudaErrorUnknown); look at nvidia-smi"),
])  # fmt: skip
def test_driver_does_not_answer(plant, driver, message):
    stub = plant()

    def fail():
        raise stub.cuda.runtime.CUDARuntimeError("cudaErrorUnknown")

    stub.cuda.runtime.getDeviceCount = fail
    stub.cuda.runtime.driverGetVersion = lambda: driver
    with pytest.raises(DeviceError) as error:
        Device("cuda:1")
    assert str(error.value) == f"cuda:1: {message}, or use cpu"


def test_no_cublas(plant, monkeypatch):
    plant()
    monkeypatch.setitem(sys.modules, "cupy_backends.cuda.libs.cublas", None)
    with pytest.raises(DeviceError, match=r"^cuda:0: CuPy finds no cuBLAS \(.*\); pip install 'tinyalex\[cuda13\]'$"):
        Device("cuda:0")


def test_no_memory_left(plant):
    plant()
    device = Device("cuda:0")
    for devices, ending in (([device], ", or two devices"), ([device, device], "")):
        with pytest.raises(DeviceError) as error, fitting(devices, 128):
            raise MemoryError("Out of memory allocating 512 bytes (allocated so far: 1,024 bytes).")
        assert str(error.value) == (
            f"{' '.join(['cuda:0'] * len(devices))}: Out of memory allocating 512 bytes (allocated so far: 1,024 "
            f"bytes), for a batch of 128 images; use --set learning.batch=64{ending}"
        )
    with pytest.raises(MemoryError), fitting([Device("cpu")], 128):
        raise MemoryError


@pytest.mark.parametrize("names", [["cpu", "cuda:0"], ["cuda:0", "cpu"], ["fake:0", "cpu"], ["cpu", "fake:1"]])
def test_devices_of_two_kinds_raise(plant, names):
    plant()
    said = f"devices: {' '.join(names)} are of two kinds; give two of cpu, two of cuda:N or two of fake:N"
    with pytest.raises(UsageError) as error:
        alexnet.build(recipe.load("shapes", ["net.classes=2"]).net, Init(weights={"default": 0.1}), names)
    assert str(error.value) == said


def test_no_such_gpu(plant):
    plant(gpus=2)
    with pytest.raises(DeviceError) as error:
        Device("cuda:2")
    assert str(error.value) == "cuda:2: not there; this machine has 2 CUDA device(s), counted from cuda:0"


def test_last_gpu(plant):
    stub = plant(gpus=3)
    device = Device("cuda:2")
    assert (device.xp, device.stream.gpu, device.on_host) == (stub, 2, False)


def test_cpu_device_does_not_import_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    Device("cpu"), Device("fake:0")


# Where work goes.


def test_entering_makes_device_and_stream_current(plant):
    stub = plant()
    device = Device("cuda:1")
    stub.history.clear()
    with device as same:
        assert same is device
        assert (stub.gpus[-1], stub.streams[-1]) == (1, device.stream)
    assert stub.history == [("enter gpu", 1), ("enter stream", 1), ("exit stream", 1), ("exit gpu", 1)]


def test_contexts_nest_and_end_on_errors(plant):
    stub = plant()
    first, second = Device("cuda:0"), Device("cuda:1")
    with pytest.raises(KeyError), first, second, first:
        assert stub.streams == [first.stream, second.stream, first.stream]
        raise KeyError
    assert (stub.gpus, stub.streams) == ([0], [])


def test_one_gpu_twice_has_two_streams(plant):
    plant()
    assert Device("cuda:0").stream is not Device("cuda:0").stream


def test_memory_and_copies_are_on_the_device_even_if_not_current(plant):
    stub = plant()
    device, host = Device("cuda:1"), np.arange(12.0).reshape(3, 4)
    stub.history.clear()
    there = device.put(host[:, ::2])
    assert (there.device_name, device.empty((3,), "float32").device_name) == ("cuda:1", "cuda:1")
    assert [entry for entry in stub.history if entry[0] == "put"] == [("put", 1)]
    host[...] = 0  # the copy was taken
    np.testing.assert_array_equal(device.get(there), [[0, 2], [4, 6], [8, 10]])
    zeros = device.zeros((2, 3), "float32")
    assert (zeros.device_name, zeros.dtype) == ("cuda:1", np.float32)


def test_get_async_does_not_wait_for_later_work(plant):
    plant()
    device, ran = Device("cuda:1"), []
    array = device.put(np.arange(3.0))
    read = device.get_async(array)
    device.stream.do("the next step", lambda: (ran.append(1), array._array.fill(-1)))
    np.testing.assert_array_equal(read(), [0, 1, 2])
    assert ran == []
    device.synchronize()
    assert ran == [1]
    np.testing.assert_array_equal(read(), [0, 1, 2])


@pytest.mark.parametrize("name", ["cpu", "fake:0"])
def test_get_async_returns_a_copy(name):
    device = Device(name)
    with device:
        array = device.put(np.arange(3.0))
        read = device.get_async(array)
        array[...] = 7
    np.testing.assert_array_equal(read(), [0, 1, 2])


def test_step_on_a_gpu_does_not_use_the_host_arena(plant):
    plant()
    device = Device("cuda:0")
    with device, device.step():
        device.empty((100,), "float32")
    assert device._arena.allocated == 0


# What crosses.


@pytest.mark.parametrize("source, destination", [("cuda:0", "cuda:1"), ("cuda:1", "cuda:0"), ("cuda:0", "cuda:0")])
@pytest.mark.parametrize("first", ["source", "destination"])
def test_receive_waits_for_the_producer_and_makes_the_source_wait(plant, source, destination, first):
    plant()
    source, destination = Device(source), Device(destination)
    array = source.put(np.zeros(5))
    source.synchronize()
    source.stream.do("produce", lambda: array._array.fill(7))
    with destination:
        copy = destination.receive(array, source)
    source.stream.do("overwrite", lambda: array._array.fill(-1))
    copy._array.fill(0)
    {"source": source, "destination": destination}[first].synchronize()  # the one that would like to hurry
    source.synchronize()
    np.testing.assert_array_equal(destination.get(copy), np.full(5, 7.0))
    assert array._array[0] == -1
    assert copy.device_name == destination.name


def test_receive_step_by_step(plant):
    stub = plant()
    source, destination = Device("cuda:0"), Device("cuda:1")
    array = source.put(np.ones((2, 3)))
    stub.history.clear()
    with destination:
        destination.receive(array, source)
    order = [entry for entry in stub.history if entry[0] in ("record", "wait", "copy")]
    assert order == [("record", 0), ("wait", 1), ("copy", 1), ("record", 1), ("wait", 0)]


def test_receive_of_a_non_contiguous_array_raises(plant):
    plant()
    source, destination = Device("cuda:0"), Device("cuda:1")
    array = source.put(np.ones((2, 3)))
    with source, pytest.raises(ValueError, match="^cuda:0 to cuda:1: only contiguous"):
        destination.receive(array[:, 1:], source)


# What comes from the host while a gpu computes.


def pinned(device, number):
    array = device.pinned((2, 3), "float32")
    array[...] = number
    return array


def test_any_thread_allocates_pinned_memory_on_its_gpu(plant):
    stub = plant()
    device = Device("cuda:1")
    arrays = []
    with Device("cuda:0"):
        thread = threading.Thread(target=lambda: arrays.append(pinned(device, 3)))
        thread.start()
        thread.join()
    assert stub.pinned == [(1, 24)]
    assert arrays[0].shape == (2, 3) and arrays[0].dtype == np.float32 and (arrays[0] == 3).all()


def test_work_on_an_upload_waits_for_the_upload(plant):
    plant()
    device, seen = Device("cuda:1"), []
    upload = Upload(device, [pinned(device, 7), pinned(device, 8)])
    with device, upload as (first, second):
        device.stream.do("use", lambda: seen.append((first._array.copy(), second._array.copy())))
    device.stream.synchronize()
    assert (seen[0][0] == 7).all() and (seen[0][1] == 8).all()
    assert first.device_name == second.device_name == "cuda:1"


def test_upload_starts_at_once(plant):
    plant()
    device, seen = Device("cuda:0"), []
    device.stream.do("compute", lambda: seen.append("computed"))
    upload = Upload(device, [pinned(device, 7)])
    device.copying.synchronize()
    assert (upload._copies[0]._array == 7).all() and not seen


def test_host_memory_may_be_written_to_after_waiting(plant):
    plant()
    device, host, seen = Device("cuda:0"), pinned(Device("cuda:0"), 7), []
    upload = Upload(device, [host])
    upload.wait()
    host[...] = -1
    with device, upload as (copy,):
        device.stream.do("use", lambda: seen.append(copy._array.copy()))
    device.stream.synchronize()
    assert (seen[0] == 7).all()


def test_upload_into_reused_memory_waits_for_earlier_work(plant, monkeypatch):
    """CuPy reuses freed memory for the next array of the stream that it was allocated on."""
    stub = plant()
    device, seen = Device("cuda:0"), []
    first = Upload(device, [pinned(device, 7)])
    with device, first as (copy,):
        device.stream.do("use", lambda: seen.append(copy._array.copy()))

    def again(shape, dtype):
        assert stub.streams[-1] is device.copying
        return copy

    monkeypatch.setattr(stub, "empty", again, raising=False)
    second = Upload(device, [pinned(device, 8)])
    device.copying.synchronize()  # the one that would like to hurry
    assert (seen[0] == 7).all()
    with device, second as (copy,):
        assert (device.get(copy) == 8).all()


def test_uploads_step_by_step(plant):
    stub = plant()
    device = Device("cuda:1")
    stub.history.clear()
    arrays = [pinned(device, 7), pinned(device, 8)]
    upload = Upload(device, arrays)
    with upload:
        device.stream.do("use", lambda: None)
    upload.wait()
    order = [entry for entry in stub.history if entry[0] not in ("enter gpu", "exit gpu")]
    assert order == [
        *[("enter stream", 1), ("put", 1), ("put", 1), ("record", 1), ("exit stream", 1)],
        *[("wait", 1), ("use", 1), ("record", 1), ("wait", 1)],
    ]


@pytest.mark.parametrize("devices", [["cuda:0"], ["cuda:0", "cuda:1"], ["cuda:1", "cuda:1"]])
@pytest.mark.parametrize("eager", [True, False])
def test_batches_on_gpus_have_the_same_bits_as_on_the_host(plant, devices, eager):
    """Only explicit waits order a copy before the work on it."""
    stub = plant(eager=eager)
    images = (uniform(key(0, "feed"), np.arange(20 * 24 * 24 * 3)) * 256).astype(np.uint8).reshape(20, 24, 24, 3)
    dataset = Dataset("noise", ["a", "b"], ImageSet(images, np.arange(20) % 2), ImageSet(images[:0], np.arange(0)))
    made = recipe.load("original", ["net.input=20", "learning.batch=6", "data.scale=0.1"])
    devices = [Device(name) for name in devices]
    expected = training_batches(dataset, made, 0, 1)
    with_them = training_batches(dataset, made, 0, 1, devices=devices)
    for batch, host in zip(with_them, expected, strict=True):
        for device in devices:
            array = device.to_device(batch.images)
            assert array.device_name == device.name
            np.testing.assert_array_equal(device.get(array), host.images)
        assert batch.images.shape == host.images.shape and len(batch.images) == len(host.labels)
        np.testing.assert_array_equal(batch.labels, host.labels)
    assert (stub.gpus, stub.streams) == ([0], [])
    assert {gpu for gpu, _ in stub.pinned} == {devices[0].index}


# A whole step: every operation has to run with its own gpu and a stream of that gpu.


def noise(*shape):
    return normal(key(0, "cuda", *shape), np.arange(np.prod(shape))).reshape(shape)


def a_network(devices, norm, fc8, dtype):
    shape = {"input": 67, "maps": (6, 16, 24, 24, 16), "hidden": 16, "classes": 5}
    net = Net(**shape, norm=norm, fc8=fc8, convolution="im2col")  # as on a gpu
    return alexnet.build(net, Init({"default": "he"}), devices, 0, dtype)


def a_step(devices, norm, fc8, dtype="float64"):
    network = a_network(devices, norm, fc8, dtype)
    optimizer = Optimizer(network)
    host = network.devices[0]
    images, labels = noise(4, 67, 67, 3).astype(dtype), np.array([0, 4, 1, 1])
    with network.step():
        loss, logits = network.loss_and_backward(images, labels, step=Step(0, 0))
        results = {"loss": host.get(loss), "logits": host.get(logits)}
        optimizer.update(0.01, 0.02)
    assert first_not_finite(network, images) is None
    results["p"] = network.predict(images, batch=3)
    for what, tensors in (
        ("w", network.state()),
        ("g", network.gradients()),
        ("v", {name: v for name, _, v in optimizer.tensors()}),
    ):
        for name, tensor in tensors.items():
            results[what, name] = np.array(getattr(tensor, "_array", tensor))
    network.load({name: results["v", name] for name in network.state()})
    return network, results


@pytest.mark.parametrize("norm, fc8", [("paper", "a"), ("2012", "split"), ("none", "a")])
@pytest.mark.parametrize("devices", [["cuda:0", "cuda:1"], ["cuda:1", "cuda:0"], ["cuda:0", "cuda:0"], ["cuda:1"]])
def test_training_step_on_gpus(plant, monkeypatch, devices, norm, fc8):
    monkeypatch.setattr(parallel, "_workers", None)
    parallel.set_threads(1)  # one block, as on a gpu
    _, expected = a_step(["cpu"] * len(devices), norm, fc8)
    stub = plant(eager=True)
    network, results = a_step(devices, norm, fc8)
    assert results.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(results[name], expected[name], err_msg=str(name))
    for index, layer in network.layers():
        for parameter in layer.parameters:
            assert parameter.value.device_name == parameter.grad.device_name == devices[index]
    assert (stub.gpus, stub.streams) == ([0], [])


@pytest.mark.parametrize("norm", ["paper", "2012"])
@pytest.mark.parametrize("devices", [["cuda:0", "cuda:1"], ["cuda:1", "cuda:1"], ["cuda:1"]])
def test_training_step_through_kernels(plant, devices, norm):
    """In float32, as in training: kernels run on their own device and stream, on arrays of that device."""
    _, expected = a_step(["cpu"] * len(devices), norm, "a", "float32")
    stub = plant(eager=True)
    network, results = a_step(devices, norm, "a", "float32")
    assert results.keys() == expected.keys()
    for name, value in expected.items():
        assert results[name].dtype == np.float32
        np.testing.assert_allclose(results[name], value, atol=2e-5 * np.abs(value).max(), err_msg=str(name))
    assert all(device._compiled for device in network.devices)
    assert (stub.gpus, stub.streams) == ([0], [])


# What else may be wrong with a machine, or happen there.


def test_repeated_steps_pass_cublas_the_same_addresses(plant):
    """The arrays whose addresses are arguments of products stay, and so do the streams."""
    stub, seen = plant(eager=True), []
    for record in (False, True):
        network = a_network(["cuda:0", "cuda:1"], "2012", "a", "float32")
        optimizer, results = Optimizer(network), {}
        if record:
            network.record_steps()
        for number in range(4):
            images = noise(4, 67, 67, 3 + number)[..., number:].astype("float32")
            with network.step(), network.devices[0] as device:
                loss, logits = network.loss_and_backward(images, np.array([0, 4, 1, 1]), step=Step(0, number))
                results |= {(number, "loss"): device.get(loss), (number, "logits"): device.get(logits)}
            optimizer.update(0.01, 0.02)
            results |= {(number, name): device.get(view) for name, device, view in network.tensors()}
        seen.append(results)
    assert network.recorded.repeated == 2 and (stub.gpus, stub.streams) == ([0], [])
    for name, value in seen[0].items():
        assert value.tobytes() == seen[1][name].tobytes(), name


def test_an_old_cupy_is_named(plant, monkeypatch):
    plant().__dict__["__version__"] = "13.2.0"
    with pytest.raises(DeviceError, match=r"^cuda:0: CuPy 13.2.0 is too old; pip install --upgrade 'tinyalex"):
        Device("cuda:0")


@pytest.mark.parametrize(("capability", "works"), [("70", False), ("75", True), ("120", True)])
def test_a_gpu_that_this_cuda_no_longer_supports_is_named(plant, capability, works):
    plant().cuda.Device.compute_capability = capability
    if works:
        assert Device("cuda:0").memory == 1 << 30
        return
    with pytest.raises(DeviceError, match=r"capability 7.0, which CUDA 13 no longer supports; .*'tinyalex\[cuda12\]'"):
        Device("cuda:0")


@pytest.mark.parametrize("message", ["nvrtc: error: failed to open libnvrtc.so: cannot open shared object file",
                                     'catastrophic error: cannot open source file "cuda_fp16.h"'])  # fmt: skip
def test_missing_headers_and_compilers_are_named(message):
    def fail(code):
        raise RuntimeError(message)

    with pytest.raises(DeviceError, match="^kernel im2col: cannot be compiled, as NVRTC or CUDA's headers are missing"):
        launch.compiled(types.SimpleNamespace(RawModule=fail), "", "im2col", np.dtype("float32"), {})
    message = "im2col.cu(3): error: expected a ;"
    with pytest.raises(RuntimeError, match="expected a ;"):  # a bug in a source stays one
        launch.compiled(types.SimpleNamespace(RawModule=fail), "", "im2col", np.dtype("float32"), {})


def test_two_sources_with_one_name_are_two_kernels(plant, monkeypatch):
    plant()
    compiled = []
    monkeypatch.setattr(launch, "compiled", lambda cupy, code, *_: compiled.append(code) or (lambda *_: None))
    device = Device("cuda:0")
    array = device.zeros((4,), "float32")
    for code in ("one", "other", "one"):
        device.launch(code, "twice", 1, 4, array, H=3)
    device.launch("one", "twice", 1, 4, array, W=3)  # the same number for another constant
    assert compiled == ["one", "other", "one"]


def test_two_contexts_on_one_gpu_share_its_memory(plant):
    plant()
    alone, *others = (of_one_kind([Device(name) for name in names]) for names in (["cuda:0"], ["cuda:0", "cuda:1"]))
    assert [each.memory for each in (*alone, *others[0])] == [1 << 30] * 3
    assert [each.memory for each in of_one_kind([Device("cuda:0"), Device("cuda:0")])] == [1 << 29] * 2


@pytest.mark.parametrize("message", ["CUBLAS_STATUS_ALLOC_FAILED", "CUDA_ERROR_OUT_OF_MEMORY: out of memory"])
def test_libraries_without_memory_name_a_smaller_batch(plant, message):
    plant()
    devices = [Device("cuda:0")]
    line = f"{message}.*, for a batch of 64 images; use --set learning.batch=32"
    with pytest.raises(DeviceError, match=line), fitting(devices, 64):
        raise RuntimeError(message)
    with pytest.raises(RuntimeError, match="^CUBLAS_STATUS_EXECUTION_FAILED$"), fitting(devices, 64):
        raise RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED")


def test_memory_of_a_read_that_nobody_waits_for_is_kept_until_the_copy_has_ended(plant):
    plant()
    device = Device("cuda:0")
    array = device.zeros((4,), "float32")
    device.get_async(array)  # dropped: a step whose metrics are never read
    assert len(device._arriving) == 1
    memory = weakref.ref(device._arriving[0][1].base)
    assert memory() is not None
    device.synchronize()
    device.get_async(array)()
    assert len(device._arriving) == 1 and device._arriving[0][1].base is not memory()


@pytest.mark.parametrize(("capability", "kernels", "said"), [
    ("75", True, "bf16 takes compute capability 8.0, and this GPU has 7.5"),
    ("80", False, "bf16 takes the CUDA kernels"),
    ("80", True, None),
    ("120", True, None),
])  # fmt: skip
def test_a_gpu_without_bfloat16_says_so_in_one_line(plant, capability, kernels, said):
    plant().cuda.Device.compute_capability = capability
    device = Device("cuda:0", kernels)
    assert device.lacks_bfloat16 == said
    if said:
        with pytest.raises(DeviceError, match=f"^cuda:0: {said}; use --set net.precision=float32$"):
            device.use("bf16")
    device.use("bf16", fall_back=True)
    assert device.precision == ("float32" if said else "bf16")

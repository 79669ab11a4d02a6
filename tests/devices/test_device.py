"""Devices on the host: the arena, copies, matrix products, workers, and device names."""

import gc
import threading
import time
import types

import numpy as np
import pytest

from tinyalex.devices import parallel
from tinyalex.devices.arena import Arena
from tinyalex.devices.device import Device
from tinyalex.errors import UsageError
from tinyalex.randomness import below, key, uniform


@pytest.fixture(autouse=True)
def threads(monkeypatch):
    """Restore the process's workers afterwards."""
    monkeypatch.setattr(parallel, "_workers", parallel._workers)
    return parallel.set_threads


def address(array):
    return getattr(array, "_array", array).ctypes.data


# The arena.

SHAPES = [(1,), (7,), (3, 5), (2, 3, 4, 5), (1000, 33), ()]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128", "uint8", "int64", "bool"])
def test_arena_array_behaves_like_any_array(shape, dtype):
    array = Arena().empty(shape, dtype)
    assert (array.shape, array.dtype, array.flags.c_contiguous, array.flags.writeable) == (shape, dtype, True, True)
    assert address(array) % 64 == 0
    array[...] = 1
    assert (array == 1).all()


@pytest.mark.parametrize("shape", [(0,), (3, 0, 2)])
def test_empty_arrays(shape):
    arena = Arena()
    arrays = [arena.empty(shape, "float32") for _ in range(3)]
    assert all(array.shape == shape and array.sum() == 0 for array in arrays)


def test_arena_block_is_reused():
    arena = Arena()
    array = arena.empty((100, 10), "float32")
    where, taken = address(array), arena.allocated
    assert taken >= 4000
    del array
    again = arena.empty((100, 10), "float32")
    assert (address(again), arena.allocated) == (where, taken)
    assert address(arena.empty((100, 10), "float32")) != where  # lent already
    assert arena.allocated == 2 * taken


def test_same_size_of_another_type_reuses_the_block():
    arena = Arena()
    where = address(arena.empty((64, 10), "float64"))
    assert address(arena.empty((10, 128), "float32")) == where


@pytest.mark.parametrize("batch", [128, 127, 121])
def test_shorter_batch_reuses_the_blocks_of_a_full_one(batch):
    arena = Arena()
    where = address(arena.empty((128, 55, 55, 3), "float32"))
    assert address(arena.empty((batch, 55, 55, 3), "float32")) == where


VIEWS = {
    "itself": lambda x: x,
    "slice": lambda x: x[3:4],
    "every other": lambda x: x[::2, ::-1],
    "reshaped": lambda x: x.reshape(-1),
    "transposed": lambda x: x.T,
    "other type": lambda x: x.view("float32"),
    "view of a view": lambda x: x.reshape(5, 4, 8)[1:].transpose(2, 0, 1)[..., None],
    "windows": lambda x: np.lib.stride_tricks.sliding_window_view(x, (2, 2)),
    "broadcast": lambda x: np.broadcast_to(x, (3, 20, 8)),
    "asarray": np.asarray,
    "memoryview": memoryview,
    "inside a list": lambda x: [x[0]],
}


@pytest.mark.parametrize("view", VIEWS)
def test_block_is_not_reused_while_a_view_exists(view):
    arena = Arena()
    array = arena.empty((20, 8), "float64")
    where, held = address(array), VIEWS[view](array)
    del array
    gc.collect()
    other = arena.empty((20, 8), "float64")
    assert address(other) != where, "overwrites what is still held"
    del held
    assert address(arena.empty((20, 8), "float64")) == where, "never comes back"


def test_arrays_in_use_are_never_overwritten():
    arena, held, chance = Arena(), {}, key(0, "arena")
    for number in range(3000):
        size = int(below(chance, 40, number, 0)) + 1
        array = arena.empty((size, 3), "int64")
        array[...] = number
        held[number] = array[:, int(below(chance, 3, number, 1))]
        del array
        while len(held) > 20 or (held and uniform(chance, number, len(held)) < 0.4):
            name = list(held)[int(below(chance, len(held), number, 2))]
            assert (held.pop(name) == name).all()
    assert arena.allocated < 300_000  # 3,000 arrays of 500 bytes


def test_threads_share_an_arena():
    arena, wrong = Arena(), []

    def work(worker):
        for number in range(400):
            mine = [arena.empty((100,), "int64") for _ in range(3)]
            for part, array in enumerate(mine):
                array[...] = worker * 10_000 + number * 3 + part
            if any((array != worker * 10_000 + number * 3 + part).any() for part, array in enumerate(mine)):
                wrong.append((worker, number))

    crowd = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    assert not wrong


def a_step(device):
    with device.step():
        x = device.empty((10, 30), "float32")
        y = device.zeros((30, 7), "float32")
        z = device.put(np.ones((10, 30)))
        return [address(array) for array in (x, y, z)]


@pytest.mark.parametrize("name", ["cpu", "fake:0"])
def test_second_step_allocates_nothing(name):
    device = Device(name)
    first, taken = a_step(device), device._arena.allocated
    assert taken > 0
    assert a_step(device) == first
    assert device._arena.allocated == taken


def test_memory_outside_a_step_is_not_from_the_arena():
    device = Device("cpu")
    device.zeros((100, 100), "float64")
    device.put(np.ones(7))
    assert device._arena.allocated == 0


def test_steps_nest_and_end_on_errors():
    device = Device("cpu")
    with pytest.raises(KeyError), device.step() as same:
        assert same is device
        with device.step():
            device.empty((9,), "float32")
        taken = device._arena.allocated
        device.empty((99,), "float32")  # still in the outer one
        assert device._arena.allocated > taken > 0
        raise KeyError
    taken = device._arena.allocated
    device.empty((9999,), "float32")
    assert device._arena.allocated == taken


def test_zeros_in_a_reused_block():
    device = Device("cpu")
    with device.step():
        device.empty((50,), "float32")[...] = 7
        assert not device.zeros((50,), "float32").any()


# Moving arrays.


@pytest.mark.parametrize("name", ["cpu", "fake:3"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128", "int64", "uint8"])
def test_put_and_get(name, dtype):
    device, host = Device(name), np.arange(24).reshape(4, 6).astype(dtype)
    for original in (host, host[::2, 1::2], host.T):
        there = device.put(original)
        assert there.flags.c_contiguous and there.dtype == dtype
        expected = original.copy()
        original += 1
        back = device.get(there)
        original -= 1
        assert type(back) is np.ndarray
        np.testing.assert_array_equal(back, expected)
        back[...] = 0
        np.testing.assert_array_equal(device.get(there), expected)


@pytest.mark.parametrize("source, destination", [("cpu", "cpu"), ("fake:0", "fake:1"), ("fake:1", "fake:1")])
def test_receive_copies(source, destination):
    source, destination, host = Device(source), Device(destination), np.arange(12.0).reshape(3, 4)
    array = source.put(host)
    copy = destination.receive(array, source)
    with source:
        array[...] = 0
    np.testing.assert_array_equal(destination.get(copy), host)
    assert getattr(copy, "device_name", "cpu") == destination.name


def test_receive_of_a_non_contiguous_array_raises():
    source, destination = Device("fake:0"), Device("fake:1")
    with pytest.raises(ValueError, match="^fake:0 to fake:1: only contiguous arrays cross between devices$"):
        destination.receive(source.put(np.ones((3, 4)))[:, 1:], source)


def test_entering_the_host_changes_nothing():
    device = Device("cpu")
    with device as same:
        assert same is device
    device.synchronize()
    assert device.on_host and Device("fake:0").on_host


# Products, shared among workers along the longer side.


@pytest.mark.parametrize("name", ["cpu", "fake:0"])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("rows, inner, columns", [(64, 300, 301), (301, 300, 64), (256, 64, 256), (3, 4, 5), (1, 9, 1)])
def test_matmul(threads, name, count, rows, inner, columns):
    threads(count)
    device, calls = Device(name), []
    a = below(key(0, "a"), 9, np.arange(rows * inner)).reshape(rows, inner).astype("float64") - 4
    b = below(key(0, "b"), 9, np.arange(inner * columns)).reshape(inner, columns).astype("float64") - 4
    x, y, wide = device.put(a), device.put(b), device.zeros((rows, columns + 3), "float64")
    out, xp = wide[:, 2:-1], device.xp

    def matmul(a, b, out):
        calls.append(threading.get_ident())
        xp.matmul(a, b, out=out)

    device.xp = types.SimpleNamespace(matmul=matmul)
    with device:
        device.matmul(x, y, out)
    large = rows * inner * columns >= 1 << 22
    assert len(calls) == (count if large else 1)
    assert (threading.get_ident() in calls) == (not large or count == 1)
    np.testing.assert_array_equal(device.get(out), a @ b)  # small whole numbers: exact in any order
    assert not device.get(wide)[:, [0, 1, -1]].any()


@pytest.mark.parametrize("size", [0, 1, 2, 3, 10, 129])
@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_ranges_cover_everything_once(size, parts):
    cuts = parallel.ranges(size, parts)
    assert [i for cut in cuts for i in range(size)[cut]] == list(range(size))
    lengths = [cut.stop - cut.start for cut in cuts]
    assert len(cuts) == min(size, parts)
    assert not lengths or max(lengths) - min(lengths) <= 1


# Workers.


@pytest.mark.parametrize("count", [1, 2, 3])
def test_results_come_in_order(threads, count):
    threads(count)

    def late(number):
        time.sleep(0.02 * (3 - number))
        return number * number

    assert parallel.workers().run(late, [0, 1, 2, 3]) == [0, 1, 4, 9]
    assert parallel.workers().run(late, []) == []


def test_workers_run_in_parallel(threads):
    threads(2)
    meeting = threading.Barrier(2, timeout=10)
    parallel.workers().run(lambda _: meeting.wait(), [0, 1])  # breaks if one comes after the other


def test_exceptions_are_raised_in_the_caller(threads):
    threads(2)

    def fail(number):
        if number == 1:
            raise KeyError("this one")
        return number

    with pytest.raises(KeyError, match="this one"):
        parallel.workers().run(fail, [0, 1, 2])
    assert parallel.workers().run(fail, [0, 2]) == [0, 2]


def test_nested_runs_stay_on_their_worker(threads):
    threads(2)
    assert not parallel.workers().busy

    def inner(_):
        return threading.get_ident()

    def outer(_):
        assert parallel.workers().busy
        return threading.get_ident(), parallel.workers().run(inner, [0, 1, 2])

    for ident, inside in parallel.workers().run(outer, [0, 1]):
        assert ident != threading.get_ident() and set(inside) == {ident}
    assert not parallel.workers().busy


def test_one_worker_runs_in_the_caller(threads):
    threads(1)
    assert parallel.workers().run(lambda _: threading.get_ident(), [0, 1]) == [threading.get_ident()] * 2


def test_blas_gets_one_thread_a_worker(threads):
    from threadpoolctl import threadpool_info, threadpool_limits

    with threadpool_limits(limits=2, user_api="blas"):
        threads(parallel.workers().count + 1)
        assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {1}


def test_number_of_workers(monkeypatch, threads):
    monkeypatch.setattr(parallel, "_workers", None)
    monkeypatch.setenv("TINYALEX_THREADS", "3")
    assert parallel.workers().count == 3
    same = parallel.workers()
    threads(3)
    assert parallel.workers() is same
    with pytest.raises(UsageError, match="^threads: 0 is not a number of threads; use 1 or more$"):
        threads(0)


# Names.


@pytest.mark.parametrize(
    "name", ["gpu", "cuda", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "fake", "", "cuda:0:1", "CUDA:0"]
)
def test_invalid_device_names_raise(name):
    with pytest.raises(UsageError) as error:
        Device(name)
    assert str(error.value) == (f"device '{name}': no such kind of device; use cpu, cuda:0, cuda:1, ... or fake:0, ...")


def test_valid_device_names():
    assert (Device().name, Device().kind, Device().index) == ("cpu", "cpu", 0)
    assert (Device("fake:12").kind, Device("fake:12").index) == ("fake", 12)
    assert repr(Device("fake:12")) == "Device('fake:12')"

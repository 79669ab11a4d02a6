"""Threads: a forked process starts its own and computes as its parent does; where few are allowed, few compute."""

import concurrent.futures.thread
import multiprocessing
import os
import sys
import tempfile
import threading
import time
import types

import numpy as np
import pytest

from tests.support.forks import forked
from tests.support.layer_cases import noise
from tests.support.small_runs import small, stripes
from tinyalex.datasets.loading import background, batches
from tinyalex.datasets.loading.background import made_ahead
from tinyalex.devices import cuda, happens_before, parallel
from tinyalex.devices.device import Device
from tinyalex.errors import BusyError, DeviceError
from tinyalex.network import alexnet
from tinyalex.recipes import recipe as recipes
from tinyalex.runs.train import train
from tinyalex.system import lock
from tinyalex.training.evaluation import evaluate
from tinyalex.training.loop import Training

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    monkeypatch.setattr(parallel, "_workers", None)
    parallel.set_threads(2)


def network(devices=("cpu",)):
    made = recipes.with_classes(small(), 2)
    return alexnet.build(made.net, made.init, devices, seed=0)


def images(count=32):
    return noise(count, 20, 20, 3).astype("float32")


@pytest.mark.parametrize("devices", [["cpu"], ["cpu", "cpu"], ["fake:0", "fake:1"]], ids=" ".join)
def test_predict_in_a_forked_process_after_predict_in_the_parent(devices):
    net, x = network(devices), images()
    wanted = net.predict(x)
    assert np.array_equal(forked(lambda: net.predict(x)), wanted)
    assert np.array_equal(forked(lambda: forked(lambda: net.predict(x))), wanted)  # and in that one's own child
    assert np.array_equal(net.predict(x), wanted)  # the parent's threads are still there


def test_a_forked_process_uses_as_many_threads_as_its_parent():
    def threads():
        count = parallel.workers().count
        return count, len(set(parallel.workers().run(lambda _: time.sleep(0.05) or threading.get_ident(), range(3))))

    parallel.set_threads(3)
    assert forked(threads) == (3, 3)
    parallel.set_threads(1)
    assert forked(threads) == (1, 1)


def test_a_process_of_multiprocessing_that_was_forked_predicts():
    net, x = network(), images()
    wanted = net.predict(x)
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    process = context.Process(target=lambda: answers.put(net.predict(x)))
    process.start()
    process.join(20)
    if process.is_alive():
        process.kill()
    assert process.exitcode == 0 and np.array_equal(answers.get(), wanted)


def test_training_goes_on_in_a_forked_process_with_the_same_bits():
    def steps(training, count):
        results = training.train_steps(training.batches())
        for _ in range(count):
            next(results)
        return [p.value.copy() for p in training.network.parameters()]

    dataset = stripes()
    wanted = steps(Training(small(), dataset), 5)
    training = Training(small(), dataset)
    steps(training, 2)
    in_child, in_parent = forked(lambda: steps(training, 3)), steps(training, 3)
    for found in (in_child, in_parent):
        assert all(map(np.array_equal, found, wanted))


@pytest.mark.parametrize("devices", ["cpu", "fake:0"])
def test_batches_go_on_in_a_forked_process(devices):
    dataset, made = stripes(), recipes.with_classes(small(batch=8), 2)

    def epoch():
        return batches.training_batches(dataset, made, 0, 0, devices=[Device(devices)], threads=3)

    wanted = [batch.indices.tolist() for batch in epoch()]
    going = epoch()
    assert next(going).indices.tolist() == wanted[0]
    assert forked(lambda: [batch.indices.tolist() for batch in going]) == wanted[1:]
    assert [batch.indices.tolist() for batch in going] == wanted[1:]


def test_a_test_of_the_network_in_a_forked_process():
    dataset, net = stripes(), network()
    made = recipes.with_classes(small(), 2)
    wanted = evaluate(net, dataset.test, dataset.mean, made)
    assert forked(lambda: evaluate(net, dataset.test, dataset.mean, made)) == wanted


def test_locks_that_other_threads_hold_at_the_fork_do_not_matter():
    x, net = images(), network(["fake:0"])
    wanted, going = net.predict(x), made_ahead(lambda number: number, range(9), 2)
    next(going)
    locks = [going.gi_frame.f_locals["pool"]._changed, happens_before._lock, parallel.workers()._pool._shutdown_lock]
    held, go = threading.Barrier(2), threading.Event()

    def hold():
        for each in locks:
            each.acquire()
        held.wait()
        go.wait()
        for each in locks:
            each.release()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    try:
        assert np.array_equal(forked(lambda: net.predict(x)), wanted)
        assert forked(lambda: list(going)) == list(range(1, 9))
        assert forked(lambda: going.close()) is None
    finally:
        go.set()
        holder.join()
    assert list(going) == list(range(1, 9))


def test_a_fork_in_the_middle_of_a_step_of_another_thread():
    training, stop, done = Training(small(epochs=10_000), stripes()), threading.Event(), []
    other, x = network(), images()
    wanted = other.predict(x)

    def train():
        while not stop.is_set():
            for _ in training.train_steps(training.batches()):
                done.append(1)
                if stop.is_set():
                    break

    thread = threading.Thread(target=train)
    thread.start()
    try:
        for at in range(8):
            before = len(done)
            while len(done) == before:
                time.sleep(0.001)
            time.sleep(0.003 * at)
            same, finite = forked(
                lambda: (
                    np.array_equal(other.predict(x), wanted),
                    bool(np.isfinite(training.network.predict(x)).all()),
                )
            )
            assert same and finite
    finally:
        stop.set()
        thread.join()


def test_a_fork_by_a_worker_thread():
    net, x = network(), images()
    wanted = net.predict(x)
    answers = parallel.workers().run(lambda _: forked(lambda: net.predict(x)), range(2))
    assert all(np.array_equal(answer, wanted) for answer in answers)


def test_what_the_loader_made_ahead_in_the_parent_is_made_again():
    made = []
    going = made_ahead(lambda number: made.append(number) or number, range(6), 2)
    assert next(going) == 0
    while len(made) < 4:
        time.sleep(0.001)
    assert forked(lambda: (made.clear(), list(going), sorted(made))[1:]) == ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5])


def test_a_whole_run_in_a_forked_process(tmp_path):
    wanted = train(small(epochs=1), stripes(), tmp_path / "parent", show=print)
    assert forked(lambda: train(small(epochs=1), stripes(), tmp_path / "child", show=str)) == wanted


def test_a_forked_process_does_not_keep_the_lock_of_its_parent(tmp_path):
    begun, stop = os.pipe(), os.pipe()
    with lock.hold(tmp_path, "training", "--out"):
        child = os.fork()
        if child == 0:
            os.write(begun[1], b".")
            os.read(stop[0], 1)
            os._exit(0)
        os.read(begun[0], 1)
    try:
        with lock.hold(tmp_path, "training", "--out"):  # while the child lives

            def refused():
                with pytest.raises(BusyError), lock.hold(tmp_path, "training", "--out"):
                    pass

            forked(refused)
            refused()  # the child's end did not release it
    finally:
        os.write(stop[1], b".")
        os.waitpid(child, 0)
        for end in (*begun, *stop):
            os.close(end)


def test_a_block_that_a_forked_process_leaves_keeps_the_parents_lock(tmp_path):
    def leave(held):
        held.__exit__(None, None, None)

    held = lock.hold(tmp_path, "training", "--out")
    with held:
        forked(lambda: leave(held))
        with pytest.raises(BusyError, match=f"process {os.getpid()} "), lock.hold(tmp_path, "training", "--out"):
            pass


@pytest.mark.parametrize("wrong", ["CUPY_CACHE_DIR", "HOME", "TMPDIR", None])
def test_cupy_keeps_its_kernels_in_memory_where_it_cannot_write(monkeypatch, tmp_path, wrong):
    (tmp_path / "file").touch()
    for name in ("CUPY_CACHE_DIR", "CUPY_CACHE_IN_MEMORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    if wrong == "TMPDIR":
        monkeypatch.setattr(tempfile, "gettempdir", lambda: (_ for _ in ()).throw(FileNotFoundError("no folder")))
    elif wrong:
        monkeypatch.setenv(wrong, str(tmp_path / "file"))
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(DeviceError):
        cuda.find("cuda:0", 0)
    assert os.environ.get("CUPY_CACHE_IN_MEMORY") == ("1" if wrong else None)


def test_cuda_is_refused_in_a_process_that_was_forked_after_it_was_used(monkeypatch):
    def error():
        with pytest.raises(DeviceError) as caught:
            cuda.find("cuda:0", 0)
        return str(caught.value)

    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(cuda, "_lost", False)
    monkeypatch.setattr(cuda, "_in_use", False)
    assert "not installed" in forked(error)  # not used before: whatever else is wrong is reported
    monkeypatch.setattr(cuda, "_in_use", True)
    assert forked(error).startswith("cuda:0: CUDA does not work in a process that was forked")
    assert "not installed" in error()


# Where the system allows no more threads.


class Limited(threading.Thread):
    """A thread that the system starts only while fewer than ``allowed`` of its kind are running."""

    allowed = 0

    def start(self):
        if sum(isinstance(thread, Limited) for thread in threading.enumerate()) >= Limited.allowed:
            raise RuntimeError("can't start new thread")
        super().start()


@pytest.fixture
def limited(monkeypatch):
    """Return a function that limits how many threads a module may start."""

    def limit(module, allowed):
        monkeypatch.setattr(Limited, "allowed", allowed)
        monkeypatch.setattr(module, "threading", types.SimpleNamespace(**vars(threading) | {"Thread": Limited}))

    return limit


@pytest.mark.parametrize(("allowed", "count"), [(0, 1), (1, 1), (2, 2), (3, 3), (9, 4)])
def test_fewer_threads_compute_if_the_system_allows_no_more(limited, allowed, count):
    limited(concurrent.futures.thread, allowed)
    parallel.set_threads(4)
    workers = parallel.workers()
    assert (workers.count, workers.wanted) == (count, 4)
    assert workers.run(lambda number: number + 1, range(20)) == list(range(1, 21))
    assert parallel.set_threads(4) or parallel.workers() is workers  # asking for the same again starts nothing


@pytest.mark.parametrize("allowed", [0, 1, 2])
def test_the_loader_goes_on_with_fewer_threads_or_with_none(limited, allowed):
    limited(background, allowed)
    assert list(made_ahead(lambda number: number, range(9), 4)) == list(range(9))
    dataset, made = stripes(), recipes.with_classes(small(), 2)
    found = batches.test_batches(dataset.test, dataset.mean, made, 16, threads=4)
    assert sum(len(batch.labels) for batch in found) == len(dataset.test)


@pytest.mark.parametrize(("count", "before", "after"), [(2, 5e-3, 2e-4), (2, 1e-4, 1e-4), (1, 5e-3, 5e-3)])
def test_workers_wait_a_fifth_of_a_millisecond_for_their_turn(count, before, after):
    kept = sys.getswitchinterval()
    try:
        sys.setswitchinterval(before)
        parallel.Workers(count)
        assert sys.getswitchinterval() == pytest.approx(after, abs=2e-6)  # Python counts whole microseconds
    finally:
        sys.setswitchinterval(kept)

"""`made_ahead`: results come in order, once each, whatever the threads do; no thread stays, no caller hangs."""

import gc
import threading
import time
import types
import weakref

import pytest

from tinyalex.datasets.loading import background
from tinyalex.datasets.loading.background import made_ahead


def loader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("tinyalex-loader")]


def until(condition, seconds=5):
    """Wait until a condition that other threads bring about holds."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.002)
    return condition()


def test_a_result_that_comes_between_a_wait_and_the_check_is_found(monkeypatch):
    """The last result is made, and its thread ends, between a timed-out wait and the check for live threads."""

    class Late(threading.Condition):
        def wait(self, timeout=None):
            super().wait(timeout)
            self.release()
            assert until(lambda: not loader_threads())
            self.acquire()
            return False

    monkeypatch.setattr(background, "threading", types.SimpleNamespace(**vars(threading) | {"Condition": Late}))
    assert list(made_ahead(lambda number: time.sleep(0.01) or number, [5], 1)) == [5]


@pytest.mark.parametrize("threads", [0, 1, 2, 7, 50])
def test_results_come_in_order_whatever_the_threads_speed(threads):
    def make(number):
        time.sleep(0.003 * (number * 7 % 5))
        return number * number

    assert list(made_ahead(make, range(3, 33), threads)) == [number * number for number in range(3, 33)]
    assert list(made_ahead(make, [], threads)) == []


@pytest.mark.parametrize("threads", [1, 3])
def test_at_most_threads_plus_one_are_made_ahead(threads):
    made = []
    things = made_ahead(lambda number: made.append((number, threading.current_thread().name)), range(100), threads)
    assert not loader_threads()  # nothing was requested yet
    next(things)
    assert until(lambda: len(made) >= threads + 2)
    time.sleep(0.03)
    assert sorted(number for number, _ in made) == list(range(threads + 2))  # ours, and those made ahead
    assert all(name.startswith("tinyalex-loader") for _, name in made)
    things.close()


def test_without_threads_the_caller_makes_the_results():
    things = made_ahead(lambda number: threading.current_thread(), range(3), 0)
    assert set(things) == {threading.current_thread()}


@pytest.mark.parametrize("leave", ["close", "drop", "exhaust", "raise"])
@pytest.mark.parametrize("threads", [1, 4])
def test_no_thread_stays_when_the_generator_ends(threads, leave):
    things = made_ahead(lambda number: number, range(30), threads)
    next(things)
    assert loader_threads()
    if leave == "close":
        things.close()
    elif leave == "exhaust":
        list(things)
    elif leave == "raise":
        with pytest.raises(KeyboardInterrupt):
            things.throw(KeyboardInterrupt)
    del things
    gc.collect()
    assert not loader_threads()


def test_closing_starts_no_further_calls():
    made, go = [], threading.Event()

    def make(number):
        made.append(number)
        if number:
            go.wait(5)

    things = made_ahead(make, range(30), 2)
    next(things)
    assert until(lambda: len(made) == 3)
    threading.Timer(0.05, go.set).start()
    things.close()
    assert sorted(made) == [0, 1, 2] and not loader_threads()


def test_closing_does_not_wait_long_for_a_thread_that_hangs(monkeypatch):
    """A read from a disk that does not answer must not block the caller; the thread is a daemon."""
    monkeypatch.setattr(background, "JOIN_SECONDS", 0.05)
    go = threading.Event()
    things = made_ahead(lambda number: number and go.wait(20), range(30), 1)
    next(things)
    things.close()
    (thread,) = loader_threads()
    assert thread.daemon
    go.set()
    assert until(lambda: not loader_threads())


@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.parametrize("error", [OSError("disk gone"), SystemExit(3), KeyboardInterrupt()])
def test_an_error_is_raised_when_its_number_is_due(threads, error):
    def make(number):
        if number == 4:
            raise error
        return number

    things = made_ahead(make, range(30), threads)
    assert [next(things) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(type(error)) as caught:
        next(things)
    assert caught.value is error
    assert not loader_threads()
    with pytest.raises(StopIteration):
        next(things)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("last", [5, 29])
def test_a_thread_that_ends_early_is_noticed(monkeypatch, threads, last):
    """The caller gets an error even if the thread ends without reporting one."""
    take = background._Pool._next

    def cut_short(pool):
        number = take(pool)
        if number == last:
            raise SystemExit  # ends the thread without a report
        return number

    monkeypatch.setattr(background._Pool, "_next", cut_short)
    things = made_ahead(lambda number: number, range(30), threads)
    assert [next(things) for _ in range(last)] == list(range(last))
    with pytest.raises(RuntimeError, match=f"a thread ended before batch {last} was made"):
        next(things)
    assert not loader_threads()


def test_a_result_is_not_kept_after_it_was_yielded():
    """Once the caller drops a result, its memory is freed."""

    class Thing:
        pass

    seen = []
    for thing in made_ahead(lambda number: Thing(), range(20), 3):
        seen.append(weakref.ref(thing))
        del thing
    gc.collect()
    assert len(seen) == 20 and all(reference() is None for reference in seen)

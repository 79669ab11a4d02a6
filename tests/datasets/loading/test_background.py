"""Made ahead, in order: whatever the threads do, nothing comes twice, out of turn or not at all, and nobody waits."""

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
    """Wait for something that other threads do."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.002)
    return condition()


def test_who_looks_late_finds_what_was_made(monkeypatch):
    """The last thing is made, and its thread gone, between the end of a wait and the look at who is still there."""

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
def test_in_order_whoever_is_quick(threads):
    def make(number):
        time.sleep(0.003 * (number * 7 % 5))
        return number * number

    assert list(made_ahead(make, range(3, 33), threads)) == [number * number for number in range(3, 33)]
    assert list(made_ahead(make, [], threads)) == []


@pytest.mark.parametrize("threads", [1, 3])
def test_so_many_are_made_ahead_and_no_more(threads):
    made = []
    things = made_ahead(lambda number: made.append((number, threading.current_thread().name)), range(100), threads)
    assert not loader_threads()  # nobody has asked yet
    next(things)
    assert until(lambda: len(made) >= threads + 2)
    time.sleep(0.03)
    assert sorted(number for number, _ in made) == list(range(threads + 2))  # the one we have and those that wait
    assert all(name.startswith("tinyalex-loader") for _, name in made)
    things.close()


def test_without_threads_the_caller_makes_them():
    things = made_ahead(lambda number: threading.current_thread(), range(3), 0)
    assert set(things) == {threading.current_thread()}


@pytest.mark.parametrize("leave", ["close", "drop", "exhaust", "raise"])
@pytest.mark.parametrize("threads", [1, 4])
def test_no_thread_stays(threads, leave):
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


def test_closing_does_not_wait_for_what_was_not_begun():
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


def test_closing_leaves_a_thread_that_hangs(monkeypatch):
    """A read of a disk that does not answer must not keep the caller: the thread is a daemon."""
    monkeypatch.setattr(background, "PATIENCE", 0.05)
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
def test_an_error_comes_in_its_turn(threads, error):
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
def test_a_thread_that_ends_before_its_time_is_noticed(monkeypatch, threads, last):
    """Not even an end that no thread can report leaves the caller waiting."""
    take = background._Workshop._next

    def cut_short(shop):
        number = take(shop)
        if number == last:
            raise SystemExit  # ends the thread, and says nothing
        return number

    monkeypatch.setattr(background._Workshop, "_next", cut_short)
    things = made_ahead(lambda number: number, range(30), threads)
    assert [next(things) for _ in range(last)] == list(range(last))
    with pytest.raises(RuntimeError, match=f"a thread ended before batch {last} was made"):
        next(things)
    assert not loader_threads()


def test_what_is_handed_over_is_not_held():
    """Once the caller lets go of a thing, it is gone, and its memory with it."""

    class Thing:
        pass

    seen = []
    for thing in made_ahead(lambda number: Thing(), range(20), 3):
        seen.append(weakref.ref(thing))
        del thing
    gc.collect()
    assert len(seen) == 20 and all(reference() is None for reference in seen)

"""Run a function in background threads, ahead of the caller, and yield the results in order."""

import os
import threading
import time
from collections import deque

JOIN_SECONDS = 2.0  # how long closing waits for the threads to end


def made_ahead(make, numbers, threads=1):
    """Yield ``make(number)`` for each number, in order; threads compute the next ones meanwhile.

    The results come in the same order whatever the number of threads and their timing. At most ``threads + 1`` results
    are made, or being made, ahead of the caller. An error in ``make`` is raised when its number is due. Closing or
    dropping the generator starts no more calls and waits at most two seconds for those that are running.

    If the system allows fewer threads, there are fewer. A forked process that goes on with the generator starts threads
    of its own, which make what was made ahead in its parent once more.

    Parameters
    ----------
    make : callable
        Called in the threads, by several at the same time.
    numbers : iterable of int
    threads : int
        0: no thread; the caller makes each result itself.
    """
    if threads == 0:
        yield from map(make, numbers)
        return
    numbers = list(numbers)
    pool = _Pool(make, numbers, threads)
    try:
        for at, number in enumerate(numbers):
            if pool.process != os.getpid():
                pool = _Pool(make, numbers[at:], threads)
            yield pool.take(number)
    finally:
        if pool.process == os.getpid():
            pool.close()


class _Pool:
    # The state that the threads and the caller share, under one lock. The threads are daemons, so that one that hangs
    # in a read from a dead disk does not keep the process alive.
    def __init__(self, make, numbers, threads):
        self.process = os.getpid()  # a forked process has this state, but none of the threads
        self._make, self._todo, self._slots, self._open = make, deque(numbers), threads + 1, True
        self._done, self._changed, self._threads = {}, threading.Condition(), []
        for number in range(min(threads, len(numbers))):
            thread = threading.Thread(target=self._work, name=f"tinyalex-loader-{number}", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system allows no more threads
                break
            self._threads.append(thread)

    def _work(self):
        while (number := self._next()) is not None:
            try:
                made = self._make(number), None
            except BaseException as error:
                made = None, error
            with self._changed:
                self._done[number] = made
                self._changed.notify_all()
            del made  # so that its memory can be reused as soon as the caller drops it

    def _next(self):
        with self._changed:
            self._changed.wait_for(lambda: self._slots or not (self._open and self._todo))
            if not (self._open and self._todo):
                return None
            self._slots -= 1
            return self._todo.popleft()

    def take(self, number):
        if not self._threads:  # none could be started
            return self._make(number)
        with self._changed:
            while number not in self._done:
                # Look again after the wait: the result may have come, and its thread ended, in between.
                if not self._changed.wait(0.5) and number not in self._done and self._abandoned():
                    raise RuntimeError(f"loader: a thread ended before batch {number} was made")
            made, error = self._done.pop(number)
            self._slots += 1
            self._changed.notify_all()
        try:
            if error is not None:
                raise error
            return made
        finally:
            del made, error  # break the cycle error -> traceback -> this frame -> error

    def _abandoned(self):
        ended = sum(not thread.is_alive() for thread in self._threads)
        return ended == len(self._threads) or (ended and self._todo)

    def close(self):
        with self._changed:
            self._open = False
            self._changed.notify_all()
        end = time.monotonic() + JOIN_SECONDS
        for thread in self._threads:
            if thread is not threading.current_thread():  # garbage collection may close a generator in one of them
                thread.join(max(0.0, end - time.monotonic()))

"""Things made by threads while the caller is busy, and handed over in order."""

import threading
import time
from collections import deque

PATIENCE = 2.0  # seconds for the threads to end when nobody wants more


def made_ahead(make, numbers, threads=1):
    """Yield ``make(number)`` for each number, in order; the next ones are made in the background meanwhile.

    Whatever the number of threads and their timing, the same things come in the same order. At most ``threads + 1`` are
    made or being made ahead of the caller. An error is raised when its number's turn has come. A generator that is
    closed or dropped begins nothing new and waits two seconds, at most, for what was begun.

    Parameters
    ----------
    make : callable
        Called by the threads, by several at the same time.
    numbers : iterable of int
    threads : int
        0: no thread; each thing is made when it is asked for.
    """
    if threads == 0:
        yield from map(make, numbers)
        return
    numbers = list(numbers)
    shop = _Workshop(make, numbers, threads)
    try:
        for number in numbers:
            yield shop.take(number)
    finally:
        shop.close()


class _Workshop:
    # What the threads and the taker share, under one lock. Threads are daemons: one that hangs in a read of a dead disk
    # does not keep the process alive.
    def __init__(self, make, numbers, threads):
        self._make, self._todo, self._room, self._open = make, deque(numbers), threads + 1, True
        self._done, self._changed = {}, threading.Condition()
        names = [f"tinyalex-loader-{number}" for number in range(min(threads, len(numbers)))]
        self._threads = [threading.Thread(target=self._work, name=name, daemon=True) for name in names]
        for thread in self._threads:
            thread.start()

    def _work(self):
        while (number := self._next()) is not None:
            try:
                made = self._make(number), None
            except BaseException as error:
                made = None, error
            with self._changed:
                self._done[number] = made
                self._changed.notify_all()
            del made  # its memory goes round as soon as the taker has let go of it

    def _next(self):
        with self._changed:
            self._changed.wait_for(lambda: self._room or not (self._open and self._todo))
            if not (self._open and self._todo):
                return None
            self._room -= 1
            return self._todo.popleft()

    def take(self, number):
        with self._changed:
            while number not in self._done:
                # It may have been made, and its thread ended, while this one waited for the lock.
                if not self._changed.wait(0.5) and number not in self._done and self._abandoned():
                    raise RuntimeError(f"loader: a thread ended before batch {number} was made")
            made, error = self._done.pop(number)
            self._room += 1
            self._changed.notify_all()
        try:
            if error is not None:
                raise error
            return made
        finally:
            del made, error  # an error that holds the frame that holds it would live on

    def _abandoned(self):
        ended = sum(not thread.is_alive() for thread in self._threads)
        return ended == len(self._threads) or (ended and self._todo)

    def close(self):
        with self._changed:
            self._open = False
            self._changed.notify_all()
        end = time.monotonic() + PATIENCE
        for thread in self._threads:
            if thread is not threading.current_thread():  # whoever collects garbage may be one of them
                thread.join(max(0.0, end - time.monotonic()))

"""The CPU's worker threads, and how a step's work is split among them."""

import math
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import numpy as np

from tinyalex.devices import container
from tinyalex.errors import UsageError

_TURN = 2e-4  # seconds: see `Workers`
_CHUNK = 1 << 15  # elements: three float32 arrays of this length stay in a core's cache
_OF_SEVERAL = 1 << 17  # with several threads: shorter operations would mostly wait for Python's lock, see `Workers`


class Workers:
    """Threads that share a step's work on the CPU, each with a BLAS that uses one thread.

    This way the operations between the matrix products run in parallel too. A thread needs Python's lock for a moment
    between two operations of NumPy. The other threads often have it then, and with operations of some 20 microseconds a
    thread may miss its turn many times, until Python makes the others wait. It does so after 5 ms as shipped, and after
    a fifth of a millisecond as soon as there are workers, which saves a tenth of a step of a small net.

    Parameters
    ----------
    count : int
    shares : int, optional
        Into how many shares a step's work is divided: see `divide`.

    Attributes
    ----------
    wanted : int
        As given.
    threads : int
        How many threads compute. Fewer than wanted if the system does not allow so many.
    count : int
        How many shares a step's work has: one for each thread, unless `divide` has said otherwise.
    """

    def __init__(self, count, shares=None):
        from threadpoolctl import threadpool_limits

        # Before the first product: once a BLAS thread pool has run, its threads keep spinning beside ours.
        threadpool_limits(limits=1, user_api="blas")
        self.wanted = count
        self._pool, self.threads = _started(count)
        if self.threads > 1:
            sys.setswitchinterval(min(sys.getswitchinterval(), _TURN))
        self.count = shares or self.threads
        self._here = threading.local()

    def run(self, function, arguments):
        """Call ``function(argument)`` for each argument, in parallel, and return the results in order."""
        if self.busy or self.count == 1 or len(arguments) == 1:
            return [self._quietly(function, argument) for argument in arguments]
        if self._pool is None:
            return [self._inside(function, argument) for argument in arguments]
        # Each runs in a copy of the caller's context, so that the caller's current device is also the worker's.
        futures = [self._pool.submit(copy_context().run, self._inside, function, argument) for argument in arguments]
        return [future.result() for future in futures]

    @property
    def busy(self):
        """Whether the caller is itself one of the workers."""
        return getattr(self._here, "busy", False)

    def _inside(self, function, argument):
        self._here.busy = True
        try:
            return self._quietly(function, argument)
        finally:
            self._here.busy = False

    @staticmethod
    def _quietly(function, argument):
        # No warnings of overflow: training checks the loss and names the layer where it happened.
        with np.errstate(over="ignore", invalid="ignore"):
            return function(argument)


def _started(count):
    # A pool of threads that are all running, and their number; at 1 the caller computes, and there is no pool. All are
    # started now, because a step's work is divided by their number.
    while count > 1:
        pool, gate, running = ThreadPoolExecutor(count, thread_name_prefix="tinyalex"), threading.Event(), 0
        try:
            while running < count:
                pool.submit(gate.wait)  # a thread that waits takes no second task, so each task starts a thread
                running += 1
            return pool, count
        except RuntimeError:  # the system allows no more threads
            count = running
        finally:
            gate.set()
        pool.shutdown()
    return None, 1


_workers = None
_shares = None  # what `divide` was given
_forked_with = None  # in a forked process: how many threads its parent had asked for


def workers():
    """Return the process's workers: ``TINYALEX_THREADS`` of them, or one for each processor that it may use.

    A forked process gets threads of its own, as many as its parent used, when it asks for them.
    """
    if _workers is None:
        wanted = str(_forked_with or os.environ.get("TINYALEX_THREADS") or processors())
        if not wanted.isdecimal():
            raise UsageError(f"TINYALEX_THREADS: {wanted!r} is not a number of threads; use 1 or more")
        set_threads(int(wanted))
    return _workers


def processors():
    """Count the processors that this process may use: those that it may run on, or its container's share of time."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(count, math.ceil(container.cpus() or count))


def set_threads(count):
    """Use ``count`` worker threads from now on. Results with another count may differ in the last bits."""
    global _workers
    if count < 1:
        raise UsageError(f"threads: {count} is not a number of threads; use 1 or more")
    if _workers is None or _workers.wanted != count:
        _workers = Workers(count, _shares)


def divide(shares):
    """Divide the work of each step from now on into so many shares, whatever the number of threads that compute them.

    The bits of a result depend on the shares, because each is a sum of its own, and not on the threads.

    Parameters
    ----------
    shares : int or None
        None: one for each thread, as it is at the start.
    """
    global _shares
    _shares = shares
    workers().count = shares or workers().threads


def _after_fork():
    global _workers, _forked_with
    if _workers is not None:  # its threads are in the parent only
        _workers, _forked_with = None, _workers.wanted


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def ranges(size, parts):
    """Split ``range(size)`` into at most ``parts`` slices of nearly equal length."""
    edges = [size * i // parts for i in range(parts + 1)]
    return [slice(lo, hi) for lo, hi in zip(edges, edges[1:], strict=False) if hi > lo]


def spread(function, arrays, *settings):
    """Call ``function(*parts, *settings)`` for parts of arrays that fit in cache, split among the workers."""
    if not all(array.flags.c_contiguous for array in arrays):
        raise ValueError("arrays: only contiguous ones are changed in place")
    arrays = [array.reshape(-1) for array in arrays]
    size, chunk = len(arrays[0]), _OF_SEVERAL if workers().threads > 1 else _CHUNK

    def share(part):
        for low in range(part.start, part.stop, chunk):
            high = min(low + chunk, part.stop)
            function(*(array[low:high] for array in arrays), *settings)

    workers().run(share, ranges(size, workers().count if size > _CHUNK else 1))

"""Processes that share the tasks of a long work: spawned, each with one BLAS thread, watched, and gone when it ends.

Ctrl-C and SIGTERM reach the caller alone. A process that dies is noticed at once, by the end of its pipe; one whose
caller was killed ends at its next step.
"""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import traceback
from multiprocessing import connection, resource_tracker

from tinyalex.errors import DataError, Interrupted

_TICK = 0.2  # seconds
_PATIENCE = 5.0  # seconds for a process to end that has nothing left to do
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Desk:
    """Where a job says how far it has come.

    Parameters
    ----------
    place : ctypes value
        Shared with the caller's process.
    pipe : Connection
        To the caller's process.
    """

    def __init__(self, place, pipe):
        self._place, self._pipe, self._parent = place, pipe, os.getppid()

    def at(self, part):
        """Note that part number ``part`` is begun."""
        self._place.value = part
        self.needed()

    def computed(self):
        """Note that all that remains of this task is to write: meanwhile another process may compute."""
        self._pipe.send(None)

    def needed(self):
        """End this process if whoever started it is gone."""
        if os.getppid() != self._parent:
            os._exit(1)


def run(job, tasks, count, stop, done, tick, describe):
    """Have tasks done by processes.

    Parameters
    ----------
    job : function of a task and a `Desk`
        By name, so that another process can import it; so are the types of tasks and answers.
    tasks : list
    count : int
        Processes that compute at the same time. There is one more, so that none computes less for waiting for the disk.
    stop : StopRequests
        Asked several times a second whether to go on.
    done : function of a task and its answer
        Called here, in whatever order they come.
    tick : function of an int
        Called several times a second with the parts that are begun of the tasks that are not done.
    describe : function of a task and a part
        Names what a process was at, should it die.

    Raises
    ------
    Interrupted
        When ``stop`` was asked.
    DataError
        When a process died.
    Exception
        What a job raised.
    """
    waiting, crew = list(reversed(tasks)), []
    with contextlib.ExitStack() as stack:
        stack.callback(_dismiss, crew)
        spare = len(tasks) > count + 1  # to write where nothing is left to compute meanwhile, none is needed
        for _ in range(min(count + spare, len(tasks))):
            crew.append(_Worker(job))
        while waiting or any(worker.busy for worker in crew):
            for worker in crew:
                if waiting and not worker.busy and sum(worker.computes for worker in crew) < count:
                    worker.give(waiting.pop())
            if stop.stop_requested:
                raise Interrupted("stopped")
            for pipe in connection.wait([worker.pipe for worker in crew if worker.busy], _TICK):
                worker = next(each for each in crew if each.pipe is pipe)
                if answer := worker.hear(describe):
                    done(*answer)
            tick(sum(worker.part for worker in crew if worker.busy))
        while crew:
            crew.pop().end()


class _Worker:
    def __init__(self, job):
        context = multiprocessing.get_context("spawn")
        self.busy = self.computes = False
        self._task, self._place = None, context.RawValue(ctypes.c_long)
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(job, theirs, self._place), daemon=True)
        resource_tracker.ensure_running()  # else the first process would start it, and unblock the signals
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # for the process, which inherits that
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()

    @property
    def part(self):
        return self._place.value

    def give(self, task):
        self._task, self._place.value = task, 0
        self.busy = self.computes = True
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died: `hear` will tell
            self.pipe.send(task)

    def hear(self, describe):
        # The task and its answer if it is done; None if it is only computed.
        self.computes = False
        try:
            said = self.pipe.recv()
        except (EOFError, OSError):
            self._process.join(_PATIENCE)
            code = self._process.exitcode
            how = signal.strsignal(-code) if code and code < 0 else f"exit code {code}"
            raise DataError(
                f"{describe(self._task, self.part)}: the process at work on it died ({how}); remove it if this happens "
                "again, use fewer workers if memory is short; the same command goes on"
            ) from None
        if said is None:
            return None
        self.busy = False
        answer, error = said
        if error is not None:
            raise error
        return self._task, answer

    def end(self):
        self.pipe.close()  # which tells it
        self._process.join(_PATIENCE)
        self.kill()

    def kill(self):
        self._process.kill()
        self._process.join()


def _dismiss(crew):
    for worker in crew:
        worker.kill()


def _work(job, pipe, place):
    from threadpoolctl import threadpool_limits

    threadpool_limits(limits=1)
    desk = Desk(place, pipe)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # nobody is there any more
        while True:
            task = pipe.recv()
            try:
                answer = job(task, desk), None
            except Exception as error:
                error.add_note(traceback.format_exc())  # what --debug shows
                answer = None, error
            pipe.send(answer)

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
    """Where a job says which part of its task it has come to.

    Parameters
    ----------
    place : ctypes value
        Shared with the caller's process.
    """

    def __init__(self, place):
        self._place, self._parent = place, os.getppid()

    def at(self, part):
        """Note that part number ``part`` is begun."""
        self._place.value = part
        self.needed()

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
        Processes.
    stop : Stop
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
    waiting = list(reversed(tasks))
    with contextlib.ExitStack() as stack:
        crew = []
        stack.callback(_dismiss, crew)
        for _ in range(min(count, len(tasks))):
            crew.append(_Worker(job))
        for worker in crew:
            worker.give(waiting.pop())
        while crew:
            if stop.asked:
                raise Interrupted("stopped")
            for pipe in connection.wait([worker.pipe for worker in crew], _TICK):
                worker = next(each for each in crew if each.pipe is pipe)
                task, answer = worker.task, worker.take(describe)
                done(task, answer)
                if waiting:
                    worker.give(waiting.pop())
                else:
                    crew.remove(worker)
                    worker.end()
            tick(sum(worker.part for worker in crew))


class _Worker:
    def __init__(self, job):
        context = multiprocessing.get_context("spawn")
        self.task, self._place = None, context.RawValue(ctypes.c_long)
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
        self.task, self._place.value = task, 0
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died: `take` will tell
            self.pipe.send(task)

    def take(self, describe):
        try:
            answer, error = self.pipe.recv()
        except (EOFError, OSError):
            self._process.join(_PATIENCE)
            code = self._process.exitcode
            how = signal.strsignal(-code) if code and code < 0 else f"exit code {code}"
            raise DataError(
                f"{describe(self.task, self.part)}: the process at work on it died ({how}); remove it if this happens "
                "again, use fewer workers if memory is short; the same command goes on"
            ) from None
        if error is not None:
            raise error
        return answer

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
    desk = Desk(place)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # nobody is there any more
        while True:
            task = pipe.recv()
            try:
                answer = job(task, desk), None
            except Exception as error:
                error.add_note(traceback.format_exc())  # what --debug shows
                answer = None, error
            pipe.send(answer)

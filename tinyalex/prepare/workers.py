"""Worker processes that share a list of tasks: spawned, each with one BLAS thread, and ended when the tasks are done.

Only the caller handles Ctrl-C and SIGTERM. A worker that dies is noticed at once, by the end of its pipe; a worker
whose caller was killed exits at its next step.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import traceback
import warnings
from multiprocessing import connection, resource_tracker

from tinyalex.errors import DataError, DeviceError, Interrupted

_TICK = 0.2  # seconds between two progress reports
_JOIN_SECONDS = 5.0  # how long to wait for a process that is ending
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STARTED = "started"  # what a worker sends first


class Reporter:
    """Through which a job in a worker process reports its progress to the caller.

    Parameters
    ----------
    pipe : Connection
        To the caller's process.
    """

    def __init__(self, pipe):
        self._pipe = pipe
        # As noted when this process was started: `os.getppid` may be another by now, if the parent has been killed.
        self._parent = multiprocessing.parent_process().pid

    def begin(self, part):
        """Report that part number ``part`` of the task is begun."""
        self.exit_if_orphaned()
        self._pipe.send(part)

    def computed(self):
        """Report that this task has only to be written, so that another process may start computing."""
        self._pipe.send(None)

    def exit_if_orphaned(self):
        """End this process if the process that started it has ended."""
        if os.getppid() != self._parent:
            os._exit(1)


def run(job, tasks, count, stop, on_done, on_tick, describe):
    """Run tasks in worker processes.

    Parameters
    ----------
    job : function of a task and a `Reporter`
        It, tasks and results have to be picklable.
    tasks : list
    count : int
        Processes that compute at the same time. One more is started, to compute while another writes. Fewer if the
        system does not allow so many.
    stop : StopRequests
        Checked several times a second.
    on_done : function of a task and its result
        Called in this process, in the order in which tasks finish.
    on_tick : function of an int
        Called several times a second with the number of parts begun, summed over the tasks in progress.
    describe : function of a task and a part
        Returns a name for them, for the message if a worker dies.

    Raises
    ------
    Interrupted
        If a stop was requested.
    DataError
        If a worker died.
    DeviceError
        If one ended before it had started.
    Exception
        Whatever a job raised.
    """
    waiting, workers = list(reversed(tasks)), []
    with contextlib.ExitStack() as stack:
        stack.callback(_kill_all, workers)
        spare = len(tasks) > count + 1  # with no task left to compute meanwhile, no extra process is needed
        for _ in range(min(count + spare, len(tasks))):
            try:
                workers.append(_Worker(job))
            except BlockingIOError:  # the system allows no more processes
                if not workers:
                    raise
                break
        while waiting or any(worker.busy for worker in workers):
            for worker in workers:
                if waiting and not worker.busy and sum(worker.computes for worker in workers) < count:
                    worker.assign(waiting.pop())
            if stop.stop_requested:
                raise Interrupted("stopped")
            for pipe in connection.wait([worker.pipe for worker in workers if worker.busy], _TICK):
                worker = next(worker for worker in workers if worker.pipe is pipe)
                if finished := worker.receive(describe):
                    on_done(*finished)
            on_tick(sum(worker.part for worker in workers if worker.busy))
        while workers:
            workers.pop().close()


class _Worker:
    def __init__(self, job):
        context = multiprocessing.get_context("spawn")
        self.busy = self.computes = self._started = False
        self._task, self.part = None, 0
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(job, theirs), daemon=True)
        with warnings.catch_warnings():  # of a tracker that died: then no process can start, which `receive` reports
            warnings.filterwarnings("ignore", "resource_tracker")
            resource_tracker.ensure_running()  # else the first process would start it, and unblock the signals
            before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # the process inherits the blocked signals
            try:
                self._process.start()
            except BrokenPipeError:  # it has ended before it was told what to do
                raise _not_started("it reads nothing") from None
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()

    def assign(self, task):
        self._task, self.part = task, 0
        self.busy = self.computes = True
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died: `receive` raises
            self.pipe.send(task)

    def receive(self, describe):
        # Return (task, result) of a finished task, or None for a report: a part is begun, or only writing is left.
        try:
            message = self.pipe.recv()
        except (EOFError, OSError):
            self._process.join(_JOIN_SECONDS)
            code = self._process.exitcode
            how = signal.strsignal(-code) if code and code < 0 else f"exit code {code}"
            if not self._started and code and code > 0:  # if it was killed, memory may be short
                raise _not_started(how) from None
            where = describe(self._task, self.part)
            raise DataError(
                f"{where}: the worker process died on it ({how}); run the same command again, with fewer --workers if "
                "memory is short; if it dies on the same image again, remove that image"
            ) from None
        if message == _STARTED:
            self._started = True
            return None
        if isinstance(message, int):
            self.part = message
            return None
        self.computes = False
        if message is None:
            return None
        self.busy = False
        result, error = message
        if error is not None:
            raise error
        return self._task, result

    def close(self):
        self.pipe.close()  # the worker ends when its pipe does
        self._process.join(_JOIN_SECONDS)
        self.kill()

    def kill(self):
        self._process.kill()
        self._process.join()


def _not_started(how):
    return DeviceError(
        f"no worker process can be started: {sys.executable} ended at once ({how}), before any image; check that this "
        "user may run it and read its packages, and that there is enough memory"
    )


def _kill_all(workers):
    for worker in workers:
        worker.kill()


def _work(job, pipe):
    from threadpoolctl import threadpool_limits

    threadpool_limits(limits=1)
    reporter = Reporter(pipe)
    with contextlib.suppress(
        EOFError, BrokenPipeError, ConnectionResetError
    ):  # the caller is gone or has closed the pipe
        pipe.send(_STARTED)
        while True:
            task = pipe.recv()
            try:
                result = job(task, reporter), None
            except Exception as error:
                error.add_note(traceback.format_exc())  # shown by --debug
                result = None, error
            pipe.send(result)

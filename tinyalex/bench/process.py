"""Start a contender's process and exchange lines with it: the name of an action there, one line of JSON back."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile

from tinyalex import errors


@contextlib.contextmanager
def start_process(name, task, environment=()):
    """Start a process for a task, and end it when the block ends.

    Parameters
    ----------
    name : str
        For error messages.
    task : dict
        What `tinyalex.bench.worker` reads first.
    environment : dict
        Added to this process's own variables, without those of malloc.

    Yields
    ------
    ContenderProcess
    """
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log,
        subprocess.Popen(
            [sys.executable, "-m", "tinyalex.bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=child_environment(environment),
            text=True,
            start_new_session=True,  # Ctrl-C goes to the measuring process only, which then ends this one
        ) as process,
    ):
        try:
            yield ContenderProcess(name, task, process, log)
        finally:
            process.kill()
            with contextlib.suppress(BrokenPipeError):  # a line that the process has not read
                process.stdin.close()


def child_environment(environment):
    """Return this process's environment variables, without malloc's and OpenBLAS's number of threads, and those given.

    Every contender sets its own number of threads.
    """
    left_out = "MALLOC_", "OPENBLAS_NUM_THREADS"
    return {key: value for key, value in os.environ.items() if not key.startswith(left_out)} | dict(environment)


class ContenderProcess:
    """A running process; see `start_process`.

    Attributes
    ----------
    name : str
    """

    def __init__(self, name, task, process, log):
        self.name, self._ready, self._process, self._log = name, None, process, log
        self._send(json.dumps(task))

    @property
    def ready(self):
        """The answer to the task; waits until the process has built its net."""
        if self._ready is None:
            self._ready = self._receive()
        return self._ready

    def request(self, action):
        """Let the process run an action; return the sample, or the dict of "peak"."""
        _ = self.ready
        self._send(action)
        return self._receive()

    def _send(self, line):
        with contextlib.suppress(BrokenPipeError):  # if the process has ended, `_receive` reports why
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def _receive(self):
        line = self._process.stdout.readline()
        if not line:
            raise self._ended(self._process.wait())
        answer = json.loads(line)
        if "error" in answer:
            raise self._error(answer)
        return answer

    def _ended(self, code):
        self._log.seek(0)
        last = ([line for line in self._log.read().splitlines() if line.strip()] or ["it printed nothing"])[-1]
        if code < 0:
            return errors.DeviceError(
                f"{self.name}: its process was ended by signal {-code}; if there was not enough memory, use a smaller "
                "--batch or fewer --contenders"
            )
        return RuntimeError(f"{self.name}: its process ended with code {code} ({last})")

    def _error(self, answer):
        kind = getattr(errors, answer["error"], MemoryError if answer["error"] == "MemoryError" else None)
        error = (kind or RuntimeError)(f"{self.name}: {answer['message']}")
        if kind is None:
            error = RuntimeError(f"{self.name}: {answer['error']}: {answer['message']}")
        error.add_note(answer["trace"])
        return error

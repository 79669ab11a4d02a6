"""Talking to a contender's process: one word there, one line of JSON back."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile

from tinyalex import errors


@contextlib.contextmanager
def started(name, task, environment=()):
    """Start a process for a task, and end it with the block.

    Parameters
    ----------
    name : str
        For errors.
    task : dict
        What `tinyalex.bench.worker` reads first.
    environment : dict
        Added to this process's own variables, without those that steer malloc.

    Yields
    ------
    Talk
    """
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log,
        subprocess.Popen(
            [sys.executable, "-m", "tinyalex.bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=surroundings(environment),
            text=True,
            start_new_session=True,  # Ctrl-C is for the one that asks, which then ends this one
        ) as process,
    ):
        try:
            yield Talk(name, task, process, log)
        finally:
            process.kill()
            with contextlib.suppress(BrokenPipeError):  # a word that nobody reads any more
                process.stdin.close()


def surroundings(environment):
    """Return this process's variables with those given, and no others that steer malloc."""
    return {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")} | dict(environment)


class Talk:
    """A process at work; see `started`.

    Attributes
    ----------
    name : str
    """

    def __init__(self, name, task, process, log):
        self.name, self._ready, self._process, self._log = name, None, process, log
        self._send(json.dumps(task))

    @property
    def ready(self):
        """The answer to the task, once the process has built its net."""
        if self._ready is None:
            self._ready = self._receive()
        return self._ready

    def ask(self, word):
        """Have an action done and return the sample, or a dict of what was asked for."""
        _ = self.ready
        self._send(word)
        return self._receive()

    def _send(self, line):
        with contextlib.suppress(BrokenPipeError):  # when it has ended, the missing answer tells why
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def _receive(self):
        line = self._process.stdout.readline()
        if not line:
            raise self._ended(self._process.wait())
        answer = json.loads(line)
        if "error" in answer:
            raise self._told(answer)
        return answer

    def _ended(self, code):
        self._log.seek(0)
        last = ([line for line in self._log.read().splitlines() if line.strip()] or ["no word"])[-1]
        if code < 0:
            return errors.DeviceError(
                f"{self.name}: its process was ended by signal {-code}; if there was not enough memory, use a smaller "
                "--batch or fewer --contenders"
            )
        return RuntimeError(f"{self.name}: its process ended with code {code} ({last})")

    def _told(self, answer):
        kind = getattr(errors, answer["error"], MemoryError if answer["error"] == "MemoryError" else None)
        error = (kind or RuntimeError)(f"{self.name}: {answer['message']}")
        if kind is None:
            error = RuntimeError(f"{self.name}: {answer['error']}: {answer['message']}")
        error.add_note(answer["trace"])
        return error

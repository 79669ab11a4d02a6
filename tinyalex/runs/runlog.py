"""A run's log: a file with one JSON object a line, and lines of text on the terminal. Failing to write ends no run."""

import contextlib
import json
import os
from pathlib import Path

import numpy as np

from tinyalex.system import bars, storage
from tinyalex.system.progress import TimeLeft, duration

LOG = "log.jsonl"
_BEGIN = b'{"event": "'  # of every record
EVENTS = {"begin", "train", "epoch", "test", "saved", "diverged"}
FIRST, EVERY = 10.0, 300.0  # seconds to the first line about the time left, and from one to the next


def read_log(folder):
    """Return the records of a run's log, oldest first; lines that are incomplete or invalid are left out."""
    path = Path(folder) / LOG
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [record for record in map(_record, lines) if record is not None]


def quietly(show):
    """Return a ``show`` that ignores an output that was closed, so that a closed pipe does not end a run."""

    def say(text):
        with contextlib.suppress(OSError):
            show(text)

    return say


class NoLog:
    """In place of a `Log`, on ranks that write none."""

    def write(self, event, **fields):
        """Do nothing, as all methods here."""

    def step(self, **figures):
        pass

    def say(self, text):
        pass

    def close(self):
        pass


class Log:
    """Writes ``log.jsonl``, and shows lines of text, and the time left: beside a progress bar, or in lines.

    A record that cannot be written, for example on a full disk, is written later; there is one warning, and the run
    continues.

    Parameters
    ----------
    folder : Path
    steps : int
        Steps of the whole run, for the progress bar.
    done : int
        Steps done so far: the log's records of later steps are removed.
    show : callable
        Called with lines of text. The bar appears only on a terminal; elsewhere a line says how much time is left,
        after a few steps and then every few minutes.
    tests : int, optional
        Tests done so far: the log's records of later tests are removed.
    """

    def __init__(self, folder, steps, done=0, show=print, tests=None):
        path = Path(folder) / LOG
        if path.is_file() and any(_foreign_lines(path)):
            show(f"warning: {path}: holds lines that tinyalex did not write; a copy is kept as {_keep_copy(path)}")
        # Written atomically: if the process is killed here, the old log or the new one is there.
        with storage.atomic_write(path, identity=None) as file:
            file.write("".join(_kept(read_log(folder), done, tests)).encode())
        self._file = path.open("ab", buffering=0)
        self._show, self._waiting, self._warned = show, b"", False
        self._bar = bars.bar(total=steps, initial=done, unit="step")
        self._steps, self._done, self._left = steps, done, None

    def write(self, event, **fields):
        """Add a record; numbers that are not finite become null, since JSON has none."""
        fields = {key: _plain(value) for key, value in fields.items() if value is not None}
        self._waiting += (json.dumps({"event": event, **fields}) + "\n").encode()
        try:
            while self._waiting:
                self._waiting = self._waiting[self._file.write(self._waiting) :]
        except OSError as error:
            if not self._warned:
                self.say(
                    f"warning: {self._file.name}: cannot be written ({error.strerror}); make room, training continues"
                )
            self._warned = True

    def step(self, **figures):
        """Advance the bar by a step and show figures beside it; without a bar, show the time left if that is due."""
        self._done += 1
        if self._left is None:  # the first step takes longer than the others
            self._left = TimeLeft(self._steps, self._done, FIRST, EVERY)
        elif self._bar.disable and (found := self._left.estimate(self._done)) and found[1] >= FIRST:
            self.say(f"step {self._done:,} of {self._steps:,}, about {duration(found[1])} left")
        with contextlib.suppress(OSError):  # the terminal was closed
            self._bar.set_postfix_str("  ".join(f"{name} {value}" for name, value in figures.items()), refresh=False)
            self._bar.update()

    def say(self, text):
        """Show a line of text, above the bar if there is one."""
        with contextlib.suppress(OSError):
            self._bar.clear()
        self._show(text)

    def close(self):
        """Remove the bar and close the file."""
        with contextlib.suppress(OSError):
            self._bar.close()
        self._file.close()


def is_log(path):
    """Return whether there is a file with nothing but records of a run in it, apart from an incomplete last line."""
    path = Path(path)
    return path.is_file() and not path.is_symlink() and not any(_foreign_lines(path))


def _foreign_lines(path):
    # Lines that no version of tinyalex writes into a log; a killed process leaves the last one incomplete.
    *lines, last = path.read_bytes().split(b"\n")
    for line in lines:
        record = _record(line)
        if record is None or not (record["event"] in EVENTS and {"time", "epoch"} <= record.keys()):
            yield line
    if last[: len(_BEGIN)] != _BEGIN[: len(last)]:
        yield last


def _keep_copy(path):
    # Copy a log in which somebody wrote lines, because rewriting the log drops them.
    number = 1
    while os.path.lexists(copy := path.with_name(f"log.{number}.jsonl")):
        number += 1
    with open(copy, "xb") as file:
        file.write(path.read_bytes())
    return copy


def _record(line):
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and {"event", "step"} <= record.keys() else None


def _kept(records, done, tests):
    for record in records if done else ():
        if record["step"] <= done and not (record["event"] == "test" and tests is not None and tests < 1):
            tests = tests - 1 if tests is not None and record["event"] == "test" else tests
            yield json.dumps(record) + "\n"


def _plain(value):
    if isinstance(value, float | np.floating):
        if not np.isfinite(value):
            return None
        return float(f"{value:.7g}") if abs(value) < 1e6 else round(float(value), 3)
    return value

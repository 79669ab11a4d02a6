"""A run's log: one JSON object a line, and lines of text for whoever watches. Neither may end a run."""

import contextlib
import json
from pathlib import Path

import numpy as np

from tinyalex.system import storage

LOG = "log.jsonl"


def read_log(folder):
    """Return the records of a run's log, oldest first; a last line that was cut off is left out."""
    path = Path(folder) / LOG
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [record for record in map(_record, lines) if record is not None]


def quietly(show):
    """Give a ``show`` that says no more when nobody can read it: a closed pipe does not end a run of days."""

    def say(text):
        with contextlib.suppress(OSError):
            show(text)

    return say


class Log:
    """Writes ``log.jsonl``, and tells the person who watches.

    A record that cannot be written, on a full disk say, is kept for later: there is one warning, and the run goes on.

    Parameters
    ----------
    folder : Path
    steps : int
        Of the whole run, for the progress bar.
    done : int
        Steps that are behind us already; what the log says of later ones is cut off.
    tests : int, optional
        Tests that are behind us; those of later ones are cut off as well.
    show : callable
        Gets plain lines of text. The bar appears on a terminal only.
    """

    def __init__(self, folder, steps, done=0, show=print, tests=None):
        from tqdm import tqdm

        path = Path(folder) / LOG
        storage.write_text(path, "".join(_kept(read_log(folder), done, tests)))  # all of it or the one before
        self._file = path.open("ab", buffering=0)
        self._show, self._waiting, self._warned = show, b"", False
        self._bar = tqdm(total=steps, initial=done, unit="step", disable=None, leave=False, dynamic_ncols=True)

    def write(self, event, **fields):
        """Add a record; numbers that are not finite become null, as JSON wants."""
        fields = {key: _plain(value) for key, value in fields.items() if value is not None}
        self._waiting += (json.dumps({"event": event, **fields}) + "\n").encode()
        try:
            while self._waiting:
                self._waiting = self._waiting[self._file.write(self._waiting) :]
        except OSError as error:
            if not self._warned:
                self.say(
                    f"warning: {self._file.name}: cannot be written ({error.strerror}); make room, training goes on"
                )
            self._warned = True

    def step(self, **figures):
        """Move the bar on and show figures beside it."""
        with contextlib.suppress(OSError):  # the terminal was closed
            self._bar.set_postfix_str("  ".join(f"{name} {value}" for name, value in figures.items()), refresh=False)
            self._bar.update()

    def say(self, text):
        """Show a line of text, above the bar if there is one."""
        with contextlib.suppress(OSError):
            self._bar.clear()
        self._show(text)

    def close(self):
        """Put the bar away and close the file."""
        with contextlib.suppress(OSError):
            self._bar.close()
        self._file.close()


def _record(line):
    try:
        record = json.loads(line)
    except (json.JSONDecodeError, RecursionError):
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

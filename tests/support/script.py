"""Runs the steps of a script for a machine that is there for minutes only; what has been done is kept at any moment."""

import contextlib
import os
import signal
import subprocess
import tarfile
import time
from pathlib import Path

LARGEST = 4 << 20  # bytes of a file in the archive: checkpoints stay where they are


def run(steps, folder, show=print):
    """Run commands one after the other; return how many failed.

    Parameters
    ----------
    steps : dict
        Name to (command, limit in seconds), or to a text that says why the step is left out.
    folder : Path
        Gets a log for each step, ``summary.txt``, and all of it in one archive, ``FOLDER.tar.gz``, beside it. Summary
        and archive are written after each step.
    show : callable
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    lines, failed = [], 0
    for name, step in steps.items():
        if isinstance(step, str):
            lines.append(f"{name:10} left out: {step}")
        else:
            started, log = time.monotonic(), folder / f"{name}.txt"
            with log.open("w", encoding="utf-8") as file:
                ended = _ended(*step, file, environment)
            failed += ended != "passed"
            lines.append(f"{name:10} {ended:10} {time.monotonic() - started:5.0f} s  {log}")
        show(lines[-1])
        (folder / "summary.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        _pack(folder)
    return failed


def _ended(command, limit, file, environment):
    process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True)
    try:
        code = process.wait(limit)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # and what it has started
        process.wait()
        return f"FAILED, no end within {limit} s"
    return "passed" if not code else f"FAILED, {code}"


def _pack(folder):
    partial = folder.with_name(f"{folder.name}.tar.gz.partial")
    with tarfile.open(partial, "w:gz") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.stat().st_size <= LARGEST:
                archive.add(path, path.relative_to(folder.parent))
    partial.replace(folder.with_name(f"{folder.name}.tar.gz"))

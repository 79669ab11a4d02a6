"""Kill `tinyalex prepare` at random moments and run it again; every set has to come out the same.

    python -m tests.programs.kill_prepare 50

Every other time the worker processes are killed too, as in a power failure. The exit code is 1 if a set differs from
the uninterrupted one in a single byte.
"""

import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tinyalex.system.ownership import MARKER

COMMAND = [sys.executable, "-m", "tinyalex", "prepare"]


def pictures(root, train=1100, test=60, classes=4):
    """Write class folders with small JPEGs, all different; return the folder."""
    rng = np.random.default_rng(7)
    for split, count in (("train", train), ("val", test)):
        for number in range(count):
            folder = root / split / f"class {number % classes}"
            folder.mkdir(parents=True, exist_ok=True)
            stream = io.BytesIO()
            noise = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
            Image.fromarray(noise).resize((24, 20), Image.Resampling.BILINEAR).save(stream, "JPEG")
            (folder / f"{number}.JPEG").write_bytes(stream.getvalue())
    return root


def contents(folder):
    """Return {name: bytes} of all files below a folder, without the lists of what was made there."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != MARKER]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def start(source, out, *options):
    """Start a preparation in a process group of its own."""
    command = [*COMMAND, source, out, "--size", "16", "--workers", "2", *options]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def finish(source, out, *options):
    """Run a preparation to its end; return its output."""
    process = start(source, out, *options)
    lines = process.communicate()[0]
    if process.returncode:
        raise SystemExit(f"prepare failed ({process.returncode}): {lines}")
    return lines


def killed(source, out, moment, everyone):
    """Start a preparation and kill it after ``moment`` seconds; return whether it was still running."""
    process = start(source, out)
    try:
        process.communicate(timeout=moment)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL) if everyone else process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


def sweep(source, whole, root, times, length, seed=0, say=print):
    """Kill and resume ``times`` preparations; return the kills, those after work had begun, and the sets that differ.

    ``whole`` is the uninterrupted set, ``root`` a folder for the others; kills come in the first ``length`` seconds.
    """
    rng, wanted, hits, amid, wrong = np.random.default_rng(seed), contents(whole), 0, 0, 0
    for number in range(times):
        out, kills = root / f"killed {number}", 0
        while kills == 0 or rng.random() < 0.4:  # some are killed again when they are resumed
            hit = killed(source, out, rng.uniform(0, length), everyone=number % 2 == 1)
            kills += hit
            amid += hit and (out / "work" / "plan.json").exists()
            if not kills:  # it ended before it was killed
                shutil.rmtree(out)
        finish(source, out)
        same = contents(out) == wanted
        hits, wrong = hits + kills, wrong + (not same)
        say(f"{number + 1}: killed {kills} times: {'identical' if same else 'DIFFERENT'}")
    return hits, amid, wrong


def main(times):
    """Make the pictures and the uninterrupted set, then kill."""
    with tempfile.TemporaryDirectory() as folder:
        source, whole = pictures(Path(folder) / "pictures"), Path(folder) / "whole"
        finish(source, whole)
        shutil.rmtree(whole)  # now everything is in the system's cache
        begun = time.monotonic()
        finish(source, whole)
        hits, amid, wrong = sweep(source, whole, Path(folder), times, time.monotonic() - begun)
    print(f"{times} preparations, {hits} kills, {amid} of them after work had begun: {wrong} sets differ")
    return wrong


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 50) > 0)

"""Kill random ranks of a training run at random moments, resume it with a random number of ranks, compare the bits.

Run: ``python -m tests.programs.kill_ranks [KILLS] [--seed S]``. Needs the extra ``mpi``. Each time one rank is killed,
asked to stop, or stopped (SIGSTOP) until the others lose their patience. In the end weights, momenta and log have to be
those of a run of one process that nothing interrupted.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tests.support.small_runs import NET, final, same, timeless

PARTS = 4
# Exit codes of the whole run. A rank that is asked to stop before it trains ends at once.
ENDS = {signal.SIGKILL: (8,), signal.SIGTERM: (75, 8), signal.SIGSTOP: (8,)}


def draw(folder):
    """Write a small set of class folders: stripes and spots in noise."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 30), ("test", 10)):
        for label in range(3):
            (folder / split / f"class-{label}").mkdir(parents=True)
            for number in range(count):
                wave = 60 * np.sin(np.arange(24) * (0.5 + label) + rng.random() * 6)
                image = np.clip(128 + wave[:, None, None] + rng.normal(0, 20, (24, 24, 3)), 0, 255)
                Image.fromarray(image.astype("uint8")).save(folder / split / f"class-{label}" / f"{number}.png")


def command(data, out, epochs, *more):
    """The command that trains, as words."""
    net = [f"--set=net.{key}={str(value).lower() if value is True else value}" for key, value in NET.items()]
    learning = [f"--set=learning.{pair}" for pair in (f"parts={PARTS}", "batch=16", "rate=0.02", "schedule=cosine")]
    return [
        *(sys.executable, "-m", "tinyalex", "train", "shapes", "--data", str(data), "--out", str(out)),
        *("--epochs", str(epochs), *net, *learning, *more),
    ]


def ranks_of(process):
    """Process numbers of the ranks that a launcher has started, by their rank."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _descends(int(entry.name), process.pid):
            try:
                variables = (entry / "environ").read_bytes().split(b"\0")
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            rank = [int(each[9:]) for each in variables if each.startswith(b"PMI_RANK=")]
            if rank and b"tinyalex" in words:
                found[rank[0]] = int(entry.name)
    return found


def _descends(pid, ancestor):
    while pid > 1 and pid != ancestor:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return pid == ancestor


def interrupted(words, ranks, number, after, patience=3.0):
    """Run, send a signal to a random rank after a while; return (exit code, output, errors, seconds until it ended)."""
    process = subprocess.Popen(
        [*words, "--ranks", str(ranks), "--patience", str(patience)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    sent, pid, deadline = None, None, time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        found = ranks_of(process)
        if len(found) == ranks:
            time.sleep(after)
            pid = random.choice(sorted(found.values()))
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                break
            sent = time.monotonic()
            break
        time.sleep(0.05)
    try:
        output, errors = process.communicate(timeout=30)
    except subprocess.TimeoutExpired:  # stopped after the last step: the others wait as long as rank 0 may need
        if number == signal.SIGSTOP and pid:
            os.kill(pid, signal.SIGCONT)
        output, errors = process.communicate(timeout=90)
    for pid in ranks_of(process).values():  # one that was stopped
        os.kill(pid, signal.SIGKILL)
    return process.returncode, output, errors, sent and time.monotonic() - sent


def main(kills=50, seed=0, epochs=40, show=print):
    """Return the lines of what went wrong."""
    random.seed(seed)
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        draw(folder / "data")
        words = command(folder / "data", folder / "run", epochs)
        whole = command(folder / "data", folder / "whole", epochs)
        subprocess.run(whole, check=True, capture_output=True)
        done = 0
        while done < kills:
            number, ranks = random.choice(list(ENDS)), random.randint(2, PARTS)
            code, _, errors, seconds = interrupted(words, ranks, number, random.uniform(0.5, 4))
            if code == 0:  # it had ended before
                show("the run has ended; the next one begins anew")
                wrong += _compared(folder)
                subprocess.run(["rm", "-r", str(folder / "run")], check=True)
                continue
            done += 1
            took = "before it began" if seconds is None else f"after {seconds:.1f} s"
            show(f"{done}: {ranks} ranks, {number.name}: exit code {code} {took}: {errors.strip()[-120:]}")
            lines = [line for line in errors.splitlines() if line.strip()]
            if code not in ENDS[number] or len(lines) > 1:
                wrong.append(f"{number.name} on {ranks} ranks: exit code {code}, {errors!r}")
        subprocess.run([*words, "--ranks", str(random.randint(1, PARTS))], check=True, capture_output=True)
        wrong += _compared(folder)
    return wrong


def _compared(folder):
    if not same(final(folder / "run"), final(folder / "whole")):
        return ["the tensors are not those of the run that nothing interrupted"]
    return [] if timeless(folder / "run") == timeless(folder / "whole") else ["the logs differ"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kills", nargs="?", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = main(options.kills, options.seed)
    print("\n".join(found) or f"{options.kills} interruptions: the same bits and log in the end")
    sys.exit(bool(found))

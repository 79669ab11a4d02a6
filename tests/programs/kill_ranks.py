"""Kill random ranks of a training run at random moments, resume it with a random number of ranks, compare the bits.

Run: ``python -m tests.programs.kill_ranks [KILLS] [--seed S] [--epochs E]``. Needs the extra ``mpi``. Each time one
rank is killed, asked to stop, or stopped (SIGSTOP) until the others lose their patience: most often while they train,
now and then while they start. In the end weights, momenta and log have to be those of a run of one process that nothing
interrupted. A run that ends before all kills is compared, and the next one begins anew.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from tests.support.small_runs import NET, final, same, timeless
from tinyalex.ranks.world import HANGS

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


def interrupted(words, ranks, number, after, patience=15.0, training=False):
    """Run, send a signal to a random rank; return (exit code, output, errors, seconds from the signal to the end).

    Parameters
    ----------
    words : list of str
    ranks : int
    number : int
        The signal.
    after : float
        Seconds to wait before it is sent: from the start of the ranks or, if `training`, from the first step on.
    patience : float
    training : bool

    Raises
    ------
    subprocess.TimeoutExpired
        If the run does not end within two minutes after the signal.
    """
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [*words, "--ranks", str(ranks), "--patience", str(patience)], stdout=output, stderr=errors
        )
        sent, begun = None, "training loss"  # of the line that is printed after an epoch
        while process.poll() is None:
            found = ranks_of(process)
            if len(found) == ranks and not (training and begun not in _read(output)):
                time.sleep(after)
                try:
                    os.kill(random.choice(sorted(found.values())), number)
                except ProcessLookupError:
                    break
                sent = time.monotonic()
                break
            time.sleep(0.05)
        try:
            process.wait(timeout=120)
        finally:
            for pid in ranks_of(process).values():  # one that was stopped
                os.kill(pid, signal.SIGKILL)
        return process.returncode, _read(output), _read(errors), sent and time.monotonic() - sent


def _read(file):
    # What a process has written into a file so far, without moving the place where it writes on.
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode()


def main(kills=50, seed=0, epochs=None, show=print):
    """Return the lines of what went wrong, and one that says how the kills ended.

    Parameters
    ----------
    kills : int
    seed : int
    epochs : int, optional
        Of the run: by default so many that it lasts longer than the kills.
    show : callable
        Called with a line for each kill.
    """
    random.seed(seed)
    wrong, epochs, began = [], epochs or 40 + 10 * kills, time.monotonic()
    kinds, codes, resumed, before, runs = Counter(), Counter(), Counter(), 0, 1
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        draw(folder / "data")
        words = command(folder / "data", folder / "run", epochs)
        whole = command(folder / "data", folder / "whole", epochs)
        subprocess.run(whole, check=True, capture_output=True)
        while kinds.total() < kills:
            number, ranks = random.choice(list(ENDS)), random.randint(2, PARTS)
            training, after = random.random() < 0.8, random.uniform(0, 3)
            code, output, errors, seconds = interrupted(words, ranks, number, after, training=training)
            resumed[ranks] += "resuming at step" in output
            if code == 0:  # it had ended before
                show("the run has ended; the next one begins anew")
                wrong += _compared(folder)
                runs += 1
                subprocess.run(["rm", "-r", str(folder / "run")], check=True)
                continue
            lost = HANGS in errors or "find the others" in errors
            if seconds is None and code == 8 and lost:  # on a machine that is too busy for the patience
                show(f"not killed: {errors.strip()[-120:]}")
                continue
            if seconds is None:
                wrong.append(f"{ranks} ranks ended by themselves: exit code {code}, {errors!r}")
                break
            kinds[number.name] += 1
            codes[code] += 1
            before += "training loss" not in output
            last = errors.strip()[-120:]
            show(f"{kinds.total()}: {ranks} ranks, {number.name}: exit code {code} after {seconds:.1f} s: {last}")
            lines = [line for line in errors.splitlines() if line.strip()]
            if code not in ENDS[number] or len(lines) != 1:
                wrong.append(f"{number.name} on {ranks} ranks: exit code {code}, {errors!r}")
        ranks = random.randint(1, PARTS)
        done = subprocess.run([*words, "--ranks", str(ranks)], check=True, capture_output=True, text=True)
        resumed[ranks] += "resuming at step" in done.stdout
        differ = _compared(folder)
    minutes = (time.monotonic() - began) / 60
    return wrong + differ, (
        f"{kinds.total()} kills ({_counts(kinds)}), {before} of them before an epoch had ended since the start, in "
        f"{runs} run{'s' * (runs > 1)} of {epochs} epochs; exit codes {_counts(codes)}; {resumed.total()} resumptions "
        f"(by ranks: {_counts(resumed)}); {'other' if differ else 'the same'} bits; {minutes:.0f} minutes"
    )


def _counts(counter):
    return ", ".join(f"{key}: {counter[key]}" for key in sorted(counter))


def _compared(folder):
    if not same(final(folder / "run"), final(folder / "whole")):
        return ["the tensors are not those of the run that nothing interrupted"]
    return [] if timeless(folder / "run") == timeless(folder / "whole") else ["the logs differ"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kills", nargs="?", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int)
    options = parser.parse_args()
    found, summary = main(options.kills, options.seed, options.epochs)
    print("\n".join([*found, summary]))
    sys.exit(bool(found))

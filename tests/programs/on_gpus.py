"""Run all checks that need two or more GPUs: ``python -m tests.programs.on_gpus FOLDER [--gpus N]``.

Nothing here has run on two GPUs yet. The steps run one after the other, each with a log in the folder and a limit of
its time; summary.txt and the archive FOLDER.tar.gz have what was done at any moment.

- doctor: GPUs, whether they reach each other, NCCL.
- columns: a few epochs of the drawn set in two columns on two GPUs.
- bits: the same run on one GPU in N parts, on N GPUs, and on N GPUs with a stop in between; their weights are compared.
- killed: a rank is killed; the others have to end, and the run to go on.
- speed: steps of the full net on 1, 2, 4, ... GPUs, with sums in the fixed order and by NCCL's all-reduce.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from tests.support import script
from tests.support.small_runs import final, same, timeless

TINYALEX = [sys.executable, "-m", "tinyalex"]


def train(out, gpus, *more):
    """The command that trains on some GPUs, in as many parts as there are GPUs in all."""
    devices = [f"cuda:{number}" for number in range(gpus)]
    ranks = ["--ranks", str(gpus)] if gpus > 1 else []
    return [*TINYALEX, "train", "shapes", "--epochs", "2", "--out", str(out), *ranks, "--devices", *devices, *more]


def bits(folder, gpus):
    """Train on one GPU in parts, on all, and with a stop; return what differs."""
    parts = ["--set", f"learning.parts={gpus}"]
    subprocess.run(train(folder / "one", 1, *parts), check=True)
    subprocess.run(train(folder / "all", gpus, *parts), check=True)
    stopped = subprocess.Popen(train(folder / "stopped", gpus, *parts))
    time.sleep(20)
    stopped.terminate()
    print("exit code after SIGTERM:", stopped.wait(timeout=120))
    subprocess.run(train(folder / "stopped", max(1, gpus // 2), *parts), check=True)
    wrong = [name for name in ("all", "stopped") if not same(final(folder / "one"), final(folder / name))]
    wrong += [f"log of {name}" for name in ("all", "stopped") if timeless(folder / "one") != timeless(folder / name)]
    return wrong


def steps(folder, gpus):
    """Return ``{name: (command, limit in seconds)}``."""
    python = [sys.executable, "-m"]
    return {
        "doctor": ([*TINYALEX, "doctor"], 60),
        "columns": (
            [*TINYALEX, "train", "shapes", "--epochs", "2", "--out", f"{folder}/columns", "--devices=cuda:0,cuda:1"],
            180,
        ),
        "bits": ([*python, "tests.programs.on_gpus", str(folder), "--gpus", str(gpus), "--bits"], 600),
        "killed": ([*python, "tests.programs.kill_ranks", "6"], 600),
        "speed": (
            [*python, "tests.programs.rank_speed", "modern", "--gpus", str(gpus), "--rounds", "3", "--steps", "20"],
            900,
        ),
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gpus", type=int, default=2)
    parser.add_argument("--bits", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bits:
        found = bits(options.folder, options.gpus)
        print("differ:", found)
        sys.exit(bool(found))
    sys.exit(script.run(steps(options.folder, options.gpus), options.folder) > 0)

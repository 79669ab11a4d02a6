"""Run all checks that need two or more GPUs: ``python -m tests.programs.on_gpus FOLDER [--gpus N]``.

Nothing here has run on two GPUs yet. The steps run one after the other, each with a log in the folder and a limit of
its time; what has ended is in ``summary.txt`` at any moment.

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


def main(folder, gpus):
    """Run all steps; return how many failed."""
    folder.mkdir(parents=True, exist_ok=True)
    lines, failed = [], 0
    for name, (command, limit) in steps(folder, gpus).items():
        started, log = time.monotonic(), folder / f"{name}.txt"
        with log.open("w", encoding="utf-8") as file:
            try:
                code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, timeout=limit).returncode
            except subprocess.TimeoutExpired:
                code = f"no end within {limit} s"
        failed += code != 0
        lines.append(
            f"{name:8} {'passed' if code == 0 else f'FAILED, {code}'} {time.monotonic() - started:5.0f} s  {log}"
        )
        print(lines[-1], flush=True)
        (folder / "summary.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return failed


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
    sys.exit(main(options.folder, options.gpus))

"""Kill `tinyalex train` at random moments and resume it, many times; every run must end with the same bits.

    python -m tests.programs.kill_train 200

A run of a few seconds, with a checkpoint every tenth of a second, is killed (SIGKILL) one or more times and resumed.
Its last checkpoint must be equal to that of an uninterrupted run, bit for bit, and so must its log, except for times.
The exit code is 1 if one differs. ``--seed S`` draws other moments.
"""

import argparse
import hashlib
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tinyalex.cli import main
from tinyalex.commands import train
from tinyalex.devices import parallel
from tinyalex.devices.device import Device
from tinyalex.runs import checkpoint, fingerprint

RECIPE = """
name = "killed"
[net]
input = 20
columns = 2
maps = [4, 8, 8, 8, 8]
kernels = [5, 3, 3, 3, 3]
stride = 1
hidden = 16
classes = 3
[init]
weights = { default = "he" }
[data]
scale = 0.017
colour = "2012"
[learning]
batch = 16
epochs = 3
rate = 0.01
phases = [{ epoch = 0.0, rate = 0.01 }, { epoch = 1.4, rate = 0.003, colour_noise = 0.05 }, { epoch = 2, rate = 0.001 }]
"""


def prepare(root):
    """Write a recipe and small images; return the command that trains on them, without --out."""
    rng = np.random.default_rng(11)
    for split, count in (("train", 240), ("test", 30)):
        for number in range(count):
            class_folder = root / "data" / split / "abc"[number % 3]
            class_folder.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8) // 2 + 40 * (number % 3)
            Image.fromarray(pixels.astype(np.uint8)).save(class_folder / f"{number}.png")
    (root / "killed.toml").write_text(RECIPE)
    options = ["--data", root / "data", "--save-every", "0.0017", "--threads", "1"]
    return ["train", str(root / "killed.toml"), *map(str, options)]


def start(command, out, output):
    """Run the command in a process forked from this one, which has imported everything already; return its id.

    It runs the real command, without the figures that are drawn at the end, when everything is saved.
    """
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            train._draw = lambda *_: ([], {})
            with open(output, "w") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            code = main([*command, "--out", str(out)])
        finally:
            os._exit(code)
    return pid


def finish(command, out):
    """Train to the end; return the output."""
    output = out.parent / "output.txt"
    status = os.waitpid(start(command, out, output), 0)[1]
    if status:
        raise SystemExit(f"train failed ({status}): {output.read_text()}")
    return output.read_text()


def killed(command, out, moment):
    """Start training and kill it after so many seconds; return whether it was still running."""
    pid = start(command, out, os.devnull)
    time.sleep(moment)
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def result(out):
    """Return a hash of the whole last checkpoint, and the log without times."""
    last = max(out.glob("checkpoint-*.safetensors"))
    records = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    timed = {"time", "images_per_s", "waited"}
    log = [
        {key: value for key, value in each.items() if key not in timed} for each in records if each["event"] != "saved"
    ]
    tensors, metadata = checkpoint.read(last)
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].tobytes())
    return digest.hexdigest(), log


def sweep(command, root, wanted, times, length, seed=0, say=print, minutes=1e9):
    """Kill and resume runs; count runs, kills, kills after a checkpoint, kills during a save, and differing ends."""
    rng, kills, saved, amid, wrong = np.random.default_rng(seed), 0, 0, 0, 0
    end = time.monotonic() + 60 * minutes
    for number in range(times):
        if time.monotonic() > end:
            times = number
            break
        out, hits = root / f"run {seed} {number}", 0
        while hits == 0 or rng.random() < 0.3:  # some are killed again after they were resumed
            if killed(command, out, rng.uniform(0, length)):
                hits += 1
                saved += any(out.glob("checkpoint-*.safetensors"))
                amid += any(out.glob("*.part"))
            elif not hits:  # it ended before it was killed
                out = root / f"run {seed} {number} again {rng.integers(1 << 30)}"
            else:
                break
        finish(command, out)
        same = result(out) == wanted
        kills, wrong = kills + hits, wrong + (not same)
        say(f"{number + 1}: killed {hits} times: {'identical' if same else 'DIFFERENT'}")
    return times, kills, saved, amid, wrong


def run():
    """Train without interruption, then kill."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("times", type=int, nargs="?", default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1e9, help="start no other run after so long")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        command = prepare(root)
        parallel.set_threads(1)
        fingerprint.take([Device("cpu")])  # cached here, so that the forked processes need not measure it
        finish(command, root / "first")  # warms up the file system's cache
        started = time.monotonic()
        finish(command, root / "whole")
        length = time.monotonic() - started
        wanted, many = result(root / "whole"), (options.times, length, options.seed)
        times, kills, saved, amid, wrong = sweep(command, root, wanted, *many, minutes=options.minutes)
    print(
        f"{times} runs of {length:.1f} s, {kills} kills, {saved} after a first checkpoint, {amid} during a save: "
        f"{wrong} differ from the uninterrupted run"
    )
    return wrong > 0


if __name__ == "__main__":
    sys.exit(run())

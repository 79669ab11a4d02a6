"""Measure how long a checkpoint of the full net takes, and which share of a run's time that is.

    python -m tests.programs.checkpoint_cost [FOLDER]

Saves weights and momenta of the paper's net in FOLDER (default: the system's folder for temporary files) as training
does, several times, so that older checkpoints are there. Then it measures each part of saving by itself.
"""

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tinyalex.datasets import Dataset, ImageSet
from tinyalex.recipes import recipe
from tinyalex.runs import checkpoint, run_folder
from tinyalex.runs.resume import SAVE_EVERY
from tinyalex.system import hashes, storage
from tinyalex.training import loop


def timed(action, *arguments):
    """Return the seconds that an action took: elapsed, and CPU time of all cores."""
    started = time.perf_counter(), time.process_time()
    action(*arguments)
    return time.perf_counter() - started[0], time.process_time() - started[1]


def main(folder):
    """Save a few times and print how long it took."""
    images = ImageSet(np.zeros((128, 256, 256, 3), np.uint8), np.arange(128) % 2)
    dataset = Dataset("grey", [str(number) for number in range(1000)], images, images)
    training = loop.Training(recipe.load("original"), dataset)
    with tempfile.TemporaryDirectory(dir=folder) as run:
        run, seconds = Path(run), []
        for step in range(1, 6):
            training.step, training.epoch_metrics = step, []
            seconds.append(timed(run_folder.save, training, run))
        path = checkpoint.newest(run)
        tensors, _ = run_folder.snapshot(training)
        parts = {
            "copy and look for NaN": timed(run_folder.snapshot, training),
            "verify (read and hash)": timed(checkpoint.verify, path),
            "hash in memory": timed(lambda: list(map(hashes.array, tensors.values()))),
        }
        parts["copy a file of that size and flush it"] = timed(
            lambda: (shutil.copyfile(path, run / "copy"), storage.flush(run / "copy"))
        )
        size = os.stat(path).st_size
    print(f"{size:,} bytes; elapsed seconds, and seconds of CPU time:")
    for number, (elapsed, cpu) in enumerate(seconds, 1):
        print(f"  save {number}: {elapsed:.2f}, {cpu:.2f}")
    for name, (elapsed, cpu) in parts.items():
        print(f"  {name}: {elapsed:.2f}, {cpu:.2f}")
    median = sorted(seconds[1:])[len(seconds[1:]) // 2][0]
    print(f"{median:.2f} s every {SAVE_EVERY:g} s of training: {median / (SAVE_EVERY + median):.2%} of a run's time")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)

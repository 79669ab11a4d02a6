"""Measure what a checkpoint of the full net costs, and what part of a run's time that is.

    python -m tests.programs.checkpoint_cost [FOLDER]

Weights and momenta of the paper's net are saved in FOLDER (default: the system's for temporary files) as training saves
them, with an older checkpoint there to be verified again. The parts are measured once more, each by itself.
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
    """Return how many seconds an action took, and how many of the processors' time."""
    begun = time.perf_counter(), time.process_time()
    action(*arguments)
    return time.perf_counter() - begun[0], time.process_time() - begun[1]


def main(folder):
    """Save a few times and say how long it took."""
    images = ImageSet(np.zeros((128, 256, 256, 3), np.uint8), np.arange(128) % 2)
    dataset = Dataset("grey", [str(number) for number in range(1000)], images, images)
    run = loop.Training(recipe.load("original"), dataset)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        place, seconds = Path(place), []
        for step in range(1, 6):
            run.step, run.epoch_metrics = 128 * step, []
            seconds.append(timed(run.save, place))
        path = checkpoint.newest(place)
        tensors, metadata = run_folder.snapshot(run)
        parts = {
            "copy and look for NaN": timed(run_folder.snapshot, run),
            "verify (read and hash)": timed(checkpoint.verify, path),
            "hash in memory": timed(lambda: list(map(hashes.array, tensors.values()))),
        }
        parts["copy a file of that size and flush it"] = timed(
            lambda: (shutil.copyfile(path, place / "copy"), storage.flush(place / "copy"))
        )
        size = os.stat(path).st_size
    print(f"{size:,} bytes; seconds, and seconds of the processors' time:")
    for number, each in enumerate(seconds, 1):
        print(f"  save {number}: {each[0]:.2f}, {each[1]:.2f}")
    for name, each in parts.items():
        print(f"  {name}: {each[0]:.2f}, {each[1]:.2f}")
    median = sorted(seconds[1:])[len(seconds[1:]) // 2][0]
    print(f"{median:.2f} s every {SAVE_EVERY:g} s of training: {median / (SAVE_EVERY + median):.2%} of a run's time")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)

"""Measure the loader alone, on drawn shards in the page cache, and how long training waits for it.

    python -m tests.programs.loader_speed              # images of 256 x 256, batches of 128, crops of 224, colour noise
    python -m tests.programs.loader_speed --steps 10   # and ten training steps of recipe `original` on the CPU

Rates are images per second, the median and the range of several rounds over the set. They are not compared with any
limit, because they depend on the other load of the machine, which is printed.
"""

import argparse
import os
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np

from tests.support import prepared_sets
from tinyalex import datasets
from tinyalex.datasets.loading.batches import training_batches
from tinyalex.datasets.loading.loader import Epoch, raw_batches
from tinyalex.recipes import recipe

ROUNDS = 7


def rounds(iterate):
    """Exhaust ``iterate()`` several times; return images per second, sorted."""
    rates = []
    for _ in range(ROUNDS):
        start = perf_counter()
        count = sum(len(batch.labels) for batch in iterate())
        rates.append(count / (perf_counter() - start))
    return sorted(rates)


def show(what, rates):
    print(f"{what:60} {np.median(rates):8,.0f} images/s  ({rates[0]:,.0f} to {rates[-1]:,.0f})", flush=True)


def loader_rates(data, made):
    """Time whole images with their crop parameters, and float32 crops, for several numbers of threads."""
    for threads in (0, 1, 2):
        show(
            f"whole uint8 images and crop parameters, {threads} threads",
            rounds(lambda n=threads: raw_batches(Epoch(data, made, 0, 0), threads=n)),
        )
    for threads in (0, 1, 2):
        show(
            f"float32 crops, {threads} threads",
            rounds(lambda n=threads: training_batches(data, made, 0, 0, threads=n)),
        )


def training_wait(data, made, steps):
    """Train for a number of steps and print the share of the time spent waiting for batches."""
    from tinyalex.training.loop import Training

    run = Training(made, data)
    batches = training_batches(data, run.recipe, 0, 0, devices=run.network.devices)
    start = perf_counter()
    for step, batch in enumerate(batches, 1):
        run.train_step(batch)
        if step == steps:
            break
    elapsed = perf_counter() - start
    batches.close()
    speed = steps * made.learning.batch / elapsed
    print(f"training: {steps} steps, {speed:.1f} images/s, {batches.waited / elapsed:.3%} of the time waiting for data")


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--images", type=int, default=4096, help="images in the drawn set (default %(default)s)")
    options.add_argument("--steps", type=int, default=0, help="training steps to measure (default none)")
    options.add_argument("--size", type=int, default=256, help="side of the images in pixels (default %(default)s)")
    options.add_argument("--recipe", default="original", help="default %(default)s")
    options.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as for tinyalex train")
    chosen = options.parse_args()
    made = recipe.load(chosen.recipe, ["net.classes=0", "data.set=drawn", *chosen.set])
    with tempfile.TemporaryDirectory() as folder:
        drawn = {"train": chosen.images, "test": 8, "size": chosen.size, "draw": prepared_sets.cheap_pictures}
        prepared_sets.make(Path(folder) / "set", per_shard=512, **drawn)
        data = datasets.load(Path(folder) / "set")
        print(f"{chosen.images} images of {chosen.size} x {chosen.size}, batches of {made.learning.batch}, crops of "
              f"{made.net.input}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}")  # fmt: skip
        loader_rates(data, made)
        if chosen.steps:
            training_wait(data, made, chosen.steps)


if __name__ == "__main__":
    main()

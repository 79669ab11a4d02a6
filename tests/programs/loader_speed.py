"""Measure the feed alone, from the shards to batches on a device, and how long training waits for it.

    python -m tests.programs.loader_speed              # drawn images of 256 x 256, batches of 128, crops of 224
    python -m tests.programs.loader_speed --data SET --device cuda:0 --threads 4 16     # a prepared set, to a GPU
    python -m tests.programs.loader_speed --jpeg --set data.order=shards --cold         # from the disk, if it can be
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
from tinyalex.devices.device import Device
from tinyalex.recipes import recipe

ROUNDS = 7


def rounds(iterate, before=lambda: None, count=ROUNDS):
    """Exhaust ``iterate()`` several times, each time after ``before()``; return images per second, sorted."""
    rates = []
    for _ in range(count):
        before()
        start = perf_counter()
        images = sum(len(batch.labels) for batch in iterate())
        rates.append(images / (perf_counter() - start))
    return sorted(rates)


def show(what, rates):
    print(f"{what:60} {np.median(rates):8,.0f} images/s  ({rates[0]:,.0f} to {rates[-1]:,.0f})", flush=True)


def loader_rates(data, made, options):
    """Time whole images with their crop parameters, and batches on the device, for several numbers of threads."""
    device = Device(options.device)

    def drop():
        images = data.train
        for first, end in zip(images.starts, images.starts[1:], strict=False) if options.cold else ():
            images.drop_cached(int(first), int(end - first))

    def delivered(threads):
        for batch in training_batches(data, made, 0, 0, devices=[device], threads=threads):
            device.synchronize()  # the crops have been computed
            yield batch

    for threads in options.threads:
        show(
            f"whole uint8 images and crop parameters, {threads} threads",
            rounds(lambda n=threads: raw_batches(Epoch(data, made, 0, 0), threads=n), drop, options.rounds),
        )
    for threads in options.threads:
        show(
            f"float32 crops on {options.device}, {threads} threads",
            rounds(lambda n=threads: delivered(n), drop, options.rounds),
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
    options.add_argument("--data", type=Path, help="a prepared set (default: images are drawn)")
    options.add_argument("--jpeg", action="store_true", help="draw a set of JPEG files")
    options.add_argument("--device", default="cpu", help="cpu, cuda:0 or fake:0 (default %(default)s)")
    options.add_argument("--threads", type=int, nargs="+", default=[0, 1, 2], help="default %(default)s")
    options.add_argument("--rounds", type=int, default=ROUNDS, help="default %(default)s")
    options.add_argument("--cold", action="store_true", help="drop the set from the page cache before each round")
    chosen = options.parse_args()
    made = recipe.load(chosen.recipe, ["net.classes=0", "data.set=drawn", *chosen.set])
    with tempfile.TemporaryDirectory() as folder:
        if not chosen.data:
            drawn = {"train": chosen.images, "test": 8, "size": chosen.size, "draw": prepared_sets.cheap_pictures}
            drawn["quality"] = 90 if chosen.jpeg else None
            prepared_sets.make(Path(folder) / "set", per_shard=512, **drawn)
        data = datasets.load(chosen.data or Path(folder) / "set")
        print(
            f"{len(data.train)} images of {data.train.size} x {data.train.size}"
            f"{', JPEG files' if data.train.is_jpeg else ''}, order {made.data.order}, batches of "
            f"{made.learning.batch}, crops of {made.net.input}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}"
        )
        loader_rates(data, made, chosen)
        if chosen.steps:
            training_wait(data, made, chosen.steps)


if __name__ == "__main__":
    main()

"""Time training steps of two ranks with one thread each against one process with two threads, in turns.

Run: ``python -m tests.programs.rank_speed paper shapes --rounds 5``. Needs the extra ``mpi``. In every round each side
starts anew, trains some steps on noise, and reports the median time of a step; on the side of the ranks also the share
of it that the exchange of gradients took. With ``--gpus 8`` the sides are one GPU, and 2, 4 and 8 GPUs, with as many
images on each.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

import numpy as np

from tinyalex.datasets import Dataset, ImageSet
from tinyalex.ranks import launch
from tinyalex.ranks.world import join
from tinyalex.recipes import recipe
from tinyalex.training.loop import Training

SIDES = {"1 process, 2 threads": (1, 2), "2 ranks of 1 thread": (2, 1)}


def noise(made, images):
    """Return a data set of noise of the recipe's size."""
    rng, side = np.random.default_rng(0), made.net.input + 8
    classes = made.net.classes or 12
    pixels = rng.integers(0, 256, (images, side, side, 3), dtype=np.uint8)
    found = ImageSet(pixels, np.arange(images) % classes)
    return Dataset("noise", [f"class {number}" for number in range(classes)], found, found)


def worker(name, steps, batch, gpus=0, how="ordered"):
    """Train, and print the median seconds of a step and of its exchange as JSON on rank 0."""
    world = join()
    batch *= world.size if gpus else 1
    made = recipe.load(name, [f"learning.batch={batch}"])
    devices = [f"cuda:{world.local_rank}"] if gpus else ["cpu"]
    data = noise(made, batch * (steps + 2))
    training, times, exchanges = Training(made, data, devices, world=world, how=how), [], []
    for data in training.batches():
        started, before = time.perf_counter(), world.seconds
        training.train_step(data).read()
        times.append(time.perf_counter() - started)
        exchanges.append(world.seconds - before)
    if world.leads:
        print(json.dumps([statistics.median(times[2:]), statistics.median(exchanges[2:])]))


def measured(name, side, steps, batch):
    """Run one side once."""
    ranks, threads = SIDES[side]
    command = [sys.executable, "-m", "tests.programs.rank_speed", name, "--worker", str(steps), "--batch", str(batch)]
    if ranks > 1:
        command = [launch.mpiexec(), "-n", str(ranks), "-genv", "TINYALEX_THREADS", str(threads), *command]
    done = subprocess.run(["env", f"TINYALEX_THREADS={threads}", *command], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def on_gpus(names, rounds, steps, batch, gpus):
    """Measure 1, 2, 4, ... GPUs and print a line for each."""
    counts = [count for count in (1, 2, 4, 8, 16) if count <= gpus]
    for name in names:
        sides = [(count, how) for count in counts for how in (("ordered",) if count == 1 else ("ordered", "fast"))]
        found = {side: [] for side in sides}
        for number in range(rounds + 1):
            for count, how in sides:
                command = [sys.executable, "-m", "tests.programs.rank_speed", name, "--worker", str(steps)]
                command += ["--batch", str(batch), "--gpus", str(count), "--sum", how]
                command = [launch.mpiexec(), "-n", str(count), *command] if count > 1 else command
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found[count, how] += [json.loads(done.stdout)[0]] if number else []
        one = statistics.median(found[1, "ordered"])
        for (count, how), times in found.items():
            step = statistics.median(times)
            print(
                f"{name}, {batch} images on each of {count} GPUs, {how} sums: {1000 * step:.2f} ms a step, "
                f"{count * batch / step:,.0f} images/s, {one / step:.0%} of {count} times one GPU"
            )


def main(names, rounds, steps, batch):
    """Measure and print a line for each recipe and side."""
    for name in names:
        found = {side: [] for side in SIDES}
        for number in range(rounds + 1):  # the first round warms up
            for side in SIDES:
                result = measured(name, side, steps, batch)
                found[side] += [result] if number else []
        medians = {side: statistics.median(step for step, _ in results) for side, results in found.items()}
        for side, results in found.items():
            share = statistics.median(exchange / step for step, exchange in results)
            about = f", {share:.1%} of it exchanging" if SIDES[side][0] > 1 else ""
            print(f"{name}, batch {batch}, {side}: {1000 * medians[side]:.1f} ms a step{about}")
        one, two = medians.values()
        print(f"{name}: the ranks take {two / one:.2f} times as long")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--worker", type=int)
    parser.add_argument("--gpus", type=int, default=0)
    parser.add_argument("--sum", default="ordered")
    options = parser.parse_args()
    if options.worker:
        worker(options.names[0], options.worker, options.batch, options.gpus, options.sum)
    elif options.gpus:
        on_gpus(options.names, options.rounds, options.steps, options.batch, options.gpus)
    else:
        main(options.names, options.rounds, options.steps, options.batch)

"""Train the same nets in several precisions and compare how they learn.

    python -m tests.programs.precision                              # a small net on a pretend GPU, 3 minutes of a CPU
    python -m tests.programs.precision --net alexnet --epochs 12    # another one, 5 minutes
    python -m tests.programs.precision --recipe modern --data PREPARED --epochs 20 --runs tf32@cuda:0 bf16@cuda:0

A run is a precision and a device. For each seed all runs have the same first values, images, crops and dropout. The
program prints the test errors and the mean training loss of the last epoch; then, for each run, their means over the
seeds, and the largest differences from the first run. A second run in float32, with another algorithm for its
convolutions, shows what sums in another order change. Without a recipe the images are a part of the drawn ones at half
their size, and the net is that of Figure 1 at half its width, or with ``--net alexnet`` that of the recipe `shapes` at
a quarter of its width, without dropout. The latter is not of much use with few seeds: how long its loss stays at the
level of guessing depends on the last bits.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from tinyalex import datasets
from tinyalex.datasets import Dataset, ImageSet, shapes
from tinyalex.recipes import recipe
from tinyalex.training.evaluation import evaluate
from tinyalex.training.loop import Training

SIZE = ["net.input=28", "data.size=32", "learning.batch=64", "init.weights={default='he'}", "data.scale=0.017"]
SMALL = {  # a recipe and its changes
    "cifar10": ("cifar10-relu", ["net.maps=[16, 16, 32]", "net.classes=0", "learning.rate=0.01", *SIZE]),
    "alexnet": (
        "shapes",
        ["net.maps=[8, 16, 24, 24, 16]", "net.kernels=[5, 3, 3, 3, 3]", "net.stride=1", "net.hidden=64",
         "net.dropout=0", "learning.rate=0.05", "learning.weight_decay=0.0005", *SIZE],
    ),
}  # fmt: skip
RUNS = ("float32@cpu", "float32-im2col@cpu", "bf16@fake:0")


def small_images(train=1920, test=480):
    """Return a part of the drawn images, each number the mean of 2 x 2 pixels: 32 x 32."""
    whole = shapes.load(train=train, test=test)

    def halved(part):
        images = part.read(np.arange(len(part)))
        images = images.reshape(len(images), 32, 2, 32, 2, 3).mean(axis=(2, 4)).round().astype(np.uint8)
        return ImageSet(images, np.asarray(part.labels))

    return Dataset("shapes of 32 x 32", whole.classes, halved(whole.train), halved(whole.test))


def curves(made, dataset, device, seed):
    """Train a run; return the mean training loss and the test error of every epoch."""
    training, losses, errors = Training(made, dataset, [device], seed), [], []
    while not training.finished:
        epoch = [metrics.read()[0] for metrics in training.train_steps(training.batches())]
        errors.append(evaluate(training.network, dataset.test, dataset.mean, training.recipe).top1_error)
        training.errors.append(errors[-1])
        losses.append(float(np.mean(epoch)))
    return losses, errors


def table(found):
    """Return the lines of a table of ``{run: {seed: (losses, errors)}}``."""
    first, lines = next(iter(found.values())), [f"{'':<20}{'loss':>8}{'test error':>12}   test error of each seed"]
    for name, runs in found.items():
        ends = {seed: (losses[-1], errors[-1]) for seed, (losses, errors) in runs.items()}
        loss, error = np.mean(list(ends.values()), axis=0)
        apart = [np.abs(np.subtract(end, [each[-1] for each in first[seed]])) for seed, end in ends.items()]
        beside = "" if runs is first else "; beside the first at most {:.3f} and {:.2%}".format(*np.max(apart, axis=0))
        seeds = ", ".join(f"{end[1]:.2%}" for end in ends.values())
        lines.append(f"{name:<20}{loss:>8.3f}{error:>12.2%}   {seeds}{beside}")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--runs", nargs="+", default=RUNS, metavar="PRECISION@DEVICE", help=f"default: {' '.join(RUNS)}"
    )
    parser.add_argument("--net", choices=SMALL, default="cifar10", help="small net (default: %(default)s)")
    parser.add_argument("--recipe", help="instead of a small net")
    parser.add_argument("--data", help="of the recipe (default: its own)")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, metavar="FILE", help="for all curves, as JSON")
    options = parser.parse_args()
    name, changes = (options.recipe, ["net.classes=0"]) if options.recipe else SMALL[options.net]
    settings = [f"learning.epochs={options.epochs}", *changes]
    dataset = datasets.load(options.data or recipe.load(name).data.set) if options.recipe else small_images()
    found = {run: {} for run in options.runs}
    for seed in options.seeds:
        for run, runs in found.items():
            how, _, device = run.partition("@")
            precision, _, convolution = how.partition("-")
            changes = [f"net.precision={precision}", *([f"net.convolution={convolution}"] if convolution else [])]
            started = time.monotonic()
            losses, errors = runs[seed] = curves(recipe.load(name, [*settings, *changes]), dataset, device, seed)
            print(f"seed {seed}, {run}: test errors {' '.join(f'{error:.1%}' for error in errors)}; "
                  f"loss {losses[-1]:.3f}; {time.monotonic() - started:.0f} s", flush=True)  # fmt: skip
    print("\n".join(table(found)))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

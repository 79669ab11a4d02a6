"""Train the same nets in several precisions and compare how they learn.

    python -m tests.programs.precision                                  # a small net on fake:0, a few minutes
    python -m tests.programs.precision --device cuda:0 --recipe modern --data PREPARED --epochs 20

For each seed and precision it trains a run of its own, with the same first values, images, crops and dropout, and
prints the test error and the mean training loss of the last epoch; then, for each precision, the mean over the seeds
and the largest difference from the first precision's. Without a recipe the net is that of the recipe `shapes` at a
quarter of its width, on a part of the drawn images at half their size.
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

SMALL = ["net.input=28", "net.maps=[8, 16, 24, 24, 16]", "net.kernels=[5, 3, 3, 3, 3]", "net.stride=1", "net.hidden=64",
         "data.size=32", "learning.batch=64"]  # fmt: skip


def small_images(train=1920, test=480):
    """Return a part of the drawn images, each the mean of its 2 x 2 neighbours: 32 x 32."""
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
    """Return the lines of a table of ``{precision: {seed: (losses, errors)}}``, beside the first precision."""
    first = next(iter(found.values()))
    lines = [
        f"{'':<10}{'loss':>9}{'test error':>13}   seeds' test errors; beside {next(iter(found))}: loss, test error"
    ]
    for precision, runs in found.items():
        ends = {seed: (losses[-1], errors[-1]) for seed, (losses, errors) in runs.items()}
        loss, error = np.mean(list(ends.values()), axis=0)
        apart = [np.abs(np.subtract(ends[seed], [each[-1] for each in first[seed]])) for seed in ends]
        seeds = ", ".join(f"{end[1]:.2%}" for end in ends.values())
        largest = "" if runs is first else "; at most {:.3f}, {:.2%}".format(*np.max(apart, axis=0))
        lines.append(f"{precision:<10}{loss:>9.3f}{error:>13.2%}   {seeds}{largest}")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="fake:0")
    parser.add_argument("--recipe", help="default: a small net")
    parser.add_argument("--data", help="of the recipe (default: its own)")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--precisions", nargs="+", default=["float32", "bf16"])
    parser.add_argument("--out", type=Path, metavar="FILE", help="for all curves, as JSON")
    options = parser.parse_args()
    settings = [f"learning.epochs={options.epochs}", *([] if options.recipe else SMALL)]
    base = recipe.load(options.recipe or "shapes", settings)
    dataset = datasets.load(options.data or base.data.set) if options.recipe else small_images()
    found = {precision: {} for precision in options.precisions}
    for seed in range(options.seeds):
        for precision, runs in found.items():
            made = recipe.load(options.recipe or "shapes", [*settings, f"net.precision={precision}"])
            started = time.monotonic()
            losses, errors = runs[seed] = curves(made, dataset, options.device, seed)
            print(f"seed {seed}, {precision}: test errors {' '.join(f'{error:.1%}' for error in errors)}; "
                  f"loss {losses[-1]:.3f}; {time.monotonic() - started:.0f} s", flush=True)  # fmt: skip
    print("\n".join(table(found)))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

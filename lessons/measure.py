"""Measure the effect of ReLU, LRN, overlapping pooling and dropout for the lessons: five seeds each.

Run: ``python lessons/measure.py``, and ``python lessons/measure.py --data PATH`` for CIFAR-10. Each result is written
to ``measured.json`` as soon as it is known; results that are already there are not measured again. Either command takes
some five minutes on two idle cores.
"""

import argparse
import json

import numpy as np
from shared import HERE, constant_norms, epochs, middles, small

from tinyalex import datasets
from tinyalex.datasets import Dataset, ImageSet
from tinyalex.training.evaluation import evaluate

FILE = HERE / "measured.json"
SEEDS = range(5)
RATES = (0.0025, 0.005, 0.01, 0.02)  # tried for each nonlinearity, with a seed that is not one of SEEDS
GOAL = 0.25  # training error, as in Figure 1
EXPERIMENTS = {
    "all": ("learning.epochs=9",),
    "no norm": ("learning.epochs=9", "net.norm=none"),
    "no overlap": ("learning.epochs=9", "net.pool=2"),
    "few images": ("learning.epochs=20",),
    "few images, dropout": ("learning.epochs=20", "net.dropout=0.5"),
}


def subset(dataset, train, test):
    """Keep ``train`` training and ``test`` test images, the first of each class, with the classes in turn."""
    sets = []
    for images, count in ((dataset.train, train), (dataset.test, test)):
        labels = np.asarray(images.labels)
        by_class = [np.flatnonzero(labels == label)[: count // len(dataset.classes)] for label in np.unique(labels)]
        chosen = np.stack(by_class, axis=1).reshape(-1)
        sets.append(ImageSet(images.read(chosen), labels[chosen]))
    return Dataset(dataset.name, dataset.classes, *sets)


def to_goal(dataset, activation, rate, seed, limit=12):
    """Train at a constant rate without regularization until the training error is GOAL; return each epoch's error."""
    settings = small(
        "net.norm=none", f"net.activation={activation}", "learning.schedule=phases", f"learning.rate={rate}",
        f"learning.epochs={limit}",
    )  # fmt: skip
    errors = []
    for _, _, error in epochs(settings, dataset, seed):
        errors.append(round(float(error), 4))
        if error <= GOAL:
            break
    return errors


def test_error(dataset, changes, seed, change=None):
    """Train; return the training error of the last epoch and the test error after it."""
    *_, (run, _, error) = epochs(small(*changes), dataset, seed, change)
    score = evaluate(run.network, dataset.test, dataset.mean, run.recipe)
    return [round(float(error), 4), round(score.top1_error, 4)]


def jobs(data):
    """Yield (key, function) of everything to measure, the search for the best rates first."""
    few = subset(data, 240, len(data.test))
    for activation in ("relu", "tanh"):
        for rate in RATES:
            yield f"{activation} rate {rate}", lambda a=activation, r=rate: to_goal(data, a, r, 99)
    for seed in SEEDS:
        for activation in ("relu", "tanh"):
            yield f"{activation} seed {seed}", lambda a=activation, s=seed: to_goal(data, a, best(data.name, a), s)
        for name, changes in EXPERIMENTS.items():
            images = few if name.startswith("few") else data
            yield f"{name} seed {seed}", lambda i=images, c=changes, s=seed: test_error(i, c, s)
        yield f"constant norm seed {seed}", lambda s=seed: test_error(data, EXPERIMENTS["all"], s, constant_norms)


def best(name, activation):
    """Return the rate that reached the goal in the fewest epochs; in a tie, the one with the lowest last error."""
    measured = read()[name]
    return min(RATES, key=lambda rate: (len(errors := measured[f"{activation} rate {rate}"]), errors[-1]))


def read():
    """Return the recorded results by data set and key."""
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}


def as_text(measured):
    """Return JSON with one line for each result, so that diffs are readable."""
    sets = []
    for name in sorted(measured):
        lines = (f"  {json.dumps(key)}: {json.dumps(found)}" for key, found in sorted(measured[name].items()))
        sets.append(f" {json.dumps(name)}: {{\n" + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(sets) + "\n}\n"


def main():
    """Measure the results that are not recorded yet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", metavar="PATH", help="path of CIFAR-10 (default: drawn images)")
    options = parser.parse_args()
    if options.data:
        loaded = subset(datasets.load(options.data), 720, 480)
        data = Dataset("cifar10", loaded.classes, loaded.train, loaded.test)
    else:
        data = middles(720, 480)
    for key, measure in jobs(data):
        if key not in read().get(data.name, {}):
            found = measure()
            measured = read()
            measured.setdefault(data.name, {})[key] = found
            FILE.write_text(as_text(measured), encoding="utf-8")
            print(data.name, key, found, flush=True)


if __name__ == "__main__":
    main()

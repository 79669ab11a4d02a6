"""Measure what the lessons say of the paper's four ideas: five seeds each, written to ``measured.json`` as they end.

Run: ``python lessons/measure.py``, and for CIFAR-10 also ``python lessons/measure.py --data PATH``. What is in the file
already is not measured again. Either takes some five minutes on two quiet cores.
"""

import argparse
import json

import numpy as np
from shared import HERE, epochs, middles, small

from tinyalex import datasets
from tinyalex.datasets import Dataset, ImageSet
from tinyalex.system import storage
from tinyalex.training.evaluation import evaluate

FILE = HERE / "measured.json"
SEEDS = range(5)
RATES = (0.0025, 0.005, 0.01, 0.02)  # for either nonlinearity, chosen on a seed of its own
GOAL = 0.25  # training error, as in Figure 1
ARMS = {
    "all": ("learning.epochs=9",),
    "no norm": ("learning.epochs=9", "net.norm=none"),
    "no overlap": ("learning.epochs=9", "net.pool=2"),
    "few images": ("learning.epochs=20",),
    "few images, dropout": ("learning.epochs=20", "net.dropout=0.5"),
}


def subset(dataset, train, test):
    """Keep some images of each set, the first of each class in turn."""
    sets = []
    for images, count in ((dataset.train, train), (dataset.test, test)):
        labels = np.asarray(images.labels)
        places = [np.flatnonzero(labels == label)[: count // len(dataset.classes)] for label in np.unique(labels)]
        chosen = np.stack(places, axis=1).reshape(-1)
        sets.append(ImageSet(images.read(chosen), labels[chosen]))
    return Dataset(dataset.name, dataset.classes, *sets)


def to_goal(dataset, activation, rate, seed, limit=12):
    """Train without any regularization at a constant rate; return the training error after each epoch, to the goal."""
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


def test_error(dataset, changes, seed):
    """Train; return the training error of the last and the test error after it."""
    *_, (run, _, error) = epochs(small(*changes), dataset, seed)
    score = evaluate(run.network, dataset.test, dataset.mean, run.recipe)
    return [round(float(error), 4), round(score.top1_error, 4)]


def jobs(data):
    """Yield (key, function) of everything that is to be measured, the rates first."""
    few = subset(data, 240, len(data.test))
    for activation in ("relu", "tanh"):
        for rate in RATES:
            yield f"{activation} rate {rate}", lambda a=activation, r=rate: to_goal(data, a, r, 99)
    for seed in SEEDS:
        for activation in ("relu", "tanh"):
            yield f"{activation} seed {seed}", lambda a=activation, s=seed: to_goal(data, a, best(data.name, a), s)
        for arm, changes in ARMS.items():
            images = few if arm.startswith("few") else data
            yield f"{arm} seed {seed}", lambda i=images, c=changes, s=seed: test_error(i, c, s)


def best(name, activation):
    """The rate that came to the goal in the fewest epochs; of equals, to the lowest error."""
    measured = read()[name]
    return min(RATES, key=lambda rate: (len(errors := measured[f"{activation} rate {rate}"]), errors[-1]))


def read():
    """What was measured so far: by data set, then by what and which seed."""
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}


def as_text(measured):
    """JSON with a line for each result, so that a change can be read."""
    sets = []
    for name in sorted(measured):
        lines = (f"  {json.dumps(key)}: {json.dumps(found)}" for key, found in sorted(measured[name].items()))
        sets.append(f" {json.dumps(name)}: {{\n" + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(sets) + "\n}\n"


def main():
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", metavar="PATH", help="CIFAR-10, instead of the images that are drawn")
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
            storage.write_text(FILE, as_text(measured))
            print(data.name, key, found, flush=True)


if __name__ == "__main__":
    main()

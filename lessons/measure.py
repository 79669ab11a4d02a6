"""Measure the effect of ReLU, LRN, overlapping pooling and dropout for the lessons, with several seeds each.

Run: ``python lessons/measure.py``, and ``python lessons/measure.py --data PATH`` for CIFAR-10. Each result is written
to ``measured.json`` as soon as it is known; results that are already there are not measured again. The first takes some
ten minutes on two idle cores, the second five. The recorded results on CIFAR-10 are of a copy recompressed as JPEG.
"""

import argparse
import itertools
import json

import numpy as np
from shared import HERE, constant_norms, epochs, middles, small

from tinyalex import datasets
from tinyalex.datasets import Dataset, ImageSet
from tinyalex.errors import DivergedError
from tinyalex.recipes import recipe
from tinyalex.training.evaluation import evaluate

FILE = HERE / "measured.json"
SEEDS = range(5)
RATES = (0.0025, 0.005, 0.01, 0.02)  # tried for each nonlinearity, with a seed that is not one of SEEDS
RAW_RATES = (0.0005, 0.001, 0.002, 0.004, 0.008), (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016)  # of ReLU and of tanh
GOAL = 0.25  # training error, as in Figure 1
EXPERIMENTS = {
    "all": ("learning.epochs=9",),
    "no norm": ("learning.epochs=9", "net.norm=none"),
    "no overlap": ("learning.epochs=9", "net.pool=2"),
    "few images": ("learning.epochs=20",),
    "few images, dropout": ("learning.epochs=20", "net.dropout=0.5"),
}
RACES = {  # what might decide between ReLU and tanh: settings, and the rates tried for each (lesson 3)
    "small logits": (("init.weights={default='he', fc8=0.01}",), RATES, RATES),
    "one column": (("net.columns=1", "net.talk=[]"), (0.00125, *RATES), (0.00125, *RATES)),
    "wide": (("net.maps=[48, 64, 64, 64, 64]", "net.hidden=256"), RATES[:3], RATES[:3]),
    "large inputs": (("data.scale=0.5",), *2 * ((0.0001, 0.0003, 0.001, 0.003, 0.01),)),
    "raw pixels": (("init.weights={default='he', conv1=0.0027}", "data.scale=1.0"), *RAW_RATES),
    "figure 1": ((), (0.0005, 0.001, 0.002, 0.004), (0.004, 0.008, 0.016, 0.032)),
    "figure 1, gain 1": (("init.weights={default='he'}", "data.scale=0.017"), RATES, RATES),
    "figure 1, gain 1, raw pixels": (("init.weights={default='he', conv1=0.0027}",), *RAW_RATES),
    "figure 1, gain 1, conv1 fast": (
        ("init.weights={default='he'}", "data.scale=0.017", "learning.lr_mult={conv1=3460}"),
        RAW_RATES[0][:3],
        RAW_RATES[1][2:5],
    ),
    "figure 1, conv1 small": (("init.weights={default='he', conv1=0.0001}",), *RAW_RATES),
}
FOUR_LAYERS = "figure 1"  # these races are run by the net of the recipe cifar10-relu, on twice as many images


def subset(dataset, train, test):
    """Keep ``train`` training and ``test`` test images, the first of each class, with the classes in turn."""
    sets = []
    for images, count in ((dataset.train, train), (dataset.test, test)):
        labels = np.asarray(images.labels)
        by_class = [np.flatnonzero(labels == label)[: count // len(dataset.classes)] for label in np.unique(labels)]
        chosen = np.stack(by_class, axis=1).reshape(-1)
        sets.append(ImageSet(images.read(chosen), labels[chosen]))
    return Dataset(dataset.name, dataset.classes, *sets)


def to_goal(dataset, activation, rate, seed, limit=12, changes=()):
    """Train at a constant rate without regularization until the training error is GOAL; return each epoch's error."""
    settings = small(
        "net.norm=none", f"net.activation={activation}", "learning.schedule=phases", f"learning.rate={rate}",
        f"learning.epochs={limit}", *changes,
    )  # fmt: skip
    return until_goal(settings, dataset, seed)


def until_goal(settings, dataset, seed):
    """Train until the training error is GOAL or the epochs are over; return each epoch's error, 1 after divergence."""
    errors = []
    try:
        for _, _, error in epochs(settings, dataset, seed):
            errors.append(round(float(error), 4))
            if error <= GOAL:
                break
    except DivergedError:
        errors += [1.0] * (settings.learning.epochs - len(errors))
    return errors


def race(name, activation, rate, seed):
    """Run one net of a race of RACES; return each epoch's error."""
    changes = RACES[name][0]
    if not name.startswith(FOUR_LAYERS):
        return to_goal(middles(720, 480), activation, rate, seed, changes=changes)
    settings = recipe.load(
        "cifar10-relu",
        ["net.classes=0", f"net.activation={activation}", f"learning.rate={rate}", "learning.batch=32",
         "learning.epochs=12", *changes],
    )  # fmt: skip
    return until_goal(settings, middles(1440, 48), seed)


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


def races():
    """Yield (key, function) of the races: the search for the best rates, then three seeds."""
    for name, (_, *rates) in RACES.items():
        for activation, tried in zip(("relu", "tanh"), rates, strict=True):
            which = f"{name}, {activation}"
            for rate in tried:
                yield f"{which} rate {rate}", lambda n=name, a=activation, r=rate: race(n, a, r, 99)
            for seed in range(3):
                yield (
                    f"{which} seed {seed}",
                    lambda n=name, a=activation, w=which, t=tried, s=seed: race(n, a, best("middles", w, t), s),
                )


def best(name, activation, rates=RATES):
    """Return the rate that reached the goal in the fewest epochs; in a tie, the one with the lowest last error."""
    measured = read()[name]
    return min(rates, key=lambda rate: (len(errors := measured[f"{activation} rate {rate}"]), errors[-1]))


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
    for key, measure in itertools.chain(jobs(data), () if options.data else races()):
        if key not in read().get(data.name, {}):
            found = measure()
            measured = read()
            measured.setdefault(data.name, {})[key] = found
            FILE.write_text(as_text(measured), encoding="utf-8")
            print(data.name, key, found, flush=True)


if __name__ == "__main__":
    main()

"""Measure what the paper says of Figure 4 on a trained run: off-centre objects, and which wrong labels come first.

    python -m tests.programs.photographs RUN --data DATA [--images 1000] [--out FILE]

For test images, the error as they are and shifted by a quarter of their side, left, right, up and down, with the mean
image where nothing is left. And for images of animals and of other things, how many of the wrong labels among the five
most probable ones are of the same kind, beside how many would be by chance. The classes have to be named by wnids,
WordNet's numbers: those of animals are the lowest.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from tinyalex import datasets
from tinyalex.datasets import sample
from tinyalex.datasets.loading.loader import prepare_image
from tinyalex.runs import run_folder

LAST_ANIMAL = 2_656_032  # the number of WordNet 3.0 that the last animal in ImageNet has; things begin after 2,660,000
DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}


def shifted(images, mean, rows, columns):
    """Shift images (n, S, S, 3) by whole pixels; the mean image shows where they have left."""
    moved = np.broadcast_to(mean, images.shape).copy()
    side = images.shape[1]

    def cut(shift):
        return slice(max(0, shift), side + min(0, shift)), slice(max(0, -shift), side + min(0, -shift))

    (to_y, from_y), (to_x, from_x) = cut(rows), cut(columns)
    moved[:, to_y, to_x] = images[:, from_y, from_x]
    return np.rint(moved).astype(np.uint8)


def is_animal(wnid):
    return int(wnid.removeprefix("n")) <= LAST_ANIMAL


def same_kind(probabilities, labels, animal):
    """For images of animals and of others: the share of the wrong labels among the first five that are of their kind.

    Parameters
    ----------
    probabilities : ndarray (n, classes)
    labels : ndarray (n,)
    animal : bool ndarray (classes,)

    Returns
    -------
    dict
        For each kind "wrong labels of this kind", and "by chance": the share of the other classes that are of it.
    """
    first = np.argsort(-probabilities, axis=1, kind="stable")[:, :5]
    wrong, found = first != labels[:, None], {}
    for name, kind in (("animals", True), ("other things", False)):
        rows = animal[labels] == kind
        same = (animal[first[rows]] == kind)[wrong[rows]].mean()
        chance = ((animal == kind).sum() - 1) / (len(animal) - 1)
        found[name] = {"wrong labels of this kind": _percent(same), "by chance": _percent(chance)}
    return found


def _percent(share):
    return round(100 * float(share), 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run")
    parser.add_argument("--data", required=True)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    run, dataset = run_folder.load(options.run), datasets.load(options.data)
    test = sample.share(dataset.need("test"), "photographs", options.images)

    def probabilities(images):
        return run.network.predict(np.stack([prepare_image(image, run.mean, run.recipe) for image in images]))

    def error(found):
        return _percent((found.argmax(axis=1) != test.labels).mean())

    whole, side = probabilities(test.images), test.size
    errors = {
        name: error(probabilities(shifted(test.images, run.mean, y * side // 4, x * side // 4)))
        for name, (y, x) in DIRECTIONS.items()
    }
    animal = np.array([is_animal(wnid) for wnid in run.classes])
    found = {
        "images": len(test),
        "classes": len(run.classes),
        "error": error(whole),
        "error, shifted by a quarter": errors | {"mean": round(float(np.mean(list(errors.values()))), 1)},
        "error of guessing": _percent(1 - 1 / len(run.classes)),
    } | same_kind(whole, test.labels, animal)
    print(json.dumps(found, indent=1))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

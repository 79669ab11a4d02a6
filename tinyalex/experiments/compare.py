"""Run a comparison: train each net with several seeds, and compute the differences of their errors."""

import itertools
from pathlib import Path

import numpy as np

from tinyalex.datasets import Dataset, sample
from tinyalex.experiments.effect import effect
from tinyalex.experiments.trial import RESULT, trial
from tinyalex.ranks.world import ALONE
from tinyalex.system.progress import TimeLeft, duration
from tinyalex.training.evaluation import shows_top5

MEASURES = ("top1_error", "top5_error", "train_error", "gap")

_LONG = 10.0  # seconds from which the time left is shown


def compare(comparison, recipes, dataset, out, seeds, devices, show, world=ALONE):
    """Train all nets of a comparison with all seeds.

    Parameters
    ----------
    comparison : catalogue.Comparison
    recipes : list of Recipe
        One per net.
    dataset : Dataset
        Held in memory.
    out : Path
        Folder for the run folders, one per net and seed.
    seeds : int
        Number of seeds.
    devices : sequence of str
    show : callable
        Called with a line of text for each net and seed.
    world : World
        Of several ranks each trains some of the nets; rank 0 then reads what all have saved.

    Returns
    -------
    dict
        "arms", one per net: "name" and, for each of `MEASURES`, a list with one error per seed; where the comparison
        counts it, "starts", whether the net learns anything, for each seed. "effects", one per net
        after the first: "name" and, for each measure, the difference from the first net, ``{"mean", "deviation",
        "half", "verdict"}`` as in `effect.Effect`. Errors are fractions; with one seed "deviation" and "half" are None.
    """
    arms = [{"name": arm.name} | {measure: [] for measure in MEASURES} for arm in comparison.arms]

    def errors_of(arm, recipe, seed):
        images = dataset if arm.whole_images else sample.centre(dataset, recipe.net.input)
        if arm.share < 1:
            train = sample.share(images.train, "train", round(arm.share * len(images.train)))
            images = Dataset(images.name, images.classes, train, images.test)
        quiet = {"show": lambda line: None, "weak_signal": comparison.starts}
        return trial(recipe, images, _folder(out, arm, seed), devices, seed, **quiet)

    if world.size > 1:
        trials = list(itertools.product(range(seeds), zip(comparison.arms, recipes, strict=True)))
        with world.apart():
            for seed, (arm, recipe) in trials[world.rank :: world.size]:
                errors_of(arm, recipe, seed)
    trained, left = 0, None  # trainings of this call, and what estimates how long the others take
    for seed in range(seeds):  # seeds in the outer loop: when stopped, all nets have been trained equally often
        for arm, errors, recipe in zip(comparison.arms, arms, recipes, strict=True):
            if not (_folder(out, arm, seed) / RESULT).is_file():
                left, trained = left or TimeLeft(_to_do(comparison, out, seeds), 0, 0.0, 0.0), trained + 1
            found = errors_of(arm, recipe, seed)
            for measure in MEASURES:
                errors[measure].append(found[measure])
            top5 = f" top-5 {found['top5_error']:.2%}," if shows_top5(len(dataset.classes)) else ""
            show(
                f"seed {seed}  {arm.name:<20} test error {found['top1_error']:.2%},{top5} "
                f"training {found['train_error']:.2%}{_time_left(left, trained)}"
            )
    if comparison.starts:
        for arm in arms:
            arm["starts"] = [_learns(error, dataset) for error in arm["train_error"]]
    effects = [{"name": arm["name"]} | {m: _effect(arms[0][m], arm[m]) for m in MEASURES} for arm in arms[1:]]
    return {"arms": arms, "effects": effects}


def _learns(error, dataset):
    # Whether a training error is lower than that of guessing by more than three standard errors.
    guessing = 1 - 1 / len(dataset.classes)
    return bool(error < guessing - 3 * np.sqrt(guessing * (1 - guessing) / len(dataset.train)))


def _effect(reference, other):
    found = effect(reference, other)
    numbers = {key: value if np.isfinite(value) else None for key, value in found._asdict().items()}
    return numbers | {"verdict": found.verdict}


def _folder(out, arm, seed):
    return Path(out) / f"{arm.folder or _folder_name(arm.name)}-{seed}"


def _to_do(comparison, out, seeds):
    # How many of the nets have not been trained yet.
    return sum(not (_folder(out, arm, seed) / RESULT).is_file() for seed in range(seeds) for arm in comparison.arms)


def _time_left(left, trained):
    found = left and left.estimate(trained)
    return f"; about {duration(found[1])} left" if found and found[1] >= _LONG else ""


def _folder_name(name):
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name).split())

"""A comparison of the paper: each net trained from several seeds, and how far they are apart."""

from pathlib import Path

import numpy as np

from tinyalex.datasets import sample
from tinyalex.experiments.effect import effect
from tinyalex.experiments.trial import trial

MEASURES = ("top1_error", "top5_error", "train_error", "gap")


def compare(comparison, recipes, dataset, out, seeds, devices, show):
    """Train all arms of a comparison from all seeds.

    Parameters
    ----------
    comparison : catalogue.Comparison
    recipes : list of Recipe
        Of the arms.
    dataset : Dataset
        In memory.
    out : Path
        Gets a run folder a net and seed.
    seeds : int
    devices : sequence of str
    show : callable
        Gets a line a net and seed.

    Returns
    -------
    dict
        "arms", each with "name" and a list a measure, one error a seed; "effects", each with "name" and an effect a
        measure: ``{"mean", "deviation", "half", "verdict"}``. All are fractions, or None where one seed has none.
    """
    arms = [{"name": arm.name} | {measure: [] for measure in MEASURES} for arm in comparison.arms]
    for seed in range(seeds):  # seed by seed: whenever it stops, all nets have come as far
        for arm, mine, recipe in zip(comparison.arms, arms, recipes, strict=True):
            images = dataset if arm.whole else sample.centre(dataset, recipe.net.input)
            folder = Path(out) / f"{_plain(arm.name)}-{seed}"
            found = trial(recipe, images, folder, devices, seed, show=lambda line: None)
            for measure in MEASURES:
                mine[measure].append(found[measure])
            show(
                f"seed {seed}  {arm.name:<20} test error {found['top1_error']:.2%}, top-5 {found['top5_error']:.2%}, "
                f"training {found['train_error']:.2%}"
            )
    effects = [{"name": other["name"]} | {m: _effect(arms[0][m], other[m]) for m in MEASURES} for other in arms[1:]]
    return {"arms": arms, "effects": effects}


def _effect(reference, other):
    found = effect(reference, other)
    numbers = {key: value if np.isfinite(value) else None for key, value in found._asdict().items()}
    return numbers | {"verdict": found.verdict}


def _plain(name):
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name).split())

"""Average the predictions of several nets that differ in their seed only (paper §6, Table 2)."""

import itertools
from pathlib import Path

import numpy as np

from tinyalex.experiments.trial import trial
from tinyalex.ranks.world import ALONE
from tinyalex.runs import run_folder
from tinyalex.training import evaluation
from tinyalex.words import counted

PAPER = {1: (40.7, 18.2), 5: (38.1, 16.4)}  # nets averaged: top-1 and top-5 error, percent, ILSVRC-2012 validation


def ensemble(recipe, dataset, out, seeds, devices, show, world=ALONE):
    """Train a recipe's net with several seeds and test averages of these nets.

    Parameters
    ----------
    recipe : Recipe
    dataset : Dataset
    out : Path
        Folder for one run folder per seed.
    seeds : int
    devices : sequence of str
    show : callable
        Called with a line of text for each net.
    world : World
        Of several ranks each trains some of the nets.

    Returns
    -------
    dict
        "views": crops of each image, ten if the net was trained with reflections. "averaged": for 1, 2, ... nets, the
        "nets", and the mean "top1_error" and "top5_error" over all choices of so many of them. Errors are fractions.
    """
    folders = [Path(out) / f"seed-{seed}" for seed in range(seeds)]

    def train(seed):
        return trial(recipe, dataset, folders[seed], devices, seed, show=lambda line: None)

    if world.size > 1:
        with world.apart():
            for seed in range(world.rank, seeds, world.size):
                train(seed)
    views, found = 10 if recipe.data.flip else 1, []
    with world.apart():
        for seed in range(seeds if world.leads else 0):
            train(seed)
            run = run_folder.load(folders[seed], devices[: recipe.net.columns])
            found.append(evaluation.probabilities(run.network, dataset.test, run.mean, run.recipe, views))
            score = evaluation.score(found[-1], dataset.test.labels)
            show(f"seed {seed}  test error {score.top1_error:.2%}, top-5 {score.top5_error:.2%}")
    averaged = []
    for nets in range(1, len(found) + 1):
        scores = [
            evaluation.score(np.mean(chosen, axis=0), dataset.test.labels)
            for chosen in itertools.combinations(found, nets)
        ]
        top1, top5 = (float(np.mean([getattr(score, key) for score in scores])) for key in ("top1_error", "top5_error"))
        averaged.append({"nets": nets, "top1_error": top1, "top5_error": top5})
    return {"views": views, "averaged": averaged}


def text(result):
    """Yield the lines of a result: see `ensemble`."""
    top5 = result["data"].get("classes", 6) > 5
    yield f"{'nets averaged':<16}{'top-1 error':>14}" + (f"{'top-5 error':>14}" if top5 else "")
    for row in result["averaged"]:
        cells = f"{row['nets']:<16}{row['top1_error']:>14.2%}" + (f"{row['top5_error']:>14.2%}" if top5 else "")
        paper = PAPER.get(row["nets"])
        yield cells + (f"   the paper, ILSVRC-2012: {paper[0]} % and {paper[1]} %" if paper else "")
    yield ""
    views = counted(result["views"], "view")
    yield f"with {views} of each image; means over all choices of so many of the {result['seeds']} nets"
    if len(result["averaged"]) < 2:
        yield "one net has no average; use --seeds"

"""Run one experiment in its own folder, which is locked meanwhile."""

import contextlib

from tinyalex import __version__
from tinyalex.experiments import catalogue, report
from tinyalex.experiments.compare import compare
from tinyalex.experiments.ensemble import ensemble
from tinyalex.experiments.race import race
from tinyalex.experiments.rate import rate_test
from tinyalex.experiments.trial import check_settings
from tinyalex.ranks.world import ALONE
from tinyalex.system import lock, ownership
from tinyalex.words import counted


def experiment(name, recipe, dataset, out, seeds, devices, search_epochs, show, steps=200, world=ALONE):
    """Run an experiment, or resume one that was stopped.

    Parameters
    ----------
    name : str
        A key of `catalogue.COMPARISONS`, `catalogue.RACE`, `catalogue.ENSEMBLE` or `catalogue.RATE`.
    recipe : Recipe
        The recipe whose net is varied.
    dataset : Dataset
        Held in memory.
    out : Path
        Folder of this experiment.
    seeds : int
    devices : sequence of str
    search_epochs : int
        Epochs after which the race compares learning rates.
    show : callable
        Called with lines of text.
    steps : int
        Of the range test.
    world : World
        The ranks among which the trainings are divided: each trains whole nets. Only rank 0 locks the folder.

    Returns
    -------
    dict
        The contents of ``result.json``: the settings, the data set, the result, and the paper's result.
    """
    about = {
        "experiment": name,
        "recipe": recipe.name,
        "epochs": recipe.learning.epochs,
        "seeds": seeds,
        "devices": list(devices),
        "data": {"identity": dataset.identity, "shown": _shown(dataset), "classes": len(dataset.classes)},
        "made_with": f"tinyalex {__version__}",
    }
    if world.leads:
        report.check_files(out)
    with lock.hold(out, "experimenting", "--out") if world.leads else contextlib.nullcontext():
        with world.apart():  # until the settings are checked
            if world.leads:
                ownership.remove_partial_files(out)
                check_settings(out, recipe, dataset)
        if name == catalogue.RACE:
            title = {"title": "epochs to 25 % training error, ReLU and tanh", "section": "3.1, Figure 1"}
            paper = {"paper": [6.0], "source": "CIFAR-10: six times faster, for a net that the paper does not name"}
            return about | title | paper | race(recipe, dataset, out, seeds, devices, search_epochs, show)
        if name == catalogue.ENSEMBLE:
            title = {"title": "the average of several nets", "section": "6, Table 2"}
            paper = {"paper": [40.7, 38.1], "source": "ILSVRC-2012, validation images: one net and five averaged"}
            return about | title | paper | ensemble(recipe, dataset, out, seeds, devices, show, world)
        if name == catalogue.RATE:
            return about | {"steps": steps} | rate_test(recipe, dataset, out, seeds, devices, steps, show)
        comparison, recipes = catalogue.find(name, recipe)
        title = {"title": comparison.title, "section": comparison.section}
        paper = {"paper": list(comparison.paper), "source": comparison.source, "found": comparison.found}
        return about | title | paper | compare(comparison, recipes, dataset, out, seeds, devices, show, world)


def _shown(dataset):
    side = dataset.train.size
    images = f"{len(dataset.train):,} training and {counted(len(dataset.test), 'test image')} of {side} x {side}"
    return f"{dataset.name}: {images}, {counted(len(dataset.classes), 'class')}"

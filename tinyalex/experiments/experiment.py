"""One experiment from its settings to its result, in a folder that nobody else writes to meanwhile."""

from tinyalex import __version__
from tinyalex.experiments import catalogue
from tinyalex.experiments.compare import compare
from tinyalex.experiments.race import race
from tinyalex.experiments.trial import claim
from tinyalex.system import lock


def experiment(name, recipe, dataset, out, seeds, devices, search_epochs, show):
    """Run a comparison, or go on with it.

    Parameters
    ----------
    name : str
        Of `catalogue.COMPARISONS`, or `catalogue.RACE`.
    recipe : Recipe
        What is varied.
    dataset : Dataset
        In memory.
    out : Path
        The experiment's own folder.
    seeds : int
    devices : sequence of str
    search_epochs : int
        After which the race compares rates.
    show : callable

    Returns
    -------
    dict
        What JSON holds: what was run, on what, what was found, what the paper found.
    """
    about = {
        "experiment": name,
        "recipe": recipe.name,
        "epochs": recipe.learning.epochs,
        "seeds": seeds,
        "devices": list(devices),
        "data": {"identity": dataset.identity, "shown": _shown(dataset)},
        "made_with": f"tinyalex {__version__}",
    }
    with lock.hold(out, "experimenting", "--out"):
        claim(out, recipe, dataset)
        if name == catalogue.RACE:
            title = {"title": "epochs to 25 % training error, ReLU and tanh", "section": "3.1, Figure 1"}
            paper = {"paper": [6.0], "source": "CIFAR-10: six times faster, for a net that the paper does not name"}
            return about | title | paper | race(recipe, dataset, out, seeds, devices, search_epochs, show)
        comparison, recipes = catalogue.find(name, recipe)
        title = {"title": comparison.title, "section": comparison.section}
        paper = {"paper": list(comparison.paper), "source": comparison.source}
        return about | title | paper | compare(comparison, recipes, dataset, out, seeds, devices, show)


def _shown(dataset):
    side = dataset.train.size
    images = f"{len(dataset.train):,} training and {len(dataset.test):,} test images of {side} x {side}"
    return f"{dataset.name}: {images}, {len(dataset.classes)} classes"

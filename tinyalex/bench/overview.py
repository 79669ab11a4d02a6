"""All recipes for a CPU in one table: tinyalex beside the fastest PyTorch."""

from tinyalex.bench.contenders import SHIPPED, choose
from tinyalex.bench.pytorch.torch_twin import has_twin
from tinyalex.bench.tables import Table
from tinyalex.network import alexnet
from tinyalex.recipes import recipe

ACTIONS = {"step": "training step", "forward": "forward", "predict": "one image"}


def recipes(changes=()):
    """Return the recipes that are made for a CPU: those in float32 that need no other run's net."""
    made = [recipe.load(name, changes) for name in recipe.names()]
    made = [recipe.with_classes(each, each.net.classes or 10) for each in made]
    return [each for each in made if each.net.precision == "float32" and not each.init.like_run]


def contenders(made):
    """Return what is compared for a recipe: tinyalex and, if it has all the layers, PyTorch as a user would tune it.

    Returns
    -------
    list of Contender
    notes : list of str
        What is missing, and why.
    """
    every, notes = choose(None, made.net.columns)
    lacks = not has_twin(alexnet.describe(made.net, made.init))
    if lacks:
        notes.append(f"{made.name}: PyTorch lacks a layer of this net, so that tinyalex is measured alone")
    tuned = [each for each in every if each.kind == "torch" and each.name != SHIPPED and not lacks]
    return [*(each for each in every if each.name == "winograd"), *tuned], notes


def table(results):
    """Lay out the results of `tinyalex.bench.measure.measure`, one line for each recipe."""
    rows = []
    for result in results:
        ours, *others = result["contenders"]
        cells = [result["recipe"], str(result["batch"])]
        for action in ACTIONS:
            own = ours[action]["seconds"]
            best = min(others, key=lambda each: each[action]["seconds"]) if others else None
            cells.append(_ms(own))
            cells += [_ms(best[action]["seconds"]), f"{best[action]['seconds'] / own:.2f}"] if best else ["", ""]
            if action == "step":
                name = best["title"].removeprefix("PyTorch").removeprefix(",").strip() if best else ""
        rows.append([*cells, name])
    heads = [head for title in ACTIONS.values() for head in (f"{title}, ms", "PyTorch", "ratio")]
    notes = [
        "PyTorch: the fastest of its forms, for each column anew; the last column names that of the training step.",
        "ratio: times as fast as it.",
    ]
    return Table("Training steps and forward of a batch, and one image", ["", "batch", *heads, "form"], rows, notes)


def _ms(seconds):
    return f"{1000 * seconds:,.1f}"

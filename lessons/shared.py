"""What the lessons share: a photograph, small images, a loop over epochs, and where figures go."""

import json
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import cbook
from PIL import Image

from tinyalex.datasets import Dataset, ImageSet, shapes
from tinyalex.datasets.loading.batches import training_batches
from tinyalex.datasets.picture import square
from tinyalex.figures.page import BLUE, FAINT, INK, LIGHT_BLUE, MUTED, PALE, PINK, VERMILION
from tinyalex.recipes import recipe
from tinyalex.training.loop import Training

matplotlib.use("Agg")  # figures are files: no window opens

HERE = Path(__file__).parent
OUT = HERE / "out"
GREEN = "#009e73"  # Okabe and Ito's, as the others
COLOURS = [BLUE, VERMILION, GREEN, "#cc79a7", "#e69f00"]

__all__ = ["BLUE", "COLOURS", "FAINT", "GREEN", "HERE", "INK", "LIGHT_BLUE", "MUTED", "OUT", "PALE", "PINK"]
__all__ += ["VERMILION", "bare", "epochs", "keep", "measured", "middles", "photograph", "small", "style"]


def style(*_):
    """Set the look of the figures; the pages do it again before each lesson."""
    matplotlib.rcParams.update(
        {
            "figure.dpi": 100, "savefig.dpi": 150, "figure.constrained_layout.use": True,
            "font.size": 9, "axes.titlesize": 10, "axes.titlelocation": "left", "axes.titleweight": "bold",
            "axes.edgecolor": MUTED, "axes.labelcolor": MUTED, "axes.titlecolor": INK, "text.color": INK,
            "xtick.color": MUTED, "ytick.color": MUTED, "axes.spines.top": False, "axes.spines.right": False,
            "axes.prop_cycle": matplotlib.cycler(color=COLOURS), "legend.frameon": False,
            "image.interpolation": "nearest",
        }
    )  # fmt: skip


style()


def photograph(size=256):
    """Give the portrait of Grace Hopper that comes with matplotlib, uint8 (size, size, 3), cut as §2 cuts pictures."""
    with Image.open(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)) as image:
        return square(image.convert("RGB"), size)


def middles(train, test, seed=0):
    """Draw images and keep their middles: a `Dataset` of 32 x 32 pixels, in which the pattern fills most of the view.

    Parameters
    ----------
    train, test : int
        How many images.
    seed : int
    """
    drawn = shapes.load(seed, train, test)
    sets = [
        ImageSet(np.ascontiguousarray(each.images[:, 16:48, 16:48]), each.labels) for each in (drawn.train, drawn.test)
    ]
    return Dataset("middles", drawn.classes, *sets)


def small(*overrides):
    """Load the recipe of the lessons' net, ``small.toml``, with some keys changed: ``small("net.pool=2")``."""
    return recipe.load(HERE / "small.toml", overrides)


def epochs(settings, dataset, seed=0):
    """Train epoch by epoch, and yield the `Training` with each epoch's mean loss and error as (run, loss, error)."""
    run = Training(settings, dataset, seed=seed)
    for epoch in range(settings.learning.epochs):
        seen = [run.train_step(batch).read() for batch in training_batches(dataset, run.recipe, seed, epoch)]
        yield run, *np.mean(seen, axis=0)


def measured(*whats):
    """Give what ``measure.py`` recorded: for each data set and seed at which all of ``whats`` were, their results.

    Returns
    -------
    dict of str to list
        ``{"middles": [(result of the first, result of the second, ...), ...]}``, a row a seed.
    """
    found = {}
    for data, results in json.loads((HERE / "measured.json").read_text(encoding="utf-8")).items():
        keys = [[f"{what} seed {seed}" for what in whats] for seed in range(5)]
        found[data] = [tuple(results[key] for key in row) for row in keys if all(key in results for key in row)]
    return {data: rows for data, rows in found.items() if rows}


def bare(*axes):
    """Take ticks and frames away, for pictures."""
    for each in axes:
        each.set(xticks=[], yticks=[])
        each.spines[:].set_visible(False)


def keep(figure, name):
    """Save a figure as ``lessons/out/NAME.png`` and say so."""
    OUT.mkdir(exist_ok=True)
    figure.savefig(OUT / f"{name}.png", metadata={"Software": None})
    print(f"figure: lessons/out/{name}.png")

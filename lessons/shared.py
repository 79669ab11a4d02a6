"""Helpers of the lessons: a photograph, small images, training epoch by epoch, the look of figures and their folder."""

import json
import sys
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import cbook
from PIL import Image

from tinyalex.datasets import Dataset, ImageSet, shapes
from tinyalex.datasets.picture import square
from tinyalex.figures.page import BLUE, FAINT, INK, LIGHT_BLUE, MUTED, PALE, PINK, VERMILION
from tinyalex.layers import LRN
from tinyalex.recipes import recipe
from tinyalex.training.loop import Training

if "ipykernel" not in sys.modules:  # in a notebook figures are shown
    matplotlib.use("Agg")  # figures are written to files; no window opens

HERE = Path(__file__).parent
OUT = HERE / "out"
GREEN = "#009e73"  # of Okabe and Ito's palette, like the other colours
COLOURS = [BLUE, VERMILION, GREEN, "#cc79a7", "#e69f00"]

__all__ = ["BLUE", "COLOURS", "FAINT", "GREEN", "HERE", "INK", "LIGHT_BLUE", "MUTED", "OUT", "PALE", "PINK"]
__all__ += ["VERMILION", "bare", "constant_norms", "epochs", "keep", "measured", "middles", "photograph", "small"]
__all__ += ["style"]


def style(*_):
    """Set the look of the figures; the documentation build calls this before each lesson."""
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
    """Return matplotlib's portrait of Grace Hopper, uint8 (size, size, 3), scaled and cropped to a square as in §2."""
    with Image.open(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)) as image:
        return square(image.convert("RGB"), size)


def middles(train, test, seed=0):
    """Draw images and keep the central 32 x 32 pixels, which the pattern nearly fills; return a `Dataset`.

    Parameters
    ----------
    train, test : int
        Number of images.
    seed : int
    """
    drawn = shapes.load(seed, train, test)
    sets = [
        ImageSet(np.ascontiguousarray(part.images[:, 16:48, 16:48]), part.labels) for part in (drawn.train, drawn.test)
    ]
    return Dataset("middles", drawn.classes, *sets)


def small(*overrides):
    """Load the recipe of the lessons' net, ``small.toml``, with keys overridden, as in ``small("net.pool=2")``."""
    return recipe.load(HERE / "small.toml", overrides)


def epochs(settings, dataset, seed=0, change=None):
    """Train; after each epoch yield the `Training` and the epoch's mean loss and error, as (run, loss, error).

    ``change`` is a function that is called with the network before the first step.
    """
    run = Training(settings, dataset, seed=seed)
    if change:
        change(run.network)
    for _ in range(settings.learning.epochs):
        metrics = [run.train_step(batch).read() for batch in run.batches()]
        yield run, *np.mean(metrics, axis=0)


def measured(*names):
    """Return the results of these experiments that ``measure.py`` recorded, for the seeds that have all of them.

    Returns
    -------
    dict of str to list
        By data set, a tuple for each seed: ``{"middles": [(result of the first, result of the second, ...), ...]}``.
    """
    found = {}
    for data, results in json.loads((HERE / "measured.json").read_text(encoding="utf-8")).items():
        keys = [[f"{name} seed {seed}" for name in names] for seed in range(5)]
        found[data] = [tuple(results[key] for key in row) for row in keys if all(key in results for key in row)]
    return {data: rows for data, rows in found.items() if rows}


def constant_norms(network):
    """Let each LRN layer divide by k^beta alone, without the sum over its neighbours; return how many there are."""
    layers = [layer for stage in network.stages for column in stage.columns for layer in column]
    norms = [layer for layer in layers if isinstance(layer, LRN)]
    for layer in norms:
        layer.alpha = 0.0
    return len(norms)


def bare(*axes):
    """Remove the ticks and frames of axes that show pictures."""
    for axis in axes:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)


def keep(figure, name):
    """Save a figure as ``lessons/out/NAME.png`` and print its path."""
    OUT.mkdir(exist_ok=True)
    figure.savefig(OUT / f"{name}.png", metadata={"Software": None})
    print(f"figure: lessons/out/{name}.png")

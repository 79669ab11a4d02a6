"""What the paper compares: for each comparison its two or more nets, and what the paper found."""

from dataclasses import replace
from typing import NamedTuple

from tinyalex.errors import UsageError

RACE = "relu-tanh"  # Figure 1, which is run in a way of its own: `tinyalex.experiments.race`


class Arm(NamedTuple):
    """One of the nets that are compared.

    Attributes
    ----------
    name : str
    net, data : callable
        ``net(recipe)`` and ``data(recipe)`` give the keys of that section that differ from the recipe, with values.
    whole : bool
        Whether training sees whole images, of which it takes random crops; else the centre alone is there to be seen.
    """

    name: str
    net: callable = lambda recipe: {}
    data: callable = lambda recipe: {}
    whole: bool = True

    def recipe(self, recipe):
        """Return the recipe of this arm."""
        net, data = replace(recipe.net, **self.net(recipe)), replace(recipe.data, **self.data(recipe))
        return replace(recipe, net=net, data=data)


class Comparison(NamedTuple):
    """A comparison.

    Attributes
    ----------
    title, section : str
        What is compared, and where the paper does so.
    arms : tuple of Arm
        The paper's own net first.
    paper : tuple of (float or None)
        How many points higher the paper found the others' top-1 and top-5 error; None where it gives no number.
    source : str
        Where the numbers are from, or what the paper says instead.
    """

    title: str
    section: str
    arms: tuple
    paper: tuple
    source: str


def _noise(recipe):
    return {"colour": "paper", "colour_noise": recipe.data.colour_noise or 0.1}


def _half(recipe):
    # Footnote 2: half the kernels, but for the last convolution; the fully connected layers stay.
    *maps, last = recipe.net.maps
    return {"columns": 1, "maps": (*(count // 2 for count in maps), last)}


def _without(number):
    # 0 maps: the convolution is left out.
    def net(recipe):
        return {"maps": tuple(0 if n == number else maps for n, maps in enumerate(recipe.net.maps, start=1))}

    return Arm(f"without conv{number}", net)


COMPARISONS = {
    "norm": Comparison(
        "local response normalization",
        "3.3",
        (Arm("normalized", net=lambda recipe: {"norm": "paper"}), Arm("not", net=lambda recipe: {"norm": "none"})),
        (1.4, 1.2),
        "ILSVRC-2010",
    ),
    "overlap": Comparison(
        "overlapping pooling",
        "3.4",
        (Arm("z = 3, s = 2", net=lambda recipe: {"pool": 3}), Arm("z = 2, s = 2", net=lambda recipe: {"pool": 2})),
        (0.4, 0.3),
        "ILSVRC-2010",
    ),
    "dropout": Comparison(
        "dropout in the fully connected layers",
        "4.2",
        (Arm("dropout", net=lambda recipe: {"dropout": 0.5}), Arm("none", net=lambda recipe: {"dropout": 0.0})),
        (None, None),
        '"without dropout, our network exhibits substantial overfitting"',
    ),
    "colour": Comparison(
        "colour noise",
        "4.1",
        (Arm("colour noise", data=_noise), Arm("none", data=lambda recipe: {"colour": "none"})),
        (1.0, None),
        '"over 1 %"',
    ),
    "crops": Comparison(
        "random crops and reflections",
        "4.1",
        (Arm("random crops"), Arm("centre alone", data=lambda recipe: {"flip": False}, whole=False)),
        (None, None),
        '"without this scheme, our network suffers from substantial overfitting"',
    ),
    "talk": Comparison(
        "columns that talk",
        "3.2",
        (Arm("talking"), Arm("never", net=lambda recipe: {"talk": ()})),
        (1.2, 1.1),
        "run 150 of the 2012 code; the text has no number",
    ),
    "columns": Comparison(
        "two columns against half the kernels on one GPU",
        "3.2",
        (Arm("two columns"), Arm("one, half as wide", net=_half)),
        (1.7, 1.2),
        "ILSVRC-2010",
    ),
    "depth": Comparison(
        "leaving out a convolution",
        "7",
        (Arm("all five"), _without(3), _without(4), _without(5)),
        (2.0, None),
        '"about 2 %" for any of the middle layers',
    ),
}


def find(name, recipe):
    """Return a comparison and the recipes of its arms.

    Raises
    ------
    UsageError
        If the recipe's net cannot be varied in that way.
    """
    comparison = COMPARISONS[name]
    if name in ("talk", "columns") and recipe.net.columns != 2:
        raise UsageError(f"experiment {name}: recipe {recipe.name} has one column; give --recipe one of two columns")
    return comparison, [arm.recipe(recipe) for arm in comparison.arms]

"""The paper's comparisons: the nets that each compares, and the paper's result."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from tinyalex.errors import UsageError

RACE = "relu-tanh"  # Figure 1, which `tinyalex.experiments.race` runs
ENSEMBLE = "ensemble"  # Table 2: `tinyalex.experiments.ensemble`
RATE = "rate"  # no comparison: the range test of `tinyalex.experiments.rate`


class Arm(NamedTuple):
    """One of the nets in a comparison, as changes to a recipe.

    Attributes
    ----------
    name : str
    net, data, init, learning : callable
        ``net(recipe)`` and so on return a dict of the keys to change in that section, with their new values.
    whole_images : bool
        True: train on random crops of the images. False: train on the centre crop only.
    folder : str
        Name of its run folders, if it differs from ``name``.
    share : float
        The share of the training images that it gets.
    """

    name: str
    net: Callable[[Any], dict[str, Any]] = lambda recipe: {}
    data: Callable[[Any], dict[str, Any]] = lambda recipe: {}
    whole_images: bool = True
    folder: str = ""
    init: Callable[[Any], dict[str, Any]] = lambda recipe: {}
    learning: Callable[[Any], dict[str, Any]] = lambda recipe: {}
    share: float = 1.0

    def recipe(self, recipe):
        """Return the recipe of this net."""
        sections = ("net", "data", "init", "learning")
        changes = {name: replace(getattr(recipe, name), **getattr(self, name)(recipe)) for name in sections}
        return replace(recipe, **changes)


class Comparison(NamedTuple):
    """A comparison of two or more nets.

    Attributes
    ----------
    title, section : str
        What is compared, and the section of the paper.
    arms : tuple of Arm
        The nets; the paper's own net is the first.
    paper : tuple of (float or None)
        By how many percentage points the other nets' top-1 and top-5 errors are higher in the paper; None where the
        paper gives no number.
    source : str
        The data set of these numbers, or a quotation where there are none.
    found : tuple of str, optional
        Who found that the other nets are worse, and by which measure, "top1_error", "train_error" or "gap". Default:
        the paper, by top-1 error where it has a number, else by how much they overfit.
    starts : bool
        Whether to count the seeds with which a net starts to learn, and to train nets whose signal is weak at first.
    """

    title: str
    section: str
    arms: tuple
    paper: tuple
    source: str
    found: tuple[str, str] | None = None
    starts: bool = False


def _noise(recipe):
    return {"colour": "paper", "colour_noise": recipe.data.colour_noise or 0.1}


def _half(recipe):
    # Footnote 2: half as many kernels, except in the last convolution; the fully connected layers are unchanged.
    *maps, last = recipe.net.maps
    return {"columns": 1, "maps": (*(count // 2 for count in maps), last)}


def _without(number):
    # A convolution with 0 maps is left out of the net.
    def net(recipe):
        return {"maps": tuple(0 if n == number else maps for n, maps in enumerate(recipe.net.maps, start=1))}

    return Arm(f"without conv{number}", net)


def _ones(recipe):
    # Paper §5: biases of 1 in conv2, conv4, conv5 and the hidden fully connected layers.
    return {"biases": {"default": 0.0} | dict.fromkeys(("conv2", "conv4", "conv5", "fc6", "fc7"), 1.0)}


def _initial(weights, bias):
    # The values of weights, and the biases that the paper sets to 1.
    biases = {"default": 0.0} | (dict.fromkeys(("conv2", "conv4", "conv5", "fc6", "fc7"), bias) if bias else {})
    return lambda recipe: {"weights": weights, "biases": biases}


_OF_2012 = {"default": 0.01, "conv3": 0.03, "conv4": 0.03, "conv5": 0.03}
_OF_CAFFE = {"default": 0.01, "fc6": 0.005, "fc7": 0.005}

COMPARISONS = {
    "norm": Comparison(
        "local response normalization",
        "3.3",
        (
            Arm("normalized", net=lambda recipe: {"norm": "paper"}),
            Arm("not normalized", net=lambda recipe: {"norm": "none"}, folder="not"),
        ),
        (1.4, 1.2),
        "ILSVRC-2012, validation images (runs 145 and 148, which has none of the three normalizations)",
    ),
    "overlap": Comparison(
        "overlapping pooling",
        "3.4",
        (Arm("z = 3, s = 2", net=lambda recipe: {"pool": 3}), Arm("z = 2, s = 2", net=lambda recipe: {"pool": 2})),
        (0.4, 0.3),
        "ILSVRC-2012, validation images (runs 145 and 147)",
    ),
    "dropout": Comparison(
        "dropout in the fully connected layers",
        "4.2",
        (
            Arm("dropout", net=lambda recipe: {"dropout": 0.5}),
            Arm("no dropout", net=lambda recipe: {"dropout": 0.0}, folder="none"),
        ),
        (None, None),
        '"without dropout, our network exhibits substantial overfitting"',
    ),
    "colour": Comparison(
        "colour noise",
        "4.1",
        (
            Arm("colour noise", data=_noise),
            Arm("no colour noise", data=lambda recipe: {"colour": "none"}, folder="none"),
        ),
        (1.0, None),
        '"over 1 %"',
    ),
    "crops": Comparison(
        "random crops and reflections",
        "4.1",
        (
            Arm("random crops"),
            Arm("centre crop", data=lambda recipe: {"flip": False}, whole_images=False, folder="centre-alone"),
        ),
        (None, None),
        '"without this scheme, our network suffers from substantial overfitting"',
    ),
    "talk": Comparison(
        "columns that exchange their maps",
        "3.2",
        (Arm("exchange", folder="talking"), Arm("no exchange", net=lambda recipe: {"talk": ()}, folder="never")),
        (None, None),
        "no number; in the notes of the 2012 code, run 150 is 1.2 and 1.1 points worse without the exchange, with "
        "conv2 and fc6 widened to make up for it, which this comparison does not do",
        ("run 150", "top1_error"),
    ),
    "columns": Comparison(
        "two columns against half the kernels on one GPU",
        "3.2",
        (Arm("two columns"), Arm("one column", net=_half, folder="one-half-as-wide")),
        (1.7, 1.2),
        "ILSVRC-2010, test images (runs 145 and 145-half)",
    ),
    "depth": Comparison(
        "leaving out a convolution",
        "7",
        (Arm("all five"), _without(3), _without(4), _without(5)),
        (2.0, None),
        '"about 2 %" for any of the middle layers',
    ),
    "decay": Comparison(
        "weight decay",
        "5",
        (
            Arm("weight decay", learning=lambda recipe: {"weight_decay": 0.0005}),
            Arm("no weight decay", learning=lambda recipe: {"weight_decay": 0.0}, folder="none"),
        ),
        (None, None),
        '"weight decay here is not merely a regularizer: it reduces the model\'s training error"',
        ("the paper", "train_error"),
    ),
    "bias": Comparison(
        "biases of 1 (in early epochs: give --epochs 2 or so)",
        "5",
        (
            Arm("biases of 1", init=_ones, folder="ones"),
            Arm("biases of 0", init=lambda recipe: {"biases": {"default": 0.0}}, folder="zeros"),
        ),
        (None, None),
        '"this initialization accelerates the early stages of learning"',
        ("the paper", "train_error"),
    ),
    "init": Comparison(
        "the first values: with which a net starts to learn",
        "5",
        (
            Arm("the program of 2012", init=_initial(_OF_2012, 1.0), folder="2012"),
            Arm("the paper's text", init=_initial({"default": 0.01}, 1.0), folder="text"),
            Arm("Caffe", init=_initial(_OF_CAFFE, 0.1), folder="caffe"),
            Arm("He, biases of 0", init=_initial({"default": "he", "fc8": 0.01}, 0.0), folder="he"),
        ),
        (None, None),
        '"from a zero-mean Gaussian distribution with standard deviation 0.01", with biases of 1 in some layers; the '
        "program of 2012 has 0.03 in conv3 to conv5, Caffe's copy biases of 0.1",
        ("the paper", "train_error"),
        starts=True,
    ),
    "size": Comparison(
        "the number of training images",
        "1",
        (
            Arm("all images", folder="all"),
            Arm("half of them", folder="half", share=1 / 2),
            Arm("a quarter", folder="quarter", share=1 / 4),
            Arm("an eighth", folder="eighth", share=1 / 8),
        ),
        (None, None),
        '"our results can be improved simply by waiting for faster GPUs and bigger datasets to become available"',
        ("the paper", "top1_error"),
    ),
}


def check_images(name, recipe, size):
    """Raise a UsageError if a comparison of crops gets images of ``size`` pixels from which nothing is cropped."""
    if name == "crops" and size <= recipe.net.input:
        raise UsageError(
            f"experiment crops: the net reads {recipe.net.input} x {recipe.net.input} pixels and the images have "
            f"{size} x {size}, so there is nothing to crop; prepare larger images, or give a --recipe whose net.input "
            f"is smaller, such as {size * 7 // 8}"
        )


def find(name, recipe):
    """Return a comparison and the recipes of its nets.

    Raises
    ------
    UsageError
        If the comparison needs two columns and the recipe's net has one.
    """
    comparison = COMPARISONS[name]
    if name in ("talk", "columns") and recipe.net.columns != 2:
        raise UsageError(
            f"experiment {name}: recipe {recipe.name} has one column; give a two-column recipe with --recipe"
        )
    return comparison, [arm.recipe(recipe) for arm in comparison.arms]

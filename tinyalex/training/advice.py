"""Which recipe suits a set of images, and how long its training takes here.

The choice is a rule on the number of images, their sizes and the device, so it is the same each time. The thresholds
come from the measured runs of `MEASURED`; the time comes from real training steps of the chosen net on this machine.
"""

import contextlib
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tinyalex import randomness
from tinyalex.datasets.dataset import Dataset, ImageSet
from tinyalex.datasets.survey import Survey
from tinyalex.devices import parallel
from tinyalex.recipes import recipe as recipes
from tinyalex.recipes.recipe import Recipe
from tinyalex.training.cautions import UNEQUAL
from tinyalex.training.loop import Training

FEW, MANY = 10_000, 100_000  # training images: below the first the recipes photos-*, from the second on a GPU `modern`
SMALL = 48  # pixels of the shorter side, below which images are prepared to 32 x 32 or their own size
_GREY = 0.9  # share of grey images, from which colours are not varied
_UNENLARGED = 0.1  # share of the images that may be smaller than the recipe's
# Images that a recipe trains in about eight minutes on two cores of a 2.5 GHz Xeon: the epochs are cut to that on CPUs.
_CPU_IMAGES = {"cifar10-columns": 1_000_000, "photos-64": 300_000, "tiny-imagenet": 150_000}
_LEAST_EPOCHS = 3
_LEAST_STEPS = 1000  # with few images, as the recipes photos-* have it
_TIMED, _SECONDS = 7, 4.0  # steps that are timed after the first one, unless they take longer


class Advice(NamedTuple):
    """A recipe for a set of images.

    Attributes
    ----------
    name : str
        Of the recipe.
    overrides : list of str
        What to change in it: values of ``--set``.
    reason : str
        Why this one, for a line of text.
    """

    name: str
    overrides: list[str]
    reason: str


class Measured(NamedTuple):
    """Runs that were measured: ``errors`` are their test errors, by seed; ``guessing`` is the error without a net."""

    data: str
    images: int
    classes: int
    recipe: str
    errors: tuple[float, ...]
    guessing: float
    grey: bool = False

    @property
    def error(self) -> float:
        """The mean over the seeds."""
        return sum(self.errors) / len(self.errors)


# On photographs of Tiny ImageNet and ILSVRC; commands and versions are in BENCHMARKS.md, the table also in README.md.
_EIGHT = "8 classes of 50 photographs, 64 x 64"
MEASURED = (
    Measured(_EIGHT, 400, 8, "photos-64", (0.4075, 0.38, 0.4075), 0.875),
    Measured(_EIGHT, 400, 8, "finetune", (0.2925, 0.295, 0.295), 0.875),
    Measured("2 classes of 160 photographs, 64 x 64", 320, 2, "photos-64", (0.125,), 0.5),
    Measured("5 classes of 80 grey photographs, 64 x 64", 400, 5, "photos-64", (0.31,), 0.8, grey=True),
    Measured("animals and things, 128 of each, 227 x 227", 256, 2, "photos-128", (0.3125,), 0.5),
)


def choose(survey: Survey, on_gpu: bool = False, run: Recipe | None = None) -> Advice:
    """Choose a recipe.

    Parameters
    ----------
    survey : Survey
    on_gpu : bool
        Whether a GPU trains; on a CPU the choice is for about ten minutes on two cores.
    run : Recipe, optional
        Of a run whose weights training starts with: then the recipe is ``finetune``.
    """
    advice = _by_size(survey, on_gpu) if run is None else Advice("finetune", [], f"it starts with {run.name}'s weights")
    if survey.grey > _GREY and recipes.load(advice.name).data.colour != "none":
        advice = advice._replace(overrides=[*advice.overrides, "data.colour=none"])
    if survey.imbalance <= UNEQUAL:
        return advice
    return advice._replace(
        overrides=[*advice.overrides, "data.sampling=balanced"],
        reason=f"{advice.reason}; rare classes are drawn as often as others (data.sampling)",
    )


def _by_size(survey: Survey, on_gpu: bool) -> Advice:
    side, images = survey.side(_UNENLARGED), survey.train
    if side < SMALL:
        size = 32 if side >= 32 else max(28, side)
        overrides = ["net.classes=0"] + [f"data.size={size}"] * (size != 32)
        overrides += ["data.flip=false"] * (survey.grey > _GREY)
        overrides += [f"learning.steps={_LEAST_STEPS}"] * (images < FEW)
        drawn = ", and grey ones, which may be letters or digits, are not mirrored" if survey.grey > _GREY else ""
        advice = Advice("cifar10-columns", overrides, f"images of {side} x {side} are small{drawn}")
    elif images < FEW:
        fits = [size for size in (64, 128) + (256,) * on_gpu if size <= side] or [64]
        advice = Advice(f"photos-{min(fits[-1], 224)}", [], f"{images:,} images are few")
    elif on_gpu and side >= 224:
        name = "modern" if images >= MANY else "photos-224"
        advice = Advice(name, ["net.classes=0"] * (name == "modern"), f"{images:,} images on a GPU")
    else:
        advice = Advice("tiny-imagenet", [], f"{images:,} images are enough for a larger net")
    if on_gpu:
        return advice
    made = recipes.load(advice.name, advice.overrides)
    epochs = max(_LEAST_EPOCHS, _CPU_IMAGES.get(advice.name, MANY) // max(1, images))
    if epochs >= made.learning.epochs:
        return advice
    reason = f"{advice.reason}; {epochs} of its {made.learning.epochs} epochs, for about ten minutes on two cores"
    return advice._replace(overrides=[*advice.overrides, f"learning.epochs={epochs}"], reason=reason)


def nearest(survey: Survey, name: str) -> Measured | None:
    """Return the measured run of a recipe whose numbers of images and classes are nearest, if within a factor of 2.

    None also for grey images if those were in colour, or the other way, and if some classes have far fewer images.
    """

    def distance(row: Measured) -> float:
        ratios = (row.images / max(1, survey.train), row.classes / survey.classes)
        return max(abs(float(np.log2(ratio))) for ratio in ratios)

    if survey.imbalance > UNEQUAL:
        return None
    alike = [row for row in MEASURED if row.recipe == name and row.grey == (survey.grey > _GREY)]
    rows = [row for row in alike if distance(row) <= 1]
    return min(rows, key=distance, default=None)


def step_seconds(recipe: Recipe, devices: Sequence[str] = ("cpu",), kernels: bool = True) -> tuple[float, float, int]:
    """Time training steps of a recipe's net on images of noise.

    Parameters
    ----------
    recipe : Recipe
        With its number of classes.
    devices : sequence of str
    kernels : bool
        As in `Network.build`.

    Returns
    -------
    seconds : float
        For a step, with its crops and colours: the median.
    alone : float
        The same if nothing else ran on the processors: the processor time of a step, by the number of threads.
    steps : int
        How many were timed, after one that was not.
    """
    batch, size = recipe.learning.batch, max(recipe.image_size, recipe.net.input)
    count = batch * (_TIMED + 1)
    noise = randomness.bits(randomness.key(0, "timing"), np.arange(size * size * 3)).astype(np.uint8)
    images = np.broadcast_to(noise.reshape(size, size, 3), (count, size, size, 3))
    drawn = ImageSet(images, np.arange(count) % recipe.net.classes)
    names = [str(number) for number in range(recipe.net.classes)]
    training = Training(recipe, Dataset("noise", names, drawn, drawn), devices, kernels=kernels)
    times, used = [], []
    with contextlib.closing(training.batches()) as batches:
        for metrics in training.train_steps(batches, synchronize=lambda: True):
            metrics.read()
            times.append(time.perf_counter())
            used.append(time.process_time())
            if len(times) > 1 and times[-1] - times[0] > _SECONDS:
                break
    alone = float(np.median(np.diff(used))) / parallel.workers().count
    return float(np.median(np.diff(times))), alone, len(times) - 1


def work(recipe: Recipe, images: int, tested: int) -> float:
    """Return how many steps training takes together with its tests, in which an image costs about a third as much."""
    count, epochs = steps(recipe, images)
    return count + epochs * tested / recipe.learning.batch / 3


def steps(recipe: Recipe, images: int) -> tuple[int, int]:
    """Return the numbers of steps and of epochs that training takes with so many images."""
    epochs = recipes.with_steps(recipe, images).learning.epochs
    return epochs * -(-images // recipe.learning.batch), epochs

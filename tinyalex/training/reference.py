"""What to expect of a run: the test errors of a recorded run of the same recipe, and what is known of ILSVRC.

The recorded runs are those of ``data/runs``, all with seed 0.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from tinyalex.recipes import recipe as recipes
from tinyalex.recipes.recipe import Recipe
from tinyalex.words import counted

PATIENCE = 3  # tests: a run whose error has not fallen for so long, while the recorded one's has, is stalled
_TOLERANCE = 0.02  # by which seeds differ at most late in training; more while the error falls steeply
_ERRORS = 3.0  # standard errors that count as a difference
_NO_MATTER = ("net.convolution", "net.precision", "learning.parts")  # they change rounding errors alone


class Recorded(NamedTuple):
    """A recorded run of a recipe as it is.

    Attributes
    ----------
    recipe : str
    classes, images, tested : int
        Of the data set: classes, training images, test images.
    errors : tuple of float
        Top-1 test error after each epoch.
    """

    recipe: str
    classes: int
    images: int
    tested: int
    errors: tuple[float, ...]

    @property
    def chance(self) -> float:
        """The error of guessing, if all classes are equally frequent."""
        return 1 - 1 / self.classes

    def differs(self, one: float, other: float) -> bool:
        """Whether two errors on different test images would differ by more than chance."""
        middle = min(max((one + other) / 2, 0.0), 1.0)
        return abs(one - other) > _ERRORS * math.sqrt(2 * middle * (1 - middle) / self.tested)

    def verdict(self, errors: Sequence[float]) -> str:
        """Compare the test errors of a run so far with this one's.

        Parameters
        ----------
        errors : sequence of float
            After each epoch; at least one, and no more than were recorded.

        Returns
        -------
        {"on track", "behind", "stalled"}
            On track: at most two points above this run's error, or half of what it fell by in the last epoch. Stalled:
            above that, and no lower than guessing, or than `PATIENCE` epochs or more ago, while this run's error fell.
        """
        number, now = len(errors), errors[-1]
        then, before = self.errors[number - 1], [self.chance, *self.errors][number - 1]
        if now <= then + max(_TOLERANCE, (before - then) / 2):
            return "on track"
        own, lowest = [self.chance, *errors], min(errors)
        since = next(n for n, error in enumerate(own) if error <= lowest or not self.differs(error, lowest))
        stays = since == 0 or number - since >= PATIENCE
        recorded = [self.chance, *self.errors][since]
        return "stalled" if stays and then < recorded and self.differs(recorded, then) else "behind"

    def line(self, errors: Sequence[float]) -> str:
        """Return a line that compares a run with this one after an epoch; see `verdict`."""
        number, verdict = len(errors), self.verdict(errors)
        text = f"epoch {number}  the recorded run of {self.recipe} had {self.errors[number - 1]:.2%}: {verdict}"
        if verdict == "on track":
            return text
        reached = sum(error > errors[-1] for error in self.errors)
        text += f"; it was as far after {counted(reached, 'epoch')}" if reached else "; none of its tests was so high"
        return text if verdict == "behind" else f"{text}; tinyalex experiment rate suggests a learning rate"

    def expectation(self) -> str:
        """Return a line with what this run had after some of its epochs."""
        last = len(self.errors)
        shown = ", ".join(f"{self.errors[n - 1]:.2%} after epoch {n}" for n in (1, 5, 25, 90) if n < last)
        return f"to expect: test error {shown}, {self.errors[-1]:.2%} after {last}, as in the recorded run"


RECORDED = (
    Recorded(
        "shapes", 12, 9600, 1920,
        (0.7046875, 0.2369792, 0.03333333, 0.005208333, 0.0046875, 0.002083333, 0.0015625, 0.002604167),
    ),
    Recorded(
        "cifar10-relu", 10, 50_000, 10_000, (0.5345, 0.4327, 0.3888, 0.3355, 0.313, 0.3126, 0.295, 0.2839),
    ),
    Recorded(
        "tiny-imagenet", 100, 50_000, 5000,
        (0.9086, 0.8094, 0.7722, 0.7086, 0.6986, 0.6538, 0.6268, 0.6064, 0.6022, 0.6),
    ),
)  # fmt: skip


def find(recipe: Recipe, images: int, tested: int) -> Recorded | None:
    """Return the recorded run of a recipe on a data set of the same size; None if there is none.

    Parameters
    ----------
    recipe : Recipe
        With its number of classes.
    images, tested : int
        Training and test images.
    """
    for run in RECORDED:
        if (run.recipe, run.classes, run.images, run.tested) == (recipe.name, recipe.net.classes, images, tested):
            kept = recipes.load(run.recipe, [f"net.classes={run.classes}"])
            if not [each for each in recipes.differences(kept, recipe) if each[0] not in _NO_MATTER]:
                return run
    return None


# What the authors' notes record of the end of a run, with ten views, in percent, and on what.
_ILSVRC_IMAGES = 1_200_000  # at least
_KNOWN = {
    "original": ("40.66 % top-1 and 18.21 % top-5", "on the validation images of 2012", 91),
    "original-2010": ("37.47 % top-1 and 17.00 % top-5", "on the test images of 2010", 93),
}
SPEEDS = {"one H200": 9412.0, "two CPU cores": 76.1}  # images a second, in BENCHMARKS.md


def expectations(recipe: Recipe, images: int, tested: int) -> list[str]:
    """Return lines with what to expect of a run: of a recorded one, or of ILSVRC; none where nothing is known.

    Parameters
    ----------
    recipe : Recipe
        With its number of classes.
    images, tested : int
        Training and test images.
    """
    if recorded := find(recipe, images, tested):
        return [recorded.expectation()]
    if recipe.name not in _KNOWN or recipe.net.classes != 1000 or images < _ILSVRC_IMAGES:
        return []
    errors, where, epochs = _KNOWN[recipe.name]
    gpu, cpu = (images * recipe.learning.epochs / speed for speed in SPEEDS.values())
    return [
        f"to expect: {errors} error with ten views {where}, after {epochs} epochs in the authors' notes; no errors "
        "after epochs 1, 5 and 25 are recorded",
        f"to expect: {gpu / 3600:.1f} hours on one H200, 5 to 6 days on the authors' two GTX 580, "
        f"{cpu / 86400:.0f} days on two CPU cores, at the speeds of BENCHMARKS.md",
    ]

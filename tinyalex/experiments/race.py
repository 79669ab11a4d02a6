"""Figure 1: how many epochs a net with ReLUs and one with tanh units need to 25 % training error (paper §3.1).

"The learning rates for each network were chosen independently to make training as fast as possible": a search doubles
and halves the rate for as long as the training error after a few epochs gets better. What is ahead early need not be
there first: the three best rates train for three times as many epochs, the two best of these for six times as many, and
the better one of them until it is there.
"""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from tinyalex.errors import DivergedError
from tinyalex.figures.race import crossing
from tinyalex.recipes import recipe as recipes
from tinyalex.runs import run_folder
from tinyalex.runs.train import train
from tinyalex.system import storage

GOAL = 0.25  # training error
ACTIVATIONS = ("relu", "tanh")


class Runner:
    """A net at one learning rate, which trains as far as it is told to.

    Parameters
    ----------
    recipe : Recipe
        ``learning.epochs`` is the farthest that it may go.
    dataset : Dataset
    folder : Path
        Of its run. What an earlier runner did there counts.
    devices : sequence of str
    seed : int

    Attributes
    ----------
    errors : list of float
        Training error of each epoch so far, as counted while the net learned; infinite from where it diverged.
    """

    def __init__(self, recipe, dataset, folder, devices, seed):
        self.recipe, self.dataset, self.folder, self.devices, self.seed = recipe, dataset, folder, devices, seed
        self.most, self._diverged = recipe.learning.epochs, Path(folder) / "diverged.txt"

    @property
    def errors(self):
        errors = [record["top1_error"] for record in run_folder.read_log(self.folder) if record["event"] == "epoch"]
        return errors + [math.inf] * (self.most - len(errors)) if self._diverged.is_file() else errors

    @property
    def needed(self):
        """Epochs to the goal, or None."""
        return crossing(self.errors, GOAL)

    def go(self, epochs):
        """Train until so many epochs are done, or the goal is reached.

        Returns
        -------
        tuple of float
            Epochs to the goal, if that takes no more than these, and the last error: the lesser tuple is the faster.
        """
        epochs = min(epochs, self.most)

        def there(_):
            return len(self.errors) >= epochs or self.needed is not None

        if not there(self):
            try:
                quiet = {"show": lambda line: None, "stop_condition": there}
                train(self.recipe, self.dataset, self.folder, self.devices, self.seed, **quiet)
            except DivergedError as error:
                storage.write_text(self._diverged, f"{error}\n")
        errors = self.errors[:epochs]
        needed = crossing(errors, GOAL)
        return math.inf if needed is None else needed, errors[-1]


def search(make, start, epochs, show):
    """Find the fastest rate.

    Parameters
    ----------
    make : callable
        ``make(rate)`` gives a `Runner`.
    start : float
        The first rate.
    epochs : int
        After which rates are compared for the first time.
    show : callable

    Returns
    -------
    dict of float to Runner
        All that were tried, the fastest first. It has reached the goal, unless neither of the last two does.
    """
    runners = {}

    def slowness(rate, epochs=epochs):
        rate = float(f"{rate:.9g}")
        if rate not in runners:
            runners[rate] = make(rate)
            show(f"rate {rate:g}: training error {_percent(runners[rate].go(epochs)[1])} after {epochs} epochs")
        return runners[rate].go(epochs)

    best = start
    for factor in (2.0, 0.5):
        while slowness(best * factor) < slowness(best):
            best *= factor
    order = sorted(runners, key=slowness)
    for count, times in ((3, 3), (2, 6)):
        ahead = sorted(order[:count], key=lambda rate: slowness(rate, times * epochs))
        show(
            f"after {times * epochs} epochs: "
            + ", ".join(f"{rate:g} {_percent(runners[rate].errors[-1])}" for rate in ahead)
        )
        order[:count] = ahead
    for rate in order[:2]:
        runners[rate].go(runners[rate].most)
        show(f"rate {rate:g}: {_reached(runners[rate])}")
        if runners[rate].needed is not None:
            order.insert(0, order.pop(order.index(rate)))
            break
    return {rate: runners[rate] for rate in order}


def race(recipe, dataset, out, seeds, devices, epochs, show):
    """Find the fastest rate of both nets, and repeat their race from other seeds.

    Parameters
    ----------
    recipe : Recipe
        Its rate is where the searches begin, its epochs are the most that a net may take.
    dataset : Dataset
    out : Path
    seeds : int
        Rates are chosen with seed 0; the others run at the chosen rate.
    devices : sequence of str
    epochs : int
        See `search`.
    show : callable

    Returns
    -------
    dict
        "arms", each with "name", "rate", "needed" (epochs to the goal a seed, or None), "errors" (training error an
        epoch, a seed) and "searched" (rate, errors); "ratio", one a seed, or None where a net did not get there.
    """
    arms = []
    for activation in ACTIVATIONS:
        net = replace(recipe, net=replace(recipe.net, activation=activation))

        def runner(rate, seed=0, net=net, activation=activation):
            folder = Path(out) / f"{activation}-{rate:g}-{seed}"
            return Runner(recipes.with_rate(net, rate), dataset, folder, devices[: net.net.columns], seed)

        show(f"{activation}: searching for the rate")
        found = search(runner, recipe.learning.rate, epochs, show)
        rate = next(iter(found))
        again = [found[rate], *(runner(rate, seed) for seed in range(1, seeds))]
        for each in again[1:]:
            each.go(each.most)
            show(f"rate {rate:g}, seed {each.seed}: {_reached(each)}")
        arms.append(
            {
                "name": activation,
                "rate": rate,
                "needed": [each.needed for each in again],
                "errors": [_finite(each.errors) for each in again],
                "searched": [{"rate": rate, "errors": _finite(each.errors)} for rate, each in found.items()],
            }
        )
    relu, tanh = (arm["needed"] for arm in arms)
    return {"arms": arms, "ratio": [b / a if a and b else None for a, b in zip(relu, tanh, strict=True)]}


def _percent(error):
    return f"{error:.2%}" if np.isfinite(error) else "not finite"


def _reached(runner):
    if runner.needed is None:
        return f"not at {GOAL:.0%} training error after {len(runner.errors)} epochs"
    return f"{GOAL:.0%} training error after {runner.needed:.1f} epochs"


def _finite(errors):
    return [error for error in errors if np.isfinite(error)]

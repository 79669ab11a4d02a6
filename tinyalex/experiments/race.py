"""Figure 1: how many epochs a net with ReLUs and one with tanh units need to reach 25 % training error (paper §3.1).

"The learning rates for each network were chosen independently to make training as fast as possible": a search doubles
and halves the rate as long as the training error after a few epochs improves. Since the best rate after few epochs need
not be the best later, the three best rates then train for three times as many epochs, the two best of these for six
times as many, and the better of these two until it reaches 25 %. If it does not get there, the other one is tried.
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
from tinyalex.words import counted

GOAL = 0.25  # training error
ACTIVATIONS = ("relu", "tanh")


class Runner:
    """A net at one learning rate that is trained in several calls.

    Parameters
    ----------
    recipe : Recipe
        ``learning.epochs`` is the limit.
    dataset : Dataset
    folder : Path
        Run folder. Epochs that an earlier process trained there are counted.
    devices : sequence of str
    seed : int

    Attributes
    ----------
    errors : list of float
        Training error of each epoch so far, measured during training; infinite for all epochs after it diverged.
    """

    def __init__(self, recipe, dataset, folder, devices, seed):
        self.recipe, self.dataset, self.folder, self.devices, self.seed = recipe, dataset, folder, devices, seed
        self.max_epochs, self._diverged = recipe.learning.epochs, Path(folder) / "diverged.txt"

    @property
    def errors(self):
        errors = [record["top1_error"] for record in run_folder.read_log(self.folder) if record["event"] == "epoch"]
        return errors + [math.inf] * (self.max_epochs - len(errors)) if self._diverged.is_file() else errors

    @property
    def epochs_to_goal(self):
        """Epochs until the goal is reached, a fraction between two epochs, or None."""
        return crossing(self.errors, GOAL)

    def run_until(self, epochs):
        """Train until this number of epochs is done or the goal is reached, whichever is first.

        Returns
        -------
        tuple of float
            Epochs to the goal (infinite if it is not reached within ``epochs``), and the last training error. Of two
            rates, the one with the smaller tuple is the faster.
        """
        epochs = min(epochs, self.max_epochs)

        def done(_):
            return len(self.errors) >= epochs or self.epochs_to_goal is not None

        if not done(self):
            try:
                quiet = {"show": lambda line: None, "stop_condition": done}
                train(self.recipe, self.dataset, self.folder, self.devices, self.seed, **quiet)
            except DivergedError as error:
                storage.write_text(self._diverged, f"{error}\n")
        errors = self.errors[:epochs]
        reached = crossing(errors, GOAL)
        return math.inf if reached is None else reached, errors[-1]


def search(make, start, epochs, show):
    """Find the learning rate that reaches the goal in the fewest epochs.

    Parameters
    ----------
    make : callable
        ``make(rate)`` returns a `Runner`.
    start : float
        The first rate.
    epochs : int
        Epochs after which rates are compared for the first time.
    show : callable
        Called with lines of text.

    Returns
    -------
    dict of float to Runner
        All rates tried, the fastest first. The first has reached the goal, unless neither of the last two did.
    """
    runners = {}

    def slowness(rate, epochs=epochs):
        rate = float(f"{rate:.9g}")
        if rate not in runners:
            runners[rate] = make(rate)
            error = _percent(runners[rate].run_until(epochs)[1])
            show(f"rate {rate:g}: training error {error} after {counted(epochs, 'epoch')}")
        return runners[rate].run_until(epochs)

    best = start
    for factor in (2.0, 0.5):
        while slowness(best * factor) < slowness(best):
            best *= factor
    order = sorted(runners, key=slowness)
    for count, times in ((3, 3), (2, 6)):
        best_rates = sorted(order[:count], key=lambda rate: slowness(rate, times * epochs))
        show(
            f"after {counted(times * epochs, 'epoch')}: "
            + ", ".join(f"{rate:g} {_percent(runners[rate].errors[-1])}" for rate in best_rates)
        )
        order[:count] = best_rates
    for rate in order[:2]:
        runners[rate].run_until(runners[rate].max_epochs)
        show(f"rate {rate:g}: {_reached(runners[rate])}")
        if runners[rate].epochs_to_goal is not None:
            order.insert(0, order.pop(order.index(rate)))
            break
    return {rate: runners[rate] for rate in order}


def race(recipe, dataset, out, seeds, devices, epochs, show):
    """Find the fastest learning rate of both nets, and repeat the comparison with other seeds.

    Parameters
    ----------
    recipe : Recipe
        ``learning.rate`` is the first rate of both searches, ``learning.epochs`` the limit of every training.
    dataset : Dataset
    out : Path
    seeds : int
        The rates are found with seed 0; the other seeds use them.
    devices : sequence of str
    epochs : int
        See `search`.
    show : callable
        Called with lines of text.

    Returns
    -------
    dict
        "arms", one per net: "name", "rate", "needed" (for each seed the epochs to the goal, or None), "errors" (for
        each seed the training error of each epoch) and "searched" (rate and errors of each rate tried). "ratio", for
        each seed: the tanh net's epochs divided by the ReLU net's, or None if one of them did not reach the goal.
    """
    arms = []
    for activation in ACTIVATIONS:
        net = replace(recipe, net=replace(recipe.net, activation=activation))

        def runner(rate, seed=0, net=net, activation=activation):
            folder = Path(out) / f"{activation}-{rate:g}-{seed}"
            return Runner(recipes.with_rate(net, rate), dataset, folder, devices[: net.net.columns], seed)

        show(f"{activation}: searching for the fastest learning rate")
        found = search(runner, recipe.learning.rate, epochs, show)
        rate = next(iter(found))
        runs = [found[rate], *(runner(rate, seed) for seed in range(1, seeds))]
        for run in runs[1:]:
            run.run_until(run.max_epochs)
            show(f"rate {rate:g}, seed {run.seed}: {_reached(run)}")
        arms.append(
            {
                "name": activation,
                "rate": rate,
                "needed": [run.epochs_to_goal for run in runs],
                "errors": [_finite(run.errors) for run in runs],
                "searched": [{"rate": rate, "errors": _finite(run.errors)} for rate, run in found.items()],
            }
        )
    relu, tanh = (arm["needed"] for arm in arms)
    return {"arms": arms, "ratio": [b / a if a and b else None for a, b in zip(relu, tanh, strict=True)]}


def _percent(error):
    return f"{error:.2%}" if np.isfinite(error) else "not finite"


def _reached(runner):
    if runner.epochs_to_goal is None:
        return f"{GOAL:.0%} training error not reached after {counted(len(runner.errors), 'epoch')}"
    return f"{GOAL:.0%} training error after {runner.epochs_to_goal:.1f} epochs"


def _finite(errors):
    return [error for error in errors if np.isfinite(error)]

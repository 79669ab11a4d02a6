"""Learning rates over a run: phases, "divide by 10 when the error stops improving" (paper §5), or a cosine.

A schedule keeps no state. The rates are a function of the epoch and of the test errors so far, so a resumed run has
the same ones as a run that was never interrupted.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tinyalex.recipes.recipe import Learning

SCALED_FROM = 128  # images: the batch for which rates are given that scale linearly with the batch


class Rates(NamedTuple):
    """Learning rates, and other settings that change during a run, at one moment.

    Attributes
    ----------
    rate, bias_rate : float
        Learning rates of weights and biases.
    lr_mult : dict
        Layer name to multiplier of both rates; 0 freezes the layer.
    colour_noise : float or None
        Strength of the colour noise; None means the recipe's ``data.colour_noise``.
    finished : bool
        Whether training can stop: the rate has been divided ``drops`` times and the error still does not improve, or
        it has not improved for ``stop_after`` epochs.
    drops : int
        How often the rate has been lowered so far; always 0 for a cosine.
    """

    rate: float
    bias_rate: float
    lr_mult: dict[str, float]
    colour_noise: float | None
    finished: bool
    drops: int = 0


def rates(learning: Learning, epoch: float, errors: Sequence[float] = ()) -> Rates:
    """Return the `Rates` of a recipe's ``learning`` section.

    Parameters
    ----------
    learning : recipe.Learning
    epoch : float
        Epochs trained so far, a float.
    errors : sequence of float
        Test error after each epoch so far; only "plateau" and ``stop_after`` use them.

    Examples
    --------
    >>> from tinyalex import recipe, schedule
    >>> learning = recipe.load("original").learning
    >>> [schedule.rates(learning, epoch).rate for epoch in (0, 24.9, 25, 60)]
    [0.01, 0.01, 0.001, 0.0001]
    """
    rate, bias_rate, lr_mult, colour_noise, finished, drops = learning.rate, None, {}, None, False, 0
    if learning.schedule == "phases":
        for phase in learning.phases:
            if phase.epoch <= epoch:
                drops += phase.rate < rate
                rate, bias_rate, lr_mult = phase.rate, phase.bias_rate, phase.lr_mult
                colour_noise = colour_noise if phase.colour_noise is None else phase.colour_noise
    elif learning.schedule == "plateau":
        drops = plateaus(errors, learning.patience)
        finished, drops = drops > learning.drops, min(drops, learning.drops)
        rate /= 10**drops
    elif learning.schedule == "polynomial":
        rate *= (1 - min(1.0, epoch / learning.epochs)) ** 2
    else:
        rate *= 0.5 * (1 + math.cos(math.pi * epoch / learning.epochs))
    bias_rate = rate * learning.bias_rate if bias_rate is None else bias_rate
    finished = finished or bool(learning.stop_after and stale(errors) >= learning.stop_after)
    factor = min(1.0, epoch / learning.warmup) if learning.warmup else 1.0
    if learning.scale == "linear":
        factor *= learning.batch / SCALED_FROM
    return Rates(rate * factor, bias_rate * factor, lr_mult, colour_noise, finished, drops)


def best_epoch(errors: Sequence[float]) -> int:
    """Return the epoch with the lowest error, counted from 1, the earliest one among equals; 0 without errors."""
    return min(range(len(errors)), key=lambda number: errors[number], default=-1) + 1


def stale(errors: Sequence[float]) -> int:
    """Count the epochs since the one with the lowest error.

    >>> stale([0.5, 0.3, 0.4, 0.3])
    2
    """
    return len(errors) - best_epoch(errors)


def plateaus(errors: Iterable[float], patience: int) -> int:
    """Count how often ``patience`` epochs in a row have not improved on the best error before them."""
    best, stale, count = math.inf, 0, 0
    for error in errors:
        stale = 0 if error < best else stale + 1
        best = min(best, error)
        if stale == patience:
            stale, count = 0, count + 1
    return count

"""Learning rates over a run: scripted phases, "divide by 10 when the error stops improving" (paper §5), or a cosine.

A schedule keeps no state. The rates are a function of the epoch and of the test errors so far, so that a run which
resumes has the same ones.
"""

import math
from typing import NamedTuple


class Rates(NamedTuple):
    """What holds at one moment of a run.

    Attributes
    ----------
    rate, bias_rate : float
        Learning rates of weights and biases.
    lr_mult : dict
        Layer name to multiplier of both; 0 is frozen.
    colour_noise : float or None
        Strength of the colour noise, or None for the recipe's.
    finished : bool
        Whether training can stop: the rate was divided as often as it may be, and nothing improves any more.
    drops : int
        How often the rate has been lowered, in steps; a cosine has none.
    """

    rate: float
    bias_rate: float
    lr_mult: dict
    colour_noise: float | None
    finished: bool
    drops: int = 0


def rates(learning, epoch, errors=()):
    """Return the `Rates` of a recipe's ``learning`` section.

    Parameters
    ----------
    learning : recipe.Learning
    epoch : float
        Epochs done, with the fraction of the one under way.
    errors : sequence of float
        Test error after each epoch so far; only "plateau" looks at them.
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
    else:
        rate *= 0.5 * (1 + math.cos(math.pi * epoch / learning.epochs))
    bias_rate = rate * learning.bias_rate if bias_rate is None else bias_rate
    warm = min(1.0, epoch / learning.warmup) if learning.warmup else 1.0
    return Rates(rate * warm, bias_rate * warm, lr_mult, colour_noise, finished, drops)


def plateaus(errors, patience):
    """Count how often ``patience`` epochs in a row brought no better error than the best before them."""
    best, stale, count = math.inf, 0, 0
    for error in errors:
        stale = 0 if error < best else stale + 1
        best = min(best, error)
        if stale == patience:
            stale, count = 0, count + 1
    return count

"""The arithmetic of seeds: how far two nets are apart, and whether so few runs can tell."""

import math
from typing import NamedTuple

import numpy as np

# Student's t: 97.5 % lie below, for 1, 2, 3 ... degrees of freedom (the last for more).
_T = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
      2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042]  # fmt: skip


class Effect(NamedTuple):
    """A difference over seeds.

    Attributes
    ----------
    mean, deviation : float
        Of the differences; the deviation over the seeds is NaN for one seed.
    half : float
        Half the 95 % interval of the mean (Student's t); infinite for one seed.
    """

    mean: float
    deviation: float
    half: float

    @property
    def verdict(self):
        """Return "higher", "lower" or "open", where zero lies inside of the interval."""
        return "open" if abs(self.mean) <= self.half else "higher" if self.mean > 0 else "lower"


def effect(reference, other):
    """Compare two nets' errors, seed by seed: the same seed draws the same order, crops and first values for both.

    Parameters
    ----------
    reference, other : sequence of float
        One error a seed.

    Returns
    -------
    Effect
        Of ``other - reference``.
    """
    differences = np.subtract(other, reference, dtype=np.float64)
    n = len(differences)
    if n < 2:
        return Effect(float(differences.mean()), math.nan, math.inf)
    deviation = float(differences.std(ddof=1))
    return Effect(float(differences.mean()), deviation, _T[min(n, len(_T) + 1) - 2] * deviation / math.sqrt(n))

"""The difference between two nets' errors over several seeds, with a 95 % confidence interval (paired t-test)."""

import math
from typing import NamedTuple

import numpy as np

# The 97.5 % quantile of Student's t for 1, 2, 3 ... 30 degrees of freedom; the last is also used for more.
_T = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
      2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042]  # fmt: skip


class Effect(NamedTuple):
    """The difference between two nets' errors.

    Attributes
    ----------
    mean, deviation : float
        Mean and standard deviation of the differences over the seeds; the deviation is NaN for one seed.
    half : float
        Half the width of the 95 % confidence interval of the mean (Student's t); infinite for one seed.
    """

    mean: float
    deviation: float
    half: float

    @property
    def verdict(self):
        """Return "higher" or "lower", or "open" if the interval contains zero."""
        return "open" if abs(self.mean) <= self.half else "higher" if self.mean > 0 else "lower"


def effect(reference, other):
    """Compare two nets' errors in pairs of the same seed, which gives both the same image order, crops and weights.

    Parameters
    ----------
    reference, other : sequence of float
        One error per seed.

    Returns
    -------
    Effect
        The difference ``other - reference``.
    """
    differences = np.subtract(other, reference, dtype=np.float64)
    n = len(differences)
    if n < 2:
        return Effect(float(differences.mean()), math.nan, math.inf)
    deviation = float(differences.std(ddof=1))
    return Effect(float(differences.mean()), deviation, _T[min(n, len(_T) + 1) - 2] * deviation / math.sqrt(n))

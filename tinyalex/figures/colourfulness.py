"""How colourful first-layer kernels are, and how far two columns have parted in that (paper §6.1 and Figure 3).

A kernel answers to a change of brightness by its mean over R, G and B at each place, and to a change of colour by what
remains. Its colourfulness is the share of the remainder in the sum of its squared weights: 0 for a grey kernel, 1 for
one that no grey picture can excite, 2/3 on average for weights of independent noise.
"""

from typing import NamedTuple

import numpy as np

from tinyalex import randomness

_DEALS = 2000


class Specialisation(NamedTuple):
    """What two columns' kernels say.

    Attributes
    ----------
    means : dict of str to float
        A column's mean colourfulness.
    apart : float
        Difference of the two means, 0 to 1.
    by_chance : float
        Which difference 95 % of all ways to deal the same kernels to two columns stay below.
    """

    means: dict
    apart: float
    by_chance: float


def colourfulness(kernels):
    """Return how colourful kernels are.

    Parameters
    ----------
    kernels : array, shape (k, k, 3, n)

    Returns
    -------
    ndarray, shape (n,)
        0 to 1; NaN for a kernel of zeros, or with weights that are not finite.
    """
    kernels = np.asarray(kernels, np.float64)
    colour = kernels - kernels.mean(axis=2, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (colour**2).sum(axis=(0, 1, 2)) / (kernels**2).sum(axis=(0, 1, 2))


def specialisation(columns):
    """Measure how far two columns' kernels are apart in colour.

    Parameters
    ----------
    columns : dict of str to array (k, k, 3, n)
        Two columns.

    Returns
    -------
    Specialisation
    """
    values = {name: colourfulness(block) for name, block in columns.items()}
    values = {name: each[np.isfinite(each)] for name, each in values.items()}
    a, b = values.values()
    if not (len(a) and len(b)):
        return Specialisation({name: np.nan for name in values}, np.nan, np.nan)
    pool = np.concatenate([a, b])
    key = randomness.key(0, "specialisation")
    deals = np.argsort(randomness.bits(key, np.arange(_DEALS)[:, None], np.arange(len(pool))), axis=1)
    dealt = pool[deals]
    chance = np.abs(dealt[:, : len(a)].mean(axis=1) - dealt[:, len(a) :].mean(axis=1))
    means = {name: float(each.mean()) for name, each in values.items()}
    return Specialisation(means, float(abs(a.mean() - b.mean())), float(np.quantile(chance, 0.95)))

"""How colourful first-layer kernels are, and how much two columns differ in it (paper §6.1 and Figure 3).

At each pixel of a kernel, the mean over R, G and B responds to brightness and the rest to colour. The colourfulness is
the fraction that the rest has of the sum of the squared weights: 0 for a grey kernel, 1 for a kernel that gives 0 on
every grey image, 2/3 on average for independent random weights.
"""

from typing import NamedTuple

import numpy as np

from tinyalex import randomness

_SPLITS = 2000


class Specialisation(NamedTuple):
    """How much two columns differ in colourfulness.

    Attributes
    ----------
    means : dict of str to float
        A column's mean colourfulness.
    difference : float
        Absolute difference of the two means, 0 to 1.
    by_chance : float
        The difference that 95 % of random splits of the same kernels into two columns stay below.
    """

    means: dict
    difference: float
    by_chance: float


def colourfulness(kernels):
    """Compute the colourfulness of kernels.

    Parameters
    ----------
    kernels : array, shape (k, k, 3, n)

    Returns
    -------
    ndarray, shape (n,)
        0 to 1; NaN for a kernel that is all zeros or has weights that are not finite.
    """
    kernels = np.asarray(kernels, np.float64)
    colour = kernels - kernels.mean(axis=2, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (colour**2).sum(axis=(0, 1, 2)) / (kernels**2).sum(axis=(0, 1, 2))


def specialisation(columns):
    """Measure how much two columns differ in the colourfulness of their kernels.

    Parameters
    ----------
    columns : dict of str to array (k, k, 3, n)
        Exactly two columns.

    Returns
    -------
    Specialisation
    """
    values = {name: colourfulness(block) for name, block in columns.items()}
    values = {name: column[np.isfinite(column)] for name, column in values.items()}
    a, b = values.values()
    if not (len(a) and len(b)):
        return Specialisation({name: np.nan for name in values}, np.nan, np.nan)
    pool = np.concatenate([a, b])
    key = randomness.key(0, "specialisation")
    orders = np.argsort(randomness.bits(key, np.arange(_SPLITS)[:, None], np.arange(len(pool))), axis=1)
    shuffled = pool[orders]
    chance = np.abs(shuffled[:, : len(a)].mean(axis=1) - shuffled[:, len(a) :].mean(axis=1))
    means = {name: float(column.mean()) for name, column in values.items()}
    return Specialisation(means, float(abs(a.mean() - b.mean())), float(np.quantile(chance, 0.95)))

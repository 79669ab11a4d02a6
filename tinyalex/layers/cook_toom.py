"""Transforms for short convolutions, by Cook and Toom's construction.

Two polynomials can be multiplied through their values at a few points: evaluate both, multiply point by point, and
interpolate the product's coefficients. With m and r coefficients the product has t = m + r - 1, so t points are
enough; one may be "infinity", whose value is the leading coefficient. The m outputs of an r-tap kernel are the
transpose of that:

    y = A' [(G g) * (B' d)],     A (t, m) and G (t, r) evaluate at the points, B' (t, t) is the transposed inverse

This takes t products instead of m r.
"""

import math
from fractions import Fraction
from functools import cache

import numpy as np

# By outputs m and kernel size r, the points besides infinity: small fractions, which enlarge rounding errors little.
POINTS = {
    (4, 3): ("0", "1", "-1", "2", "-1/2"),
    (5, 3): ("0", "1", "2", "1/2", "-3/4", "-4/3"),
    (6, 3): ("0", "1", "-1", "2", "-2", "1/2", "-1/2"),
    (4, 5): ("0", "1", "-1", "2", "-2", "1/2", "-1/2"),
}


@cache
def cook_toom(outputs: int, points: tuple[str, ...]) -> tuple[np.ndarray, ...]:
    """Derive the transforms of m outputs of an r-tap kernel, in exact fractions.

    Parameters
    ----------
    outputs : int
        m.
    points : tuple of str
        Where to evaluate, besides infinity: t - 1 = m + r - 2 different fractions.

    Returns
    -------
    A, G, B : ndarray, float64, shapes (t, m), (t, r) and (t, t)
    """
    finite = [Fraction(point) for point in points]
    t = len(finite) + 1
    # Lagrange's denominators, moved from B to G, leave small numbers in both.
    scale = [math.prod((p - q for q in finite if q != p), start=Fraction(1)) for p in finite] + [1]

    def evaluation(size: int) -> list[list[Fraction]]:
        return [[p**j for j in range(size)] for p in finite] + [[Fraction(j == size - 1) for j in range(size)]]

    G = [[value / s for value in row] for row, s in zip(evaluation(t - outputs + 1), scale, strict=True)]
    B = [[value * s for value, s in zip(row, scale, strict=True)] for row in _inverse(evaluation(t))]
    return tuple(np.array(matrix, dtype=np.float64) for matrix in (evaluation(outputs), G, B))


def _inverse(matrix: list[list[Fraction]]) -> list[list[Fraction]]:
    # By Gauss and Jordan, in fractions.
    size = len(matrix)
    rows = [[*row, *(Fraction(i == j) for j in range(size))] for i, row in enumerate(matrix)]
    for i in range(size):
        pivot = next(k for k in range(i, size) if rows[k][i])
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for k in set(range(size)) - {i}:
            rows[k] = [a - rows[k][i] * b for a, b in zip(rows[k], rows[i], strict=True)]
    return [row[size:] for row in rows]

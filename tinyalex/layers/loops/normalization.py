"""Response normalization, one response at a time (paper §3.3).

    b[i] = a[i] / d[i]^beta,    d[i] = k + alpha * sum over j in window(i) of a[j]^2

The paper's window holds the maps from i - n/2 to i + n/2 at the same place. The 2012 code divides alpha by n.
"""

import numpy as np


def _maps(shape, place, size, groups):
    # The maps in the window around one place; columns (groups) do not look at each other.
    *before, i = place
    width = shape[-1] // groups
    start = i - size // 2
    for j in range(start, start + size):
        if 0 <= j < shape[-1] and j // width == i // width:
            yield (*before, j)


def _pixels(shape, place, size):
    # The pixels of the same map in the square window around one place.
    i, row, column, channel = place
    for r in range(row - size // 2, row - size // 2 + size):
        for q in range(column - size // 2, column - size // 2 + size):
            if 0 <= r < shape[1] and 0 <= q < shape[2]:
                yield i, r, q, channel


def _norm(x, window, k, alpha, beta):
    y = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        y[place] = x[place] / _energy(x, window(place), k, alpha) ** beta
    return y


def _energy(x, window, k, alpha):
    d = k
    for other in window:
        d += alpha * x[other] ** 2
    return d


def _norm_backward(dy, x, window, k, alpha, beta):
    # y depends on its own x in the numerator, and on every x of its window through d:
    #     dy[place] / dx[other] = (place is other) / d^beta - 2 alpha beta x[place] x[other] / d^(beta + 1)
    dx = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        d = _energy(x, window(place), k, alpha)
        dx[place] += dy[place] / d**beta
        for other in window(place):
            dx[other] -= dy[place] * 2 * alpha * beta * x[place] * x[other] / d ** (beta + 1)
    return dx


def lrn(x, size=5, k=2.0, alpha=1e-4, beta=0.75, average=False, groups=1):
    """Normalize across maps.

    Parameters
    ----------
    x : ndarray, shape (..., c)
    size : int
        n of the paper.
    k, alpha, beta : float
    average : bool
        Divide alpha by n (2012).
    groups : int
        Columns side by side; windows end at a column's edge.

    Returns
    -------
    ndarray, shape of x
    """
    return _norm(x, lambda place: _maps(x.shape, place, size, groups), k, alpha / size if average else alpha, beta)


def lrn_backward(dy, x, size=5, k=2.0, alpha=1e-4, beta=0.75, average=False, groups=1):
    """Return dx."""
    scale = alpha / size if average else alpha
    return _norm_backward(dy, x, lambda place: _maps(x.shape, place, size, groups), k, scale, beta)


def spatial_norm(x, size=5, k=1.0, alpha=1e-3, beta=0.75):
    """Normalize each map of x (n, h, w, c) over size x size pixels, alpha divided by their number (2012)."""
    return _norm(x, lambda place: _pixels(x.shape, place, size), k, alpha / size**2, beta)


def spatial_norm_backward(dy, x, size=5, k=1.0, alpha=1e-3, beta=0.75):
    """Return dx."""
    return _norm_backward(dy, x, lambda place: _pixels(x.shape, place, size), k, alpha / size**2, beta)

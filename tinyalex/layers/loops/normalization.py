"""Response normalization, one response at a time (paper §3.3).

    b[i] = a[i] / d[i]^beta,    d[i] = k + alpha * sum over j in window(i) of a[j]^2

The paper's window holds the maps from i - n/2 to i + n/2 at the same pixel. The 2012 code divides alpha by n.
"""

from collections.abc import Callable, Iterator

import numpy as np

Index = tuple[int, ...]
Window = Callable[[Index], Iterator[Index]]  # the indices in the window around one


def _maps(shape: tuple[int, ...], index: Index, size: int, groups: int) -> Iterator[Index]:
    # The indices in the window around one map; a window stays inside its column (group).
    *before, i = index
    width = shape[-1] // groups
    start = i - size // 2
    for j in range(start, start + size):
        if 0 <= j < shape[-1] and j // width == i // width:
            yield (*before, j)


def _pixels(shape: tuple[int, ...], index: Index, size: int) -> Iterator[Index]:
    # The indices of the same map's pixels in the square window around one pixel.
    i, row, column, channel = index
    for r in range(row - size // 2, row - size // 2 + size):
        for q in range(column - size // 2, column - size // 2 + size):
            if 0 <= r < shape[1] and 0 <= q < shape[2]:
                yield i, r, q, channel


def _norm(x: np.ndarray, window: Window, k: float, alpha: float, beta: float) -> np.ndarray:
    y = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        y[index] = x[index] / _energy(x, window(index), k, alpha) ** beta
    return y


def _energy(x: np.ndarray, window: Iterator[Index], k: float, alpha: float) -> float:
    d = k
    for neighbour in window:
        d += alpha * x[neighbour] * x[neighbour]
    return d


def _norm_backward(dy: np.ndarray, x: np.ndarray, window: Window, k: float, alpha: float, beta: float) -> np.ndarray:
    # y depends on its own x in the numerator, and on every x of its window through d:
    #     d y[i] / d x[j] = (1 if i is j else 0) / d^beta - 2 alpha beta x[i] x[j] / d^(beta + 1)
    dx = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        d = _energy(x, window(index), k, alpha)
        dx[index] += dy[index] / d**beta
        for neighbour in window(index):
            dx[neighbour] -= dy[index] * 2 * alpha * beta * x[index] * x[neighbour] / d ** (beta + 1)
    return dx


def lrn(
    x: np.ndarray,
    size: int = 5,
    k: float = 2.0,
    alpha: float = 1e-4,
    beta: float = 0.75,
    average: bool = False,
    groups: int = 1,
) -> np.ndarray:
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
    return _norm(x, lambda index: _maps(x.shape, index, size, groups), k, alpha / size if average else alpha, beta)


def lrn_backward(
    dy: np.ndarray,
    x: np.ndarray,
    size: int = 5,
    k: float = 2.0,
    alpha: float = 1e-4,
    beta: float = 0.75,
    average: bool = False,
    groups: int = 1,
) -> np.ndarray:
    """Return dx."""
    scale = alpha / size if average else alpha
    return _norm_backward(dy, x, lambda index: _maps(x.shape, index, size, groups), k, scale, beta)


def spatial_norm(x: np.ndarray, size: int = 5, k: float = 1.0, alpha: float = 1e-3, beta: float = 0.75) -> np.ndarray:
    """Normalize each map of x (n, h, w, c) over size x size pixels, alpha divided by their number (2012)."""
    return _norm(x, lambda index: _pixels(x.shape, index, size), k, alpha / size**2, beta)


def spatial_norm_backward(
    dy: np.ndarray, x: np.ndarray, size: int = 5, k: float = 1.0, alpha: float = 1e-3, beta: float = 0.75
) -> np.ndarray:
    """Return dx."""
    return _norm_backward(dy, x, lambda index: _pixels(x.shape, index, size), k, alpha / size**2, beta)

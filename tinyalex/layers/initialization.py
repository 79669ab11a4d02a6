"""Initial values (paper §5): weights from a Gaussian around zero, biases from a constant."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from tinyalex import randomness

_ROWS = 512  # drawn at a time, so that they stay in cache


def first_value(parameter: Any, seed: int | None, dtype: DTypeLike) -> np.ndarray:
    """Draw a parameter's initial value, for each of its names, so that it is the same in every form of the net.

    Parameters
    ----------
    parameter : Parameter
    seed : int or None
        None leaves the weights 0, to be loaded from a file.
    dtype : str or dtype

    Returns
    -------
    ndarray, shape ``parameter.shape``
    """
    first = np.full(parameter.shape, parameter.init if parameter.kind == "b" else 0.0, dtype)
    if parameter.kind == "b" or seed is None:
        return first
    fan_in = np.prod(parameter.shape[:-1])
    deviation = (2.0 / fan_in) ** 0.5 if parameter.init == "he" else parameter.init
    for name, part in parameter.parts(first).items():
        key = randomness.key(seed, "init", name)
        rows, columns = part.reshape(-1, part.shape[-1]), np.arange(part.shape[-1])
        for low in range(0, len(rows), _ROWS):
            index = np.arange(low, min(low + _ROWS, len(rows)))
            rows[index] = deviation * randomness.normal(key, index[:, None], columns)
    return first

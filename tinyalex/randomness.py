"""The only source of random numbers: each is a function of its purpose (a counter-based generator).

There is no generator with a state. Every random number is a hash of a key (the seed, the purpose, the epoch or step)
and of counters (which sample, which unit), in 32-bit integer arithmetic. NumPy and CuPy therefore give the same bits,
the number of threads or columns does not change them, and a checkpoint needs no random state.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

_WORD = 0xFFFFFFFF
_GOLDEN = 0x9E3779B9  # 2^32 over the golden ratio: spreads small counters


@dataclass(frozen=True)
class Step:
    """The position of a forward pass in a training run; dropout draws its mask from it.

    Attributes
    ----------
    seed : int
        The run's seed.
    number : int
        Number of updates before this one.
    first : int
        Index in the batch of the first image of this pass.
    """

    seed: int
    number: int
    first: int = 0


def key(seed: int, *purpose: int | str | np.integer) -> int:
    """Hash a seed and a purpose into a 64-bit key.

    Parameters
    ----------
    seed : int
    *purpose : int or str
        What the bits are used for: ``key(seed, "crop", epoch)``.

    Returns
    -------
    int
        The same for the same arguments, on every machine and Python.
    """
    parts = (int(part) if isinstance(part, np.integer) else part for part in (int(seed), *purpose))
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def bits(key: int, *counters: ArrayLike, xp: Any = np) -> Any:
    """Draw 32 random bits for every combination of counters.

    Parameters
    ----------
    key : int
        From `key`.
    *counters : array of integers, broadcast together
        For example samples (n, 1) and units (1, m).
    xp : module
        ``numpy``, or a device's array module.

    Returns
    -------
    array of uint32, the counters' broadcast shape

    Examples
    --------
    >>> bits(key(0, "dropout", "fc6", 11), np.arange(2)[:, None], np.arange(3))  # two images, three units
    array([[3028808080, 2887632984,  193865599],
           [1309867800, 2037407851, 3708439955]], dtype=uint32)
    """
    low, high = key & _WORD, key >> 32 & _WORD
    state = low
    with np.errstate(over="ignore"):  # 32-bit products are meant to wrap, for single counters too
        for counter in counters:
            state = _mix((xp.asarray(counter).astype(xp.uint32) * _GOLDEN) ^ state)
            state = _mix(state + high)
    return state


def _mix(x: Any) -> Any:
    # Every input bit flips every output bit with a probability near one half ("lowbias32").
    x = (x ^ (x >> 16)) * 0x7FEB352D
    x = (x ^ (x >> 15)) * 0x846CA68B
    return x ^ (x >> 16)


def uniform(key: int, *counters: ArrayLike) -> np.ndarray:
    """Draw float64 numbers from the open interval (0, 1), on the host."""
    return (bits(key, *counters) + 0.5) * 2.0**-32


def below(key: int, limit: int, *counters: ArrayLike) -> np.ndarray:
    """Draw integers from 0 to ``limit - 1``, on the host, as int64."""
    return (bits(key, *counters).astype(np.uint64) * np.uint64(limit) >> np.uint64(32)).astype(np.int64)


def normal(key: int, *counters: ArrayLike) -> np.ndarray:
    """Draw float64 numbers from the standard normal distribution, on the host, by Box and Muller's transform.

    >>> normal(key(0, "init", "conv1/W"), np.arange(3)).round(4)
    array([0.3477, 0.8317, 1.0374])
    """
    radius = np.sqrt(-2.0 * np.log(uniform(key, *counters, 0)))
    return radius * np.cos(2.0 * np.pi * uniform(key, *counters, 1))


def permutation(key: int, size: int) -> np.ndarray:
    """Order the numbers 0 to ``size - 1`` by random keys, on the host, as int64."""
    return np.argsort(bits(key, np.arange(size)), kind="stable")

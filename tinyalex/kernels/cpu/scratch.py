"""Arrays that the fast forms use again and again, and views of them."""

import numpy as np
from numpy.lib.stride_tricks import as_strided

PITCH = 16  # numbers between rows of scratch: rows a multiple of 4096 bytes apart would share the same lines of a cache
PIECE = 1 << 15  # numbers that an operation of several calls computes at a time, to stay in cache


class Scratch:
    """One worker's arrays, shared by all layers and blocks that it computes.

    A piece of scratch is found by its purpose and its shape. What it contains is valid only until another form uses the
    same purpose and shape, except for zeros that nobody overwrites, such as the border of a padded array.

    Parameters
    ----------
    dtype : str or dtype
        float32; float64 in tests.

    Attributes
    ----------
    integers : dtype
        Integers of as many bits.
    batch : object
        What the worker knows of the block that it computes, for calls that depend on it.
    """

    def __init__(self, dtype="float32"):
        self.dtype = np.dtype(dtype)
        self.integers = np.dtype(f"i{self.dtype.itemsize}")
        self._arrays, self.batch = {}, None

    def get(self, purpose, shape, dtype=None):
        """Return the array of this purpose and shape, filled with zeros when it is made."""
        key = purpose, tuple(shape)
        if key not in self._arrays:
            self._arrays[key] = np.zeros(shape, dtype or self.dtype)
        return self._arrays[key]

    def pitched(self, purpose, shape):
        """Return such an array whose rows, along the last axis, lie `PITCH` numbers further apart than their length."""
        return self.get(purpose, (*shape[:-1], shape[-1] + PITCH))[..., : shape[-1]]

    def ones(self, shape):
        """Return an array of integers, all 1."""
        array = self.get("ones", shape, self.integers)
        array[...] = 1
        return array

    def bits(self, array):
        """View an array as integers."""
        return array.view(self.integers)


def strided(array, shape, strides):
    """Return a view of an array with this shape and these strides, in numbers."""
    return as_strided(array, shape, [array.itemsize * step for step in strides])


def steps(array):
    """Return the strides of an array in numbers."""
    return [step // array.itemsize for step in array.strides]


def split(array, images):
    """View an array (h, w, n c) as (h, w, n, c)."""
    (h, w, line), (rows, pixels, _) = array.shape, steps(array)
    return strided(array, (h, w, images, line // images), (rows, pixels, line // images, 1))


def maximum(a, b, out):
    """Compute np.maximum, which takes out by name only."""
    np.maximum(a, b, out=out)


def minimum(a, b, out):
    """Compute np.minimum, which takes out by name only."""
    np.minimum(a, b, out=out)

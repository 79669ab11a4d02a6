"""Memory for the arrays of a training step, allocated once and reused."""

import math
import weakref

import numpy as np


class Arena:
    """Host memory that is reused: an array gets a block, which returns here when nothing refers to the array any more.

    The first training step allocates the blocks, and later steps reuse them, already mapped. CuPy's memory pool does
    the same on a GPU. An array is never overwritten while something still refers to it.

    Attributes
    ----------
    allocated : int
        Bytes allocated so far.
    """

    _ALIGNMENT = 64

    def __init__(self):
        self.allocated = 0
        self._free = {}
        self._lent = {}

    def empty(self, shape, dtype):
        dtype, count = np.dtype(dtype), math.prod(shape)
        size = self._round(max(1, count * dtype.itemsize))
        try:
            block = self._free[size].pop()
        except (KeyError, IndexError):
            block = self._new(size)
        # Every view keeps `array` itself alive, because NumPy takes the object over a memoryview as the views' base.
        array = np.frombuffer(block, dtype, count)
        reference = weakref.ref(array, self._give_back)
        self._lent[id(reference)] = reference, block
        return array.reshape(shape)

    def _new(self, size):
        whole = np.empty(size + self._ALIGNMENT, np.uint8)
        self.allocated += whole.nbytes
        start = -whole.ctypes.data % self._ALIGNMENT
        self._free.setdefault(size, [])
        return memoryview(whole)[start : start + size]

    def _give_back(self, reference):
        _, block = self._lent.pop(id(reference))
        self._free[block.nbytes].append(block)

    @staticmethod
    def _round(size):
        # Round up to an eighth of the size's power of two, so that a shorter last batch reuses the blocks of full ones.
        unit = max(64, 1 << max(size.bit_length() - 4, 0))
        return -(-size // unit) * unit

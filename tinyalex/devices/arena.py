"""Memory for the arrays of a training step, taken from the system once."""

import math
import weakref

import numpy as np


class Arena:
    """Host memory that goes round: a block is lent to an array and comes back when nothing views it any more.

    The first training step takes the blocks from the system, every later step finds them here, already mapped. CuPy's
    memory pool does the same on a card. No array can be overwritten while somebody still holds it.

    Attributes
    ----------
    allocated : int
        Bytes taken from the system so far.
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
        # Every view of `array` keeps `array` alive, since NumPy does not look behind a memoryview for an owner.
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
        # To an eighth of its power of two: a shorter last batch finds the blocks of the full ones.
        unit = max(64, 1 << max(size.bit_length() - 4, 0))
        return -(-size // unit) * unit

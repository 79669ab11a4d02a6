"""Memory for the arrays of a training step, taken from the system once."""

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
        dtype = np.dtype(dtype)
        count = int(np.prod(shape, dtype=np.int64))
        size = self._round(count * dtype.itemsize)
        try:
            block = self._free.setdefault(size, []).pop()
        except IndexError:
            block = np.empty(size + self._ALIGNMENT, np.uint8)
            self.allocated += block.nbytes
        start = -block.ctypes.data % self._ALIGNMENT
        # Every view of `array` keeps `array` alive, since NumPy does not look behind a memoryview for an owner.
        array = np.frombuffer(memoryview(block)[start : start + max(size, 1)], dtype, count) if count else block[:0]
        reference = weakref.ref(array, lambda ref: self._give_back(ref, size))
        self._lent[id(reference)] = reference, block
        return array.view(dtype).reshape(shape)

    def _give_back(self, reference, size):
        _, block = self._lent.pop(id(reference))
        self._free[size].append(block)

    @staticmethod
    def _round(size):
        # To an eighth of its power of two: a shorter last batch finds the blocks of the full ones.
        unit = max(64, 1 << max(size.bit_length() - 4, 0))
        return -(-size // unit) * unit

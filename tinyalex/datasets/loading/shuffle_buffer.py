"""Read a pass shard after shard, and keep the images whose batch has not come yet: for disks that are slow at seeking.

In what order the images come out is decided by `tinyalex.datasets.loading.sampling`, from the seed and the epoch alone.
"""

import os
import threading

import numpy as np

PIECE = 4 << 20  # bytes of pixels that are read by one call
_MOST = 512  # images that are read by one call; the system allows 1,024 buffers


class ShuffleBuffer:
    """Reads the images of a pass in the order of the shards; several threads may take batches.

    Each image is read once. A batch is returned when the last of its images has been read; those of later batches that
    were read before are kept, as pixels or as JPEG files, whatever the set holds.

    Parameters
    ----------
    images : ShardSet or Subset
    stream : int64 (n,)
        All images, in the order in which they are read.
    batch : function of int
        Returns the numbers of the images of a batch.
    first, end : int
        Numbers of the first batch, and of the one after the last.
    """

    def __init__(self, images, stream, batch, first, end):
        self._images, self._batch, self._first, self._end = images, batch, first, end
        self._position = np.empty(len(stream), np.int64)  # of each image in the stream
        self._position[stream] = np.arange(len(stream))
        self._size = max(1, min(_MOST, PIECE // (3 * images.size**2)))
        self._states = {}  # one for each process: a forked one reads on its own

    def take(self, number, indices):
        """Return the images of a batch as they are stored.

        Parameters
        ----------
        number : int
            That of the batch.
        indices : int64 (n,)
            Its images.

        Returns
        -------
        list
            To be passed to the images' ``unpack``.
        """
        first = number if self._states and os.getpid() not in self._states else self._first
        state = self._states.setdefault(os.getpid(), _State())
        with state.lock:
            if state.pieces is None:
                state.pieces = self._pieces(first)
            last = self._position[indices].max(initial=-1)
            while state.position < last:
                piece = next(state.pieces)
                state.kept.update(zip(piece, self._images.fetch(piece[0], len(piece)), strict=True))
                state.position = self._position[piece[-1]]
            return [self._one(state, index) for index in indices.tolist()]

    def _one(self, state, index):
        # In a forked process a thread may have begun with a later batch, and so behind an image of this one.
        return state.kept.pop(index) if index in state.kept else self._images.fetch(index, 1)[0]

    def _pieces(self, first):
        # Yield lists of consecutive images of one shard, all that the batches from ``first`` on need.
        indices = [self._batch(number) for number in range(first, self._end)]
        indices = np.concatenate(indices) if indices else np.empty(0, np.int64)
        indices = indices[np.argsort(self._position[indices])]
        shards = np.searchsorted(self._images.starts, indices, side="right")
        apart = np.flatnonzero((np.diff(indices) != 1) | (np.diff(shards) != 0)) + 1
        for run in np.split(indices, apart):
            for start in range(0, len(run), self._size):
                yield run[start : start + self._size].tolist()


class _State:
    def __init__(self):
        self.lock, self.pieces, self.position, self.kept = threading.Lock(), None, -1, {}

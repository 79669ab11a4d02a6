"""The images of one split of a prepared set, read from its shards when somebody asks for them."""

import contextlib
import resource
import time

import numpy as np

from tinyalex import randomness
from tinyalex.datasets.shards.shards import Shard
from tinyalex.errors import DataError

_SPOTS = 16  # images looked at when a set is opened
_FILES = 10_240  # open at once, where the system allows it; ImageNet has 2,600 shards of 512
_JOINED = 32  # neighbours read by one call


class ShardSet:
    """Stands for an `ImageSet`, but holds labels only; several threads may read at once.

    Parameters
    ----------
    folder : str or Path
    manifest : dict
        From `tinyalex.datasets.shards.manifest.read`: what every shard has to be.
    split : "train" or "test"

    Attributes
    ----------
    size : int
        Side S of an image, in pixels.
    labels : int64 (n,)

    Raises
    ------
    DataError
        If a shard is missing or is not the one that was prepared, or if one of a few images looked at is damaged.
    """

    def __init__(self, folder, manifest, split):
        allow_many_files()
        count = len(manifest["splits"][split]["shards"])
        self.size, self._shards = manifest["size"], [Shard(folder, manifest, split, k) for k in range(count)]
        self._starts = np.cumsum([0, *map(len, self._shards)])
        self.labels = np.concatenate([np.empty(0, np.int64), *(shard.labels for shard in self._shards)])
        if len(self):
            self._check_spots()

    def __len__(self):
        return int(self._starts[-1])

    def read(self, indices, out=None):
        """Give the images with these numbers, read in the order in which they lie on the disk.

        Parameters
        ----------
        indices : integers (n,)
        out : uint8 (n, S, S, 3), optional
            Where to put them.

        Returns
        -------
        uint8 (n, S, S, 3)
            ``out``, or a fresh array.

        Raises
        ------
        DataError
            If a shard cannot be read, tried for some seconds.
        """
        indices = np.asarray(indices, np.int64)
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(self):
            raise IndexError(f"images {indices.min()} to {indices.max()} of a set of {len(self)}")
        if out is None:
            out = np.empty((len(indices), self.size, self.size, 3), np.uint8)
        order = np.argsort(indices, kind="stable")
        shards, places = self._places(indices[order])
        apart = np.flatnonzero((np.diff(places) != 1) | (np.diff(shards) != 0)) + 1
        for start, end in zip([0, *apart], [*apart, len(order)], strict=True):
            for lo in range(start, end, _JOINED):
                rows = [out[row] for row in order[lo : min(lo + _JOINED, end)]]
                self._shards[shards[lo]].read(int(places[lo]), rows)
        return out

    def _places(self, indices):
        # In which shard images are, and where in it.
        shards = np.searchsorted(self._starts, indices, side="right") - 1
        return shards, indices - self._starts[shards]

    def _check_spots(self):
        # Other images each time, so that what is damaged is met one day; nothing that is computed depends on them.
        spots = randomness.below(randomness.key(time.time_ns(), "spot check"), len(self), np.arange(_SPOTS))
        for shard, place, image in zip(*self._places(spots), self.read(spots), strict=True):
            if line := self._shards[shard].damaged(int(place), image):
                raise DataError(line)


def allow_many_files():
    """Let this process hold as many files open as the system allows it, or ten thousand."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

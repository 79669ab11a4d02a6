"""The images of one split of a prepared set, read from its shards on demand."""

import contextlib
import resource
import time

import numpy as np

from tinyalex import randomness
from tinyalex.datasets.shards.shards import Shard
from tinyalex.errors import DataError

_SPOT_CHECKS = 16  # images whose hashes are compared when a set is opened
_FILES = 10_240  # files open at a time, if the system allows it; ImageNet has 2,600 shards of 512
_JOINED = 32  # most consecutive images read by one call


class ShardSet:
    """Has the methods of an `ImageSet`, but keeps only labels in memory; several threads may read at a time.

    Parameters
    ----------
    folder : str or Path
    manifest : dict
        From `tinyalex.datasets.shards.manifest.read`: what every shard has to match.
    split : "train" or "test"

    Attributes
    ----------
    size : int
        Side S of an image, in pixels.
    labels : int64 (n,)
    starts : int64 (shards + 1,)
        The number of the first image of each shard, and the number of all images.
    is_jpeg : bool
        Whether the images are decoded each time they are read.

    Raises
    ------
    DataError
        If a shard is missing or is not the one that was prepared, if a label is not a class, or if one of a few images
        that are checked is damaged.
    """

    def __init__(self, folder, manifest, split):
        allow_many_files()
        self._made_from = folder, manifest, split
        count = len(manifest["splits"][split]["shards"])
        self.is_jpeg = "jpeg" in manifest
        self.size, self._shards = manifest["size"], [Shard(folder, manifest, split, k) for k in range(count)]
        self.starts = np.cumsum([0, *map(len, self._shards)])
        self.labels = np.concatenate([np.empty(0, np.int64), *(shard.labels for shard in self._shards)])
        if len(self):
            self._spot_check()

    def __reduce__(self):
        return ShardSet, self._made_from  # a copy, for example in another process, opens the files itself

    def __len__(self):
        return int(self.starts[-1])

    @property
    def hashes(self):
        """`shards.record_hash` of each image, as a little-endian number, uint64 (n,)."""
        return np.concatenate([np.empty(0, np.uint64), *(shard.hashes for shard in self._shards)])

    def read(self, indices, out=None):
        """Return the images at ``indices``, read in the order in which they are stored.

        Parameters
        ----------
        indices : integers (n,)
        out : uint8 (n, S, S, 3), optional
            Array for the images.

        Returns
        -------
        uint8 (n, S, S, 3)
            ``out``, or a new array.

        Raises
        ------
        DataError
            If a shard cannot be read after several tries over some seconds, or a JPEG file is damaged.
        """
        indices = np.asarray(indices, np.int64)
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(self):
            raise IndexError(f"images {indices.min()} to {indices.max()} of a set of {len(self)}")
        if out is None:
            out = np.empty((len(indices), self.size, self.size, 3), np.uint8)
        order = np.argsort(indices, kind="stable")
        shards, rows = self._shards_and_rows(indices[order])
        apart = np.flatnonzero((np.diff(rows) != 1) | (np.diff(shards) != 0)) + 1
        for start, end in zip([0, *apart], [*apart, len(order)], strict=True):
            for lo in range(start, end, _JOINED):
                targets = [out[i] for i in order[lo : min(lo + _JOINED, end)]]
                self._shards[shards[lo]].read(int(rows[lo]), targets)
        return out

    def fetch(self, first, count):
        """Read consecutive images of one shard as they are stored: a list of pixels, or of JPEG files.

        Parameters
        ----------
        first : int
            Number of the first image within the set.
        count : int

        Returns
        -------
        list of uint8 (S, S, 3), or of bytes
            Each to be passed to `unpack`.
        """
        (shard,), (row,) = self._shards_and_rows(np.array([first]))
        return self._shards[shard].fetch(int(row), count)

    def unpack(self, indices, contents, out):
        """Write the pixels of images, as fetched, to arrays; DataError if a JPEG file is damaged."""
        shards, rows = self._shards_and_rows(np.asarray(indices))
        for shard, row, content, each in zip(shards.tolist(), rows.tolist(), contents, out, strict=True):
            self._shards[shard].unpack(row, content, each)

    def drop_cached(self, first, count):
        """Drop consecutive images of one shard from the system's page cache."""
        (shard,), (row,) = self._shards_and_rows(np.array([first]))
        self._shards[shard].drop_cached(int(row), count)

    def _shards_and_rows(self, indices):
        # The shard of each image, and its position in that shard.
        shards = np.searchsorted(self.starts, indices, side="right") - 1
        return shards, indices - self.starts[shards]

    def _spot_check(self):
        # Different images each time, so that damage is found sooner or later; no result depends on the choice.
        chosen = randomness.below(randomness.key(time.time_ns(), "spot check"), len(self), np.arange(_SPOT_CHECKS))
        for shard, row, image in zip(*self._shards_and_rows(chosen), self.read(chosen), strict=True):
            line = self._shards[shard].damaged(int(row), image)
            if line and not self._shards[shard].foreign_decoder:
                raise DataError(line)


def allow_many_files():
    """Raise this process's limit of open files to ten thousand, or to what the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

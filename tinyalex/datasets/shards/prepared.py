"""Open prepared sets: folders of shards with a manifest, made by `tinyalex prepare`."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tinyalex.datasets.dataset import Dataset, ImageSet
from tinyalex.datasets.shards import jpeg, manifest, test_list
from tinyalex.datasets.shards.shard_set import ShardSet
from tinyalex.datasets.shards.shards import SPLITS
from tinyalex.datasets.statistics import principal_colours
from tinyalex.errors import DataError

WORK = "work"  # a folder in the set's folder, removed when the set is complete


@dataclass(frozen=True, eq=False)
class PreparedSet(Dataset):
    """A data set whose images stay on disk, with the mean and colours that were computed when it was made.

    Attributes
    ----------
    manifest : dict
    mean_image : float32 (S, S, 3)
    """

    manifest: dict = field(repr=False)
    mean_image: np.ndarray = field(repr=False)

    @property
    def identity(self):
        return self.manifest["identity"]

    @property
    def words(self):
        return self.manifest["words"]

    @property
    def mean(self):
        return self.mean_image

    @property
    def colour(self):
        sums = self.manifest["statistics"]
        return principal_colours(sums["pixels"], sums["sum"], sums["products"])

    @property
    def decoder(self):
        return f"libjpeg {jpeg.library()}" if "jpeg" in self.manifest else ""

    def test_list(self):
        if found := test_list.read(Path(self.name), self.manifest):
            return found
        raise DataError(
            f"{self.name}: has no names of its test images, as it is of an earlier version; run the same tinyalex "
            "prepare again, which adds them"
        )


def is_prepared(folder):
    """Return whether a folder is a prepared set, finished or not."""
    unfinished = (folder / WORK).is_dir() and not (folder / "train").is_dir()
    return (folder / manifest.NAME).exists() or unfinished or next(folder.glob("*.shard"), None) is not None


def load(folder):
    """Open a prepared set.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    PreparedSet

    Raises
    ------
    DataError
        If the set is not complete, a file of it is missing, damaged or of another set, or a label is not a class.
    """
    found = manifest_of(folder)
    train, test = (ShardSet(folder, found, split) for split in SPLITS)
    unlabelled = None
    if manifest.is_unlabelled(found):
        size = found["size"]
        test, unlabelled = ImageSet(np.empty((0, size, size, 3), np.uint8), np.empty(0, np.int64)), test
    mean = manifest.read_mean(folder, found)
    return PreparedSet(str(folder), found["classes"], train, test, found, mean, unlabelled=unlabelled)


def manifest_of(folder):
    """Read a prepared set's manifest; DataError if there is none, or if it is damaged."""
    if (folder / manifest.NAME).exists():
        return manifest.read(folder)
    if is_prepared(folder):
        raise DataError(f"{folder}: this set is not complete; run the same tinyalex prepare again")
    raise DataError(f"{folder}: not a prepared set; give a folder made by tinyalex prepare")

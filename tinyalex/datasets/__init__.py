"""Data sets: drawn shapes, CIFAR-10 and CIFAR-100, class folders and prepared sets; `load` opens any of them."""

from collections.abc import Callable
from pathlib import Path

from tinyalex.datasets.dataset import Dataset, Images, ImageSet
from tinyalex.errors import UsageError

__all__ = ["Dataset", "ImageSet", "Images", "load"]


def load(where: str | Path, seed: int = 0, test_share: float = 0.0, show: Callable[[str], object] = print) -> Dataset:
    """Load a data set.

    Parameters
    ----------
    where : str or Path
        "shapes": images drawn by tinyalex. "cifar10": CIFAR-10 from the folder ``data``, downloaded if it is not there.
        A path: a prepared set; or a folder, a tar or a zip with CIFAR-10 or CIFAR-100, binary or Python, or with images
        in any layout that `tinyalex prepare` knows, such as ``{train,test}/<class>/*.jpg``.
    seed : int
        Seed of the drawn images.
    test_share : float
        Of images in class folders without test images: the share of every class that becomes the test images.
    show : function of str
        Called with lines of text, for example about files that are skipped.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        If there is nothing at the path, or what is there cannot be used.
    UsageError
        If there are test images and ``test_share`` is not 0.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from tinyalex import datasets
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("train/black", "train/white", "test/black", "test/white"):
    ...         path = Path(folder, name)
    ...         path.mkdir(parents=True)
    ...         Image.new("RGB", (32, 32), path.name).save(path / "1.png")
    ...     dataset = datasets.load(folder)
    duplicates: 2 images, 2 of them in both training and test
    >>> dataset.classes, dataset.train.labels, dataset.train.size
    (['black', 'white'], array([0, 1]), 32)
    """
    from tinyalex.datasets import download, folders, shapes
    from tinyalex.datasets.shards import prepared

    path = download.cifar10() if where == "cifar10" else Path(where)
    made = where == "shapes" or prepared.is_prepared(path)
    if made and test_share:
        raise UsageError(
            f"--test-share {test_share:g}: {where} is a finished set; leave the option out, or prepare the images "
            f"again with `tinyalex prepare --test-share {test_share:g}`"
        )
    if made:
        return shapes.load(seed) if where == "shapes" else prepared.load(path)
    return folders.load(path, test_share, show)

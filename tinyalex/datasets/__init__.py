"""Data sets: drawn shapes, CIFAR-10 and CIFAR-100, class folders and prepared sets; `load` opens any of them."""

from pathlib import Path

from tinyalex.datasets.dataset import Dataset, Images, ImageSet
from tinyalex.errors import DataError

__all__ = ["Dataset", "ImageSet", "Images", "load"]


def load(where: str | Path, seed: int = 0) -> Dataset:
    """Load a data set.

    Parameters
    ----------
    where : str or Path
        "shapes": images drawn by tinyalex. "cifar10": CIFAR-10 from the folder ``data``, downloaded if it is not there.
        A path: a prepared set; or, as a folder or a tar, CIFAR-10 or CIFAR-100, binary or Python, or images as
        ``{train,test}/<class>/*.jpg|png``.
    seed : int
        Seed of the drawn images.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        If there is nothing at the path, or what is there cannot be used.

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
    >>> dataset.classes, dataset.train.labels, dataset.train.size
    (['black', 'white'], array([0, 1]), 32)
    """
    from tinyalex.datasets import cifar, download, files, folders, shapes
    from tinyalex.datasets.shards import prepared

    if where == "shapes":
        return shapes.load(seed)
    path = download.cifar10() if where == "cifar10" else Path(where)
    if prepared.is_prepared(path):
        return prepared.load(path)
    batches, images, size = {}, {}, None
    files_by_key: dict[tuple, str] = {}
    for parts, content in files.read_files(path, lambda parts: cifar.is_part(parts) or folders.image_key(parts)):
        if cifar.is_part(parts):
            batches[parts[-1]] = content
        else:
            key, file = folders.image_key(parts), "/".join(parts)
            if files_by_key.setdefault(key, file) != file:
                raise DataError(f"{path}: {files_by_key[key]} and {file} have the same split, class and name; keep one")
            images[key] = image = folders.decode(content, f"{path}: {file}", size)
            size = len(image)
    if cifar.is_set(batches):
        return cifar.assemble(str(path), batches)
    if images:
        return folders.assemble(str(path), images)
    raise DataError(
        f"{path}: no images found; expected {{train,test}}/<class>/*.jpg or png, or CIFAR-10's or CIFAR-100's own files"
    )

"""Images to learn from: drawn, read from files, cut, varied and put into batches."""

from pathlib import Path

from tinyalex.datasets.dataset import Dataset, ImageSet
from tinyalex.errors import DataError

__all__ = ["Dataset", "ImageSet", "load"]


def load(where, seed=0):
    """Load a data set.

    Parameters
    ----------
    where : str or Path
        "shapes": drawn on the spot. "cifar10": from the folder ``data``, downloaded to there if it is absent.
        A path: a prepared set; CIFAR-10 in its binary or python form, or ``{train,test}/<class>/*.jpg|png``, as a
        folder or a tar.
    seed : int
        Of the drawn data set.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        If there is no such thing, or what is there cannot be used.
    """
    from tinyalex.datasets import cifar, download, files, folders, shapes
    from tinyalex.datasets.shards import prepared

    if where == "shapes":
        return shapes.load(seed)
    path = download.cifar10() if where == "cifar10" else Path(where)
    if prepared.is_prepared(path):
        return prepared.load(path)
    batches, images, homes, size = {}, {}, {}, None
    for parts, content in files.read_files(path, lambda parts: cifar.is_part(parts) or folders.place(parts)):
        if cifar.is_part(parts):
            batches[parts[-1]] = content
        else:
            place, file = folders.place(parts), "/".join(parts)
            if homes.setdefault(place, file) != file:
                raise DataError(f"{path}: {homes[place]} and {file} would be one image; give one of the two folders")
            images[place] = image = folders.decode(content, f"{path}: {file}", size)
            size = len(image)
    if batches:
        return cifar.assemble(str(path), batches)
    if images:
        return folders.assemble(str(path), images)
    raise DataError(
        f"{path}: no images found; wanted {{train,test}}/<class>/*.jpg or png, or CIFAR-10's data_batch files"
    )

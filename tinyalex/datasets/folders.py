"""Images in class folders: ``{train,test}/<class>/*.jpg``, at the root or one folder down."""

import numpy as np

from tinyalex.datasets import names, picture
from tinyalex.datasets.dataset import Dataset, ImageSet
from tinyalex.errors import DataError

_LARGEST = 512  # pixels a side, because all images are kept in memory


def image_key(parts):
    """Return (split, class, file name) of an image, or None for any other file."""
    fits = len(parts) in (3, 4) and parts[-3] in ("train", "test") and not parts[-1].startswith(".")
    if not fits or not picture.is_image(parts[-1]):
        return None
    split, folder, name = parts[-3:]
    return split, names.class_name(folder), names.readable(name)


def decode(content, file, size=None):
    """Decode an image file, as `tinyalex.datasets.picture` does.

    Parameters
    ----------
    content : bytes
    file : str
        Its name, for messages.
    size : int, optional
        Side that the image must have.

    Returns
    -------
    uint8 (S, S, 3)

    Raises
    ------
    DataError
        If it is not an image, or has another size.
    """
    try:
        image, _ = picture.decode(content)
    except DataError as reason:
        raise DataError(f"{file}: {reason}; repair, convert or remove it") from reason
    w, h = image.size
    if w == h == (size or w) and w <= _LARGEST:
        return np.array(image.convert("RGB"))
    wanted = f"{size} x {size} like the others" if size else f"square and at most {_LARGEST} a side"
    raise DataError(f"{file}: {w} x {h} pixels, but it has to be {wanted}; resize it")


def assemble(name, images):
    """Make the data set from decoded images.

    Parameters
    ----------
    name : str
        Where the images are from, for messages.
    images : dict of (split, class, file) to uint8 (S, S, 3)

    Returns
    -------
    Dataset
        Classes are in the order of their names, and so are the images of a class.

    Raises
    ------
    DataError
        If there are fewer than two classes, or one without training or test images.
    """
    classes = {split: sorted({key[1] for key in images if key[0] == split}) for split in ("train", "test")}
    for split, other in (("train", "test"), ("test", "train")):
        missing = sorted(set(classes[other]) - set(classes[split]))
        if missing:
            raise DataError(
                f"{name}: {split}/{missing[0]} has no images, {other}/{missing[0]} has; both need the same classes"
            )
    if len(classes["train"]) < 2:
        raise DataError(f"{name}: only one class, {classes['train'][0]!r}; give images of at least two")
    labels = {name: label for label, name in enumerate(classes["train"])}
    sets = []
    for split in ("train", "test"):
        keys = sorted(key for key in images if key[0] == split)
        sets.append(ImageSet(np.stack([images[key] for key in keys]), np.array([labels[key[1]] for key in keys])))
    return Dataset(name, classes["train"], *sets)

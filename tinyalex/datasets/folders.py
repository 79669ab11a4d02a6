"""Images in class folders: ``{train,test}/<class>/*.jpg``, at the root or one folder down."""

import numpy as np

from tinyalex.datasets.dataset import Dataset, ImageSet
from tinyalex.errors import DataError

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".ppm")
_LARGEST = 512  # pixels a side: all images are held in memory


def place(parts):
    """Tell where an image belongs: (split, class, file), or None for any other file."""
    split, *_ = where = parts[-3:]
    fits = len(parts) in (3, 4) and split in ("train", "test") and not parts[-1].startswith(".")
    return where if fits and parts[-1].lower().endswith(ENDINGS) else None


def decode(content, file, size=None):
    """Decode an image file, as `tinyalex.datasets.picture` does.

    Parameters
    ----------
    content : bytes
    file : str
        Its name, for messages.
    size : int, optional
        Side that it must have.

    Returns
    -------
    uint8 (S, S, 3)

    Raises
    ------
    DataError
        If it is no image, or of another size.
    """
    from tinyalex.datasets import picture

    try:
        image, _ = picture.decode(content)
    except DataError as reason:
        raise DataError(f"{file}: {reason}; repair or remove it") from reason
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
        Where they are from, for messages.
    images : dict of (split, class, file) to uint8 (S, S, 3)

    Returns
    -------
    Dataset
        Classes, and images within them, in the order of their names.

    Raises
    ------
    DataError
        If there are fewer than two classes, or one without training or test images.
    """
    classes = {split: sorted({at[1] for at in images if at[0] == split}) for split in ("train", "test")}
    for split, other in (("train", "test"), ("test", "train")):
        missing = sorted(set(classes[other]) - set(classes[split]))
        if missing:
            raise DataError(
                f"{name}: {split}/{missing[0]} has no images, {other}/{missing[0]} has; both need the same classes"
            )
    if len(classes["train"]) < 2:
        raise DataError(f"{name}: one class only, {classes['train'][0]!r}; there is nothing to tell apart")
    numbers = {each: number for number, each in enumerate(classes["train"])}
    sets = []
    for split in ("train", "test"):
        places = sorted(at for at in images if at[0] == split)
        sets.append(ImageSet(np.stack([images[at] for at in places]), np.array([numbers[at[1]] for at in places])))
    return Dataset(name, classes["train"], *sets)

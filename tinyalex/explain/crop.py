"""The part of a picture that the net reads, as `tinyalex.datasets.loading.loader.prepare_image` cuts it out."""

import numpy as np

from tinyalex.datasets.loading.augment import centre
from tinyalex.explain.receptive_field import Field


def crop_of(image: np.ndarray, size: int, side: int) -> tuple[np.ndarray, Field]:
    """Cut out of a picture what the net reads of it, before the mean is subtracted.

    Parameters
    ----------
    image : uint8 array, shape (h, w, 3)
        Of any size.
    size : int
        S of the data set: the picture's shorter side is resized to it.
    side : int
        Of the net's input, in the middle of S x S.

    Returns
    -------
    crop : uint8 array, shape (side, side, 3)
    frame : Field
        The rectangle of ``image`` that the crop shows, in whole pixels.

    Examples
    --------
    >>> crop, frame = crop_of(np.zeros((100, 200, 3), "uint8"), size=50, side=40)
    >>> crop.shape, frame
    ((40, 40, 3), Field(top=10, left=60, bottom=90, right=140))
    """
    from PIL import Image

    from tinyalex.datasets.picture import square

    offset, (h, w, _) = centre(size, side), image.shape
    crop = square(Image.fromarray(image), size)[offset : offset + side, offset : offset + side]
    scale, (top, left) = min(h, w) / size, ((each - min(h, w)) / 2 for each in (h, w))
    first, end = offset * scale, (offset + side) * scale
    return crop, Field(round(top + first), round(left + first), round(top + end), round(left + end))

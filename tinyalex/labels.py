"""What labels have to be: one whole number from 0 to classes - 1 for each image.

Every place that takes labels from outside checks them here: a data set, a batch, the loss, the scores.
"""

from typing import Any

import numpy as np

from tinyalex.errors import DataError


def check(labels: Any, count: int, classes: int | None = None, name: str = "labels") -> None:
    """Raise a DataError unless the labels fit the images and the classes.

    On a GPU a label out of range would be read as no class at all, or as another one, without an error; a single label
    for several images would count for each of them.

    Parameters
    ----------
    labels : ndarray of int, shape (count,)
        On the host. For no images, empty labels of any type.
    count : int
        Number of images.
    classes : int, optional
        If not given, any label from 0 on is valid.
    name : str
        What the message begins with.

    Examples
    --------
    >>> check(np.array([0, 2]), count=2, classes=3)
    >>> check(np.array([0, 3]), count=2, classes=3)
    Traceback (most recent call last):
    tinyalex.errors.DataError: labels: image 1 has label 3; labels have to be whole numbers from 0 to 2, one an image
    """
    wanted = f"labels have to be whole numbers from 0 {'on' if classes is None else f'to {classes - 1}'}, one an image"
    if not isinstance(labels, np.ndarray):
        raise DataError(f"{name}: a {type(labels).__name__} instead of an array; {wanted}: use numpy.array(labels)")
    if labels.shape != (count,):
        seen = f"{len(labels):,} labels" if labels.ndim == 1 else f"labels of shape {labels.shape}"
        raise DataError(f"{name}: {seen} for {count:,} images; {wanted}")
    if count and not np.issubdtype(labels.dtype, np.integer):  # bool is no integer here
        raise DataError(f"{name}: labels of type {labels.dtype}; {wanted}")
    outside = labels < 0 if classes is None else (labels < 0) | (labels >= classes)
    for i in np.flatnonzero(outside)[:1]:
        raise DataError(f"{name}: image {i} has label {labels[i]}; {wanted}")

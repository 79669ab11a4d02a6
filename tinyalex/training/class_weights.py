"""How much the images of each class count in the loss, where a recipe does not let all count the same.

For ``learning.class_weights = "balanced"`` a class with n of the N training images gets N / (K n), where K classes have
images: each class then has the same sum of weights, and the mean weight of an image is 1 (scikit-learn's "balanced").
"""

from collections.abc import Mapping, Sequence

import numpy as np

from tinyalex.errors import UsageError
from tinyalex.recipes.ranges import unknown


def class_weights(setting: str | Mapping[str, float], classes: Sequence[str], labels: np.ndarray) -> np.ndarray | None:
    """Return the weight of each class, float64 (classes,), or None if all images count the same.

    Parameters
    ----------
    setting : "none", "balanced" or dict
        ``learning.class_weights`` of the recipe. Classes that a dict does not name have the weight 1.
    classes : sequence of str
    labels : ndarray of int, shape (n,)
        Of the training images. A class without any has the weight 0 if the setting is "balanced".

    Raises
    ------
    UsageError
        If a dict names a class that the data do not have, or gives 0 to all.

    Examples
    --------
    >>> class_weights("balanced", ["cat", "dog"], np.array([0, 0, 0, 1])).round(4)
    array([0.6667, 2.    ])
    >>> class_weights({"dog": 3}, ["cat", "dog"], np.array([0, 1]))
    array([1., 3.])
    """
    if setting == "none":
        return None
    if isinstance(setting, str):
        counts = np.bincount(labels, minlength=len(classes))
        present = counts > 0
        return np.where(present, len(labels) / (present.sum() * np.maximum(counts, 1)), 0.0)
    for name in setting:
        if name not in classes:
            raise unknown(name, classes, "class of the data, for learning.class_weights")
    weights = np.array([setting.get(name, 1.0) for name in classes], np.float64)
    if not weights.any():
        raise UsageError("learning.class_weights: 0 for all classes; give one of them more")
    return weights

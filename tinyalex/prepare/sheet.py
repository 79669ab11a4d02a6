"""A contact sheet of a prepared set, to look at before a long training."""

import numpy as np

NAME = "contact_sheet.png"
_IMAGES = 80  # on the sheet


def draw(folder, dataset):
    """Draw images of as many classes as fit, with the class names, unless the file exists.

    Training images if there are any; nothing of test images without labels. The first ones of each class, which are
    random, because the set is shuffled.

    Parameters
    ----------
    folder : Path
    dataset : PreparedSet

    Returns
    -------
    str or None
        Why it cannot be drawn.
    """
    from tinyalex import figures

    def mosaic():
        images = dataset.train if len(dataset.train) else dataset.test
        chosen = choose(images.labels, _IMAGES)
        return figures.mosaic(images.read(chosen), images.labels[chosen], dataset.words)

    if (folder / NAME).exists() or not len(dataset.train) + len(dataset.test):
        return None
    return figures.attempt(mosaic, folder / NAME)


def choose(labels, most):
    """Choose equally many images of each class; of evenly spaced classes if there are too many.

    Parameters
    ----------
    labels : integers (n,)
    most : int
        The largest number of images in total.

    Returns
    -------
    int64 (m,), m <= most
        The images' numbers, sorted by class.
    """
    classes, counts = np.unique(labels, return_counts=True)
    shown = min(most // 2, len(classes))  # two images are wide enough for a class name
    if (counts > 1).sum() >= shown:
        classes = classes[counts > 1]
    else:
        shown = min(most, len(classes))
    classes = classes[np.linspace(0, len(classes) - 1, shown).astype(int)]
    per_class = min(most // shown, 10)
    return np.concatenate([np.flatnonzero(labels == label)[:per_class] for label in classes])

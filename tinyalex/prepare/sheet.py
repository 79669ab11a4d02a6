"""A contact sheet of a prepared set: what a person should look at before training for a week."""

import numpy as np

NAME = "contact_sheet.png"
_IMAGES = 80


def draw(folder, dataset):
    """Draw some images of as many classes as fit, with their names, unless that was done before.

    Training images if there are any. The first ones of each class, which are any: the set's order is shuffled.

    Parameters
    ----------
    folder : Path
    dataset : PreparedSet
    """
    from tinyalex.figures import contact_sheet, page

    if (folder / NAME).exists():
        return
    images = dataset.train if len(dataset.train) else dataset.test
    chosen = choose(images.labels, _IMAGES)
    figure = contact_sheet.mosaic(images.read(chosen), images.labels[chosen], dataset.words)
    page.save(figure, folder / NAME)


def choose(labels, most):
    """Choose images of all classes, or of evenly spaced ones if there are too many; about as many of each.

    Parameters
    ----------
    labels : integers (n,)
    most : int
        Images in all.

    Returns
    -------
    int64 (m,), m <= most
        Their numbers, sorted by class.
    """
    classes, counts = np.unique(labels, return_counts=True)
    shown = min(most // 2, len(classes))  # a name has room over two images
    if (counts > 1).sum() >= shown:
        classes = classes[counts > 1]
    else:
        shown = min(most, len(classes))
    classes = classes[np.linspace(0, len(classes) - 1, shown).astype(int)]
    each = min(most // shown, 10)
    return np.concatenate([np.flatnonzero(labels == label)[:each] for label in classes])

"""Sample images of a data set with the names of their classes, on one sheet."""

import numpy as np

from tinyalex.figures.page import draw_image, page, short_name, write

A_ROW = 10
SIDE, GAP, CAPTION, MARGIN = 0.84, 0.06, 0.24, 0.14  # inches
SIZE = 8


def mosaic(images, labels, classes):
    """Draw images in rows of ten, sorted by class, with the class's name over its first image in each row.

    Parameters
    ----------
    images : uint8 array (m, s, s, 3)
        With ten images per class, each class fills one row.
    labels : array of int (m,)
    classes : list of str

    Returns
    -------
    matplotlib.figure.Figure
    """
    labels = np.asarray(labels)
    order = np.argsort(labels, kind="stable")
    a_row = min(A_ROW, len(order))
    rows = -(-len(order) // a_row)
    height = CAPTION + SIDE + GAP
    figure, axes = page(2 * MARGIN + a_row * (SIDE + GAP) - GAP, MARGIN + rows * height)
    for row in range(rows):
        members = order[row * a_row : (row + 1) * a_row]
        top = GAP + row * height
        for column, i in enumerate(members):
            left = MARGIN + column * (SIDE + GAP)
            draw_image(axes, images[i], left, top + CAPTION, SIDE)
            if column == 0 or labels[i] != labels[members[column - 1]]:
                run = np.count_nonzero(labels[members] == labels[i])  # the name may be as wide as the row of its images
                name = short_name(classes[labels[i]], run * (SIDE + GAP) - 2 * GAP, SIZE)
                write(axes, left, top + CAPTION - 0.05, name, SIZE, va="baseline")
    return figure

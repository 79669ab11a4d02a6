"""Sample images of a data set with the names of their classes, on one sheet."""

import numpy as np

from tinyalex.figures.page import page, place, short_name, write

A_ROW = 10
SIDE, GAP, CAPTION, MARGIN = 0.84, 0.06, 0.24, 0.14  # inches
SIZE = 8


def mosaic(images, labels, classes):
    """Draw images in rows of ten, sorted by class; a name stands over the first image of its class.

    Parameters
    ----------
    images : uint8 array (m, s, s, 3)
        Ten of each class fill a row each.
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
        for place_in_row, i in enumerate(members):
            left = MARGIN + place_in_row * (SIDE + GAP)
            place(axes, images[i], left, top + CAPTION, SIDE)
            if place_in_row == 0 or labels[i] != labels[members[place_in_row - 1]]:
                run = np.count_nonzero(labels[members] == labels[i])  # the name may be as long as its images
                name = short_name(classes[labels[i]], run * (SIDE + GAP) - 2 * GAP, SIZE)
                write(axes, left, top + CAPTION - 0.05, name, SIZE, va="baseline")
    return figure

"""Draw test images and the training images most similar to them: the right half of Figure 4 of the paper."""

import numpy as np

from tinyalex.figures.page import FAINT, INK, MUTED, VERMILION, draw_image, page, short_name, write

SIDE, GAP, QUERY_GAP, MARGIN = 1.0, 0.1, 0.28, 0.22  # inches
NAME, BITS, HEAD = 0.2, 0.16, 0.36
SIZE = 7.5


def neighbours(queries, found, labels, found_labels, classes, heading="", codes=None):
    """Draw each query in the first column and the images found for it in the others, the nearest first.

    Parameters
    ----------
    queries : uint8 array (q, s, s, 3)
        The paper shows five.
    found : uint8 array (q, k, s, s, 3)
    labels, found_labels : arrays of int (q,) and (q, k)
        The name of a found image is red if its class is not the query's.
    classes : list of str
    heading : str
        A line of text above the images.
    codes : pair of bool arrays (q, bits) and (q, k, bits), optional
        Drawn under the images as squares, dark for 1; bits that differ from the query's are red.

    Returns
    -------
    matplotlib.figure.Figure
    """
    q, k = found.shape[:2]
    head, bits = HEAD if heading else 0.0, BITS if codes is not None else 0.0
    row = SIDE + bits + NAME + GAP
    width = 2 * MARGIN + (k + 1) * SIDE + (k - 1) * GAP + QUERY_GAP
    figure, axes = page(width, 2 * MARGIN + head + q * row - GAP)
    if heading:
        write(axes, MARGIN, MARGIN + 0.09, heading, SIZE + 1.5, va="center")
    for i in range(q):
        top = MARGIN + head + i * row
        _captioned(axes, queries[i], MARGIN, top, classes[labels[i]], INK, "bold", bits)
        if codes is not None:
            _code(axes, codes[0][i], codes[0][i], MARGIN, top + SIDE)
        for j in range(k):
            left = MARGIN + SIDE + QUERY_GAP + j * (SIDE + GAP)
            color = MUTED if found_labels[i][j] == labels[i] else VERMILION
            _captioned(axes, found[i, j], left, top, classes[found_labels[i][j]], color, "normal", bits)
            if codes is not None:
                _code(axes, codes[1][i][j], codes[0][i], left, top + SIDE)
    return figure


def _captioned(axes, image, left, top, name, color, weight, bits):
    draw_image(axes, image, left, top, SIDE)
    name = short_name(name, SIDE, SIZE, weight)
    write(
        axes, left + SIDE / 2, top + SIDE + bits + NAME / 2, name, SIZE, color, weight=weight, ha="center", va="center"
    )


def _code(axes, code, query, left, top):
    # Draw the bits as two rows of squares.
    colors = np.array([[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in (FAINT, INK, "#f6c9a8", VERMILION)])
    shown = colors[code.astype(int) + 2 * (code != query)].astype(np.uint8)
    across = -(-len(code) // 2)
    grid = np.full((2 * across, 3), 255, np.uint8)
    grid[: len(code)] = shown
    extent = (left, left + SIDE, top + 0.04 + 2 * SIDE / across, top + 0.04)
    axes.imshow(grid.reshape(2, across, 3), extent=extent, aspect="auto", interpolation="nearest")

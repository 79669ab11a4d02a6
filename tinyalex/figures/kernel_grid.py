"""Draw the kernels of a first layer as images, column a above column b: Figure 3 of the paper.

Brightness is normalised as the authors' 2012 code did it for the figure: the minimum over all kernels of the layer is
subtracted, then everything is divided by the maximum. All kernels have one scale, so that a weak kernel looks weak.
"""

import numpy as np

from tinyalex.figures.colourfulness import colourfulness
from tinyalex.figures.page import DPI, MUTED, page, write

A_ROW = 16
ROW, KERNEL = 1360, 110  # pixels: the widest row and kernel, unless one pixel per weight takes more


def kernels(columns):
    """Draw first-layer kernels.

    Parameters
    ----------
    columns : dict of str to array (k, k, c, n)
        A column's name ("a") and its kernels. With c = 3 they are drawn in colour, otherwise in grey (the mean over c).

    Returns
    -------
    matplotlib.figure.Figure
        With two columns, each is labelled with its mean `colourfulness`.
    """
    shown = _normalized(columns)
    most = max(block.shape[-1] for block in shown.values())
    a_row = -(-most // -(-most // A_ROW))  # rows of equal length, instead of a full one and a short one
    grids = {name: _grid(block, a_row) for name, block in shown.items()}

    # Every weight takes a whole number of pixels, so that nearest-neighbour interpolation is exact.
    widest = max(grid.shape[1] for grid in grids.values())
    k = max(block.shape[0] for block in shown.values())
    dot = max(1, min(ROW // widest, KERNEL // k)) / DPI
    margin, label = 24 / DPI, 36 / DPI if len(grids) > 1 else 0
    heights = [label + grid.shape[0] * dot for grid in grids.values()]
    figure, axes = page(2 * margin + widest * dot, margin * (1 + len(grids)) + sum(heights))
    top = margin
    for (name, grid), height in zip(grids.items(), heights, strict=True):
        if label:
            write(axes, margin, top + label / 2, _label(name, columns[name]), color=MUTED, va="center")
        extent = (margin, margin + grid.shape[1] * dot, top + height, top + label)
        axes.imshow(grid, extent=extent, aspect="auto", interpolation="nearest")
        top += height + margin
    return figure


def _label(name, block):
    # The caption of Figure 3 calls one column largely colour-agnostic, the other largely colour-specific: the label
    # gives both as numbers.
    text, values = f"column {name}" if len(name) == 1 else name, colourfulness(block) if block.shape[2] == 3 else []
    values = [value for value in values if np.isfinite(value)]
    return f"{text}, colourfulness {np.mean(values):.2f}" if values else text


def _normalized(columns):
    # Returns float64 (k, k, 3, n) for each column, scaled to 0 to 1 over all columns.
    blocks = {name: np.asarray(block, np.float64) for name, block in columns.items()}
    blocks = {
        name: block if block.shape[2] == 3 else block.mean(axis=2, keepdims=True).repeat(3, axis=2)
        for name, block in blocks.items()
    }
    values = np.concatenate([block[np.isfinite(block)] for block in blocks.values()])
    low, high = (values.min(), values.max()) if values.size else (0.0, 0.0)
    if high == low:  # all weights equal: draw them in middle grey
        low, high = low - 0.5, high + 0.5
    return {name: np.nan_to_num((block - low) / (high - low)).clip(0, 1) for name, block in blocks.items()}


def _grid(block, a_row):
    # (k, k, 3, n) to one uint8 image with ``a_row`` kernels per row and white gaps as wide as one weight.
    k, _, _, n = block.shape
    rows, cell = -(-n // a_row), k + 1
    grid = np.full((rows * cell - 1, a_row * cell - 1, 3), 255, np.uint8)
    for i in range(n):
        y, x = i // a_row * cell, i % a_row * cell
        grid[y : y + k, x : x + k] = np.rint(255 * block[..., i])
    return grid

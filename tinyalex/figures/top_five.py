"""Draw test images with the five classes that the net finds most probable: the left half of Figure 4 of the paper."""

import numpy as np

from tinyalex.figures.page import FAINT, INK, LIGHT_BLUE, MUTED, PINK, draw_image, page, short_name, wrapped, write

A_ROW = 4
SIDE, CAPTION, BAR, GAP, LINE = 2.0, 0.26, 0.19, 0.22, 0.15  # inches
SIZE = 8
NAME = 0.76 * SIDE  # of a class, beside its probability


def panel(images, labels, probabilities, classes):
    """Draw images in rows of four, each with its true class and bars for the most probable classes under it.

    Parameters
    ----------
    images : uint8 array (m, s, s, 3), or list of m images of any sizes
        The paper shows eight.
    labels : array of int (m,), or None
        True classes; if None, no class is written under the image and no bar is marked.
    probabilities : array (m, classes)
    classes : list of str
        Names; only the part before the first comma is drawn.

    Returns
    -------
    matplotlib.figure.Figure
        The bar of the true class is red, the others are blue. A bar's length is the probability, from 0 to 1.
    """
    probabilities = np.nan_to_num(np.asarray(probabilities, np.float64))
    m, count = len(images), min(5, probabilities.shape[1])
    a_row = min(A_ROW, m)
    caption = CAPTION if labels is not None else GAP / 2
    height = SIDE + caption + count * BAR
    width_all, height_all = a_row * (SIDE + GAP) + GAP, -(-m // a_row) * (height + GAP) + GAP
    figure, axes = page(width_all, height_all)
    for i in range(m):
        left, top = GAP + i % a_row * (SIDE + GAP), GAP + i // a_row * (height + GAP)
        draw_image(axes, images[i], left, top, SIDE)
        label = None if labels is None else int(labels[i])
        if label is not None:
            name = short_name(classes[label], SIDE, SIZE + 1, "bold")
            x, y = left + SIDE / 2, top + SIDE + CAPTION / 2
            write(axes, x, y, name, SIZE + 1, weight="bold", ha="center", va="center")
        bottom = 1 - (top + height) / height_all
        bars = figure.add_axes((left / width_all, bottom, SIDE / width_all, count * BAR / height_all))
        draw_bars(bars, probabilities[i], label, classes, count)
    return figure


def name_lines(names, most):
    """Return how many lines the longest of some names of classes takes beside its probability, at most ``most``."""
    return max(1, *(len(wrapped(_first(name), NAME, SIZE, most, "bold")) for name in names))


def _first(name):
    return " ".join((name.split(",")[0].strip() or name).split())[:200]


def draw_bars(axes, probabilities, label, classes, count, lines=1):
    """Draw horizontal bars of ``SIDE`` inches for the most probable classes, with their names written over them.

    Names take ``lines`` lines or fewer, for which the axes have to be high enough: see `name_lines`.
    """
    best = np.argsort(-probabilities, kind="stable")[:count]
    bar = axes.get_position().height * axes.figure.get_figheight() / count  # inches
    colors = [PINK if c == label else LIGHT_BLUE for c in best]
    axes.set(xlim=(0, 1), ylim=(count - 0.5, -0.5), xticks=[], yticks=[], facecolor=FAINT)
    axes.spines[:].set_visible(False)
    axes.barh(range(count), probabilities[best], height=1, color=colors)
    axes.hlines(np.arange(1, count) - 0.5, 0, 1, color="white", linewidth=1.5)
    for row, c in enumerate(best):
        weight = "bold" if c == label else "normal"
        name = wrapped(_first(classes[c]), NAME, SIZE, lines, weight)
        for k, line in enumerate(name):
            y = row + (k - (len(name) - 1) / 2) * LINE / bar
            write(axes, 0.025, y, line, SIZE, weight=weight, va="center_baseline")
        percent = f"{100 * probabilities[c]:.0f} %" if probabilities[c] >= 0.005 else "< 1 %"
        write(axes, 0.975, row, percent, SIZE - 1, INK if c == label else MUTED, ha="right", va="center_baseline")

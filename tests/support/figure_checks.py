"""Shared by the tests of figures: random images to draw, and a check that texts do not overlap."""

import numpy as np
from matplotlib.text import Text

from tinyalex import randomness


def noise(*shape):
    return randomness.normal(randomness.key(0, "figures", *shape), np.arange(np.prod(shape))).reshape(shape)


def pictures(count, side):
    return (noise(count, side, side, 3) * 60 + 128).clip(0, 255).astype(np.uint8)


def texts(axes):
    return [text.get_text() for text in axes.texts]


def assert_no_overlap(figure):
    """Assert that every text lies inside the figure and that no two texts overlap."""
    figure.draw_without_rendering()
    shown = []
    for axes in figure.axes:
        shown += [child for child in axes.get_children() if isinstance(child, Text)]
        if axes.axison:
            shown += [axes.xaxis.label, *labels_in_view(axes, axes.xaxis, 0), *labels_in_view(axes, axes.yaxis, 1)]
    boxes = [(text.get_text(), text.get_window_extent()) for text in shown if text.get_text()]
    width, height = figure.bbox.size
    for i, (text, box) in enumerate(boxes):
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height, f"{text} leaves the figure"
        for other_text, other in boxes[:i]:
            beside = box.x1 <= other.x0 or other.x1 <= box.x0
            assert beside or box.y1 <= other.y0 + 1 or other.y1 <= box.y0 + 1, f"{text} overlaps {other_text}"


def labels_in_view(axes, axis, dimension):
    low, high = sorted(axis.get_view_interval())
    return [label for label in axis.get_ticklabels() if low <= label.get_position()[dimension] <= high]

"""What the tests of figures share: pictures to draw, and an eye for texts that collide."""

import numpy as np
from matplotlib.text import Text

from tinyalex import randomness


def noise(*shape):
    return randomness.normal(randomness.key(0, "figures", *shape), np.arange(np.prod(shape))).reshape(shape)


def pictures(count, side):
    return (noise(count, side, side, 3) * 60 + 128).clip(0, 255).astype(np.uint8)


def texts(axes):
    return [text.get_text() for text in axes.texts]


def assert_tidy(figure):
    """No text leaves the figure and no two overlap."""
    figure.draw_without_rendering()
    written = []
    for axes in figure.axes:
        written += [child for child in axes.get_children() if isinstance(child, Text)]
        if axes.axison:
            written += [axes.xaxis.label, *labels_in_view(axes, axes.xaxis, 0), *labels_in_view(axes, axes.yaxis, 1)]
    boxes = [(text.get_text(), text.get_window_extent()) for text in written if text.get_text()]
    width, height = figure.bbox.size
    for i, (text, box) in enumerate(boxes):
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height, f"{text} leaves the figure"
        for other, its in boxes[:i]:
            apart = box.x1 <= its.x0 or its.x1 <= box.x0 or box.y1 <= its.y0 + 1 or its.y1 <= box.y0 + 1
            assert apart, f"{text} overlaps {other}"


def labels_in_view(axes, axis, which):
    low, high = sorted(axis.get_view_interval())
    return [label for label in axis.get_ticklabels() if low <= label.get_position()[which] <= high]

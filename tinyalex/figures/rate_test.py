"""Draw a learning-rate range test: the loss over the rate, which rises from step to step."""

import numpy as np

from tinyalex.figures.page import BLUE, FAINT, INK, MUTED, PALE, VERMILION, new_figure, write

WIDTH, HEIGHT = 6.2, 4.0  # inches
LEFT, BOTTOM, RIGHT, TOP = 0.75, 0.6, 0.35, 0.5  # margins, inches
SIZE = 9


def rate_test(rates, losses, mean, suggested, own):
    """Draw a range test.

    Parameters
    ----------
    rates : sequence of float
        Of the steps.
    losses : list of (list of float)
        For each seed the losses of the steps; they may end early. Drawn as faint dots.
    mean : list of float
        The running mean, which is drawn as a line.
    suggested : float or None
        The suggested rate, marked in the title's colour.
    own : float
        The recipe's rate, marked by a dashed line.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(WIDTH, HEIGHT)
    box = (LEFT / WIDTH, BOTTOM / HEIGHT, 1 - (LEFT + RIGHT) / WIDTH, 1 - (BOTTOM + TOP) / HEIGHT)
    first, low = mean[0], min(mean)
    room = max(first - low, 0.1 * abs(first), 1e-3)
    limits = (low - 0.35 * room, first + 1.2 * room)
    axes = figure.add_axes(box, xscale="log", xlim=(rates[0], rates[-1]), ylim=limits)
    for each in losses:
        axes.plot(rates[: len(each)], each, ".", color=PALE, markersize=3, zorder=1)
    axes.plot(rates[: len(mean)], np.array(mean), color=BLUE, linewidth=2.2, zorder=3)
    marks = [(own, MUTED, (0, (4, 3)), f"the recipe's {own:g}", 0.035)]
    if suggested is not None:
        marks.append((suggested, VERMILION, "-", f"suggested {suggested:g}", 0.10))
    for rate, color, style, text, height in marks:
        axes.axvline(rate, color=color, linestyle=style, linewidth=1.2, zorder=2)
        right = rate > np.sqrt(rates[0] * rates[-1])
        place = {"transform": axes.get_xaxis_transform(), "ha": "left" if right else "right"}
        write(axes, rate * (1.06 if right else 0.94), height, text, SIZE, color, **place)
    axes.set_xlabel("learning rate of the step", size=SIZE, color=INK)
    axes.set_ylabel("training loss of the step, and its running mean", size=SIZE, color=INK)
    axes.tick_params(which="both", labelsize=SIZE, labelcolor=MUTED, color=FAINT, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    title = "the loss falls at no rate" if suggested is None else f"suggested learning rate: {suggested:g}"
    write(axes, 0, 1.045, title, SIZE + 1.5, weight="bold", transform=axes.transAxes)
    return figure

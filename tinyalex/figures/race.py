"""Draw two nets' training error over epochs, and when each reaches 25 %: Figure 1 of the paper."""

import numpy as np

from tinyalex.figures.page import BLUE, FAINT, INK, MUTED, VERMILION, drawable, new_figure, write

WIDTH, HEIGHT = 6.2, 4.3  # inches
LEFT, BOTTOM, RIGHT, TOP = 0.75, 0.6, 0.35, 0.5  # margins, inches
SIZE = 9
_STYLES = ({"color": BLUE, "linestyle": "-"}, {"color": VERMILION, "linestyle": (0, (5, 2.5))})  # solid and dashed


def race(runs, goal=0.25, others=()):
    """Draw the training error of two nets.

    Parameters
    ----------
    runs : list of (str, list of float)
        A name and the training error of each epoch, for the first net (solid) and the second (dashed).
    goal : float
        The training error at which the horizontal line is drawn.
    others : list of list of (list of float)
        For each net further curves, drawn faintly: other seeds, or other learning rates.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(WIDTH, HEIGHT)
    box = (LEFT / WIDTH, BOTTOM / HEIGHT, 1 - (LEFT + RIGHT) / WIDTH, 1 - (BOTTOM + TOP) / HEIGHT)
    longest = max([len(errors) for _, errors in runs], default=1)
    highest = 100 * max([max(errors, default=0) for _, errors in runs], default=1)
    axes = figure.add_axes(box, xlim=(0, 1.04 * max(longest, 2)), ylim=(0, min(100, 1.08 * max(highest, 100 * goal))))
    _frame(axes)
    axes.axhline(100 * goal, color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1)
    for curves, style in zip(others, _STYLES, strict=False):
        for errors in curves:
            axes.plot(
                np.arange(1, len(errors) + 1), 100 * np.array(errors), linewidth=0.9, alpha=0.28, zorder=2, **style
            )
    crossings = []
    for (name, errors), style in zip(runs, _STYLES, strict=False):
        epochs = np.arange(1, len(errors) + 1)
        axes.plot(epochs, 100 * np.array(errors), linewidth=2.2, label=drawable(name)[0], zorder=3, **style)
        crossings.append(crossing(errors, goal))
        if crossings[-1] is not None:
            axes.plot(crossings[-1], 100 * goal, "o", color=style["color"], markersize=6, zorder=4)
            axes.vlines(crossings[-1], 0, 100 * goal, color=style["color"], linewidth=0.9, alpha=0.6, zorder=1)
            text = f"{crossings[-1]:.1f} epochs" if crossings[-1] < 9.95 else f"{crossings[-1]:.0f} epochs"
            right = crossings[-1] > 0.8 * axes.get_xlim()[1]
            x = crossings[-1] + (-1 if right else 1) * 0.012 * axes.get_xlim()[1]
            write(axes, x, 0.03 * axes.get_ylim()[1], text, SIZE, style["color"], ha="right" if right else "left")
    legend = {"size": SIZE, "family": drawable("".join(name for name, _ in runs))[1]}
    names = axes.legend(loc="upper right", prop=legend, frameon=False, labelcolor=INK, handlelength=2.6).get_texts()
    for name in names:
        name.set_parse_math(False)
    write(axes, 0, 1.045, _title(crossings, runs, goal), SIZE + 1.5, weight="bold", transform=axes.transAxes)
    return figure


def crossing(errors, goal):
    """Return after how many epochs an error first reaches the goal, interpolated linearly, or None if it never does."""
    for epoch, error in enumerate(errors, start=1):
        if error <= goal:
            before = errors[epoch - 2] if epoch > 1 else error
            return float(epoch - (goal - error) / (before - error)) if before > goal else float(epoch)
    return None


def _title(crossings, runs, goal):
    if len(crossings) == 2 and all(crossings):
        slow, fast = max(crossings), min(crossings)
        first = runs[crossings.index(fast)][0].split(",")[0]
        return f"{first} reaches {100 * goal:g} % training error {slow / fast:.1f} times as fast"
    reached = [name.split(",")[0] for (name, _), found in zip(runs, crossings, strict=True) if found]
    return f"{' and '.join(reached) if reached else 'no net'} reached {100 * goal:g} % training error"


def _frame(axes):
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epochs", size=SIZE, color=INK)
    axes.set_ylabel("training error (%)", size=SIZE, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.tick_params(labelsize=SIZE, labelcolor=MUTED, color=FAINT, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)

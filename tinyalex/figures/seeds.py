"""Draw nets compared over several seeds: every run's error on the left, the differences on the right."""

import numpy as np

from tinyalex.figures.page import BLUE, FAINT, INK, MUTED, PALE, VERMILION, drawable, new_figure, short_name, write
from tinyalex.words import counted

LEFT_PANEL, RIGHT_PANEL, ROW = 3.6, 2.7, 0.62  # inches; one row per net
NAMES, GAP, EDGE, TOP, BOTTOM = 1.45, 0.45, 0.35, 0.95, 0.62
SIZE = 9


def seeds(result):
    """Draw a comparison.

    Parameters
    ----------
    result : dict
        As `tinyalex.experiments.experiment.experiment` returns it for a comparison.

    Returns
    -------
    matplotlib.figure.Figure
        Left: a dot per seed, lines that join the dots of a seed, and a bar at the mean. Right: the differences of the
        top-1 error from the first net in percentage points, with 95 % confidence intervals, and the paper's difference
        as a diamond.
    """
    from matplotlib.ticker import MaxNLocator

    arms, rows = result["arms"], len(result["arms"])
    width, height = NAMES + LEFT_PANEL + GAP + RIGHT_PANEL + EDGE, TOP + rows * ROW + BOTTOM
    figure = new_figure(width, height)

    def panel(left, wide):
        box = (left / width, BOTTOM / height, wide / width, rows * ROW / height)
        axes = figure.add_axes(box, ylim=(rows - 0.5, -0.5), yticks=[])
        axes.tick_params(labelsize=SIZE, labelcolor=MUTED, color=FAINT, length=3)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(MUTED)
        axes.grid(axis="x", color=FAINT, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        return axes

    errors = panel(NAMES, LEFT_PANEL)
    points = 100 * np.array([arm["top1_error"] for arm in arms], np.float64)  # (nets, seeds)
    for seed in points.T:
        errors.plot(seed, range(rows), color=PALE, linewidth=0.8, zorder=1.5)
    for row, (arm, values) in enumerate(zip(arms, points, strict=True)):
        color = BLUE if row == 0 else VERMILION
        errors.plot(values, np.full(len(values), row), "o", color=color, alpha=0.45, markersize=6, mew=0, zorder=2)
        errors.vlines(values.mean(), row - 0.26, row + 0.26, color=color, linewidth=2.2, zorder=3)
        name = short_name(arm["name"], NAMES - 0.3, SIZE + 0.5)
        style = {"transform": errors.get_yaxis_transform(), "ha": "right", "va": "center_baseline"}
        write(errors, -0.035, row, name, SIZE + 0.5, INK, **style)
    spread = max(np.ptp(points), 1.0)
    errors.set_xlim(points.min() - 0.12 * spread, points.max() + 0.12 * spread)
    errors.set_xlabel("top-1 test error (%), one dot per seed", size=SIZE, color=INK)

    differences = panel(NAMES + LEFT_PANEL + GAP, RIGHT_PANEL)
    _draw_differences(differences, result, rows)
    left = EDGE / width
    figure.text(left, 1 - 0.36 / height, _heading(result), size=SIZE + 3, weight="bold", color=INK, parse_math=False)
    text, family = drawable(_subheading(result))  # with the name of the data set
    figure.text(left, 1 - 0.62 / height, text, size=SIZE, color=MUTED, parse_math=False, family=family)
    return figure


def _draw_differences(axes, result, rows):
    paper, reach = result["paper"][0], [1.0]
    axes.axvline(0, color=MUTED, linewidth=0.9, zorder=1.5)
    for row, effect in enumerate(result["effects"], start=1):
        found = effect["top1_error"]
        mean, half = 100 * found["mean"], 100 * (found["half"] or 0)
        axes.hlines(row, mean - half, mean + half, color=VERMILION, linewidth=1.6)
        axes.plot(mean, row, "o", color=VERMILION, markersize=7, label="here, 95 % interval" if row == 1 else None)
        reach += [abs(mean) + half]
        if paper is not None:
            mark = {"markersize": 7, "markerfacecolor": "white", "markeredgecolor": INK, "markeredgewidth": 1.2}
            axes.plot(paper, row, "D", label="paper, ILSVRC" if row == 1 else None, zorder=1.8, **mark)
            reach += [abs(paper)]
    axes.set_xlim(-1.15 * max(reach), 1.15 * max(reach))
    axes.set_xlabel(f"percentage points above “{result['arms'][0]['name']}”", size=SIZE, color=INK)
    style = {"fontsize": SIZE - 1, "frameon": False, "labelcolor": MUTED, "handletextpad": 0.2, "columnspacing": 1.2}
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 0.97), ncols=2, **style)


def _heading(result):
    return f"{result['title'][0].upper()}{result['title'][1:]} (paper, section {result['section']})"


def _subheading(result):
    return f"{result['data']['shown']}; {counted(result['epochs'], 'epoch')}; seeds: {result['seeds']}"

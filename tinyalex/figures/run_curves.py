"""Learning curves of one run or of several, the loss and the error rate each as a figure, small enough for a phone."""

import numpy as np

from tinyalex.figures.learning_curves import series
from tinyalex.figures.page import BLUE, FAINT, INK, MUTED, VERMILION, new_figure, write

WIDTH, HEIGHT = 4.3, 2.9  # inches
SIZE = 9
COLORS = (BLUE, VERMILION, "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito's palette
KINDS = {"loss": ("Loss", 1), "top1_error": ("Error rate (%)", 100)}


def run_curves(runs, field):
    """Draw one curve on training images and one on test images for each run.

    Parameters
    ----------
    runs : list of list of dict
        Each run's lines of ``log.jsonl``, as for `tinyalex.figures.curves`.
    field : {"loss", "top1_error"}

    Returns
    -------
    matplotlib.figure.Figure
        Of a single run the curve on training images is blue and the one on test images red; each of several runs has a
        colour of `COLORS`, and the curve on training images is dashed.
    """
    title, scale = KINDS[field]
    figure = new_figure(WIDTH, HEIGHT)
    from matplotlib.ticker import MaxNLocator

    figure.patch.set_visible(False)
    end = max((record.get("epoch") or 0 for records in runs for record in records), default=0) or 1
    axes = figure.add_axes((0.1, 0.14, 0.74 if len(runs) == 1 else 0.87, 0.74), xlim=(0, end))
    axes.patch.set_visible(False)
    axes.set_title(title, loc="left", size=SIZE + 1.5, weight="bold", color=INK)
    axes.set_xlabel("epoch", size=SIZE, color=MUTED, labelpad=2)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=end >= 3))
    axes.tick_params(which="both", labelsize=SIZE, labelcolor=MUTED, color=FAINT, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    highest, labelled = 0.0, []
    for number, records in enumerate(runs):
        main = "epoch" if any(record.get("event") == "epoch" for record in records) else "train"
        colors = (BLUE, VERMILION) if len(runs) == 1 else (COLORS[number % len(COLORS)],) * 2
        for event, color, dashed in ((main, colors[0], len(runs) > 1), ("test", colors[1], False)):
            epochs, values = series(records, event, field)
            finite = np.isfinite(values)
            if not finite.any():
                continue
            marker = {"marker": "o", "markersize": 3.5} if len(epochs) <= 12 and event != "train" else {}
            dashes = {"linestyle": (0, (4, 2)), "linewidth": 1.2} if dashed else {"linewidth": 1.8}
            axes.plot(epochs, scale * values, color=color, clip_on=not marker, **dashes, **marker)
            highest = max(highest, scale * values[finite].max())
            labelled.append((epochs[finite][-1], scale * values[finite][-1], event, color))
    axes.set_ylim(0, min(1.06 * highest, 101.0) if scale == 100 and highest else 1.06 * highest or 1)
    if len(runs) == 1:  # the names stand right of where the curves end, apart from each other
        labelled.sort(key=lambda label: label[1])
        low, high = axes.get_ylim()
        gap = 0.075 * (high - low)
        heights = [y for _, y, _, _ in labelled]
        if len(heights) == 2 and heights[1] - heights[0] < gap:
            middle = max(sum(heights) / 2, low + gap / 2)
            heights = [middle - gap / 2, middle + gap / 2]
        for (x, _, event, color), height in zip(labelled, heights, strict=True):
            name = "test" if event == "test" else "training"
            write(axes, x + 0.02 * end, height, name, SIZE, color, weight="bold", va="center")
    if not labelled:
        axes.set_yticks([])
        write(axes, 0.5, 0.5, "no finished epoch yet", SIZE, MUTED, ha="center", transform=axes.transAxes)
    return figure

"""Draw the error of an average of nets over their number."""

from tinyalex.figures.page import BLUE, FAINT, INK, MUTED, new_figure, write

WIDTH, HEIGHT = 5.2, 3.6  # inches
LEFT, BOTTOM, RIGHT, TOP = 0.75, 0.6, 0.3, 0.5  # margins, inches
SIZE = 9


def averages(nets, errors, title):
    """Draw the errors.

    Parameters
    ----------
    nets : list of int
    errors : list of float
        Top-1 errors, fractions.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(WIDTH, HEIGHT)
    box = (LEFT / WIDTH, BOTTOM / HEIGHT, 1 - (LEFT + RIGHT) / WIDTH, 1 - (BOTTOM + TOP) / HEIGHT)
    axes = figure.add_axes(box)
    axes.plot(nets, [100 * error for error in errors], "o-", color=BLUE, linewidth=2, markersize=6)
    for count, error in zip(nets, errors, strict=True):
        axes.annotate(
            f"{error:.1%}", (count, 100 * error), (0, 7), textcoords="offset points", ha="center", size=SIZE - 1
        )
    axes.margins(0.12, 0.25)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("nets whose probabilities are averaged", size=SIZE, color=INK)
    axes.set_ylabel("top-1 test error (%)", size=SIZE, color=INK)
    axes.tick_params(labelsize=SIZE, labelcolor=MUTED, color=FAINT, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    write(axes, 0, 1.05, title, SIZE + 1.5, weight="bold", transform=axes.transAxes)
    return figure

"""Learning curves: the loss on the left, error rates on the right, both over epochs."""

import numpy as np

from tinyalex.figures.page import BLUE, FAINT, INK, MUTED, PALE, VERMILION, new_figure, text_width, write

WIDTH, HEIGHT = 10.6, 4.0  # of the figure, inches
PANEL = (3.55, 2.85)  # of either panel, inches
SIZE = 8.5


def curves(records):
    """Draw the loss and the error rates that a run recorded.

    Parameters
    ----------
    records : list of dict
        Lines of ``log.jsonl`` with the events "epoch" (means over an epoch, drawn as lines), "train" (running values,
        drawn faintly) and "test". Where a resumed run repeats epochs, the later records are drawn. A value that is
        missing or not finite leaves a gap.

    Returns
    -------
    matplotlib.figure.Figure
        Errors are in percent. Thin vertical lines mark drops of the learning rate, with the new rate above them.
    """
    figure = new_figure(WIDTH, HEIGHT)
    main = "epoch" if any(record.get("event") == "epoch" for record in records) else "train"
    train, test = {"color": BLUE}, {"color": VERMILION}
    end = max((record.get("epoch") or 0 for record in records), default=0) or 1

    loss = _axes(figure, 0.55, "Loss", end)
    lines = [
        _line(loss, records, main, "loss", "train", **train),
        _line(loss, records, "test", "loss", "test", **test),
    ]
    _running(loss, records, main, "loss")
    _loss_scale(loss)
    not_finite = [epoch for line in loss.lines for epoch, value in line.get_xydata() if np.isnan(value)]
    if not_finite:
        loss.set_title(f"not finite from epoch {min(not_finite):.3g}", loc="right", size=SIZE, color=VERMILION, pad=18)
    _end_labels(loss, lines, lambda value: f"{value:#.3g}".rstrip("."))

    error = _axes(figure, 5.5, "Error rate (%)", end)
    lines = [
        _line(error, records, main, "top1_error", "train top-1", 100, **train),
        _line(error, records, "test", "top1_error", "test top-1", 100, **test),
    ]
    if any("top5_error" in record for record in records):  # not with five classes or fewer
        lines.append(_line(error, records, "test", "top5_error", "test top-5", 100, linestyle=(0, (4, 2)), **test))
    _running(error, records, main, "top1_error", 100)
    highest = np.nanmax([0.0, *(y for line in error.lines for y in line.get_ydata())])
    error.set_ylim(0, min(1.06 * highest, 101) or 1)
    _end_labels(error, lines, "{:.1f} %".format)

    for axes in (loss, error):
        if not any(np.isfinite(line.get_ydata()).any() for line in axes.lines):
            axes.set_yticks([])
            write(axes, 0.5, 0.5, "no data recorded", SIZE, MUTED, ha="center", transform=axes.transAxes)
        _rate_drops(axes, records, end)
    return figure


def _axes(figure, left, title, end):
    from matplotlib.ticker import MaxNLocator

    width, height = PANEL
    axes = figure.add_axes((left / WIDTH, 0.55 / HEIGHT, width / WIDTH, height / HEIGHT), xlim=(0, end))
    axes.set_title(title, loc="left", size=SIZE + 2, weight="bold", color=INK, pad=18)
    axes.set_xlabel("epoch", size=SIZE, color=MUTED)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=end >= 3))
    axes.tick_params(which="both", labelsize=SIZE, labelcolor=MUTED, color=FAINT, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    return axes


def series(records, event, field):
    """Return the epochs and values of one curve, as `curves` draws it; values that are not finite become NaN."""
    epochs, values = [], []
    for record in records:
        if record.get("event") == event and field in record:
            while epochs and epochs[-1] >= record["epoch"]:  # repeated by a resumed run
                epochs.pop(), values.pop()
            epochs.append(float(record["epoch"]))
            values.append(np.nan if record[field] is None else float(record[field]))
    values = np.array(values, np.float64)
    return np.array(epochs), np.where(np.isfinite(values), values, np.nan)


def _line(axes, records, event, field, label, scale=1, **style):
    epochs, values = series(records, event, field)
    marker = {"marker": "o", "markersize": 3.5} if len(epochs) <= 12 and event != "train" else {}
    return axes.plot(epochs, scale * values, label=label, linewidth=1.8, clip_on=not marker, **marker, **style)[0]


def _running(axes, records, main, field, scale=1):
    if main != "train":
        epochs, values = series(records, "train", field)
        axes.plot(epochs, scale * values, label="_running", color=BLUE, alpha=0.3, linewidth=0.8, zorder=1.5)


def _loss_scale(axes):
    # A logarithmic axis if the loss falls to less than a tenth; otherwise a linear one from zero.
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    values = np.concatenate([line.get_ydata() for line in axes.lines])
    values = values[np.isfinite(values)]
    if values.size and values.min() > 0 and values.max() > 10 * values.min():
        axes.set_yscale("log")
        decades = np.log10(values.max() / values.min())
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 3 else (1,)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    elif values.size:
        axes.set_ylim(min(0, 1.06 * values.min()), 1.06 * values.max() or 1)


def _end_labels(axes, lines, form):
    # Names and last values right of the panel, at the height where the lines end, moved apart where they overlap.
    labels = []
    for line in lines:
        finite = np.flatnonzero(np.isfinite(line.get_ydata()))
        if finite.size:
            x, y = line.get_xdata()[finite[-1]], line.get_ydata()[finite[-1]]
            height = (axes.transScale + axes.transLimits).transform((x, y))[1]
            labels.append([height, f"{line.get_label()}  {form(y)}", line])
            axes.plot(x, y, "o", color=line.get_color(), markersize=4, clip_on=False, label="_end")
    labels.sort(key=lambda label: label[0])
    gap = 1.6 * SIZE / 72 / PANEL[1]
    for below, above in list(zip(labels, labels[1:], strict=False)) * 50:
        push = max(0, gap - (above[0] - below[0])) / 2
        below[0], above[0] = max(0, below[0] - push), above[0] + push
    for height, text, line in labels:
        weight = "bold" if line.get_label() == "test top-1" else "normal"
        write(axes, 1.03, height, text, SIZE, line.get_color(), weight=weight, va="center", transform=axes.transAxes)


def _rate_drops(axes, records, end):
    # A drop is a step from one constant rate to a lower one; a cosine schedule has none.
    epochs, rates = series(records, "train", "rate")
    if len(rates) == 0:
        epochs, rates = series(records, "epoch", "rate")
    occupied = -1.0  # right end of the last label above the panel, as a fraction of the panel's width
    for i in range(1, len(rates)):
        steady = rates[max(i - 2, 0)] == rates[i - 1] and rates[min(i + 1, len(rates) - 1)] == rates[i]
        if steady and rates[i] < 0.7 * rates[i - 1]:
            axes.axvline(epochs[i - 1], color=PALE, linewidth=0.8, zorder=1)
            text = f"rate {rates[i]:g}" if occupied < 0 else f"{rates[i]:g}"
            half = text_width(text, SIZE - 1) / PANEL[0] / 2 + 0.01
            x = max(epochs[i - 1] / end, occupied + half)
            write(axes, x, 1.02, text, SIZE - 1, MUTED, ha="center", transform=axes.transAxes)
            occupied = x + half

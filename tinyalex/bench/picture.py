"""Draw a measurement: speeds as bars, with the speed that the hardware allows as a line."""

from tinyalex.bench.hardware import describe
from tinyalex.figures.page import BLUE, MUTED, PALE, VERMILION, new_figure, text_width, write
from tinyalex.words import counted

SIZE = 9
PANEL, NUMBER, GAP, BAR, TOP, LINE, BOTTOM = 2.4, 0.55, 0.9, 0.34, 0.37, 0.14, 0.55  # inches


def bars(result):
    """Draw the speeds of training, of forward passes and, on a CPU, of single images, in images a second.

    Parameters
    ----------
    result : dict
        From `tinyalex.bench.measure.measure`.

    Returns
    -------
    matplotlib.figure.Figure
        tinyalex is blue, PyTorch grey; a red line is the floor.
    """
    contenders = result["contenders"]
    panels = _panels(result)
    names = 0.3 + max(text_width(each["title"], SIZE) for each in contenders)
    width, rows = names + len(panels) * (PANEL + GAP), BAR * len(contenders)
    height = TOP + LINE * max(2, *(len(limits) for *_, limits in panels)) + rows + BOTTOM
    figure = new_figure(width, height)
    for number, (action, title, images, limits) in enumerate(panels):
        left = names + number * (PANEL + GAP)
        axes = figure.add_axes((left / width, BOTTOM / height, PANEL / width, rows / height))
        _panel(axes, [images / each[action]["seconds"] for each in contenders], contenders, title, limits)
        for row, each in enumerate(contenders if number == 0 else []):
            align = {"transform": axes.get_yaxis_transform(), "ha": "right", "va": "center"}
            write(axes, -0.03, row, each["title"], SIZE, **align)
    page = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    page.axis("off")
    for number, line in enumerate(_lines(f"Images a second. {describe(result)}", width - 0.3)):
        write(page, 0.15, height - 0.33 + 0.16 * number, line, SIZE - 2, MUTED, va="center")
    return figure


def _panels(result):
    # (action, title, images in one action, {label of a limit: images a second})
    batch, titles = (
        result["batch"],
        (
            f"Training, {counted(result['batch'], 'image')} a step",
            f"Forward alone, {counted(result['batch'], 'image')}",
        ),
    )
    if result["device"] == "cpu":
        floor = result["floor"]
        return [
            *(
                (action, title, batch, {"direct convolution at best": 1 / floor[action]})
                for action, title in zip(("step", "forward"), titles, strict=True)
            ),
            ("predict", "Predicting, one image a time", 1, {}),
        ]
    return [
        (
            action,
            title,
            batch,
            {f"im2col in {kind} at best": batch / floor[action] for kind, floor in result["floors"].items()},
        )
        for action, title in zip(("step", "forward"), titles, strict=True)
    ]


def _panel(axes, speeds, contenders, title, limits):
    colors = [BLUE if each["kind"] != "torch" else PALE for each in contenders]
    axes.barh(range(len(speeds)), speeds, height=0.72, color=colors)
    axes.set(xlim=(0, 1.02 * max([*speeds, *limits.values()])), ylim=(len(speeds) - 0.5, -0.5), xticks=[], yticks=[])
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.spines["left"].set_color(MUTED)
    above = axes.get_xaxis_transform()
    inch = 1 / (BAR * len(speeds))
    lines = max(1, len(limits))
    write(axes, 0, 1 + (0.2 + LINE * lines) * inch, title, SIZE + 1, weight="bold", transform=above)
    for row, speed in enumerate(speeds):  # to the right of the bars, where no limit's line crosses the text
        beside = {"transform": axes.get_yaxis_transform(), "ha": "right", "va": "center"}
        write(axes, 1 + NUMBER / PANEL, row, f"{speed:,.0f}" if speed >= 1000 else f"{speed:.1f}", SIZE, **beside)
    for number, (name, limit) in enumerate(limits.items()):
        axes.axvline(limit, color=VERMILION, linewidth=1.2)
        label = {"transform": above, "ha": "right" if limit > axes.get_xlim()[1] / 2 else "left"}
        write(axes, limit, 1 + (0.08 + LINE * number) * inch, f"{name} {limit:,.1f}", SIZE - 1.5, VERMILION, **label)


def _lines(text, width):
    # Break a text at commas into lines of this width.
    lines = [""]
    for part in text.split(", "):
        longer = f"{lines[-1]}, {part}" if lines[-1] else part
        if lines[-1] and text_width(longer, SIZE - 2) > width:
            lines[-1] += ","
            lines.append(part)
        else:
            lines[-1] = longer
    return lines

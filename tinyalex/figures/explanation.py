"""Draw what a net looks at: heat maps over images, the crop that it reads, and the patches that excite its units."""

import numpy as np

from tinyalex.figures.page import BLUE, INK, MUTED, VERMILION, draw_image, page, short_name, wrapped, write
from tinyalex.figures.top_five import BAR, draw_bars, name_lines
from tinyalex.figures.top_five import LINE as NAME_LINE

SIDE, GAP, MARGIN, CAPTION, LINE = 2.0, 0.16, 0.2, 0.3, 0.17  # inches
PATCH = 0.93  # inches: side of a patch beside others
_PALE = 0.05  # of the probability, as in `Occlusion.matters`: smaller changes are paler
SIZE, LINES = 8, 3  # points; lines that the name of a class may take
_COLORS = [np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) for color in (VERMILION, BLUE)]


def overlay(image, values, largest=None):
    """Lay a heat map over an image: orange where the values are positive, blue where they are negative.

    Parameters
    ----------
    image : uint8 array, shape (h, w, 3)
        Shown in pale grey.
    values : array, shape (h, w)
    largest : float, optional
        The absolute value of the strongest colour (default: the largest there is). NaN counts as 0.

    Returns
    -------
    uint8 array, shape (h, w, 3)
    """
    values = np.nan_to_num(np.asarray(values, np.float64), posinf=0, neginf=0)
    largest = np.abs(values).max(initial=0) if largest is None else largest
    strength = np.clip(np.abs(values) / (largest if largest > 0 else 1), 0, 1)[..., None]
    grey = 130 + 0.48 * np.asarray(image, np.float64).mean(axis=2, keepdims=True)
    colour = np.where(values[..., None] > 0, *_COLORS)
    return np.rint(grey * (1 - strength) + colour * strength).astype(np.uint8)


def projected(values, largest=None):
    """Show numbers of the net's input, of which 0 is the mean image, as colours around a middle grey.

    Parameters
    ----------
    values : array, shape (h, w, 3)
        What `tinyalex.explain.deconvolution.deconvolution` returned, or a part of it.
    largest : float, optional
        The absolute value that becomes 0 or 255 (default: the largest there is). NaN counts as 0.

    Returns
    -------
    uint8 array, shape (h, w, 3)
    """
    values = np.nan_to_num(np.asarray(values, np.float64), posinf=0, neginf=0)
    largest = np.abs(values).max(initial=0) if largest is None else largest
    return np.rint(127.5 + 127.5 * np.clip(values / (largest if largest > 0 else 1), -1, 1)).astype(np.uint8)


def salient(saliency):
    """Return the value at which the colour of a saliency map is strongest: few pixels have more, often much more."""
    return float(np.quantile(np.nan_to_num(saliency), 0.995))


def needed(occlusion):
    """Return the drop at which the colour of an occlusion map is strongest: the largest, but 5 % of the probability."""
    return max(_PALE * occlusion.whole, float(np.abs(occlusion.drop).max(initial=0)))


def explanation(picture, frame, crop, probabilities, words, label, occlusion, saliency, patches, layer, projections=()):
    """Draw what a net makes of one picture.

    Parameters
    ----------
    picture : uint8 array, shape (h, w, 3)
    frame : (top, left, bottom, right)
        The rectangle of the picture that the net reads; the rest is drawn pale.
    crop : uint8 array, shape (s, s, 3)
        What it reads.
    probabilities : array, shape (classes,)
    words : list of str
        Names of the classes.
    label : int
        The class that occlusion and saliency are about.
    occlusion : tinyalex.explain.occlusion.Occlusion
    saliency : array, shape (s, s)
    patches : list of (uint8 array, str)
        Patches of the crop, with captions.
    layer : str
        The convolution whose strongest units answer to these patches.
    projections : list of uint8 arrays
        For each patch what `projected` made of the unit's deconvolution there; none if there is no deconvolution.

    Returns
    -------
    matplotlib.figure.Figure
    """
    count = min(5, len(words))
    name = words[label].split(",")[0]
    what = f"orange: needed for {name}" if occlusion.matters else f"no position matters for {name}"
    needed_for = wrapped(what, SIDE, SIZE, LINES)
    top = MARGIN + CAPTION + len(needed_for) * LINE
    below = top + SIDE + GAP
    best = np.argsort(-np.asarray(probabilities), kind="stable")[:count]
    lines = name_lines([words[c] for c in best], LINES)
    bar = BAR + (lines - 1) * NAME_LINE
    rows = PATCH + CAPTION + (LINE + PATCH if len(projections) else 0)
    last = below + max(count * bar, rows)
    width = 2 * MARGIN + 4 * SIDE + 3 * GAP
    figure, axes = page(width, last + MARGIN)
    pale = np.asarray(picture, np.float64)
    outside = np.ones(pale.shape[:2], bool)
    outside[frame[0] : frame[2], frame[1] : frame[3]] = False
    pale[outside] = 255 - 0.35 * (255 - pale[outside])
    panels = [
        (pale.astype(np.uint8), "the picture", [f"{picture.shape[1]} x {picture.shape[0]} pixels"]),
        (crop, "what the net reads", [f"{crop.shape[1]} x {crop.shape[0]} pixels"]),
        (overlay(crop, occlusion.drop, needed(occlusion)), "occlusion", needed_for),
        (overlay(crop, saliency, salient(saliency)), "saliency", ["orange: changes that score"]),
    ]
    for number, (image, title, caption) in enumerate(panels):
        left = MARGIN + number * (SIDE + GAP)
        write(axes, left, MARGIN + 0.1, title, SIZE + 1, weight="bold", va="center")
        for row, line in enumerate(caption, start=1):
            write(axes, left, MARGIN + 0.1 + row * LINE, line, SIZE, MUTED, va="center")
        draw_image(axes, image, left, top, SIDE)
    height = last + MARGIN
    bars = figure.add_axes((MARGIN / width, 1 - (below + count * bar) / height, SIDE / width, count * bar / height))
    draw_bars(bars, probabilities, label, words, count, lines)
    left = MARGIN + SIDE + GAP
    write(
        axes,
        left,
        below + 0.08,
        f"what the strongest units of {layer} answer to: where most of their gradient is",
        SIZE,
        MUTED,
        va="center",
    )
    for number, (patch, caption) in enumerate(patches[:6]):
        x = left + number * (PATCH + GAP / 2)
        draw_image(axes, patch, x, below + 0.22, PATCH - 0.05)
        write(axes, x, below + 0.22 + PATCH + 0.03, caption, SIZE - 1.5, INK, va="center")
    for number, projection in enumerate(projections[:6]):
        x = left + number * (PATCH + GAP / 2)
        draw_image(axes, projection, x, below + 0.22 + PATCH + CAPTION, PATCH - 0.05)
    if len(projections):
        text = "the same, by deconvolution: what in them raised the unit's output"
        write(axes, left, below + 0.22 + PATCH + LINE + 0.03, text, SIZE, MUTED, va="center")
    return figure


def heat_maps(rows, headings):
    """Draw images in rows, each with heat maps or patches beside it.

    Parameters
    ----------
    rows : list of (list of uint8 arrays, list of str)
        The pictures of each row, all rows of equal length, and a caption for each picture.
    headings : list of str
        One for each column of pictures.

    Returns
    -------
    matplotlib.figure.Figure
    """
    across = len(headings)
    side = SIDE if across <= 3 else 1.25
    width = 2 * MARGIN + across * (side + GAP) - GAP
    figure, axes = page(width, 2 * MARGIN + CAPTION + len(rows) * (side + CAPTION + GAP) - GAP)
    for number, heading in enumerate(headings):
        text = short_name(heading, side, SIZE, "bold")
        write(axes, MARGIN + number * (side + GAP), MARGIN + 0.06, text, SIZE, weight="bold", va="center")
    for i, (pictures, captions) in enumerate(rows):
        top = MARGIN + CAPTION + i * (side + CAPTION + GAP)
        for j, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
            left = MARGIN + j * (side + GAP)
            draw_image(axes, picture, left, top, side)
            text = short_name(caption, side, SIZE - 0.5)
            write(axes, left, top + side + 0.13, text, SIZE - 0.5, INK, va="center")
    return figure

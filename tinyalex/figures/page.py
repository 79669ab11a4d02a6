"""What all figures share: colours, a page measured in inches, drawing images and text, shortening names, saving."""

import contextlib
import io
import logging
import warnings
from pathlib import Path

from tinyalex.errors import PictureError, StorageError, TinyalexError
from tinyalex.system import storage

DPI = 150
INK, MUTED, PALE, FAINT = "#24292f", "#6e7781", "#b4bac1", "#e9ebee"
BLUE, VERMILION = "#0072b2", "#d55e00"  # Okabe and Ito's palette, which colour-blind readers can tell apart
LIGHT_BLUE, PINK = "#b5d3ea", "#f29ca3"


@contextlib.contextmanager
def importing():
    """Import parts of matplotlib in the block, without its messages about folders and fonts.

    Raises
    ------
    PictureError
        If it is missing or broken, or finds no folder in which it can write its list of fonts.
    """
    logger = logging.getLogger("matplotlib")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.ERROR)
    try:
        yield
    except ImportError as error:
        raise PictureError(f"matplotlib cannot be imported ({error}); pip install matplotlib") from error
    except OSError as error:  # the file system is read-only
        raise PictureError("matplotlib needs a folder for its list of fonts; set MPLCONFIGDIR to one") from error
    except MemoryError:
        raise
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise PictureError(f"matplotlib cannot be used ({why}); try python -c 'import matplotlib.figure'") from error


@contextlib.contextmanager
def _any_characters():
    # Characters that the font does not have are drawn as boxes, without a warning for each.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+", UserWarning)
        yield


def new_figure(width, height):
    """Make a white figure of ``width`` x ``height`` inches.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    PictureError
        See `importing`.
    """
    with importing():
        from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, facecolor="white")


def page(width, height):
    """Make a white figure and one invisible set of axes over all of it, with inches from the top left corner as units.

    Returns
    -------
    figure : matplotlib.figure.Figure
    axes : matplotlib.axes.Axes
    """
    figure = new_figure(width, height)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    axes.axis("off")
    return figure, axes


def draw_image(axes, picture, left, top, side):
    """Draw an image, (h, w, 3) or (h, w), on a `page`, undistorted and centred in a square of ``side`` inches."""
    from matplotlib.patches import Rectangle

    h, w = picture.shape[:2]
    width, height = side * w / max(h, w), side * h / max(h, w)
    left, top = left + (side - width) / 2, top + (side - height) / 2
    extent = (left, left + width, top + height, top)
    smooth = "bicubic" if max(h, w) < side * DPI else "hanning"  # when enlarging, or when reducing
    axes.imshow(picture, "gray", extent=extent, aspect="auto", interpolation=smooth, vmin=0)
    axes.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor=PALE, linewidth=0.5))


def write(axes, x, y, text, size=8.5, color=INK, **style):
    """Write text on axes literally: a dollar sign in a class name does not start a formula."""
    return axes.text(x, y, text, size=size, color=color, parse_math=False, **style)


def text_width(text, size, weight="normal"):
    """Return the width in inches of a line of text of ``size`` points, 5 % more than computed, to allow for hinting."""
    with importing():
        from matplotlib.font_manager import FontProperties
        from matplotlib.textpath import text_to_path

    font = FontProperties(size=size, weight=weight)
    with _any_characters():
        return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] / 72 * 1.05


def short_name(name, width, size, weight="normal"):
    """Cut a class name at the first comma (ImageNet lists synonyms) and shorten it to ``width`` inches."""
    name = " ".join(name.split(",")[0].split())[:200]
    shown = name
    while shown and text_width(shown, size, weight) > width:
        name = name[:-1].rstrip()
        shown = name + "…" if name else ""
    return shown


def save(figure, path, new=False):
    """Write a figure as a PNG file, atomically; the same figure always gives the same bytes.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    path : str or Path
        In an existing folder. A file of this name is replaced if tinyalex made it.
    new : bool
        Never replace a file, and leave no marker in the folder; a file that has these bytes already is no error.

    Raises
    ------
    StorageError
        If the file cannot be written, or tinyalex did not make the one that is there; no partial file is left behind.
    """
    with importing():
        from matplotlib.backends.backend_agg import FigureCanvasAgg

    path = Path(path)
    png = io.BytesIO()
    with _any_characters():  # without matplotlib's version in the file, which would change the bytes
        FigureCanvasAgg(figure).print_png(png, metadata={"Software": None})
    if not path.parent.is_dir():
        raise StorageError(f"{path}: cannot be written (no such folder); check that the folder exists")
    storage.write_bytes(path, png.getvalue(), new)


def attempt(draw, path):
    """Draw a picture and save it; whatever fails in that is no error, because the work whose result it shows is done.

    Parameters
    ----------
    draw : callable
        Returns a matplotlib ``Figure``.
    path : Path

    Returns
    -------
    str or None
        Why there is no picture, in one line; None if there is one.
    """
    try:
        save(draw(), path)
    except MemoryError:
        return "there is not enough memory"
    except TinyalexError as error:
        return " ".join(str(error).removeprefix(f"{path}: ").split())
    except Exception as error:
        return " ".join(f"{type(error).__name__}: {error}".split())
    return None

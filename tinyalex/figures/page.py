"""What all figures share: colours, a page measured in inches, drawing images and text, shortening names, saving."""

import contextlib
import io
import logging
import unicodedata
import zlib
from functools import cache
from pathlib import Path

from tinyalex.errors import PictureError, StorageError, TinyalexError
from tinyalex.system import ownership, storage

DPI = 150
_KEYWORD = b"tinyalex\0"
INK, MUTED, PALE, FAINT = "#24292f", "#6e7781", "#b4bac1", "#e9ebee"
GREEN, PURPLE = "#009e73", "#cc79a7"
BLUE, VERMILION = (
    "#0072b2",
    "#d55e00",
)  # all four from Okabe and Ito's palette, which colour-blind readers can tell apart
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
    """Write text on axes literally, as `drawable` gives it: a dollar sign in a class name does not start a formula."""
    text, family = drawable(text)
    return axes.text(x, y, text, size=size, color=color, parse_math=False, family=family, **style)


def drawable(text):
    """Return a text that can be drawn without a warning, and the fonts for it.

    Returns
    -------
    text : str
        With ``\\u732b`` for each character that no installed font has, except that formatting characters are left out.
    family : list of str
        Matplotlib's own font, and after it an installed one for each character that it lacks.
    """
    from matplotlib.font_manager import FontProperties

    families, drawn = dict.fromkeys(FontProperties().get_family()), ""
    for char in text:
        family = "" if " " <= char <= "~" else _family(char)
        if family is None:
            drawn += "" if unicodedata.category(char) == "Cf" else char.encode("unicode_escape").decode()
        else:
            drawn += char
            families |= {family: None} if family else {}
    return drawn, list(families)


@cache
def _family(char):
    # Return the font that has a character: "" for matplotlib's own, None if there is no such one.
    from matplotlib import font_manager

    own = font_manager.findfont(font_manager.FontProperties())
    for look in (lambda: None, _look_for_new_fonts):
        look()
        fonts = [font for font in font_manager.fontManager.ttflist if font.style == "normal"]
        installed = {(font.name, font.fname) for font in fonts if not font.name.startswith("Last Resort")}  # only boxes
        for name, path in [("", own), *sorted(installed)]:
            if not Path(path).exists():
                continue
            font = font_manager.get_font(path)
            if font.scalable and font.get_char_index(ord(char)):
                return name
    return None


@cache
def _look_for_new_fonts():
    # Add the fonts that were installed since matplotlib wrote its list of fonts, which it never renews.
    from matplotlib import font_manager

    known = {font.fname for font in font_manager.fontManager.ttflist}
    for path in set(font_manager.findSystemFonts()) - known:
        with contextlib.suppress(Exception):  # bitmap fonts, and those of damaged files
            font_manager.fontManager.addfont(path)


def text_width(text, size, weight="normal"):
    """Return the width in inches of a line of text of ``size`` points, 5 % more than computed, to allow for hinting."""
    with importing():
        from matplotlib.font_manager import FontProperties
        from matplotlib.textpath import text_to_path

    text, family = drawable(text)
    font = FontProperties(family=family, size=size, weight=weight)
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] / 72 * 1.05


def short_name(name, width, size, weight="normal"):
    """Cut a class name at the first comma (ImageNet lists synonyms) and shorten it to ``width`` inches."""
    return cut(" ".join((name.split(",")[0].strip() or name).split())[:200], width, size, weight)


def cut(text, width, size, weight="normal"):
    """Shorten a text to ``width`` inches; it then ends with an ellipsis."""
    shown = text
    while shown and text_width(shown, size, weight) > width:
        text = text[:-1].rstrip()
        shown = text + "…" if text else ""
    return shown


def wrapped(text, width, size, most, weight="normal"):
    """Break a text into lines of ``width`` inches, ``most`` of them or fewer; what is left of it is cut off.

    Returns
    -------
    list of str
    """
    lines, words = [], text.split()
    while words and len(lines) < most - 1:
        count = 1
        while count < len(words) and text_width(" ".join(words[: count + 1]), size, weight) <= width:
            count += 1
        line = " ".join(words[:count])
        fitting = len(line)  # of a single word that is longer than a line
        while fitting > 1 and text_width(line[:fitting], size, weight) > width:
            fitting -= 1
        lines.append(line[:fitting])
        words = ([line[fitting:]] if fitting < len(line) else []) + words[count:]
    return [*lines, cut(" ".join(words), width, size, weight)] if words else lines


def check_files(paths, marked=True):
    """Raise ForeignFileError if `save` would have to replace a file that tinyalex did not make."""
    for path in map(Path, paths):
        storage.check(path, None if marked else _is_signed)


def save(figure, path, marked=True):
    """Write a figure as a PNG file, atomically; the same figure always gives the same bytes.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    path : str or Path
        In an existing folder. A file of this name is replaced if tinyalex made it.
    marked : bool
        Whether the folder's marker lists the file. If not, for a single file that a user names, the picture carries a
        hash of itself, and only such a picture is replaced, if it was not changed.

    Raises
    ------
    StorageError
        If the file cannot be written, or tinyalex did not make the one that is there; no partial file is left behind.
    """
    path, png = Path(path), as_png(figure)
    if not path.parent.is_dir():
        raise StorageError(f"{path}: cannot be written (no such folder); check that the folder exists")
    storage.write_bytes(path, *((png,) if marked else (_signed(png), _is_signed)))


def as_png(figure):
    """Return a figure as the bytes of a PNG file."""
    with importing():
        from matplotlib.backends.backend_agg import FigureCanvasAgg

    png = io.BytesIO()
    FigureCanvasAgg(figure).print_png(
        png, metadata={"Software": ownership.SOFTWARE}
    )  # not matplotlib's version, which would change the bytes
    return png.getvalue()


def as_svg(figure):
    """Return a figure as the text of an SVG file in which text is text; the same figure always gives the same one."""
    with importing():
        import matplotlib
        from matplotlib.backends.backend_svg import FigureCanvasSVG

    svg = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tinyalex"}):
        FigureCanvasSVG(figure).print_svg(svg, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return svg.getvalue().decode()


def _signed(png):
    # Insert a text with a hash of the rest, before the last chunk, which has 12 bytes.
    text = _KEYWORD + ownership.digest(png).encode()
    chunk = b"tEXt" + text
    return png[:-12] + len(text).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") + png[-12:]


def _is_signed(path):
    content = path.read_bytes()
    rest = content[: -(len(_signed(b"")) + 12)] + content[-12:]
    return len(rest) > 12 and content == _signed(rest)


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

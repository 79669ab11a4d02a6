"""The HTML of a report: elements that escape what they contain, pictures as data URIs, and figures as inline SVG."""

import base64
import io
import re
from collections.abc import Iterable
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np

from tinyalex.datasets import names
from tinyalex.figures import page

_VARIABLES = {page.INK: "ink", page.MUTED: "muted", page.PALE: "pale", page.FAINT: "line", page.BLUE: "blue",
              page.VERMILION: "red"}  # fmt: skip
_SMALL = 96  # pixels: larger images become JPEGs


def element(tag, *children, **attributes):
    """Make an HTML element.

    Parameters
    ----------
    tag : str
    *children : str, Element, None, or an iterable of these
        A str is text, which is escaped when the page is written; characters that would break a line or change its
        direction are shown as `tinyalex.datasets.names.shown` does. None is left out.
    **attributes : str, number or None
        ``class_`` is the attribute class, ``data_x`` is data-x; None is left out.

    Returns
    -------
    xml.etree.ElementTree.Element

    Examples
    --------
    >>> text(element("p", 'a <b>&"x"', element("br"), title='"'))
    '<p title="&quot;">a &lt;b&gt;&amp;"x"<br></p>'
    """
    made = Element(tag)
    for name, value in attributes.items():
        if value is not None:
            made.set(name.rstrip("_").replace("_", "-"), names.shown(str(value)))
    for child in _flat(children):
        if isinstance(child, Element):
            made.append(child)
        elif len(made):
            made[-1].tail = (made[-1].tail or "") + names.shown(child)
        else:
            made.text = (made.text or "") + names.shown(child)
    return made


def _flat(children):
    for child in children:
        if isinstance(child, str | Element):
            yield child
        elif isinstance(child, Iterable):
            yield from _flat(child)


def text(made):
    """Return an element as HTML."""
    return ElementTree.tostring(made, encoding="unicode", method="html")


def picture(pixels, alt, **attributes):
    """Return an ``img`` with an image in it.

    Parameters
    ----------
    pixels : uint8 array, shape (h, w, 3) or, with an alpha channel, (h, w, 4)
    alt : str
    **attributes
        Of the element.
    """
    from PIL import Image

    content, small = io.BytesIO(), max(pixels.shape[:2]) <= _SMALL or pixels.shape[2] == 4
    if small:
        Image.fromarray(np.ascontiguousarray(pixels)).save(content, "PNG", optimize=True)
    else:
        Image.fromarray(np.ascontiguousarray(pixels)).save(content, "JPEG", quality=88)
    h, w = pixels.shape[:2]
    source = _uri(content.getvalue(), "png" if small else "jpeg")
    return element("img", src=source, alt=alt, **{"width": w, "height": h} | attributes)


def png(figure, alt):
    """Return a matplotlib figure as an image, which is white in dark mode too, and scrolls where it is too wide."""
    image = element("img", src=_uri(page.as_png(figure), "png"), alt=alt, class_="figure")
    return element("div", image, class_="scroll")


def _uri(content, kind):
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def svg(figure, name, alt):
    """Return a matplotlib figure as an inline ``svg`` in the page's colours, light or dark.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    name : str
        Begins all of its ids, so that several figures may stand in a page.
    alt : str
    """
    # Without namespaces, which HTML does not have.
    source = re.sub(r'\s(xmlns(:\w+)?="[^"]*"|version="[^"]*")', "", page.as_svg(figure))
    source = re.sub(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>|<style.*?</style>", "", source, flags=re.S)
    root = ElementTree.fromstring(source.replace("xlink:href", "href"))
    used = set(re.findall(r"#([\w-]+)", source))
    for each in root.iter():
        each.tail = None
        if not (each.text or "").strip():
            each.text = None
        own = each.attrib.pop("id", None)
        if own in used:
            each.set("id", f"{name}-{own}")
        for key, value in list(each.attrib.items()):
            value = re.sub(r"#([mphc][\w-]{9,})", lambda found: f"#{name}-{found[1]}", value)
            each.set(key, in_page_colors(value))
    for key in ("width", "height"):
        root.attrib.pop(key, None)
    root.attrib |= {"role": "img", "aria-label": names.shown(alt)}
    return root


def in_page_colors(style):
    """Replace the figures' colours in a style by the page's variables, which differ in light and dark mode."""
    for color, variable in _VARIABLES.items():
        style = style.replace(color, f"var(--{variable})")
    return style


def table(headings, rows, **attributes):
    """Return a table that scrolls sideways where it is too wide.

    Parameters
    ----------
    headings : list of str
    rows : list of list of (str, Element or None)
    """
    head = element("thead", element("tr", (element("th", heading, scope="col") for heading in headings)))
    body = element("tbody", (element("tr", (element("td", cell) for cell in row)) for row in rows))
    return element("div", element("table", head, body, **attributes), class_="scroll")


def bar(share, label=None, color="blue"):
    """Return a bar whose filled length is a share, from 0 to 1, with a text over it."""
    fill = element("span", class_=f"fill {color}", style=f"width:{100 * min(max(share, 0), 1):.1f}%")
    return element("span", fill, element("span", label or "", class_="label"), class_="bar")

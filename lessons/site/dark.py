"""Figures for dark pages: sphinx-gallery saves each figure of a lesson twice, the second time in colours for dark."""

import colorsys
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import Collection, QuadMesh
from matplotlib.colors import to_rgba, to_rgba_array
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.spines import Spine
from matplotlib.text import Annotation, Text
from sphinx_gallery.scrapers import matplotlib_scraper

BACKGROUND = "#131416"  # of furo's dark pages
LIGHTEST = 0.92


def colour(value):
    """Return a colour for a dark page: greys are turned over, so that white becomes the background; others lightened.

    Parameters
    ----------
    value : colour of matplotlib

    Returns
    -------
    (r, g, b, alpha)
    """
    *rgb, alpha = to_rgba(value)
    hue, lightness, saturation = colorsys.rgb_to_hls(*rgb)
    darkest = colorsys.rgb_to_hls(*to_rgba(BACKGROUND)[:3])[1]
    if _is_grey(rgb):
        turned = darkest + (LIGHTEST - darkest) * (1 - lightness)
        return (*(to_rgba(BACKGROUND)[:3] if lightness == 1 else colorsys.hls_to_rgb(hue, turned, saturation)), alpha)
    if lightness > 0.75:  # an area in a pale colour
        return (*colorsys.hls_to_rgb(hue, 1.1 - 0.9 * lightness, 0.6 * saturation), alpha)
    return (*colorsys.hls_to_rgb(hue, max(lightness, 0.58), saturation), alpha)


def _is_grey(rgb):
    return max(rgb[:3]) - min(rgb[:3]) < 0.1


def _all(figure, kinds):
    return figure.findobj(lambda artist: isinstance(artist, kinds))


def darken(figure):
    """Change the colours of a figure, in place; images, and what is drawn upon them, keep theirs."""
    canvas = FigureCanvasAgg(figure)  # closing a figure takes its canvas away
    canvas.draw()
    renderer = canvas.get_renderer()
    images = [image.get_window_extent(renderer) for image in _all(figure, AxesImage | QuadMesh)]

    def centre(artist):
        box = artist.get_window_extent(renderer)
        with np.errstate(invalid="ignore"):  # of a line without points
            return (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2

    def on_an_image(artist):
        if not images or artist.axes is None or isinstance(artist, Spine) or artist is artist.axes.patch:
            return False
        return any(image.contains(*centre(artist)) for image in images)

    for artist in _all(figure, Text | Line2D | Patch | Collection):
        if isinstance(artist, QuadMesh) or on_an_image(artist):
            continue
        if isinstance(artist, Text):
            artist.set_color(colour(artist.get_color()))
            boxes = [artist.get_bbox_patch(), artist.arrow_patch if isinstance(artist, Annotation) else None]
            patches = [box for box in boxes if box is not None]
        elif isinstance(artist, Line2D):
            face, edge = artist.get_markerfacecolor(), artist.get_markeredgecolor()
            artist.set_color(colour(artist.get_color()))
            artist.set_markerfacecolor(face if isinstance(face, str) and face == "none" else colour(face))
            artist.set_markeredgecolor(edge if isinstance(edge, str) and edge == "none" else colour(edge))
            continue
        elif isinstance(artist, Collection):
            if artist.get_array() is None:
                artist.set_facecolor([colour(each) for each in to_rgba_array(artist.get_facecolor())])
                artist.set_edgecolor([colour(each) for each in to_rgba_array(artist.get_edgecolor())])
            continue
        else:
            patches = [artist]
        for patch in patches:
            patch.set_facecolor(colour(patch.get_facecolor()))
            patch.set_edgecolor(colour(patch.get_edgecolor()))
    for axes in figure.axes:
        areas = [(patch.get_window_extent(renderer), patch.get_facecolor()) for patch in axes.patches]
        for text in axes.texts:
            under = [face for box, face in areas if face[3] > 0.3 and box.contains(*centre(text))]
            if under and _is_grey(to_rgba(text.get_color())) and not on_an_image(text):
                text.set_color("black" if np.dot(under[-1][:3], (0.3, 0.6, 0.1)) > 0.42 else "white")


def save_light_and_dark(block, block_vars, gallery_conf, **options):
    """Save the open figures for light and for dark pages; return the text that shows the one that suits the page."""
    drawn = [plt.figure(number) for number in plt.get_fignums()]
    text = matplotlib_scraper(block, block_vars, gallery_conf, **options)
    text = re.sub(r"^ *:srcset: .*\n", "", text.replace(".. image-sg:: ", ".. image:: "), flags=re.M)
    names = re.findall(r"^ *\.\. image:: /(\S+)\.png$", text, re.M)
    for figure, name in zip(drawn, names, strict=True):
        darken(figure)
        figure.savefig(Path(gallery_conf["src_dir"]) / f"{name}_dark.png", facecolor=figure.get_facecolor())
    light, dark = (re.sub(r"^( *:class: .*)$", rf"\1 only-{page}", text, flags=re.M) for page in ("light", "dark"))
    return f"{light}\n" + re.sub(r"^( *\.\. image:: \S+)\.png$", r"\1_dark.png", dark, flags=re.M)

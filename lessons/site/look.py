"""Sphinx extension: the directive ``look``, the first layer of a recorded net over a photograph, to try with the mouse.

The weights and the photograph are in the page; static/look.js computes everything from them in the browser.
"""

import base64
import io
import json
from pathlib import Path

import numpy as np
from docutils import nodes
from docutils.parsers.rst import Directive
from PIL import Image
from safetensors.numpy import load_file
from shared import photograph
from sphinx.locale import _

from tinyalex.recipes import recipe

RUN = Path(__file__).parents[2] / "data" / "runs" / "shapes"
SIZE = 224  # pixels of the photograph's sides

PAGE = """<div id="look">
<noscript>{noscript}</noscript>
<div class="look-pictures">
<figure><canvas class="photo" tabindex="0" role="img" aria-label="{picture_keys}"></canvas>
<figcaption>{picture}</figcaption></figure>
<figure><canvas class="map" tabindex="0" role="img" aria-label="{map_keys}"></canvas>
<figcaption>{map}</figcaption></figure>
</div>
<div class="look-stages" role="radiogroup" aria-label="{stages}">
<label><input type="radio" name="stage" value="sum"> {sum}</label>
<label><input type="radio" name="stage" value="relu" checked> {relu}</label>
<label><input type="radio" name="stage" value="norm"> {norm}</label>
<label><input type="radio" name="stage" value="pool"> {pool}</label>
</div>
<div class="look-product"><canvas class="patch"></canvas> &times; <canvas class="kernel"></canvas> =
<canvas class="product"></canvas></div>
<p class="numbers" aria-live="polite"></p>
<div class="kernels"></div>
<p><label>{own} <input class="own" type="file" accept="image/*"></label></p>
</div>
<script type="application/json" id="look-data">{data}</script>
<script src="_static/look.js"></script>
"""


def labels():
    """Return the words of the page in the language of the build."""
    return {
        "noscript": _("This page computes in the browser, with JavaScript, which is switched off here."),
        "picture": _("the picture"),
        "picture_keys": _("the picture; arrow keys move the patch"),
        "map": _("the map of the chosen kernel, {0}").format('<span class="shape"></span>'),
        "map_keys": _("the map; arrow keys move the position"),
        "stages": _("what the map shows"),
        "sum": _("convolution"),
        "relu": _("ReLU"),
        "norm": _("normalized"),
        "pool": _("pooled"),
        "own": _("A picture of your own (it stays on this machine):"),
    }


def words():
    """Return what look.js writes, in the language of the build; it puts its values in place of {0}, {1}, ..."""
    return {
        "numbers": _("sum of {0} products {1}, bias {2}, together {3}, after ReLU {4}"),
        "column": _("column {0}"),
        "kernel": _("kernel {0}"),
        "unreadable": _("The browser cannot read this file as a picture."),
    }


def data():
    """Return what look.js reads: kernels (maps, k, k, 3) and biases as float32 in base64, and the picture as a JPEG."""
    settings, weights = recipe.load(RUN / "recipe.toml"), load_file(RUN / "weights.safetensors")
    columns = "conv1a", "conv1b"
    kernels = np.concatenate([weights[f"{name}/W"] for name in columns], axis=3).transpose(3, 0, 1, 2)
    biases = np.concatenate([weights[f"{name}/b"] for name in columns])
    mean = weights["data/mean"].mean(axis=(0, 1), dtype=np.float64)  # over all pixels, as the picture is another one
    picture = io.BytesIO()
    Image.fromarray(photograph(SIZE)).save(picture, "JPEG", quality=88)
    return {
        "k": kernels.shape[1], "stride": settings.net.stride, "size": SIZE, "maps": len(kernels),
        "columns": len(columns), "scale": settings.data.scale, "mean": mean.tolist(),
        "norm": {"n": settings.net.norm_size, "k": settings.net.norm_k, "alpha": settings.net.norm_alpha,
                 "beta": settings.net.norm_beta},
        "kernels": _base64(np.ascontiguousarray(kernels, "<f4")), "biases": _base64(biases.astype("<f4")),
        "picture": "data:image/jpeg;base64," + base64.b64encode(picture.getvalue()).decode(),
    }  # fmt: skip


def _base64(array):
    return base64.b64encode(array.tobytes()).decode()


def page():
    """Return the elements that look.js fills, its data, and the script itself, as HTML."""
    content = json.dumps({**data(), "words": words()}, default=str)  # outside a build, words are no strings yet
    return PAGE.format(data=content, **labels())


class Look(Directive):
    """The page, in the text."""

    def run(self):
        """Return the page as raw HTML."""
        return [nodes.raw("", page(), format="html")]


def setup(app):
    """Register the directive."""
    app.add_directive("look", Look)
    return {"parallel_read_safe": True}

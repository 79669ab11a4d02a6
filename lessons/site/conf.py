"""Sphinx configuration: build the pages with ``sphinx-build -W lessons/site lessons/out/site``.

The build executes every lesson, and fails if one fails. It writes the pages of the reference from the package's
docstrings (reference.py), makes the downloads complete (notebooks.py), saves each figure for light and for dark pages
(dark.py), shapes the pages (pages.py, contents.py, look.py), and builds them in Chinese too (languages.py). Neither
building nor reading them needs a network.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]  # for the extensions here, shared.py and tinyalex

import reference  # noqa: E402

from tinyalex.claims import ledger, page  # noqa: E402

project = "tinyalex"
author = "tinyalex contributors"
project_copyright = "tinyalex contributors, MIT"
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx_gallery.gen_gallery"]
extensions += ["pages", "contents", "notebooks", "look", "languages"]
html_math_renderer = "mathml"  # of pages.py
exclude_patterns = ["lessons/GALLERY_HEADER.rst"]

html_theme = "furo"
html_title = "tinyalex"
html_copy_source = html_show_sourcelink = False
templates_path = ["templates"]
html_static_path = ["static"]
html_css_files = ["lessons.css"]
pygments_style = "friendly"

locale_dirs = ["locale"]
gettext_compact = gettext_location = False
gettext_last_translator = gettext_language_team = ""

autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
suppress_warnings = ["ref.python"]  # a parameter in backticks may also name attributes of several classes


def setup(app):
    """Write the reference pages before Sphinx looks for sources."""
    app.connect("builder-inited", reference.write)
    app.connect("autodoc-skip-member", reference.skip)
    app.connect("autodoc-process-docstring", _escape_stars)
    app.connect("build-finished", _write_claims)


def _write_claims(app, exception):
    """Write the page of the paper's claims, which `tinyalex claims --html` also writes."""
    if exception is None and app.config.language == "en":
        (Path(app.outdir) / "claims.html").write_text(page.page(ledger.load()), encoding="utf-8")


def _escape_stars(app, what, name, thing, options, lines):
    """Keep ``(n, *shape)`` in a docstring from being read as the start of italics."""
    lines[:] = [line.replace("*shape", r"\*shape") for line in lines]


sphinx_gallery_conf = {
    "examples_dirs": str(HERE.parent),
    "gallery_dirs": "lessons",
    "filename_pattern": r"/\d\d_\w+\.py$",
    "ignore_pattern": r"(^|/)(alexnet|shared|measure|conf|conftest)\.py$|(^|/)ex\d\d_",
    "within_subsection_order": "FileNameSortKey",
    "nested_sections": False,
    "run_stale_examples": True,  # run each lesson again, since the package may have changed
    "capture_repr": (),
    "remove_config_comments": True,
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 1000,
    "write_computation_times": False,
    "image_scrapers": ("dark.save_light_and_dark",),
    "reset_modules": ("matplotlib", "shared.style", "notebooks.trace"),
}

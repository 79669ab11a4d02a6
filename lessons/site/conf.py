"""How the lessons become pages: ``sphinx-build -W lessons/site lessons/out/site``.

Every lesson is executed for it, and one that fails fails the build. The pages need no network, to build or to read.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))  # the lessons' shared.py

project = "tinyalex"
author = "tinyalex contributors"
project_copyright = "tinyalex contributors, MIT"
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_gallery.gen_gallery"]
exclude_patterns = ["lessons/GALLERY_HEADER.rst"]

html_theme = "furo"
html_title = "tinyalex"
html_copy_source = html_show_sourcelink = False
html_static_path = ["static"]
html_css_files = ["lessons.css"]
pygments_style = "friendly"

autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_google_docstring = False
napoleon_use_rtype = False

napoleon_use_ivar = True
suppress_warnings = ["ref.python"]  # what a package passes on from its modules has two homes


def setup(app):
    """Let ``(n, *shape)`` in a docstring be what it says, and not the beginning of italics."""
    app.connect("autodoc-process-docstring", _stars)


def _stars(app, what, name, thing, options, lines):
    lines[:] = [line.replace("*shape", r"\*shape") for line in lines]


sphinx_gallery_conf = {
    "examples_dirs": str(HERE.parent),
    "gallery_dirs": "lessons",
    "filename_pattern": r"/\d\d_\w+\.py$",
    "ignore_pattern": r"(^|/)(alexnet|shared|measure|conf|conftest)\.py$|(^|/)ex\d\d_",
    "within_subsection_order": "FileNameSortKey",
    "nested_sections": False,
    "run_stale_examples": True,  # a page is as old as the package, not as its script
    "capture_repr": (),
    "remove_config_comments": True,
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 1000,
    "write_computation_times": False,
    "image_scrapers": ("matplotlib",),
    "reset_modules": ("matplotlib", "shared.style"),
    "image_srcset": ["2x"],
}

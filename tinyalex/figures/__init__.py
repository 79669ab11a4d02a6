"""Figures: learning curves, Figures 1 to 4 of the paper, comparisons over several seeds, contact sheets.

The drawing functions return a matplotlib ``Figure`` without using pyplot, so no window and no global state is involved;
`save` writes it to a file, and `attempt` does both, if it can. Matplotlib is imported when something is drawn, not when
this package is imported.
"""

from tinyalex.figures.architecture import architecture
from tinyalex.figures.averages import averages
from tinyalex.figures.colourfulness import colourfulness, specialisation
from tinyalex.figures.contact_sheet import mosaic
from tinyalex.figures.explanation import explanation, heat_maps, needed, overlay, projected, salient
from tinyalex.figures.kernel_grid import kernels
from tinyalex.figures.learning_curves import curves
from tinyalex.figures.neighbours import neighbours
from tinyalex.figures.page import attempt, check_files, save
from tinyalex.figures.race import race
from tinyalex.figures.rate_test import rate_test
from tinyalex.figures.seeds import seeds
from tinyalex.figures.top_five import panel

__all__ = [
    "architecture",
    "attempt",
    "averages",
    "check_files",
    "colourfulness",
    "curves",
    "explanation",
    "heat_maps",
    "kernels",
    "mosaic",
    "needed",
    "neighbours",
    "overlay",
    "panel",
    "projected",
    "race",
    "rate_test",
    "salient",
    "save",
    "seeds",
    "specialisation",
]

"""What people look at: curves, races, architectures, kernels, top-five panels, neighbours, seeds, contact sheets.

Those that draw return a matplotlib ``Figure`` that no window and no global state knows of; `save` writes it. Importing
this package does not import matplotlib: drawing does.
"""

from tinyalex.figures.architecture import architecture
from tinyalex.figures.colourfulness import colourfulness, specialisation
from tinyalex.figures.contact_sheet import mosaic
from tinyalex.figures.kernel_grid import kernels
from tinyalex.figures.learning_curves import curves
from tinyalex.figures.neighbours import neighbours
from tinyalex.figures.page import save
from tinyalex.figures.race import race
from tinyalex.figures.seeds import seeds
from tinyalex.figures.top_five import panel

__all__ = [
    "architecture",
    "colourfulness",
    "curves",
    "kernels",
    "mosaic",
    "neighbours",
    "panel",
    "race",
    "save",
    "seeds",
]
__all__ += ["specialisation"]

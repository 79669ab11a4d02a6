"""What is in a folder besides tinyalex's own list of the files that it made there."""

import os

from tinyalex.system.ownership import MARKER


def names(folder):
    """Return the sorted names in a folder, without the marker."""
    return sorted(set(os.listdir(folder)) - {MARKER})

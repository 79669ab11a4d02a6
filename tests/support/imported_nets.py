"""What imported nets compute, and how far it is from what an oracle computes."""

import numpy as np

from tinyalex.network import alexnet


def computed(imported, pixels):
    """The logits of an imported net for central crops of pixels from 0 to 255."""
    network = alexnet.build(imported.recipe.net, imported.recipe.init, seed=None)
    network.load(imported.state)
    side = imported.recipe.net.input
    first = (len(imported.mean) - side) // 2
    mean = imported.mean[first : first + side, first : first + side]
    return network.forward((pixels - mean) * np.float32(imported.recipe.data.scale))


def error(found, wanted):
    """The largest difference, as a part of the largest number."""
    return np.abs(found - wanted).max() / np.abs(wanted).max()

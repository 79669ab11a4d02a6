"""The net and the batch that all contenders get.

First values are He's, with biases of 0.1, and the images of deviation 1, whatever the recipe has: signals of order one
go through every layer then, and a contender whose net differs is found out at once (`fingerprint`). The speed does not
depend on it.
"""

from dataclasses import replace

import numpy as np

from tinyalex import alexnet, randomness
from tinyalex.layers import LRN
from tinyalex.settings import Init


def describe(recipe, columns=1, convolution="im2col"):
    """Lay out a recipe's net, in its grouped form or in columns.

    In the grouped form normalization runs over all maps, as it does in everybody's one-device AlexNet; in two columns
    each normalizes its own.
    """
    init = Init({"default": "he"}, {"default": 0.1})
    network = alexnet.describe(replace(recipe.net, convolution=convolution), init, columns)
    for _, layer in network.layers():
        if columns == 1 and isinstance(layer, LRN):
            layer.groups = 1
    return network


def batch(recipe, count, seed=0, dtype=np.float32):
    """Draw images of a size that a recipe's net reads, and labels.

    Returns
    -------
    images : ndarray, shape (count, h, w, 3)
    labels : ndarray of int, shape (count,)
    """
    shape = (recipe.net.input, recipe.net.input, 3)
    images = np.empty((count, *shape), dtype)
    for number, image in enumerate(images):  # one by one: what bits take on the way would count as the peak of memory
        bits = randomness.bits(randomness.key(seed, "bench", number), np.arange(np.prod(shape)))
        image[...] = (bits.reshape(shape) * 2.0**-32 - 0.5) * 12**0.5
    labels = randomness.below(randomness.key(seed, "bench labels"), recipe.net.classes, np.arange(count))
    return images, labels


def fingerprint(logits):
    """Return how far the images' logits lie from their mean at test: the same for the same net, whoever computes it."""
    logits = np.asarray(logits, np.float64)
    return float(np.sqrt(np.mean(np.square(logits - logits.mean(axis=0)))))

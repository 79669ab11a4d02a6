"""The net and the batch that all contenders get.

First values are He's, with biases of 0.1, and the images of deviation 1, whatever the recipe has: signals of order one
go through every layer then, and a contender whose net differs is found out at once (`fingerprint`). The speed does not
depend on it.
"""

from dataclasses import replace

import numpy as np

from tinyalex import randomness
from tinyalex.devices.device import Device
from tinyalex.layers import LRN
from tinyalex.network import alexnet
from tinyalex.recipes.settings import Init

INIT = Init({"default": "he"}, {"default": 0.1})


def describe(recipe, columns=1, convolution="im2col"):
    """Lay out a recipe's net, in its grouped form or in columns.

    In the grouped form normalization runs over all maps, as it does in everybody's one-device AlexNet; in two columns
    each normalizes its own.
    """
    return _over_all_maps(alexnet.describe(replace(recipe.net, convolution=convolution), INIT, columns), columns)


def build(recipe, devices, convolution="im2col", tf32=False, kernels=True):
    """Build a recipe's net, as `describe` lays it out, on devices of their names."""
    network = alexnet.build(replace(recipe.net, convolution=convolution), INIT, devices, kernels=kernels)
    for each in network.devices:
        each.tf32 = tf32
    return _over_all_maps(network, len(network.devices))


def _over_all_maps(network, columns):
    for _, layer in network.layers():
        if columns == 1 and isinstance(layer, LRN):
            layer.groups = 1
    return network


def device(name, tf32):
    """Return a device whose products are rounded to TF32, or not."""
    found = Device(name)
    found.tf32 = tf32
    return found


def rounds(device, matmul):
    """Whether products round their factors, as TF32 does: 1 + 2^-12 needs 12 bits behind the point.

    Parameters
    ----------
    device : Device
    matmul : callable
        ``matmul(a, b, out)``
    """
    with device:
        a, b, out = (device.put(np.full((512, 512), value, np.float32)) for value in (1 + 2.0**-12, 1.0, 0.0))
        matmul(a, b, out)
        return bool(float(device.get(out)[0, 0]) < 512.1)  # 512.125 in float32, 512 when rounded


def memory(device):
    """Return the bytes that CuPy's pool took from a card so far, 0 elsewhere."""
    return device.xp.get_default_memory_pool().total_bytes() if device.kind == "cuda" else 0


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

"""The net and the batch that all contenders compute.

Weights are initialized as He et al. do, biases with 0.1, and images have standard deviation 1, whatever the recipe
says: activations are then of order one in every layer, so that `fingerprint` shows at once if a contender's net
differs. The speed does not depend on these values.
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

    In the grouped form, normalization runs over all maps, as in other one-device implementations of AlexNet; with two
    columns, each column normalizes its own maps.
    """
    return _over_all_maps(alexnet.describe(replace(recipe.net, convolution=convolution), INIT, columns), columns)


def build(recipe, devices, convolution="im2col", precision="float32", kernels=True):
    """Build the net of `describe` on the devices with these names."""
    made = replace(recipe.net, convolution=convolution, precision=precision)
    network = alexnet.build(made, INIT, devices, kernels=kernels)
    return _over_all_maps(network, len(network.devices))


def _over_all_maps(network, columns):
    for _, layer in network.layers():
        if columns == 1 and isinstance(layer, LRN):
            layer.groups = 1
    return network


def precision(task):
    """Return the precision, as recipes name it, that a contender's task has in "tf32" and "bf16"."""
    return "bf16" if task.get("bf16") else "tf32" if task.get("tf32") else "float32"


def device(name, precision):
    """Return a device that computes in a precision."""
    found = Device(name)
    found.use(precision)
    return found


def rounds_to_tf32(device, matmul):
    """Whether products round their factors as TF32 does: 1 + 2^-12 needs 12 bits after the point, TF32 has 10.

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


def batch(recipe, count, seed=0, dtype=np.float32):
    """Draw images of the size that a recipe's net reads, and labels.

    Returns
    -------
    images : ndarray, shape (count, h, w, 3)
    labels : ndarray of int, shape (count,)
    """
    shape = (recipe.net.input, recipe.net.input, 3)
    images = np.empty((count, *shape), dtype)
    for number, image in enumerate(images):  # one by one, to keep the peak of memory low
        bits = randomness.bits(randomness.key(seed, "bench", number), np.arange(np.prod(shape)))
        image[...] = (bits.reshape(shape) * 2.0**-32 - 0.5) * 12**0.5
    labels = randomness.below(randomness.key(seed, "bench labels"), recipe.net.classes, np.arange(count))
    return images, labels


def fingerprint(logits):
    """Return the standard deviation of the logits over the images, which is equal for equal nets."""
    logits = np.asarray(logits, np.float64)
    return float(np.sqrt(np.mean(np.square(logits - logits.mean(axis=0)))))

"""The least time that direct convolution can take on this CPU, at its measured rates of matrix products and copies."""

import numpy as np

from tinyalex.network import summary

FLOP = 2  # a multiply-add is a multiplication and an addition


def floors(network, batch, products, copies):
    """Compute the least time of one image.

    Backward needs as many products again for the gradients of the inputs, and again for those of the weights; the
    gradient of the images is not needed. The update reads value, gradient and momentum and writes at least one of them.

    Parameters
    ----------
    network : Network
        Described.
    batch : int
        Images that share an update.
    products : float
        Multiplications and additions a second, float32, on all threads.
    copies : float
        Bytes a second, read and written.

    Returns
    -------
    dict
        Seconds per image: "step", "forward", and "layers", for the layers with weights, forward and backward together.
    """
    work, weights, layers = 0, 0, {}
    for index, column in summary.rows(network).items():
        first = network.stages[0].columns[index][0].name
        for row in column:
            weights += row.parameters
            work += row.multiply_adds
            if row.multiply_adds:
                passes = 2 if row.layer == first else 3
                name = without_column(row.layer)
                layers[name] = layers.get(name, 0.0) + passes * FLOP * row.multiply_adds / products
    update = 4 * np.dtype(np.float32).itemsize * weights / copies / batch
    return {
        "step": sum(layers.values()) + update,
        "forward": FLOP * work / products,
        "layers": layers | {"update": update},
    }


def without_column(name):
    """Return a layer's name without its columns: ``conv2`` for "conv2a conv2b"."""
    first = name.split()[0]
    return first[:-1] if first[-1] in "ab" and first[-2].isdigit() else first

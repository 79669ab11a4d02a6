"""How much memory training needs, from a net's description, and how much there is."""

import os
from pathlib import Path

import numpy as np

from tinyalex.devices import container
from tinyalex.layers import Conv2d, SumOfInputs
from tinyalex.network import summary

COPIES = 3  # of every parameter: value, gradient, momentum
GIB = 2**30


def needed(network, batch):
    """Estimate the bytes that a training step needs in each column, or on each GPU of the authors' files.

    The sum of: every parameter with its gradient and momentum; the images and every layer's output, which backward
    reads; the gradients of one layer's input and output; and one group's patches of the largest convolution, which
    backward computes again. The CPU works in blocks of images and needs less for the patches; a GPU with enough free
    memory keeps those of all convolutions (`tinyalex.kernels.convolution`).

    Parameters
    ----------
    network : Network
        It needs no arrays.
    batch : int

    Returns
    -------
    list of int
    """
    images = 4 * int(np.prod(network.input_shape))
    table = summary.rows(network)
    patches = dict.fromkeys(table, 0)
    for index, layer in network.layers():
        gpu = network.gpus[index]
        for part in layer.layers if isinstance(layer, SumOfInputs) else [layer]:
            if isinstance(part, Conv2d):
                ho, wo, _ = next(row.shape for row in table[gpu] if row.layer == layer.name)
                patches[gpu] = max(patches[gpu], 4 * ho * wo * int(np.prod(part.W.shape[:3])))
    return [
        COPIES * 4 * sum(row.parameters for row in column)
        + batch * (images + sum(sizes := [row.activation_bytes for row in column]) + 2 * max(sizes) + patches[gpu])
        for gpu, column in table.items()
    ]


def warning(network, batch):
    """Return a line if training on the CPU may take more memory than there is, with a batch that fits; else None."""
    total, free = host()
    room = total if free is None else free
    size = sum(needed(network, batch))
    if room is None or size <= room:
        return None
    fixed, image = (sum(needed(network, count)) for count in (0, 1))
    fitting = (room - fixed) // (image - fixed)
    remedy = f"use --set learning.batch={fitting}" if fitting > 0 else "use a smaller net"
    limit = ", the limit of this container," if total == container.memory()[0] else ""
    return (
        f"training with batches of {batch} takes about {size / GIB:.1f} GiB, but {room / GIB:.1f} of "
        f"{total / GIB:.1f} GiB{limit} are free; if the system ends it, {remedy}"
    )


def host():
    """Return the bytes of memory that this process may use, and those that are free; None if unknown.

    Those of the machine, or of the container if it allows less.
    """
    total, free = machine()
    limit, left = container.memory()
    if limit is not None and (total is None or limit < total):
        total, free = limit, min((each for each in (free, left) if each is not None), default=None)
    return total, free


def machine():
    """Return the bytes of memory that this machine has, and those that are free; None if unknown."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        sizes = {line.split(":")[0]: 1024 * int(line.split()[1]) for line in lines if line.endswith("kB")}
        return sizes["MemTotal"], sizes["MemAvailable"]
    except (OSError, ValueError, KeyError):  # not Linux
        try:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), None
        except (ValueError, OSError, AttributeError):
            return None, None

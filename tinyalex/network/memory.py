"""How much memory training needs, from a net's description, and how much the machine has."""

import os
from pathlib import Path

import numpy as np

from tinyalex.layers import Conv2d
from tinyalex.network import summary

COPIES = 3  # of every parameter: value, gradient, momentum


def needed(network, batch):
    """Estimate the bytes that a training step needs in each column.

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
    patches = dict.fromkeys(range(len(network.stages[0].columns)), 0)
    for index, layer in network.layers():
        if isinstance(layer, Conv2d):
            ho, wo, _ = next(row.shape for row in summary.rows(network)[index] if row.layer == layer.name)
            patches[index] = max(patches[index], 4 * ho * wo * int(np.prod(layer.W.shape[:3])))
    return [
        COPIES * 4 * sum(row.parameters for row in column)
        + batch * (images + sum(sizes := [row.activation_bytes for row in column]) + 2 * max(sizes) + patches[index])
        for index, column in summary.rows(network).items()
    ]


def host():
    """Return the bytes of memory that this process may use, and those that are free; None if unknown."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        sizes = {line.split(":")[0]: 1024 * int(line.split()[1]) for line in lines if line.endswith("kB")}
        total, free = sizes["MemTotal"], sizes["MemAvailable"]
    except (OSError, ValueError, KeyError):  # not Linux
        try:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), None
        except (ValueError, OSError, AttributeError):
            return None, None
    limit, used = (_group(name) for name in ("memory.max", "memory.current"))
    if limit and used is not None and limit < total:
        total, free = limit, min(free, limit - used)
    return total, free


def _group(name):
    # A memory figure of this process's container (Linux cgroup), in bytes.
    try:
        return int((Path("/sys/fs/cgroup") / name).read_text(encoding="ascii"))
    except (OSError, ValueError):  # there is no such file, or it says "max"
        return None

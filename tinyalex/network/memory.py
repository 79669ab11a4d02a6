"""How much memory training needs, from a net's description, and how much there is."""

import functools
import os
from pathlib import Path

import numpy as np

from tinyalex.devices import container
from tinyalex.errors import DeviceError
from tinyalex.layers import Conv2d, SumOfInputs
from tinyalex.network import summary
from tinyalex.network.fast import FastStage
from tinyalex.words import counted

COPIES = 3  # of every parameter: value, gradient, momentum
AHEAD = 2  # batches of images that are made, or being made, while one is computed
SAVED = 3  # copies of every parameter when an epoch ends: value and momentum for a checkpoint, another layout for tests
LOOKED_AT = 32  # times the outputs of an image: twice those of 16 images, whose dead units are counted
TESTED = 0.15  # of the blocks of the fast forms: what testing adds to those of training, as measured
LEAST, MOST = 0.7, 1.15  # of the estimate with fast forms: what was measured lies between
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


def on_host(network, batch, fast=True):
    """Estimate the bytes that training needs on the CPU, with its tests and checkpoints, all columns together.

    With NumPy's fast forms, whose arrays are counted, the limits are 30 % below and 15 % above the sum. A step alone
    needs less: the rest is needed when an epoch ends. Python with NumPy and the package, about 60 MB, and the pictures
    that are drawn at the end are not counted. The readable layers need at least the weights, the images and every
    layer's output, and at most what `needed` returns.

    Parameters
    ----------
    network : Network
        It needs no arrays.
    batch : int
    fast : bool
        Whether layers use NumPy's fast forms.

    Returns
    -------
    least, most : int
    """
    rows = [row for column in summary.rows(network).values() for row in column]
    weights = (COPIES + SAVED) * 4 * sum(row.parameters for row in rows)
    images = 4 * int(np.prod(network.input_shape))
    if not fast:
        least = weights + batch * (images + sum(row.activation_bytes for row in rows))
        return least, max(least, sum(needed(network, batch)))
    outputs = 0
    for after in network.shapes[1 : 1 + len(network.trunk)]:
        outputs += 2 * 4 * sum(int(np.prod(shape)) for shape in after if shape)  # with their gradients
    names = {layer.name for stage in network.head for column in stage.columns for layer in column}
    outputs += 3 * sum(row.activation_bytes for row in rows if row.layer in names)
    blocks = sum(stage.memory(batch) for stage in _fast_stages(network))
    looked_at = min(LOOKED_AT, 2 * batch) * sum(row.activation_bytes for row in rows)
    size = weights + looked_at + (1 + TESTED) * blocks + batch * (images * (1 + AHEAD) + outputs)
    return int(LEAST * size), int(MOST * size)


@functools.lru_cache(maxsize=4)
def _fast_stages(network):
    pairs = zip(network.trunk, network.shapes, strict=False)
    return [FastStage(*pair, None, np.dtype("float32")) for pair in pairs if FastStage.supports(*pair)]


def check(network, batch, key="--set learning.batch=", fast=True):
    """Check before a batch is computed on the CPU that there is memory for it.

    Parameters
    ----------
    network : Network
        It needs no arrays.
    batch : int
    key : str
        What a user types before the number of images, in the message.
    fast : bool
        As in `on_host`.

    Returns
    -------
    str or None
        A line, if there may be too little memory.

    Raises
    ------
    DeviceError
        If there is too little, by the least estimate, swap included. The message names a batch that fits.
    """
    total, free = host()
    if (fitting := fits(network, batch, fast)) == batch:
        return None
    room = total if free is None else free
    least, most = on_host(network, batch, fast)
    remedy = f"use {key}{fitting}" if fitting else "use a smaller net"
    limit = ", the limit of this container," if total == container.memory()[0] else ""
    about = (
        f"batches of {counted(batch, 'image')} take about {(least + most) / 2 / GIB:.1f} GiB, but {room / GIB:.1f} of "
        f"{total / GIB:.1f} GiB{limit} are free"
    )
    if least > room + swap():
        raise DeviceError(f"memory: {about}; {remedy}")
    return f"{about}; if the system ends the command, {remedy}"


def fits(network, batch, fast=True):
    """Return how many images, ``batch`` or fewer, fit into the free memory; ``batch`` if that is not known."""
    total, free = host()
    room = total if free is None else free
    # First a bound that takes no time to compute. (The fast forms need up to three times as much for a few images.)
    if room is None or 3 * sum(needed(network, batch)) + GIB <= room or on_host(network, batch, fast)[1] <= room:
        return batch
    return largest(network, room, batch, fast)


def largest(network, room, batch, fast=True):
    """Return about how many images, fewer than ``batch``, fit into ``room`` bytes by the greater estimate; 0: none."""
    low, high = 0, batch  # low fits, high does not
    while high - low > max(1, low // 16):
        middle = (low + high) // 2
        low, high = (middle, high) if on_host(network, middle, fast)[1] <= room else (low, middle)
    return low


def swap():
    """Return the bytes of free swap space, which a container's limit leaves out of account; 0 if unknown."""
    return 0 if host()[0] != machine()[0] else _meminfo().get("SwapFree", 0)


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
    sizes = _meminfo()
    if {"MemTotal", "MemAvailable"} <= sizes.keys():
        return sizes["MemTotal"], sizes["MemAvailable"]
    try:  # not Linux
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), None
    except (ValueError, OSError, AttributeError):
        return None, None


def _meminfo():
    # Linux's table of memory, in bytes; empty elsewhere.
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return {line.split(":")[0]: 1024 * int(line.split()[1]) for line in lines if line.endswith("kB")}
    except (OSError, ValueError):
        return {}

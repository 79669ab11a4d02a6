"""The least time of a training step with im2col on a GPU, from the bytes and operations of each layer (a roofline).

A pass over arrays takes at least its bytes at the rate of a copy, or its operations at the rate of a large matrix
product, whichever is longer; passes run one after the other. Numbers are float32; in bf16 activations, patches and
their gradients have half the bytes, weights and the loss do not. For n images, x and y are a layer's
input and output, W its weights, P its patches, (n ho wo, k k c). How many numbers each pass reads and writes::

    convolution  forward   write patches: x + P              multiply: P + W + y
                 backward  write them again: x + P           weights: P + y + W     biases: y
                           patches' gradient: y + W + P      col2im: P + x          (neither in the first layer)
    linear       forward   x + W + y                         backward  x + y + W, y + W + x, biases: y
    norm         forward   x + y                             backward  x + y + x
    max pooling  forward   x + y, and a byte per index       backward  y + x, and a byte per index
    ReLU, tanh   forward   x + y                             backward  y + y + x
    dropout      forward   x + y, and a byte per mask unit   backward  y + x, and a byte per mask unit
    loss         forward   x                                 backward  x + x
    update       weights, gradients, momenta read; weights, momenta written

The bias is added together with the ReLU. `patches=False` leaves P out: a library may have kernels that form the patches
while they multiply and never write them.
"""

import math
from typing import NamedTuple

from tinyalex.bench.cpu_floor import FLOP, without_column
from tinyalex.layers import LRN, AvgPool, ChannelSlice, Conv2d, Dropout, Linear, MaxPool, ReLU, SpatialNorm, Tanh

ITEM = 4
ITEMS = {"TF32": ITEM, "float32": ITEM, "bf16": 2}  # bytes of an activation's numbers


class Pass(NamedTuple):
    """One pass over arrays.

    Attributes
    ----------
    bytes : int
        Read and written.
    operations : int
        Multiplications and additions.
    patches : int
        How many of the bytes belong to patches.
    """

    bytes: int
    operations: int = 0
    patches: int = 0


def passes(network, batch, item=ITEM):
    """List every pass of a training step.

    Parameters
    ----------
    network : Network
        Described, for one device.
    batch : int
    item : int
        Bytes of a number in an activation: 2 in bf16.

    Returns
    -------
    dict
        ``{"conv1/forward": [Pass, ...], ..., "update": [Pass]}``, in the order of the layers.
    """
    found, shape, weights = {}, network.input_shape, 0
    for _, layer in network.layers():
        after = layer.output_shape(shape)
        x, y = batch * math.prod(shape), batch * math.prod(after)
        forward, backward = _KINDS[type(layer)](layer, x, y, batch * layer.multiply_adds(shape), item)
        found[f"{without_column(layer.name)}/forward"], found[f"{without_column(layer.name)}/backward"] = (
            forward,
            backward,
        )
        shape, weights = after, weights + sum(parameter.size for parameter in layer.parameters)
    size = ITEM * batch * network.classes
    return found | {
        "loss/forward": [Pass(size)],
        "loss/backward": [Pass(2 * size)],
        "update": [Pass(5 * ITEM * weights)],
    }


def least(row, products, copies, patches=True):
    """Return the least seconds that passes take.

    Parameters
    ----------
    row : list of Pass
    products, copies : float
        Operations and bytes a second.
    patches : bool
        Whether patches are written and read.
    """
    return sum(
        max((step.bytes - (0 if patches else step.patches)) / copies, step.operations / products) for step in row
    )


def floors(network, batch, products, copies, patches=True, item=ITEM):
    """Return the least seconds of a batch: "step", "forward", and "layers", whose keys are as in `passes`."""
    layers = {name: least(row, products, copies, patches) for name, row in passes(network, batch, item).items()}
    forward = sum(seconds for name, seconds in layers.items() if name.endswith("/forward") and "loss" not in name)
    return {"step": sum(layers.values()), "forward": forward, "layers": layers}


def summary(network, batch, rates):
    """Return the floors in TF32, float32 and bf16, with and without patches, and each layer's bytes and operations."""

    def of_each(patches):
        return {kind: floors(network, batch, rates[kind], rates["copy"], patches, item) for kind, item in ITEMS.items()}

    return {
        "floors": of_each(patches=True),
        "floors_without_patches": of_each(patches=False),
        "bytes": {name: sum(step.bytes for step in row) for name, row in passes(network, batch).items()},
        "bytes_bf16": {
            name: sum(step.bytes for step in row) for name, row in passes(network, batch, ITEMS["bf16"]).items()
        },
        "operations": {name: sum(step.operations for step in row) for name, row in passes(network, batch).items()},
    }


def _convolution(layer, x, y, madds, item):
    W, P = layer.W.size, y // layer.maps * layer.geometry["kernel"] ** 2 * layer.channels
    write = Pass(item * (x + P), 0, item * P)
    multiply = Pass(item * (P + y) + ITEM * W, FLOP * madds, item * P)
    inputs = [multiply, write] if layer.input_gradient else []  # as many bytes as forward
    return [write, multiply], [write, multiply, Pass(item * y), *inputs]


def _linear(layer, x, y, madds, item):
    multiply = Pass(item * (x + y) + ITEM * layer.W.size, FLOP * madds)
    return [multiply], [multiply, multiply, Pass(item * y)]


def _elementwise(layer, x, y, madds, item):
    return [Pass(item * (x + y))], [Pass(item * (x + 2 * y))]


def _max_pool(layer, x, y, madds, item):
    return [Pass(item * (x + y) + y)], [Pass(item * (x + y) + y)]


def _average_pool(layer, x, y, madds, item):
    return [Pass(item * (x + y))], [Pass(item * (x + y))]


_KINDS = {
    Conv2d: _convolution, Linear: _linear, ReLU: _elementwise, Tanh: _elementwise, LRN: _elementwise,
    SpatialNorm: _elementwise, ChannelSlice: _elementwise, MaxPool: _max_pool, AvgPool: _average_pool,
    Dropout: _max_pool,
}  # fmt: skip

"""A GPU's layers of weights take their bias, ReLU and dropout along: one pass over the outputs instead of three."""

import math

from tinyalex import randomness
from tinyalex.devices.launch import width
from tinyalex.kernels import rectify
from tinyalex.layers import Conv2d, Dropout, Layer, Linear, ReLU
from tinyalex.network.columns import Stage


class FusedLayer(Layer):
    """A layer of weights with what follows it: its bias, ReLU and dropout.

    Parameters
    ----------
    layer : Conv2d or Linear
    relu : ReLU, optional
    dropout : Dropout, optional
    """

    def __init__(self, layer, relu=None, dropout=None):
        self.layer, self.relu, self.dropout = layer, relu, dropout
        self.names, self.device, self.W, self.b = layer.names, layer.device, layer.W, layer.b

    def forward(self, x, training=False, step=None):
        y = self.layer.product(x)
        outputs, part = y.shape[-1], width(y.shape[-1])
        rows = len(y) if y.ndim == 2 else y.size // (outputs * y.shape[-2])
        chance = [0] * 5
        if self.dropout and training:
            key = randomness.key(step.seed, "dropout", self.dropout.stream, step.number)
            chance = [int(self.dropout.p * 2**32), key, key >> 32, step.first, self.dropout.first_unit]
        scale = 1.0 - self.dropout.p if self.dropout and not training else 1.0
        arguments = y, self.b.value, self.relu is not None, scale, *chance
        self.device.launch(rectify.SOURCE, "rectify", rows, y.size // rows // part, *arguments, OUTPUTS=outputs, PART=part)
        self.saved = y, scale
        return y

    def backward(self, dy):
        # y = m max(0, z + b):  dz = dy where y > 0,  db sums dz over its rows
        (y, scale), dy = self.pop_saved(), self.device.xp.ascontiguousarray(dy)
        dz = self.device.empty(dy.shape, dy.dtype) if self.relu else dy
        rows, outputs = dy.size // dy.shape[-1], dy.shape[-1]
        arrays, positive = (dy, y, dz), self.relu is not None
        passes = 1 + (rows > 1 << 8) + (rows > 1 << 13)  # so that no thread has a long way to go
        for left in range(passes, 0, -1):
            stretch = math.ceil(rows ** (1 / left))
            stretches = -(-rows // stretch)
            sums = self.device.empty((stretches, outputs), dy.dtype) if left > 1 else self.b.grad
            settings = rows, stretch, positive, scale
            arguments = *arrays, sums, *settings
            self.device.launch(rectify.SOURCE, "rectify_backward", stretches, outputs, *arguments, OUTPUTS=outputs, PART=1)
            arrays, rows, positive = (sums, sums, sums), stretches, False
        return self.layer.product_backward(dz)


def fuse(stage):
    """Return a stage whose layers of weights take their bias, ReLU and dropout along; its `Parameter`s are the same."""
    columns = []
    for column in stage.columns:
        layers = []
        for layer in column:
            last = layers[-1] if layers and isinstance(layers[-1], FusedLayer) else None
            if isinstance(layer, Conv2d | Linear):
                layers.append(FusedLayer(layer))
            elif isinstance(layer, ReLU) and last and not last.relu:
                last.relu = layer
            elif isinstance(layer, Dropout) and last and last.relu and not last.dropout:
                last.dropout = layer
            else:
                layers.append(layer)
        columns.append(layers)
    return Stage(stage.name, stage.exchange, columns)

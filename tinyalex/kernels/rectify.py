"""Bias, ReLU and dropout on a card, in one pass over a layer's outputs instead of three.

The readable forms are in `tinyalex.layers`: `Conv2d` and `Linear` add their bias, `ReLU` and `Dropout` follow.
"""

import math

from tinyalex import randomness
from tinyalex.columns import Stage
from tinyalex.kernels.launch import width
from tinyalex.layers import Conv2d, Dropout, Layer, Linear, ReLU

SOURCE = """
__device__ unsigned mixed(unsigned x)  // randomness._mix
{
    x = (x ^ (x >> 16)) * 0x7FEB352Du;
    x = (x ^ (x >> 15)) * 0x846CA68Bu;
    return x ^ (x >> 16);
}

__device__ unsigned bits(unsigned low, unsigned high, unsigned image, unsigned unit)  // randomness.bits
{
    unsigned state = mixed(mixed(image * 0x9E3779B9u ^ low) + high);
    return mixed(mixed(unit * 0x9E3779B9u ^ state) + high);
}

// In y's place: y + b, what of it is positive, and of that what dropout keeps; PART neighbouring outputs a thread.
extern "C" __global__ void rectify(real *y, const real *b, int count, int positive, real scale,
                                   int threshold, int low, int high, int image, int unit)
{
    EACH(row, t, count);
    Reals<PART> *const place = (Reals<PART> *)y + (size_t)row * count + t;
    const Reals<PART> bias = ((const Reals<PART> *)b)[t % (OUTPUTS / PART)];
    Reals<PART> values = *place;
    for (int e = 0; e < PART; ++e) {
        real value = values.at[e] + bias.at[e];
        if (positive && value <= 0) value = 0;  // a NaN stays
        if (threshold && bits(low, high, image + row, unit + t * PART + e) < (unsigned)threshold) value = 0;
        values.at[e] = value * scale;
    }
    *place = values;
}

// One column of a stretch of rows: dy where the unit spoke, and their sum.
extern "C" __global__ void rectify_backward(const real *dy, const real *y, real *dz, real *sums, int count,
                                            int rows, int stretch, int positive, real scale)
{
    EACH(row, t, count);  // (stretches, outputs)
    const int last = min(rows, (row + 1) * stretch);
    real sum = 0;
    #pragma unroll 4
    for (int r = row * stretch; r < last; ++r) {
        const size_t at = (size_t)r * count + t;
        real value = dy[at];
        if (positive) {
            value = y[at] > 0 ? value * scale : 0;
            dz[at] = value;
        }
        sum += value;
    }
    sums[(size_t)row * count + t] = sum;
}
"""


class Rectified(Layer):
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

    def forward(self, x, step=None):
        y = self.layer.product(x)
        outputs, part = y.shape[-1], width(y.shape[-1])
        rows = len(y) if y.ndim == 2 else y.size // (outputs * y.shape[-2])
        chance = [0] * 5
        if self.dropout and step:
            key = randomness.key(step.seed, "dropout", self.dropout.stream, step.number)
            chance = [int(self.dropout.p * 2**32), key, key >> 32, step.first, self.dropout.first_unit]
        scale = 1.0 - self.dropout.p if self.dropout and not step else 1.0
        arguments = y, self.b.value, self.relu is not None, scale, *chance
        self.device.launch(SOURCE, "rectify", rows, y.size // rows // part, *arguments, OUTPUTS=outputs, PART=part)
        self.saved = y, scale
        return y

    def backward(self, dy):
        # y = m max(0, z + b):  dz = dy where y > 0,  db sums dz over its rows
        (y, scale), dy = self.recall(), self.device.xp.ascontiguousarray(dy)
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
            self.device.launch(SOURCE, "rectify_backward", stretches, outputs, *arguments, OUTPUTS=outputs, PART=1)
            arrays, rows, positive = (sums, sums, sums), stretches, False
        return self.layer.product_backward(dz)


def rectified(stage):
    """Return a stage whose layers of weights take their bias, ReLU and dropout along; its `Parameter`s are the same."""
    columns = []
    for column in stage.columns:
        layers = []
        for layer in column:
            last = layers[-1] if layers and isinstance(layers[-1], Rectified) else None
            if isinstance(layer, Conv2d | Linear):
                layers.append(Rectified(layer))
            elif isinstance(layer, ReLU) and last and not last.relu:
                last.relu = layer
            elif isinstance(layer, Dropout) and last and last.relu and not last.dropout:
                last.dropout = layer
            else:
                layers.append(layer)
        columns.append(layers)
    return Stage(stage.name, stage.exchange, columns)

"""Bias, ReLU and dropout on a GPU, in one pass over a layer's outputs instead of three.

The readable forms are in `tinyalex.layers`: `Conv2d` and `Linear` add their bias, `ReLU` and `Dropout` follow.
"""

import math

from tinyalex.devices.launch import width

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

// Overwrite y with y + b, then ReLU, then dropout; PART neighbouring outputs for each thread.
extern "C" __global__ void rectify(store *y, const real *b, int count, int positive, real scale,
                                   int threshold, int low, int high, int image, int unit)
{
    EACH(row, t, count);
    Vector<store, PART> *const outputs = (Vector<store, PART> *)y + (size_t)row * count + t;
    const Vector<real, PART> bias = ((const Vector<real, PART> *)b)[t % (OUTPUTS / PART)];
    Vector<store, PART> values = *outputs;
    for (int e = 0; e < PART; ++e) {
        real value = values.at[e] + bias.at[e];
        if (positive && value <= 0) value = 0;  // a NaN stays
        if (threshold && bits(low, high, image + row, unit + t * PART + e) < (unsigned)threshold) value = 0;
        values.at[e] = value * scale;
    }
    *outputs = values;
}

// One column of a stretch of rows: dy where the unit's output was positive, and their sum.
extern "C" __global__ void rectify_backward(const store *dy, const store *y, store *dz, real *sums, int count,
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


def rectify(device, y, b, positive, scale=1.0, mask=None):
    """Add the bias to y in place, and apply ReLU and dropout.

    Parameters
    ----------
    device : Device
    y : array, shape (n, ..., outputs)
        Contiguous; overwritten.
    b : array, shape (outputs,)
    positive : bool
        Whether to apply ReLU.
    scale : float
        What every output is multiplied by: dropout's 1 - p at test.
    mask : tuple, optional
        Dropout in training: ``(p, key, first image, first unit)``, where `tinyalex.randomness.bits` of the key, the
        image and the unit decide. Of (n, outputs) only.
    """
    if not y.size:
        return
    outputs, part = y.shape[-1], width(y.shape[-1])
    rows = len(y) if y.ndim == 2 else y.size // (outputs * y.shape[-2])
    draw = [0] * 5
    if mask:
        p, key, image, unit = mask
        draw = [int(p * 2**32), key, key >> 32, image, unit]
    arguments = y, b, positive, scale, *draw
    device.launch(SOURCE, "rectify", rows, y.size // rows // part, *arguments, OUTPUTS=outputs, PART=part)


def rectify_backward(device, dy, y, db, positive, scale=1.0):
    """Return the gradient before bias, ReLU and dropout, and write the bias's gradient to ``db``.

    Parameters
    ----------
    device : Device
    dy, y : array, shape (n, ..., outputs)
        y is the result of `rectify`; where it is 0, a ReLU or dropout stopped the output.
    db : array, shape (outputs,)
    positive, scale
        As in `rectify`.
    """
    if not dy.size:
        db[...] = 0
        return dy
    dy = device.xp.ascontiguousarray(dy)
    dz = device.empty(dy.shape, dy.dtype) if positive else dy
    rows, outputs = dy.size // dy.shape[-1], dy.shape[-1]
    arrays = dy, y, dz
    passes = 1 + (rows > 1 << 8) + (rows > 1 << 13)  # partial sums, so that no thread adds up too many rows
    for left in range(passes, 0, -1):
        stretch = math.ceil(rows ** (1 / left))
        stretches = -(-rows // stretch)
        sums = device.empty((stretches, outputs), db.dtype) if left > 1 else db
        arguments = *arrays, sums, rows, stretch, positive, scale
        device.launch(SOURCE, "rectify_backward", stretches, outputs, *arguments, OUTPUTS=outputs, PART=1)
        arrays, rows, positive = (sums, sums, sums), stretches, False
    return dz

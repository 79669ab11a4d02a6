"""ReLU on a GPU, where no layer with weights comes right before; `tinyalex.layers.activation` has the readable form."""

import math

SOURCE = """
extern "C" __global__ void relu(const store *x, store *y, int count)
{
    EACH(row, t, count);
    const size_t at = (size_t)row * count + t;
    const real value = x[at];
    y[at] = value <= 0 ? 0 : value;  // a NaN stays
}

extern "C" __global__ void relu_backward(const store *dy, const store *y, store *dx, int count)
{
    EACH(row, t, count);
    const size_t at = (size_t)row * count + t;
    dx[at] = y[at] > 0 ? (real)dy[at] : 0;
}
"""


def forward(device, x):
    """Return max(0, x), of any shape."""
    return _launch(device, "relu", x)


def backward(device, dy, y):
    """Return dy where y, the result of forward, is above 0, and 0 elsewhere."""
    return _launch(device, "relu_backward", dy, y)


def _launch(device, name, *arrays):
    arrays = [device.xp.ascontiguousarray(array) for array in arrays]
    result = device.empty(arrays[0].shape, arrays[0].dtype)
    count = math.prod(result.shape[-2:])  # a row of pixels
    device.launch(SOURCE, name, result.size // count, count, *arrays, result)
    return result

"""ReLU for NumPy; the readable form is in `tinyalex.layers.activation`."""

from tinyalex.kernels.cpu.masks import masked


def relu(device, x):
    """Return max(0, x)."""
    zeros = device.zeros(x.shape[-2:], x.dtype)  # with an array of zeros maximum is twice as fast as with the number 0
    return device.xp.maximum(x, zeros, out=device.empty(x.shape, x.dtype))


def relu_backward(device, dy, y):
    """Return dx, dy where y > 0 and 0 elsewhere."""
    return masked(device, dy, y > 0, out=device.empty(dy.shape, dy.dtype))

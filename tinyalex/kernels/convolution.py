"""Convolution's matrix products on a GPU; the readable form is in `tinyalex.layers.convolution`.

It differs in two things. Forward keeps the patches for backward if the GPU has the memory. And a patch's length is
rounded up to a multiple of four, which tensor cores need: conv1's 363 numbers become 364, of which the last is zero,
and the weights get a row of zeros. (In bfloat16 it is a multiple of eight, 368.)
"""

from tinyalex.devices.parallel import ranges
from tinyalex.kernels import parts, patches

ROOM = 20  # patches are kept if the GPU's memory holds one layer's patches this many times


def product(device, x, W, ho, wo, kernel, stride, pad, groups):
    """Convolve without the bias.

    Parameters
    ----------
    device : Device
    x : array, shape (n, h, w, c)
    W : array, shape (k, k, c / groups, o)
    ho, wo : int
        Output positions down and across.
    kernel, stride, pad, groups : int

    Returns
    -------
    y : array, shape (n, ho, wo, o)
    saved : tuple
        For `product_backward`.
    """
    x = device.xp.ascontiguousarray(x)  # in a slice of wider images, four numbers may not be aligned to be read at once
    maps = W.shape[3]
    W = W.reshape(-1, maps)  # (k k c/g, o)
    y, kept = device.empty((len(x) * ho * wo, maps), x.dtype), []
    for inputs, outputs in _groups(x, W, groups):
        P = patches.im2col(device, x[..., inputs], ho, wo, kernel, stride, pad)  # (n ho wo, k k c/g), rounded up
        device.matmul(P, _rounded(device, W[:, outputs], P.shape[1]), out=y[:, outputs])
        if P.nbytes * groups * ROOM <= device.memory:
            kept.append(P)
        del P  # free it before the next group's patches are made
    return y.reshape(len(x), ho, wo, maps), (x, kept)


def product_backward(device, dy, saved, W, dW, kernel, stride, pad, groups, input_gradient):
    """Write the weights' gradient to ``dW`` and return dx, or None without ``input_gradient``."""
    (x, kept), (_, ho, wo, maps) = saved, dy.shape
    W, dW = W.reshape(-1, maps), dW.reshape(-1, maps)
    dy = dy.reshape(-1, maps)  # (n ho wo, o)
    dx = device.empty(x.shape, dy.dtype) if input_gradient else None
    for number, (inputs, outputs) in enumerate(_groups(x, W, groups)):
        P = kept[number] if kept else patches.im2col(device, x[..., inputs], ho, wo, kernel, stride, pad)
        if P.shape[1] == len(W):
            device.matmul(P.T, dy[:, outputs], out=dW[:, outputs])
        else:
            rounded = device.empty((P.shape[1], maps // groups), dW.dtype)
            parts.copy(device, dW[:, outputs], device.matmul(P.T, dy[:, outputs], out=rounded)[: len(W)])
        if input_gradient:
            weights = _rounded(device, W[:, outputs], P.shape[1])
            dP = device.matmul(dy[:, outputs], weights.T, out=P)  # reuse P's buffer
            patches.col2im(device, dP, dx[..., inputs], ho, wo, kernel, stride, pad)
            del dP
        del P
    return dx


def _groups(x, W, groups):
    # For each group the slices of its channels and of its maps.
    return zip(ranges(x.shape[3], groups), ranges(W.shape[1], groups), strict=True)


def _rounded(device, W, length):
    # W with rows of zeros below it, ``length`` rows in all.
    if len(W) == length:
        return W
    whole = device.zeros((length, W.shape[1]), W.dtype)
    parts.copy(device, whole[: len(W)], W)
    return whole

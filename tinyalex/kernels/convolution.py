"""Convolution's products on a card; the readable form is in `tinyalex.layers.convolution`.

Two things are otherwise. Patches are kept from forward for backward, where the card has room. And a patch takes a
multiple of four numbers, as tensor cores want it: conv1's 363 are 364, the last one zero, before a row of zeros in the
weights.
"""

from tinyalex.devices.parallel import ranges
from tinyalex.kernels import patches

ROOM = 20  # a card has room if its memory holds one layer's patches so many times


def product(layer, x):
    """Run `Conv2d` forward but for the bias."""
    device, W = layer.device, layer.W.value.reshape(-1, layer.maps)  # (k k c/g, o)
    x = device.xp.ascontiguousarray(x)  # a part of wider images may begin where four numbers cannot be read at once
    ho, wo, o = layer.output_shape(x.shape[1:])
    layer.saved = None  # what a forward without a backward has left makes room
    y, kept = device.empty((len(x) * ho * wo, o), x.dtype), []
    for inputs, outputs in _groups(layer):
        P = patches.im2col(device, x[..., inputs], ho, wo, *_window(layer))  # (n ho wo, k k c/g), rounded up
        device.matmul(P, _rounded(device, W[:, outputs], P.shape[1]), out=y[:, outputs])
        if P.nbytes * layer.groups * ROOM <= device.memory:
            kept.append(P)
        del P  # before the next group's
    layer.saved = x, kept
    return y.reshape(len(x), ho, wo, o)


def product_backward(layer, dy):
    """Run `Conv2d` backward but for the bias."""
    (x, kept), device, (_, ho, wo, _) = layer.pop_saved(), layer.device, dy.shape
    W, dW = layer.W.value.reshape(-1, layer.maps), layer.W.grad.reshape(-1, layer.maps)
    dy = dy.reshape(-1, layer.maps)  # (n ho wo, o)
    dx = device.empty(x.shape, dy.dtype) if layer.input_gradient else None
    for number, (inputs, outputs) in enumerate(_groups(layer)):
        P = kept[number] if kept else patches.im2col(device, x[..., inputs], ho, wo, *_window(layer))
        if P.shape[1] == len(W):
            device.matmul(P.T, dy[:, outputs], out=dW[:, outputs])
        else:
            rounded = device.empty((P.shape[1], layer.maps // layer.groups), dy.dtype)
            dW[:, outputs] = device.matmul(P.T, dy[:, outputs], out=rounded)[: len(W)]
        if layer.input_gradient:
            dP = device.matmul(dy[:, outputs], _rounded(device, W[:, outputs], P.shape[1]).T, out=P)  # P did its duty
            patches.col2im(device, dP, dx[..., inputs], ho, wo, *_window(layer))
            del dP
        del P
    return dx


def _groups(layer):
    return zip(ranges(layer.channels, layer.groups), ranges(layer.maps, layer.groups), strict=True)


def _window(layer):
    return [layer.geometry[what] for what in ("kernel", "stride", "pad")]


def _rounded(device, W, length):
    # W with rows of zeros until there are ``length``.
    if len(W) == length:
        return W
    whole = device.zeros((length, W.shape[1]), W.dtype)
    whole[: len(W)] = W
    return whole

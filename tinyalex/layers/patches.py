"""Patches of images as the rows of a matrix, and back: im2col and col2im."""

from tinyalex.devices.device import Array, Device
from tinyalex.errors import ShapeError


def positions(size: int, window: int, stride: int, pad: int, rounding: str) -> int:
    """Count the output positions of a window along one side.

    Rounded up ("ceil", as in 2012), an 11-pixel window at stride 4 has 55 positions on 224 pixels; rounded down
    ("floor"), on 227. Where a window hangs over the edge, it reads zeros.
    """
    span = size + 2 * pad - window
    if span < 0:
        raise ShapeError(f"a side of {size} pixels is too small for a {window}-pixel window; feed larger images")
    return 1 + (-(-span // stride) if rounding == "ceil" else span // stride)


def im2col(device: Device, x: Array, kernel: int, stride: int = 1, pad: int = 0, rounding: str = "floor") -> Array:
    """Copy every k x k patch of images into a row of a matrix.

    Parameters
    ----------
    device : Device
    x : array, shape (n, h, w, c)
    kernel, stride, pad, rounding
        As in `Conv2d`.

    Returns
    -------
    array, shape (n * ho * wo, k * k * c)
    """
    n, h, w, c = x.shape
    ho, wo = (positions(size, kernel, stride, pad, rounding) for size in (h, w))
    padded = _pad(device, x, (ho - 1) * stride + kernel, (wo - 1) * stride + kernel, pad)
    view = device.xp.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(1, 2))
    patches = device.empty((n, ho, wo, kernel, kernel, c), x.dtype)
    patches[...] = view[:, ::stride, ::stride].transpose(0, 1, 2, 4, 5, 3)  # runs of k * c stay together
    return patches.reshape(n * ho * wo, kernel * kernel * c)


def col2im(
    device: Device,
    patches: Array,
    shape: tuple[int, ...],
    kernel: int,
    stride: int = 1,
    pad: int = 0,
    rounding: str = "floor",
) -> Array:
    """Add up patches to images, an array of ``shape``: the adjoint of `im2col`.

    Parameters
    ----------
    device : Device
    patches : array, shape (n * ho * wo, k * k * c)
    shape : tuple of int
        The images', (n, h, w, c).
    """
    n, h, w, c = shape
    ho, wo = (positions(size, kernel, stride, pad, rounding) for size in (h, w))
    patches = patches.reshape(n, ho, wo, kernel, kernel, c)
    height, width = (ho - 1) * stride + kernel, (wo - 1) * stride + kernel
    x = device.zeros((n, max(height, pad + h), max(width, pad + w), c), patches.dtype)
    for u in range(kernel):
        for v in range(kernel):
            x[:, u : u + stride * ho : stride, v : v + stride * wo : stride] += patches[:, :, :, u, v]
    return x[:, pad : pad + h, pad : pad + w]


def _pad(device: Device, x: Array, height: int, width: int, pad: int) -> Array:
    # Return exactly the pixels that the windows read: `pad` zeros left and above, and zeros right and below as far as
    # windows reach.
    n, h, w, c = x.shape
    if pad == 0 and height <= h and width <= w:
        return x[:, :height, :width]
    padded = device.zeros((n, height, width, c), x.dtype)
    inside = x[:, : max(0, height - pad), : max(0, width - pad)]  # none where all windows lie in the padding
    padded[:, pad : pad + inside.shape[1], pad : pad + inside.shape[2]] = inside
    return padded

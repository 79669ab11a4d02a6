"""Pooling for NumPy; the readable forms are in `tinyalex.layers.pooling`.

A window is pooled along its rows first, then along its columns: z + z passes over the image instead of z z. The first
maximum of the first row that has one is the first maximum in row-major order. A NaN counts as the largest number.
"""

from tinyalex.kernels.cpu.masks import masked


def max_pool(device, x, shape, window, stride):
    """Pool x (n, h, w, c) to ``shape`` (n, ho, wo, c); return y and what backward needs."""
    for larger in (device.xp.greater, _larger_or_nan):
        rows, across = _largest(device, x, 2, shape[2], window, stride, larger)  # (n, h, wo, c)
        y, down = _largest(device, rows, 1, shape[1], window, stride, larger)  # (n, ho, wo, c)
        if not device.xp.isnan(y.max()):  # else again, by the slower comparison, which finds the first NaN
            break
    return y, (x.shape, rows.shape, across, down)


def _larger_or_nan(a, b):
    return (a > b) | ((a != a) & (b == b))


def max_pool_backward(device, dy, saved, window, stride):
    """Return dx: each window's gradient goes to its first maximum."""
    shape, rows, across, down = saved
    dy = _to_winners(device, dy, down, rows, 1, window, stride)
    return _to_winners(device, dy, across, shape, 2, window, stride)


def _largest(device, x, axis, units, window, stride, larger):
    # The maximum along one axis and, in a byte (or two), the first maximum's index in the window.
    xp, ((_, first), *others) = device.xp, _taps(x.shape, axis, units, window, stride)
    y = device.empty(_pooled(x.shape, axis, units), x.dtype)
    winners = device.zeros(y.shape, "uint8" if window <= 256 else "uint16")
    y[...] = x[first]
    for index, (outputs, pixels) in enumerate(others, 1):
        found = larger(x[pixels], y[outputs])
        if index == 1:
            winners[outputs] = found
        else:
            xp.maximum(winners[outputs], found * winners.dtype.type(index), out=winners[outputs])
        xp.maximum(y[outputs], x[pixels], out=y[outputs])
    return y, winners


def _to_winners(device, dy, winners, shape, axis, window, stride):
    # The reverse of `_largest`, to an array of ``shape``.
    dx, given = device.zeros(shape, dy.dtype), device.empty(dy.shape, dy.dtype)
    for index, (outputs, pixels) in enumerate(_taps(shape, axis, dy.shape[axis], window, stride)):
        won = winners[outputs] == index
        if index < stride:  # the first gradient that these pixels get
            masked(device, dy[outputs], won, out=dx[pixels])
        else:
            dx[pixels] += masked(device, dy[outputs], won, out=given[outputs])
    return dx


def average_pool(device, x, shape, window, stride):
    """Average x (n, h, w, c) over windows clipped at the edges, to ``shape`` (n, ho, wo, c); return y and the areas."""
    areas = device.xp.ones((1, *x.shape[1:3], 1), x.dtype)
    for axis in (2, 1):
        x = _sum(device, x, axis, shape[axis], window, stride)
        areas = _sum(device, areas, axis, shape[axis], window, stride)  # (1, ho, wo, 1) in the end
    return x / areas, areas


def average_pool_backward(device, dy, areas, shape, window, stride):
    """Return dx of ``shape`` (n, h, w, c): every pixel of a window gets dy / area."""
    n, h, w, c = shape
    dx = dy / areas
    for axis, before in (1, (n, h, dy.shape[2], c)), (2, (n, h, w, c)):
        share, dx = dx, device.zeros(before, dy.dtype)
        for outputs, pixels in _taps(before, axis, dy.shape[axis], window, stride):
            dx[pixels] += share[outputs]
    return dx


def _sum(device, x, axis, units, window, stride):
    y = device.zeros(_pooled(x.shape, axis, units), x.dtype)
    for outputs, pixels in _taps(x.shape, axis, units, window, stride):
        y[outputs] += x[pixels]
    return y


def _pooled(shape, axis, units):
    return *shape[:axis], units, *shape[axis + 1 :]


def _taps(shape, axis, units, window, stride):
    # For each index in the window, along one axis: the outputs whose window has a pixel there, and these pixels.
    every = (slice(None),) * axis
    for index in range(window):
        count = min(units, -(-(shape[axis] - index) // stride))
        yield (*every, slice(count)), (*every, slice(index, index + stride * count, stride))

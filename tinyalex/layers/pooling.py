"""Pooling: each unit summarizes a z x z neighbourhood, s pixels after its neighbour's (paper §3.4).

s = 2 and z = 3 overlap; s = z = 2 do not. The last window may hang over the edge (rounding "ceil", 2012) and is clipped
there. n images, h x w pixels, c channels, ho x wo units.
"""

from tinyalex.devices.launch import instead
from tinyalex.kernels import pooling
from tinyalex.layers.layer import Layer
from tinyalex.layers.patches import positions


class _Pool(Layer):
    """Pool (n, h, w, c) to (n, ho, wo, c).

    Parameters
    ----------
    window, stride : int
        z and s.
    rounding : {"floor", "ceil"}
    """

    def __init__(self, window=3, stride=2, rounding="ceil"):
        self.window, self.stride, self.rounding = window, stride, rounding
        self.expect(window >= stride, (window,), f"a window of {stride} or more, to leave no pixel out")

    def output_shape(self, shape):
        self.expect(len(shape) == 3, shape, "(height, width, channels)")
        self.expect(min(shape[:2]) >= self.window, shape, f"{self.window} pixels a side or more: feed larger images")
        return *(positions(side, self.window, self.stride, 0, self.rounding) for side in shape[:2]), shape[2]

    def _pooled(self, shape, axis):
        units = positions(shape[axis], self.window, self.stride, 0, self.rounding)
        return *shape[:axis], units, *shape[axis + 1 :]

    def _taps(self, shape, axis):
        # For each place in the window, along one axis: the units whose window has a pixel there, and these pixels.
        every, units = (slice(None),) * axis, self._pooled(shape, axis)[axis]
        for place in range(self.window):
            count = min(units, -(-(shape[axis] - place) // self.stride))
            yield (*every, slice(count)), (*every, slice(place, place + self.stride * count, self.stride))


class MaxPool(_Pool):
    """Take the largest; in backward the first of several largest, row by row, gets the gradient."""

    @instead(pooling.max_pool)
    def forward(self, x, training=False, step=None):
        self.output_shape(x.shape[1:])
        rows, across = self._largest(x, 2)  # (n, h, wo, c)
        y, down = self._largest(rows, 1)  # (n, ho, wo, c)
        self.saved = x.shape, rows.shape, across, down
        return y

    @instead(pooling.max_pool_backward)
    def backward(self, dy):
        # dx = the sum, over the windows that a pixel won, of their dy
        shape, rows, across, down = self.pop_saved()
        return self._to_winners(self._to_winners(dy, down, rows, 1), across, shape, 2)

    def _largest(self, x, axis):
        # The largest along one axis, and in a byte, or two, its place in the window, the first of several.
        xp, ((_, first), *others) = self.device.xp, self._taps(x.shape, axis)
        y = self.device.empty(self._pooled(x.shape, axis), x.dtype)
        winners = self.device.zeros(y.shape, "uint8" if self.window <= 256 else "uint16")
        y[...] = x[first]
        for place, (units, pixels) in enumerate(others, 1):
            xp.maximum(winners[units], (x[pixels] > y[units]) * winners.dtype.type(place), out=winners[units])
            xp.maximum(y[units], x[pixels], out=y[units])
        return y, winners

    def _to_winners(self, dy, winners, shape, axis):  # `shape`: before the pooling
        dx, given = self.device.zeros(shape, dy.dtype), self.device.empty(dy.shape, dy.dtype)
        for place, (units, pixels) in enumerate(self._taps(shape, axis)):
            won = winners[units] == place
            if place < self.stride:  # pixels that no window has met so far
                self.device.xp.multiply(dy[units], won, out=dx[pixels])
            else:
                dx[pixels] += self.device.xp.multiply(dy[units], won, out=given[units])
        return dx


class AvgPool(_Pool):
    """Take the mean of the pixels that lie inside the image (2012: ``conv_util.cuh``)."""

    @instead(pooling.average_pool)
    def forward(self, x, training=False, step=None):
        self.output_shape(x.shape[1:])
        self.saved = x.shape
        return self._sum(self._sum(x, 2), 1) / self._areas(x.shape, x.real.dtype)

    @instead(pooling.average_pool_backward)
    def backward(self, dy):
        # y = sum / area:  every pixel of a window gets dy / area
        n, h, w, c = shape = self.pop_saved()
        dx = dy / self._areas(shape, dy.real.dtype)
        for axis, shape in (1, (n, h, dy.shape[2], c)), (2, (n, h, w, c)):
            share, dx = dx, self.device.zeros(shape, dy.dtype)
            for units, pixels in self._taps(shape, axis):
                dx[pixels] += share[units]
        return dx

    def _sum(self, x, axis):
        y = self.device.zeros(self._pooled(x.shape, axis), x.dtype)
        for units, pixels in self._taps(x.shape, axis):
            y[units] += x[pixels]
        return y

    def _areas(self, shape, dtype):
        ones = self.device.xp.ones((1, *shape[1:3], 1), dtype)
        return self._sum(self._sum(ones, 2), 1)  # (1, ho, wo, 1): smaller where a window is clipped

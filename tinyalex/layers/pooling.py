"""Pooling: each unit summarizes a z x z neighbourhood, s pixels after its neighbour's (paper §3.4).

s = 2 and z = 3 overlap; s = z = 2 do not. The last window may hang over the edge (rounding "ceil", 2012) and is clipped
there. n images, h x w pixels, c channels, ho x wo units.
"""

from tinyalex.kernels import pooling
from tinyalex.kernels.launch import instead
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

    def _offsets(self, size):
        # For each offset in the window: the units whose window has a pixel there, and these pixels.
        places = positions(size, self.window, self.stride, 0, self.rounding)
        for offset in range(self.window):
            count = min(places, -(-(size - offset) // self.stride))
            yield slice(count), slice(offset, offset + self.stride * count, self.stride)

    def _taps(self, h, w):
        # The same in two dimensions, as indices of (n, ho, wo, c) and of (n, h, w, c), row by row.
        every = slice(None)
        for rows, down in self._offsets(h):
            yield from (((every, rows, columns), (every, down, across)) for columns, across in self._offsets(w))


class MaxPool(_Pool):
    """Take the largest; in backward the first of several largest, row by row, gets the gradient."""

    @instead(pooling.max_pool)
    def forward(self, x, step=None):
        ho, wo, _ = self.output_shape(x.shape[1:])
        n, h, w, c = x.shape
        rows, y = self.device.empty((n, ho, w, c), x.dtype), self.device.empty((n, ho, wo, c), x.dtype)
        self._maximum([(rows[:, units], x[:, pixels]) for units, pixels in self._offsets(h)])
        self._maximum([(y[:, :, units], rows[:, :, pixels]) for units, pixels in self._offsets(w)])
        self.saved = x, y
        return y

    def _maximum(self, taps):
        largest, pixels = taps[0]
        largest[...] = pixels
        for largest, pixels in taps[1:]:
            self.device.xp.maximum(largest, pixels, out=largest)

    @instead(pooling.max_pool_backward)
    def backward(self, dy):
        # dx = the sum, over the windows that a pixel won, of their dy
        x, y = self.recall()
        dx = self.device.zeros(x.shape, dy.dtype)
        undecided = self.device.xp.ones(y.shape, dtype=bool)  # windows whose winner has not been met yet
        for units, pixels in self._taps(*x.shape[1:3]):
            won = (x[pixels] == y[units]) & undecided[units]
            undecided[units] ^= won
            dx[pixels] += dy[units] * won
        return dx


class AvgPool(_Pool):
    """Take the mean of the pixels that lie inside the image (2012: ``conv_util.cuh``)."""

    @instead(pooling.average_pool)
    def forward(self, x, step=None):
        y = self.device.zeros((len(x), *self.output_shape(x.shape[1:])), x.dtype)
        for units, pixels in self._taps(*x.shape[1:3]):
            y[units] += x[pixels]
        self.saved = x.shape
        return y / self._areas(x.shape, x.real.dtype)

    @instead(pooling.average_pool_backward)
    def backward(self, dy):
        # y = sum / area:  every pixel of a window gets dy / area
        shape = self.recall()
        dx, share = self.device.zeros(shape, dy.dtype), dy / self._areas(shape, dy.real.dtype)
        for units, pixels in self._taps(*shape[1:3]):
            dx[pixels] += share[units]
        return dx

    def _areas(self, shape, dtype):
        # Pixels in each window, (1, ho, wo, 1): fewer where it is clipped.
        areas = self.device.zeros((1, *self.output_shape(shape[1:])[:2], 1), dtype)
        for units, _ in self._taps(*shape[1:3]):
            areas[units] += 1
        return areas

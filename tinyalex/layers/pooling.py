"""Pooling: each unit summarizes a z x z neighbourhood, s pixels after its neighbour's (paper §3.4).

s = 2 and z = 3 overlap; s = z = 2 do not. The last window may hang over the edge (rounding "ceil", 2012) and is clipped
there. n images, h x w pixels, c channels, ho x wo units.
"""

from collections.abc import Iterator

from tinyalex.devices.device import Array
from tinyalex.kernels import pooling as cuda_kernels
from tinyalex.layers.layer import Layer
from tinyalex.layers.patches import positions
from tinyalex.randomness import Step

Index = tuple[slice, ...]


class _Pool(Layer):
    """Pool (n, h, w, c) to (n, ho, wo, c).

    Parameters
    ----------
    window, stride : int
        z and s.
    rounding : {"floor", "ceil"}

    Raises
    ------
    ShapeError
        If an argument is out of range, or the window is smaller than the stride.
    """

    def __init__(self, window: int = 3, stride: int = 2, rounding: str = "ceil") -> None:
        self.window, self.stride = self.whole(window=window, stride=stride)
        self.rounding = self.rounding_of(rounding)
        self.expect(window >= stride, (window,), f"a window of {stride} or more, to leave no pixel out")

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        self.expect(len(shape) == 3, shape, "(height, width, channels)")
        self.expect(min(shape[:2]) >= self.window, shape, f"{self.window} pixels a side or more: feed larger images")
        return *(positions(side, self.window, self.stride, 0, self.rounding) for side in shape[:2]), shape[2]

    def taps(self, shape: tuple[int, ...]) -> Iterator[tuple[Index, Index]]:
        """For each pixel of a window, in row-major order, yield two indices of equal length.

        The first selects, in an array (n, ho, wo, c), the units whose window has this pixel inside the image; the
        second selects these pixels in an array (n, h, w, c) of ``shape``.
        """
        (_, h, w, _), (ho, wo, _), s = shape, self.output_shape(shape[1:]), self.stride
        for u in range(self.window):
            for v in range(self.window):
                rows, columns = min(ho, -(-(h - u) // s)), min(wo, -(-(w - v) // s))
                units = slice(None), slice(rows), slice(columns)
                yield units, (slice(None), slice(u, u + s * rows, s), slice(v, v + s * columns, s))


class MaxPool(_Pool):
    """Take the largest; in backward the first of several largest, in row-major order, gets the gradient.

    A NaN counts as the largest number.

    >>> import numpy as np
    >>> pool = MaxPool(window=2, stride=2)
    >>> pool.forward(np.arange(4.0).reshape(1, 2, 2, 1)).ravel()
    array([3.])
    >>> pool.backward(np.ones((1, 1, 1, 1))).ravel()
    array([0., 0., 0., 1.])
    """

    def forward(self, x: Array, training: bool = False, step: Step | None = None) -> Array:
        shape = len(x), *self.check_input(x)
        if kernels := self.kernels_for(x, cuda=cuda_kernels):
            y, self.saved = kernels.max_pool(self.device, x, shape, self.window, self.stride)
            return y
        (_, corners), *others = self.taps(x.shape)  # every window has its first pixel inside the image
        y = self.device.empty(shape, x.dtype)
        y[...] = x[corners]
        for units, pixels in others:
            y[units] = self.device.xp.maximum(y[units], x[pixels])
        self.saved = x, y
        return y

    def backward(self, dy: Array) -> Array:
        # dx = the sum of dy over the windows in which a pixel is the first maximum
        saved = self.pop_saved()
        if kernels := self.kernels_of_forward(dy):
            return kernels.max_pool_backward(self.device, dy, saved, self.window, self.stride)
        x, y = saved
        dx, found = self.device.zeros(x.shape, dy.dtype), self.device.zeros(y.shape, bool)
        for units, pixels in self.taps(x.shape):
            # A NaN is the largest; it differs from itself.
            largest = (x[pixels] == y[units]) | (x[pixels] != x[pixels])
            first = largest & ~found[units]
            dx[pixels] += self.device.xp.where(first, dy[units], 0)
            found[units] |= first
        return dx


class AvgPool(_Pool):
    """Take the mean of the pixels that lie inside the image (2012: ``conv_util.cuh``).

    >>> import numpy as np
    >>> pool = AvgPool(window=2, stride=2)
    >>> pool.forward(np.arange(4.0).reshape(1, 2, 2, 1)).ravel()
    array([1.5])
    >>> pool.backward(np.ones((1, 1, 1, 1))).ravel()
    array([0.25, 0.25, 0.25, 0.25])
    """

    def forward(self, x: Array, training: bool = False, step: Step | None = None) -> Array:
        shape = len(x), *self.check_input(x)
        if kernels := self.kernels_for(x, cuda=cuda_kernels):
            y, saved = kernels.average_pool(self.device, x, shape, self.window, self.stride)
            self.saved = x.shape, saved
            return y
        y, area = self.device.zeros(shape, x.dtype), self.device.zeros((1, *shape[1:3], 1), x.real.dtype)
        for units, pixels in self.taps(x.shape):
            y[units] += x[pixels]
            area[units] += 1  # less than z z where a window is clipped
        self.saved = x.shape, area
        return y / area

    def backward(self, dy: Array) -> Array:
        # y = sum / area:  every pixel of a window gets dy / area
        shape, area = self.pop_saved()
        if kernels := self.kernels_of_forward(dy):
            return kernels.average_pool_backward(self.device, dy, area, shape, self.window, self.stride)
        share, dx = dy / area, self.device.zeros(shape, dy.dtype)
        for units, pixels in self.taps(shape):
            dx[pixels] += share[units]
        return dx

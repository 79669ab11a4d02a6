"""Fixed filters of the 2012 code: Gaussian blur (``blur``), and every s-th pixel (``nailbed``).

The nets of runs 100 to 137 and 141 see the image a second time, blurred and at a quarter of its size. Neither layer has
parameters.
"""

import math

from tinyalex.devices.device import Array
from tinyalex.layers.layer import Layer
from tinyalex.randomness import Step


class GaussianBlur(Layer):
    """Blur (n, h, w, c) along rows and columns with a Gaussian; pixels beyond the image read as zero.

    Parameters
    ----------
    deviation : float
        Standard deviation, in pixels.
    size : int, odd
        Number of taps in each direction; their sum is 1.

    Raises
    ------
    ShapeError
        If the deviation is not above 0, or the size not a whole, odd number.

    Examples
    --------
    >>> import numpy as np
    >>> GaussianBlur(1.0, 3).forward(np.eye(3).reshape(1, 3, 3, 1))[0, 1, 1].round(4)
    array([0.3544])
    """

    def __init__(self, deviation: float, size: int) -> None:
        (deviation,), (size,) = self.real(0, deviation=deviation), self.whole(size=size)
        self.expect(deviation > 0, f"deviation {deviation}", "a finite number above 0")
        self.expect(size % 2, f"size {size}", "an odd number of taps")
        distances = [(i - size // 2) / deviation for i in range(size)]
        taps = [math.exp(-distance * distance / 2) for distance in distances]
        self.taps = [tap / sum(taps) for tap in taps]

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        self.expect(len(shape) == 3, shape, "(height, width, channels)")
        return shape

    def forward(self, x: Array, training: bool = False, step: Step | None = None) -> Array:
        self.check_input(x)
        self.saved = ()
        return self._blur(x)

    def backward(self, dy: Array) -> Array:
        # y = B x with a symmetric matrix B:  dx = B dy
        self.pop_saved()
        return self._blur(dy)

    def _blur(self, x: Array) -> Array:
        n, h, w, c = x.shape
        before = len(self.taps) // 2
        padded = self.device.zeros((n, h + 2 * before, w + 2 * before, c), x.dtype)
        padded[:, before : before + h, before : before + w] = x
        rows = sum(tap * padded[:, shift : shift + h] for shift, tap in enumerate(self.taps))
        return sum(tap * rows[:, :, shift : shift + w] for shift, tap in enumerate(self.taps))


class Subsample(Layer):
    """Take every ``stride``-th pixel of (n, h, w, c), from the first on: (n, ceil(h / s), ceil(w / s), c).

    Parameters
    ----------
    stride : int
        s.

    Raises
    ------
    ShapeError
        If the stride is not a whole number from 1 on.

    Examples
    --------
    >>> import numpy as np
    >>> nails = Subsample(2)
    >>> nails.forward(np.arange(9.0).reshape(1, 3, 3, 1)).ravel()
    array([0., 2., 6., 8.])
    >>> nails.backward(np.ones((1, 2, 2, 1))).ravel()
    array([1., 0., 1., 0., 0., 0., 1., 0., 1.])
    """

    def __init__(self, stride: int) -> None:
        (self.stride,) = self.whole(stride=stride)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        self.expect(len(shape) == 3, shape, "(height, width, channels)")
        return -(-shape[0] // self.stride), -(-shape[1] // self.stride), shape[2]

    def forward(self, x: Array, training: bool = False, step: Step | None = None) -> Array:
        self.check_input(x)
        self.saved = x.shape
        return self.device.xp.ascontiguousarray(x[:, :: self.stride, :: self.stride])

    def backward(self, dy: Array) -> Array:
        # dx is dy at the pixels taken, and 0 between them
        dx = self.device.zeros(self.pop_saved(), dy.dtype)
        dx[:, :: self.stride, :: self.stride] = dy
        return dx

"""Locally connected layer: a convolution with its own kernels at each output position (2012: ``local``).

n images, h x w pixels, c channels, k x k kernels, o maps, s stride, p padding, ho x wo output positions:

    y[n, i, j, o] = b[i, j, o] + sum over u, v, c of  x[n, s i + u - p, s j + v - p, c] W[i, j, u, v, c, o]

The nets of footnote 3 have two of them. Pixels beyond the image read as zero.
"""

import math
from typing import Any

from tinyalex.devices.device import Array
from tinyalex.layers.layer import Layer, Parameter
from tinyalex.layers.patches import col2im, im2col, positions
from tinyalex.randomness import Step


class LocallyConnected(Layer):
    """Map (n, h, w, c) to (n, ho, wo, o).

    Parameters
    ----------
    inputs : tuple of int
        One image's (h, w, c).
    maps : int
        o.
    kernel, stride, pad : int
        k, s and p.
    rounding : {"floor", "ceil"}
        As in `Conv2d`.
    std, bias : float
        Initial values: the weights' standard deviation (or "he"), the biases' constant.

    Raises
    ------
    ShapeError
        If an argument is out of range, or the kernel is larger than the image.

    Examples
    --------
    >>> local = LocallyConnected((6, 6, 3), 4, kernel=3, pad=1)
    >>> local.output_shape((6, 6, 3)), local.W.shape
    ((6, 6, 4), (6, 6, 3, 3, 3, 4))
    """

    def __init__(
        self,
        inputs: tuple[int, ...],
        maps: int,
        kernel: int,
        stride: int = 1,
        pad: int = 0,
        rounding: str = "floor",
        std: float | str = "he",
        bias: float = 0.0,
    ) -> None:
        self.expect(
            isinstance(inputs, tuple | list) and len(inputs) == 3, f"inputs {inputs!r}", "(height, width, channels)"
        )
        self.inputs = h, w, c = tuple(self.whole(inputs=side)[0] for side in inputs)
        (maps, kernel, stride), (pad,) = self.whole(maps=maps, kernel=kernel, stride=stride), self.whole(0, pad=pad)
        self.initial_values(std, bias)
        self.expect(min(h, w) + 2 * pad >= kernel, self.inputs, f"{kernel - 2 * pad} pixels a side or more")
        self.maps, rounding = maps, self.rounding_of(rounding)
        self.geometry: dict[str, Any] = {"kernel": kernel, "stride": stride, "pad": pad, "rounding": rounding}
        self.output_size = tuple(positions(side, *self.geometry.values()) for side in (h, w))
        std = (2.0 / (kernel * kernel * c)) ** 0.5 if std == "he" else std  # the fan-in is that of one output position
        self.W = Parameter("W", (*self.output_size, kernel, kernel, c, maps), std)
        self.b = Parameter("b", (*self.output_size, maps), bias)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        self.expect(tuple(shape) == self.inputs, shape, f"{self.inputs}")
        return *self.output_size, self.maps

    def multiply_adds(self, shape: tuple[int, ...]) -> int:
        return self.W.size

    def forward(self, x: Array, training: bool = False, step: Step | None = None) -> Array:
        n, (ho, wo, o) = len(x), self.check_input(x)
        W = self.W.value.reshape(ho * wo, -1, o)
        y = self.device.empty((n, ho * wo, o), self.device.xp.result_type(x, W))
        self.device.xp.matmul(self._patches(x), W, out=y.transpose(1, 0, 2))  # one product for each output position
        y = y.reshape(n, ho, wo, o)
        y += self.b.value
        self.saved = x
        return y

    def backward(self, dy: Array) -> Array:
        # y_p = P_p W_p + b_p at each output position p:
        # dW_p = P_p' dy_p,  db_p sums dy_p,  dP_p = dy_p W_p',  dx adds dP up.
        x, xp = self.pop_saved(), self.device.xp
        n, ho, wo, o = dy.shape
        W, dW = (array.reshape(ho * wo, -1, o) for array in (self.W.value, self.W.grad))
        self.b.grad[...] = dy.sum(axis=0)
        patches, dy = self._patches(x), dy.reshape(n, ho * wo, o).transpose(1, 0, 2)
        xp.matmul(patches.transpose(0, 2, 1), dy, out=dW)
        dpatches = xp.matmul(dy, W.transpose(0, 2, 1), out=patches)  # reuse P's buffer
        return col2im(self.device, dpatches.transpose(1, 0, 2), x.shape, **self.geometry)

    def _patches(self, x: Array) -> Array:
        # A matrix for each output position, its rows the images' patches there: (ho wo, n, k k c).
        ho, wo = self.output_size
        length = math.prod(self.W.shape[2:5])
        return im2col(self.device, x, **self.geometry).reshape(len(x), ho * wo, length).transpose(1, 0, 2)

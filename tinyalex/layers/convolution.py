"""Convolution as one matrix product: patches are rows, kernels are columns (paper §3.5).

n images, h x w pixels, c channels, k x k kernels, o maps, s stride, p padding, g groups, ho x wo output positions:

    y[n, i, j, o] = b[o] + sum over u, v, c of  x[n, s i + u - p, s j + v - p, c] W[u, v, c, o]

Pixels beyond the image read as zero. With g groups, map o sees only the c/g channels of its own group.
"""

from typing import Any

from tinyalex.devices.device import Array
from tinyalex.kernels import convolution as cuda_kernels
from tinyalex.layers.layer import Layer, Parameter, grouped
from tinyalex.layers.patches import col2im, im2col, positions
from tinyalex.randomness import Step


class Conv2d(Layer):
    """Convolve (n, h, w, c) to (n, ho, wo, o).

    Parameters
    ----------
    channels, maps : int
        c and o.
    kernel, stride, pad : int
        k, s and p.
    groups : int
        g; 2 where the columns do not exchange maps and both are on one device.
    rounding : {"floor", "ceil"}
        "ceil" keeps a last output position whose window hangs over the right or bottom edge (2012: ``layer.py``).
    std, bias : float
        Initial values: the weights' standard deviation (or "he"), the biases' constant.

    Raises
    ------
    ShapeError
        If an argument is out of range, or the groups do not divide the channels and the maps.

    Examples
    --------
    >>> import numpy as np
    >>> conv1 = Conv2d(3, 96, kernel=11, stride=4).build(seed=0)
    >>> conv1.forward(np.ones((2, 227, 227, 3), "float32")).shape
    (2, 55, 55, 96)
    >>> conv1.multiply_adds((227, 227, 3))
    105415200
    """

    def __init__(
        self,
        channels: int,
        maps: int,
        kernel: int,
        stride: int = 1,
        pad: int = 0,
        groups: int = 1,
        rounding: str = "floor",
        std: float | str = "he",
        bias: float = 0.0,
    ) -> None:
        channels, maps, kernel = self.whole(channels=channels, maps=maps, kernel=kernel)
        (stride, groups), (pad,) = self.whole(stride=stride, groups=groups), self.whole(0, pad=pad)
        rounding = self.rounding_of(rounding)
        self.initial_values(std, bias)
        self.channels, self.maps, self.groups = channels, maps, groups
        self.geometry: dict[str, Any] = {"kernel": kernel, "stride": stride, "pad": pad, "rounding": rounding}
        self.expect(channels % groups == maps % groups == 0, (channels, maps), f"channels and maps in {groups} groups")
        self.W = Parameter("W", (kernel, kernel, channels // groups, maps), std)
        self.b = Parameter("b", (maps,), bias)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        self.expect(len(shape) == 3 and shape[2] == self.channels, shape, f"(height, width, {self.channels})")
        k, s, p, rounding = self.geometry.values()
        self.expect(min(shape[:2]) + 2 * p >= k, shape, f"{k - 2 * p} pixels a side or more: feed larger images")
        return positions(shape[0], k, s, p, rounding), positions(shape[1], k, s, p, rounding), self.maps

    def multiply_adds(self, shape: tuple[int, ...]) -> int:
        ho, wo, _ = self.output_shape(shape)
        return ho * wo * self.W.size

    def forward(self, x: Array, training: bool = False, step: Step | None = None) -> Array:
        y = self.product(x)
        y += self.b.value
        return y

    def backward(self, dy: Array) -> Array | None:
        # y = x * W + b:  db sums dy over its rows
        self.b.grad[...] = dy.reshape(-1, self.maps).sum(axis=0)
        return self.product_backward(dy)

    def product(self, x: Array) -> Array:
        """Run forward without the bias."""
        ho, wo, o = self.check_input(x)
        if kernels := self.kernels_for(x, cuda=cuda_kernels):
            self.saved = None  # free what a forward without a backward has left
            y, self.saved = kernels.product(self.device, x, self.W.value, ho, wo, *self._window())
            return y
        W = self.W.value.reshape(-1, self.maps)  # (k k c/g, o)
        y = self.device.empty((len(x) * ho * wo, o), self.device.xp.result_type(x, W))
        for inputs, outputs in grouped(self.channels, self.maps, self.groups):
            patches = im2col(self.device, x[..., inputs], **self.geometry)  # (n ho wo, k k c/g)
            self.device.matmul(patches, W[:, outputs], out=y[:, outputs])
        self.saved = x
        return y.reshape(len(x), ho, wo, o)

    def product_backward(self, dy: Array) -> Array | None:
        """Run backward without the bias."""
        # y = P W with patches P:  dW = P' dy,  dP = dy W',  dx adds the patches dP up.
        x, W, dW = self.pop_saved(), self.W.value, self.W.grad
        if kernels := self.kernels_of_forward(dy):
            return kernels.product_backward(self.device, dy, x, W, dW, *self._window(), self.input_gradient)
        W, dW = W.reshape(-1, self.maps), dW.reshape(-1, self.maps)
        dy = dy.reshape(-1, self.maps)  # (n ho wo, o)
        dx = self.device.empty(x.shape, dy.dtype) if self.input_gradient else None
        for inputs, outputs in grouped(self.channels, self.maps, self.groups):
            patches = im2col(self.device, x[..., inputs], **self.geometry)
            self.device.matmul(patches.T, dy[:, outputs], out=dW[:, outputs])
            if dx is not None:
                dpatches = self.device.matmul(dy[:, outputs], W[:, outputs].T, out=patches)  # reuse P's buffer
                dx[..., inputs] = col2im(self.device, dpatches, x[..., inputs].shape, **self.geometry)
        return dx

    def _window(self) -> tuple[int, ...]:
        return *(self.geometry[name] for name in ("kernel", "stride", "pad")), self.groups

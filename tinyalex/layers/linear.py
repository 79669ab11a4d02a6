"""Fully connected layer (paper §3.5): every output sees every input.

n images, m inputs, o outputs:    y = x W + b
"""

import math

from tinyalex.devices.device import Array
from tinyalex.layers.layer import Layer, Parameter, grouped
from tinyalex.randomness import Step


class Linear(Layer):
    """Map (n, ...) with m numbers an image, read in (h, w, c) order, to (n, o).

    Parameters
    ----------
    inputs : tuple of int or int
        Shape of one image's input, or m.
    outputs : int
        o.
    groups : int
        2 where the columns do not exchange maps and both are on one device: each half of the channels feeds half the
        outputs.
    std, bias : float
        Initial values: the weights' standard deviation (or "he"), the biases' constant.

    Raises
    ------
    ShapeError
        If an argument is out of range, or the groups do not divide the channels.

    Examples
    --------
    >>> import numpy as np
    >>> fc6 = Linear((6, 6, 256), 4096).build()
    >>> fc6.forward(np.ones((2, 6, 6, 256), "float32")).shape
    (2, 4096)
    """

    def __init__(
        self, inputs: tuple[int, ...] | int, outputs: int, groups: int = 1, std: float | str = "he", bias: float = 0.0
    ) -> None:
        sides = inputs if isinstance(inputs, tuple | list) else (inputs,)
        self.expect(sides, "inputs ()", "one whole number or more")
        self.inputs = tuple(self.whole(inputs=side)[0] for side in sides)
        self.outputs, self.groups = self.whole(outputs=outputs, groups=groups)
        self.initial_values(std, bias)
        self.expect(self.inputs[-1] % groups == 0, self.inputs, f"{groups} equal groups")
        self.expect(outputs >= groups, f"outputs {outputs}", f"an output or more for each of {groups} groups")
        self.W = Parameter("W", (math.prod(self.inputs) // self.groups, self.outputs), std)
        self.b = Parameter("b", (self.outputs,), bias)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        self.expect(tuple(shape) == self.inputs, shape, f"{self.inputs}")
        return (self.outputs,)

    def multiply_adds(self, shape: tuple[int, ...]) -> int:
        return self.W.size

    def forward(self, x: Array, training: bool = False, step: Step | None = None) -> Array:
        y = self.product(x)
        y += self.b.value
        return y

    def backward(self, dy: Array) -> Array:
        # y = x W + b:  db sums dy over the images
        self.b.grad[...] = dy.sum(axis=0)
        return self.product_backward(dy)

    def product(self, x: Array) -> Array:
        """Run forward without the bias."""
        self.check_input(x)
        W = self.W.value
        y = self.device.empty((len(x), self.outputs), self.device.xp.result_type(x, W))
        for inputs, outputs in grouped(self.inputs[-1], self.outputs, self.groups):
            part = self.device.contiguous(x[..., inputs]).reshape(len(x), len(W))
            self.device.matmul(part, W[:, outputs], out=y[:, outputs])
        self.saved = x
        return y

    def product_backward(self, dy: Array) -> Array:
        """Run backward without the bias."""
        # y = x W:  dW = x' dy,  dx = dy W'
        x, W, dW = self.pop_saved(), self.W.value, self.W.grad
        dx = self.device.empty(x.shape, dy.dtype)
        for inputs, outputs in grouped(self.inputs[-1], self.outputs, self.groups):
            part = self.device.contiguous(x[..., inputs]).reshape(len(x), len(W))
            self.device.matmul(part.T, dy[:, outputs], out=dW[:, outputs])
            back = self.device.empty((len(x), len(W)), dy.dtype) if self.groups > 1 else dx.reshape(len(x), len(W))
            self.device.matmul(dy[:, outputs], W[:, outputs].T, out=back)
            if self.groups > 1:
                self.device.copy(dx[..., inputs], back.reshape(dx[..., inputs].shape))
        return dx

"""Layers with several inputs. They read one array, in which the inputs lie side by side.

Inputs of equal height and width are joined along the channels: (n, h, w, c1) and (n, h, w, c2) to (n, h, w, c1 + c2).
Others are joined as plain numbers: (n, h1, w1, c1) and (n, m2) to (n, h1 w1 c1 + m2).
"""

import copy
import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Self

from tinyalex.devices.device import Array, Device, DTypeLike
from tinyalex.layers.convolution import Conv2d
from tinyalex.layers.layer import Layer, Parameter
from tinyalex.layers.linear import Linear
from tinyalex.randomness import Step

Shape = tuple[int, ...]  # of one image


def joined_shape(shapes: Sequence[Shape]) -> Shape:
    """Return one image's shape of the joined inputs.

    >>> joined_shape([(3, 3, 8), (3, 3, 4)]), joined_shape([(3, 3, 8), (5,)])
    ((3, 3, 12), (77,))
    """
    if _alike(shapes):
        return *shapes[0][:-1], sum(shape[-1] for shape in shapes)
    return (sum(math.prod(shape) for shape in shapes),)


def inputs_of(x: Array, shapes: Sequence[Shape]) -> list[Array]:
    """Return the inputs, views of the joined array (n, ...), each (n, *shape)."""
    alike = _alike(shapes)
    sizes = [shape[-1] if alike else math.prod(shape) for shape in shapes]
    parts = [x[..., end - size : end] for size, end in zip(sizes, accumulate(sizes), strict=True)]
    return parts if alike else [part.reshape(len(x), *shape) for part, shape in zip(parts, shapes, strict=True)]


def _alike(shapes: Sequence[Shape]) -> bool:
    return len({shape[:-1] for shape in shapes}) == 1


class SumOfInputs(Layer):
    """Give each input weights of its own and add the results: y = b + sum over inputs i of x_i W_i.

    The 2012 files have convolutions whose inputs differ in size, padding and stride, and layers whose inputs learn at
    different rates.

    Parameters
    ----------
    shapes : list of tuple of int
        One image's shape of each input.
    layers : list of Conv2d or Linear
        One for each input; their outputs have one shape. The first one's bias is that of the sum.
    bias_at_each_position : bool
        Give each output position a bias of its own (2012: ``sharedBiases=0``).

    Raises
    ------
    ShapeError
        If there is not one layer for each shape, a layer does not fit its shape, or the outputs differ in shape.

    Examples
    --------
    >>> import numpy as np
    >>> layer = SumOfInputs([(4,), (2, 2, 3)], [Linear(4, 5), Linear((2, 2, 3), 5)]).build()
    >>> layer.forward(np.ones((6, 16), "float32")).shape
    (6, 5)
    """

    def __init__(
        self, shapes: Sequence[Shape], layers: Sequence[Conv2d | Linear], bias_at_each_position: bool = False
    ) -> None:
        listed = isinstance(shapes, tuple | list) and all(isinstance(shape, tuple | list) for shape in shapes)
        self.expect(listed and shapes, f"shapes {shapes!r}", "a list of each input's shape, such as [(4,), (2, 2, 3)]")
        self.shapes = [tuple(self.whole(shapes=side)[0] for side in shape) for shape in shapes]
        wanted = f"a list of {len(shapes)}, a Conv2d or Linear for each input"
        self.expect(isinstance(layers, tuple | list), f"layers {layers!r}", wanted)
        fits = len(layers) == len(shapes) and all(isinstance(layer, Conv2d | Linear) for layer in layers)
        self.expect(fits, f"layers {[type(layer).__name__ for layer in layers]}", wanted)
        self.layers = list(layers)
        outputs = {layer.output_shape(shape) for layer, shape in zip(layers, self.shapes, strict=True)}
        self.expect(len(outputs) == 1, f"outputs {' and '.join(map(str, sorted(outputs)))}", "outputs of one shape")
        self.b = Parameter("b", outputs.pop(), layers[0].b.init) if bias_at_each_position else layers[0].b
        self._share_bias()

    def _share_bias(self) -> None:
        for layer in self.layers:
            layer.b = self.b

    @property
    def parameters(self) -> list[Parameter]:
        return [*(layer.W for layer in self.layers), self.b]

    def named(self, *names: str) -> Self:
        """Set the name of the layer and its bias; the weights of input i are called ``conv2a.i``."""
        for number, layer in enumerate(self.layers):
            layer.named(*(f"{name}.{number}" for name in names))
        self.names = self.b.names = names
        return self

    def build(self, device: Device | None = None, seed: int | None = 0, dtype: DTypeLike = "float32") -> Self:
        super().build(device or self.device, seed, dtype)
        for layer in self.layers:
            layer.device = self.device
        return self

    def replica(self) -> Self:
        """Return a layer that shares the parameter values and has its own saved state and gradients."""
        twin = copy.copy(self)
        twin.saved, twin.layers, twin.b = None, [layer.replica() for layer in self.layers], self.b.replica()
        twin._share_bias()
        return twin

    def output_shape(self, shape: Shape) -> Shape:
        self.expect(tuple(shape) == joined_shape(self.shapes), shape, f"{joined_shape(self.shapes)}")
        return self.layers[0].output_shape(self.shapes[0])

    def multiply_adds(self, shape: Shape) -> int:
        return sum(layer.multiply_adds(each) for layer, each in zip(self.layers, self.shapes, strict=True))

    def forward(self, x: Array, training: bool = False, step: Step | None = None) -> Array:
        self.check_input(x)
        self.saved = x.shape
        return sum(
            (layer.product(part) for layer, part in zip(self.layers, inputs_of(x, self.shapes), strict=True)),
            start=self.b.value,
        )

    def backward(self, dy: Array) -> Array:
        # y = b + sum of x_i W_i:  db sums dy over what shares b,  dx_i and dW_i are those of x_i W_i alone
        shape = self.pop_saved()
        self.b.grad[...] = dy.reshape(-1, *self.b.shape).sum(axis=0)
        dx = self.device.empty(shape, dy.dtype)
        for layer, part in zip(self.layers, inputs_of(dx, self.shapes), strict=True):
            part[...] = layer.product_backward(dy)
        return dx


class ElementwiseSum(Layer):
    """Add inputs of one shape: y = sum over inputs i of a_i x_i (2012: ``eltsum``).

    Parameters
    ----------
    coefficients : list of float
        a_i.

    Raises
    ------
    ShapeError
        If there is no coefficient, or one is not a finite number.

    Examples
    --------
    >>> import numpy as np
    >>> difference = ElementwiseSum([1.0, -1.0])
    >>> difference.forward(np.array([[5.0, 6.0, 1.0, 2.0]]))
    array([[4., 4.]])
    >>> difference.backward(np.array([[10.0, 20.0]]))
    array([[ 10.,  20., -10., -20.]])
    """

    def __init__(self, coefficients: Sequence[float]) -> None:
        listed = isinstance(coefficients, tuple | list)
        self.expect(listed and coefficients, f"coefficients {coefficients!r}", "a list of a number for each input")
        self.coefficients = [self.real(coefficients=each)[0] for each in coefficients]

    def output_shape(self, shape: Shape) -> Shape:
        count = len(self.coefficients)
        self.expect(shape and shape[-1] % count == 0, shape, f"{count} inputs of one shape, joined along the last axis")
        return *shape[:-1], shape[-1] // count

    def forward(self, x: Array, training: bool = False, step: Step | None = None) -> Array:
        parts = inputs_of(x, [self.check_input(x)] * len(self.coefficients))
        self.saved = ()
        return sum(a * part for a, part in zip(self.coefficients, parts, strict=True))

    def backward(self, dy: Array) -> Array:
        # dx_i = a_i dy
        self.pop_saved()
        return self.device.xp.concatenate([a * dy for a in self.coefficients], axis=-1)

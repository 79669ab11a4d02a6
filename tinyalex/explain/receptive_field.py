"""Receptive fields: the pixels of the image that a unit depends on, computed from the windows of the layers.

Going back through a layer with windows of k at stride s and padding p, the rows a to b (b not included) come from the
rows s a - p to s (b - 1) - p + k of its input, as far as these lie inside it. Clipped at every layer, this is exact,
also at the edges and where a last window hangs over them.
"""

from typing import NamedTuple

import numpy as np

from tinyalex.errors import UsageError
from tinyalex.layers import (
    AvgPool,
    ContrastNorm,
    Conv2d,
    GaussianBlur,
    Layer,
    Linear,
    LocallyConnected,
    MaxPool,
    SpatialNorm,
    Subsample,
)
from tinyalex.network.columns import Shape
from tinyalex.network.network import Network


class Field(NamedTuple):
    """A rectangle of pixels of the network's input: rows ``top`` to ``bottom``, columns ``left`` to ``right``.

    The first are included, the last are not.
    """

    top: int
    left: int
    bottom: int
    right: int

    def of(self, image: np.ndarray) -> np.ndarray:
        """Return the rectangle of an image (h, w, ...), a view: ``image[top:bottom, left:right]``."""
        return image[self.top : self.bottom, self.left : self.right]


def window(layer: Layer) -> tuple[int, int, int]:
    """Return a layer's window along rows and columns: size, stride and padding before the first pixel.

    A layer without weights that keeps height and width, and is not named here, computes each pixel from itself: (1, 1,
    0). `Linear` has no window; it reads everything.

    Raises
    ------
    UsageError
        For a layer with weights whose window is not known.

    Examples
    --------
    >>> from tinyalex.layers import Conv2d, MaxPool, ReLU
    >>> window(Conv2d(3, 96, kernel=11, stride=4)), window(MaxPool(3, 2)), window(ReLU())
    ((11, 4, 0), (3, 2, 0), (1, 1, 0))
    """
    if isinstance(layer, Conv2d | LocallyConnected):
        kernel, stride, pad, _ = layer.geometry.values()
        return kernel, stride, pad
    if isinstance(layer, MaxPool | AvgPool):
        return layer.window, layer.stride, 0
    if isinstance(layer, ContrastNorm):  # a window of deviations from the means over windows
        return 2 * layer.size - 1, 1, 2 * (layer.size // 2)
    if isinstance(layer, SpatialNorm):
        return layer.size, 1, layer.size // 2
    if isinstance(layer, GaussianBlur):
        return len(layer.taps), 1, len(layer.taps) // 2
    if isinstance(layer, Subsample):
        return 1, layer.stride, 0
    if layer.parameters:
        kind = type(layer).__name__
        raise UsageError(f"{layer.name}: the pixels that a {kind} reads are not known; give a layer before it")
    return 1, 1, 0


def field_before(layer: Layer, shape: Shape, field: Field) -> Field:
    """Return which part of a layer's input a part of its output depends on.

    Parameters
    ----------
    layer : Layer
    shape : tuple of int
        Of one image of the layer's input: (h, w, c), or (units,), of which all are read.
    field : Field
        In the output.

    Returns
    -------
    Field
        In the input; that of (units,) is (0, 0, 1, 1).
    """
    h, w = shape[:2] if len(shape) == 3 else (1, 1)
    if isinstance(layer, Linear) or len(shape) != 3:
        return Field(0, 0, h, w)
    size, stride, pad = window(layer)
    ends = [_before(a, b, size, stride, pad, side) for a, b, side in ((*field[::2], h), (*field[1::2], w))]
    return Field(ends[0][0], ends[1][0], ends[0][1], ends[1][1])


def _before(first: int, end: int, size: int, stride: int, pad: int, side: int) -> tuple[int, int]:
    low, high = max(0, stride * first - pad), min(side, stride * (end - 1) - pad + size)
    return min(low, side), max(min(low, side), high)


def receptive_field(network: Network, layer: Layer, row: int = 0, column: int = 0) -> Field:
    """Return the pixels that the units of a layer at one position depend on.

    Parameters
    ----------
    network : Network
        It needs no arrays.
    layer : Layer
        One of ``network.layers()``.
    row, column : int
        The position in its output; of no meaning after a `Linear` layer.

    Returns
    -------
    Field
        Where columns of different geometry are joined, the smallest rectangle that holds what each of them reads.

    Raises
    ------
    UsageError
        If the layer is not one of the network's, or its output has no such position.

    Examples
    --------
    >>> from tinyalex import alexnet, recipe
    >>> network = alexnet.describe(recipe.load("original").net)
    >>> conv5 = next(layer for _, layer in network.layers() if "conv5a" in layer.names)
    >>> receptive_field(network, conv5, 6, 6)
    Field(top=16, left=16, bottom=211, right=211)
    >>> receptive_field(network, conv5, 0, 0)
    Field(top=0, left=0, bottom=115, right=115)
    """
    for number, stage in enumerate(network.stages):
        for index, layers in enumerate(stage.columns):
            for depth, each in enumerate(layers):
                if each is layer:
                    shape = _shapes(network, number, index)[depth + 1]
                    h, w = shape[:2] if len(shape) == 3 else (1, 1)
                    if not (0 <= row < h and 0 <= column < w):
                        raise UsageError(f"{layer.name}: has {h} x {w} positions, none at ({row}, {column})")
                    return _from(network, number, index, depth + 1, Field(row, column, row + 1, column + 1))
    raise UsageError(f"{layer.name}: is not a layer of this network; give one of network.layers()")


def _shapes(network: Network, number: int, index: int) -> list[Shape]:
    # The input shape of each layer of a column, and the shape of its output.
    stage = network.stages[number]
    shapes = [stage.exchange.output_shapes(network.shapes[number])[index]]
    for layer in stage.columns[index]:
        shapes.append(layer.output_shape(shapes[-1]))
    return shapes


def _from(network: Network, number: int, index: int, depth: int, field: Field) -> Field:
    # The field in the image of a field in the output of the first ``depth`` layers of a column of a stage.
    stage, shapes = network.stages[number], _shapes(network, number, index)
    for layer, shape in list(zip(stage.columns[index], shapes, strict=False))[:depth][::-1]:
        field = field_before(layer, shape, field)
    if number == 0:
        return field
    fields = []
    for source in stage.exchange.routes[index]:
        before = network.shapes[number][source]
        alike = len(shapes[0]) == len(before) and shapes[0][:-1] == before[:-1]
        # Joined as plain numbers, all are read.
        part = field if alike else Field(0, 0, *(before[:2] if len(before) == 3 else (1, 1)))
        fields.append(_from(network, number - 1, source, len(network.stages[number - 1].columns[source]), part))
    tops, lefts, bottoms, rights = zip(*fields, strict=True)
    return Field(min(tops), min(lefts), max(bottoms), max(rights))

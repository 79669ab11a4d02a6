"""The units of a convolution that an image excites most, and the patch of the image that each of them answers to.

Which pixels a unit can see is its receptive field, `Unit.field`; in the last convolution of a small net that is most of
the image. How much it depends on each of them, in this image, is its gradient, most of which is in a smaller patch:
`main_part` (Luo, Li, Urtasun and Zemel, "Understanding the effective receptive field", 2016).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tinyalex.devices.device import Array
from tinyalex.devices.parallel import ranges
from tinyalex.errors import ShapeError, UsageError
from tinyalex.explain.receptive_field import Field, receptive_field
from tinyalex.explain.replicas import replicas
from tinyalex.layers import (
    Abs,
    Conv2d,
    Layer,
    LocallyConnected,
    Logistic,
    ReLU,
    ScaledTanh,
    SoftReLU,
    Square,
    Tanh,
)
from tinyalex.network.columns import Stage
from tinyalex.network.network import Network
from tinyalex.words import did_you_mean

_NONLINEARITIES = ReLU, Tanh, Abs, Logistic, ScaledTanh, SoftReLU, Square
_NOWHERE = Field(0, 0, 0, 0)  # until it is computed


class Unit(NamedTuple):
    """A unit of a convolution.

    Attributes
    ----------
    layer : str
        With its column: "conv5b".
    map : int
        The number of its map in that column, from 0.
    row, column : int
        Its position.
    value : float
        Its output, after the nonlinearity that follows the convolution.
    field : Field
        The pixels of the network's input that it depends on.
    """

    layer: str
    map: int
    row: int
    column: int
    value: float
    field: Field


def convolutions(network: Network) -> list[str]:
    """Return the names of a network's convolutions, and locally connected layers, without their columns, in order.

    >>> from tinyalex import alexnet, recipe
    >>> convolutions(alexnet.describe(recipe.load("original").net))
    ['conv1', 'conv2', 'conv3', 'conv4', 'conv5']
    """
    found = (layer for _, layer in network.layers() if isinstance(layer, Conv2d | LocallyConnected))
    return list(dict.fromkeys(layer.W.layer for layer in found))


def strongest_units(network: Network, image: np.ndarray, count: int = 8, layer: str | None = None) -> list[Unit]:
    """Find the units with the largest outputs for an image, at most one of each map.

    Parameters
    ----------
    network : Network
        Built.
    image : ndarray, shape (h, w, k)
        Prepared as for `Network.predict`; converted to the network's dtype.
    count : int
    layer : str, optional
        One of `convolutions`; default: the last.

    Returns
    -------
    list of Unit
        The strongest first; fewer than ``count`` if fewer maps have an output above 0.

    Raises
    ------
    ShapeError
        If the image is not one of the network's.
    UsageError
        If the network has no such convolution.
    """
    image, name = np.asarray(image, network.dtype), _checked(network, np.shape(image), layer)
    found = [unit for _, units in _maxima(network, image[None], name) for unit in units if unit.value > 0]
    found = sorted(found, key=lambda unit: (-unit.value, unit.layer, unit.map))[:count]
    return [_with_field(network, unit) for unit in found]


def strongest_images(
    network: Network, images: np.ndarray, count: int = 9, layer: str | None = None, batch: int = 64
) -> dict[tuple[str, int], list[tuple[int, Unit]]]:
    """Find, for every map of a convolution, the images in which its largest output is largest.

    Parameters
    ----------
    network : Network
        Built.
    images : ndarray, shape (n, h, w, k)
        Prepared as for `Network.predict`; converted to the network's dtype.
    count : int
        Images for each map.
    layer : str, optional
        One of `convolutions`; default: the last.
    batch : int
        Images at a time.

    Returns
    -------
    dict
        By (layer with its column, map): pairs of the image's index and the unit, the strongest first. There are fewer
        than ``count`` if the map has an output above 0 in fewer images.

    Raises
    ------
    ShapeError
        If the images are not those of the network.
    UsageError
        If the network has no such convolution.

    Examples
    --------
    >>> from tinyalex import alexnet, recipe
    >>> shapes = recipe.load("shapes", ["net.classes=12"])
    >>> network = alexnet.build(shapes.net, shapes.init)
    >>> found = strongest_images(network, np.zeros((2, 56, 56, 3)), layer="conv1")
    >>> len(found), found["conv1b", 15]  # 16 maps in each column; of black images all outputs are 0
    (32, [])
    """
    images = np.asarray(images, network.dtype)
    name = _checked(network, images.shape[1:], layer, "images")
    found: dict[tuple[str, int], list[tuple[int, Unit]]] = {}
    for first in range(0, len(images), batch):
        for index, units in _maxima(network, images[first : first + batch], name):
            for unit in units:
                best = found.setdefault((unit.layer, unit.map), [])
                if unit.value > 0:
                    best.append((first + index, unit))
                    best.sort(key=lambda pair: (-pair[1].value, pair[0]))
                    del best[count:]
    return {key: [(index, _with_field(network, unit)) for index, unit in best] for key, best in found.items()}


def unit_gradient(network: Network, image: np.ndarray, unit: Unit) -> np.ndarray:
    """Differentiate the output of a unit with respect to the image.

    Parameters
    ----------
    network : Network
        Built.
    image : ndarray, shape (h, w, k)
        As for `strongest_units`.
    unit : Unit
        What `strongest_units` returned.

    Returns
    -------
    ndarray, shape (h, w, k), in the network's dtype
        0 outside ``unit.field``, up to the rounding of Winograd's algorithm.
    """
    return down_to_image(network, image, unit, 1.0, replicas(network, gradients=True))


def down_to_image(network: Network, image: np.ndarray, unit: Unit, start: float, stages: list[Stage]) -> np.ndarray:
    """Carry a number from the output of one unit back to the image.

    Parameters
    ----------
    network : Network
        Built.
    image : ndarray, shape (h, w, k)
        As for `strongest_units`.
    unit : Unit
        What `strongest_units` returned.
    start : float
        The number.
    stages : list of Stage
        Of `replicas` with gradients. Their layers' backward decides what is carried back.

    Returns
    -------
    ndarray, shape (h, w, k), in the network's dtype
    """
    network.require_arrays()
    image, devices = np.asarray(image, network.dtype), network.devices
    number, index, depth, first, _ = next(_positions(network, unit.layer))
    with network.step():
        xs = _on_devices(network, image[None])
        for stage in stages[:number]:
            xs = stage.forward(xs, devices)
        stage, layers = stages[number], stages[number].columns[index][:depth]
        y = stage.exchange.forward(xs, devices)[index]
        with devices[index] as device:
            for layer in layers:
                y = layer.forward(y)
            one = np.zeros(y.shape, network.dtype)
            one[0, unit.row, unit.column, first + unit.map] = start
            dy = device.put(one)
            for layer in reversed(layers):
                dy = layer.backward(dy)
        dys = [dy if each == index else None for each in range(len(devices))]
        dys = stage.exchange.backward(dys, devices)
        for stage, shapes in zip(stages[:number][::-1], network.shapes[: number + 1][::-1], strict=False):
            zeros = zip(dys, devices, shapes, strict=True)  # for a column that the unit does not depend on
            dys = [d.zeros((1, *shape), network.dtype) if dy is None and shape else dy for dy, d, shape in zeros]
            dys = stage.backward(dys, devices)
        return sum(device.get(dy)[0] for device, dy in zip(devices, dys, strict=True) if dy is not None)


def main_part(gradient: np.ndarray, share: float = 0.9) -> Field:
    """Return the rectangle between whose sides most of a gradient is.

    Parameters
    ----------
    gradient : ndarray, shape (h, w, k)
    share : float
        Of the sum of the absolute values: half of the rest is above the first row, half below the last, and so for the
        columns.

    Returns
    -------
    Field

    Examples
    --------
    >>> gradient = np.zeros((9, 9, 3))
    >>> gradient[2:5, 6] = -1.0
    >>> main_part(gradient)
    Field(top=2, left=6, bottom=5, right=7)
    """
    size = np.abs(gradient).astype(np.float64).sum(axis=2)
    (top, bottom), (left, right) = (_between(size.sum(axis=axis), (1 - share) / 2) for axis in (1, 0))
    return Field(top, left, bottom, right)


def _between(sums: np.ndarray, rest: float) -> tuple[int, int]:
    # The first index before which, and the last one after which, there is at most ``rest`` of the sum.
    shares = sums.cumsum() / (sums.sum() or 1)
    first, last = np.searchsorted(shares, rest, "right"), np.searchsorted(shares, 1 - rest, "left")
    return min(int(first), len(sums) - 1), min(int(last) + 1, len(sums))


def _checked(network: Network, shape: tuple[int, ...], layer: str | None, what: str = "image") -> str:
    # The convolution that is meant.
    network.require_arrays()
    if shape != network.input_shape:
        raise ShapeError(f"{what}: got {shape}, this network reads {network.input_shape}")
    names = convolutions(network)
    if not names:
        raise UsageError("network: it has no convolution; give one that has")
    if layer is not None and layer not in names:
        raise UsageError(f"layer {layer!r}: no such convolution{did_you_mean(layer, names)}")
    return layer or names[-1]


def _maxima(network: Network, images: np.ndarray, name: str) -> Iterator[tuple[int, list[Unit]]]:
    # For each image, and each column's part of a convolution, the largest unit of every map, without its field.
    for convolution, outputs in _outputs(network, images, name):
        n, h, w, _ = outputs.shape
        for each, cut in zip(convolution.names, ranges(outputs.shape[3], len(convolution.names)), strict=True):
            flat = outputs[..., cut].reshape(n, h * w, -1)
            where, values = flat.argmax(axis=1), flat.max(axis=1)
            for index in range(n):
                yield (
                    index,
                    [
                        Unit(each, number, int(position) // w, int(position) % w, float(value), _NOWHERE)
                        for number, (position, value) in enumerate(zip(where[index], values[index], strict=True))
                    ],
                )


def _with_field(network: Network, unit: Unit) -> Unit:
    *_, layer = next(_positions(network, unit.layer))
    return unit._replace(field=receptive_field(network, layer, unit.row, unit.column))


def _positions(network: Network, name: str) -> Iterator[tuple[int, int, int, int, Layer]]:
    # Where the output of a column's convolution is, after its nonlinearity: the stage, the column, the layers up to
    # there, the first of the column's maps among those of the layer, and the convolution.
    for number, stage in enumerate(network.stages):
        for index, column in enumerate(stage.columns):
            for i, layer in enumerate(column):
                if isinstance(layer, Conv2d | LocallyConnected) and name in (*layer.names, layer.W.layer):
                    follows = i + 1 < len(column) and isinstance(column[i + 1], _NONLINEARITIES)
                    cuts = dict(zip(layer.names, ranges(layer.maps, len(layer.names)), strict=True))
                    yield number, index, i + 1 + follows, cuts[name].start if name in cuts else 0, layer


def _on_devices(network: Network, images: np.ndarray) -> list:
    # A batch of images on the device of each column.
    batch = np.ascontiguousarray(images)
    uploaded = {device: device.to_device(batch) for device in dict.fromkeys(network.devices)}
    return [uploaded[device] for device in network.devices]


def _outputs(network: Network, images: np.ndarray, name: str) -> list[tuple[Layer, np.ndarray]]:
    # For each column the convolution, and its output (n, h, w, maps) after the nonlinearity that follows it.
    stages, kept = replicas(network), list[tuple[Layer, np.ndarray]]()
    wanted = {  # the replica that computes the output, and the network's convolution
        id(stages[number].columns[index][depth - 1]): layer
        for number, index, depth, _, layer in _positions(network, name)
    }

    def keep(layer: Layer, y: Array) -> None:
        if id(layer) in wanted:
            kept.append((wanted[id(layer)], layer.device.get(y).copy()))

    with network.step():
        xs = _on_devices(network, images)
        for stage in stages:
            xs = stage.forward(xs, network.devices, forward_hook=keep)
            if kept:
                break
    return kept

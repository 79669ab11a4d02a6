"""List a network's layers with weights, column by column, with their inputs: the data behind Figure 2 of the paper."""

import re
from typing import NamedTuple

from tinyalex.layers import AvgPool, ChannelSlice, Dropout, MaxPool, ReLU, SpatialNorm, Tanh


class Part(NamedTuple):
    """One column's part of a layer with weights.

    Attributes
    ----------
    shape : tuple of int
        Shape of its output: (h, w, c) or (units,).
    before : tuple of int
        Shape of its input, including what it receives from other columns.
    sources : list of int
        The columns that it reads from.
    """

    shape: tuple
    before: tuple
    sources: list


class Level(NamedTuple):
    """A layer with weights, in all columns that have it.

    Attributes
    ----------
    name : str
        Without the column's letter: ``conv2``.
    kernel : tuple of int or None
        (k, k, c) of a kernel; None for a fully connected layer.
    stride : int
    parts : dict of int to Part
        The part of each column, by the column's index.
    after : list of str
        Labels of the layers without weights that follow, in order.
    """

    name: str
    kernel: tuple
    stride: int
    parts: dict
    after: list


def levels(network):
    """Return the `Level` objects of a described network, in order."""
    found = []
    for stage, shapes in zip(network.stages, network.shapes, strict=False):
        sources = list(stage.exchange.routes)
        inputs, stage_levels = stage.exchange.output_shapes(shapes), {}
        for column, layers in enumerate(stage.columns):
            for layer in layers:
                before, inputs[column] = inputs[column], layer.output_shape(inputs[column])
                if layer.parameters:
                    level = stage_levels.get(_name(layer)) or _level(layer)
                    stage_levels[level.name] = last = level
                    level.parts[column] = Part(inputs[column], before, sources[column])
                    sources[column] = [column]
                elif isinstance(layer, ChannelSlice):  # of maps that were exchanged for normalization alone
                    sources[column] = [column]
                elif (stage_levels or found) and column == 0:
                    (last if stage_levels else found[-1]).after.append(_label(layer))
        found += stage_levels.values()
    return found


def _name(layer):
    return re.sub(r"(?<=\d)[ab]$", "", layer.names[0])


def _level(layer):
    geometry = getattr(layer, "geometry", None)
    if geometry is None:
        return Level(_name(layer), None, 1, {}, [])
    kernel = layer.W.shape[-4:-1]  # the W of a locally connected layer begins with the output positions
    return Level(_name(layer), kernel, geometry["stride"], {}, [])


def _label(layer):
    if isinstance(layer, MaxPool | AvgPool):
        kind = "max" if isinstance(layer, MaxPool) else "mean"
        return f"{kind} pool {layer.window}, stride {layer.stride}"
    for kind, label in ((ReLU, "ReLU"), (Tanh, "tanh"), (Dropout, f"dropout {getattr(layer, 'p', 0):g}")):
        if isinstance(layer, kind):
            return label
    return "spatial norm" if isinstance(layer, SpatialNorm) else "LRN"

"""List a network's layers with weights, column by column, with their inputs: the data behind Figure 2 of the paper."""

import os
from typing import NamedTuple

from tinyalex import layers as kinds
from tinyalex.layers import AvgPool, ChannelSlice, MaxPool, SumOfInputs

IMAGE = -1  # in place of a level's number
_LABELS = {
    kinds.ReLU: "ReLU", kinds.Tanh: "tanh", kinds.ScaledTanh: "tanh", kinds.LRN: "LRN",
    kinds.SpatialNorm: "spatial norm", kinds.ContrastNorm: "contrast norm", kinds.GaussianBlur: "blur",
    kinds.ElementwiseSum: "sum", kinds.DealChannels: "random connections",
}  # fmt: skip


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
    reads : list of (int, int)
        The same as level and column: the number of the level, or `IMAGE`, and the column.
    """

    shape: tuple
    before: tuple
    sources: list
    reads: list


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
    """Return the `Level` objects of a described network, in order.

    In a net of the authors' files a column is a GPU. What its layers compute in one stage, at the same place on every
    GPU and with kernels of one size, is one level.
    """
    return _walk(network)[0]


def on_the_image(network):
    """Return the labels of the layers that read the image before any layer with weights does."""
    return _walk(network)[1]


def _walk(network):
    found, names, image = [], [], []
    origins = [[(IMAGE, row)] for row in network.gpus]  # of every column's values: the number of a level, and a row
    for stage, shapes in zip(network.stages, network.shapes, strict=False):
        routes, first = stage.exchange.routes, len(found)
        inputs = stage.exchange.output_shapes(shapes)
        origins = [list(dict.fromkeys(each for source in sources for each in origins[source])) for sources in routes]
        for column, layers in enumerate(stage.columns):
            row, position = network.gpus[column], first
            for layer in layers:
                before, inputs[column] = inputs[column], layer.output_shape(inputs[column])
                if layer.parameters:
                    level = _level(layer)
                    while position < len(found) and not _together(found[position], level, row):
                        position += 1
                    if position == len(found):
                        found.append(level)
                        names.append([])
                    names[position].append(level.name)
                    rows = [each for _, each in origins[column]]
                    found[position].parts[row] = Part(inputs[column], before, rows, origins[column])
                    origins[column] = [(position, row)]
                    position += 1
                elif isinstance(layer, ChannelSlice):  # of maps that were exchanged for normalization alone
                    origins[column] = [origin for origin in origins[column] if origin[1] == row]
                else:
                    own = [origin for origin in origins[column] if origin[1] == row]
                    number, source = (own or origins[column])[-1]
                    after = image if number == IMAGE else found[number].after
                    if number == IMAGE or source == next(iter(found[number].parts)):
                        after.append(_label(layer))
    named = [level._replace(name=_common(each)) for level, each in zip(found, names, strict=True)]
    return named, list(dict.fromkeys(image))


def _together(level, other, row):
    return row not in level.parts and (level.kernel, level.stride) == (other.kernel, other.stride)


def _common(names):
    # conv1 of conv1a and conv1b, fc2048b of fc2048ba and fc2048bb.
    return names[0] if len(set(names)) == 1 else os.path.commonprefix(names) or " ".join(names)


def _level(layer):
    part = layer.layers[0] if isinstance(layer, SumOfInputs) else layer
    geometry = getattr(part, "geometry", None)
    if geometry is None:
        return Level(layer.names[0], None, 1, {}, [])
    kernel = part.W.shape[-4:-1]  # the W of a locally connected layer begins with the output positions
    return Level(layer.names[0], kernel, geometry["stride"], {}, [])


def _label(layer):
    if isinstance(layer, MaxPool | AvgPool):
        kind = "max" if isinstance(layer, MaxPool) else "mean"
        return f"{kind} pool {layer.window}, stride {layer.stride}"
    if isinstance(layer, kinds.Dropout):
        return f"dropout {layer.p:g}"
    if isinstance(layer, kinds.Subsample):
        return f"subsampled by {layer.stride}"
    return _LABELS.get(type(layer), type(layer).__name__.lower())

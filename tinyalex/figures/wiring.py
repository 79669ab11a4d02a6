"""Which layers a network has, column by column, and what each of them reads: the facts behind Figure 2 of the paper."""

import re
from typing import NamedTuple

from tinyalex.layers import AvgPool, Dropout, MaxPool, ReLU, SpatialNorm, Tanh


class Part(NamedTuple):
    """One column's share of a layer with weights.

    Attributes
    ----------
    shape : tuple of int
        Of its output: (h, w, c) or (units,).
    before : tuple of int
        Of its input, what it reads of other columns included.
    sources : list of int
        The columns that it reads.
    """

    shape: tuple
    before: tuple
    sources: list


class Level(NamedTuple):
    """A layer with weights, of all columns that have one.

    Attributes
    ----------
    name : str
        Without a column's letter: ``conv2``.
    kernel : tuple of int or None
        (k, k, c) of a kernel; None where every input is read.
    stride : int
    parts : dict of int to Part
        By column.
    after : list of str
        What happens to its output, in order.
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
        inputs, here = stage.exchange.output_shapes(shapes), {}
        for column, layers in enumerate(stage.columns):
            for layer in layers:
                before, inputs[column] = inputs[column], layer.output_shape(inputs[column])
                if layer.parameters:
                    level = here.get(_plain(layer)) or _level(layer)
                    here[level.name] = last = level
                    level.parts[column] = Part(inputs[column], before, sources[column])
                    sources[column] = [column]
                elif (here or found) and column == 0:
                    (last if here else found[-1]).after.append(_words(layer))
        found += here.values()
    return found


def _plain(layer):
    return re.sub(r"(?<=\d)[ab]$", "", layer.names[0])


def _level(layer):
    geometry = getattr(layer, "geometry", None)
    if geometry is None:
        return Level(_plain(layer), None, 1, {}, [])
    kernel = layer.W.shape[-4:-1]  # a locally connected layer's come after its places
    return Level(_plain(layer), kernel, geometry["stride"], {}, [])


def _words(layer):
    if isinstance(layer, MaxPool | AvgPool):
        kind = "max" if isinstance(layer, MaxPool) else "mean"
        return f"{kind} pool {layer.window}, {layer.stride}"
    for kind, words in ((ReLU, "ReLU"), (Tanh, "tanh"), (Dropout, f"dropout {getattr(layer, 'p', 0):g}")):
        if isinstance(layer, kind):
            return words
    return "norm in space" if isinstance(layer, SpatialNorm) else "norm"

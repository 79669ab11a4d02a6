"""Columns and what crosses between them (paper §3.2, Figure 2).

A column is a list of layers on one device. A stage is a list of columns that run independently of each other. Before
each stage an `Exchange` copies maps from column to column; nothing else passes between columns.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeAlias

from tinyalex.devices.device import Array, Device
from tinyalex.kernels import parts
from tinyalex.layers.joined import inputs_of, joined_shape
from tinyalex.layers.layer import Layer
from tinyalex.randomness import Step

Shape: TypeAlias = tuple[int, ...]  # of one image: (h, w, c) or (units,)
Crossed: TypeAlias = Counter[tuple[str, int, int]]  # bytes, by (direction, source, destination)
ForwardHook: TypeAlias = Callable[[Layer, Array], object]  # called with every layer and its output


class Exchange:
    """Join, for each column, the maps of the columns that it reads, along the last axis.

    Columns of different height and width are joined as plain numbers: see `tinyalex.layers.joined`.

    Parameters
    ----------
    routes : list of list of int
        For each destination the columns that it reads, in this order. With ``[[0], [1]]`` each column reads only
        itself, with ``[[0, 1], [0, 1]]`` both read both, with ``[[0, 1], []]`` column a reads both and b has no input.
    gpus : list of int, optional
        The GPU of each column. Nothing crosses between columns of one GPU. Default: each column has its own.

    Attributes
    ----------
    crossed : Counter
        Bytes copied between columns so far, by ``(direction, source, destination)``.
    """

    def __init__(self, routes: list[list[int]], gpus: Sequence[int] | None = None) -> None:
        self.routes, self.gpus = routes, list(range(len(routes)) if gpus is None else gpus)
        self.crossed: Crossed = Counter()

    def replica(self) -> "Exchange":
        """Return an exchange with the same routes and its own byte count."""
        return Exchange(self.routes, self.gpus)

    def output_shapes(self, shapes: Sequence[Shape]) -> list:
        """Return each column's shape after the exchange, None for a column without input, from the shapes before it."""
        return [joined_shape([shapes[s] for s in sources]) if sources else None for sources in self.routes]

    def bytes_per_image(self, shapes: list[Shape], itemsize: int = 4) -> Crossed:
        """Predict the bytes that forward and backward of one image copy between columns, counted like `crossed`."""
        bytes_: Crossed = Counter()
        for destination, sources in enumerate(self.routes):
            for source in set(sources):
                if self.gpus[source] != self.gpus[destination]:
                    size = itemsize * math.prod(shapes[source])
                    bytes_["forward", source, destination] += size
                    bytes_["backward", destination, source] += size
        return bytes_

    def forward(self, xs: Sequence[Array], devices: Sequence[Device]) -> list[Array]:
        """Return each column's input (n, ..., sum of c) from all columns' outputs (n, ..., c)."""
        self._shapes: list[Shape] = [() if x is None else x.shape[1:] for x in xs]
        return [self._join(xs, destination, devices) for destination in range(len(self.routes))]

    def _join(self, xs: Sequence[Array], destination: int, devices: Sequence[Device]) -> Array:
        sources, device = self.routes[destination], devices[destination]
        if sources == [destination]:
            return xs[destination]
        with device:
            read = {
                source: self._transfer(xs[source], "forward", source, destination, devices)
                for source in dict.fromkeys(sources)  # once, even if it is read twice
            }
            if len(sources) < 2:
                return read[sources[0]] if sources else None
            first, shapes = xs[sources[0]], [self._shapes[source] for source in sources]
            joined = device.empty((len(first), *joined_shape(shapes)), first.dtype)
            for part, source in zip(inputs_of(joined, shapes), sources, strict=True):
                parts.copy(device, part, read[source])
        return joined

    def backward(self, dys: Sequence[Array], devices: Sequence[Device]) -> list[Array]:
        """Send each source its part of every reader's gradient; the source adds them, column a's first.

        A reader whose backward returned None, because nothing below it learns, sends nothing.
        """
        dxs = []
        for source in range(len(dys)):
            dx = None
            for reader, dy in enumerate(dys):
                if source in self.routes[reader] and dy is not None:
                    dy = self._part(dy, source, reader, devices[reader])
                    dy = self._transfer(dy, "backward", reader, source, devices)
                    dx = dy if dx is None else parts.add(devices[source], dx, dy)
            dxs.append(dx)
        return dxs

    def _part(self, dy: Array, source: int, reader: int, device: Device) -> Array:
        # The gradient of one source in that of a reader's joined input: a view, or a sum if the reader reads it twice.
        sources = self.routes[reader]
        if sources == [source]:
            return dy
        inputs = inputs_of(dy, [self._shapes[each] for each in sources])
        return device.sum_of([part for part, each in zip(inputs, sources, strict=True) if each == source])

    def _transfer(self, x: Array, direction: str, source: int, destination: int, devices: Sequence[Device]) -> Array:
        if self.gpus[source] == self.gpus[destination]:
            return x
        x = parts.contiguous(devices[source], x)
        self.crossed[direction, source, destination] += x.nbytes
        return devices[destination].receive(x, devices[source])


class Stage:
    """An exchange, then the columns that read its results.

    Parameters
    ----------
    name : str
        Name of the first layer after the exchange, ``conv3``.
    exchange : Exchange
    columns : list of list of Layer
    """

    def __init__(self, name: str, exchange: Exchange, columns: list[list[Layer]]) -> None:
        self.name, self.exchange, self.columns = name, exchange, columns

    def replica(self) -> "Stage":
        """Return a stage that shares the parameter values and has its own saved arrays, gradients and byte counts."""
        return Stage(
            self.name, self.exchange.replica(), [[layer.replica() for layer in column] for column in self.columns]
        )

    def crossed(self) -> Crossed:
        """Return the bytes that the exchange has copied so far."""
        return Counter(self.exchange.crossed)

    def output_shapes(self, shapes: Sequence[Shape]) -> list:
        """Return each column's output shape, (h, w, c) or (units,), from the shapes before the exchange."""
        shapes = self.exchange.output_shapes(shapes)
        for index, column in enumerate(self.columns):
            for layer in column:
                shapes[index] = layer.output_shape(shapes[index])
        return shapes

    def forward(
        self,
        xs: Sequence[Array],
        devices: Sequence[Device],
        *,
        training: bool = False,
        step: Step | None = None,
        forward_hook: ForwardHook | None = None,
    ) -> list[Array]:
        """Run every column; ``forward_hook(layer, y)``, if given, is called with each layer's output."""
        ys = self.exchange.forward(xs, devices)
        for index, column in enumerate(self.columns):
            with devices[index]:
                for layer in column:
                    ys[index] = layer.forward(ys[index], training=training, step=step)
                    if forward_hook:
                        forward_hook(layer, ys[index])
        return ys

    def backward(self, dys: Sequence[Array], devices: Sequence[Device]) -> list[Array]:
        """Run every column backward; return the gradients with respect to the outputs of the stage before."""
        dys = list(dys)
        for index, column in enumerate(self.columns):
            with devices[index]:
                for layer in reversed(column):
                    dys[index] = layer.backward(dys[index])
        return self.exchange.backward(dys, devices)

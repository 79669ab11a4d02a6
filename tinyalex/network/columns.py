"""Columns and what crosses between them (paper §3.2, Figure 2).

A column is a list of layers that live on one device, a stage is a list of columns that run without looking at each
other, and before every stage stands an `Exchange`, the only place where an array goes from one column to another.
"""

import math
from collections import Counter
from itertools import accumulate


class Exchange:
    """Give each column the maps of the columns that it reads, joined in order along the last axis.

    Parameters
    ----------
    routes : list of list of int
        For each destination the columns that it reads, ascending. ``[[0], [1]]`` goes straight on, ``[[0, 1], [0, 1]]``
        lets two columns read each other, ``[[0, 1], []]`` gathers both on column a and leaves b without work.

    Attributes
    ----------
    crossed : Counter
        Bytes that went across so far, by ``(direction, source, destination)``.
    """

    def __init__(self, routes):
        self.routes = routes
        self.crossed = Counter()

    def replica(self):
        """Return an exchange along the same routes, with a count of its own."""
        return Exchange(self.routes)

    def output_shapes(self, shapes):
        """Return each column's input shape, or None, from all columns' shapes before the exchange."""
        return [
            (*shapes[sources[0]][:-1], sum(shapes[s][-1] for s in sources)) if sources else None
            for sources in self.routes
        ]

    def bytes_per_image(self, shapes, itemsize=4):
        """Return the bytes that one image's pass forward and backward will take across, counted like `crossed`."""
        bytes_ = Counter()
        for destination, sources in enumerate(self.routes):
            for source in set(sources) - {destination}:
                size = itemsize * math.prod(shapes[source])
                bytes_["forward", source, destination] += size
                bytes_["backward", destination, source] += size
        return bytes_

    def forward(self, xs, devices):
        """Take each column's output (n, ..., c) to each column's input (n, ..., sum of c)."""
        self._cuts = _cuts([0 if x is None else x.shape[-1] for x in xs], self.routes)
        return [self._join(xs, destination, devices) for destination in range(len(self.routes))]

    def _join(self, xs, destination, devices):
        sources, device = self.routes[destination], devices[destination]
        if sources in ([], [destination]):
            return xs[destination] if sources else None
        with device:
            first, cuts = xs[sources[0]], self._cuts[destination]
            joined = device.empty((*first.shape[:-1], cuts[sources[-1]].stop), first.dtype)
            for source in sources:
                joined[..., cuts[source]] = self._carry(xs[source], "forward", source, destination, devices)
        return joined

    def backward(self, dys, devices):
        """Send every slice of the gradients home and add what arrives, column a's first."""
        dxs = []
        for home in range(len(dys)):
            readers = [reader for reader, sources in enumerate(self.routes) if home in sources]
            with devices[home]:
                dx = None
                for reader in readers:
                    dy = dys[reader]
                    if self.routes[reader] != [home]:
                        dy = dy[..., self._cuts[reader][home]]
                    dy = self._carry(dy, "backward", reader, home, devices)
                    dx = dy if dx is None else dx + dy
            dxs.append(dx)
        return dxs

    def _carry(self, x, direction, source, destination, devices):
        if source == destination:
            return x
        with devices[source] as device:
            x = device.xp.ascontiguousarray(x)
        self.crossed[direction, source, destination] += x.nbytes
        return devices[destination].receive(x, devices[source])


class Stage:
    """Columns that run side by side, behind an exchange.

    Parameters
    ----------
    name : str
        Of the layer that reads what was exchanged: ``conv3``.
    exchange : Exchange
    columns : list of list of Layer
    """

    def __init__(self, name, exchange, columns):
        self.name, self.exchange, self.columns = name, exchange, columns

    def replica(self):
        """Return a stage with the same parameter values, and saved state, gradients and byte counts of its own."""
        return Stage(
            self.name, self.exchange.replica(), [[layer.replica() for layer in column] for column in self.columns]
        )

    def crossed(self):
        """Return the bytes that the exchange carried so far."""
        return Counter(self.exchange.crossed)

    def output_shapes(self, shapes):
        """Return each column's output shape, (h, w, c) or (units,), from the shapes before the exchange."""
        shapes = self.exchange.output_shapes(shapes)
        for index, column in enumerate(self.columns):
            for layer in column:
                shapes[index] = layer.output_shape(shapes[index])
        return shapes

    def forward(self, xs, devices, *, training=False, step=None, forward_hook=None):
        """Run every column; ``forward_hook(layer, y)``, if given, sees each layer's output."""
        ys = self.exchange.forward(xs, devices)
        for index, column in enumerate(self.columns):
            with devices[index]:
                for layer in column:
                    ys[index] = layer.forward(ys[index], training=training, step=step)
                    if forward_hook:
                        forward_hook(layer, ys[index])
        return ys

    def backward(self, dys, devices):
        """Run every column backwards and return the gradients of the outputs of the stage before."""
        dys = list(dys)
        for index, column in enumerate(self.columns):
            with devices[index]:
                for layer in reversed(column):
                    dys[index] = layer.backward(dys[index])
        return self.exchange.backward(dys, devices)


def _cuts(widths, routes):
    # Where, in each destination's joined axis, each source's maps lie.
    cuts = []
    for sources in routes:
        ends = accumulate(widths[source] for source in sources)
        cuts.append({source: slice(end - widths[source], end) for source, end in zip(sources, ends, strict=True)})
    return cuts

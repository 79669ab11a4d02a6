"""Runs a stage on the CPU block by block: blocks of images that fit in the cache, divided among the worker threads.

Each worker gets a fixed share of a batch's blocks. Each block runs on its own replica of the stage: replicas share the
parameter values and keep their own saved arrays. A layer's output is still in the cache when the next layer reads it.
"""

import math

import numpy as np

from tinyalex.devices.parallel import ranges, workers
from tinyalex.randomness import Step

BYTES = 5 << 20  # limit for a block's largest layer output in a column, so that a few outputs fit in a core's cache


class BlockedStage:
    """A stage with the interface of `Stage` that runs block by block.

    Parameters
    ----------
    stage : Stage
        After `Network.build`.
    shapes : list of tuple of int
        One image's (h, w, c) in each column, before the exchange.
    itemsize : int
        Bytes of a number.

    Attributes
    ----------
    size : int
        Largest number of images in a block.
    """

    def __init__(self, stage, shapes, itemsize):
        self.stage, self.shapes = stage, shapes
        self._layers, largest = [], 1  # (layer, its input shape)
        for shape, column in zip(stage.exchange.output_shapes(shapes), stage.columns, strict=True):
            for layer in column:
                self._layers.append((layer, shape))
                shape = layer.output_shape(shape)
                largest = max(largest, math.prod(shape))
        self.size = max(1, BYTES // (itemsize * largest))
        self._replicas = {(0, 0): stage}

    def forward(self, xs, devices, *, training=False, step=None, forward_hook=None):
        """Run `Stage.forward` on every block; return each column's output (n, ho, wo, o).

        ``forward_hook(layer, y)`` is called for every layer and every block.
        """
        first = next(x for x in xs if x is not None)
        self._shares = self.shares(len(first))
        workers().run(_prepare, self._layers)
        dtype = np.result_type(first.dtype, *(p.value.dtype for _, p in _parameters(self.stage)))
        shapes = self.stage.output_shapes(self.shapes)
        ys = [
            device.empty((len(first), *shape), dtype) if shape else None
            for device, shape in zip(devices, shapes, strict=True)
        ]

        def run(worker):
            for number, block in enumerate(self._shares[worker]):
                block_step = step and Step(step.seed, step.number, step.first + block.start)
                stage = self._replica(worker, number)
                outputs = stage.forward(
                    _cut(xs, block), devices, training=training, step=block_step, forward_hook=forward_hook
                )
                _fill(ys, block, outputs, devices)

        workers().run(run, range(len(self._shares)))
        if not training:  # no backward follows
            self._release()
        return ys

    def backward(self, dys, devices):
        """Run `Stage.backward` on every block; sum the parameters' gradients over all blocks."""
        given = next(dy for dy in dys if dy is not None)
        dxs = [
            device.empty((len(given), *shape), given.dtype) if self._wants_gradient(source) else None
            for source, (device, shape) in enumerate(zip(devices, self.shapes, strict=True))
        ]

        def run(worker):
            for number, block in enumerate(self._shares[worker]):
                stage = self._replica(worker, number)
                _fill(dxs, block, stage.backward(_cut(dys, block), devices), devices)
                if number > 0:
                    _add_gradients(self._replica(worker, 0), stage)

        workers().run(run, range(len(self._shares)))
        for worker in range(1, len(self._shares)):  # always in this order, so that the sum has the same bits
            _add_gradients(self.stage, self._replica(worker, 0))
        self._release()
        return dxs

    def crossed(self):
        """Return the bytes that the exchanges of all blocks have copied, as `Stage.crossed` does."""
        first, *others = (stage.exchange.crossed for stage in self._replicas.values())
        return sum(others, first)

    def shares(self, count):
        """Return a list of blocks for each worker, as slices of a batch of ``count`` images."""
        if not count:
            return [[slice(0, 0)]]  # an empty block, whose backward sets the gradients to 0
        shares = []
        for share in ranges(count, workers().count):
            blocks = ranges(share.stop - share.start, -(-(share.stop - share.start) // self.size))
            shares.append([slice(share.start + block.start, share.start + block.stop) for block in blocks])
        return shares

    def _wants_gradient(self, source):
        readers = zip(self.stage.exchange.routes, self.stage.columns, strict=True)
        return any(not column or column[0].input_gradient for sources, column in readers if source in sources)

    def _replica(self, worker, number):
        if (worker, number) not in self._replicas:
            stage = self.stage.replica()
            # A worker's first replica keeps the sum of its gradients. The other replicas write theirs, one block after
            # the other, to the same arrays, those of the second replica.
            second = _parameters(self._replica(worker, 1) if number > 1 else self.stage)
            for (device, parameter), (_, shared) in zip(_parameters(stage), second, strict=True):
                parameter.grad = shared.grad if number > 1 else device.zeros(parameter.shape, parameter.value.dtype)
            self._replicas[worker, number] = stage
        return self._replicas[worker, number]

    def _release(self):
        for layer, _ in self._layers:
            layer.release()


def _prepare(pair):
    layer, shape = pair
    with layer.device:
        layer.prepare(shape)


def _cut(wholes, block):
    return [None if whole is None else whole[block] for whole in wholes]


def _fill(wholes, block, parts, devices):
    for device, whole, part in zip(devices, wholes, parts, strict=True):
        if whole is not None:
            with device:
                whole[block] = part


def _parameters(stage):
    for column in stage.columns:
        for layer in column:
            yield from ((layer.device, parameter) for parameter in layer.parameters)


def _add_gradients(stage, other):
    for (device, parameter), (_, summand) in zip(_parameters(stage), _parameters(other), strict=True):
        with device:
            parameter.grad += summand.grad

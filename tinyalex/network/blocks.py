"""A stage on the processor: images in blocks that stay in cache, shared out among the workers.

Each worker has a fixed share of a batch's blocks, and each block a replica of the stage, with shared values and saved
state of its own. What one image computes is read again before it has left the cache.
"""

import math

import numpy as np

from tinyalex.devices.parallel import ranges, workers
from tinyalex.randomness import Step

BYTES = 5 << 20  # a block's largest layer output in a column: a few of them fit in a core's share of the cache


class Blocks:
    """Run a stage forward and backward, as `Stage` does, block by block.

    Parameters
    ----------
    stage : Stage
        Built.
    shapes : list of tuple of int
        One image's (h, w, c) before the exchange, one a column.
    itemsize : int
        Bytes of a number.

    Attributes
    ----------
    size : int
        Images in a block, at most.
    """

    def __init__(self, stage, shapes, itemsize):
        self.stage, self.shapes = stage, shapes
        self._layers, largest = [], 1  # the layers with an image's shape before them
        for shape, column in zip(stage.exchange.output_shapes(shapes), stage.columns, strict=True):
            for layer in column:
                self._layers.append((layer, shape))
                shape = layer.output_shape(shape)
                largest = max(largest, math.prod(shape))
        self.size = max(1, BYTES // (itemsize * largest))
        self._replicas = {(0, 0): stage}

    def forward(self, xs, devices, *, training=False, step=None, forward_hook=None):
        """Take each column's (n, h, w, c) to its (n, ho, wo, o); ``forward_hook`` sees every layer's output of every block."""
        self._shares = self.shares(len(xs[0]))
        workers().run(_prepare, self._layers)
        dtype = np.result_type(xs[0].dtype, *(p.value.dtype for _, p in _parameters(self.stage)))
        shapes = self.stage.output_shapes(self.shapes)
        ys = [device.empty((len(xs[0]), *shape), dtype) for device, shape in zip(devices, shapes, strict=True)]

        def run(worker):
            for number, block in enumerate(self._shares[worker]):
                here = step and Step(step.seed, step.number, step.first + block.start)
                stage = self._replica(worker, number)
                parts = [x[block] for x in xs]
                outputs = stage.forward(parts, devices, training=training, step=here, forward_hook=forward_hook)
                _fill(ys, block, outputs, devices)

        workers().run(run, range(len(self._shares)))
        if not training:  # no backward follows
            self._release()
        return ys

    def backward(self, dys, devices):
        """Take each column's gradient back to before the exchange, and sum the parameters' over all blocks."""
        first = self.stage.columns[0][0]
        dxs = [
            device.empty((len(dy), *shape), dy.dtype) if first.input_gradient else None
            for device, dy, shape in zip(devices, dys, self.shapes, strict=True)
        ]

        def run(worker):
            for number, block in enumerate(self._shares[worker]):
                stage = self._replica(worker, number)
                _fill(dxs, block, stage.backward([dy[block] for dy in dys], devices), devices)
                if number > 0:
                    _add_gradients(self._replica(worker, 0), stage)

        workers().run(run, range(len(self._shares)))
        for worker in range(1, len(self._shares)):  # in this order: the same bits every time
            _add_gradients(self.stage, self._replica(worker, 0))
        self._release()
        return dxs

    def crossed(self):
        """Return the bytes that the blocks' exchanges carried, counted like ``Exchange.crossed``."""
        first, *others = (stage.exchange.crossed for stage in self._replicas.values())
        return sum(others, first)

    def shares(self, count):
        """Return each worker's blocks, as slices of a batch of ``count`` images."""
        shares = []
        for share in ranges(count, workers().count):
            blocks = ranges(share.stop - share.start, -(-(share.stop - share.start) // self.size))
            shares.append([slice(share.start + block.start, share.start + block.stop) for block in blocks])
        return shares

    def _replica(self, worker, number):
        if (worker, number) not in self._replicas:
            stage = self.stage.replica()
            # A worker's first block keeps the sum of its gradients, the others share one place for theirs.
            lender = _parameters(self._replica(worker, 1) if number > 1 else self.stage)
            for (device, mine), (_, its) in zip(_parameters(stage), lender, strict=True):
                mine.grad = its.grad if number > 1 else device.zeros(mine.shape, mine.value.dtype)
            self._replicas[worker, number] = stage
        return self._replicas[worker, number]

    def _release(self):
        for layer, _ in self._layers:
            layer.release()


def _prepare(pair):
    layer, shape = pair
    with layer.device:
        layer.prepare(shape)


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
    for (device, parameter), (_, its) in zip(_parameters(stage), _parameters(other), strict=True):
        with device:
            parameter.grad += its.grad

"""A network: stages of columns, described first, given arrays by `build`, run forward and backward.

On the CPU the convolutional stages (the trunk) run in blocks of images that stay in cache. Each worker has a fixed
share of the blocks, and each block a replica of the stages, with shared values and saved state of its own. The fully
connected stages (the head) take the whole batch at once, with their products shared among the workers.
"""

import contextlib

import numpy as np

from tinyalex.backend import Device
from tinyalex.errors import DataError, ShapeError, UsageError
from tinyalex.layers import Linear, SoftmaxLoss
from tinyalex.parallel import ranges, workers
from tinyalex.randomness import Step

_BLOCK_BYTES = 4 << 20  # of the first layer's output, the largest: a few of them fit in a core's share of the cache


class Network:
    """Stages of columns, from images to logits on column a.

    Parameters
    ----------
    stages : list of Stage
        The first reads the images; the last leaves the logits on column a.
    input_shape : tuple of int
        One image's (h, w, c).

    Attributes
    ----------
    loss : SoftmaxLoss
    devices : list of Device
        One a column, after `build`.
    """

    def __init__(self, stages, input_shape):
        self.stages, self.input_shape, self.loss = stages, tuple(input_shape), SoftmaxLoss()
        head = next(i for i, s in enumerate(stages) if any(isinstance(layer, Linear) for layer in s.columns[0]))
        self.trunk, self.head = stages[:head], stages[head:]
        for column in stages[0].columns:
            column[0].input_gradient = False
        self.shapes = [[self.input_shape] * len(stages[0].columns)]
        for stage in stages:
            self.shapes.append(stage.output_shapes(self.shapes[-1]))

    @property
    def classes(self):
        return self.shapes[-1][0][0]

    def layers(self):
        """Yield (column index, layer), stage by stage and column by column."""
        for stage in self.stages:
            for index, column in enumerate(stage.columns):
                yield from ((index, layer) for layer in column)

    def parameters(self):
        """Return all `Parameter` objects, in the order of `layers`."""
        return [parameter for _, layer in self.layers() for parameter in layer.parameters]

    def build(self, devices=("cpu",), seed=0, dtype="float32"):
        """Put each column on its device and draw the first values; return the network.

        Parameters
        ----------
        devices : sequence of str
            One name a column; the same name twice is two contexts on one device.
        """
        columns = len(self.stages[0].columns)
        if len(devices) != columns:
            raise UsageError(f"devices: {len(devices)} given, this form of the net has {columns} column(s)")
        self.devices, self.dtype = [Device(name) for name in devices], np.dtype(dtype)
        for index, layer in self.layers():
            with self.devices[index]:
                layer.build(self.devices[index], seed, self.dtype)
        self.loss.device = self.devices[0]
        self._replicas = {}
        largest = np.prod(self.stages[0].columns[0][0].output_shape(self.input_shape))
        self._block = max(1, _BLOCK_BYTES // int(largest * columns * self.dtype.itemsize))
        return self

    def tensors(self, kind="value"):
        """Yield (name, device, view) of every parameter's value or gradient, in 2012's names: ``conv1a/W``."""
        for index, layer in self.layers():
            for parameter in layer.parameters:
                for name, view in parameter.parts(getattr(parameter, kind)).items():
                    yield name, self.devices[index], view

    def state(self):
        """Return every value, ``{"conv1a/W": view, ...}``: the same names and shapes in every form of the net."""
        return {name: view for name, _, view in self.tensors()}

    def gradients(self):
        """Return every gradient of the last backward, named as in `state`."""
        return {name: view for name, _, view in self.tensors("grad")}

    def load(self, arrays):
        """Copy host arrays, named as in `state`, into the values."""
        for name, device, view in self.tensors():
            with device:
                view[...] = device.put(np.ascontiguousarray(arrays[name], self.dtype))

    @contextlib.contextmanager
    def step(self):
        """Let all devices take the memory of what is computed inside from their arenas; overflows raise no warning."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(np.errstate(over="ignore", invalid="ignore"))
            for device in self.devices:
                stack.enter_context(device.step())
            yield self

    def forward(self, images, step=None, watch=None):
        """Compute the logits.

        Parameters
        ----------
        images : ndarray, shape (n, h, w, c)
            On the host, in the network's dtype.
        step : Step, optional
            In training. None is test time: dropout scales instead of silencing.
        watch : callable, optional
            ``watch(layer, y)`` sees every layer's output.

        Returns
        -------
        array of column a's device, shape (n, classes)
        """
        if images.shape[1:] != self.input_shape:
            raise ShapeError(f"images: got {images.shape[1:]}, this network reads {self.input_shape}")
        self._shares = self._share_out(len(images))
        dtype = np.result_type(images.dtype, *(parameter.value.dtype for parameter in self.parameters()))
        features = [
            device.empty((len(images), *shape), dtype)
            for device, shape in zip(self.devices, self.shapes[len(self.trunk)], strict=True)
        ]

        def run(worker):
            for number, block in enumerate(self._shares[worker]):
                xs = [device.put(images[block]) for device in self.devices]
                here = step and Step(step.seed, step.number, step.first + block.start)
                for stage in self._replica(worker, number):
                    xs = stage.forward(xs, self.devices, here, watch)
                for device, whole, x in zip(self.devices, features, xs, strict=True):
                    with device:
                        whole[block] = x

        workers().run(run, range(len(self._shares)))
        for stage in self.head:
            features = stage.forward(features, self.devices, step, watch)
        return features[0]

    def backward(self, dlogits):
        """Compute every parameter's gradient from the loss's gradient with respect to the logits, (n, classes)."""
        dys = [dlogits] + [None] * (len(self.devices) - 1)
        for stage in reversed(self.head):
            dys = stage.backward(dys, self.devices)

        def run(worker):
            for number, block in enumerate(self._shares[worker]):
                dxs = [dy[block] for dy in dys]
                for stage in reversed(self._replica(worker, number)):
                    dxs = stage.backward(dxs, self.devices)
                if number > 0:
                    self._add_gradients(self._replica(worker, 0), self._replica(worker, number))

        workers().run(run, range(len(self._shares)))
        for worker in range(1, len(self._shares)):  # in this order: the same bits every time
            self._add_gradients(self.trunk, self._replica(worker, 0))

    def gradient(self, images, labels, step=None):
        """Run forward, loss and backward for a batch.

        Parameters
        ----------
        images : ndarray, shape (n, h, w, c)
        labels : ndarray of int, shape (n,)
        step : Step, optional

        Returns
        -------
        loss : array of no dimensions
        logits : array, shape (n, classes)
            Both on column a's device.
        """
        if len(labels) and not 0 <= labels.min() <= labels.max() < self.classes:
            raise DataError(f"labels: {labels.min()} to {labels.max()}, but the classes are 0 to {self.classes - 1}")
        logits = self.forward(images, step)
        with self.devices[0] as device:
            loss = self.loss.forward(logits, device.put(labels))
            self.backward(self.loss.backward())
        return loss, logits

    def predict(self, images, batch=128):
        """Return the probabilities of the classes on the host, shape (n, classes), for any number of images."""
        rows = []
        for first in range(0, len(images), batch):
            with self.step(), self.devices[0] as device:
                logits = self.forward(images[first : first + batch])
                rows.append(device.get(self.loss.probabilities(logits)))
        return np.concatenate(rows) if rows else np.empty((0, self.classes), self.dtype)

    def crossed(self):
        """Return the bytes that went between columns so far: ``{stage: Counter((direction, source, destination))}``."""
        copies = [self.trunk + self.head, *self._replicas.values()]
        totals = {stage.name: stage.exchange.crossed.copy() for stage in copies[0]}
        for stages in copies[1:]:
            for stage in stages:
                totals[stage.name].update(stage.exchange.crossed)
        return {name: count for name, count in totals.items() if count}

    def _share_out(self, count):
        # Each worker's blocks, as slices of the batch.
        if not self.devices[0].on_host:
            return [[slice(0, count)]]
        shares = []
        for share in ranges(count, workers().count):
            size = share.stop - share.start
            blocks = ranges(size, -(-size // self._block))
            shares.append([slice(share.start + b.start, share.start + b.stop) for b in blocks])
        return shares

    def _replica(self, worker, number):
        if worker == number == 0:
            return self.trunk
        if (worker, number) not in self._replicas:
            stages = [stage.replica() for stage in self.trunk]
            # A worker's first block keeps the sum of its gradients, the others share one place for theirs.
            lender = self._replica(worker, 1) if number > 1 else None
            for (device, mine), (_, its) in zip(_parameters(stages), _parameters(lender or self.trunk), strict=True):
                mine.grad = its.grad if lender else device.zeros(mine.shape, mine.value.dtype)
            self._replicas[worker, number] = stages
        return self._replicas[worker, number]

    @staticmethod
    def _add_gradients(stages, others):
        for (device, parameter), (_, other) in zip(_parameters(stages), _parameters(others), strict=True):
            with device:
                parameter.grad += other.grad


def _parameters(stages):
    for stage in stages:
        for column in stage.columns:
            for layer in column:
                yield from ((layer.device, parameter) for parameter in layer.parameters)

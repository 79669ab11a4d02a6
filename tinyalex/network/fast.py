"""Runs a stage on the CPU with NumPy's fast forms, `tinyalex.kernels.cpu`, in blocks of images.

What a block of n images computes is recorded once for each worker and each of its blocks: a list of calls of NumPy's
functions on arrays that stay where they are. A batch then copies its images into the first array and repeats the calls.
A layer without a fast form runs as it is written, between copies to its layout (n, h, w, c) and back.
"""

import functools
import math
import tracemalloc
from typing import NamedTuple

import numpy as np

from tinyalex import layers
from tinyalex.devices.parallel import ranges, workers
from tinyalex.kernels.cpu.activation import ReLU, Tanh
from tinyalex.kernels.cpu.first_convolution import FirstConvolution
from tinyalex.kernels.cpu.pooling import AvgPool, MaxPool
from tinyalex.kernels.cpu.response import LRN, SpatialNorm
from tinyalex.kernels.cpu.scratch import Scratch, split
from tinyalex.kernels.cpu.winograd import Winograd
from tinyalex.layers.winograd import WinogradConv2d
from tinyalex.randomness import Step

SIZES = 64, 48, 32, 24, 16, 12, 8, 6, 4, 3, 2, 1  # images in a block
NUMBERS = 3 << 19  # in a layer's output of a block of more than 16 images: small outputs are computed for more images
KEPT = 2  # sizes of blocks whose arrays are kept: those of a full batch, and of the last one


def form_of(layer, shape, dtype="float32"):
    """Return the fast form of a layer for images of a shape (h, w, c), or a `ReadableForm`."""
    return _FORMS.get(type(layer), _readable)(layer, shape, dtype)


def _readable(layer, *_):
    return ReadableForm(layer)


def _max_pool(layer, shape, dtype):
    return MaxPool(shape, layer.output_shape(shape), layer.window, layer.stride)


def _average_pool(layer, shape, dtype):
    return AvgPool(shape, layer.output_shape(shape), layer.window, layer.stride, dtype)


def _lrn(layer, shape, dtype):
    return LRN(shape[2], layer.groups, layer.size, layer.k, layer.alpha, layer.beta)


def _spatial_norm(layer, shape, dtype):
    return SpatialNorm(layer.size, layer.k, layer.alpha, layer.beta)


def _winograd(layer, shape, dtype):
    kernel, stride, pad, _ = layer.geometry.values()
    if not (pad < kernel if stride == 1 else not layer.input_gradient):
        return ReadableForm(layer)
    options = kernel, stride, pad, layer.groups, *layer.transforms(shape), layer.input_gradient, dtype
    return Winograd(shape, layer.output_shape(shape), *options)


def _convolution(layer, shape, dtype):
    kernel, stride, pad, _ = layer.geometry.values()
    if layer.groups > 1 or layer.input_gradient:
        return ReadableForm(layer)
    return FirstConvolution(shape, layer.output_shape(shape), kernel, stride, pad, dtype)


_FORMS = {
    layers.ReLU: lambda *_: ReLU(),
    layers.Tanh: lambda *_: Tanh(),
    layers.MaxPool: _max_pool,
    layers.AvgPool: _average_pool,
    layers.LRN: _lrn,
    layers.SpatialNorm: _spatial_norm,
    layers.Conv2d: _convolution,
    WinogradConv2d: _winograd,
}


class Batch(NamedTuple):
    """What calls depend on besides arrays: a block's images, whether it is the first one, and forward's arguments."""

    images: int
    first: bool
    training: bool
    step: Step | None


class ReadableForm:
    """A layer as it is written, between copies from (h, w, n c) to (n, h, w, c) and back."""

    reads_input = reads_output = False  # in backward: the layer itself keeps what it needs

    def __init__(self, layer):
        self.layer = layer

    def prepare(self, *values):
        """Let the layer forget what it prepared for another batch; the replicas share its values."""
        self.layer.release()

    def gradients(self, scratch):
        """Return one worker's sums of the gradients over its blocks."""
        return tuple(scratch.get((number, id(self)), p.shape) for number, p in enumerate(self.layer.parameters))

    def finish(self, sums, *gradients):
        """Write the gradients of the parameters from all workers' sums."""
        for number, gradient in enumerate(gradients):
            gradient[...] = sum(each[number] for each in sums)

    def keep(self, scratch, images, x, y):
        """Return a replica of the layer with gradients of its own, for forward and for backward."""
        replica = self.layer.replica()
        for parameter in replica.parameters:
            parameter.grad = np.zeros(parameter.shape, scratch.dtype)
        return (replica,), replica

    def forward(self, scratch, images, x, y, replica):
        """Yield the call that runs the layer forward."""
        yield self._forward, scratch, images, x, y, replica

    def backward(self, scratch, images, replica, dy, dx):
        """Yield the call that runs the layer backward."""
        yield self._backward, scratch, images, replica, dy, dx

    def _forward(self, scratch, images, x, y, replica):
        batch = scratch.batch
        load(y, images, replica.forward(unload(x, images, batch.images), batch.training, batch.step))

    def _backward(self, scratch, images, replica, dy, dx):
        gradient = replica.backward(unload(dy, images, scratch.batch.images))
        for parameter, total in zip(replica.parameters, self.gradients(scratch), strict=True):
            total[...] = parameter.grad if scratch.batch.first else total + parameter.grad
        if gradient is not None:
            load(dx, images, gradient)


def load(block, images, array):
    """Write images (count, h, w, c) into a block (h, w, n c), and zeros for those beyond count."""
    pixels, count = split(block, images), len(array)
    pixels[:, :, :count], pixels[:, :, count:] = array.transpose(1, 2, 0, 3), 0


def unload(block, images, count):
    """Return the first images of a block (h, w, n c), as (count, h, w, c)."""
    return split(block, images)[:, :, :count].transpose(2, 0, 1, 3).copy()


class LayerCalls:
    """The calls of one layer, in forward or in backward.

    Attributes
    ----------
    name : str
        The layer's.
    direction : {"forward", "backward"}
    """

    def __init__(self, layer, direction, calls):
        self.name, self.direction = layer.name, direction
        self._calls = [(function, tuple(arguments)) for function, *arguments in calls]

    def run(self):
        """Repeat the calls."""
        for function, arguments in self._calls:
            function(*arguments)


class ColumnBlock:
    """The arrays and the calls of one column of a stage for one block of n images.

    Convolutions own the array that they read, which has a border, the array that they write, which has whole tiles, and
    the array in which they want dy; each has a view (h, w, n c) of what counts. Other forms read and write any array.

    Parameters
    ----------
    column : list of (Layer, form)
    shape : tuple of int
        (h, w, c) of one image of the input.
    images : int
        n.
    scratch : Scratch
        The worker's.
    first : bool
        Whether this is the worker's first block: it writes the parameters' gradients, the others add to them.
    """

    def __init__(self, column, shape, images, scratch, first):
        self.images, self._scratch, self._first = images, scratch, first
        shapes = [shape]
        for layer, _ in column:
            shapes.append(layer.output_shape(shapes[-1]))
        self._sizes = [(h, w, images * c) for h, w, c in shapes]
        self._first_form = column[0][1]
        kept = self._record_forward(column)
        self._record_backward(column, kept)

    def forward(self, x, batch):
        """Compute the outputs (count, ho, wo, o) of images x (count, h, w, c)."""
        self._scratch.batch = batch
        if is_convolution(self._first_form):
            self._first_form.load(self._x, x)
        else:
            load(self._x, self.images, x)
        for layer in self._forward:
            layer.run()
        return split(self._y, self.images)[:, :, : batch.images].transpose(2, 0, 1, 3)

    def backward(self, dy, batch):
        """Add to the sums of the parameters' gradients; return the gradient of the images, or None."""
        self._scratch.batch = batch
        load(self._dy, self.images, dy)
        for layer in self._backward:
            layer.run()
        return None if self._dx is None else unload(self._dx, self.images, batch.images)

    def _record_forward(self, column):
        # Returns, for each layer, what its backward reads.
        scratch, images, kept, self._forward = self._scratch, self.images, [], []
        inputs = [self._input(number, form) for number, (_, form) in enumerate(column)]
        self._x, x = inputs[0]
        for number, (layer, form) in enumerate(column):
            whole, wanted = inputs[number][0], inputs[number + 1][1] if number + 1 < len(column) else None
            if is_convolution(form):
                tiles, y = form.output(scratch, images)
                calls = [*form.forward(scratch, images, whole, tiles)]
                if wanted is not None:
                    calls.append((np.copyto, wanted, y))
                    y = wanted
                kept.append(whole)
            else:
                y = self._output(number, form) if wanted is None else wanted
                arguments, saved = form.keep(scratch, images, x, y)
                calls = form.forward(scratch, images, x, y, *arguments)
                kept.append(saved)
            self._forward.append(LayerCalls(layer, "forward", calls))
            x = y
        self._y = x
        return kept

    def _record_backward(self, column, kept):
        scratch, images, self._backward = self._scratch, self.images, []
        gradients = [self._gradient(number, form) for number, (_, form) in enumerate(column)]  # dy of each layer
        before = [None, *(view for _, view in gradients)]
        self._dy = dy = before[-1]
        for number, (layer, form) in reversed([*enumerate(column)]):
            dx, calls = before[number], []
            if is_convolution(form):
                found = _collect(form.backward(scratch, images, kept[number], gradients[number][0], self._first), calls)
                if number and is_convolution(column[number - 1][1]):
                    calls.append((np.copyto, dx, found))
                else:
                    dx = found
            else:
                dx = scratch.get("gradient of images", self._sizes[0]) if dx is None else dx
                calls = form.backward(scratch, images, kept[number], dy, dx)
            self._backward.append(LayerCalls(layer, "backward", calls))
            dy = dx
        self._dx = dy

    def _input(self, number, form):
        # The array that a form reads and the view that the form before writes; None if any array will do.
        if is_convolution(form):
            return form.input(self._scratch, self.images)
        return (
            (np.zeros(self._sizes[number], self._scratch.dtype),) * 2
            if form.reads_input or number == 0
            else (None, None)
        )

    def _output(self, number, form):
        size = self._sizes[number + 1]
        return (
            np.zeros(size, self._scratch.dtype)
            if form.reads_output
            else self._scratch.get(f"between {number % 2}", size)
        )

    def _gradient(self, number, form):
        if is_convolution(form):
            return form.gradient(self._scratch, self.images)
        return (self._scratch.get(f"gradient {number % 2}", self._sizes[number + 1]),) * 2


def is_convolution(form):
    """Whether a form has its own arrays for input, output and gradient."""
    return isinstance(form, Winograd | FirstConvolution)


def _collect(generator, calls):
    # Append what a generator yields to the calls; return what it returns.
    while True:
        try:
            calls.append(next(generator))
        except StopIteration as stop:
            return stop.value


def _with_shapes(column, shape):
    # Yield every layer of a column with the shape (h, w, c) that it reads.
    for layer in column:
        yield layer, shape
        shape = layer.output_shape(shape)


class _Worker:
    # What one worker needs of a stage: its count of the exchange, and its arrays, by the number of images in a block.

    def __init__(self, stage, columns, shapes, dtype):
        self.exchange = stage.exchange.replica()
        self._columns, self._shapes, self._dtype, self._kept = columns, shapes, dtype, {}

    def scratch(self, size):
        """Return the scratch of blocks of ``size`` images."""
        return self._of(size)[0]

    def block(self, size, number):
        """Return the blocks of this number, of ``size`` images, one for each column; [] for one without layers."""
        scratch, blocks = self._of(size)
        if number == len(blocks):
            pairs = zip(self._columns, self._shapes, strict=True)
            blocks.append(
                [column and ColumnBlock(column, shape, size, scratch, number == 0) for column, shape in pairs]
            )
        return blocks[number]

    def _of(self, size):
        kept = self._kept[size] = self._kept.pop(size, None) or (Scratch(self._dtype), [])  # the last used is last
        if len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]
        return kept


class FastStage:
    """A stage with the interface of `BlockedStage` that computes with the fast forms.

    Parameters
    ----------
    stage : Stage
        After `Network.build`, on CPU devices in float32.
    shapes : list of tuple of int
        One image's (h, w, c) in each column, before the exchange.
    readable : BlockedStage
        Runs the readable layers where a ``forward_hook`` watches them, and for images of other types.
    dtype : dtype

    Attributes
    ----------
    size : int
        Largest number of images in a block.
    """

    def __init__(self, stage, shapes, readable, dtype):
        self.stage, self.shapes, self.readable, self.dtype = stage, shapes, readable, dtype
        self._inputs, self._workers, self._batch = stage.exchange.output_shapes(shapes), {}, None
        self._prepared = {}  # by form: copies of the parameters that it has prepared; None: those of a training step
        pairs = zip(stage.columns, self._inputs, strict=True)
        largest = max(math.prod(layer.output_shape(shape)) for pair in pairs for layer, shape in _with_shapes(*pair))
        self.size = max(size for size in SIZES if size <= max(16, NUMBERS // largest))

    @functools.cached_property
    def _columns(self):
        # For each column its layers and their forms, of the layers' settings at the first batch.
        return [
            [(layer, form_of(layer, shape, self.dtype)) for layer, shape in _with_shapes(column, inputs)]
            for column, inputs in zip(self.stage.columns, self._inputs, strict=True)
        ]

    @functools.cached_property
    def _with_parameters(self):
        return [pair for column in self._columns for pair in column if pair[0].parameters]

    @staticmethod
    def supports(stage, shapes):
        """Whether a stage has layers, and all that they read is maps; other columns are idle or carry their input."""
        pairs = zip(stage.columns, stage.exchange.output_shapes(shapes), strict=True)
        read = [shape for column, first in pairs for _, shape in _with_shapes(column, first)]
        first_layers = [column[0] for column in stage.columns if column]
        alike = len({layer.input_gradient for layer in first_layers}) == 1
        return alike and all(shape is not None and len(shape) == 3 for shape in read)

    def forward(self, xs, devices, *, training=False, step=None, forward_hook=None):
        """Run forward on every block; return each column's output (n, ho, wo, o)."""
        self._batch = None
        given = [x for x in xs if x is not None]
        count = len(given[0])
        if forward_hook or count == 0 or any(x.dtype != self.dtype for x in given):
            return self.readable.forward(xs, devices, training=training, step=step, forward_hook=forward_hook)
        shares, size = self.shares(count)
        self._batch = shares, size, training, step
        workers().run(functools.partial(self._prepare, training), self._with_parameters)
        shapes = self.stage.output_shapes(self.shapes)
        ys = [
            device.empty((count, *shape), self.dtype) if shape else None
            for device, shape in zip(devices, shapes, strict=True)
        ]

        def run(worker, part, batch, blocks):
            parts = worker.exchange.forward([None if x is None else x[part] for x in xs], devices)
            for x, y, block in zip(parts, ys, blocks, strict=True):
                if y is not None:
                    y[part] = block.forward(x, batch) if block else x

        self._run(run)
        return ys

    def backward(self, dys, devices):
        """Run backward on every block; sum the parameters' gradients over all blocks."""
        if self._batch is None:
            return self.readable.backward(dys, devices)
        needed = any(column[0].input_gradient for column in self.stage.columns if column)
        count = next(len(dy) for dy in dys if dy is not None)
        read = {source for sources in self.stage.exchange.routes for source in sources}
        dxs = [
            device.empty((count, *shape), self.dtype) if needed and source in read else None
            for source, (device, shape) in enumerate(zip(devices, self.shapes, strict=True))
        ]

        def run(worker, part, batch, blocks):
            found = [None if dy is None else dy[part] for dy in dys]
            found = [block.backward(dy, batch) if block else dy for dy, block in zip(found, blocks, strict=True)]
            if needed:
                for whole, dx in zip(dxs, worker.exchange.backward(found, devices), strict=True):
                    if whole is not None:
                        whole[part] = dx

        self._run(run)
        shares, size, *_ = self._batch
        used = [self._worker(index).scratch(size) for index in range(len(shares))]

        def finish(pair):
            layer, form = pair
            form.finish([form.gradients(scratch) for scratch in used], *(p.grad for p in layer.parameters))

        workers().run(finish, self._with_parameters)
        return dxs

    def crossed(self):
        """Return the bytes that the exchanges of all blocks have copied, as `Stage.crossed` does."""
        return sum((each.exchange.crossed for each in self._workers.values()), self.readable.crossed())

    def shares(self, count):
        """Return a list of blocks for each worker, as slices of a batch of ``count`` images, and a block's images.

        A worker's last block may have fewer images; it is computed as if it had all.
        """
        shares = ranges(count, workers().count)
        largest = max((share.stop - share.start for share in shares), default=1)
        # The fewest images to compute; each block costs about as much as another image.
        size = min((s for s in SIZES if s <= self.size), key=lambda s: -(-largest // s) * (s + 1))
        return [
            [slice(low, min(low + size, share.stop)) for low in range(share.start, share.stop, size)]
            for share in shares
        ], size

    def memory(self, count):
        """Return the bytes that a batch of ``count`` images takes here, all workers together; nothing is computed."""
        shares, size = self.shares(count)
        forms, first, block = self._measured(size)
        return forms + sum(first + (len(share) - 1) * block for share in shares)

    @functools.cache  # noqa: B019 - a handful of sizes
    def _measured(self, size):
        # Bytes of the forms, and of a worker's first block with its scratch and of another block. The arrays are made
        # and counted; the system gives them memory only when they are written to.
        started = not tracemalloc.is_tracing()
        if started:
            tracemalloc.start(1)
        try:
            sizes, probe = [tracemalloc.get_traced_memory()[0]], FastStage(self.stage, self.shapes, None, self.dtype)
            worker = _Worker(self.stage, probe._columns, self._inputs, self.dtype)
            for number in range(3):
                sizes.append(tracemalloc.get_traced_memory()[0])
                if number < 2:
                    worker.block(size, number)
        finally:
            if started:
                tracemalloc.stop()
        return [int(each) for each in np.diff(sizes)]

    def _prepare(self, training, pair):
        # In a test the parameters are mostly those of the last batch. Comparing them with a copy takes much less time
        # than Winograd's transform, which for one image takes longer than the image.
        layer, form = pair
        values = [parameter.value for parameter in layer.parameters]
        kept = self._prepared.pop(form, None)
        if training or kept is None or not all(map(np.array_equal, kept, values)):
            form.prepare(*values)
            kept = None if training else [value.copy() for value in values]
        self._prepared[form] = kept

    def _run(self, function):
        # Run function(worker, slice of the batch, Batch, blocks) for all blocks.
        shares, size, training, step = self._batch

        def run(index):
            worker = self._worker(index)
            for number, part in enumerate(shares[index]):
                first = step and Step(step.seed, step.number, step.first + part.start)
                batch = Batch(part.stop - part.start, number == 0, training, first)
                function(worker, part, batch, worker.block(size, number))

        workers().run(run, range(len(shares)))

    def _worker(self, index):
        if index not in self._workers:
            self._workers[index] = _Worker(self.stage, self._columns, self._inputs, self.dtype)
        return self._workers[index]

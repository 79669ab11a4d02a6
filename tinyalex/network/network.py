"""A network: stages of columns. It is described without arrays, `build` allocates them, then it runs.

On the CPU the convolutional stages (the trunk) run in blocks of images, which the worker threads share: in float32 by
NumPy's fast forms (`tinyalex.network.fast`), else by the readable layers (`tinyalex.network.blocks`). The fully
connected stages (the head) take the whole batch at once, and the workers share their matrix products.
"""

import contextlib
import math
import string
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from tinyalex.devices.device import Array, Device, fitting, of_one_kind
from tinyalex.devices.upload import DeviceBatch
from tinyalex.errors import CheckpointError, OrderError, ShapeError, UsageError
from tinyalex.labels import check as check_labels
from tinyalex.layers import Dropout, Layer, Parameter, SoftmaxLoss
from tinyalex.network.blocks import BlockedStage
from tinyalex.network.columns import Crossed, ForwardHook, Shape, Stage
from tinyalex.network.fast import FastStage
from tinyalex.network.fusion import fuse
from tinyalex.network.recorded import RecordedNetwork
from tinyalex.network.storage import Bfloat16Stage
from tinyalex.randomness import Step


class Network:
    """Stages of columns, from images to logits on column a.

    Parameters
    ----------
    stages : list of Stage
        The first reads the images; the last one's output on column a is the logits. Layers without a name are numbered:
        ``conv2d1``, ``linear2``.
    input_shape : tuple of int
        (h, w, c) of one image.
    gpus : list of int, optional
        The GPU of each column, where one GPU has several: see `tinyalex.network.graph`. Default: each its own.

    Raises
    ------
    UsageError
        If the stages compute no logits, or two layers with parameters have the same name.
    ShapeError
        If a layer does not fit the one before it.

    A deep copy, and a network that was pickled, computes the same bits, and has arrays and devices of its own.

    Attributes
    ----------
    loss : SoftmaxLoss
    devices : list of Device
        One for each column; set by `build`. Columns of one GPU have the same.
    executors : list
        What runs each of `stages` on these devices: the stage itself; on the CPU a `FastStage`, or a `BlockedStage` of
        the readable layers; or its form with fused GPU kernels, or with activations in bfloat16. Set by `build`.
    recorded : RecordedNetwork or None
        What repeats training steps; set by `record_steps`.
    shapes : list of list of tuple
        One image's shape in each column, before the first stage and after every stage.
    """

    devices: list[Device]
    dtype: np.dtype
    executors: list[Stage | BlockedStage | FastStage]
    recorded: RecordedNetwork | None = None
    _forward_images: int | None = None  # of the last forward, if backward may follow it

    def __init__(self, stages: list[Stage], input_shape: Sequence[int], gpus: Sequence[int] | None = None) -> None:
        sides = input_shape if isinstance(input_shape, tuple | list) else ()
        if not sides or not all(_whole(side, 1) for side in sides):
            raise UsageError(f"network: input_shape {input_shape!r}; give (height, width, channels), whole numbers")
        if not stages or not any(stages[0].columns):
            raise UsageError("network: the first stage has no layer; add one, which reads the images")
        self.stages, self.input_shape, self.loss = stages, tuple(input_shape), SoftmaxLoss()
        self.gpus = list(range(len(stages[0].columns)) if gpus is None else gpus)
        for column in stages[0].columns:
            for layer in column[:1]:
                layer.input_gradient = False
        self._name_layers()
        self.shapes: list[list[Shape]] = [[self.input_shape] * len(stages[0].columns)]
        for stage in stages:
            self.shapes.append(stage.output_shapes(self.shapes[-1]))
        after = self.shapes[1:]
        heads = [i for i, shapes in enumerate(after) if any(shape and len(shape) == 1 for shape in shapes)]
        if not heads:
            raise UsageError("network: no stage has a Linear layer; add one on column a, whose outputs are the logits")
        self.trunk, self.head = stages[: heads[0]], stages[heads[0] :]
        if self.shapes[-1][0] is None or len(self.shapes[-1][0]) != 1:
            raise UsageError(f"network: its outputs are {self.shapes[-1][0]}; end it with a Linear layer on column a")

    def _name_layers(self) -> None:
        # Layers without a name get one: conv2d1, relu2, with the column's letter if there are two. Parameters are
        # loaded by their layer's name, and dropout's masks are drawn by it.
        counts: Counter[tuple[str, str]] = Counter()
        for index, layer in self.layers():
            if not layer.name:
                letter = string.ascii_lowercase[index] if len(self.stages[0].columns) > 1 else ""
                kind = type(layer).__name__.lower()
                counts[kind, letter] += 1
                layer.named(f"{kind}{counts[kind, letter]}{letter}")
            if isinstance(layer, Dropout) and not layer.stream:
                layer.stream = layer.name
        names = Counter(name for _, layer in self.layers() if layer.parameters for name in layer.names)
        for name in (name for name, count in names.items() if count > 1):
            raise UsageError(f"network: two layers with parameters are called '{name}'; give each a name of its own")

    def __getstate__(self) -> dict[str, Any]:
        # A copy gets executors of its own: they hold recorded calls on arrays that must not be shared.
        own = "executors", "recorded", "_forward_images"
        return {name: value for name, value in vars(self).items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if "devices" in state:
            self._make_executors()

    @property
    def classes(self) -> int:
        return self.shapes[-1][0][0]

    def layers(self) -> Iterator[tuple[int, Layer]]:
        """Yield (column index, layer), stage by stage and column by column."""
        for stage in self.stages:
            for index, column in enumerate(stage.columns):
                yield from ((index, layer) for layer in column)

    def last_layers(self) -> list[Layer]:
        """Return the layers with parameters that compute the logits: one, or one for each column of a split layer."""
        found: list[Layer] = []
        reached = {0}
        for stage in reversed(self.stages):
            before = set()
            for column in sorted(reached):
                weighted = [layer for layer in stage.columns[column] if layer.parameters]
                found += weighted[-1:]
                before |= set() if weighted else set(stage.exchange.routes[column])
            reached = before
        return found

    def parameters(self) -> list[Parameter]:
        """Return all `Parameter` objects, in the order of `layers`."""
        return [parameter for _, layer in self.layers() for parameter in layer.parameters]

    def build(
        self,
        devices: Sequence[str] = ("cpu",),
        seed: int | None = 0,
        dtype: str | np.dtype = "float32",
        kernels: bool = True,
        precision: str = "float32",
        fall_back: bool = False,
    ) -> "Network":
        """Put each column on its device, allocate and initialize the parameters, and return the network.

        Parameters
        ----------
        devices : sequence of str
            One name for each column (or GPU of several columns); the same name may be given twice.
        seed : int or None
            Of the first values; None leaves the weights 0, to be loaded.
        dtype : str or dtype
        kernels : bool
            Whether layers may use the fast forms of `tinyalex.kernels`. False runs the readable layers one by one.
        precision : {"float32", "tf32", "bf16"}
            On a GPU, of a net in float32: "tf32" rounds the factors of matrix products, "bf16" also what is stored of
            the activations and their gradients (`tinyalex.network.storage`).
        fall_back : bool
            Compute in float32 on a device that lacks "bf16", instead of raising an error.

        Raises
        ------
        DeviceError
            If a device is not there, or cannot compute in "bf16".
        """
        columns = max(self.gpus) + 1
        if isinstance(devices, str):
            raise UsageError(
                f"devices: '{devices}' is one name; give a list with a name for each column, ['{devices}']"
            )
        if seed is not None and not _whole(seed):
            raise UsageError(f"seed: {seed!r}; give a whole number, or None to leave the weights 0")
        if len(devices) != columns:
            raise UsageError(f"devices: {len(devices)} given, this form of the net has {columns} column(s)")
        made, self.dtype = of_one_kind([Device(name, kernels) for name in devices]), np.dtype(dtype)
        for device in made:
            device.use(precision if self.dtype == np.float32 else "float32", fall_back)
        self.devices = [made[gpu] for gpu in self.gpus]
        for index, layer in self.layers():
            with self.devices[index]:
                layer.build(self.devices[index], seed, self.dtype)
        with self.devices[0] as device:
            self.loss.build(device, dtype=self.dtype)
        self._make_executors()
        return self

    def _make_executors(self) -> None:
        self.executors = list(self.stages)
        if self.devices[0].precision == "bf16" and self.dtype == np.float32:
            stages = map(fuse, self.stages) if self.devices[0].has_cuda_kernels(self.dtype) else self.stages
            logits = self.last_layers()
            self.executors = [Bfloat16Stage(stage, logits) for stage in stages]
        elif self.devices[0].on_host:
            shapes = self.shapes[: len(self.trunk)]
            readable = [BlockedStage(*pair, self.dtype.itemsize) for pair in zip(self.trunk, shapes, strict=True)]
            self.executors[: len(self.trunk)] = readable
            if all(device.kind == "cpu" and self.dtype in device.kernel_dtypes for device in self.devices):
                for number, run in enumerate(readable):
                    if FastStage.supports(run.stage, run.shapes):
                        self.executors[number] = FastStage(run.stage, run.shapes, run, self.dtype)
        elif self.devices[0].has_cuda_kernels(self.dtype):
            self.executors = list(map(fuse, self.stages))

    def record_steps(self) -> None:
        """Let `loss_and_backward` repeat the calls of an earlier step where that is possible: on GPUs.

        The results are the same. Settings of layers must not be changed any more: see `tinyalex.network.recorded`.
        """
        self.require_arrays()
        self.recorded = RecordedNetwork(self) if RecordedNetwork.supports(self) else None

    def weigh_classes(self, weights: Sequence[float] | np.ndarray | None) -> None:
        """Let an image count in the loss as much as its class weighs: see `SoftmaxLoss`. None: all count the same."""
        if weights is not None and len(weights) != self.classes:
            raise UsageError(f"class weights: {len(weights)} for {self.classes} classes; give one for each")
        self.require_arrays()
        with self.devices[0] as device:
            self.loss = SoftmaxLoss(weights).build(device, dtype=self.dtype)

    def require_arrays(self) -> None:
        """Raise a UsageError unless `build` has been called."""
        if not hasattr(self, "executors"):
            raise UsageError("network: it has no arrays yet; call network.build() first")

    def tensors(self, kind: str = "value") -> Iterator[tuple[str, Device, Array]]:
        """Yield (name, device, view) of every parameter; ``kind`` "value" or "grad". Names are 2012's: ``conv1a/W``."""
        self.require_arrays()
        for index, layer in self.layers():
            for parameter in layer.parameters:
                for name, view in parameter.parts(getattr(parameter, kind)).items():
                    yield name, self.devices[index], view

    def state(self) -> dict[str, Array]:
        """Return all parameter values, ``{"conv1a/W": view, ...}``; names and shapes are the same in every form."""
        return {name: view for name, _, view in self.tensors()}

    def gradients(self) -> dict[str, Array]:
        """Return all gradients of the last `backward`, named as in `state`."""
        return {name: view for name, _, view in self.tensors("grad")}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Copy host arrays into the parameter values, and convert them to the network's dtype.

        Parameters
        ----------
        arrays : dict of str to ndarray
            Named as in `state`, all of it and nothing else.

        Raises
        ------
        CheckpointError
            If a name is missing or unknown, or an array has another shape or no floating numbers. Nothing is copied
            then.
        """
        check_tensors(arrays, {name: view.shape for name, _, view in self.tensors()})
        for name, device, view in self.tensors():
            with device:
                view[...] = device.put(np.ascontiguousarray(arrays[name], self.dtype))

    @contextlib.contextmanager
    def step(self) -> Iterator["Network"]:
        """In the block, allocate intermediate arrays from the devices' arenas, and do not warn of overflows."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(np.errstate(over="ignore", invalid="ignore"))
            for device in dict.fromkeys(self.devices):
                stack.enter_context(device.step())
            yield self

    def forward(
        self,
        images: np.ndarray | DeviceBatch,
        *,
        training: bool = False,
        step: Step | None = None,
        forward_hook: ForwardHook | None = None,
    ) -> Array:
        """Compute the logits.

        Parameters
        ----------
        images : ndarray or DeviceBatch, shape (n, h, w, c)
            On the host, in the network's dtype, or on the devices already.
        training : bool
            Whether dropout drops units; at test it scales them all instead.
        step : Step, optional
            What dropout draws its mask from; a net with dropout needs it in training.
        forward_hook : callable, optional
            Called as ``forward_hook(layer, y)`` with every layer's output. It gets one block of images at a time:
            on the CPU the convolutional stages (the trunk) divide a batch into blocks, which worker threads compute, so
            that a layer's blocks arrive one by one and in no fixed order. The fully connected stages (the head), and
            all stages on a GPU, have one block, the whole batch. Copy a y you keep: its memory may be used again.

        Returns
        -------
        array on column a's device, shape (n, classes)
        """
        self._check_images(images)
        self._forward_images = None
        uploaded = {device: device.to_device(images) for device in dict.fromkeys(self.devices)}
        xs = [uploaded[device] for device in self.devices]
        for stage in self.executors:
            xs = stage.forward(xs, self.devices, training=training, step=step, forward_hook=forward_hook)
        self._forward_images = len(images)
        return xs[0]

    def _check_images(self, images: np.ndarray | DeviceBatch) -> None:
        self.require_arrays()
        if not hasattr(images, "shape"):
            kind = type(images).__name__
            raise ShapeError(f"images: a {kind} instead of an array; use numpy.array(images, '{self.dtype}')")
        if images.shape[1:] != self.input_shape:
            raise ShapeError(f"images: got {images.shape[1:]}, this network reads {self.input_shape}")
        dtype = getattr(images, "dtype", self.dtype)  # a `DeviceBatch` is what a `Cropper` computed
        if dtype.kind not in "fc":
            raise ShapeError(f"images: got {dtype}, this network reads {self.dtype}; use images.astype('{self.dtype}')")

    def backward(self, dlogits: Array, head_done: Callable[[], object] | None = None) -> None:
        """Compute every parameter's gradient.

        Parameters
        ----------
        dlogits : array, shape (n, classes)
            The gradient of the loss with respect to the logits.
        head_done : callable, optional
            Called when the gradients of the `head`, the fully connected stages, are there.

        Raises
        ------
        OrderError
            If the last call was not `forward`: layers keep what backward needs of one batch only, and `predict` and
            `backward` release it. It is a RuntimeError too.
        ShapeError
            If dlogits are not those of the images that `forward` got last.
        """
        self.require_arrays()
        count, self._forward_images = self._forward_images, None
        if count is None:
            raise OrderError(
                "network: backward needs a forward before it, with no predict or backward in between; call "
                "network.forward(images) again"
            )
        wanted, given = (count, self.classes), getattr(dlogits, "shape", type(dlogits).__name__)
        if given != wanted:
            raise ShapeError(f"dlogits: got {given}, the logits of the last forward are {wanted}; call forward again")
        dys = [dlogits] + [None] * (len(self.devices) - 1)
        for number in reversed(range(len(self.executors))):
            dys = self.executors[number].backward(dys, self.devices)
            if head_done and number == len(self.trunk):
                head_done()

    def loss_and_backward(
        self,
        images: np.ndarray | DeviceBatch,
        labels: np.ndarray,
        *,
        training: bool = True,
        step: Step | None = None,
        share: float = 1.0,
        head_done: Callable[[], object] | None = None,
    ) -> tuple[Array, Array]:
        """Run forward, loss and backward for a batch; the gradients stay in the parameters.

        Parameters
        ----------
        images : ndarray or DeviceBatch, shape (n, h, w, c)
        labels : ndarray of int, shape (n,)
        training : bool
            False gives the gradient of the net as it is at test time.
        step : Step, optional
            As in `forward`.
        share : float
            If these are a part of a batch: their share of it. Loss and gradients are multiplied by it, so that those of
            all parts add up to the batch's.
        head_done : callable, optional
            As in `backward`.

        Returns
        -------
        loss : array, shape ()
        logits : array, shape (n, classes)
            Both on column a's device.

        Raises
        ------
        ShapeError
            If the images are no array of floating numbers, or of another shape.
        DataError
            If the labels are not one whole number from 0 to classes - 1 for each image.
        """
        self._check_images(images)
        check_labels(labels, len(images), self.classes)
        with self.devices[0] as device, fitting(self.devices, len(images)):
            self._forward_images = None
            recorded = None if head_done else self.recorded
            if recorded:
                logits = recorded.forward(images, training=training, step=step)
            else:
                logits = self.forward(images, training=training, step=step)
            loss = self.loss.forward_checked(logits, device.put(labels))
            dlogits = self.loss.backward()
            if share != 1:
                loss, dlogits = loss * share, dlogits * share
            if recorded:
                recorded.backward(dlogits)
            else:
                self.backward(dlogits, head_done)
        return loss, logits

    def predict(self, images: np.ndarray | DeviceBatch, batch: int = 128) -> np.ndarray:
        """Return class probabilities on the host, shape (n, classes), for n images, ``batch`` at a time.

        Raises
        ------
        UsageError
            If the batch is not a whole number from 1 on.
        ShapeError
            If the images are no array of floating numbers, or of another shape.

        Examples
        --------
        >>> import numpy as np
        >>> from tinyalex import alexnet, recipe
        >>> shapes = recipe.load("shapes", ["net.classes=12"])
        >>> network = alexnet.build(shapes.net, shapes.init)
        >>> images = np.zeros((2, *network.input_shape), "float32")
        >>> probabilities = network.predict(images)
        >>> probabilities.shape
        (2, 12)
        >>> bool(np.allclose(probabilities.sum(axis=1), 1))
        True
        """
        self._check_images(images)
        if not _whole(batch, 1):
            raise UsageError(f"predict: a batch of {batch!r} images; give a whole number, 1 or more")
        rows = []
        for first in range(0, len(images), batch):
            with self.step(), self.devices[0] as device:
                logits = self.forward(images[first : first + batch])
                rows.append(device.get(self.loss.probabilities(logits)))
            self._forward_images = None
        return np.concatenate(rows) if rows else np.empty((0, self.classes), self.dtype)

    def crossed(self) -> dict[str, Crossed]:
        """Return the bytes copied between columns so far: ``{stage: Counter((direction, source, destination))}``."""
        counts = {stage.name: run.crossed() for stage, run in zip(self.stages, self.executors, strict=True)}
        return {name: count for name, count in counts.items() if count}


def check_tensors(
    arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], what: str = "weights"
) -> None:
    """Raise a CheckpointError unless arrays have exactly these names and shapes, and hold floating numbers.

    Parameters
    ----------
    arrays : dict of str to ndarray
    shapes : dict of str to tuple of int
    what : str
        What the message begins with.
    """
    if not isinstance(arrays, Mapping):
        raise CheckpointError(f"{what}: a {type(arrays).__name__} instead of a dict of arrays, named as in state()")
    missing, surplus = shapes.keys() - arrays.keys(), arrays.keys() - shapes.keys()
    for names, problem in ((missing, "missing"), (surplus, "not in this net")):
        if names:
            shown = ", ".join(sorted(names)[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
            raise CheckpointError(f"{what}: {shown} {problem}; give the tensors of the same net, all and no others")
    for name, shape in shapes.items():
        array = arrays[name]
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fc" or array.shape != shape:
            seen = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else f"a {type(array).__name__}"
            raise CheckpointError(f"{what}: {name} is {seen}, this net needs floating numbers of shape {shape}")


def _whole(value: object, least: float = -math.inf) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least

"""A training step that is divided into parts, and its parts among the ranks (data parallelism).

Each part of a batch goes forward and backward by itself, with the gradient of the loss divided by the images of the
whole batch, so that the sum over the parts is the gradient of the batch's mean loss. The gradients are summed in two
buckets: that of the fully connected layers, which is by far the larger, travels while the convolutions of a rank's last
part go backward.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinyalex.datasets.loading.loader import Batch
from tinyalex.devices.device import Array, Device
from tinyalex.layers import Parameter
from tinyalex.network.columns import Stage
from tinyalex.network.network import Network
from tinyalex.randomness import Step
from tinyalex.ranks import nccl, sums
from tinyalex.ranks import parts as part_rules
from tinyalex.ranks.parts import Node, Parts
from tinyalex.ranks.world import World


class Bucket:
    """The gradients of some stages' parameters on one device, as one array there.

    Parameters
    ----------
    device : Device
        Two columns on the CPU count as one.
    parameters : list of Parameter
    total : object of `tinyalex.ranks.sums` or `tinyalex.ranks.nccl`
        Sums the arrays over the ranks.
    """

    def __init__(self, device: Device, parameters: list[Parameter], total: Any) -> None:
        self._device, self._parameters, self._total = device, parameters, total
        self._free: list[Array] = []
        self._nodes: dict[Node, Array] = {}
        self._sum: Any = None

    def add(self, part: int) -> None:
        """Add the parameters' gradients, which are those of a part."""
        flat = self._free.pop() if self._free else self._total.empty()
        with self._device:
            for parameter, view in self._views(flat):
                view[...] = parameter.grad
            part_rules.add(self._nodes, part, flat, self._add_to)

    def start(self, images: int) -> None:
        """Begin to sum over the ranks; ``images`` is the size of the whole batch."""
        self._sum = self._total.start(self._nodes, images)

    def finish(self) -> None:
        """Write the sums to the parameters' gradients."""
        whole = self._sum.finish()
        with self._device:
            for parameter, view in self._views(whole):
                parameter.grad[...] = view
        self._free += self._nodes.values()
        self._nodes, self._sum = {}, None

    def _add_to(self, first: Array, second: Array) -> Array:
        first += second
        self._free.append(second)
        return first

    def _views(self, flat: Array) -> Iterator[tuple[Parameter, Array]]:
        begin = 0
        for parameter in self._parameters:
            yield parameter, flat[begin : begin + parameter.size].reshape(parameter.shape)
            begin += parameter.size


class HostBucket(Bucket):
    """On the CPU the gradients are computed in the array that is sent: the parameters' are views of it."""

    def __init__(self, device: Device, parameters: list[Parameter], total: Any) -> None:
        super().__init__(device, parameters, total)
        self._compute_in(total.empty())

    def add(self, part: int) -> None:
        """Add the parameters' gradients, which are those of a part; those of the next one get another array."""
        part_rules.add(self._nodes, part, self._flat, self._add_to)
        self._compute_in(self._free.pop() if self._free else self._total.empty())

    def finish(self) -> None:
        """Make the parameters' gradients views of the sums."""
        whole = self._sum.finish()
        if self._nodes:  # the sums are in one of them
            self._free += [self._flat, *(array for array in self._nodes.values() if array is not whole)]
            self._compute_in(whole)
        else:
            self._flat[...] = whole
        self._nodes, self._sum = {}, None

    def _compute_in(self, flat: Array) -> None:
        self._flat = flat
        for parameter, view in self._views(flat):
            parameter.grad = view


class DataParallel:
    """Computes the gradient of a batch in parts, on all ranks.

    Parameters
    ----------
    network : Network
        After `Network.build`; its parameters' gradients get the sums.
    world : World
    parts : Parts
    how : {"ordered", "fast"}
        See `tinyalex.ranks.sums`.
    """

    def __init__(self, network: Network, world: World, parts: Parts, how: str = "ordered") -> None:
        self.network, self.world, self.parts, self.how = network, world, parts, how
        on_cpu = network.devices[0].kind == "cpu"
        devices = [network.devices[0]] if on_cpu else list(dict.fromkeys(network.devices))
        channels = [] if on_cpu else [nccl.Channel(device, world) for device in devices]
        self._head, self._trunk = (
            [self._bucket(stages, tag, device, channels[number] if channels else None)
             for number, device in enumerate(devices)]
            for tag, stages in enumerate((network.head, network.trunk))
        )  # fmt: skip

    def _bucket(self, stages: list[Stage], tag: int, device: Device, channel: nccl.Channel | None) -> Bucket:
        parameters = [
            parameter
            for stage in stages
            for index, column in enumerate(stage.columns)
            if channel is None or self.network.devices[index] is device
            for layer in column
            for parameter in layer.parameters
        ]
        size, dtype = sum(parameter.size for parameter in parameters), self.network.dtype
        if channel:
            return Bucket(device, parameters, nccl.SUMS[self.how](channel, self.world, self.parts, size, dtype))
        return HostBucket(device, parameters, sums.SUMS[self.how](self.world, self.parts, size, dtype, tag))

    def _shares(self, labels: dict[int, np.ndarray], images: int) -> dict[int, float]:
        # The share of a batch's loss that each of this rank's parts has: of its images, or of the weights of their
        # classes, which the ranks have to add up first.
        weights = self.network.loss.class_weights
        if weights is None:
            return {part: len(found) / images for part, found in labels.items()}
        own = [(part, float(np.sum(np.array(weights)[found]))) for part, found in labels.items()]
        total = float(np.sum([weight for found in self.world.agree(own, "weighing a batch") for _, weight in found]))
        return {part: weight / total if total else 0.0 for part, weight in own}

    def images(self, batch: int) -> slice:
        """Return this rank's slice of a batch of so many images."""
        return self.parts.share(self.world.rank, batch)

    def loss_and_backward(
        self, batch: Batch, images: int, step: Step, agree: Callable[[list[tuple[float, int]]], list[tuple[float, int]]]
    ) -> tuple[float, int]:
        """Run forward, loss and backward for the whole batch; all ranks get its gradients.

        Parameters
        ----------
        batch : Batch
            This rank's slice of it.
        images : int
            Images in the whole batch.
        step : Step
        agree : callable
            Called with the (loss, wrong predictions) of this rank's parts, before any sum is used; returns those of all
            parts, in their order.

        Returns
        -------
        loss : float
            The mean over the batch.
        wrong : int
            Images whose most probable class is not their label.
        """
        first, slices = self.images(images).start, self.parts.slices(images)
        own = [part for part in self.parts.of_rank(self.world.rank) if slices[part].start < slices[part].stop]
        labels_of = {part: batch.labels[slices[part].start - first : slices[part].stop - first] for part in own}
        shares = self._shares(labels_of, images)
        device, launched = self.network.devices[0], []
        for part in own:
            place = slice(slices[part].start - first, slices[part].stop - first)
            labels = labels_of[part]

            def head_done(part: int = part) -> None:
                for bucket in self._head:
                    bucket.add(part)
                    if part == own[-1]:
                        bucket.start(images)

            loss, logits = self.network.loss_and_backward(
                batch.images[place],
                labels,
                step=Step(step.seed, step.number, step.first + slices[part].start),
                share=shares[part],
                head_done=head_done,
            )
            for bucket in self._trunk:
                bucket.add(part)
            with device:
                launched.append((device.get_async(loss), device.get_async(logits.argmax(axis=1)), labels))
        everything = agree([(float(loss()), int((top() != labels).sum())) for loss, top, labels in launched])
        for bucket in [*([] if own else self._head), *self._trunk]:
            bucket.start(images)
        for bucket in self._head + self._trunk:
            bucket.finish()
        return float(np.sum([loss for loss, _ in everything])), sum(wrong for _, wrong in everything)

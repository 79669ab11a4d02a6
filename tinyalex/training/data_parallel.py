"""A training step that is divided into parts, and its parts among the ranks (data parallelism).

Each part of a batch goes forward and backward by itself, with the gradient of the loss divided by the images of the
whole batch, so that the sum over the parts is the gradient of the batch's mean loss. The gradients are summed in two
buckets: that of the fully connected layers, which is by far the larger, travels while the convolutions of a rank's last
part go backward.
"""

from collections.abc import Callable, Iterator

import numpy as np

from tinyalex.datasets.loading.loader import Batch
from tinyalex.devices.device import Device
from tinyalex.layers import Parameter
from tinyalex.network.network import Network
from tinyalex.randomness import Step
from tinyalex.ranks import parts as part_rules
from tinyalex.ranks.parts import Node, Parts
from tinyalex.ranks.sums import SUMS, Fast, Ordered
from tinyalex.ranks.world import World


class Bucket:
    """The gradients of some stages' parameters, as one array on the host.

    Parameters
    ----------
    rows : list of (Device, Parameter)
    total : Ordered or Fast
        Sums the arrays over the ranks.
    """

    def __init__(self, rows: list[tuple[Device, Parameter]], total: Ordered | Fast) -> None:
        self._rows, self._total = rows, total
        self._free: list[np.ndarray] = []
        self._nodes: dict[Node, np.ndarray] = {}
        self._sum: object = None

    def add(self, part: int, dtype: np.dtype) -> None:
        """Add the parameters' gradients, which are those of a part."""
        flat = self._free.pop() if self._free else np.zeros(self._total.padded, dtype)
        for (device, parameter), view in self._views(flat):
            view[...] = device.get(parameter.grad) if not device.on_host else parameter.grad
        part_rules.add(self._nodes, part, flat, self._add_to)

    def start(self, images: int) -> None:
        """Begin to sum over the ranks; ``images`` is the size of the whole batch."""
        self._sum = self._total.start(self._nodes, images)

    def finish(self) -> None:
        """Write the sums to the parameters' gradients."""
        whole = self._sum.finish()  # type: ignore[attr-defined]
        for (device, parameter), view in self._views(whole):
            with device:
                parameter.grad[...] = view if device.on_host else device.put(view)
        self._free += self._nodes.values()
        self._nodes, self._sum = {}, None

    def _add_to(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        np.add(first, second, out=first)
        self._free.append(second)
        return first

    def _views(self, flat: np.ndarray) -> Iterator[tuple[tuple[Device, Parameter], np.ndarray]]:
        begin = 0
        for device, parameter in self._rows:
            yield (device, parameter), flat[begin : begin + parameter.size].reshape(parameter.shape)
            begin += parameter.size


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
        self._buckets = [
            self._bucket(stages, tag) for tag, stages in enumerate((network.head, network.trunk))
        ]  # in the order in which backward reaches them

    def _bucket(self, stages: list, tag: int) -> Bucket:
        rows = [
            (self.network.devices[index], parameter)
            for stage in stages
            for index, column in enumerate(stage.columns)
            for layer in column
            for parameter in layer.parameters
        ]
        size = sum(parameter.size for _, parameter in rows)
        return Bucket(rows, SUMS[self.how](self.world, self.parts, size, self.network.dtype, tag))

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
            Called with the (loss, wrong predictions) of this rank's parts, before any gradient is summed; returns those
            of all parts, in their order.

        Returns
        -------
        loss : float
            The mean over the batch.
        wrong : int
            Images whose most probable class is not their label.
        """
        first, slices = self.images(images).start, self.parts.slices(images)
        own = [part for part in self.parts.of_rank(self.world.rank) if slices[part].start < slices[part].stop]
        head, trunk = self._buckets
        results: list[tuple[float, int]] = []
        for part in own:
            place = slice(slices[part].start - first, slices[part].stop - first)
            labels = batch.labels[place]

            def head_done(part: int = part) -> None:
                head.add(part, self.network.dtype)
                if part == own[-1]:
                    head.start(images)

            loss, logits = self.network.loss_and_backward(
                batch.images[place],
                labels,
                step=Step(step.seed, step.number, step.first + slices[part].start),
                share=len(labels) / images,
                head_done=head_done,
            )
            trunk.add(part, self.network.dtype)
            device = self.network.devices[0]
            wrong = int((device.get(logits.argmax(axis=1)) != labels).sum())
            results.append((float(device.get(loss)), wrong))
        everything = agree(results)
        if not own:
            head.start(images)
        trunk.start(images)
        head.finish()
        trunk.finish()
        return float(np.sum([loss for loss, _ in everything])), sum(wrong for _, wrong in everything)

"""Check the gradients of a whole network: every parameter, and the images in groups of pixels.

Elements of a parameter are changed in its own layer only. The layer's outputs, for many changed elements at a time, are
then passed through all following layers and exchanges together, like more images of one batch.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinyalex import randomness
from tinyalex.devices.device import Array, Device
from tinyalex.gradcheck.compare import Result, compare, refuse_other_dtypes, refuse_other_outputs
from tinyalex.gradcheck.slopes import Outputs, method_named
from tinyalex.layers import Dropout, Layer, Parameter
from tinyalex.network.network import Network
from tinyalex.randomness import Step

_IMAGES = 24  # pass through the net at once: few enough for the CPU's cache


def check_network(
    network: Network,
    images: np.ndarray,
    labels: np.ndarray,
    training: bool = False,
    step: Step | None = None,
    method: str = "complex",
    tolerance: float | None = None,
    name: str = "net",
    inputs: bool = True,
) -> list[Result]:
    """Compare all gradients of a network with numerical derivatives of its loss.

    Parameters
    ----------
    network : Network
        Built in float64, on any devices.
    images : ndarray, float64, shape (n, h, w, c)
    labels : ndarray of int, shape (n,)
    training : bool
        Whether dropout drops units, as in training.
    step : Step, optional
        What dropout draws its masks from.
    method, tolerance
        As in `check`.
    name : str
        Name in the report.
    inputs : bool
        Whether to check the gradient of the images too, which training does not compute.

    Returns
    -------
    list of Result
        First the loss, computed by the network and by its layers one by one; then the parameters; then each image. The
        numbers of an image are changed in random groups of 9, up or down; the size of its result is the number of
        groups.
    """
    method_named(method)
    refuse_other_dtypes(f"{name} images", images)
    for parameter in network.parameters():
        refuse_other_dtypes(f"{name} {parameter.layer}/{parameter.kind}", parameter.value)

    def loss_and_gradients(images: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        loss, _ = network.loss_and_backward(images, labels, training=training, step=step)
        layers = network.layers()
        gradients = [network.devices[index].get(p.grad) for index, layer in layers for p in layer.parameters]
        return network.devices[0].get(loss), gradients

    loss, first = loss_and_gradients(images)
    loss_and_gradients(0.999 * images)
    again, second = loss_and_gradients(images)  # to find gradients that accumulate by mistake, and state
    refuse_other_outputs(name, again, loss, "after other images")
    replay = _Replay(network, images, labels, training, step)
    gradients = list(zip(first, second, strict=True))

    results = [_same_loss(name, float(loss), replay.loss)]
    rest: dict[str, Any] = {"upstream": np.ones(1), "method": method, "tolerance": tolerance}
    for position in replay.positions:
        layer, device = position.layer, position.device
        for parameter in layer.parameters:
            value, runs = device.get(parameter.value), gradients.pop(0)
            label = f"{'+'.join(parameter.names)}/{parameter.kind}"
            outputs = replay.of_parameter(position, parameter)
            chunk = max(1, _IMAGES // len(images))
            results.append(compare(name, label, value, runs, outputs, chunk=chunk, **rest))
    if inputs:
        for number, gradient in enumerate(replay.image_gradient()):
            groups = _PixelGroups(images[number])
            outputs = replay.of_image(number, groups.apply)
            sums, zero = groups.sums(gradient), np.zeros(groups.count)
            results.append(compare(name, f"image {number}", zero, [sums], outputs, chunk=_IMAGES, **rest))
    refuse_other_outputs(name, loss_and_gradients(images)[0], loss, "after many other images and weights")
    return results


class _PixelGroups:
    """The numbers of an image in random groups, which are changed together, each number up or down by random signs.

    Every number belongs to one group, so every wrong gradient is noticed, with fewer derivatives to compute.
    """

    def __init__(self, image: np.ndarray, size: int = 9) -> None:
        self.image, self.count = image, -(-image.size // size)
        key = randomness.key(0, "gradcheck", "batches")
        self.group = randomness.permutation(key, image.size) % self.count
        self.signs = np.where(randomness.bits(key, np.arange(image.size)) & 1, 1.0, -1.0)

    def apply(self, moves: np.ndarray) -> np.ndarray:
        """Return changed images, for k changes of every group: (k, count) to (k, h, w, c)."""
        return self.image + (moves[:, self.group] * self.signs).reshape(-1, *self.image.shape)

    def sums(self, gradient: np.ndarray) -> np.ndarray:
        """Return the gradient with respect to the changes of the groups, (count,)."""
        return np.bincount(self.group, gradient.reshape(-1) * self.signs, self.count)


def _same_loss(name: str, network: float, layers: float) -> Result:
    error = abs(network - layers) / abs(layers) if layers else abs(network)
    wrong = int(not error <= 1e-12)
    return Result(name, "loss", 1, network == layers, wrong, error, 1e-12, 0, 0, abs(layers), (), network, layers)


class _Position:
    """A layer, where it is in the network, and its input (real numbers)."""

    def __init__(self, stage: int, column: int, index: int, layer: Layer, device: Device, x: Array) -> None:
        self.stage, self.column, self.index = stage, column, index
        self.layer, self.device, self.x = layer, device, x


class _Replay:
    """Runs the network's layers and exchanges one by one, from any layer to the loss."""

    def __init__(
        self, network: Network, images: np.ndarray, labels: np.ndarray, training: bool, step: Step | None
    ) -> None:
        self.network, self.devices, self.stages = network, network.devices, network.stages
        self.images, self.labels, self.training, self.step = images, labels, training, step
        self.positions: list[_Position] = []  # in the order of `Network.layers`
        self._ends: list[list[Array]] = []
        xs = [device.put(images) for device in self.devices]
        for number, stage in enumerate(self.stages):
            xs = stage.exchange.forward(xs, self.devices)
            for column, layers in enumerate(stage.columns):
                device = self.devices[column]
                for index, layer in enumerate(layers):
                    self.positions.append(_Position(number, column, index, layer, device, xs[column]))
                    xs[column] = self._run([layer], xs[column], column, step, len(images))
            self._ends.append(xs)
        self.logits = self.devices[0].get(xs[0])
        self.loss = float(self._losses(self.logits[None])[0, 0])

    def of_parameter(self, position: _Position, parameter: Parameter) -> Outputs:
        """Return a function of one parameter that computes the losses: (count, *shape) to (count, 1)."""

        def outputs(points: np.ndarray) -> np.ndarray:
            layer, device, original = position.layer, position.device, [p.value for p in position.layer.parameters]
            try:
                with device:
                    for each, value in zip(layer.parameters, original, strict=True):
                        each.value = value.astype(points.dtype)
                    ys = []
                    for point in points:
                        parameter.value = device.put(point)
                        ys.append(layer.forward(position.x, training=self.training, step=self.step))
                    y = device.xp.concatenate(ys)
            finally:
                for each, value in zip(layer.parameters, original, strict=True):
                    each.value = value
            count, n = len(points), len(self.images)
            layers = self.stages[position.stage].columns[position.column][position.index + 1 :]
            xs = [self._copies(x, column, count, y.dtype) for column, x in enumerate(self._ends[position.stage])]
            xs[position.column] = self._run(layers, y, position.column, self.step, n)
            logits = self._logits(xs, position.stage + 1, self.step, n)
            return self._losses(logits.reshape(count, n, -1))

        return outputs

    def of_image(self, number: int, image: Callable[[np.ndarray], np.ndarray]) -> Outputs:
        """Return a function that computes the losses with one image replaced by each image of ``image(points)``."""
        step = self.step and Step(self.step.seed, self.step.number, self.step.first + number)

        def outputs(points: np.ndarray) -> np.ndarray:
            images = image(points)
            xs = [device.put(images) for device in self.devices]
            logits = self._logits(xs, 0, step, 1)
            batches = np.repeat(self.logits[None].astype(logits.dtype), len(points), axis=0)
            batches[:, number] = logits
            return self._losses(batches)

        return outputs

    def image_gradient(self) -> np.ndarray:
        """Return the gradient of the loss with respect to the images, computed by the stages' backward."""
        firsts = [column[0] for column in self.stages[0].columns if column]
        flags = [layer.input_gradient for layer in firsts]
        try:
            for layer in firsts:
                layer.input_gradient = True
            xs = [device.put(self.images) for device in self.devices]
            for stage in self.stages:
                xs = stage.forward(xs, self.devices, training=self.training, step=self.step)
            with self.devices[0] as device:
                self.network.loss.forward(xs[0], device.put(self.labels))
                dys = [self.network.loss.backward()] + [None] * (len(self.devices) - 1)
            for stage in reversed(self.stages):
                dys = stage.backward(dys, self.devices)
        finally:
            for layer, flag in zip(firsts, flags, strict=True):
                layer.input_gradient = flag
        given = [device.get(dy) for device, dy in zip(self.devices, dys, strict=True) if dy is not None]
        return np.sum(given, axis=0)

    def _logits(self, xs: Sequence[Array], stage: int, step: Step | None, n: int) -> np.ndarray:
        # Compute the logits, on the host, from a stage's input; its rows are copies of n images.
        for each in self.stages[stage:]:
            xs = each.exchange.forward(xs, self.devices)
            for column, layers in enumerate(each.columns):
                xs[column] = self._run(layers, xs[column], column, step, n)
        return self.devices[0].get(xs[0])

    def _run(self, layers: Sequence[Layer], x: Array, column: int, step: Step | None, n: int) -> Array:
        with self.devices[column] as device:
            for layer in layers:
                if isinstance(layer, Dropout):  # its mask depends on an image's index in the batch
                    parts = [x[low : low + n] for low in range(0, len(x), n)]
                    parts = [layer.forward(part, training=self.training, step=step) for part in parts]
                    x = device.xp.concatenate(parts)
                else:
                    x = layer.forward(x, training=self.training, step=step)
        return x

    def _copies(self, x: Array, column: int, count: int, dtype: np.dtype) -> Array:
        with self.devices[column] as device:
            return None if x is None else device.xp.concatenate([x.astype(dtype)] * count)

    def _losses(self, batches: np.ndarray) -> np.ndarray:
        # Logits on the host, (count, n, classes), to losses, (count, 1).
        with self.devices[0] as device:
            labels = device.put(self.labels)
            losses = [device.get(self.network.loss.forward(device.put(logits), labels)) for logits in batches]
        return np.stack(losses)[:, None]

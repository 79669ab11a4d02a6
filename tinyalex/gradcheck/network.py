"""The gradient check of a whole network: every parameter, and the pixels in batches, through the code that trains.

A parameter is moved in its own layer only. What that layer then puts out, for many moved elements at a time, goes on
through all layers and exchanges behind it, as if it were that many more images.
"""

import numpy as np

from tinyalex import randomness
from tinyalex.gradcheck.compare import Result, compare, method_named, refuse_other_dtypes
from tinyalex.layers import Dropout
from tinyalex.randomness import Step

_IMAGES = 24  # go through the net at once: few enough to stay near the processor


def check_network(
    network, images, labels, training=False, step=None, method="complex", tolerance=None, name="net", inputs=True
):
    """Check all gradients of a network against its loss.

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
        For the report.
    inputs : bool
        Check the gradient of the images too, which training does without.

    Returns
    -------
    list of Result
        The loss's (the network's against that of its layers one by one), the parameters', each image's: its numbers
        move in random batches of 9, up or down, and a result counts batches.
    """
    method_named(method)
    refuse_other_dtypes(f"{name} images", images)
    for parameter in network.parameters():
        refuse_other_dtypes(f"{name} {parameter.layer}/{parameter.kind}", parameter.value)
    for _ in range(2):  # gradients that add up show the second time
        loss, _ = network.loss_and_backward(images, labels, training=training, step=step)
    loss = float(network.devices[0].get(loss))
    replay = _Replay(network, images, labels, training, step)
    gradients = [network.devices[index].get(p.grad) for index, layer in network.layers() for p in layer.parameters]

    results = [_same_loss(name, loss, replay.loss)]
    rest = {"upstream": np.ones(1), "method": method, "tolerance": tolerance}
    for place in replay.places():
        layer, device = place.layer, place.device
        for parameter in layer.parameters:
            value, gradient = device.get(parameter.value), gradients.pop(0)
            label = f"{'+'.join(parameter.names)}/{parameter.kind}"
            outputs = replay.of_parameter(place, parameter)
            chunk = max(1, _IMAGES // len(images))
            results.append(compare(name, label, value, gradient, outputs, chunk=chunk, **rest))
    if inputs:
        for number, gradient in enumerate(replay.image_gradient()):
            batches = _Batches(images[number])
            outputs = replay.of_image(number, batches.apply)
            sums, zero = batches.add(gradient), np.zeros(batches.count)
            results.append(compare(name, f"image {number}", zero, sums, outputs, chunk=_IMAGES, **rest))
    return results


class _Batches:
    """An image's numbers in batches of a few far apart, that move together, up or down by chance.

    Each number belongs to one batch, so none can be wrong unseen, and there are fewer derivatives to take.
    """

    def __init__(self, image, size=9):
        self.image, self.count = image, -(-image.size // size)
        key = randomness.key(0, "gradcheck", "batches")
        self.batch = randomness.permutation(key, image.size) % self.count
        self.signs = np.where(randomness.bits(key, np.arange(image.size)) & 1, 1.0, -1.0)

    def apply(self, moves):
        """Return images moved from this one: (k, count) to (k, h, w, c)."""
        return self.image + (moves[:, self.batch] * self.signs).reshape(-1, *self.image.shape)

    def add(self, gradient):
        """Return the gradient with respect to the batches' moves, (count,)."""
        return np.bincount(self.batch, gradient.reshape(-1) * self.signs, self.count)


def _same_loss(name, network, layers):
    error = abs(network - layers) / abs(layers) if layers else abs(network)
    return Result(name, "loss", 1, network == layers, error, 1e-12, 0, abs(layers), (), network, layers)


class _Place:
    """A layer's place in the network, and the real input that reaches it."""

    def __init__(self, stage, column, position, layer, device, x):
        self.stage, self.column, self.position = stage, column, position
        self.layer, self.device, self.x = layer, device, x


class _Replay:
    """The network's layers and exchanges, run one by one from anywhere to the loss."""

    def __init__(self, network, images, labels, training, step):
        self.network, self.devices, self.stages = network, network.devices, network.stages
        self.images, self.labels, self.training, self.step = images, labels, training, step
        self._places, self._ends = [], []
        xs = [device.put(images) for device in self.devices]
        for number, stage in enumerate(self.stages):
            xs = stage.exchange.forward(xs, self.devices)
            for column, layers in enumerate(stage.columns):
                device = self.devices[column]
                for position, layer in enumerate(layers):
                    self._places.append(_Place(number, column, position, layer, device, xs[column]))
                    xs[column] = self._run([layer], xs[column], column, step, len(images))
            self._ends.append(xs)
        self.logits = self.devices[0].get(xs[0])
        self.loss = float(self._losses(self.logits[None])[0, 0])

    def places(self):
        """Return every layer's place, in the order of `Network.layers`."""
        return self._places

    def of_parameter(self, place, parameter):
        """Return the losses as a function of one parameter: (count, *shape) to (count, 1)."""

        def outputs(points):
            layer, device, original = place.layer, place.device, [p.value for p in place.layer.parameters]
            try:
                with device:
                    for each, value in zip(layer.parameters, original, strict=True):
                        each.value = value.astype(points.dtype)
                    ys = []
                    for point in points:
                        parameter.value = device.put(point)
                        ys.append(layer.forward(place.x, training=self.training, step=self.step))
                    y = device.xp.concatenate(ys)
            finally:
                for each, value in zip(layer.parameters, original, strict=True):
                    each.value = value
            count, n = len(points), len(self.images)
            layers = self.stages[place.stage].columns[place.column][place.position + 1 :]
            xs = [self._copies(x, column, count, y.dtype) for column, x in enumerate(self._ends[place.stage])]
            xs[place.column] = self._run(layers, y, place.column, self.step, n)
            logits = self._onwards(xs, place.stage + 1, self.step, n)
            return self._losses(logits.reshape(count, n, -1))

        return outputs

    def of_image(self, number, image):
        """Return the losses as a function of what ``image`` makes one image of, the others left as they are."""
        step = self.step and Step(self.step.seed, self.step.number, self.step.first + number)

        def outputs(points):
            images = image(points)
            xs = [device.put(images) for device in self.devices]
            logits = self._onwards(xs, 0, step, 1)
            batches = np.repeat(self.logits[None].astype(logits.dtype), len(points), axis=0)
            batches[:, number] = logits
            return self._losses(batches)

        return outputs

    def image_gradient(self):
        """Return the loss's gradient with respect to the images, by the stages' own backward."""
        firsts = [column[0] for column in self.stages[0].columns]
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
        return sum(device.get(dy) for device, dy in zip(self.devices, dys, strict=True))

    def _onwards(self, xs, stage, step, n):
        # From a stage's input to the logits on the host; the rows are copies of n images.
        for each in self.stages[stage:]:
            xs = each.exchange.forward(xs, self.devices)
            for column, layers in enumerate(each.columns):
                xs[column] = self._run(layers, xs[column], column, step, n)
        return self.devices[0].get(xs[0])

    def _run(self, layers, x, column, step, n):
        with self.devices[column] as device:
            for layer in layers:
                if isinstance(layer, Dropout):  # the only one that asks for an image's place in the batch
                    parts = [x[low : low + n] for low in range(0, len(x), n)]
                    parts = [layer.forward(part, training=self.training, step=step) for part in parts]
                    x = device.xp.concatenate(parts)
                else:
                    x = layer.forward(x, training=self.training, step=step)
        return x

    def _copies(self, x, column, count, dtype):
        with self.devices[column] as device:
            return None if x is None else device.xp.concatenate([x.astype(dtype)] * count)

    def _losses(self, batches):
        # (count, n, classes) on the host to (count, 1)
        with self.devices[0] as device:
            labels = device.put(self.labels)
            losses = [device.get(self.network.loss.forward(device.put(logits), labels)) for logits in batches]
        return np.stack(losses)[:, None]

"""The Chainer-style port's side: the port with its updates, one action at a time."""

import numpy as np

from tinyalex import parallel, recipe
from tinyalex.bench import net, stamps
from tinyalex.bench.chainer_elementwise import MOVE
from tinyalex.bench.chainer_port import loss, port


class ChainerSide:
    """The port of a recipe's net; the actions of `tinyalex.bench.ours.Ours`.

    Parameters
    ----------
    task : dict
        As `tinyalex.bench.measure` sends it.
    """

    def __init__(self, task, dtype="float32"):
        made = recipe.parse(task["recipe"])
        parallel.set_threads(task["threads"])
        self.device, self.learning = net.device(task["devices"][0], task["tf32"]), made.learning
        self.parts = port(net.describe(made), self.device, dtype=dtype)
        images, labels = net.batch(made, task["batch"], dtype=np.dtype(dtype))
        with self.device as device:
            self.images = device.put(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
            self.labels = device.put(labels)
            self.momenta = [
                {kind: device.zeros(value.shape, value.dtype) for kind, (value, _) in part.parameters.items()}
                for part in self.parts
            ]

    def ready(self):
        """Say what the net answers at first, and with which arithmetic."""
        with self.device as device:
            logits = device.get(self._logits(self.images[:4], False))
        rounds = net.rounds(self.device, lambda a, b, out: device.xp.matmul(a, b, out=out))
        return {"fingerprint": net.fingerprint(logits), "rounds": rounds}

    def step(self):
        """Take a training step: forward, loss, backward, update."""
        with self.device:
            self.gradient()
            self.update()

    def forward(self):
        """Compute the logits as at test."""
        with self.device:
            self._logits(self.images, False)

    def layers(self):
        """Take a training step and time each layer in it."""
        if self.device.kind == "cuda":  # one that is busy does not wait to be asked
            self.step()
        with self.device:
            moments = [("", self._stamp())]
            self.gradient(lambda name: moments.append((name, self._stamp())))
            self.update()
            moments.append(("update", self._stamp()))
            return stamps.lengths(self.device, moments)

    def settle(self):
        """Wait for the device."""
        self.device.synchronize()

    def last(self):
        """Return the loss of the last step."""
        with self.device as device:
            return {"loss": float(device.get(self.loss))}

    def peak(self):
        """Return the most memory of the device that was held, bytes."""
        return net.memory(self.device)

    def gradient(self, passed=lambda name: None):
        """Run forward, loss and backward; ``passed(name)`` is told what is done."""
        x = self.images
        for part in self.parts:
            x = part.forward(x, True)
            passed(f"{part.name}/forward")
        self.loss, dy = loss(self.device.xp, x, self.labels)
        passed("loss/forward")
        for part in reversed(self.parts):
            dy = part.backward(dy)
            passed(f"{part.name}/backward")

    def update(self):
        """Move every parameter, one kernel each."""
        learning = self.learning
        for part, momenta in zip(self.parts, self.momenta, strict=True):
            for kind, (value, gradient) in part.parameters.items():
                rate = learning.rate * (1.0 if kind == "W" else learning.bias_rate)
                decay = learning.decay if kind == "W" else 0.0
                MOVE(self.device, gradient, rate, learning.momentum, decay, momenta[kind], value)

    def _logits(self, x, training):
        for part in self.parts:
            x = part.forward(x, training)
        return x

    def _stamp(self):
        return stamps.stamp(self.device)

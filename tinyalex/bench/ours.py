"""Our side: a recipe's net with its optimizer, one action at a time."""

from tinyalex import parallel, recipe
from tinyalex.bench import net
from tinyalex.bench.layer_clock import clocked
from tinyalex.optimizer import Optimizer
from tinyalex.randomness import Step


class Ours:
    """A net that was built, and what of it is measured.

    Parameters
    ----------
    task : dict
        As `tinyalex.bench.measure` sends it.
    """

    def __init__(self, task):
        made = recipe.parse(task["recipe"])
        parallel.set_threads(task["threads"])
        self.network = net.describe(made, len(task["devices"]), task["convolution"]).build(task["devices"])
        learning = made.learning
        self.optimizer = Optimizer(self.network, learning.momentum, learning.decay, learning.decays)
        self.rates = learning.rate, learning.rate * learning.bias_rate
        self.images, self.labels = net.batch(made, task["batch"])
        self.number = 0

    def ready(self):
        """Say what the net answers at first, so that nobody measures another one."""
        with self.network.step(), self.network.devices[0] as device:
            return {"fingerprint": net.fingerprint(device.get(self.network.forward(self.images[:4])))}

    def step(self):
        """Take a training step: forward, loss, backward, update."""
        loss = self._gradient()
        self.optimizer.update(*self.rates)
        self._wait()
        return {"loss": float(loss)}

    def forward(self):
        """Compute the logits as at test."""
        with self.network.step():
            self.network.forward(self.images)
            self._wait()

    def predict(self):
        """Compute one image's probabilities."""
        self.network.predict(self.images[:1])

    def layers(self):
        """Take a training step and time each layer in it."""
        with clocked(self.network) as clock:
            self._gradient()
            with clock.measure("update"):
                self.optimizer.update(*self.rates)
        return clock.seconds()

    def _gradient(self):
        self.number += 1
        with self.network.step(), self.network.devices[0] as device:
            loss, _ = self.network.gradient(self.images, self.labels, Step(0, self.number))
            return device.get(loss)

    def _wait(self):
        for device in self.network.devices:
            device.synchronize()

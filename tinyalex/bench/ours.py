"""Our side: a recipe's net with its optimizer, one action at a time."""

from tinyalex.bench import net, stamps
from tinyalex.bench.kernel_clock import launches
from tinyalex.bench.layer_clock import clocked
from tinyalex.devices import parallel
from tinyalex.devices.upload import DeviceBatch
from tinyalex.randomness import Step
from tinyalex.recipes import recipe
from tinyalex.training.optimizer import Optimizer


class Ours:
    """A net that was built, and what of it is measured.

    The images are on the devices before the time begins. A card may still be at work when an action ends; `settle`
    waits.

    Parameters
    ----------
    task : dict
        As `tinyalex.bench.measure` sends it.
    """

    def __init__(self, task):
        made = recipe.parse(task["recipe"])
        parallel.set_threads(task["threads"])
        arithmetic = {"tf32": task.get("tf32", False), "kernels": task.get("kernels", True)}
        self.network = net.build(made, task["devices"], task["convolution"], **arithmetic)
        learning = made.learning
        self.optimizer = Optimizer(self.network, learning.momentum, learning.weight_decay, learning.layer_weight_decay)
        self.rates = learning.rate, learning.rate * learning.bias_rate
        self.images, self.labels = net.batch(made, task["batch"])
        self.number, self.loss, self.batch = 0, None, self.images
        if self.network.devices[0].kind != "cpu":
            self.batch = DeviceBatch({device: _put(device, self.images) for device in self.network.devices})

    def ready(self):
        """Say what the net answers at first, so that nobody measures another one, and with which arithmetic."""
        with self.network.step(), self.network.devices[0] as device:
            images = self.batch if self.batch is not self.images else self.images[:4]
            logits = device.get(self.network.forward(images))[:4]
        return {"fingerprint": net.fingerprint(logits), "rounds": net.rounds(device, device.matmul)}

    def step(self):
        """Take a training step: forward, loss, backward, update."""
        self._gradient()
        self.optimizer.update(*self.rates)

    def forward(self):
        """Compute the logits as at test."""
        with self.network.step():
            self.network.forward(self.batch)

    def predict(self):
        """Compute one image's probabilities."""
        self.network.predict(self.images[:1])

    def layers(self):
        """Take a training step and time each layer in it."""
        self._ahead()
        with clocked(self.network) as clock:
            self._gradient()
            devices = self.network.devices
            starts = [stamps.stamp(device) for device in devices]
            self.optimizer.update(*self.rates)
            spans = zip(devices, starts, [stamps.stamp(device) for device in devices], strict=True)
            update = max(stamps.seconds(*span) for span in spans)
        return clock.seconds() | {"update": update}

    def kernels(self):
        """Take a training step and time every kernel and product in it."""
        self._ahead()
        with clocked(self.network) as clock, launches(self.network.devices, clock) as found:
            self._gradient()
            self.optimizer.update(*self.rates)
        return found.values()

    def settle(self):
        """Wait for the devices."""
        for device in self.network.devices:
            device.synchronize()

    def last(self):
        """Return the loss of the last step."""
        with self.network.devices[0] as device:
            return {"loss": float(device.get(self.loss))}

    def peak(self):
        """Return the most memory that was held, bytes: of the card, or of this process."""
        from tinyalex.bench.machine import peak

        return net.memory(self.network.devices[0]) or peak()

    def _ahead(self):
        # A card that is busy with another step does not wait to be asked for each of the next one's kernels.
        if self.network.devices[0].kind == "cuda":
            self.step()

    def _gradient(self):
        self.number += 1
        with self.network.step():
            self.loss, _ = self.network.loss_and_backward(self.batch, self.labels, step=Step(0, self.number))


def _put(device, array):
    with device:
        return device.put(array)

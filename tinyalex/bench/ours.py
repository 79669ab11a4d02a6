"""The contender tinyalex: a recipe's net with its optimizer, one action at a time."""

import contextlib

from tinyalex.bench import net, timestamps
from tinyalex.bench.kernel_times import timed_kernels
from tinyalex.bench.layer_times import timed_layers
from tinyalex.bench.memory import gpu_memory, peak_memory
from tinyalex.devices import parallel
from tinyalex.devices.upload import DeviceBatch
from tinyalex.randomness import Step
from tinyalex.recipes import recipe
from tinyalex.training.optimizer import Optimizer


class Ours:
    """A recipe's net, and the actions that are timed.

    The images are on the devices before the time begins. A GPU may still be computing when an action returns;
    `synchronize` waits for it.

    Parameters
    ----------
    task : dict
        As `tinyalex.bench.measure` sends it.
    """

    def __init__(self, task):
        made = recipe.parse(task["recipe"])
        parallel.set_threads(task["threads"])
        arithmetic = net.precision(task), task.get("kernels", True)
        self.network = net.build(made, task["devices"], task["convolution"], *arithmetic)
        self.network.record_steps()
        learning = made.learning
        self.optimizer = Optimizer(self.network, learning.momentum, learning.weight_decay, learning.layer_weight_decay)
        self.rates = learning.rate, learning.rate * learning.bias_rate
        self.images, self.labels = net.batch(made, task["batch"])
        self.number, self.loss, self.batch = 0, None, self.images
        if self.network.devices[0].kind != "cpu":
            self.batch = DeviceBatch({device: _put(device, self.images) for device in self.network.devices})

    def ready(self):
        """Return a fingerprint of the net's first outputs, by which nets are compared, and whether it uses TF32."""
        with self.network.step(), self.network.devices[0] as device:
            images = self.batch if self.batch is not self.images else self.images[:4]
            logits = device.get(self.network.forward(images))[:4]
        return {"fingerprint": net.fingerprint(logits), "tf32": net.rounds_to_tf32(device, device.matmul)}

    def step(self):
        """Take a training step: forward, loss, backward, update."""
        self._gradient()
        self.optimizer.update(*self.rates)

    def forward(self):
        """Compute the logits as in testing."""
        with self.network.step():
            self.network.forward(self.batch)

    def predict(self):
        """Compute the probabilities of one image."""
        self.network.predict(self.images[:1])

    def layers(self):
        """Take a training step and time each layer in it."""
        self._fill_queue()
        with self._unrecorded(), timed_layers(self.network) as timer:
            self._gradient()
            devices = self.network.devices
            starts = [timestamps.stamp(device) for device in devices]
            self.optimizer.update(*self.rates)
            spans = zip(devices, starts, [timestamps.stamp(device) for device in devices], strict=True)
            update = max(timestamps.seconds(*span) for span in spans)
        return timer.seconds() | {"update": update}

    def kernels(self):
        """Take a training step and time every kernel and product in it."""
        self._fill_queue()
        devices = self.network.devices
        with self._unrecorded(), timed_layers(self.network) as layers, timed_kernels(devices, layers) as timer:
            self._gradient()
            self.optimizer.update(*self.rates)
        return timer.values()

    def synchronize(self):
        """Wait for the devices."""
        for device in self.network.devices:
            device.synchronize()

    def last_loss(self):
        """Return the loss of the last step."""
        with self.network.devices[0] as device:
            return {"loss": float(device.get(self.loss))}

    def peak_memory(self):
        """Return the largest amount of memory used, in bytes: on the GPU, or of this process."""
        return gpu_memory(self.network.devices[0]) or peak_memory()

    def _fill_queue(self):
        # While the GPU computes this step, the next one's kernels are issued: the GPU then never waits for the host.
        if self.network.devices[0].kind == "cuda":
            self.step()

    @contextlib.contextmanager
    def _unrecorded(self):
        # A recorded step calls no layers.
        recorded, self.network.recorded = self.network.recorded, None
        try:
            yield
        finally:
            self.network.recorded = recorded

    def _gradient(self):
        self.number += 1
        with self.network.step():
            self.loss, _ = self.network.loss_and_backward(self.batch, self.labels, step=Step(0, self.number))


def _put(device, array):
    with device:
        return device.put(array)

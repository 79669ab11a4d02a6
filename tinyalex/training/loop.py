"""The training loop: for each batch forward, loss, backward, update (paper §5).

It knows a network, batches, a schedule and an optimizer. What a run of days needs besides (a folder, a log, checkpoints,
signals) is in `tinyalex.runs`, which drives this loop.
"""

import numpy as np

from tinyalex.datasets.loading.batches import training_batches
from tinyalex.network import alexnet
from tinyalex.randomness import Step
from tinyalex.recipes.recipe import with_classes
from tinyalex.training import health
from tinyalex.training.optimizer import Optimizer
from tinyalex.training.schedule import rates
from tinyalex.training.step_metrics import StepMetrics


class Training:
    """A network in training: its optimizer, its data, and how far training has come.

    Parameters
    ----------
    recipe : Recipe
    dataset : Dataset
    devices : sequence of str
        One for the grouped form, or one a column.
    seed : int

    Attributes
    ----------
    network : Network
    optimizer : Optimizer
    steps_per_epoch : int
    step : int
        Updates done.
    errors : list of float
        Test error after each epoch; whoever tests appends it. The plateau schedule reads it.
    epoch_metrics : list of StepMetrics
        Of the steps done in the current epoch.
    async_metrics : bool
        Whether a step's metrics are read only after the next step has been launched, so that a GPU need not wait for
        the host.
    """

    def __init__(self, recipe, dataset, devices=("cpu",), seed=0, kernels=True):
        self.recipe, self.dataset, self.seed = with_classes(recipe, len(dataset.classes)), dataset, seed
        self.steps_per_epoch = -(-len(dataset.need("train")) // recipe.learning.batch)
        self.errors, self.kernels = [], kernels
        self.reset(devices)
        self.async_metrics = not self.network.devices[0].on_host

    def reset(self, devices):
        """Build the network and the optimizer as they are before the first step."""
        learning = self.recipe.learning
        self.network = alexnet.build(self.recipe.net, self.recipe.init, devices, self.seed, kernels=self.kernels)
        self.optimizer = Optimizer(self.network, learning.momentum, learning.weight_decay, learning.layer_weight_decay)
        self.step, self.epoch_metrics = 0, []

    @property
    def epoch(self):
        """Epochs done, with the fraction of the current one."""
        return self.step / self.steps_per_epoch

    @property
    def rates(self):
        """The `Rates` of the next update."""
        return rates(self.recipe.learning, self.epoch, self.errors[: self.step // self.steps_per_epoch])

    @property
    def finished(self):
        """Whether training has reached its last epoch, or its schedule ended it before."""
        return len(self.errors) == self.recipe.learning.epochs or self.rates.finished

    def batches(self):
        """Return the batches from the current step to the end of the epoch."""
        epoch, first_batch = divmod(self.step, self.steps_per_epoch)
        colour_noise = rates(self.recipe.learning, epoch, self.errors[:epoch]).colour_noise  # one strength an epoch
        devices = self.network.devices
        return training_batches(self.dataset, self.recipe, self.seed, epoch, first_batch, colour_noise, devices)

    def train_step(self, batch, check_gradients=False):
        """Take one step of gradient descent: forward, loss, backward, update.

        Parameters
        ----------
        batch : Batch
        check_gradients : bool
            Look for numbers that are not finite in the gradients too, before the update.

        Returns
        -------
        StepMetrics

        Raises
        ------
        DivergedError
            If the loss (or, with `check_gradients`, a gradient) is not finite; nothing has been updated then. With
            `async_metrics` the loss is checked when the `StepMetrics` are read, unless `check_gradients`.
        """
        now, step = self.rates, Step(self.seed, self.step)
        with self.network.step(), self.network.devices[0] as device:
            loss, logits = self.network.loss_and_backward(batch.images, batch.labels, step=step)
            metrics = StepMetrics(device, loss, logits.argmax(axis=1) != device.put(batch.labels))
        if check_gradients or not self.async_metrics:
            health.check_finite(self.network, batch, step, now.rate, metrics, check_gradients)
        self.optimizer.update(now.rate, now.bias_rate, now.lr_mult)
        if self.step % self.steps_per_epoch == 0:
            self.epoch_metrics = []
        self.epoch_metrics.append(metrics)
        self.step += 1
        metrics.label(self.step, self.epoch, self.rates.rate, len(self.epoch_metrics))
        return metrics

    def train_steps(self, batches, synchronize=lambda: False):
        """Take a step for each batch; yield its `StepMetrics`.

        Parameters
        ----------
        batches : iterable of Batch
        synchronize : callable, optional
            Called after each step when `async_metrics`. If it returns True, the step's metrics are yielded before the
            next step is launched; a checkpoint, for example, needs the step it saves to be known as finite.
        """
        previous = None
        for batch in batches:
            previous, metrics = self.train_step(batch), previous
            if metrics:
                yield metrics
            if not self.async_metrics or synchronize():
                yield previous
                previous = None
        if previous:
            yield previous

    def state_dict(self):
        """Copy to the host all that training changes.

        Returns
        -------
        dict
            "values" and "momenta": dicts of ndarray, by the names of `Network.state`. "step": int. "errors": list of
            float. "epoch_metrics": float64 (steps of the current epoch, 2), loss and error of each.
        """
        done = self.epoch_metrics if self.step % self.steps_per_epoch else []
        return {
            "values": {name: device.get(view) for name, device, view in self.network.tensors()},
            "momenta": {name: device.get(view) for name, device, view in self.optimizer.tensors()},
            "step": self.step,
            "errors": list(self.errors),
            "epoch_metrics": np.array([metrics.read() for metrics in done], np.float64).reshape(-1, 2),
        }

    def load_state_dict(self, state):
        """Go back to where a `state_dict` was taken."""
        self.network.load(state["values"])
        self.optimizer.load(state["momenta"])
        self.step, self.errors = state["step"], list(state["errors"])
        self.epoch_metrics = [StepMetrics.from_checkpoint(*pair) for pair in state["epoch_metrics"]]

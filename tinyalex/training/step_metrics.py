"""What a training step reports: its loss, and how many of its top-1 predictions were wrong."""

import numpy as np

from tinyalex.errors import DivergedError


class StepMetrics:
    """Loss and top-1 error of a step; they stay on their device until `read` is called.

    Reading at once would make the host wait for each step of a GPU before it can launch the next. So the copy to the
    host is queued with the step's own work, and the loop reads it after the next step has been launched.

    Parameters
    ----------
    device : Device
        That of column a.
    loss : array of no dimensions
    wrong : array of bool, shape (n,)
        Where the top-1 prediction is wrong.

    Attributes
    ----------
    images : int
    step, epoch, rate, step_in_epoch
        See `label`.
    """

    def __init__(self, device, loss, wrong):
        self._loss, self._wrong, self._values = device.get_async(loss), device.get_async(wrong), None
        self.images = len(wrong)

    def label(self, step, epoch, rate, step_in_epoch):
        """Note where training stands after the step.

        Parameters
        ----------
        step : int
            Updates done.
        epoch : float
            Epochs done.
        rate : float
            The learning rate of the next update.
        step_in_epoch : int
            From 1.
        """
        self.step, self.epoch, self.rate, self.step_in_epoch = step, epoch, rate, step_in_epoch

    @classmethod
    def from_checkpoint(cls, loss, error):
        """Make the metrics of a step from the two numbers that a checkpoint holds."""
        metrics = cls.__new__(cls)
        metrics._values = (float(loss), float(error))
        return metrics

    def read(self):
        """Return the loss and the top-1 error; wait for the device if they have not arrived.

        Raises
        ------
        DivergedError
            If the loss is not finite.
        """
        if self._values is None:
            self._values = float(self._loss()), float(self._wrong().mean())
            self._loss = self._wrong = None  # releases the host buffers
        if not np.isfinite(self._values[0]):
            raise DivergedError("loss: no longer finite")
        return self._values


class RunningMeans:
    """Mean loss and error of the latest steps of an epoch; each step is read once.

    Every image counts the same, in a shorter last batch too.

    Parameters
    ----------
    training : Training
        Where it stands when the means begin, perhaps within an epoch.

    Attributes
    ----------
    window : int
        Steps of a twentieth of an epoch.
    """

    def __init__(self, training):
        steps, batch = training.steps_per_epoch, training.recipe.learning.batch
        self.window = max(1, steps // 20)
        self._values, self._images = np.zeros((steps, 2)), np.full(steps, batch)
        self._images[-1] = len(training.dataset.train) - (steps - 1) * batch
        for index, metrics in enumerate(training.epoch_metrics):
            self._values[index] = metrics.read()

    def add(self, metrics, steps=None):
        """Take in a step's metrics; return the mean loss and error of the last `steps` (default: `window`) steps."""
        last = metrics.step_in_epoch
        self._values[last - 1] = metrics.read()
        recent = slice(max(0, last - (steps or self.window)), last)
        return np.average(self._values[recent], axis=0, weights=self._images[recent])

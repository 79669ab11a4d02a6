"""The metrics of training steps, loss and top-1 error, and their running means."""

import contextlib
from typing import Any

import numpy as np

from tinyalex.devices.device import Array, Device
from tinyalex.errors import DivergedError


class StepMetrics:
    """Loss and top-1 error of a training step, copied to the host without making it wait.

    If the host read them at once, it would wait for a GPU to finish each step before it launches the next. So the copy
    to the host is queued behind the step's own work, and `read` is called after the next step has been launched.

    Parameters
    ----------
    device : Device
        The device of column a.
    loss : array, shape ()
    wrong : array of bool, shape (n,)
        True where the top-1 prediction is wrong.

    Attributes
    ----------
    images : int
        Images in the batch.
    step, epoch, rate, step_in_epoch
        See `set_position`.
    """

    step: int
    epoch: float
    rate: float
    step_in_epoch: int
    _values: tuple[float, float] | None

    def __init__(self, device: Device, loss: Array, wrong: Array) -> None:
        self._loss, self._wrong, self._values = device.get_async(loss), device.get_async(wrong), None
        self.images = len(wrong)

    def set_position(self, step: int, epoch: float, rate: float, step_in_epoch: int) -> None:
        """Record where training stands after this step.

        Parameters
        ----------
        step : int
            Updates made so far.
        epoch : float
            Epochs trained so far.
        rate : float
            The learning rate of the next update.
        step_in_epoch : int
            1 for the first step of an epoch.
        """
        self.step, self.epoch, self.rate, self.step_in_epoch = step, epoch, rate, step_in_epoch

    @classmethod
    def known(cls, loss: float, error: float, images: int = 0) -> "StepMetrics":
        """Make a step's metrics from its loss and error, as a checkpoint stores them or as ranks have agreed on."""
        metrics = cls.__new__(cls)
        metrics._values, metrics.images = (float(loss), float(error)), images
        return metrics

    def __getstate__(self) -> dict[str, Any]:
        with contextlib.suppress(DivergedError):
            self.read()
        return vars(self)

    def read(self) -> tuple[float, float]:
        """Return the loss and the top-1 error; waits for the device if the copy has not finished.

        Raises
        ------
        DivergedError
            If the loss is not finite.
        """
        if self._values is None:
            wrong = self._wrong()
            self._values = float(self._loss()), float(wrong.mean()) if self.images else 0.0
            del self._loss, self._wrong  # release the host buffers
        if not np.isfinite(self._values[0]):
            raise DivergedError("loss: no longer finite")
        return self._values


class RunningMeans:
    """Mean loss and error of the latest steps of an epoch.

    The mean is over images: a shorter last batch has less weight. Each step's metrics are read once.

    Parameters
    ----------
    training : Training
        At the start of an epoch, or within one when a run was resumed there.

    Attributes
    ----------
    window : int
        Number of steps in a twentieth of an epoch.
    """

    def __init__(self, training: Any) -> None:
        steps, batch = training.steps_per_epoch, training.recipe.learning.batch
        self.window = max(1, steps // 20)
        self._values, self._images = np.zeros((steps, 2)), np.full(steps, batch)
        self._images[-1] = len(training.dataset.train) - (steps - 1) * batch
        for index, metrics in enumerate(training.epoch_metrics):
            self._values[index] = metrics.read()

    def add(self, metrics: StepMetrics, steps: int | None = None) -> np.ndarray:
        """Add a step's metrics and return the mean loss and error of the last `steps` (default: `window`) steps."""
        last = metrics.step_in_epoch
        self._values[last - 1] = metrics.read()
        recent = slice(max(0, last - (steps or self.window)), last)
        return np.average(self._values[recent], axis=0, weights=self._images[recent])

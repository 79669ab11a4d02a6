"""Saves a run while it trains, and stops it when a signal asks for that."""

import contextlib
import time

from tinyalex.errors import DataError, Interrupted, StalledError
from tinyalex.runs import run_folder
from tinyalex.training.health import TrainingMonitor


class CheckpointManager:
    """Saves a training run at intervals, when the learning rate falls, and when a signal requests it.

    Parameters
    ----------
    training : Training
    folder : Path
    log : Log
    stop : StopRequests
    options : ResumeOptions
    origin : dict, optional
        The run whose weights this one started from: see `finetune.start_from`.

    Attributes
    ----------
    monitor : TrainingMonitor
    """

    def __init__(self, training, folder, log, stop, options, origin=None):
        self._training, self._folder, self._log, self._stop = training, folder, log, stop
        self._options, self._origin = options, origin
        self._saved, self._drops = time.monotonic(), training.rates.drops
        batch, (epochs, steps) = training.recipe.learning.batch, divmod(training.step, training.steps_per_epoch)
        images = epochs * len(training.dataset.train) + steps * batch  # an epoch's last batch may be shorter
        losses = [metrics.read()[0] for metrics in training.epoch_metrics]
        self.monitor = TrainingMonitor(training.network.classes, batch, log.say, images, losses)

    def due(self):
        """Return whether a checkpoint is to be written after this step."""
        late = time.monotonic() - self._saved > self._options.save_every
        requested = self._stop.stop_requested or self._stop.save_requested
        return late or requested or self._training.rates.drops != self._drops

    def save(self, tested=False):
        """Write a checkpoint and return its path.

        Parameters
        ----------
        tested : bool
            Whether the last entry of `Training.errors` belongs to these weights.
        """
        training = self._training
        path = run_folder.save(training, self._folder, self._origin, tested)
        if not tested:
            self._log.write("saved", time=time.time(), epoch=training.epoch, step=training.step, path=path.name)
        self._saved, self._stop.save_requested, self._drops = time.monotonic(), False, training.rates.drops
        return path

    def after_step(self, metrics):
        """Check a step's loss; if no later step has been launched, `save_if_due`.

        A run whose loss has stalled is saved before the StalledError is raised.
        """
        try:
            self.monitor.loss(metrics.read()[0], metrics.images)
        except StalledError:
            self.save()
            raise
        if metrics.step == self._training.step:
            self.save_if_due()

    def save_if_due(self):
        """Write a checkpoint if one is due; raise Interrupted after it if a signal has requested a stop."""
        stop = self._stop.stop_requested  # before `due` reads it: a request that arrives in between is served next time
        if self.due():
            path = self.save()
        if stop:
            self._interrupt(f"saved in {path}")

    def stop_if_requested(self):
        """Raise Interrupted if a signal has requested a stop; for a run whose last state is saved already."""
        if self._stop.stop_requested:
            self._interrupt("the last one, which is saved")

    def _interrupt(self, where):
        command = self._options.command
        resume = f"resume with: {command}" if command else "the same command resumes it"
        raise Interrupted(f"stopped at step {self._training.step}, {where}; {resume}")

    @contextlib.contextmanager
    def saved_on_data_error(self):
        """Write a checkpoint when the data can no longer be read, before the DataError is raised."""
        try:
            yield
        except DataError as error:
            if not self._training.step:
                raise
            path = run_folder.save(self._training, self._folder, self._origin)
            raise DataError(
                f"{error}; stopped at step {self._training.step}, saved in {path}; repair the data, then the same "
                "command resumes the run"
            ) from error

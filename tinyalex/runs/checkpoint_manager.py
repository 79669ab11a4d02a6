"""Saves a run while it trains, and stops it when a signal has requested that."""

import contextlib
import time
from collections import Counter

from tinyalex.errors import CheckpointError, DataError, Interrupted, StalledError
from tinyalex.runs import run_folder
from tinyalex.system import hashes
from tinyalex.training.health import TrainingMonitor


class CheckpointManager:
    """Saves a training run at intervals, when the learning rate has fallen, and when a signal has requested it.

    Parameters
    ----------
    training : Training
    folder : Path
    log : Log
    stop : StopRequests or AgreedRequests
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
        self._saved_at, self._drops = time.monotonic(), training.rates.drops
        batch, (epochs, steps) = training.recipe.learning.batch, divmod(training.step, training.steps_per_epoch)
        images = epochs * len(training.dataset.train) + steps * batch  # an epoch's last batch may be shorter
        losses = [metrics.read()[0] for metrics in training.epoch_metrics]
        self.monitor = TrainingMonitor(training.network.classes, batch, log.say, images, losses)

    def due(self):
        """Return whether a checkpoint should be written after this step."""
        late = self._training.world.size == 1 and self.late()  # several ranks agree on it: see `AgreedRequests`
        requested = self._stop.stop_requested or self._stop.save_requested
        return late or requested or self._training.rates.drops != self._drops

    def late(self):
        """Return whether the last checkpoint is older than `options.save_every`."""
        return time.monotonic() - self._saved_at > self._options.save_every

    def save(self, tested=False):
        """Write a checkpoint and return its path.

        Parameters
        ----------
        tested : bool
            Whether the last entry of `Training.errors` is the test error of these weights.
        """
        training, path = self._training, self._write(tested)
        if not tested:
            self._log.write("saved", time=time.time(), epoch=training.epoch, step=training.step, path=path.name)
        self._saved_at, self._stop.save_requested, self._drops = time.monotonic(), False, training.rates.drops
        return path

    def _write(self, tested):
        training, path = self._training, None
        if training.world.size > 1:
            _check_weights(training)
        if training.world.leads:
            path = run_folder.save(training, self._folder, self._origin, tested, self._log.say)
        return training.world.broadcast(path, "the checkpoint of rank 0")

    def after_step(self, metrics):
        """Check a step's loss; if no later step has been launched yet, call `save_if_due`.

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
        stop = self._stop.stop_requested  # read once: a request that arrives from here on is served at the next call
        if self.due():
            path = self.save()
        if stop:
            self._interrupt(f"saved in {path}")

    def stop_if_requested(self):
        """Raise Interrupted if a signal has requested a stop; called when the current state is already saved."""
        if self._stop.stop_requested:
            self._interrupt("the last step, which is saved")

    def _interrupt(self, where):
        command = self._options.command
        resume = f"resume with: {command}" if command else "the same command resumes the run"
        raise Interrupted(f"stopped at step {self._training.step}, {where}; {resume}")

    @contextlib.contextmanager
    def saved_on_data_error(self):
        """In the block, when the data can no longer be read, write a checkpoint before the DataError is passed on."""
        try:
            yield
        except DataError as error:
            if not self._training.step:
                raise
            error = self._training.world.share_error(error)
            path = self._write(tested=False)
            raise DataError(
                f"{error}; stopped at step {self._training.step}, saved in {path}; repair the data, then the same "
                "command resumes the run"
            ) from error


def _check_weights(training):
    # All ranks have computed the same weights; one that has not would go on with other weights than are saved.
    tensors = run_folder.tensors_of(training.state_dict())
    digest = hashes.text(" ".join(hashes.array(tensor) for tensor in tensors.values()))
    digests = training.world.agree(digest, "comparing the weights")
    usual, _ = Counter(digests).most_common(1)[0]
    for rank, found in enumerate(digests):
        if found != usual:
            raise CheckpointError(
                f"rank {rank}: at step {training.step} its weights are not those of the other ranks: a fault of that "
                "machine; not saved, the last checkpoint is whole"
            )

"""Finds the step, the layer and the images where numbers first stopped being finite.

A loss that is not finite is noticed up to one step after the update that caused it. The steps since the last checkpoint
depend on the checkpoint and the data alone, so they are repeated here with every check on.
"""

import contextlib
import time

from tinyalex.errors import CheckpointError, DivergedError, StalledError
from tinyalex.runs import checkpoint, run_folder
from tinyalex.training import health


@contextlib.contextmanager
def explain_divergence(training, folder, log):
    """Find out where numbers stopped being finite, before a DivergedError leaves the block.

    Parameters
    ----------
    training : Training
    folder : Path
        Where its checkpoints are; none of them is written.
    log : Log
    """
    try:
        yield
    except StalledError:
        raise
    except DivergedError as error:
        text = str(error)
        # With finite weights, the step that failed was the first one, and the error names its layer already.
        if training.async_metrics or health.not_finite(run_folder.tensors_of(training.state_dict())):
            text = _replayed(training, folder, log)
        now = {"time": time.time(), "epoch": training.epoch, "step": training.step, "rate": training.rates.rate}
        log.write("diverged", **now, what=text)
        raise DivergedError(text) from error


def _replayed(training, folder, log):
    end = training.step
    try:
        tensors, metadata = checkpoint.read(checkpoint.newest(folder))
    except CheckpointError:
        training.reset([device.name for device in training.network.devices])
    else:
        run_folder.restore(training, tensors, metadata | {"errors": training.errors})
    log.say(f"numbers are no longer finite: repeating steps {training.step} to {end} with every check on")
    while training.step < end:
        with contextlib.closing(training.batches()) as batches:
            for batch in batches:
                try:
                    training.train_step(batch, check_gradients=True)
                except DivergedError as found:
                    return str(found)
                if training.step >= end:
                    break
    return (
        f"loss: was not finite near step {end}, but is finite now that these steps were repeated: a fault of the "
        "machine, not of the run; the same command resumes it"
    )

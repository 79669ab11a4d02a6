"""Finds the step, the layer and the images where numbers first stopped being finite.

On a GPU, a loss that is not finite is noticed only some steps after the update that caused it. The steps since the last
checkpoint depend only on the checkpoint and the data, so they are repeated here with all checks on.
"""

import contextlib
import time

from tinyalex.errors import CheckpointError, DivergedError, StalledError
from tinyalex.runs import checkpoint, run_folder
from tinyalex.training import health


@contextlib.contextmanager
def explain_divergence(training, folder, log):
    """When a DivergedError leaves the block, find where numbers stopped being finite, and put that into its message.

    Parameters
    ----------
    training : Training
    folder : Path
        Where its checkpoints are; they are only read.
    log : Log
    """
    try:
        yield
    except StalledError:
        raise
    except DivergedError as error:
        text = str(error)
        # If the weights are finite, the step that failed is the first one, and the error already names its layer.
        if training.world.size > 1:
            pass  # the message names the rank, and where on it
        elif training.async_metrics or health.not_finite(run_folder.tensors_of(training.state_dict())):
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
    log.say(f"numbers are no longer finite: repeating steps {training.step} to {end} with all checks on")
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
        f"loss: was not finite near step {end}, but is finite when these steps are repeated: a fault of the machine, "
        "not of the settings; the same command resumes the run"
    )

"""Back to the last checkpoint, and once more with every check on: where numbers first stopped being finite.

A loss that is no number is noticed after the updates that made it so, at most a step late. What led there is a function
of the checkpoint and the data: so it happens again, and this time the layer and the images are known.
"""

import contextlib
import time

from tinyalex.errors import CheckpointError, DivergedError, StalledError
from tinyalex.runs import checkpoint, run_folder
from tinyalex.training import health


@contextlib.contextmanager
def explained(run, folder, log):
    """Find out where numbers stopped being finite, before the DivergedError of a `Training` goes on.

    Parameters
    ----------
    run : Training
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
        if run.late or health.not_finite(
            run_folder.state(run)
        ):  # else it began with this batch, and the layer was named
            text = _replayed(run, folder, log)
        log.write("diverged", time=time.time(), epoch=run.epoch, step=run.step, rate=run.rates.rate, what=text)
        raise DivergedError(text) from error


def _replayed(run, folder, log):
    end = run.step
    try:
        tensors, metadata = checkpoint.read(checkpoint.newest(folder))
    except CheckpointError:
        run.begin([device.name for device in run.network.devices])
    else:
        run_folder.restore(run, tensors, metadata | {"errors": run.errors})
    log.say(f"numbers are no longer finite: steps {run.step} to {end} once more, looking at each")
    while run.step < end:
        with contextlib.closing(run.batches()) as batches:
            for batch in batches:
                try:
                    run.learn(batch, examine=True)
                except DivergedError as found:
                    return str(found)
                if run.step >= end:
                    break
    return (
        f"loss: was no number near step {end}, and is one now that these steps were taken once more: a fault of the "
        "machine, not of the run; the same command goes on"
    )

"""A learning-rate range test: train with a rate that rises from step to step, and see where the loss falls fastest.

L. N. Smith, "Cyclical learning rates for training neural networks" (2017), section 3.3. The rate rises by the same
factor at each step, from far too small to far too large: at first the loss does not move, then it falls, then it grows.
The losses of single batches are noisy, so their running mean is used. The suggested rate is a third of the rate at
which this mean is lowest: there the loss falls, and a longer training at that rate is still stable.
"""

import contextlib
import json
import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from tinyalex.errors import DivergedError, Interrupted, UsageError
from tinyalex.experiments.trial import RESULT, read_json
from tinyalex.recipes.recipe import Phase
from tinyalex.runs import checkpoint, run_folder
from tinyalex.system import ownership, storage
from tinyalex.system.signals import StopRequests
from tinyalex.training.loop import Training

RANGE = 100.0  # the rates rise from a hundredth of the recipe's to a hundred times it
STEPS = 200
SMOOTH = 0.9  # how much of the running mean each step keeps
GROWN = 4.0  # the test ends when the running mean is this many times its lowest value
PART = 3.0  # the suggested rate is the rate of the lowest loss divided by this
_SAVE_EVERY = 60.0  # seconds


def rates_of(middle, steps):
    """Return the rate of each step, floats, each the same multiple of the one before; ``middle`` is half-way."""
    if steps < 10:
        raise UsageError(f"--steps {steps}: too few to see a curve; give 10 or more")
    return [float(f"{middle * RANGE ** (2 * k / (steps - 1) - 1):.6g}") for k in range(steps)]


def smoothed(losses):
    """Return the running mean of losses: an exponential mean whose first values are not pulled towards 0."""
    mean, found = 0.0, []
    for step, loss in enumerate(losses, start=1):
        mean = SMOOTH * mean + (1 - SMOOTH) * loss
        found.append(mean / (1 - SMOOTH**step))
    return found


def suggestion(rates, means):
    """Return the suggested rate, and the rate with the lowest running mean; None and None if the loss never falls.

    Parameters
    ----------
    rates, means : sequence of float
        Of the steps that were taken: see `smoothed`.
    """
    lowest = int(np.argmin(means))
    if lowest == 0 or means[lowest] > 0.98 * max(means[: lowest + 1]):
        return None, None
    return float(f"{rates[lowest] / PART:.2g}"), rates[lowest]


def rate_test(recipe, dataset, out, seeds, devices, steps, show):
    """Run the test with several seeds.

    Parameters
    ----------
    recipe : Recipe
        The net, its data and the rest of its ``learning``; its rates and its schedule are replaced.
    dataset : Dataset
    out : Path
        Folder for one folder per seed.
    seeds : int
    devices : sequence of str
    steps : int
    show : callable
        Called with lines of text.

    Returns
    -------
    dict
        "rates": of the steps. "losses" and "means": for each seed the losses of the steps and their running means,
        which may end early. "mean": the mean of the running means over the seeds. "suggested" and "lowest": see
        `suggestion`. "recipe_rate": that of the recipe.
    """
    rates, curves = rates_of(recipe.learning.rate, steps), []
    for seed in range(seeds):
        folder = Path(out) / f"{steps}-steps-{seed}"
        curves.append(_losses(recipe, dataset, folder, devices[: recipe.net.columns], seed, rates))
        means = smoothed(curves[-1])
        suggested, _ = suggestion(rates, means)
        found = "the loss falls at no rate" if suggested is None else f"suggested rate {suggested:g}"
        show(f"seed {seed}: lowest mean loss {min(means):.3f}; {found}")
    means = [smoothed(losses) for losses in curves]
    length = min(map(len, means))
    mean = np.mean([each[:length] for each in means], axis=0).tolist()
    suggested, lowest = suggestion(rates, mean)
    found = {"rates": rates, "losses": curves, "means": means, "mean": mean}
    return found | {"suggested": suggested, "lowest": lowest, "recipe_rate": recipe.learning.rate}


def rising(recipe, rates, steps_per_epoch):
    """Return a recipe whose rate is ``rates[k]`` at step k; biases and single layers keep their multiples of it."""
    learning = recipe.learning
    first = learning.phases[0] if learning.phases else Phase(0.0, learning.rate)
    multiple = None if first.bias_rate is None else first.bias_rate / first.rate
    phases = tuple(
        Phase(step / steps_per_epoch, rate, multiple and multiple * rate, first.colour_noise, first.lr_mult)
        for step, rate in enumerate(rates)
    )
    epochs = math.ceil(len(rates) / steps_per_epoch)
    changes = {"schedule": "phases", "phases": phases, "rate": rates[0], "warmup": 0.0, "epochs": epochs}
    return replace(recipe, learning=replace(learning, **changes, stop_after=0))


def _losses(recipe, dataset, folder, devices, seed, rates):
    # Return the loss of each step; a test that was finished here is read, one that was stopped is resumed.
    if (folder / RESULT).is_file():
        return read_json(folder / RESULT, ("losses",), list)["losses"]
    steps_per_epoch = -(-len(dataset.need("train")) // recipe.learning.batch)
    training = Training(rising(recipe, rates, steps_per_epoch), dataset, devices, seed)
    with run_folder.hold(folder), StopRequests(saves=True) as stop:
        run_folder.remove_partial_files(folder)
        losses = _resume(training, folder)
        with contextlib.suppress(DivergedError):
            _train(training, losses, len(rates), stop, folder)
        storage.write_text(folder / RESULT, json.dumps({"losses": losses}) + "\n")
        for path, _ in checkpoint.by_step(folder):  # no longer needed
            if ownership.is_ours(path):
                ownership.remove(path)
    return losses


def _train(training, losses, steps, stop, folder):
    # Append the losses of the steps from here on, until the loss has grown or is not finite.
    saved_at = time.monotonic()
    while True:
        with contextlib.closing(training.batches()) as batches:
            for batch in batches:
                if len(losses) == steps or _grown(losses):
                    return
                losses.append(training.train_step(batch).read()[0])
                if stop.stop_requested or stop.save_requested or time.monotonic() - saved_at > _SAVE_EVERY:
                    tensors, metadata = run_folder.snapshot(training)
                    checkpoint.save(folder, tensors, metadata | {"losses": losses})
                    saved_at, stop.save_requested = time.monotonic(), False
                if stop.stop_requested:
                    raise Interrupted(
                        f"stopped at step {len(losses)} of {steps}, which is saved; the same command resumes the test"
                    )


def _resume(training, folder):
    if not any(folder.glob("checkpoint-*.safetensors")):
        return []
    tensors, metadata = run_folder.read(checkpoint.newest(folder))
    run_folder.restore(training, tensors, metadata)
    return list(metadata["losses"])


def _grown(losses):
    means = smoothed(losses)
    return bool(means) and means[-1] > GROWN * min(means)

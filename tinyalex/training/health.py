"""What to look at when a run is sick, and how a sick run is told from a slow one."""

import math

import numpy as np

from tinyalex.errors import DivergedError, StalledError

WEAK = 0.02  # a signal below this has stalled: see `signal`
STALL_WARNING, STALL_END = 2000 * 256, 10000 * 256  # images after which the loss should have left that of guessing
_STALLED = 0.05  # how near to ln(classes) is not learning
_SILENT = 0.9  # share of a layer's units that never fire
_WAITING, _LONG = 0.25, 30.0  # share of an epoch without data, and seconds
_REMEDIES = (
    "try another --seed, biases of 0.1 in place of 1 (init.biases), or a smaller learning.rate, in another --out"
)


def first_not_finite(network, images, step=None):
    """Name the first layer, from the images on, whose weights or output hold a NaN or an infinity.

    Parameters
    ----------
    network : Network
    images : ndarray, shape (n, h, w, c)
    step : Step, optional

    Returns
    -------
    str or None
    """
    sick = set()

    def watch(layer, y):
        tensors = [y, *(parameter.value for parameter in layer.parameters)]
        if not all(_finite(layer.device, tensor) for tensor in tensors):
            sick.add((layer.device, layer.names))  # both columns have a relu2

    with network.step():
        network.forward(images, step, watch)
    return next((layer.name for _, layer in network.layers() if (layer.device, layer.names) in sick), None)


def first_gradient_not_finite(network):
    """Name the parameter, from the loss back, whose last gradient holds a NaN or an infinity; None if there is none."""
    sick = [name for name, device, view in network.tensors("grad") if not _finite(device, view)]
    return sick[-1] if sick else None


def not_finite(tensors):
    """Find the first NaN or infinity in host arrays, as ``"conv1a/W[3, 0, 2, 7]"``; None if there is none."""
    for name, array in tensors.items():
        if not np.isfinite(array).all():
            place = ", ".join(str(index) for index in np.argwhere(~np.isfinite(array))[0])
            return f"{name}[{place}]"
    return None


def examine(network, batch, step, rate, outcome, gradients=False):
    """Refuse to go on from a step whose numbers are not finite; to be asked before the update.

    Parameters
    ----------
    network : Network
        After its backward.
    batch : Batch
    step : Step
    rate : float
        Of learning.
    outcome : Outcome
    gradients : bool
        Look at all gradients as well.

    Raises
    ------
    DivergedError
        With the layer, the step and the images.
    """
    try:
        outcome.figures()
        sick = first_gradient_not_finite(network) if gradients else None
        if sick is None:
            return
        where = f"gradient of {sick}"
    except DivergedError:
        where = first_not_finite(network, batch.images, step) or "loss"
    few = ", ".join(str(index) for index in batch.indices[:4]) + (", ..." if len(batch.indices) > 4 else "")
    raise DivergedError(
        f"{where}: numbers are no longer finite at step {step.number} (rate {rate:g}, images {few}); "
        "no checkpoint holds them; use a smaller learning.rate"
    ) from None


def signal(network, images):
    """Measure how much of what the last layer says depends on the image.

    Parameters
    ----------
    network : Network
    images : ndarray or Placed, shape (n, h, w, c)
        Two or more.

    Returns
    -------
    float
        Deviation of the logits over the images, as a part of their size (both root mean squares): 1 if an image is all
        that counts, 0 if every image gives the same.
    """
    with network.step(), network.devices[0] as device:
        logits = device.get(network.forward(images)).astype(np.float64)
    size = np.sqrt(np.square(logits).mean())
    return float(np.sqrt(logits.var(axis=0).mean()) / size) if size > 0 else 0.0


def silent_units(network, images):
    """Tell the share of each rectifier's units, or maps, that are 0 for all of some images: ``{"relu1": 0.1, ...}``."""
    seen = []  # the workers take turns in adding to it

    def watch(layer, y):
        rectifier = getattr(layer, "relu", None) or layer  # on a card it goes with the layer before
        if rectifier.names[0].startswith("relu"):
            lit = layer.device.get((y > 0).any(axis=tuple(range(y.ndim - 1))))
            seen.append((rectifier.names[0], id(layer.device), lit))

    with network.step():
        network.forward(images, None, watch)
    fired = {}
    for name, column, lit in seen:
        fired[name, column] = fired.get((name, column), False) | lit
    layers = sorted({name for name, _ in fired})
    return {
        name: float(1 - np.concatenate([lit for (its, _), lit in fired.items() if its == name]).mean())
        for name in layers
    }


class Watch:
    """Notices during training what a person would want to know.

    Parameters
    ----------
    classes, batch : int
    say : callable
        Gets a line for each warning.
    seen : int
        Images that the run has learned from.
    losses : sequence of float
        Of its last steps.
    """

    def __init__(self, classes, batch, say, seen=0, losses=()):
        self._guessing, self._seen, self._say = math.log(classes), seen, say
        self._keep, self._told = max(20, 25600 // batch), set()
        self._recent = list(losses[-self._keep :])

    def loss(self, loss, images):
        """Take note of a step's loss.

        Raises
        ------
        StalledError
            When the loss has not left that of guessing after 10,000 batches of 256: that run does not learn. It may
            be told to go on nevertheless.
        """
        before, self._seen = self._seen, self._seen + images
        self._recent = [*self._recent[1 - self._keep :], loss]
        for limit in (STALL_WARNING, STALL_END):
            if before < limit <= self._seen and np.mean(self._recent) > self._guessing - _STALLED:
                line = (
                    f"loss: {np.mean(self._recent):.3f} after {self._seen:,} images, that of guessing "
                    f"({self._guessing:.3f})"
                )
                if limit == STALL_END:
                    raise StalledError(f"{line}; {_REMEDIES}, or insist with the same command")
                self._say(f"warning: {line}; it may still begin to fall: if not, {_REMEDIES}")

    def units(self, silent):
        """Take note of `silent_units`."""
        for name, share in silent.items():
            if share > _SILENT:
                self._once(name, f"{name}: {share:.0%} of its units are 0 for every image; use a smaller learning.rate")

    def waiting(self, seconds, share):
        """Take note of the time, and the share of an epoch, that went by without data."""
        if seconds > _LONG and share > _WAITING:
            self._once("data", f"data: {share:.0%} of the time went into waiting for them; use a faster disk")

    def _once(self, what, line):
        if what not in self._told:
            self._told.add(what)
            self._say(f"warning: {line}")


def _finite(device, array):
    with device:
        return bool(device.xp.isfinite(array).all())

"""Checks that training goes well: finite numbers, logits that depend on the image, a falling loss, active ReLUs."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tinyalex.datasets.loading.loader import Batch
from tinyalex.devices.device import Array, Device
from tinyalex.devices.upload import DeviceBatch
from tinyalex.errors import DivergedError, StalledError
from tinyalex.layers import Layer
from tinyalex.network.network import Network
from tinyalex.randomness import Step
from tinyalex.recipes.recipe import Recipe
from tinyalex.training.step_metrics import StepMetrics
from tinyalex.words import counted

WEAK = 0.02  # with a signal below this, training is likely to stall: see `signal`
STALL_WARNING, STALL_END = 2000 * 256, 10000 * 256  # images after which the loss should be below the level of guessing
_STALLED = 0.05  # a loss above ln(classes) minus this is at the level of guessing
_AT_ONCE = 16  # images on the host whose units are looked at together: every layer's output is kept for them
_DEAD = 0.9  # warn when a larger fraction of a ReLU's units is 0 for every image
_WAITING, _LONG = 0.25, 30.0  # warn when an epoch waited for data for more than this fraction of its time, and seconds
_OVERFITTED, _FEW_TESTED = 0.2, 20  # warn if the test error is higher than training's by more; not of a few images
_REMEDIES = (
    "try another --seed, biases of 0.1 in place of 1 (init.biases), or a smaller learning.rate, in another --out"
)


def first_not_finite(
    network: Network, images: np.ndarray | DeviceBatch, training: bool = False, step: Step | None = None
) -> str | None:
    """Return the name of the first layer in forward order whose parameters or output hold a NaN or an infinity.

    Parameters
    ----------
    network : Network
    images : ndarray, shape (n, h, w, c)
    step : Step, optional

    Returns
    -------
    str or None
    """
    bad = set()

    def forward_hook(layer: Layer, y: Array) -> None:
        tensors = [y, *(parameter.value for parameter in layer.parameters)]
        if not all(_finite(layer.device, tensor) for tensor in tensors):
            bad.add((layer.device, layer.names))  # the device too: a relu2 is in both columns

    with network.step():
        network.forward(images, training=training, step=step, forward_hook=forward_hook)
    return next((layer.name for _, layer in network.layers() if (layer.device, layer.names) in bad), None)


def first_gradient_not_finite(network: Network) -> str | None:
    """Return the name of the parameter nearest to the loss whose gradient holds a NaN or an infinity, or None."""
    bad = [name for name, device, view in network.tensors("grad") if not _finite(device, view)]
    return bad[-1] if bad else None


def not_finite(tensors: Mapping[str, np.ndarray]) -> str | None:
    """Return where the first NaN or infinity in a dict of host arrays is, as ``"conv1a/W[3, 0, 2, 7]"``, or None."""
    for name, array in tensors.items():
        if not np.isfinite(array).all():
            index = ", ".join(str(i) for i in np.argwhere(~np.isfinite(array))[0])
            return f"{name}[{index}]"
    return None


def check_finite(
    network: Network, batch: Batch, step: Step, rate: float, metrics: StepMetrics, gradients: bool = False
) -> None:
    """Raise an error if a step's loss, or one of its gradients, is not finite. Call it before the update.

    Parameters
    ----------
    network : Network
        After `backward`.
    batch : Batch
    step : Step
    rate : float
        Learning rate.
    metrics : StepMetrics
    gradients : bool
        Also check all gradients.

    Raises
    ------
    DivergedError
        The message names the layer or parameter, the step and the images.
    """
    try:
        metrics.read()
        parameter = first_gradient_not_finite(network) if gradients else None
        if parameter is None:
            return
        where = f"gradient of {parameter}"
    except DivergedError:
        where = first_not_finite(network, batch.images, training=True, step=step) or "loss"
    few = ", ".join(str(index) for index in batch.indices[:4]) + (", ..." if len(batch.indices) > 4 else "")
    raise DivergedError(
        f"{where}: numbers are no longer finite at step {step.number} (rate {rate:g}, images {few}); "
        "no checkpoint holds them; use a smaller learning.rate"
    ) from None


def signal(network: Network, images: np.ndarray | DeviceBatch) -> float:
    """Measure how much the logits depend on the image.

    Parameters
    ----------
    network : Network
    images : ndarray or DeviceBatch, shape (n, h, w, c)
        n must be 2 or more.

    Returns
    -------
    float
        Standard deviation of the logits over the images divided by their root mean square: 0 if every image gives the
        same logits, at most 1.
    """
    with network.step(), network.devices[0] as device:
        logits = device.get(network.forward(images)).astype(np.float64)
    size = np.sqrt(np.square(logits).mean())
    return float(np.sqrt(logits.var(axis=0).mean()) / size) if size > 0 else 0.0


def dead_relu_fraction(network: Network, images: np.ndarray | DeviceBatch) -> dict[str, float]:
    """Return the fraction of each ReLU's units that are 0 for all the images: ``{"relu1": 0.1, ...}``.

    After a convolution a unit is a whole map: it is dead if it is 0 at every position of every image.
    """
    outputs: list[tuple[str, int, np.ndarray]] = []  # (ReLU, column, which units are active) for every block of images

    def forward_hook(layer: Layer, y: Array) -> None:
        if layer.relu:
            active = layer.device.get((y > 0).any(axis=tuple(range(y.ndim - 1))))
            outputs.append((layer.relu.names[0], id(layer.device), active))

    at_once = _AT_ONCE if isinstance(images, np.ndarray) else len(images)
    for first in range(0, len(images), at_once):
        with network.step():
            network.forward(images[first : first + at_once], forward_hook=forward_hook)
    ever_active: dict[tuple[str, int], np.ndarray] = {}
    for name, column, active in outputs:
        ever_active[name, column] = ever_active.get((name, column), False) | active
    names = sorted({name for name, _ in ever_active})
    return {
        name: float(1 - np.concatenate([active for (relu, _), active in ever_active.items() if relu == name]).mean())
        for name in names
    }


class TrainingMonitor:
    """Warns of a loss that does not fall, of dead ReLU units, of overfitting, and of time lost waiting for data.

    Parameters
    ----------
    classes, batch : int
    say : callable
        Called with a line of text for each warning.
    seen : int
        Images that the run has trained on so far.
    losses : sequence of float
        The losses of its last steps.
    """

    def __init__(
        self, classes: int, batch: int, say: Callable[[str], object], seen: int = 0, losses: Sequence[float] = ()
    ) -> None:
        self._guessing, self._seen, self._say = math.log(classes), seen, say
        self._keep = max(20, 25600 // batch)
        self._warned: set[str] = set()
        self._recent = list(losses[-self._keep :])

    def loss(self, loss: float, images: int) -> None:
        """Check a step's loss.

        Raises
        ------
        StalledError
            If the loss is still at the level of guessing after 10,000 batches of 256. Running the same command again
            resumes the run all the same; the error is not raised a second time.
        """
        before, self._seen = self._seen, self._seen + images
        self._recent = [*self._recent[1 - self._keep :], loss]
        for limit in (STALL_WARNING, STALL_END):
            if before < limit <= self._seen and np.mean(self._recent) > self._guessing - _STALLED:
                line = (
                    f"loss: {np.mean(self._recent):.3f} after {counted(self._seen, 'image')}, the level of guessing "
                    f"({self._guessing:.3f})"
                )
                if limit == STALL_END:
                    raise StalledError(f"{line}; {_REMEDIES}; to continue all the same, repeat the command")
                self._say(f"warning: {line}; it may still begin to fall; if it does not, {_REMEDIES}")

    def dead_relus(self, fractions: Mapping[str, float]) -> None:
        """Check what `dead_relu_fraction` returned."""
        for name, share in fractions.items():
            if share > _DEAD:
                self._once(name, f"{name}: {share:.0%} of its units are 0 for every image; use a smaller learning.rate")

    def overfitting(self, training: float, test: float, tested: int, recipe: Recipe) -> None:
        """Check an epoch's training error and the test error after it, of ``tested`` images.

        A training error is measured while the net learns, with dropout and on crops, and is usually the higher one.
        """
        if tested < _FEW_TESTED or test - training <= _OVERFITTED or training > test / 2:
            return
        net, data = recipe.net, recipe.data
        switches = [
            "--set net.dropout=0.5" if net.kind == "alexnet" and net.dropout < 0.5 else "",
            "--set data.flip=true, if mirror images are of the same class" if not data.flip else "",
            "--set data.colour=2012" if data.colour == "none" else "",
            "a larger learning.weight_decay, fewer epochs",
        ]
        self._once(
            "overfitting",
            f"overfitting: training error {training:.0%}, test error {test:.0%}: the net knows the training images by "
            f"heart; more images help most, then {', '.join(filter(None, switches))}",
        )

    def waiting(self, seconds: float, share: float) -> None:
        """Check the time, and the share of an epoch, spent waiting for data."""
        if seconds > _LONG and share > _WAITING:
            remedy = "try --loader-threads N, and tinyalex verify DATA --speed for what suits the disk"
            self._once("data", f"data: {share:.0%} of the time was spent waiting for the next batch; {remedy}")

    def _once(self, topic: str, line: str) -> None:
        if topic not in self._warned:
            self._warned.add(topic)
            self._say(f"warning: {line}")


def _finite(device: Device, array: Array) -> bool:
    with device:
        return bool(device.xp.isfinite(array).all())

"""Time every kernel and every matrix product of a training step, with the bytes and operations of each."""

import contextlib
from collections import defaultdict

from tinyalex.bench import timestamps
from tinyalex.bench.cpu_floor import FLOP

READ_AND_WRITTEN = {"rectify": [0], "update": [0, 2]}  # indices of a kernel's arrays; all others are one or the other


class KernelTimer:
    """The launches of a step: ``(label, bytes, operations, device, start, end)`` of each.

    Parameters
    ----------
    layers : tinyalex.bench.layer_times.LayerTimer
        Knows within which layer a launch is.
    """

    def __init__(self, layers):
        self._layers, self._records = layers, []

    @contextlib.contextmanager
    def measure(self, name, size, operations, device):
        """Record the time that the block's work takes on a device."""
        start = timestamps.stamp(device)
        yield
        label = f"{self._layers.current or 'update'} {name}"
        self._records.append((label, size, operations, device, start, timestamps.stamp(device)))

    def values(self):
        """Return ``{"conv1/forward im2col|seconds": ..., "...|bytes": ..., "...|operations": ...}``."""
        sums = defaultdict(float)
        for label, size, operations, device, start, end in self._records:
            sums[f"{label}|seconds"] += timestamps.seconds(device, start, end)
            sums[f"{label}|bytes"] += size
            sums[f"{label}|operations"] += operations
        return dict(sums)


@contextlib.contextmanager
def timed_kernels(devices, layers):
    """Time what devices start with `launch` and `matmul`, until the block ends."""
    timer, devices = KernelTimer(layers), list(dict.fromkeys(devices))
    for device in devices:
        device.launch, device.matmul = _launch(device, timer), _matmul(device, timer)
    try:
        yield timer
    finally:
        for device in devices:
            del device.launch, device.matmul


def _launch(device, timer):
    launch = device.launch

    def timed(code, name, rows, count, *arguments, **constants):
        sizes = [array.nbytes for array in arguments if hasattr(array, "nbytes") and array.ndim]
        size = sum(sizes) + sum(sizes[index] for index in READ_AND_WRITTEN.get(name, ()))
        with timer.measure(name, size, 0, device):
            launch(code, name, rows, count, *arguments, **constants)

    return timed


def _matmul(device, timer):
    matmul = device.matmul

    def timed(a, b, out):
        with timer.measure("product", a.nbytes + b.nbytes + out.nbytes, FLOP * out.size * a.shape[1], device):
            return matmul(a, b, out)

    return timed

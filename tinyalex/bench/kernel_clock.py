"""Every kernel and every product of a training step of ours: how long it takes, what it moves and computes."""

import contextlib
from collections import defaultdict

from tinyalex.bench import stamps
from tinyalex.bench.floor import FLOP

READ_AND_WRITTEN = {"rectify": [0], "update": [0, 2]}  # which arrays of a kernel; all others are one of both


class Launches:
    """What was started, ``(label, bytes, operations, device, stamp, stamp)`` by its like.

    Parameters
    ----------
    clock : tinyalex.bench.layer_clock.Clock
        Says within which layer.
    """

    def __init__(self, clock):
        self._clock, self._records = clock, []

    @contextlib.contextmanager
    def measure(self, name, size, operations, device):
        """Add the time that the block's work takes on a device."""
        start = stamps.stamp(device)
        yield
        label = f"{self._clock.within or 'update'} {name}"
        self._records.append((label, size, operations, device, start, stamps.stamp(device)))

    def values(self):
        """Return ``{"conv1/forward im2col|seconds": ..., "...|bytes": ..., "...|operations": ...}``."""
        sums = defaultdict(float)
        for label, size, operations, device, start, end in self._records:
            sums[f"{label}|seconds"] += stamps.seconds(device, start, end)
            sums[f"{label}|bytes"] += size
            sums[f"{label}|operations"] += operations
        return dict(sums)


@contextlib.contextmanager
def launches(devices, clock):
    """Time what is started on devices, by their `launch` and `matmul`, until the block ends."""
    found, devices = Launches(clock), list(dict.fromkeys(devices))
    for device in devices:
        device.launch, device.matmul = _launch(device, found), _matmul(device, found)
    try:
        yield found
    finally:
        for device in devices:
            del device.launch, device.matmul


def _launch(device, found):
    launch = device.launch

    def timed(code, name, rows, count, *arguments, **constants):
        sizes = [each.nbytes for each in arguments if hasattr(each, "nbytes") and each.ndim]
        size = sum(sizes) + sum(sizes[index] for index in READ_AND_WRITTEN.get(name, ()))
        with found.measure(name, size, 0, device):
            launch(code, name, rows, count, *arguments, **constants)

    return timed


def _matmul(device, found):
    matmul = device.matmul

    def timed(a, b, out):
        with found.measure("product", a.nbytes + b.nbytes + out.nbytes, FLOP * out.size * a.shape[1], device):
            return matmul(a, b, out)

    return timed

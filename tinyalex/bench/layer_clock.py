"""The time that each layer takes within a training step of ours.

A layer that the workers share is timed in every worker; the sum over the workers, divided by their number, is its part
of the step. What stands between the layers (cutting blocks, adding their gradients) belongs to none.
"""

import contextlib
import threading
from collections import defaultdict

from tinyalex.bench import stamps
from tinyalex.bench.floor import plain
from tinyalex.devices.device import Device
from tinyalex.devices.parallel import workers

_DIRECTIONS = {"prepare": "forward", "forward": "forward", "backward": "backward"}
_HOST = Device("cpu")


class Clock:
    """What was measured, ``(layer/direction, device, stamp, stamp, share)`` by its like; threads may add to it."""

    def __init__(self):
        self._records = []
        self._here = threading.local()

    @property
    def within(self):
        """What is being measured in this thread, or None."""
        return getattr(self._here, "within", None)

    @contextlib.contextmanager
    def measure(self, key, device=_HOST):
        """Add the time that the block takes on a device, if it is not within another that is measured."""
        if self.within:
            yield
            return
        self._here.within, start = key, stamps.stamp(device)
        try:
            yield
        finally:
            self._here.within, end = None, stamps.stamp(device)
            self._records.append((key, device, start, end, 1 / (workers().count if workers().busy else 1)))

    def seconds(self):
        """Return ``{"conv1/forward": seconds, ...}``; waits for what a card is still to do."""
        sums = defaultdict(float)
        for key, device, start, end, share in self._records:
            sums[key] += stamps.seconds(device, start, end) * share
        return dict(sums)


@contextlib.contextmanager
def clocked(network):
    """Time the layers of a network, and its loss, until the block ends.

    Methods are replaced in the classes: a stage's replicas are copies of its layers and find them there. A layer that
    a card runs together with what follows has one time.
    """
    clock, before = Clock(), []
    network.loss.names = ("loss",)
    run = [layer for stage in network.executors for column in getattr(stage, "columns", ()) for layer in column]
    for kind in {type(layer) for layer in [*(layer for _, layer in network.layers()), *run, network.loss]}:
        for method, direction in _DIRECTIONS.items():
            before.append((kind, method, vars(kind).get(method)))
            setattr(kind, method, _timed(getattr(kind, method), direction, clock))
    try:
        yield clock
    finally:
        for kind, method, own in before:
            if own is None:
                delattr(kind, method)
            else:
                setattr(kind, method, own)


def _timed(method, direction, clock):
    def timed(layer, *arguments, **named):
        with clock.measure(f"{plain(layer.name)}/{direction}", layer.device):
            return method(layer, *arguments, **named)

    return timed

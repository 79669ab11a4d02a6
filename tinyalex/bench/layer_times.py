"""Time each layer within a training step of tinyalex.

A layer that several workers run is timed in each of them; the sum divided by the number of workers is its share of the
step. What happens between layers, such as cutting blocks and adding their gradients, is not part of any layer.
"""

import contextlib
import threading
from collections import defaultdict

from tinyalex.bench import timestamps
from tinyalex.bench.cpu_floor import without_column
from tinyalex.devices.device import Device
from tinyalex.devices.parallel import workers
from tinyalex.network.fast import LayerCalls

_DIRECTIONS = {"prepare": "forward", "forward": "forward", "forward_checked": "forward", "backward": "backward"}
_HOST = Device("cpu")


class LayerTimer:
    """The calls of a step, ``(layer/direction, device, start, end, share)`` of each; threads may add to them."""

    def __init__(self):
        self._records = []
        self._thread = threading.local()

    @property
    def current(self):
        """The key of the block that is being measured in this thread, or None."""
        return getattr(self._thread, "current", None)

    @contextlib.contextmanager
    def measure(self, key, device=_HOST):
        """Record the time that the block takes on a device, unless it is inside a block that is measured already."""
        if self.current:
            yield
            return
        self._thread.current, start = key, timestamps.stamp(device)
        try:
            yield
        finally:
            self._thread.current, end = None, timestamps.stamp(device)
            self._records.append((key, device, start, end, 1 / (workers().count if workers().busy else 1)))

    def seconds(self):
        """Return ``{"conv1/forward": seconds, ...}``; waits for the work of GPUs."""
        sums = defaultdict(float)
        for key, device, start, end, share in self._records:
            sums[key] += timestamps.seconds(device, start, end) * share
        return dict(sums)


@contextlib.contextmanager
def timed_layers(network):
    """Time the layers of a network, and its loss, until the block ends.

    Methods are replaced in the classes, because a stage's replicas are copies of its layers and use the same classes.
    Layers that a GPU runs together with the layer before have one time.
    """
    timer, before = LayerTimer(), []
    network.loss.names = ("loss",)
    run = [layer for stage in network.executors for column in getattr(stage, "columns", ()) for layer in column]
    before.append((LayerCalls, "run", LayerCalls.run))
    LayerCalls.run = _timed_calls(LayerCalls.run, timer)
    for kind in {type(layer) for layer in [*(layer for _, layer in network.layers()), *run, network.loss]}:
        for method in _DIRECTIONS.keys() & dir(kind):
            before.append((kind, method, vars(kind).get(method)))
            setattr(kind, method, _timed(getattr(kind, method), _DIRECTIONS[method], timer))
    try:
        yield timer
    finally:
        for kind, method, own in before:
            if own is None:
                delattr(kind, method)
            else:
                setattr(kind, method, own)


def _timed(method, direction, timer):
    def timed(layer, *arguments, **named):
        with timer.measure(f"{without_column(layer.name)}/{direction}", layer.device):
            return method(layer, *arguments, **named)

    return timed


def _timed_calls(run, timer):
    def timed(calls):
        with timer.measure(f"{without_column(calls.name)}/{calls.direction}"):
            run(calls)

    return timed

"""Training steps on GPUs that repeat the calls of an earlier step: see `tinyalex.devices.tape`.

The first step with a number of images runs as it is written, the second in a row is recorded, and the next ones repeat
it. A last, shorter batch runs as it is written. A step repeats another one only if it has as many images, the
parameters lie in the same arrays, and products are rounded alike. All other settings of layers are those of the
recorded step.
"""

import operator
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyalex.devices.device import Array, Device
from tinyalex.devices.tape import Tape
from tinyalex.devices.upload import DeviceBatch
from tinyalex.layers import LRN, AvgPool, Conv2d, Layer, Linear, MaxPool, Parameter, ReLU, SpatialNorm
from tinyalex.layers.winograd import WinogradConv2d
from tinyalex.network.fusion import FusedLayer
from tinyalex.randomness import Step

ROOM = 3  # a step is recorded if the GPUs' memory holds its arrays this many times: tests and checks need some as well
_WITH_WEIGHTS = Conv2d, WinogradConv2d, Linear  # fused, all are one matrix product
_OTHERS = LRN, SpatialNorm, MaxPool, AvgPool, ReLU  # with kernels they start work by `Device.issue` alone


class RecordedNetwork:
    """Runs the training steps of a network.

    Parameters
    ----------
    network : Network
        After `Network.build`; `supports` has to be true of it.

    Attributes
    ----------
    repeated : int
        How many steps have repeated a recorded one so far.
    """

    def __init__(self, network: Any) -> None:
        self.repeated = 0
        self._network, self._parameters = network, network.parameters()
        self._devices = list(dict.fromkeys(network.devices))
        self._last: _Kind | None = None  # of the last step
        self._recording: _Recording | None = None  # the latest one
        self._running: _Recording | None = None  # the one that this step makes or repeats, if any
        self._failed = False  # whether a recording has failed

    @staticmethod
    def supports(network: Any) -> bool:
        """Whether a network runs on GPUs, by layers of which all work can be recorded."""
        layers = [layer for stage in network.executors for column in getattr(stage, "columns", ()) for layer in column]
        return network.devices[0].has_cuda_kernels(network.dtype) and all(map(_recordable, layers))

    def forward(self, images: np.ndarray | DeviceBatch, *, training: bool, step: Step | None) -> Array:
        """Compute the logits, as `Network.forward` does."""
        arrays = {device: device.to_device(images) for device in self._devices}
        kind = _Kind(self._devices, arrays, training, self._parameters)
        second, self._last = kind.same(self._last), kind
        if self._recording and self._recording.complete and kind.same(self._recording.kind):
            self._running, self.repeated = self._recording, self.repeated + 1
            return self._running.repeat_forward(arrays, step)
        self._running = None
        if self._failed or not second or not kind.has_kernels:
            return self._network.forward(DeviceBatch(arrays), training=training, step=step)
        self._recording = None  # free its arrays first
        recording = _Recording(self._network, self._devices, kind)
        logits = recording.record_forward(arrays, step)
        self._keep(recording)
        return logits

    def backward(self, dlogits: Array) -> None:
        """Compute every parameter's gradient, as `Network.backward` does."""
        if not self._running:
            self._network.backward(dlogits)
        elif self._running.complete:
            self._running.repeat_backward(dlogits)
        else:
            self._running.record_backward(dlogits)
            self._keep(self._running)

    def _keep(self, recording: "_Recording") -> None:
        self._failed = not recording.useful
        self._recording = self._running = None if self._failed else recording


class _Kind:
    # What has to be the same for a step to repeat another one.

    def __init__(
        self, devices: Sequence[Device], arrays: dict[Device, Array], training: bool, parameters: Sequence[Parameter]
    ) -> None:
        images = arrays[devices[0]]
        self.training, self.has_kernels = training, bool(images.size) and devices[0].has_cuda_kernels(images.dtype)
        self._settings = images.shape, images.dtype, training, *(device.precision for device in devices)
        self._arrays = [array for parameter in parameters for array in (parameter.value, parameter.grad)]

    def same(self, other: "_Kind | None") -> bool:
        if other is None or self._settings != other._settings:
            return False
        return all(map(operator.is_, self._arrays, other._arrays))


class _Recording:
    # The two tapes of a step, and the arrays that connect them with the rest of it.

    def __init__(self, network: Any, devices: Sequence[Device], kind: _Kind) -> None:
        self.kind, self._network, self._devices = kind, network, devices
        self.complete = False  # whether it can be repeated
        self._forward = Tape(devices, sum(device.memory for device in devices) // ROOM)
        self._exchanges = [stage.exchange for stage in network.stages]
        self._before = [Counter(exchange.crossed) for exchange in self._exchanges]
        self.useful = True  # whether all work so far is on the tapes

    def record_forward(self, arrays: dict[Device, Array], step: Step | None) -> Array:
        self._arrays = arrays
        with self._forward.recording():
            self._logits = self._network.forward(DeviceBatch(arrays), training=self.kind.training, step=step)
        self.useful = self._forward.complete
        return self._copy(self._logits)

    def record_backward(self, dlogits: Array) -> None:
        self._dlogits, self._backward = self._copy(dlogits), Tape(self._devices, self._forward.room)
        with self._backward.recording():
            self._network.backward(self._dlogits)
        self._images = [
            (device, arguments, index)
            for device, array in self._arrays.items()
            for tape in (self._forward, self._backward)
            for arguments, index in tape.uses(device, array)
        ]
        pairs = zip(self._exchanges, self._before, strict=True)
        self._crossed = [(exchange, exchange.crossed - before) for exchange, before in pairs]
        del self._arrays
        self.useful = self.complete = self._forward.complete and self._backward.complete

    def repeat_forward(self, arrays: dict[Device, Array], step: Step | None) -> Array:
        for device, arguments, index in self._images:
            arguments[index] = arrays[device]
        self._forward.repeat(step)
        return self._copy(self._logits)  # the next step overwrites them, and the caller may keep what it gets

    def repeat_backward(self, dlogits: Array) -> None:
        self._network.devices[0].copy(self._dlogits, dlogits)
        self._backward.repeat(None)
        for exchange, bytes_ in self._crossed:
            exchange.crossed.update(bytes_)

    def _copy(self, array: Array) -> Array:
        device = self._network.devices[0]
        copy = device.empty(array.shape, array.dtype)
        device.copy(copy, array)
        return copy


def _recordable(layer: Layer) -> bool:
    kind = type(layer)
    return type(layer.layer) in _WITH_WEIGHTS if isinstance(layer, FusedLayer) else kind in _OTHERS

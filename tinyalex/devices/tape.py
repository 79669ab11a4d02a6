"""The work of a training step on GPUs as a list of calls, which later steps repeat.

To issue a step, Python goes through the layers, makes and slices arrays and looks kernels up, and each time it comes to
the same calls with the same arguments. A `Tape` keeps these calls while a step runs: `Device.issue` adds them. To
repeat the step it makes them again, with the next images. The arrays stay where they are: the tape keeps their memory.

Work that is not started by `Device.issue` would be missing in a repetition. So while a tape records, a device's array
module is replaced: when another function of it is used that may start work, the tape is discarded. It is also discarded
if the step's arrays take more memory than there is room for.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tinyalex.randomness import Step

_SAFE = frozenset(("empty", "result_type", "cuda"))  # names in an array module that start no work


class Tape:
    """Calls that issue the work of a step, in their order.

    Parameters
    ----------
    devices : sequence of Device
    room : int
        Bytes that the arrays of the step may take.

    Attributes
    ----------
    complete : bool
        Whether all the work is on the tape. If not, it cannot be repeated.
    room : int
        What is left of it.
    step : Step or None
        The training step that a repetition belongs to; dropout draws its mask from it.
    """

    def __init__(self, devices: Sequence[Any], room: int) -> None:
        self.complete, self.room = True, room
        self.step: Step | None = None
        self._devices = list(dict.fromkeys(devices))
        self._calls: list[tuple[Any, Callable, list]] = []
        self._held: list[tuple[Any, Any]] = []  # (device, array): its address is an argument, the array itself is not
        self._blocks: list[tuple[Any, list[tuple[Callable, list]]]] = []  # the calls, those in a row on one device

    @contextlib.contextmanager
    def recording(self) -> Iterator["Tape"]:
        """Keep the calls by which the devices start work in the block."""
        modules = [device.xp for device in self._devices]
        try:
            for device in self._devices:
                device.tape, device.xp = self, _Guarded(device, self)
            yield self
        finally:
            for device, module in zip(self._devices, modules, strict=True):
                device.tape, device.xp = None, module
        for device, function, arguments in self._calls:
            if not self._blocks or self._blocks[-1][0] is not device:
                self._blocks.append((device, []))
            self._blocks[-1][1].append((function, arguments))

    def add(self, device: Any, function: Callable, arguments: Sequence) -> None:
        """Keep a call that was made on a device."""
        if self.complete:
            self._calls.append((device, function, list(arguments)))

    def hold(self, device: Any, *arrays: Any) -> None:
        """Keep arrays whose addresses are arguments of a call."""
        if self.complete:
            self._held += [(device, array) for array in arrays]

    def took(self, size: int) -> None:
        """Count the bytes of a new array."""
        self.room -= size
        if self.room < 0:
            self.discard()

    def discard(self) -> None:
        """Drop all calls, and keep no more; the step itself goes on."""
        self.complete = False
        self._calls.clear()
        self._held.clear()

    def uses(self, device: Any, array: Any) -> list[tuple[list, int]]:
        """Return where an array is an argument, as lists of arguments, each with an index, to replace it there.

        The tape is discarded if only a part of the array is an argument, or an address in it.
        """
        found, first = [], device.address(array)
        span = range(first, first + max(1, array.nbytes))
        for _, _, arguments in list(self._calls):
            for each in (arguments, *(argument for argument in arguments if isinstance(argument, list))):
                for index, argument in enumerate(each):
                    if getattr(argument, "ndim", 0) and device.address(argument) in span:
                        found.append((each, index))
                        if argument.shape != array.shape:
                            self.discard()
        if any(owner is device and device.address(held) in span for owner, held in self._held):
            self.discard()
        return found

    def repeat(self, step: Step | None) -> None:
        """Make the calls again, each with its device as the current one."""
        self.step = step
        for device, calls in self._blocks:
            with device:
                for function, arguments in calls:
                    function(*arguments)


class _Guarded:
    # A device's array module while a tape records.

    def __init__(self, device: Any, tape: Tape) -> None:
        self._module, self._tape, self.ascontiguousarray = device.xp, tape, device.contiguous

    def __getattr__(self, name: str) -> Any:
        if name not in _SAFE:
            self._tape.discard()
        return getattr(self._module, name)

"""Devices: which array module computes, where memory comes from, how arrays move.

``Device("cpu")`` is NumPy, ``Device("cuda:0")`` is CuPy on that card with a stream of its own, ``Device("fake:0")`` is
NumPy behind arrays that refuse to be mixed (see `tinyalex.fake`). Layers see only ``device.xp`` and ``device.empty``.
This is the only file that imports CuPy.
"""

import contextlib
import importlib

import numpy as np

from tinyalex.arena import Arena
from tinyalex.errors import DeviceError, UsageError
from tinyalex.fake import FakeArray, FakeNumPy
from tinyalex.parallel import ranges, workers
from tinyalex.upload import Placed


class Device:
    """A place where arrays live and are computed with.

    Parameters
    ----------
    name : str
        ``"cpu"``, ``"cuda:N"`` or ``"fake:N"``.

    Attributes
    ----------
    xp : module
        NumPy, CuPy, or the fake NumPy of this device.

    Raises
    ------
    UsageError
        If the name is none of these.
    DeviceError
        If the device is not there.
    """

    def __init__(self, name="cpu"):
        kind, _, index = name.partition(":")
        if not (name == "cpu" or (kind in ("cuda", "fake") and index.isdecimal())):
            raise UsageError(f"device '{name}': no such kind of device; use cpu, cuda:0, cuda:1, ... or fake:0, ...")
        self.name, self.kind, self.index = name, kind, int(index or 0)
        self._arena, self._depth = Arena(), 0
        self.xp = {"cpu": lambda: np, "fake": lambda: FakeNumPy(name), "cuda": self._cupy}[kind]()

    def __repr__(self):
        return f"Device('{self.name}')"

    @property
    def on_host(self):
        """Whether the processor does the computing, and the workers share it."""
        return self.kind != "cuda"

    def empty(self, shape, dtype):
        """Return an uninitialised array: from the arena inside ``with device.step()``, fresh elsewhere."""
        if not self.on_host or not self._depth:
            with self:  # CuPy takes memory where the current card and stream are
                return self.xp.empty(shape, dtype)
        array = self._arena.empty(shape, dtype)
        return FakeArray(array, self.name) if self.kind == "fake" else array

    def zeros(self, shape, dtype):
        """Return an array of zeros, from where `empty` takes its memory."""
        array = self.empty(shape, dtype)
        with self:
            array[...] = 0
        return array

    def put(self, array):
        """Copy a host array to this device; the copy is contiguous."""
        copy = self.empty(array.shape, array.dtype)
        if self.kind == "cpu":
            copy[...] = array
        elif self.kind == "fake":
            copy.fill_from_host(array)
        else:
            copy.set(np.ascontiguousarray(array), stream=self.stream)
        return copy

    def place(self, array):
        """Return a host array's copy on this device, and an array that is here already as it is."""
        if isinstance(array, Placed):
            return array.arrays[self]
        return self.put(array) if self.kind != "cpu" and isinstance(array, np.ndarray) else array

    def pinned(self, shape, dtype):
        """Return an uninitialised host array that an `Upload` to this device reads without the processor's help.

        Any thread may ask. The memory goes round when nothing views it any more, in CuPy's pool of such memory.
        """
        if self.kind != "cuda":
            return np.empty(shape, dtype)
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        with self.xp.cuda.Device(self.index):  # not self.card, which remembers what the main thread had before it
            return np.ndarray(shape, dtype, self.xp.cuda.alloc_pinned_memory(size))

    def get(self, array):
        """Copy an array of this device to the host, when all work on it is done."""
        if self.kind == "cpu":
            return np.array(array)
        return array.to_host() if self.kind == "fake" else array.get(stream=self.stream)

    def later(self, array):
        """Begin to copy an array to the host; what is returned waits for that alone, and gives the copy.

        It does not wait for work that this device was asked for since.
        """
        if self.kind != "cuda":
            copy = self.get(array)
            return lambda: copy
        copy = self.pinned(array.shape, array.dtype)
        array.get(stream=self.stream, out=copy, blocking=False)
        arrived = self.event(self.stream)

        def wait():
            arrived.synchronize()
            return copy

        return wait

    def receive(self, array, source):
        """Copy a contiguous array here from another column's device, in order with the work on both.

        Parameters
        ----------
        array : array of `source`
        source : Device

        Returns
        -------
        array of this device
        """
        if not array.flags.c_contiguous:
            raise ValueError(f"{source.name} to {self.name}: only contiguous arrays cross between devices")
        copy = self.empty(array.shape, array.dtype)
        if self.kind == "cpu":
            copy[...] = array
        elif self.kind == "fake":
            copy.fill_from_host(source.get(array))
        else:
            # The copy waits for the producer; the source waits for the copy before its memory is written again.
            self.stream.wait_event(source.event(source.stream))
            copy.data.copy_from_device_async(array.data, array.nbytes, self.stream)
            source.stream.wait_event(self.event(self.stream))
        return copy

    def matmul(self, a, b, out):
        """Write the product of two matrices to ``out`` and return it; on the CPU the workers share its longer side."""
        rows, columns = out.shape
        if not self.on_host or rows * columns * a.shape[1] < 1 << 22 or workers().busy:
            self.xp.matmul(a, b, out=out)
        elif columns >= rows:
            parts = ranges(columns, workers().count)
            workers().run(lambda s: self.xp.matmul(a, b[:, s], out=out[:, s]), parts)
        else:
            workers().run(lambda s: self.xp.matmul(a[s], b, out=out[s]), ranges(rows, workers().count))
        return out

    @contextlib.contextmanager
    def step(self):
        """Take memory from the arena until the block ends; may be nested."""
        self._depth += 1
        try:
            yield self
        finally:
            self._depth -= 1

    def __enter__(self):
        """Make this the device, and its stream the stream, that array operations go to."""
        if self.kind == "cuda":
            self.card.__enter__()
            self.stream.__enter__()
        return self

    def __exit__(self, *error):
        if self.kind == "cuda":
            self.stream.__exit__(*error)
            self.card.__exit__(*error)

    def synchronize(self):
        """Wait until everything that was asked of this device is done."""
        if self.kind == "cuda":
            self.stream.synchronize()

    def _cupy(self):
        try:
            cupy = importlib.import_module("cupy")
        except ImportError as error:
            raise DeviceError(
                f"{self.name}: CuPy is not installed; pip install 'tinyalex[cuda13]' or [cuda12]"
            ) from error
        try:
            count = cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise DeviceError(f"{self.name}: CUDA does not answer ({error}); check the driver, or use cpu") from error
        if self.index >= count:
            raise DeviceError(f"{self.name}: not there; this machine has {count} CUDA device(s), counted from cuda:0")
        self.card = cupy.cuda.Device(self.index)
        with self.card:
            self.stream = cupy.cuda.Stream(non_blocking=True)
            self.copying = cupy.cuda.Stream(non_blocking=True)  # for what comes from the host meanwhile
        return cupy

    def event(self, stream):
        """Return a card's event that one of its streams reaches when all that was asked of it so far is done."""
        with self.card:
            return stream.record(self.xp.cuda.Event(disable_timing=True))

"""Devices: which array module computes, where memory comes from, how arrays move.

``Device("cpu")`` is NumPy, ``Device("cuda:0")`` is CuPy on that card with a stream of its own, ``Device("fake:0")`` is
NumPy behind arrays that refuse to be mixed, with streams that must be waited for (see `tinyalex.devices.fake`): every line that
a card runs through, it runs through, but for kernels and cuBLAS. Layers see only ``device.xp`` and ``device.empty``.
"""

import contextlib
import threading

import numpy as np

from tinyalex.devices import cuda, gemm, launch
from tinyalex.devices.arena import Arena
from tinyalex.devices.fake import FakeArray, FakeNumPy
from tinyalex.devices.parallel import ranges, workers
from tinyalex.devices.upload import DeviceBatch
from tinyalex.errors import DeviceError, UsageError

_inside = threading.local()  # the devices that a thread has entered, innermost last


class Device:
    """A place where arrays live and are computed with.

    Parameters
    ----------
    name : str
        ``"cpu"``, ``"cuda:N"`` or ``"fake:N"``.
    kernels : bool
        Whether layers may use the fast forms of `tinyalex.kernels` for float32 arrays. False runs the readable layers.

    Attributes
    ----------
    xp : module
        NumPy, CuPy, or the fake NumPy of this device.
    tf32 : bool
        Whether products of float32 matrices on a card may round their operands to 11 significant bits.
    kernels : bool
        As given.
    kernel_dtypes : set of dtype
        The types of arrays for which layers use their fast forms: float32, or none.
    memory : int
        Bytes of a card.

    Raises
    ------
    UsageError
        If the name is none of these.
    DeviceError
        If the device is not there.
    """

    def __init__(self, name="cpu", kernels=True):
        kind, _, index = name.partition(":")
        if not (name == "cpu" or (kind in ("cuda", "fake") and index.isdecimal())):
            raise UsageError(f"device '{name}': no such kind of device; use cpu, cuda:0, cuda:1, ... or fake:0, ...")
        self.name, self.kind, self.index = name, kind, int(index or 0)
        self.kernels, self._arena, self._depth, self._compiled = kernels, Arena(), 0, {}
        self.tf32, self.kernel_dtypes, self.memory = False, {np.dtype("float32")} if kernels else set(), 0
        self.xp = {"cpu": lambda: np, "fake": lambda: FakeNumPy(name), "cuda": self._cupy}[kind]()
        if kind != "cpu":
            self.card = self.xp.cuda.Device(self.index)
            with self.card:
                self.stream = self.xp.cuda.Stream(non_blocking=True)
                self.copying = self.xp.cuda.Stream(non_blocking=True)  # for what comes from the host meanwhile

    def __repr__(self):
        return f"Device('{self.name}'{'' if self.kernels else ', kernels=False'})"

    @property
    def on_host(self):
        """Whether the processor does the computing, and the workers share it."""
        return self.kind != "cuda"

    def empty(self, shape, dtype):
        """Return an uninitialised array: inside ``with device.step()`` from the arena, of a card from CuPy's pool."""
        if not self.on_host or not self._depth:
            with self:  # CuPy takes memory where the current card and stream are
                return self.xp.empty(shape, dtype)
        array = self._arena.empty(shape, dtype)
        if self.kind == "cpu":
            return array
        with self:
            return FakeArray(array, self.name)

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
        else:
            copy.set(np.ascontiguousarray(array), stream=self.stream)
        return copy

    def to_device(self, array):
        """Return a host array's copy on this device, and an array that is here already as it is."""
        if isinstance(array, DeviceBatch):
            return array.arrays[self]
        return self.put(array) if self.kind != "cpu" and isinstance(array, np.ndarray) else array

    def pinned(self, shape, dtype):
        """Return an uninitialised host array that an `Upload` to this device reads without the processor's help.

        Any thread may ask. The memory goes round when nothing views it any more, in CuPy's pool of such memory.
        """
        if self.kind == "cpu":
            return np.empty(shape, dtype)
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        with self.xp.cuda.Device(self.index):  # not self.card, which remembers what the main thread had before it
            return np.ndarray(shape, dtype, self.xp.cuda.alloc_pinned_memory(size))

    def get(self, array):
        """Copy an array of this device to the host, when all work on it is done."""
        return np.array(array) if self.kind == "cpu" else array.get(stream=self.stream)

    def get_async(self, array):
        """Begin to copy an array to the host; what is returned waits for that alone, and gives the copy.

        It does not wait for work that this device was asked for since.
        """
        if self.kind == "cpu":
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
        else:
            # The copy waits for the producer; the source waits for the copy before its memory is written again.
            self.stream.wait_event(source.event(source.stream))
            copy.data.copy_from_device_async(array.data, array.nbytes, self.stream)
            source.stream.wait_event(self.event(self.stream))
        return copy

    def matmul(self, a, b, out):
        """Write the product of two matrices to ``out`` and return it; on the CPU the workers share its longer side."""
        rows, columns = out.shape
        if self.kind == "cuda" and gemm.supports(a, b, out):
            a, b = (gemm.arranged(self.xp, matrix) for matrix in (a, b))
            gemm.gemm(self._cublas, self.card.cublas_handle, a, b, out, self.tf32)
        elif not self.on_host or rows * columns * a.shape[1] < 1 << 22 or workers().busy:
            self.xp.matmul(a, b, out=out)
        elif columns >= rows:
            parts = ranges(columns, workers().count)
            workers().run(lambda s: self.xp.matmul(a, b[:, s], out=out[:, s]), parts)
        else:
            workers().run(lambda s: self.xp.matmul(a[s], b, out=out[s]), ranges(rows, workers().count))
        return out

    def kernels_for(self, x, cuda=None, cpu=None):
        """Choose the fast form of an operation on an array.

        Parameters
        ----------
        x : array of this device
        cuda, cpu : module, optional
            Where the operation's functions are for a GPU, and for NumPy.

        Returns
        -------
        module or None
            None where the readable form is to be used: there is no fast one, the array's type has none, or the device
            was made with ``kernels=False``.
        """
        if x.dtype not in self.kernel_dtypes:
            return None
        return cpu if self.on_host else cuda

    def has_cuda_kernels(self, dtype):
        """Whether this device runs CUDA kernels for arrays of this type."""
        return not self.on_host and np.dtype(dtype) in self.kernel_dtypes

    def launch(self, code, name, rows, count, *arguments, **constants):
        """Start a kernel: a thread for each of ``count`` places in each of ``rows`` rows.

        Parameters
        ----------
        code : str
            CUDA source of the operation.
        name : str
            Of the kernel in it.
        rows, count : int
        *arguments : arrays, then numbers
            Between them the kernel takes ``count``.
        **constants : int
            Macros of the source.
        """
        arguments, real = launch.typed(count, arguments)
        self._start(code, name, real, constants, launch.grid(rows, count), arguments)

    def _start(self, code, name, real, constants, grid, arguments):
        key = name, real.char, *constants.values()
        if key not in self._compiled:
            self._compiled[key] = launch.compiled(self.xp, code, name, real, constants)
        blocks, threads = grid
        self._compiled[key](blocks, (threads,), arguments)

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
        if self.kind != "cpu":
            inside = _inside.__dict__.setdefault("devices", [None])
            if inside[-1] is not self:  # CUDA is not asked again for what it is doing
                self.card.__enter__()
                self.stream.__enter__()
            inside.append(self)
        return self

    def __exit__(self, *error):
        if self.kind != "cpu":
            _inside.devices.pop()
            if _inside.devices[-1] is not self:
                self.stream.__exit__(*error)
                self.card.__exit__(*error)

    def synchronize(self):
        """Wait until everything that was asked of this device is done."""
        if self.kind != "cpu":
            self.stream.synchronize()

    def _cupy(self):
        cupy, self._cublas, card = cuda.find(self.name, self.index)
        self.memory = card.mem_info[1]
        return cupy

    def event(self, stream):
        """Return an event of this card that one of its streams reaches when all that was asked of it so far is done."""
        with self.card:
            return stream.record(self.xp.cuda.Event(disable_timing=True))


def of_one_kind(devices):
    """Return a net's devices if the processor computes on all of them, or on none: nothing waits for both."""
    if len({device.kind for device in devices}) > 1:
        names = " ".join(device.name for device in devices)
        raise UsageError(f"devices: {names} are of two kinds; give two of cpu, two of cuda:N or two of fake:N")
    return devices


@contextlib.contextmanager
def fitting(devices, images):
    """Say, if one of these cards has no memory left inside, that a batch of so many images is too large."""
    try:
        yield
    except MemoryError as error:
        if devices[0].on_host:
            raise
        names, more = " ".join(device.name for device in devices), ", or two devices" if len(devices) == 1 else ""
        raise DeviceError(
            f"{names}: {str(error).rstrip('.')}, for a batch of {images} images; "
            f"use --set learning.batch={max(1, images // 2)}{more}"
        ) from error

"""Devices: which array module computes, where memory comes from, how arrays move.

``Device("cpu")`` is NumPy. ``Device("cuda:0")`` is CuPy on that GPU, with its own stream. ``Device("fake:0")`` is
NumPy with arrays that refuse to be mixed with other devices' and streams that have to be waited for
(`tinyalex.devices.fake`); it runs through the same code as a GPU, except for CUDA kernels and cuBLAS.
"""

import contextlib
import functools
import operator
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from tinyalex.devices import bfloat16, cuda, gemm, launch
from tinyalex.devices.arena import Arena
from tinyalex.devices.bfloat16 import BFLOAT16
from tinyalex.devices.fake import FakeArray, FakeNumPy
from tinyalex.devices.parallel import ranges, workers
from tinyalex.devices.tape import Tape
from tinyalex.devices.upload import DeviceBatch
from tinyalex.errors import DeviceError, UsageError
from tinyalex.randomness import Step
from tinyalex.words import counted

Array: TypeAlias = Any  # an array of a device: NumPy's, CuPy's or a pretend device's

# cuBLAS and CUDA report by other errors than MemoryError that there is no room for a workspace or a kernel's stack.
_LACKS_MEMORY = re.compile("CUBLAS_STATUS_ALLOC_FAILED|cudaErrorMemoryAllocation|CUDA_ERROR_OUT_OF_MEMORY")


class _Inside(threading.local):
    def __init__(self) -> None:
        self.devices: list[Device | None] = [None]  # that this thread has entered, innermost last


_inside = _Inside()


class Device:
    """What computes: an array module, memory, and copies between host and device.

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
    precision : {"float32", "tf32", "bf16"}
        What the factors of float32 matrix products may be rounded to on a GPU: "tf32" to 11 significant bits, "bf16" to
        8. Products are summed in float32.
    kernels : bool
        As given.
    kernel_dtypes : set of dtype
        The types of arrays for which layers use their fast forms: float32, or none.
    memory : int
        Bytes of a GPU's memory that this device may use, half of them if a net has two devices there; 0 on others.
    total : int
        Bytes of a GPU's memory.
    tape : Tape or None
        What keeps the calls that start work on this device at the moment: see `tinyalex.devices.tape`.

    Raises
    ------
    UsageError
        If the name is none of these.
    DeviceError
        If the device is not there.

    Examples
    --------
    >>> device = Device("cpu")
    >>> device.matmul(np.eye(2), np.full((2, 2), 3.0), out=device.empty((2, 2), "float64"))
    array([[3., 3.],
           [3., 3.]])
    """

    def __init__(self, name: str = "cpu", kernels: bool = True) -> None:
        kind, _, index = name.partition(":")
        if not (name == "cpu" or (kind in ("cuda", "fake") and index.isdecimal())):
            raise UsageError(f"device '{name}': no such kind of device; use cpu, cuda:0, cuda:1, ... or fake:0, ...")
        self.name, self.kind, self.index = name, kind, int(index or 0)
        self.kernels, self._arena, self._depth = kernels, Arena(), 0
        self.precision, self.memory, self.total = "float32", 0, 0
        self.tape: Tape | None = None
        self.kernel_dtypes = {np.dtype("float32")} if kernels else set()
        self._compiled: dict[tuple, Any] = {}  # kernels, by source, name, type and constants
        self._module: Any = {"cpu": lambda: np, "fake": lambda: FakeNumPy(name), "cuda": self._cupy}[kind]()
        self.xp = self._module
        if kind != "cpu":
            self.cupy_device = self.xp.cuda.Device(self.index)
            with self.cupy_device:
                self.stream = self.xp.cuda.Stream(non_blocking=True)
                self.copying = self.xp.cuda.Stream(non_blocking=True)  # for uploads beside the computation
        self._arriving: list[tuple[Any, np.ndarray]] = []  # copies to the host that may not have ended

    def __repr__(self) -> str:
        return f"Device('{self.name}'{'' if self.kernels else ', kernels=False'})"

    def __getstate__(self) -> dict[str, Any]:
        # A copy is the same device with memory, streams and compiled kernels of its own.
        return {"name": self.name, "kernels": self.kernels, "precision": self.precision}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["name"], state["kernels"])  # type: ignore[misc]
        self.precision = state["precision"]

    @property
    def on_host(self) -> bool:
        """Whether the CPU computes, with the work shared among the worker threads."""
        return self.kind != "cuda"

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """Return an uninitialised array: inside ``with device.step()`` from the arena, on a GPU from CuPy's pool."""
        if not self.on_host or not self._depth:
            with self:  # CuPy allocates on the current device and stream
                array = self.xp.empty(shape, dtype)
            if self.tape:
                self.tape.took(array.nbytes)
            return array
        array = self._arena.empty(shape, dtype)
        if self.kind == "cpu":
            return array
        with self:
            return FakeArray(array, self.name)

    def zeros(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """Return an array of zeros, allocated as by `empty`."""
        array = self.empty(shape, dtype)
        self.copy(array, 0)
        return array

    def put(self, array: np.ndarray) -> Array:
        """Copy a host array to this device; the copy is contiguous."""
        copy = self.empty(array.shape, array.dtype)
        if self.kind == "cpu":
            copy[...] = array
        else:
            copy.set(np.ascontiguousarray(array), stream=self.stream)
        return copy

    def to_device(self, array: Array) -> Array:
        """Copy a host array to this device; return an array that is already here unchanged."""
        if isinstance(array, DeviceBatch):
            return array.arrays[self]
        return self.put(array) if self.kind != "cpu" and isinstance(array, np.ndarray) else array

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
        """Return an uninitialised host array in page-locked memory, which an `Upload` copies without the CPU.

        Any thread may call this. CuPy's pool reuses the memory when nothing refers to the array any more.
        """
        if self.kind == "cpu":
            return np.empty(shape, dtype)
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        with self.xp.cuda.Device(self.index):  # not self.cupy_device, whose state belongs to the main thread
            return np.ndarray(shape, dtype, self.xp.cuda.alloc_pinned_memory(size))

    def get(self, array: Array) -> np.ndarray:
        """Copy an array of this device to the host, after all work on it."""
        return np.array(array) if self.kind == "cpu" else array.get(stream=self.stream)

    def get_float(self, array: Array) -> np.ndarray:
        """Copy an array to the host; one that is stored in bfloat16 as float32."""
        return self.get(self.widened(array))

    def get_async(self, array: Array) -> Callable[[], np.ndarray]:
        """Start copying an array to the host; return a function that waits for the copy and returns it.

        That function does not wait for work that was launched later.
        """
        if self.kind == "cpu":
            copy = self.get(array)
            return lambda: copy
        copy = self.pinned(array.shape, array.dtype)
        array.get(stream=self.stream, out=copy, blocking=False)
        arrived = self.event(self.stream)
        # The memory is kept until the copy has ended, also if nobody waits for it.
        self._arriving = [(event, memory) for event, memory in self._arriving if not event.done]
        self._arriving.append((arrived, copy))

        def wait() -> np.ndarray:
            arrived.synchronize()
            return copy

        return wait

    def receive(self, array: Array, source: "Device") -> Array:
        """Copy a contiguous array from another column's device to this one, ordered with the work on both.

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
            self.copy(copy, array)
        else:
            self.issue(self._receive, copy, array, source, source.new_event(), self.new_event())
        return copy

    def _receive(self, copy: Array, array: Array, source: "Device", produced: Any, copied: Any) -> None:
        # The copy waits for the producer. The source waits for the copy before it overwrites the memory.
        self.stream.wait_event(source.stream.record(produced))
        copy.data.copy_from_device_async(array.data, array.nbytes, self.stream)
        source.stream.wait_event(self.stream.record(copied))

    def matmul(self, a: Array, b: Array, out: Array) -> Array:
        """Write the product of two matrices to ``out`` and return it; on the CPU the workers split its longer side.

        In "bf16" the matrices may be stored in bfloat16, each of the three for itself.
        """
        if self.precision != "bf16" or out.dtype not in (np.float32, BFLOAT16):
            return self._multiply(a, b, out)
        a, b = self.rounded(a), self.rounded(b)
        if self.kind == "cuda":
            return self._multiply(a, b, out)
        product = self._multiply(self.widened(a), self.widened(b), out=self.empty(out.shape, "float32"))
        self.copy(out, product if out.dtype != BFLOAT16 else self.rounded(product))
        return out

    def _multiply(self, a: Array, b: Array, out: Array) -> Array:
        rows, columns = out.shape
        if not a.size:  # no images: BLAS takes no empty matrices
            out[...] = 0
        elif self.kind == "cuda" and gemm.supports(a, b, out):
            a, b = (gemm.arranged(self.xp, matrix) for matrix in (a, b))
            if self.tape:
                self.tape.hold(self, a, b, out)
            handle, tf32 = self.cupy_device.cublas_handle, self.precision == "tf32"
            self.issue(self._cublas.gemmEx, *gemm.arguments(handle, a, b, out, tf32))
        elif not self.on_host:
            self.issue(self._matmul, a, b, out)
        elif rows * columns * a.shape[1] < 1 << 22 or workers().busy:
            self.xp.matmul(a, b, out=out)
        elif columns >= rows:
            parts = ranges(columns, workers().count)
            workers().run(lambda s: self.xp.matmul(a, b[:, s], out=out[:, s]), parts)
        else:
            workers().run(lambda s: self.xp.matmul(a[s], b, out=out[s]), ranges(rows, workers().count))
        return out

    def _matmul(self, a: Array, b: Array, out: Array) -> None:
        self._module.matmul(a, b, out=out)

    def copy(self, destination: Array, source: Array | float) -> None:
        """Write an array of this device, or a number, to another one: ``destination[...] = source``."""
        with self:
            self.issue(operator.setitem, destination, ..., source)

    def add(self, a: Array, b: Array) -> Array:
        """Return the sum of two arrays of one shape and type."""
        with self:
            if self.tape is None:
                return a + b
            total = self.empty(a.shape, a.dtype)
            self.issue(self._add, a, b, total)
            return total

    def _add(self, a: Array, b: Array, total: Array) -> None:
        self._module.add(a, b, out=total)

    def contiguous(self, array: Array) -> Array:
        """Return the array if it is contiguous, else a copy that is."""
        if self.tape is None:
            with self:
                return self.xp.ascontiguousarray(array)
        if array.flags.c_contiguous:
            return array
        copy = self.empty(array.shape, array.dtype)
        self.copy(copy, array)
        return copy

    def address(self, array: Array) -> int:
        """Return where an array of this device begins in memory."""
        return array.data.ptr if self.kind == "cuda" else array.ctypes.data

    def issue(self, function: Callable, *arguments: Any) -> None:
        """Call a function that starts work on this device, and let a tape that records keep the call.

        The device has to be the current one. What the function writes to is among its arguments.
        """
        function(*arguments)
        if self.tape:
            self.tape.add(self, function, arguments)

    def issue_with(self, step: Step | None, function: Callable[[Step | None], object]) -> None:
        """Call ``function(step)``, which starts work that depends on the training step.

        A tape that records calls the function again with the step that it repeats.
        """
        tape, self.tape = self.tape, None
        try:
            function(step)
        finally:
            self.tape = tape
        if tape:
            tape.add(self, lambda: function(tape.step), ())

    @property
    def lacks_bfloat16(self) -> str | None:
        """Why activations cannot be stored in bfloat16 on this device; None if they can."""
        if self.kind == "cpu" and self.on_host:
            return "bf16 is for GPUs"
        if self.kind == "cuda" and (capability := cuda.capability(self.cupy_device)) < (8, 0):
            return f"bf16 takes compute capability 8.0, and this GPU has {capability[0]}.{capability[1]}"
        return "bf16 takes the CUDA kernels" if self.kind == "cuda" and not self.kernels else None

    def use(self, precision: str, fall_back: bool = False) -> None:
        """Set `precision`; where the device lacks "bf16", raise a DeviceError, or with ``fall_back`` set "float32"."""
        reason = self.lacks_bfloat16 if precision == "bf16" else None
        if reason and not fall_back:
            raise DeviceError(f"{self.name}: {reason}; use --set net.precision=float32")
        self.precision = "float32" if reason else precision

    def rounded(self, x: Array) -> Array:
        """Return an array of floating numbers stored in bfloat16; x itself if it already is."""
        if x.dtype == BFLOAT16:
            return x
        if x.dtype != np.float32:
            with self:
                x = x.astype("float32")
        if x.ndim == 2 and x.strides[0] < x.strides[1]:  # a transposed matrix remains one, for cuBLAS reads both ways
            return self.rounded(x.T).T
        return self._convert("round_to_bfloat16", bfloat16.rounded, x, BFLOAT16)

    def widened(self, x: Array) -> Array:
        """Return an array stored in bfloat16 as float32; x itself if it is of another type."""
        return self._convert("widen_to_float", bfloat16.widened, x, "float32") if x.dtype == BFLOAT16 else x

    def sum_of(self, arrays: list[Array]) -> Array:
        """Return the sum of arrays of one type; of those stored in bfloat16, it is computed in float32 and rounded."""
        first, *others = arrays
        if not others or first.dtype != BFLOAT16:
            return functools.reduce(self.add, others, first)
        return self.rounded(self.sum_of([self.widened(array) for array in arrays]))

    def _convert(self, name: str, on_host: Callable[[Any, Array], Array], x: Array, dtype: DTypeLike) -> Array:
        with self:
            if self.on_host or not x.size:
                return on_host(self.xp, x)
            x, y = self.xp.ascontiguousarray(x), self.empty(x.shape, dtype)
            self.launch(bfloat16.SOURCE, name, len(x), x.size // len(x), x, y)
            return y

    def kernels_for(self, x: Array, cuda: ModuleType) -> ModuleType | None:
        """Choose the form of an operation on an array.

        Parameters
        ----------
        x : array of this device
        cuda : module
            Where the operation's functions for a GPU are.

        Returns
        -------
        module or None
            None where the readable form is to be used: on the CPU, for types of arrays that have no kernels, for empty
            arrays, and if the device was made with ``kernels=False``.
        """
        return cuda if x.size and self.has_cuda_kernels(x.dtype) else None

    def has_cuda_kernels(self, dtype: DTypeLike) -> bool:
        """Whether this device runs CUDA kernels for arrays of this type: for bfloat16 those of float32."""
        dtype = np.dtype(dtype)
        return not self.on_host and (np.dtype("float32") if dtype == BFLOAT16 else dtype) in self.kernel_dtypes

    def launch(self, code: str, name: str, rows: int, count: int, *arguments: Any, **constants: int | str) -> None:
        """Start a kernel: one thread for each of ``count`` numbers in each of ``rows`` rows.

        Parameters
        ----------
        code : str
            CUDA source of the operation.
        name : str
            Name of the kernel in it.
        rows, count : int
        *arguments : arrays, then numbers
            The kernel's parameters are the arrays, then ``count``, then the numbers.
        **constants : int or str
            Macros for the source.
        """
        ordered, real = launch.typed(count, arguments)
        if launch.stores_bfloat16(arguments):
            constants["STORE"] = "bf16"
        key = code, name, real.char, *constants.items()
        kernel = self._compiled.get(key)
        if kernel is None:
            kernel = self._compiled[key] = self._compile(code, name, real, constants)
        blocks, threads = launch.grid(rows, count)
        self.issue(kernel, blocks, (threads,), ordered)

    def _compile(self, code: str, name: str, real: np.dtype, constants: dict[str, int | str]) -> Callable:
        # A function of the blocks, the threads of each, and the arguments, which starts the kernel.
        return launch.compiled(self._module, code, name, real, constants)

    @contextlib.contextmanager
    def step(self) -> Iterator[Self]:
        """Allocate from the arena until the block ends; may be nested."""
        self._depth += 1
        try:
            yield self
        finally:
            self._depth -= 1

    def __enter__(self) -> Self:
        """Make this device and its stream the current ones for array operations."""
        if self.kind != "cpu":
            inside = _inside.devices
            if inside[-1] is not self:  # entering it again needs no call to CUDA
                self.cupy_device.__enter__()
                self.stream.__enter__()
            inside.append(self)
        return self

    def __exit__(self, *error: Any) -> None:
        if self.kind != "cpu":
            _inside.devices.pop()
            if _inside.devices[-1] is not self:
                self.stream.__exit__(*error)
                self.cupy_device.__exit__(*error)

    def synchronize(self) -> None:
        """Wait until all work on this device is done."""
        if self.kind != "cpu":
            self.stream.synchronize()

    def _cupy(self) -> Any:
        cupy, self._cublas, gpu = cuda.find(self.name, self.index)
        self.memory = self.total = gpu.mem_info[1]
        return cupy

    def nccl(self, communicator: Any) -> Any:
        """Return the module with NCCL's functions, or its stand-in on a pretend device, over a communicator of MPI."""
        if self.kind == "fake":
            from tinyalex.devices import fake_nccl

            return fake_nccl.attach(communicator)
        return cuda.nccl(self.name)

    def event(self, stream: Any) -> Any:
        """Return an event that a stream of this device reaches after all work launched on it so far."""
        return stream.record(self.new_event())

    def new_event(self) -> Any:
        """Return an event that streams of this device can record."""
        with self.cupy_device:
            return self.xp.cuda.Event(disable_timing=True)


def of_one_kind(devices: list[Device]) -> list[Device]:
    """Return a net's devices; raise a UsageError if they are of different kinds."""
    if len({device.kind for device in devices}) > 1:
        names = " ".join(device.name for device in devices)
        raise UsageError(f"devices: {names} are of two kinds; give two of cpu, two of cuda:N or two of fake:N")
    for device in devices:  # two contexts on one GPU share its memory
        device.memory = device.total // sum(other.index == device.index for other in devices)
    return devices


@contextlib.contextmanager
def fitting(devices: Sequence[Device], images: int) -> Iterator[None]:
    """Turn a MemoryError of a GPU inside the block into an error that says how to use a smaller batch."""
    try:
        yield
    except Exception as error:
        if devices[0].on_host or not (isinstance(error, MemoryError) or _LACKS_MEMORY.search(str(error))):
            raise
        names, more = " ".join(device.name for device in devices), ", or two devices" if len(devices) == 1 else ""
        raise DeviceError(
            f"{names}: {str(error).rstrip('.')}, for a batch of {counted(images, 'image')}; "
            f"use --set learning.batch={max(1, images // 2)}{more}"
        ) from error

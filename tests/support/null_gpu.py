"""A GPU that does nothing: `Device("cuda:0")` runs as it is, on a stand-in for CuPy whose calls return at once.

What is left of a step's time is what Python needs to issue it. Launches, copies, events and allocations are counted.
Arrays are CuPy's own where it is installed, since making and slicing them costs time too; no GPU or driver is needed
for that. Elsewhere they are NumPy's, which are several times as quick to make. Their memory is address space that
nobody reads or writes.
"""

import contextlib
import importlib
import math
import mmap
import types
from collections import Counter
from unittest import mock

import numpy as np

calls: Counter = Counter()  # what has been issued so far, by kind
_ROOM = 64 << 30  # bytes of address space, more than all arrays of a step together


class Operations:
    """What an array computes, in place of CuPy's kernels: each counts, and returns an array of the right shape."""

    __hash__ = None  # type: ignore[assignment]

    def __setitem__(self, index, value):
        calls["array operations"] += 1

    def astype(self, dtype):
        calls["array operations"] += 1
        return type(self).make(self.shape, dtype)

    def argmax(self, axis):
        calls["array operations"] += 1
        return type(self).make(self.shape[:axis], "int64")

    def sum(self, axis=None):
        calls["array operations"] += 1
        return type(self).make(() if axis is None else np.empty(self.shape, "b").sum(axis).shape, self.dtype)

    def set(self, array, stream):
        calls["uploads"] += 1

    def get(self, stream=None, out=None, blocking=True):
        calls["downloads"] += 1
        return np.zeros(self.shape, self.dtype) if out is None else out


def _operator(result):
    def operate(self, other):
        calls["array operations"] += 1
        shape = np.broadcast_shapes(self.shape, getattr(other, "shape", ()))
        return type(self).make(shape, result or self.dtype)

    return operate


def _in_place(self, other):
    calls["array operations"] += 1
    return self


for _name in ("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv"):
    setattr(Operations, f"__{_name}__", _operator(None))
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Operations, f"__{_name}__", _operator("bool"))
for _name in ("iadd", "isub", "imul", "itruediv"):
    setattr(Operations, f"__{_name}__", _in_place)


class _Copies:
    def copy_from_device_async(self, source, size, stream):
        calls["copies between devices"] += 1


class _Pointer(_Copies):
    def __init__(self, array):
        self.ptr = array.__array_interface__["data"][0]


def _kind_of_arrays():
    # A class of arrays with the method ``make(shape, dtype)``, and whether they are CuPy's. Each array gets addresses
    # of its own, round and round.
    space = mmap.mmap(-1, _ROOM, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ)
    memory, offset = np.frombuffer(space, np.uint8), 0

    def place(shape, dtype):
        nonlocal offset
        first, size = offset, math.prod(shape) * np.dtype(dtype).itemsize
        if first + size > _ROOM:
            first = 0
        offset = -(-(first + size) // 512) * 512
        return first

    try:
        cupy = importlib.import_module("cupy")
    except ImportError:
        kind = type("Array", (Operations, np.ndarray), {"data": property(_Pointer)})
        kind.make = classmethod(lambda cls, shape, dtype: np.ndarray.__new__(cls, shape, dtype, memory,
                                                                             place(shape, dtype)))  # fmt: skip
        return kind, False
    owned = cupy.cuda.memory.UnownedMemory(memory.ctypes.data, _ROOM, memory, device_id=0)
    pointer = type("Pointer", (_Copies, cupy.cuda.memory.MemoryPointer), {})
    kind = type("Array", (Operations, cupy.ndarray), {})
    kind.make = classmethod(lambda cls, shape, dtype: cls(shape, dtype, memptr=pointer(owned, place(shape, dtype))))
    return kind, True


class _Entered:
    def __enter__(self):
        calls[f"{type(self).__name__.lower()} made current"] += 1
        return self

    def __exit__(self, *error):
        pass


class Device(_Entered):
    def __init__(self, index):
        self.index, self.cublas_handle, self.mem_info = index, 1, (1 << 36, 1 << 37)
        self.compute_capability = "90"


class Stream(_Entered):
    def __init__(self, non_blocking=False):
        pass

    def record(self, event):
        calls["events recorded"] += 1
        return event

    def wait_event(self, event):
        calls["events waited for"] += 1

    def synchronize(self):
        calls["synchronizations"] += 1


class Event:
    done = True

    def __init__(self, disable_timing=False):
        calls["events made"] += 1

    def synchronize(self):
        calls["synchronizations"] += 1


class NullCuPy:
    """Stands for the module ``cupy``."""

    cuda = types.SimpleNamespace(Device=Device, Stream=Stream, Event=Event, alloc_pinned_memory=bytearray)

    def __init__(self):
        self.kind, self.arrays_of_cupy = _kind_of_arrays()

    def empty(self, shape, dtype):
        calls["allocations"] += 1
        return self.kind.make(shape, dtype)

    def ascontiguousarray(self, array):
        if array.flags.c_contiguous:
            return array
        calls["array operations"] += 1
        return self.empty(array.shape, array.dtype)

    def arange(self, *limits):
        calls["array operations"] += 1
        return self.empty((len(range(*limits)),), "int64")

    def maximum(self, a, b):
        calls["array operations"] += 1
        return self.empty(a.shape, a.dtype)

    @staticmethod
    def add(a, b, out):
        calls["array operations"] += 1

    def where(self, condition, a, b):
        calls["array operations"] += 1
        return self.empty(condition.shape, getattr(a, "dtype", getattr(b, "dtype", None)))

    @staticmethod
    def result_type(*arrays):
        return np.result_type(*(array.dtype for array in arrays))

    @staticmethod
    def RawModule(code):
        def start(grid, block, arguments):
            calls["kernels"] += 1

        return types.SimpleNamespace(get_function=lambda name: start)


def gemm_ex(*arguments):
    calls["products"] += 1


@contextlib.contextmanager
def planted(cuda):
    """Let `tinyalex.devices.cuda`, the module given, find the null GPU; return the stand-in for CuPy."""
    stub, cublas = NullCuPy(), types.SimpleNamespace(gemmEx=gemm_ex)
    with mock.patch.object(cuda, "find", lambda name, index: (stub, cublas, Device(index))):
        yield stub

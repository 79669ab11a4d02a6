"""Fake devices: NumPy arrays that know their device, refuse to be mixed with others, and record accesses.

They test two-column code without a GPU. On ``fake:0 fake:1`` every ufunc, function, product, in-place operation,
``out=``, index and assignment is checked: an array of one device must not meet an array of the other, nor a host array.
Whether accesses of different streams to the same memory are ordered is checked too (`tinyalex.devices.happens_before`).
"""

import numpy as np

from tinyalex.devices import happens_before
from tinyalex.devices.happens_before import DeviceMismatch

_PLAIN = frozenset((bool, float, int, slice, str, type(None), type(...)))
_ARRAYS = (np.ndarray, np.generic)


class FakeArray:
    """An array on a fake device: computes like NumPy's arrays, and is copied like CuPy's.

    Parameters
    ----------
    array : ndarray
        The memory behind it.
    device_name : str
        The device's name, ``"fake:0"``.
    memory : Memory, optional
        That of the array of which this is a view; new if not given.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, array, device_name, memory=None):
        self._array, self.device_name = array, device_name
        self._memory = memory or happens_before.Memory(array, happens_before.current(device_name), "empty")

    @property
    def data(self):
        """Stands for CuPy's memory pointer, which copies between devices take."""
        return self

    @property
    def ptr(self):
        """Stands for the address, which NCCL takes."""
        return self

    def get(self, stream=None, out=None, blocking=True):
        """Copy to the host on a stream; if blocking, wait for it, else ``out`` is filled when the host waits."""
        stream = stream or happens_before.current(self.device_name)
        self._memory.to_read(stream.access("get"))
        values = np.array(self._array)
        out = values if out is None else out
        stream.write_host(out, values)
        if blocking:
            stream.synchronize()
        return out

    def set(self, array, stream=None):
        """Copy from the host on a stream; return without waiting."""
        stream = stream or happens_before.current(self.device_name)
        self._memory.to_write(stream.access("set"))
        stream.read_host(array)
        self._array[...] = array

    def copy_from_device_async(self, source, size, stream):
        """Copy an array of any device on a stream of this one; both are contiguous."""
        if not source.nbytes == self.nbytes == size:
            raise ValueError(f"copy of {size} bytes from {source.nbytes} to {self.nbytes}")
        access = stream.access(f"copy from {source.device_name} to {self.device_name}")
        source._memory.to_read(access)
        self._memory.to_write(access)
        np.copyto(self._array, source._array)

    def __repr__(self):
        return f"FakeArray({self._array!r}, '{self.device_name}')"

    def __array__(self, *args, **kwargs):
        raise DeviceMismatch(f"an array of {self.device_name} was used as a host array; fetch it with device.get()")

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        written = inputs[:1] if method == "at" else [array for array in kwargs.get("out", ()) if array is not None]
        return _checked(self.device_name, ufunc.__name__, getattr(ufunc, method), inputs, kwargs, written)

    def __array_function__(self, function, types, args, kwargs):
        what = function.__name__
        return _checked(self.device_name, what, function, args, kwargs, _written(what, args, kwargs))

    def __getitem__(self, index):
        arrays = [self]
        return _wrap(self._array[_open(index, self.device_name, arrays)], self.device_name, "index", arrays)

    def __setitem__(self, index, value):
        _checked(self.device_name, "assignment", self._array.__setitem__, (index, value), {}, (self,))

    def __len__(self):
        return len(self._array)

    def __float__(self):
        return float(self.get())

    def __int__(self):
        return int(self.get())

    def __bool__(self):
        return bool(self.get())

    def __getattr__(self, name):
        # `_array` itself is looked up here only before __init__ has run (copy, pickle).
        if name.startswith("_"):
            raise AttributeError(name)
        value = getattr(self._array, name)
        if callable(value):
            return lambda *args, **kwargs: _checked(
                self.device_name, name, value, args, kwargs, _written(name, (self,), kwargs, _WRITING_METHODS), self
            )
        return _wrap(value, self.device_name, name, [self]) if isinstance(value, np.ndarray) else value


def _operator(name):
    def operate(self, *others):
        return _checked(self.device_name, name, getattr(self._array, name), others, {}, mine=self)

    return operate


def _in_place(name):
    def operate(self, other):
        _checked(self.device_name, name, getattr(self._array, name), (other,), {}, (self,))
        return self

    return operate


_BINARY = ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift"]
for _name in [*_BINARY, *(f"r{n}" for n in _BINARY), "neg", "pos", "abs", "invert", "lt", "le", "eq", "ne", "gt", "ge"]:
    setattr(FakeArray, f"__{_name}__", _operator(f"__{_name}__"))
for _name in _BINARY:
    setattr(FakeArray, f"__i{_name}__", _in_place(f"__i{_name}__"))

_WRITERS = frozenset(("copyto", "fill_diagonal", "place", "put", "put_along_axis", "putmask"))  # to the first argument
_WRITING_METHODS = frozenset(("fill", "partition", "put", "sort"))


def _written(what, args, kwargs, writers=_WRITERS):
    if what in writers:
        return args[:1]
    out = kwargs.get("out")
    return () if out is None else (out,)


class FakeNumPy:
    """NumPy as the array module of one fake device: it creates `FakeArray` objects."""

    cuda = happens_before.cuda
    _CREATORS = frozenset(
        ("empty", "zeros", "ones", "full", "arange", "linspace", "eye", "asarray", "array", "ascontiguousarray")
    )

    def __init__(self, device_name):
        self.device_name = device_name

    def __getattr__(self, name):
        value = getattr(np, name)
        if name not in self._CREATORS:
            return value
        return lambda *args, **kwargs: _checked(self.device_name, name, value, args, kwargs, host=True)


def _checked(device_name, what, function, args, kwargs, written=(), mine=None, host=False):
    """Call a NumPy function on the memory of arrays, all of this device; `written` lists those that it writes."""
    arrays = [] if mine is None else [mine]
    args = [_open(value, device_name, arrays, host) for value in args]
    kwargs = {name: _open(value, device_name, arrays, host) for name, value in kwargs.items()} if kwargs else kwargs
    if written:
        _touch(device_name, what, arrays, written)
    result = function(*args, **kwargs)
    return _wrap(result, device_name, what, arrays, written) if result is not NotImplemented else result


def _touch(device_name, what, read, written=()):
    access = happens_before.current(device_name).access(what)
    for array in read:
        array._memory.to_read(access)
    for array in written:
        array._memory.to_write(access)


def _open(value, device_name, arrays, host=False):
    """Replace fake arrays in `value` by NumPy's; refuse those of other devices, and add the others to `arrays`."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is FakeArray:
        if value.device_name != device_name:
            raise DeviceMismatch(
                f"an array of {value.device_name} met one of {device_name}; only an Exchange may copy it over"
            )
        arrays.append(value)
        return value._array
    if isinstance(value, np.ndarray) and not host:
        raise DeviceMismatch(f"a host array met one of {device_name}; copy it there with device.put()")
    if kind is tuple or kind is list:
        return kind(_open(part, device_name, arrays, host) for part in value)
    return value


def _wrap(value, device_name, what, arrays, written=()):
    """Turn a function's result into fake arrays: views of `arrays`, which count as no access, or new arrays."""
    if isinstance(value, _ARRAYS):
        value = np.asarray(value)
        memory = happens_before.owner(value)
        for array in arrays:
            if array._memory.owner is memory:
                return FakeArray(value, device_name, array._memory)
        if not written:
            _touch(device_name, what, arrays)
        return FakeArray(value, device_name, happens_before.Memory(value, happens_before.current(device_name), what))
    if isinstance(value, tuple | list):
        return type(value)(_wrap(part, device_name, what, arrays, written) for part in value)
    return value

"""Pretend devices: NumPy arrays that know where they live and refuse to be mixed.

A two-column net that runs on ``fake:0 fake:1`` never hands an array of one device to the other, nor a host array to
device code: every ufunc, function, product, in-place operation, ``out=``, index and assignment is checked, as CuPy
would (or should) do on two cards.
"""

import numpy as np


class DeviceMismatch(TypeError):
    """Arrays of different devices, or of a device and the host, met in one operation."""


class FakeArray:
    """An array on a pretend device; looks and computes like NumPy's.

    Parameters
    ----------
    array : ndarray
        The memory behind it.
    place : str
        The device's name, ``"fake:0"``.
    """

    __hash__ = None

    def __init__(self, array, place):
        self._array, self.place = array, place

    def to_host(self):
        """Copy to the host, as a driver would."""
        return np.array(self._array)

    def fill_from_host(self, array):
        """Copy from the host, as a driver would."""
        self._array[...] = array

    def __repr__(self):
        return f"FakeArray({self._array!r}, '{self.place}')"

    def __array__(self, *args, **kwargs):
        raise DeviceMismatch(f"an array of {self.place} was used as a host array; fetch it with device.get()")

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        return _checked(self.place, getattr(ufunc, method), inputs, kwargs)

    def __array_function__(self, function, types, args, kwargs):
        return _checked(self.place, function, args, kwargs)

    def __getitem__(self, index):
        return _wrap(self._array[_open(index, self.place)], self.place)

    def __setitem__(self, index, value):
        self._array[_open(index, self.place)] = _open(value, self.place)

    def __len__(self):
        return len(self._array)

    def __float__(self):
        return float(self._array)

    def __int__(self):
        return int(self._array)

    def __bool__(self):
        return bool(self._array)

    def __getattr__(self, name):
        # `_array` itself only gets here before __init__ ran (copy, pickle).
        if name.startswith("_"):
            raise AttributeError(name)
        value = getattr(self._array, name)
        if callable(value):
            return lambda *args, **kwargs: _checked(self.place, value, args, kwargs)
        return _wrap(value, self.place) if isinstance(value, np.ndarray) else value


def _operator(name):
    def operate(self, *others):
        return _checked(self.place, getattr(self._array, name), others, {})

    return operate


def _in_place(name):
    def operate(self, other):
        _checked(self.place, getattr(self._array, name), (other,), {})
        return self

    return operate


_BINARY = ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift"]
for _name in [*_BINARY, *(f"r{n}" for n in _BINARY), "neg", "pos", "abs", "invert", "lt", "le", "eq", "ne", "gt", "ge"]:
    setattr(FakeArray, f"__{_name}__", _operator(f"__{_name}__"))
for _name in _BINARY:
    setattr(FakeArray, f"__i{_name}__", _in_place(f"__i{_name}__"))


class FakeNumPy:
    """NumPy as the array module of one pretend device: what it creates lives there."""

    _CREATORS = frozenset(
        ("empty", "zeros", "ones", "full", "arange", "linspace", "eye", "asarray", "array", "ascontiguousarray")
    )

    def __init__(self, place):
        self.place = place

    def __getattr__(self, name):
        value = getattr(np, name)
        if name not in self._CREATORS:
            return value
        return lambda *args, **kwargs: _wrap(value(*_open(args, self.place, host=True), **kwargs), self.place)


def _checked(place, function, args, kwargs):
    result = function(*_open(args, place), **_open(kwargs, place))
    return _wrap(result, place) if result is not NotImplemented else result


def _open(value, place, host=False):
    """Take the NumPy arrays out of `value`, refusing those that do not live on `place`."""
    if isinstance(value, FakeArray):
        if value.place != place:
            raise DeviceMismatch(f"an array of {value.place} met one of {place}; only an Exchange may copy it over")
        return value._array
    if isinstance(value, np.ndarray) and not host:
        raise DeviceMismatch(f"a host array met one of {place}; copy it there with device.put()")
    if isinstance(value, tuple | list):
        return type(value)(_open(part, place, host) for part in value)
    if isinstance(value, dict):
        return {name: _open(part, place, host) for name, part in value.items()}
    return value


def _wrap(value, place):
    if isinstance(value, np.ndarray | np.generic):
        return FakeArray(np.asarray(value), place)
    if isinstance(value, tuple | list):
        return type(value)(_wrap(part, place) for part in value)
    return value

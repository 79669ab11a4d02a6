"""Read the pickles of CIFAR-10's python form without running them.

A pickle is a small program that may call anything. Here its instructions are only listed (`pickletools.genops`) and the
few that dictionaries, lists, strings, numbers and byte arrays need are interpreted; any other one, and any name other
than NumPy's array and dtype, is refused.
"""

import pickletools
from dataclasses import dataclass

import numpy as np

from tinyalex.errors import DataError

_ARRAY, _DTYPE, _REBUILD, _ENCODE = "array", "dtype", "rebuild", "encode"
_NAMES = {
    "numpy ndarray": _ARRAY,
    "numpy dtype": _DTYPE,
    "numpy.core.multiarray _reconstruct": _REBUILD,
    "numpy._core.multiarray _reconstruct": _REBUILD,
    "_codecs encode": _ENCODE,  # how Python 3 writes bytes in protocol 2
}
_PLAIN = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "BINUNICODE", "SHORT_BINUNICODE", "UNICODE"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "NONE", "NEWTRUE", "NEWFALSE", "BINFLOAT", "FLOAT"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_MARK = object()


@dataclass(frozen=True)
class _Name:
    meaning: str


class _Type:
    """Placeholder for a dtype; only uint8 is accepted."""


class _Array:
    """Placeholder for an array: the pickle creates an empty one and fills it later."""

    value = None


def read(content, file):
    """Read a pickled dictionary of strings, numbers, lists and uint8 arrays.

    Parameters
    ----------
    content : bytes
    file : str
        The file's name, for messages.

    Returns
    -------
    dict
        Keys as str, whether they were pickled as text or as bytes.

    Raises
    ------
    DataError
        If the pickle holds anything else.
    """
    machine = _Machine(file)
    try:
        for opcode, argument, _ in pickletools.genops(content):
            machine.execute(opcode.name, argument)
        (found,) = machine.stack
        if isinstance(found, dict):
            return {_text(key): _finished(value) for key, value in found.items()}
    except DataError:
        raise
    except Exception as error:  # a damaged pickle can make the steps below raise anything
        raise DataError(f"{file}: a damaged pickle ({type(error).__name__}); fetch it again") from error
    raise DataError(f"{file}: holds a {type(found).__name__}, expected a dictionary; fetch it again")


class _Machine:
    """A pickle's stack and memory, and the few instructions that are allowed."""

    def __init__(self, file):
        self.file, self.stack, self.memory = file, [], {}

    def execute(self, name, argument):
        stack = self.stack
        if name in _PLAIN:
            stack.append(_CONSTANTS.get(name, argument))
        elif name in ("STRING", "BINSTRING", "SHORT_BINSTRING"):  # Python 2 bytes; genops gives Latin-1 text
            stack.append(argument.encode("latin-1"))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memory[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memory[len(self.memory)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memory[argument])
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE"):
            stack.append({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}[name]())
        elif name in ("DICT", "LIST", "TUPLE"):
            items = self.since_mark()
            stack.append(_pairs(items) if name == "DICT" else list(items) if name == "LIST" else tuple(items))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            stack[-int(name[-1]) :] = [tuple(stack[-int(name[-1]) :])]
        elif name in ("APPEND", "APPENDS"):
            items = self.since_mark() if name == "APPENDS" else [stack.pop()]
            _of(stack[-1], list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self.since_mark() if name == "SETITEMS" else [stack.pop() for _ in "kv"][::-1]
            _of(stack[-1], dict).update(_pairs(items))
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            stack.append(self.named(argument or " ".join(self.popped(2))))
        elif name == "REDUCE":
            function, arguments = self.popped(2)
            stack.append(_call(_of(function, _Name).meaning, arguments))
        elif name == "BUILD":
            state = stack.pop()
            _fill(stack[-1], state)
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise DataError(f"{self.file}: pickle instruction {name} is not allowed in a CIFAR file; fetch it again")

    def popped(self, count):
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def since_mark(self):
        items = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def named(self, name):
        if name not in _NAMES:
            raise DataError(f"{self.file}: the pickle uses {name!r}, not allowed in a CIFAR file; fetch it again")
        return _Name(_NAMES[name])


def _of(value, kind):
    if not isinstance(value, kind):
        raise TypeError(kind.__name__)
    return value


def _pairs(items):
    return dict(zip(items[::2], items[1::2], strict=True))


def _call(function, arguments):
    if function == _REBUILD and arguments[0] == _Name(_ARRAY):
        return _Array()
    if function == _DTYPE and _text(arguments[0]) == "u1":
        return _Type()
    if function == _ENCODE and arguments[1] in ("latin1", b"latin1"):
        return arguments[0].encode("latin-1")
    raise TypeError(function)


def _fill(thing, state):
    if isinstance(thing, _Array):
        _, shape, kind, by_columns, content = state
        _of(kind, _Type)
        thing.value = np.frombuffer(content, np.uint8).reshape(shape, order="F" if by_columns else "C")
    else:
        _of(thing, _Type)  # sets the byte order, which means nothing for single bytes


def _text(value):
    return value.decode("latin-1") if isinstance(value, bytes) else _of(value, str)


def _finished(value):
    if isinstance(value, list):
        return [_finished(item) for item in value]
    if isinstance(value, _Array):
        return _of(value.value, np.ndarray)
    return value.decode("latin-1") if isinstance(value, bytes) else value

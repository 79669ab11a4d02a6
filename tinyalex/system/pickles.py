"""Reads pickles without running them.

A pickle is a small program that may call anything. Here its instructions are only listed (`pickletools.genops`) and the
few that dictionaries, lists, strings, numbers and tensors need are interpreted. Any other instruction, and any name
that the caller has not listed, is refused; what the listed names mean is for the caller to say.
"""

import pickletools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_PLAIN = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "BINUNICODE", "SHORT_BINUNICODE", "UNICODE"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "NONE", "NEWTRUE", "NEWFALSE", "BINFLOAT", "FLOAT"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_MARK = object()


class NotAllowedError(ValueError):
    """An instruction or a name that is not read; the message names it."""


@dataclass(frozen=True)
class Name:
    """A name that a pickle uses, such as ``numpy dtype``, by what it means to the caller."""

    meaning: str


@dataclass(frozen=True)
class Rules:
    """What the names in a pickle mean.

    Attributes
    ----------
    names : dict of str to str
        The allowed names, ``"module name"``, and their meanings.
    call : callable
        ``call(meaning, arguments)`` returns the value of a call of such a name.
    fill : callable
        ``fill(value, state)`` gives a value its state (the instruction BUILD).
    load : callable, optional
        ``load(key)`` returns what is stored beside the pickle under a persistent id; without it these are refused.
    new : bool
        Whether the instruction NEWOBJ, which makes an object of a class, is read as a call of its name.
    """

    names: Mapping[str, str]
    call: Callable[[str, Any], Any]
    fill: Callable[[Any, Any], None]
    load: Callable[[Any], Any] | None = None
    new: bool = False


def read(content: Any, rules: Rules) -> Any:
    """Read the value that a pickle holds.

    Parameters
    ----------
    content : bytes or binary file
        A file is left behind the pickle's last byte.
    rules : Rules

    Raises
    ------
    NotAllowedError
        If the pickle uses an instruction or a name that is not allowed.
    Exception
        Any other, if the pickle is damaged.
    """
    machine = _Machine(rules)
    for opcode, argument, _ in pickletools.genops(content):
        machine.execute(opcode.name, argument)
    (value,) = machine.stack
    return value


class _Machine:
    """A pickle's stack and memory, and the few instructions that are allowed."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.stack: list[Any] = []
        self.memory: dict[int, Any] = {}

    def execute(self, name: str, argument: Any) -> None:
        stack, rules = self.stack, self.rules
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
            of(stack[-1], list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self.since_mark() if name == "SETITEMS" else [stack.pop() for _ in "kv"][::-1]
            of(stack[-1], dict).update(_pairs(items))
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            stack.append(self.named(argument or " ".join(self.popped(2))))
        elif name == "REDUCE" or (name == "NEWOBJ" and rules.new):
            function, arguments = self.popped(2)
            stack.append(rules.call(of(function, Name).meaning, arguments))
        elif name == "BUILD":
            state = stack.pop()
            rules.fill(stack[-1], state)
        elif name == "BINPERSID" and rules.load is not None:
            stack.append(rules.load(stack.pop()))
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise NotAllowedError(f"pickle instruction {name} is not allowed")

    def popped(self, count: int) -> list[Any]:
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def since_mark(self) -> list[Any]:
        items = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def named(self, name: str) -> Name:
        if name not in self.rules.names:
            raise NotAllowedError(f"the pickle uses {name!r}, not allowed")
        return Name(self.rules.names[name])


def dictionary(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """Make a dictionary; TypeError unless its keys are texts, bytes or numbers: Python's hash of others may not end."""
    return {of(key, str | bytes | int | float): value for key, value in pairs}


def of(value: Any, kind: Any) -> Any:
    """Return a value, which must be of this kind; TypeError else."""
    if not isinstance(value, kind):
        raise TypeError(kind.__name__)
    return value


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return dictionary(zip(items[::2], items[1::2], strict=True))

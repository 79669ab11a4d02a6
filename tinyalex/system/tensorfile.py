"""Reads and checks the header of a safetensors file, before anything is allocated for its tensors."""

import json
import os
from math import prod
from typing import NamedTuple

_LIMIT = 16 << 20  # largest header that is read, bytes; real ones have some ten thousand
_TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool"}
_TYPES |= {f"{kind}{bits}": f"{name}{bits}" for kind, name in (("I", "int"), ("U", "uint")) for bits in (8, 16, 32, 64)}
_BYTES = {name: 1 if name == "BOOL" else int(name.lstrip("BFIU")) // 8 for name in _TYPES}


class Tensor(NamedTuple):
    """A tensor in a file: its dtype, its shape, and its first byte and the one after its last.

    The dtype has NumPy's name, or that of "bfloat16", which NumPy lacks.
    """

    dtype: str
    shape: tuple
    begin: int
    end: int


def read(path):
    """Read a safetensors file's header.

    Parameters
    ----------
    path : Path

    Returns
    -------
    texts : dict of str to str
    tensors : dict of str to Tensor

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If the header is longer than the file, is not JSON or has a key twice, or if the tensors that it lists do not
        fill the rest of the file exactly, in any order.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _LIMIT):
            raise ValueError("truncated, or not a safetensors file")
        content = file.read(length)
    try:
        entries = parse(content.decode())
        found = entries.pop("__metadata__", {})
        tensors = {name: _tensor(entry, 8 + length) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("damaged, or not a safetensors file") from error
    spans = sorted((tensor.begin, tensor.end) for tensor in tensors.values())
    ends = [8 + length, *(end for _, end in spans)]
    if [begin for begin, _ in spans] != ends[:-1] or ends[-1] != size:
        raise ValueError("truncated or damaged: the tensors do not fill the file")
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise ValueError("damaged: its metadata are not text")
    return found, tensors


def differences(tensors, wanted):
    """Return how tensors differ from those that are expected; "" if they do not.

    Parameters
    ----------
    tensors : dict of str to Tensor
    wanted : dict of str to (str, tuple or None)
        dtype and shape by name; a shape None allows any shape.
    """
    wrong = []
    for name in sorted(tensors.keys() | wanted.keys()):
        (dtype, shape), want = tensors.get(name, (None, None))[:2], wanted.get(name)
        if want is None or dtype != want[0] or (want[1] is not None and shape != tuple(want[1])):
            wrong.append(f"{name} is {_described(dtype, shape)}, not {_described(*want or (None, None))}")
    return "; ".join(wrong[:4]) + (f"; and {len(wrong) - 4} more" if len(wrong) > 4 else "")


def _described(dtype, shape):
    return "nothing" if dtype is None else f"{dtype} {'of any shape' if shape is None else tuple(shape)}"


def parse(text):
    """Parse JSON; ValueError if it is invalid or an object has the same key twice."""
    return json.loads(text, object_pairs_hook=_without_duplicates)


def _without_duplicates(pairs):
    if len(dict(pairs)) != len(pairs):
        raise ValueError("an object has the same key twice")
    return dict(pairs)


def _tensor(entry, start):
    begin, end = entry["data_offsets"]
    if not all(type(number) is int and number >= 0 for number in (begin, end, *entry["shape"])):
        raise ValueError("a size is not a whole number")
    if end - begin != prod(entry["shape"]) * _BYTES[entry["dtype"]]:
        raise ValueError("a size does not match its shape")
    return Tensor(_TYPES[entry["dtype"]], tuple(entry["shape"]), start + begin, start + end)

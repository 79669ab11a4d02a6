"""The header of a safetensors file, read with suspicion: nothing is allocated before it fits the size of the file."""

import json
import os
from math import prod

_LIMIT = 16 << 20  # bytes of header; a real one has some ten thousand
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1}
_BYTES |= {"BOOL": 1}


def texts(path):
    """Read the texts in a safetensors file's header.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict of str to str

    Raises
    ------
    OSError
        When the file cannot be read.
    ValueError
        When the header is longer than the file, is not JSON, names a thing twice, or when the tensors that it lists do
        not fill the rest of the file to the byte, in whatever order.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _LIMIT):
            raise ValueError("cut, or not a safetensors file")
        content = file.read(length)
    try:
        entries = parse(content.decode())
        found = entries.pop("__metadata__", {})
        spans = sorted(_span(entry) for entry in entries.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("damaged, or not a safetensors file") from error
    ends = [0, *(end for _, end in spans)]
    if [begin for begin, _ in spans] != ends[:-1] or ends[-1] != size - 8 - length:
        raise ValueError("cut or damaged: the tensors do not fill the file")
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise ValueError("damaged: its metadata are not text")
    return found


def parse(text):
    """Read JSON in which no key comes twice; ValueError otherwise."""
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs):
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key comes twice")
    return dict(pairs)


def _span(entry):
    begin, end = entry["data_offsets"]
    if not all(type(number) is int and number >= 0 for number in (begin, end, *entry["shape"])):
        raise ValueError("a size that is no whole number")
    if end - begin != prod(entry["shape"]) * _BYTES[entry["dtype"]]:
        raise ValueError("a size that is not its shape's")
    return begin, end

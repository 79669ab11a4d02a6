"""Read variables from a MATLAB file of format 5: numbers, text and structures, as in ILSVRC's devkit.

A file is a header and elements; an element is a tag (type, bytes) and a body, padded to eight bytes; a matrix is an
element of elements. (MathWorks, "MAT-File Format", level 5.) The reader checks everything, as a damaged file
has to give an error: larger libraries were seen to crash on one.
"""

import math
import struct
import zlib

_NUMBERS = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 9: "d", 12: "q", 13: "Q"}  # element types
_TEXTS = {1: "latin-1", 2: "latin-1", 16: "utf-8"}
_WIDE_TEXTS = {4: "utf-16", 17: "utf-16", 18: "utf-32"}  # in the file's byte order
_MATRIX, _COMPRESSED = 14, 15
_STRUCT, _CHAR, _NUMERIC = 2, 4, range(6, 16)  # classes of matrices
_ORDERS = {b"IM": "<", b"MI": ">"}
_LARGEST = 64 << 20  # bytes of an element when decompressed
_DEEPEST = 4  # structures in structures


def read(content):
    """Read all variables.

    Parameters
    ----------
    content : bytes
        The whole file.

    Returns
    -------
    dict of str to list, str or None
        Numbers as a flat list, text as one string, structures as a list of {field: value}; None for other kinds.

    Raises
    ------
    ValueError, or another exception
        If the file is damaged or of another format.
    """
    order = _ORDERS.get(content[126:128])
    if order is None:
        raise ValueError("not a MATLAB file of format 5")
    found = {}
    for kind, body in _elements(memoryview(content)[128:], order):
        if kind == _COMPRESSED:
            stream = zlib.decompressobj()
            whole = stream.decompress(body, _LARGEST)
            if not stream.eof:
                raise ValueError("a compressed element that is cut off or too large")
            ((kind, body),) = _elements(memoryview(whole), order)
        if kind == _MATRIX:
            name, value = _matrix(body, order, 0)
            found[name] = value
    return found


def _elements(data, order):
    offset = 0
    while offset < len(data):
        kind, size = struct.unpack_from(f"{order}II", data, offset)
        if kind >> 16:  # a small element: size and type share a word, up to four bytes follow
            kind, size, start, end = kind & 0xFFFF, kind >> 16, offset + 4, offset + 8
        else:
            start = offset + 8
            end = start + size + (-size % 8 if kind != _COMPRESSED else 0)
        if start + size > min(end, len(data)):
            raise ValueError("an element that ends early")
        yield kind, data[start : start + size]
        offset = end


def _matrix(body, order, depth):
    """Return a matrix's name and its value."""
    if not body:
        return "", []
    (_, flags), (_, shape), (_, name), *rest = _elements(body, order)
    kind = struct.unpack_from(f"{order}I", flags)[0] & 0xFF
    if kind == _STRUCT and depth < _DEEPEST:
        value = _structures(math.prod(struct.unpack(f"{order}{len(shape) // 4}i", shape)), rest, order, depth)
    elif kind == _CHAR:
        value = _text(*rest[0], order) if rest else ""
    elif kind in _NUMERIC:
        kind, numbers = rest[0]
        value = list(
            struct.unpack(f"{order}{len(numbers) // struct.calcsize(_NUMBERS[kind])}{_NUMBERS[kind]}", numbers)
        )
    else:
        value = None
    return bytes(name).decode("latin-1"), value


def _structures(count, rest, order, depth):
    (_, width), (_, names), *values = rest
    (width,) = struct.unpack(f"{order}i", width)
    if width < 1 or len(names) % width:
        raise ValueError("damaged names of fields")
    fields = [bytes(names[k : k + width]).rstrip(b"\0").decode("latin-1") for k in range(0, len(names), width)]
    if len(values) != count * len(fields) or any(kind != _MATRIX for kind, _ in values):
        raise ValueError("fields without values")
    values = iter([_matrix(body, order, depth + 1)[1] for _, body in values])
    return [{field: next(values) for field in fields} for _ in range(count)]


def _text(kind, body, order):
    if kind in _WIDE_TEXTS:
        return bytes(body).decode(_WIDE_TEXTS[kind] + ("-le" if order == "<" else "-be"))
    return bytes(body).decode(_TEXTS[kind])

"""Read the pickles of CIFAR-10's python form without running them: see `tinyalex.system.pickles`.

They hold dictionaries, lists, strings, numbers and byte arrays; any name other than NumPy's array and dtype is refused.
"""

import numpy as np

from tinyalex.errors import DataError
from tinyalex.system import pickles
from tinyalex.system.pickles import of

_ARRAY, _DTYPE, _REBUILD, _ENCODE = "array", "dtype", "rebuild", "encode"
_NAMES = {
    "numpy ndarray": _ARRAY,
    "numpy dtype": _DTYPE,
    "numpy.core.multiarray _reconstruct": _REBUILD,
    "numpy._core.multiarray _reconstruct": _REBUILD,
    "_codecs encode": _ENCODE,  # how Python 3 writes bytes in protocol 2
}


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
    try:
        found = pickles.read(content, pickles.Rules(_NAMES, _call, _fill))
        if isinstance(found, dict):
            return {_text(key): _finished(value) for key, value in found.items()}
    except pickles.NotAllowedError as error:
        raise DataError(f"{file}: {error} in a CIFAR file; fetch it again") from None
    except Exception as error:  # a damaged pickle can make the steps above raise anything
        raise DataError(f"{file}: a damaged pickle ({type(error).__name__}); fetch it again") from error
    raise DataError(f"{file}: holds a {type(found).__name__}, expected a dictionary; fetch it again")


def _call(function, arguments):
    if function == _REBUILD and arguments[0] == pickles.Name(_ARRAY):
        return _Array()
    if function == _DTYPE and _text(arguments[0]) == "u1":
        return _Type()
    if function == _ENCODE and arguments[1] in ("latin1", b"latin1"):
        return arguments[0].encode("latin-1")
    raise TypeError(function)


def _fill(thing, state):
    if isinstance(thing, _Array):
        _, shape, kind, by_columns, content = state
        of(kind, _Type)
        thing.value = np.frombuffer(content, np.uint8).reshape(shape, order="F" if by_columns else "C")
    else:
        of(thing, _Type)  # sets the byte order, which means nothing for single bytes


def _text(value):
    return value.decode("latin-1") if isinstance(value, bytes) else of(value, str)


def _finished(value):
    if isinstance(value, list):
        return [_finished(item) for item in value]
    if isinstance(value, _Array):
        return of(value.value, np.ndarray)
    return value.decode("latin-1") if isinstance(value, bytes) else value

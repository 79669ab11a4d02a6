"""Reads the tensors of a file that ``torch.save`` wrote, without PyTorch and without running its pickle.

Such a file holds a pickled dictionary, whose tensors lie beside it as numbers: in a zip archive (since PyTorch 1.6), or
one after the other behind five pickles (before; ``torch/serialization.py``). Of the pickle's names only those of
tensors, number types and dictionaries are read, so that a file with code in it is refused, not run.
"""

import io
import math
import os
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tinyalex.errors import CheckpointError
from tinyalex.system import pickles
from tinyalex.system.pickles import of

LIMIT = 4 << 30  # bytes of the largest file that is read; AlexNet and its optimizer's momenta have 0.5 GB
_PICKLE_LIMIT = 8 << 20  # bytes of pickles; those of a state dict have some ten thousand
_MAGIC = 0x1950A86A20F9469CFC6C  # torch/serialization.py: first pickle of a file in the older format
_PROTOCOL = 1001
_STORAGES = {  # names of number types: dtype, without the byte order
    "Float": "f4", "Double": "f8", "Half": "f2", "BFloat16": "bfloat16",
    "Long": "i8", "Int": "i4", "Short": "i2", "Char": "i1", "Byte": "u1", "Bool": "?",
}  # fmt: skip
_NAMES = {f"torch {kind}Storage": f"storage {kind}" for kind in _STORAGES}
_NAMES |= {
    "torch._utils _rebuild_tensor_v2": "tensor",
    "torch._utils _rebuild_tensor": "tensor",  # before PyTorch 0.4
    "torch._utils _rebuild_parameter": "parameter",
    "torch.nn.parameter Parameter": "parameter",  # before PyTorch 0.4
    "collections OrderedDict": "dict",
    "torch Size": "size",
}


@dataclass(frozen=True)
class _Storage:
    kind: str  # a key of _STORAGES
    key: str
    count: int  # numbers


@dataclass(frozen=True)
class Tensor:
    """A tensor of a file; its numbers are read when asked for.

    Attributes
    ----------
    shape : tuple of int
    """

    shape: tuple[int, ...]
    _storage: _Storage
    _offset: int
    _strides: tuple[int, ...]
    _source: "_Source"

    @property
    def floating(self) -> bool:
        """Whether its numbers are floating-point numbers."""
        return self._storage.kind in ("Float", "Double", "Half", "BFloat16")

    def array(self) -> np.ndarray:
        """Read the numbers, as float32."""
        flat = self._source.numbers(self._storage)
        strides = [stride * flat.itemsize for stride in self._strides]
        view = np.lib.stride_tricks.as_strided(flat[self._offset :], self.shape, strides, writeable=False)
        return from_bfloat16(view) if self._storage.kind == "BFloat16" else np.array(view, np.float32)


class _Parameter:
    """A tensor that learns, as pickled before PyTorch 0.4: made empty, and filled later."""

    value: Tensor | None = None


def tensor_of(value: Any) -> Tensor | None:
    """Return a value of the dictionary that `read` gives as a tensor; None if it is something else."""
    value = value.value if isinstance(value, _Parameter) else value
    return value if isinstance(value, Tensor) else None


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """Return the float32 numbers whose upper halves are these 16 bits each."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


class _Source:
    """Where a file's numbers are: ``spans`` has the first byte of each storage in the older format."""

    def __init__(self, path: Path) -> None:
        self.path, self.order = path, "<"
        self.archive: zipfile.ZipFile | None = None
        self.folder = ""
        self.spans: dict[str, int] = {}

    def numbers(self, storage: _Storage) -> np.ndarray:
        kind = _STORAGES[storage.kind]
        dtype = np.dtype(self.order + ("u2" if kind == "bfloat16" else kind))
        wanted = storage.count * dtype.itemsize
        try:
            if self.archive is not None:
                content = _entry(self.archive, f"{self.folder}data/{storage.key}", LIMIT)
            else:
                with open(self.path, "rb") as file:
                    file.seek(self.spans[storage.key])
                    content = file.read(wanted)
        except CheckpointError:
            raise
        except Exception as error:  # a damaged archive can make zipfile raise anything
            raise _damaged(self.path, error) from error
        if len(content) < wanted:
            raise CheckpointError(f"{self.path}: truncated or damaged; fetch it again")
        return np.frombuffer(content, dtype, storage.count)


def is_archive(start: bytes) -> bool:
    """Return whether a file that begins so may be one of PyTorch since 1.6, a zip archive."""
    return start.startswith(b"PK\x03\x04")


def is_older(start: bytes) -> bool:
    """Return whether a file begins as one of PyTorch before 1.6: with the pickle of a certain number."""
    return start[2:3] == b"\x8a" and start[4:14] == _MAGIC.to_bytes(10, "little")


def read(path: str | Path) -> dict[Any, Any]:
    """Read the dictionary that a file of ``torch.save`` holds, its tensors as `Tensor`.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    CheckpointError
        If it is larger than 4 GB, truncated or damaged, holds anything but a dictionary, or uses a name that is not a
        tensor's, a number type's or a dictionary's: nothing in it is run.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size > LIMIT:
                raise CheckpointError(f"{path}: larger than {LIMIT >> 30} GB; save the state_dict alone")
            start = file.read(14)
            file.seek(0)
            found = _read_older(path, file) if is_older(start) else _read_archive(path)
    except CheckpointError:
        raise
    except pickles.NotAllowedError as error:
        raise CheckpointError(
            f"{path}: {error}, as it might run code; in PyTorch save the weights alone: "
            "torch.save(model.state_dict(), FILE)"
        ) from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error}); give another file") from error
    except Exception as error:  # damaged pickles and archives can make the steps above raise anything
        raise _damaged(path, error) from error
    if not isinstance(found, dict):
        kind = "one tensor" if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise CheckpointError(f"{path}: holds {kind}, not a dictionary of tensors; save a state_dict")
    return found


def _damaged(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path}: truncated or damaged ({type(error).__name__}); fetch it again")


def _read_archive(path: Path) -> Any:
    source = _Source(path)
    source.archive = archive = zipfile.ZipFile(path)
    pickled = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickled) != 1:
        raise CheckpointError(f"{path}: a zip archive, but not one of torch.save; give the file itself")
    source.folder = pickled[0].removesuffix("data.pkl")
    if f"{source.folder}byteorder" in archive.namelist():
        source.order = {b"little": "<", b"big": ">"}[_entry(archive, f"{source.folder}byteorder", 16)]
    return pickles.read(_entry(archive, pickled[0], _PICKLE_LIMIT), _rules(source))


def _entry(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    # The bytes of an entry that lies in the archive as it is; a compressed one might be far larger than the file.
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > limit:
        raise ValueError(name)
    return archive.read(info)


def _read_older(path: Path, file: BinaryIO) -> Any:
    source, plain = _Source(path), pickles.Rules({}, _no_call, _no_call)
    size = os.fstat(file.fileno()).st_size
    head = io.BytesIO(file.read(_PICKLE_LIMIT))
    magic, protocol, system = (pickles.read(head, plain) for _ in range(3))
    if magic != _MAGIC or protocol != _PROTOCOL:
        raise ValueError("not the older format of torch.save")
    source.order = "<" if of(system, dict).get("little_endian") is True else ">"
    known: dict[str, _Storage] = {}
    value = pickles.read(head, _rules(source, known))
    begin = 0
    for number, key in enumerate(of(pickles.read(head, plain), list)):
        begin = head.tell() if number == 0 else begin
        file.seek(begin)
        (count,) = struct.unpack(f"{source.order}q", file.read(8))
        storage = known[key]
        if count != storage.count:
            raise ValueError("a storage of another size than its tensors")
        source.spans[key] = begin + 8
        begin += 8 + count * _size(storage.kind)
    if max(begin, head.tell()) != size or known.keys() - source.spans.keys():
        raise ValueError("truncated")
    return value


def _size(kind: str) -> int:
    return 2 if kind == "BFloat16" else np.dtype(_STORAGES[kind]).itemsize


def _no_call(*_: Any) -> Any:
    raise TypeError("a call")


def _rules(source: _Source, known: dict[str, _Storage] | None = None) -> pickles.Rules:
    # `known` collects the storages by key.
    known = {} if known is None else known

    def load(key: Any) -> _Storage:
        word, kind, number, _, count, *view = of(key, tuple)
        word = word.decode() if isinstance(word, bytes) else word
        meaning = of(kind, pickles.Name).meaning
        if word != "storage" or not meaning.startswith("storage ") or any(each is not None for each in view):
            raise ValueError("a persistent id")
        number = number.decode() if isinstance(number, bytes) else of(number, str)
        if not number.isalnum() or type(count) is not int or not 0 <= count <= LIMIT:
            raise ValueError("a storage")
        storage = _Storage(meaning.removeprefix("storage "), number, count)
        if known.setdefault(number, storage) != storage:
            raise ValueError("a storage of two kinds")
        return storage

    def call(meaning: str, arguments: Any) -> Any:
        arguments = of(arguments, tuple)
        if meaning == "dict":
            return pickles.dictionary(*arguments) if arguments else {}
        if meaning == "size":
            return tuple(*arguments)
        if meaning == "parameter":
            return of(arguments[0], Tensor) if arguments else _Parameter()
        if meaning == "tensor":
            return _tensor(source, *arguments[:4])
        raise TypeError(meaning)

    return pickles.Rules(_NAMES, call, _fill, load, new=True)


def _fill(value: Any, state: Any) -> None:
    # An OrderedDict's `_metadata`, the versions of its layers, is not needed; an old Parameter's first item is.
    if isinstance(value, _Parameter):
        value.value = of(of(state, tuple)[0], Tensor)
    else:
        of(value, dict)


def _tensor(source: _Source, storage: Any, offset: Any, shape: Any, strides: Any) -> Tensor:
    of(storage, _Storage)
    numbers = (offset, *of(shape, tuple), *of(strides, tuple))
    if not all(type(number) is int and number >= 0 for number in numbers) or len(shape) != len(strides):
        raise ValueError("a shape")
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
    if math.prod(shape) > storage.count or (math.prod(shape) and last >= storage.count):
        raise ValueError("a tensor larger than its storage")
    return Tensor(shape, storage, offset, strides, source)

"""Finds the reader of a file of weights by the file's content; its name does not count."""

from pathlib import Path

import numpy as np

from tinyalex.errors import CheckpointError, UsageError
from tinyalex.interop import caffe, deep_compression, onnx_format, torchvision
from tinyalex.interop.imported import Imported, Options

# Each has NAME, `recognizes(head, size)` and `read(path, options)`; the last format has no mark of its own.
READERS = (torchvision, onnx_format, caffe, deep_compression)
HEAD = 4096  # bytes that a reader sees of a file to recognize it


def read(path: str | Path, options: Options | None = None) -> Imported:
    """Read a file of weights in any of the formats of `READERS`.

    Raises
    ------
    CheckpointError
        If the file cannot be read, has no known format, is damaged, or holds another net than an AlexNet.
    UsageError
        If an option does not fit the format, or a library is missing that reads it.
    """
    path, options = Path(path), options or Options()
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD)
        size = path.stat().st_size
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); give a file of weights") from None
    for reader in READERS:
        if reader.recognizes(head, size):
            if options.like is not None and reader is not deep_compression:
                raise UsageError(f"{path}: says its own net; leave out --like, which is for {deep_compression.NAME}")
            if options.input is not None and reader is not onnx_format:
                raise UsageError(f"{path}: leave out --input, which is for {onnx_format.NAME}")
            with np.errstate(all="ignore"):  # numbers that are not finite are refused later, by name
                return reader.read(path, options)
    if head and all(byte >= 32 or byte in b"\t\n\r" for byte in head):
        raise CheckpointError(f"{path}: is text; give a file of weights, and a prototxt of Caffe with --deploy")
    known = ", ".join(reader.NAME for reader in READERS)
    raise CheckpointError(f"{path}: none of the formats that can be imported; give a file of {known}")

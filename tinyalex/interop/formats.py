"""Finds the reader of a file of weights by the file's content; its name does not count."""

from pathlib import Path

import numpy as np

from tinyalex.errors import CheckpointError
from tinyalex.interop import caffe, onnx_format, torchvision
from tinyalex.interop.imported import Imported, Options

READERS = (torchvision, onnx_format, caffe)  # each has NAME, `recognizes(head, size)` and `read(path, options)`
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
            with np.errstate(all="ignore"):  # numbers that are not finite are refused later, by name
                return reader.read(path, options)
    known = ", ".join(reader.NAME for reader in READERS)
    raise CheckpointError(f"{path}: none of the formats that can be imported; give a file of {known}")

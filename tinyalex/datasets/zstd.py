"""Read files packed by zstd, with whichever module this Python has for it."""

import importlib

from tinyalex.errors import DataError

MAGIC = b"\x28\xb5\x2f\xfd"
_MODULES = ("compression.zstd", "backports.zstd")  # Python's own since 3.14; the same for older ones


def open_stream(file):
    """Open a packed file for reading.

    Parameters
    ----------
    file : binary file object
        With a ``name``.

    Returns
    -------
    file object
        With what is inside; has ``read`` and can be used in ``with``.

    Raises
    ------
    DataError
        If there is no module for it. The message says what to install.
    """
    for name in _MODULES:
        try:
            return importlib.import_module(name).open(file)
        except ImportError:
            continue
    try:
        decompressor = importlib.import_module("zstandard").ZstdDecompressor()
    except ImportError:
        raise DataError(
            f"{file.name}: packed by zstd, which this Python does not read; pip install backports.zstd, "
            "or unpack it with zstd -d"
        ) from None
    return decompressor.stream_reader(file, read_across_frames=True)

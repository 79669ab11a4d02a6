"""ONNX files: AlexNets of other programs are read, and runs are written; here is what needs no ONNX library."""

from pathlib import Path

from tinyalex.errors import UsageError
from tinyalex.interop.imported import Imported, Options
from tinyalex.runs.run_folder import Run

NAME = "ONNX (.onnx)"
_NEEDS = "pip install '.[interop]'"


def recognizes(head: bytes, size: int) -> bool:
    """Return whether a file that begins with ``head`` may be an ONNX model, which begins with a version."""
    return len(head) > 2 and head[0] == 0x08 and head[1] < 0x40 and head[2] in b"\x12\x1a\x22\x28\x32\x3a\x42"


def read(path: str | Path, options: Options | None = None) -> Imported:
    """Read an AlexNet from an ONNX file.

    Parameters
    ----------
    path : str or Path
    options : Options, optional
        ``input`` is what the graph's input is, a key of `tinyalex.interop.onnx_import.INPUTS`; by default pixels, if
        the graph begins with arithmetic, else that of the program that wrote the file. ``mean`` is a mean image that is
        subtracted before.

    Raises
    ------
    CheckpointError
        If the file cannot be read, or its net is not an AlexNet that a recipe can say; the message names the node.
    UsageError
        If nothing says what the input is, or two things do, or if the package onnx is missing.
    """
    _need_onnx(path)
    from tinyalex.interop import onnx_import

    return onnx_import.read(Path(path), options or Options())


def write(run: Run, path: str | Path) -> Path:
    """Write a run's weights as an ONNX file: see `tinyalex.interop.onnx_export.write`."""
    _need_onnx(path)
    from tinyalex.interop import onnx_export

    return onnx_export.write(run, path)


def check_target(path: str | Path) -> None:
    """Raise ForeignFileError if `write` would have to replace a file that is not an unchanged one of its own."""
    _need_onnx(path)
    from tinyalex.interop import onnx_export

    onnx_export.check_target(path)


def _need_onnx(path: str | Path) -> None:
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise UsageError(f"{path}: ONNX needs the package onnx ({error}); install it with {_NEEDS}") from None

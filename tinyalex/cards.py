"""CUDA's cards: CuPy, or the reason why there is none. The only import of CuPy."""

import importlib

from tinyalex.errors import DeviceError


def find(name, index):
    """Return CuPy, cuBLAS as CuPy wraps it, and a card.

    Parameters
    ----------
    name : str
        What the card was asked for as, ``"cuda:0"``; errors begin with it.
    index : int

    Raises
    ------
    DeviceError
        If CuPy, its libraries, the driver or the card is missing.
    """
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as error:
        raise DeviceError(f"{name}: CuPy is not installed; pip install 'tinyalex[cuda13]' or [cuda12]") from error
    runtime = cupy.cuda.runtime
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        raise DeviceError(f"{name}: {_silence(runtime, error)}, or use cpu") from error
    if index >= count:
        raise DeviceError(f"{name}: not there; this machine has {count} CUDA device(s), counted from cuda:0")
    try:
        cublas = importlib.import_module("cupy_backends.cuda.libs.cublas")
    except ImportError as error:
        extra = f"cuda{runtime.runtimeGetVersion() // 1000}"
        raise DeviceError(f"{name}: CuPy finds no cuBLAS ({error}); pip install 'tinyalex[{extra}]'") from error
    return cupy, cublas, cupy.cuda.Device(index)


def _silence(runtime, error):
    # Why CUDA does not answer, and what to do.
    driver, built = runtime.driverGetVersion() // 1000, runtime.runtimeGetVersion() // 1000
    if not driver:
        return "CUDA does not answer: there is no NVIDIA driver; install one"
    if driver < built:
        return (
            f"this CuPy is for CUDA {built}, the driver knows CUDA {driver} at most; "
            f"pip uninstall cupy-cuda{built}x, pip install 'tinyalex[cuda{driver}]'"
        )
    return f"CUDA does not answer ({error}); look at nvidia-smi"

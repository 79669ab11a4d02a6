"""CUDA's cards: CuPy, or the reason why there is none. The only import of CuPy."""

import importlib
import os

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
    # cuBLAS then gives the same bits every time, also where two streams share a handle.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
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


def look():
    """Say what there is for CUDA, without asking for anything that may be missing.

    Returns
    -------
    dict
        "cupy", its version; "built" and "driver", the CUDA versions it was made for and the driver knows, as 13.0; each
        None where it is missing. "cards", a list of dicts: "name", "total" and "free" in bytes, and "reaches", the
        numbers of the cards whose memory it reads by itself. "missing": why there are no cards, or None.
    """
    found = {"cupy": None, "built": None, "driver": None, "cards": [], "missing": None}
    try:
        cupy = importlib.import_module("cupy")
    except ImportError:
        return found | {"missing": "CuPy is not installed; pip install 'tinyalex[cuda13]' or [cuda12]"}
    runtime = cupy.cuda.runtime
    try:
        driver, found["cupy"] = runtime.driverGetVersion(), cupy.__version__
        found |= {"built": _version(runtime.runtimeGetVersion()), "driver": _version(driver) if driver else None}
        numbers = range(runtime.getDeviceCount())
        found["cards"] = [_card(cupy, number, numbers) for number in numbers]
    except runtime.CUDARuntimeError as error:
        return found | {"missing": _silence(runtime, error)}
    return found if found["cards"] else found | {"missing": "this machine has none"}


def _card(cupy, number, numbers):
    runtime = cupy.cuda.runtime
    with cupy.cuda.Device(number):
        free, total = runtime.memGetInfo()
    name = runtime.getDeviceProperties(number)["name"]
    reaches = [other for other in numbers if other != number and runtime.deviceCanAccessPeer(number, other)]
    name = name.decode() if isinstance(name, bytes) else name
    return {"name": name, "total": total, "free": free, "reaches": reaches}


def _version(number):
    return f"{number // 1000}.{number % 1000 // 10}"

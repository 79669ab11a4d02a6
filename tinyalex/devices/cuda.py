"""Finds CuPy and the GPUs, or the reason why there are none. The only file that imports CuPy."""

import importlib
import os
import tempfile

from tinyalex.errors import DeviceError

OLDEST = 14  # version of CuPy, as in setup.cfg
_in_use = False  # whether this process has found a GPU
_lost = False  # whether it was forked from one that had


def _after_fork():
    global _lost
    _lost = _in_use


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def find(name, index):
    """Return CuPy, CuPy's wrapper of cuBLAS, and CuPy's device object of a GPU.

    Parameters
    ----------
    name : str
        The device's name, ``"cuda:0"``, with which errors begin.
    index : int

    Raises
    ------
    DeviceError
        If CuPy, its libraries, the driver or the GPU is missing, or if this process was forked from one that used a
        GPU: CUDA does not work then (CUDA C++ Programming Guide, "Interprocess Communication").
    """
    global _in_use
    if _lost:
        raise DeviceError(
            f"{name}: CUDA does not work in a process that was forked from one that used it; "
            "start processes with multiprocessing.get_context('spawn')"
        )
    # With this, cuBLAS is reproducible bit by bit even if two streams share a handle.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if not _can_keep_kernels():
        os.environ.setdefault("CUPY_CACHE_IN_MEMORY", "1")
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as error:
        raise DeviceError(f"{name}: CuPy is not installed; pip install 'tinyalex[cuda13]' or [cuda12]") from error
    runtime, version = cupy.cuda.runtime, str(getattr(cupy, "__version__", OLDEST))
    if int(version.split(".")[0]) < OLDEST:  # before 13.3 strided copies to the host ran on another stream
        raise DeviceError(f"{name}: CuPy {version} is too old; pip install --upgrade 'tinyalex[cuda13]' or [cuda12]")
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        raise DeviceError(f"{name}: {_why_unavailable(runtime, error)}, or use cpu") from error
    if index >= count:
        raise DeviceError(f"{name}: not there; this machine has {count} CUDA device(s), counted from cuda:0")
    try:
        cublas = importlib.import_module("cupy_backends.cuda.libs.cublas")
    except ImportError as error:
        extra = f"cuda{runtime.runtimeGetVersion() // 1000}"
        raise DeviceError(f"{name}: CuPy finds no cuBLAS ({error}); pip install 'tinyalex[{extra}]'") from error
    gpu = cupy.cuda.Device(index)
    (major, minor), built = capability(gpu), runtime.runtimeGetVersion() // 1000
    if built >= 13 and (major, minor) < (7, 5):
        raise DeviceError(
            f"{name}: this GPU has compute capability {major}.{minor}, which CUDA {built} no longer "
            f"supports; pip uninstall cupy-cuda{built}x, pip install 'tinyalex[cuda12]'"
        )
    _in_use = True
    return cupy, cublas, gpu


def capability(gpu):
    """Return the compute capability of CuPy's device object as two numbers, (9, 0)."""
    digits = str(getattr(gpu, "compute_capability", ""))
    return (int(digits[:-1]), int(digits[-1])) if digits.isdigit() else (9, 0)


def _can_keep_kernels():
    # Whether CuPy can write the kernels that it compiles to its folder; if not, compiling would end with an error.
    folder = os.path.expanduser(os.environ.get("CUPY_CACHE_DIR") or "~/.cupy/kernel_cache")
    try:
        tempfile.gettempdir()
        os.makedirs(folder, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def _why_unavailable(runtime, error):
    # Say why CUDA does not answer, and what to do.
    driver, built = runtime.driverGetVersion() // 1000, runtime.runtimeGetVersion() // 1000
    if not driver:
        return "CUDA does not answer: there is no NVIDIA driver; install one"
    if driver < built:
        return (
            f"this CuPy is for CUDA {built}, the driver knows CUDA {driver} at most; "
            f"pip uninstall cupy-cuda{built}x, pip install 'tinyalex[cuda{driver}]'"
        )
    return f"CUDA does not answer ({error}); look at nvidia-smi"


def nccl(name):
    """Return CuPy's wrapper of NCCL.

    Raises
    ------
    DeviceError
        If NCCL is not installed.
    """
    try:
        found = importlib.import_module("cupy.cuda.nccl")
        if not getattr(found, "available", True):
            raise ImportError("CuPy was built without it")
        found.get_version()
    except (ImportError, AttributeError) as error:
        raise DeviceError(
            f"{name}: NCCL, over which GPUs of several processes talk, cannot be used ({error}); "
            "pip install nvidia-nccl-cu13, or -cu12 with CuPy for CUDA 12"
        ) from error
    return found


def look():
    """Report what is installed for CUDA; nothing of it needs to be there.

    Returns
    -------
    dict
        "cupy", its version; "built" and "driver", the CUDA versions that CuPy was built for and the driver supports, as
        "13.0"; each None where it is missing. "gpus", a list with a dict for each GPU: "name", "total" and "free" in
        bytes, and "reaches", the indices of the GPUs whose memory it can read directly. "missing": why there are no
        GPUs, or None.
    """
    found = {"cupy": None, "built": None, "driver": None, "gpus": [], "missing": None}
    try:
        cupy = importlib.import_module("cupy")
    except ImportError:
        return found | {"missing": "CuPy is not installed; pip install 'tinyalex[cuda13]' or [cuda12]"}
    runtime = cupy.cuda.runtime
    try:
        driver, found["cupy"] = runtime.driverGetVersion(), cupy.__version__
        found |= {"built": _version(runtime.runtimeGetVersion()), "driver": _version(driver) if driver else None}
        numbers = range(runtime.getDeviceCount())
        found["gpus"] = [_gpu(cupy, number, numbers) for number in numbers]
    except runtime.CUDARuntimeError as error:
        return found | {"missing": _why_unavailable(runtime, error)}
    return found if found["gpus"] else found | {"missing": "this machine has none"}


def _gpu(cupy, number, numbers):
    runtime = cupy.cuda.runtime
    with cupy.cuda.Device(number):
        free, total = runtime.memGetInfo()
    name = runtime.getDeviceProperties(number)["name"]
    reaches = [other for other in numbers if other != number and runtime.deviceCanAccessPeer(number, other)]
    name = name.decode() if isinstance(name, bytes) else name
    return {"name": name, "total": total, "free": free, "reaches": reaches}


def _version(number):
    return f"{number // 1000}.{number % 1000 // 10}"

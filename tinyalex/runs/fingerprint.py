"""The fingerprint of a machine: everything that the last bits of a result depend on.

A run that is resumed with the same fingerprint gives the same bits as without the interruption. With another one the
result is as correct, but sums may be taken in another order. Besides the versions and names of libraries, processor and
GPUs, the fingerprint has a hash of small results (matrix products, exponentials, sums) that are known to differ between
machines, since code may change while its name does not.
"""

import hashlib
import os
import platform
from functools import cache

import numpy as np

from tinyalex import __version__, randomness
from tinyalex.devices.parallel import workers


def take(devices):
    """Return the fingerprint of this machine and process.

    Parameters
    ----------
    devices : list of Device

    Returns
    -------
    dict of str to str
    """
    found = {
        "tinyalex": __version__,
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "BLAS": _blas(),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": str(workers().count),
        "devices": " ".join(device.name for device in devices),
        "arithmetic": _arithmetic(),
    }
    if not all(device.kernels for device in devices):
        found["kernels"] = "off"
    for device in devices:
        if device.kind == "cuda":
            found |= _gpu(device.xp, device.index)
    return found


def of_training(training):
    """Return the fingerprint of this process as it trains.

    Where batches are divided into parts, "threads" is the number of shares of a part's work, on which its bits depend.
    """
    found = take(training.network.devices)
    if training.data_parallel and training.how != "ordered":
        found["sum of gradients"] = f"{training.how}, {training.world.size} ranks"
    if training.dataset.decoder:
        found["JPEG decoder"] = training.dataset.decoder
    return found


def differences(old, new):
    """Return what differs between two fingerprints, ``"threads 2, now 1"``; "" if nothing does."""
    keys = [*old, *(key for key in new if key not in old)]
    changed = [key for key in keys if old.get(key) != new.get(key)]
    return ", ".join(f"{key} {old.get(key, 'nothing')}, now {new.get(key, 'nothing')}" for key in changed)


def _blas():
    from threadpoolctl import threadpool_info

    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    parts = [[pool.get(key) for key in ("internal_api", "version", "architecture")] for pool in pools[:1]]
    return " ".join(str(part) for part in sum(parts, []) if part) or "unknown"


@cache
def _processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or "unknown"


@cache
def _arithmetic():
    # A hash of results; products of these shapes differ between BLAS kernels, and between numbers of BLAS threads.
    workers()  # from now on BLAS uses one thread, as it does in training
    digest, key = hashlib.sha256(), randomness.key(0, "fingerprint")
    for rows, inner, columns in ((96, 2420, 363), (1, 4096, 100), (64, 1600, 48)):
        a = randomness.bits(key, np.arange(rows)[:, None], np.arange(inner)).astype(np.float32) / 2**32 - 0.5
        b = randomness.bits(key, np.arange(inner)[:, None], np.arange(columns)).astype(np.float32) / 2**32
        for result in (a @ b, np.exp(a), np.log(b + 1), np.tanh(a), np.sqrt(b), a.sum(axis=0), b.sum()):
            digest.update(np.ascontiguousarray(result))
    return digest.hexdigest()[:16]


def _gpu(cupy, index):
    # "CUDA" is the version that CuPy was linked with. cuBLAS (matrix products) and NVRTC (kernels) are separate
    # libraries with versions of their own.
    properties = cupy.cuda.runtime.getDeviceProperties(index)
    with cupy.cuda.Device(index):
        blas = cupy.cuda.cublas.getVersion(cupy.cuda.get_cublas_handle())
    return {
        f"cuda:{index}": _text(properties["name"]),
        "CuPy": cupy.__version__,
        "CUDA": str(cupy.cuda.runtime.runtimeGetVersion()),
        "cuBLAS": str(blas),
        "NVRTC": ".".join(map(str, cupy.cuda.nvrtc.getVersion())),
        "TF32": os.environ.get("CUPY_TF32", "0"),
        "cuBLAS workspace": os.environ.get("CUBLAS_WORKSPACE_CONFIG", "default"),
    }


def _text(name):
    return name.decode() if isinstance(name, bytes) else name  # versions of CuPy differ

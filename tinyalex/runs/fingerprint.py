"""On what the last bits of a result depend: versions, threads, the processor's products, the cards.

A run that goes on where all of this is the same goes on with the same bits. Where something differs it is as correct,
but a sum may be taken in another order. What is compared is what was found here, and a hash of small results that are
known to differ (products of a few shapes, exponentials, sums), since a name may stay the same where the code does not.
"""

import hashlib
import os
import platform
from functools import cache

import numpy as np

from tinyalex import __version__, randomness
from tinyalex.devices.parallel import workers


def take(devices):
    """Describe this machine and this process, as far as they decide a result's last bits.

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
            found |= _card(device.xp, device.index)
    return found


def differences(then, now):
    """Say what has changed from one `take` to another: ``"threads 2, now 1"``; "" if nothing has."""
    keys = [*then, *(key for key in now if key not in then)]
    changed = [key for key in keys if then.get(key) != now.get(key)]
    return ", ".join(f"{key} {then.get(key, 'nothing')}, now {now.get(key, 'nothing')}" for key in changed)


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
    # Shapes whose products differ between one BLAS kernel, or number of its threads, and another.
    workers()  # from now on BLAS uses one thread, as it does in training
    digest, key = hashlib.sha256(), randomness.key(0, "fingerprint")
    for rows, inner, columns in ((96, 2420, 363), (1, 4096, 100), (64, 1600, 48)):
        a = randomness.bits(key, np.arange(rows)[:, None], np.arange(inner)).astype(np.float32) / 2**32 - 0.5
        b = randomness.bits(key, np.arange(inner)[:, None], np.arange(columns)).astype(np.float32) / 2**32
        for result in (a @ b, np.exp(a), np.log(b + 1), np.tanh(a), np.sqrt(b), a.sum(axis=0), b.sum()):
            digest.update(np.ascontiguousarray(result))
    return digest.hexdigest()[:16]


def _card(cupy, index):
    # "CUDA" is what CuPy was linked with; products and kernels come from two libraries that are installed apart.
    properties = cupy.cuda.runtime.getDeviceProperties(index)
    with cupy.cuda.Device(index):
        blas = cupy.cuda.cublas.getVersion(cupy.cuda.get_cublas_handle())
    return {
        f"cuda:{index}": properties["name"].decode(),
        "CuPy": cupy.__version__,
        "CUDA": str(cupy.cuda.runtime.runtimeGetVersion()),
        "cuBLAS": str(blas),
        "NVRTC": ".".join(map(str, cupy.cuda.nvrtc.getVersion())),
        "TF32": os.environ.get("CUPY_TF32", "0"),
    }

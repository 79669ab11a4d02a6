"""Describes this machine: processor, BLAS, threads, versions."""

import os
import platform
import time
from importlib import metadata

from tinyalex import __version__
from tinyalex.devices import parallel

# OpenBLAS's names for x86 processors, by the widest instructions of their kernels; all others use SSE.
_INSTRUCTIONS = ("SSE", "AVX", "AVX2", "AVX-512")
_KERNELS = {
    1: {"sandybridge", "bulldozer", "piledriver", "steamroller"},
    2: {"haswell", "excavator", "zen"},
    3: {"skylakex", "cooperlake", "sapphirerapids"},
}
_FLAGS = {1: {"avx"}, 2: {"avx2", "fma"}, 3: {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}}


def versions():
    """Return the machine's description: ``{"Python": "3.11.7", ...}``."""
    from threadpoolctl import threadpool_info

    blas = [each for each in threadpool_info() if each["user_api"] == "blas"] or [{}]
    name, version = blas[0].get("internal_api", "unknown"), blas[0].get("version") or ""
    kernels = f" ({blas[0]['architecture']})" if blas[0].get("architecture") else ""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "CPU": _processor(),
        "processors": os.cpu_count(),
        "threads": parallel.workers().threads,
        "system": f"{platform.system()} {platform.machine()}",
        "tinyalex": __version__,
        "Python": platform.python_version(),
        "NumPy": metadata.version("numpy"),
        "BLAS": f"{name} {version}{kernels}",
    }


def slow_blas():
    """Return a line if NumPy's BLAS computes with narrower instructions than this processor has, else None.

    Known for OpenBLAS on x86 under Linux. If nobody chose its kernels by ``OPENBLAS_CORETYPE``, AVX2 in place of
    AVX-512 is OpenBLAS's own choice, and no finding.
    """
    from threadpoolctl import threadpool_info

    flags = set(_cpuinfo("flags").split())
    used = next((each.get("architecture") for each in threadpool_info() if each["internal_api"] == "openblas"), None)
    if not flags or not used:
        return None
    possible = max((level for level, needed in _FLAGS.items() if needed <= flags), default=0)
    level = next((level for level, names in _KERNELS.items() if used.lower() in names), 0)
    chosen = os.environ.get("OPENBLAS_CORETYPE")
    if level >= (possible if chosen else min(possible, 2)):
        return None
    remedy = "unset OPENBLAS_CORETYPE" if chosen else "install a newer NumPy: pip install --upgrade numpy"
    cause = f" (OPENBLAS_CORETYPE={chosen})" if chosen else ""
    return (
        f"BLAS: the kernels for {used}{cause} use {_INSTRUCTIONS[level]}, but this processor has "
        f"{_INSTRUCTIONS[possible]}, which may be twice as fast; {remedy}"
    )


def _processor():
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(key):
    # What Linux says of the first processor.
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next((line.split(":", 1)[1].strip() for line in file if line.startswith(key)), "")
    except OSError:
        return ""

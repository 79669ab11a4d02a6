"""Describes this machine: processor, BLAS, threads, versions."""

import os
import platform
import time
from importlib import metadata

from tinyalex import __version__
from tinyalex.devices import parallel


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


def _processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()

"""What the machine can do at best, measured beside the contenders; and what it is."""

import os
import platform
import time
from importlib import metadata

import numpy as np

from tinyalex import __version__, parallel

SIDE = 2048  # of the matrices
NUMBERS = 1 << 26  # float32 numbers to copy, 256 MiB: more than caches hold


class Machine:
    """Products and copies of float32 numbers, with the BLAS and the threads of our side.

    Parameters
    ----------
    task : dict
        As `tinyalex.bench.measure` sends it.
    """

    def __init__(self, task):
        parallel.set_threads(task["threads"])
        side, numbers = task.get("side", SIDE), task.get("numbers", NUMBERS)
        self._a, self._b, self._out = (np.ones((side, side), np.float32) for _ in range(3))
        self._source, self._target = (np.ones(numbers, np.float32) for _ in range(2))
        self._work = {"sgemm_one": 2 * side**3, "sgemm_all": 2 * side**3, "copy": 8 * numbers}

    def ready(self):
        """Say how much work each action is: multiplications and additions, or bytes read and written."""
        return {"work": self._work, "versions": versions()}

    def sgemm_one(self):
        """Multiply two matrices on one thread."""
        np.matmul(self._a, self._b, out=self._out)

    def sgemm_all(self):
        """Multiply two matrices, each thread a part of the rows."""
        self._share(len(self._a), lambda part: np.matmul(self._a[part], self._b, out=self._out[part]))

    def copy(self):
        """Copy memory, each thread a part."""
        self._share(len(self._source), lambda part: np.copyto(self._target[part], self._source[part]))

    @staticmethod
    def _share(size, action):
        parallel.workers().run(action, parallel.ranges(size, parallel.workers().count))


def versions():
    """Say what computes here: ``{"Python": "3.11.7", ...}``."""
    from threadpoolctl import threadpool_info

    blas = [each for each in threadpool_info() if each["user_api"] == "blas"] or [{}]
    name, version = blas[0].get("internal_api", "unknown"), blas[0].get("version") or ""
    kernels = f" ({blas[0]['architecture']})" if blas[0].get("architecture") else ""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "CPU": _processor(),
        "processors": os.cpu_count(),
        "threads": parallel.workers().count,
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

"""What the machine can do at best, measured beside the contenders; and what it is."""

import sys

import numpy as np

from tinyalex.devices import parallel
from tinyalex.devices.machine import versions

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


def peak():
    """Return the most memory that this process has had at once, bytes."""
    import resource

    try:
        with open("/proc/self/status", encoding="ascii") as file:
            # ru_maxrss would do, but for what a process inherits from the one that started it.
            return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def described(result):
    """Say on what it was measured."""
    versions = dict(result["versions"])
    card = f"{versions.pop('card')}, " if "card" in versions else ""
    first = f"{card}{versions.pop('CPU')}, {versions.pop('processors')} processors, {versions.pop('threads')} threads"
    others = ", ".join(f"{name} {version}" for name, version in versions.items() if name not in ("date", "system"))
    return f"{first}, {versions['system']}, {others}; {versions['date']}"

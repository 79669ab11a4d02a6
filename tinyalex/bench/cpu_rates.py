"""The CPU's rates of float32 matrix products and copies, measured beside the contenders."""

import numpy as np

from tinyalex.devices import parallel
from tinyalex.devices.machine import versions

SIDE = 2048  # of the matrices
NUMBERS = 1 << 26  # float32 numbers to copy, 256 MiB: more than caches hold


class CpuRates:
    """Matrix products and copies of float32 numbers, with the BLAS and the threads that tinyalex uses.

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
        """Return versions and the work of each action: multiplications and additions, or bytes read and written."""
        return {"work": self._work, "versions": versions()}

    def sgemm_one(self):
        """Multiply two matrices on one thread."""
        np.matmul(self._a, self._b, out=self._out)

    def sgemm_all(self):
        """Multiply two matrices; each thread computes some of the rows."""
        self._share(len(self._a), lambda part: np.matmul(self._a[part], self._b, out=self._out[part]))

    def copy(self):
        """Copy memory; each thread copies a part."""
        self._share(len(self._source), lambda part: np.copyto(self._target[part], self._source[part]))

    @staticmethod
    def _share(size, action):
        parallel.workers().run(action, parallel.ranges(size, parallel.workers().count))

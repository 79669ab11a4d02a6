"""A GPU's rates of matrix products and copies, measured beside the contenders."""

import numpy as np

from tinyalex.bench import net
from tinyalex.bench.hardware import gpu_versions
from tinyalex.bench.kernel_rates import NUMBERS, copy_action
from tinyalex.devices import parallel
from tinyalex.devices.machine import versions

SIDE = {"cuda": 8192, "fake": 256}  # of the matrices


class GpuRates:
    """Copies of float32 numbers, and matrix products in one precision, on one device.

    Parameters
    ----------
    task : dict
        As `tinyalex.bench.measure` sends it; "tf32" and "bf16" say the precision. In "bf16" matrices are stored so.
    """

    def __init__(self, task):
        parallel.set_threads(task["threads"])
        self.device = net.device(task["devices"][0], net.precision(task))
        side, numbers = SIDE[self.device.kind], NUMBERS if self.device.kind == "cuda" else 1 << 20
        with self.device as device:
            matrices = [device.put(np.ones((side, side), np.float32)) for _ in range(3)]
            stored = map(device.rounded, matrices) if device.precision == "bf16" else matrices
            self._a, self._b, self._out = stored
            self._copy, size = copy_action(device, numbers)
        products = ("product_tf32", "product_float32", "product_bf16")
        self._work = dict.fromkeys(products, 2 * side**3) | {"copy": size}

    def ready(self):
        """Return versions and the work of each action: multiplications and additions, or bytes read and written."""
        tf32 = net.rounds_to_tf32(self.device, self.device.matmul)
        return {"work": self._work, "tf32": tf32, "versions": versions() | gpu_versions(self.device)}

    def product(self):
        """Multiply two matrices."""
        with self.device:
            self.device.matmul(self._a, self._b, out=self._out)

    product_tf32 = product_float32 = product_bf16 = product  # the device decides which of them it is

    def copy(self):
        """Copy memory from the device to itself."""
        with self.device:
            self._copy()

    def synchronize(self):
        """Wait for the device."""
        self.device.synchronize()

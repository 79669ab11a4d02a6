"""What a card can do at best, measured beside the contenders; and what it is."""

import numpy as np

from tinyalex.bench import machine, net
from tinyalex.bench.kernel_rates import NUMBERS, copying
from tinyalex.devices import parallel

SIDE = {"cuda": 8192, "fake": 256}  # of the matrices


class Card:
    """Products and copies of float32 numbers on one device.

    Parameters
    ----------
    task : dict
        As `tinyalex.bench.measure` sends it; with "tf32" or without.
    """

    def __init__(self, task):
        parallel.set_threads(task["threads"])
        self.device = net.device(task["devices"][0], task["tf32"])
        side, numbers = SIDE[self.device.kind], NUMBERS if self.device.kind == "cuda" else 1 << 20
        with self.device as device:
            self._a, self._b, self._out = (device.put(np.ones((side, side), np.float32)) for _ in range(3))
            self._copy, size = copying(device, numbers)
        self._work = {"product_tf32": 2 * side**3, "product_float32": 2 * side**3, "copy": size}

    def ready(self):
        """Say how much work each action is: multiplications and additions, or bytes read and written."""
        rounds = net.rounds(self.device, self.device.matmul)
        return {"work": self._work, "rounds": rounds, "versions": machine.versions() | card(self.device)}

    def product(self):
        """Multiply two matrices."""
        with self.device:
            self.device.matmul(self._a, self._b, out=self._out)

    product_tf32 = product_float32 = product  # which of them it is was decided with the device

    def copy(self):
        """Copy memory from the device to itself."""
        with self.device:
            self._copy()

    def settle(self):
        """Wait for the device."""
        self.device.synchronize()


def card(device):
    """Say what a device is: ``{"card": "NVIDIA H200", ...}``; for a pretend device only that."""
    if device.kind != "cuda":
        return {"card": f"none ({device.name} stands for one)"}
    runtime = device.xp.cuda.runtime
    found = runtime.getDeviceProperties(device.index)
    return {
        "card": f"{_text(found['name'])} ({found['totalGlobalMem'] / 2**30:.0f} GiB)",
        "CuPy": device.xp.__version__,
        "CUDA": _version(runtime.runtimeGetVersion()),
        "driver's CUDA": _version(runtime.driverGetVersion()),
    }


def _text(name):
    return name.decode() if isinstance(name, bytes) else name


def _version(number):
    return f"{number // 1000}.{number % 1000 // 10}"

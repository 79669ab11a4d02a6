"""How much memory a contender has used."""

import sys


def gpu_memory(device):
    """Return the bytes that CuPy's pool has taken from a GPU so far, 0 on other devices."""
    return device.xp.get_default_memory_pool().total_bytes() if device.kind == "cuda" else 0


def peak_memory():
    """Return the largest amount of memory that this process has had at once, in bytes."""
    import resource

    try:
        with open("/proc/self/status", encoding="ascii") as file:
            # Not ru_maxrss: on Linux a process inherits the value of the process that started it.
            return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

"""Measure how fast single kernels read and write memory, relative to a copy on the same device."""

from tinyalex.bench import timestamps

REPEATS = 20
WARMUP = 3
NUMBERS = 1 << 26  # float32 numbers of the copy that kernels are compared with: 256 MiB


def kernel_rates(device, calls, numbers=NUMBERS):
    """Time kernels one after the other.

    Parameters
    ----------
    device : Device
    calls : list of (str, int, callable)
        Name, bytes that a call has to read and write, and the call itself.
    numbers : int
        How many float32 numbers the copy moves.

    Returns
    -------
    list of dict
        "name", "bytes", "seconds" of one call, "rate" in bytes a second, and "share" of the copy's rate. The copy
        is the first.
    """
    with device:
        call, size = copy_action(device, numbers)
        rows = [_timed(device, "copy", size, call)]
        rows += [_timed(device, *kernel) for kernel in calls]
    return [row | {"share": row["rate"] / rows[0]["rate"]} for row in rows]


def copy_action(device, numbers):
    """Return a call that copies float32 numbers from the device to itself, and the bytes that it reads and writes."""
    source, target = (device.zeros((numbers,), "float32") for _ in range(2))

    return lambda: device.xp.copyto(target, source), 8 * numbers


def _timed(device, name, size, call):
    for _ in range(WARMUP):
        call()
    device.synchronize()
    start = timestamps.stamp(device)
    for _ in range(REPEATS):
        call()
    taken = timestamps.seconds(device, start, timestamps.stamp(device)) / REPEATS
    return {"name": name, "bytes": size, "seconds": taken, "rate": size / taken}

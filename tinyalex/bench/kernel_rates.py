"""How fast single kernels move memory, as a share of what a copy does on the same device."""

from tinyalex.bench import stamps

REPEATS = 20
LEAD = 3
NUMBERS = 1 << 26  # float32 numbers of the copy that kernels are held to: 256 MiB


def kernel_rates(device, calls, numbers=NUMBERS):
    """Time kernels one after the other.

    Parameters
    ----------
    device : Device
    calls : list of (str, int, callable)
        Name, bytes that a call has to read and write, and the call itself.
    numbers : int
        How many float32 numbers the copy takes.

    Returns
    -------
    list of dict
        "name", "bytes", "seconds" of one call, "rate" in bytes a second, and "share" of the copy's rate; the copy comes
        first.
    """
    with device:
        call, size = copying(device, numbers)
        rows = [_timed(device, "copy", size, call)]
        rows += [_timed(device, *each) for each in calls]
    return [row | {"share": row["rate"] / rows[0]["rate"]} for row in rows]


def copying(device, numbers):
    """Return a call that copies float32 numbers from the device to itself, and the bytes that it reads and writes."""
    source, target = (device.zeros((numbers,), "float32") for _ in range(2))

    return lambda: device.xp.copyto(target, source), 8 * numbers


def _timed(device, name, size, call):
    for _ in range(LEAD):
        call()
    device.synchronize()
    start = stamps.stamp(device)
    for _ in range(REPEATS):
        call()
    taken = stamps.seconds(device, start, stamps.stamp(device)) / REPEATS
    return {"name": name, "bytes": size, "seconds": taken, "rate": size / taken}

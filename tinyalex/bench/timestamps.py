"""Time stamps in a device's work: on a GPU events in its stream, for which the host need not wait; else the clock."""

import time


def stamp(device):
    """Return a time stamp that the device sets when it has done the work issued so far."""
    if device.kind != "cuda":
        return time.perf_counter()
    with device:
        event = device.xp.cuda.Event()
        device.stream.record(event)
    return event


def seconds(device, start, end):
    """Return the time between two stamps; waits until the device has set the later one."""
    if device.kind != "cuda":
        return end - start
    end.synchronize()
    return device.xp.cuda.get_elapsed_time(start, end) / 1000

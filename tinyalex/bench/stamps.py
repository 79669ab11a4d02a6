"""Moments in a device's work: on a card events in its stream, which take no waiting, elsewhere the clock."""

import time


def stamp(device):
    """Mark the moment when a device will have done what it was asked for so far."""
    if device.kind != "cuda":
        return time.perf_counter()
    with device:
        event = device.xp.cuda.Event()
        device.stream.record(event)
    return event


def seconds(device, start, end):
    """Return the time between two stamps; waits for the later one."""
    if device.kind != "cuda":
        return end - start
    end.synchronize()
    return device.xp.cuda.get_elapsed_time(start, end) / 1000


def lengths(device, moments):
    """Return ``{name: seconds since the stamp before}`` of a list of (name, stamp); the first begins."""
    pairs = zip(moments, moments[1:], strict=False)
    return {name: seconds(device, start, end) for (_, start), (name, end) in pairs}

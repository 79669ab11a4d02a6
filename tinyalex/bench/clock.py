"""One sample: the time that an action takes, and how much of the processors others used meanwhile."""

import os
import time
from typing import NamedTuple


class Reading(NamedTuple):
    """The clocks at one moment, in seconds.

    Attributes
    ----------
    wall : float
    own : float
        Processor time of this process, all its threads together.
    busy : float or None
        Processor time of everybody, what a hypervisor gave to others included; None where the system does not tell.
    processors : int
    """

    wall: float
    own: float
    busy: float | None
    processors: int


def reading():
    """Read all clocks."""
    busy, processors = None, os.cpu_count() or 1
    try:
        with open("/proc/stat", encoding="ascii") as file:
            lines = [line.split() for line in file if line.startswith("cpu")]
        user, nice, system, _idle, _waiting, hard, soft, stolen = map(int, lines[0][1:9])
        busy = (user + nice + system + hard + soft + stolen) / os.sysconf("SC_CLK_TCK") or None
        processors = len(lines) - 1
    except (OSError, ValueError, IndexError):  # not Linux
        pass
    return Reading(time.perf_counter(), time.process_time(), busy, processors)


def foreign(before, after):
    """Return the share of all processors, 0 to 1, that others used between two readings; None if unknown."""
    if before.busy is None or after.busy is None:
        return None
    others = (after.busy - before.busy) - (after.own - before.own)
    return max(0.0, others / ((after.wall - before.wall) * after.processors))


def sample(action, least=0.0, settle=lambda: None, lead=0, count=1):
    """Time an action, again and again until ``least`` seconds have passed.

    Parameters
    ----------
    action : callable
        Returns a dict of numbers, or None.
    least : float
        The kernel counts in hundredths of a second: quick actions are repeated for their share of others' use.
    settle : callable
        Waits until all that was asked for is done: a card works while it is asked for more. The time ends with it.
    lead : int
        Actions before the time begins.
    count : int
        Actions at least.

    Returns
    -------
    dict
        "seconds" of one action, "issue", those until the last was asked for, "repeats", "foreign", and "values", the
        means of what the action returned.
    """
    for _ in range(lead):
        action()
    settle()
    results, before = [], reading()
    while True:
        results.append(action() or {})
        asked = time.perf_counter() - before.wall
        if asked >= least and len(results) >= count:
            break
    settle()
    after = reading()
    return {
        "seconds": (after.wall - before.wall) / len(results),
        "issue": asked / len(results),
        "repeats": len(results),
        "foreign": foreign(before, after),
        "values": {key: sum(result[key] for result in results) / len(results) for key in results[0]},
    }

"""Time an action, and measure how much of the processors other programs used at the same time."""

import os
import time
from typing import NamedTuple


class Clocks(NamedTuple):
    """The clocks at one moment, in seconds.

    Attributes
    ----------
    wall : float
    own : float
        Processor time of this process, the sum over its threads.
    busy : float or None
        Processor time of all programs, including what a hypervisor gave to other machines; None if the system does not
        report it.
    processors : int
    """

    wall: float
    own: float
    busy: float | None
    processors: int


def read_clocks():
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
    return Clocks(time.perf_counter(), time.process_time(), busy, processors)


def foreign_share(before, after):
    """Return the share of all processors, 0 to 1, that other programs used between two `Clocks`; None if unknown."""
    if before.busy is None or after.busy is None:
        return None
    others = (after.busy - before.busy) - (after.own - before.own)
    return max(0.0, others / ((after.wall - before.wall) * after.processors))


def sample(action, least=0.0, synchronize=lambda: None, warmup=0, count=1):
    """Time an action, repeated until ``least`` seconds have passed.

    Parameters
    ----------
    action : callable
        Returns a dict of numbers, or None.
    least : float
        Seconds. The kernel counts processor time in hundredths of a second, so quick actions have to be repeated for
        the share of other programs to be known.
    synchronize : callable
        Waits for the work that was issued to a GPU; the measured time ends when it returns.
    warmup : int
        Actions before the measured ones.
    count : int
        The smallest number of measured actions.

    Returns
    -------
    dict
        "seconds" of one action; "issue", the seconds until an action was issued, without waiting for a GPU; "repeats";
        "foreign", from `foreign_share`; and "values", the means of what the action returned.
    """
    for _ in range(warmup):
        action()
    synchronize()
    results, before = [], read_clocks()
    while True:
        results.append(action() or {})
        issued = time.perf_counter() - before.wall
        if issued >= least and len(results) >= count:
            break
    synchronize()
    after = read_clocks()
    return {
        "seconds": (after.wall - before.wall) / len(results),
        "issue": issued / len(results),
        "repeats": len(results),
        "foreign": foreign_share(before, after),
        "values": {key: sum(result[key] for result in results) / len(results) for key in results[0]},
    }

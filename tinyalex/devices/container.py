"""What a container leaves to this process: CPU time, memory and processes, as Linux's control groups limit them.

A process belongs to a group, that to the group around it, and so on, and each may have limits: the strictest counts.
Version 2 keeps all limits of a group in one folder; version 1 has a tree of folders for each kind of limit; a machine
may use both. Outside Linux, and where the files cannot be read, there are no limits.

Sources: Linux's Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst; cgroups(7); proc_pid_mountinfo(5).
"""

from pathlib import Path

ROOT = Path("/")  # of the file system, for tests
_MOUNTED = "sys/fs/cgroup"  # where groups usually are, if /proc does not say


def cpus():
    """Return how many processors' time this process may use, such as 1.5; None if there is no limit."""
    found = []
    for folder in _folders("cpu"):
        old = [_number(folder / name) for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")]  # of version 1
        for quota, period, *_ in (old, [*_numbers(folder / "cpu.max"), None, None]):
            if quota and period:
                found.append(quota / period)
    return min(found, default=None)


def memory():
    """Return the limit of this process's memory and what is free below it, in bytes; None, None if there is no limit.

    What the limit counts includes files in the cache. The system drops these when the memory is needed, so they are
    free here.
    """
    limits, free = [], []
    for folder in _folders("memory"):
        stat = _table(folder / "memory.stat")
        own = [_number(folder / name) for name in ("memory.max", "memory.high", "memory.limit_in_bytes")]
        own = [limit for limit in [*own, stat.get("hierarchical_memory_limit")] if limit is not None]
        used = [_number(folder / name) for name in ("memory.current", "memory.usage_in_bytes")]
        cached = sum(stat.get(f"total_{name}", stat.get(name, 0)) for name in ("active_file", "inactive_file"))
        limits += own
        free += [max(0, min(own) - max(0, each - cached)) for each in used if own and each is not None]
    return min(limits, default=None), min(free, default=None)


def processes():
    """Return how many processes and threads may exist beside each other; None if there is no limit."""
    found = [_number(folder / "pids.max") for folder in _folders("pids")]
    return min((limit for limit in found if limit is not None), default=None)


def limit_of_processes():
    """Return a few words about what limits the number of processes and threads."""
    limit = processes()
    return "see ulimit -u" if limit is None else f"the container allows {limit:,} processes and threads"


def _folders(controller):
    # The folders of this process's group for a kind of limit, and of the groups around it, in both versions.
    groups = {}
    for line in _lines(ROOT / "proc/self/cgroup"):
        _, names, path = (line.split(":", 2) + ["", ""])[:3]
        groups |= dict.fromkeys(names.split(","), path)  # version 2 has no names
    mounts = list(_mounts(controller)) or [(ROOT / _MOUNTED, "/", ""), (ROOT / _MOUNTED / controller, "/", controller)]
    for folder, top, name in mounts:
        group, top = groups.get(name, "/"), top.rstrip("/")
        # A container may see only a part of the tree, and its group under a name that counts from elsewhere.
        below = Path(group[len(top) :].strip("/") if f"{group}/".startswith(f"{top}/") else "")
        yield folder / below
        yield from (folder / parent for parent in below.parents)


def _mounts(controller):
    # Yield (where a tree of groups is mounted, which of its groups is mounted there, its name in /proc/self/cgroup).
    for line in _lines(ROOT / "proc/self/mountinfo"):
        mount, _, system = line.partition(" - ")
        mount, system = mount.split(" "), system.split(" ")
        if len(mount) < 5 or len(system) < 3:
            continue
        name = {"cgroup2": "", "cgroup": controller}.get(system[0])
        if name == "" or (name and name in system[2].split(",")):
            yield ROOT / mount[4].replace("\\040", " ").lstrip("/"), mount[3], name


def _lines(path):
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _numbers(path):
    # The numbers of a file's first line; None for "max" and for -1, which are no limit.
    return [int(word) if word.isdecimal() else None for line in _lines(path)[:1] for word in line.split()]


def _number(path):
    return next(iter(_numbers(path)), None)


def _table(path):
    pairs = [line.split() for line in _lines(path)]
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}

"""Limits of containers, from made-up trees of files as Linux has them, and from real control groups where possible."""

import json
import os
import subprocess
import sys

import pytest
from PIL import Image

from tests.support import prepared_sets
from tests.support.small_runs import small
from tinyalex.devices import container, parallel
from tinyalex.network import memory
from tinyalex.recipes.recipe import to_toml

GIB = 2**30
V2 = "31 23 0:28 / /sys/fs/cgroup rw,nosuid,relatime shared:9 - cgroup2 cgroup rw,nsdelegate"
UNLIMITED = str(2**63 - 4096)  # in version 1


def v1(*controllers, top="/", at=None):
    names = ",".join(controllers)
    return f"35 31 0:32 {top} {at or '/sys/fs/cgroup/' + names} rw,relatime shared:12 - cgroup cgroup rw,{names}"


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Return a function that makes files below a pretended root folder."""
    monkeypatch.setattr(container, "ROOT", tmp_path)

    def make(mounts=(), groups=(), **files):
        texts = {"proc/self/mountinfo": "\n".join(mounts), "proc/self/cgroup": "\n".join(groups)}
        for name, text in (texts | files.pop("files", {}) | files).items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
        return tmp_path

    return make


def test_without_any_of_the_files_there_is_no_limit(tree):
    assert (container.cpus(), container.memory(), container.processes()) == (None, (None, None), None)
    tree([V2], ["0::/"])
    assert (container.cpus(), container.memory(), container.processes()) == (None, (None, None), None)


def test_a_container_with_version_2(tree):
    tree(
        [V2],
        ["0::/"],
        files={
            "sys/fs/cgroup/cpu.max": "150000 100000",
            "sys/fs/cgroup/memory.max": str(4 * GIB),
            "sys/fs/cgroup/memory.current": str(3 * GIB),
            "sys/fs/cgroup/memory.stat": f"anon {GIB}\nactive_file {GIB // 2}\ninactive_file {GIB}\nslab 7",
            "sys/fs/cgroup/pids.max": "100",
        },
    )
    assert (container.cpus(), container.processes()) == (1.5, 100)
    assert container.memory() == (4 * GIB, 2.5 * GIB)  # files in the cache are free


def test_max_is_no_limit(tree):
    names = ("cpu.max", "memory.max", "memory.high", "pids.max")
    tree([V2], ["0::/"], files={f"sys/fs/cgroup/{name}": "max" for name in names})
    assert (container.cpus(), container.memory(), container.processes()) == (None, (None, None), None)
    tree([V2], ["0::/"], files={"sys/fs/cgroup/cpu.max": "max 100000"})
    assert container.cpus() is None


@pytest.mark.parametrize("strict", ["outer", "outer/middle", "outer/middle/inner"])
def test_the_strictest_group_counts_wherever_it_is(tree, strict):
    files = {}
    for group in ("outer", "outer/middle", "outer/middle/inner"):
        part = 1 if group == strict else 2
        files |= {
            f"sys/fs/cgroup/{group}/cpu.max": f"{part * 200000} 100000",
            f"sys/fs/cgroup/{group}/memory.max": str(part * 4 * GIB),
            f"sys/fs/cgroup/{group}/memory.current": str(3 * GIB),
            f"sys/fs/cgroup/{group}/pids.max": str(part * 50),
        }
    tree([V2], ["0::/outer/middle/inner"], files=files)
    assert (container.cpus(), container.memory(), container.processes()) == (2, (4 * GIB, GIB), 50)


def test_the_limit_may_be_in_one_group_and_the_least_room_in_another(tree):
    files = {
        "sys/fs/cgroup/a/memory.max": 8 * GIB,
        "sys/fs/cgroup/a/memory.current": 7 * GIB,  # others use most of it
        "sys/fs/cgroup/a/b/memory.max": 4 * GIB,
        "sys/fs/cgroup/a/b/memory.current": GIB,
    }
    tree([V2], ["0::/a/b"], files=files)
    assert container.memory() == (4 * GIB, GIB)


def test_memory_above_which_a_group_is_slowed_down_is_a_limit_too(tree):
    files = {"memory.max": "max", "memory.high": 2 * GIB, "memory.current": GIB}
    tree([V2], ["0::/x"], files={f"sys/fs/cgroup/x/{name}": text for name, text in files.items()})
    assert container.memory() == (2 * GIB, GIB)


def test_version_1_with_a_tree_for_each_kind_of_limit(tree):
    tree(
        [v1("cpu", "cpuacct"), v1("memory"), v1("pids")],
        ["4:pids:/job", "3:cpu,cpuacct:/job/step", "2:memory:/job/step", "1:name=systemd:/user"],
        files={
            "sys/fs/cgroup/cpu,cpuacct/job/step/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu,cpuacct/job/step/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "250000",
            "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/memory/job/step/memory.limit_in_bytes": UNLIMITED,
            "sys/fs/cgroup/memory/job/step/memory.usage_in_bytes": str(GIB),
            "sys/fs/cgroup/memory/job/memory.limit_in_bytes": str(3 * GIB),
            "sys/fs/cgroup/memory/job/memory.usage_in_bytes": str(2 * GIB),
            "sys/fs/cgroup/memory/job/memory.stat": f"inactive_file 5\ntotal_active_file {GIB}\ntotal_inactive_file 0",
            "sys/fs/cgroup/pids/job/pids.max": "64",
        },
    )
    assert (container.cpus(), container.memory(), container.processes()) == (2.5, (3 * GIB, 2 * GIB), 64)


def test_version_1_without_a_limit(tree):
    tree(
        [v1("memory"), v1("cpu")],
        ["2:memory:/", "1:cpu:/"],
        files={
            "sys/fs/cgroup/memory/memory.limit_in_bytes": UNLIMITED,
            "sys/fs/cgroup/memory/memory.usage_in_bytes": str(GIB),
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        },
    )
    assert container.cpus() is None
    assert memory.host()[0] == memory.machine()[0]


def test_version_1_names_the_limit_of_groups_that_the_container_does_not_see(tree):
    stat = f"hierarchical_memory_limit {2 * GIB}"
    tree(
        [v1("memory", top="/docker/42", at="/sys/fs/cgroup/memory")],
        ["5:memory:/docker/42"],
        files={
            "sys/fs/cgroup/memory/memory.limit_in_bytes": UNLIMITED,
            "sys/fs/cgroup/memory/memory.usage_in_bytes": str(GIB),
            "sys/fs/cgroup/memory/memory.stat": stat,
        },
    )
    assert container.memory() == (2 * GIB, GIB)


@pytest.mark.parametrize(
    ("top", "group", "folder"),
    [
        ("/docker/42", "/docker/42", ""),  # the container sees its own group as the mounted one
        ("/docker/42", "/docker/42/inner", "/inner"),
        ("/docker/4", "/docker/42", ""),  # another group whose name begins in the same way
        ("/../..", "/../other", ""),  # names that count from the group of a namespace
        ("/", "/a/b", "/a/b"),
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_the_group_is_found_below_what_is_mounted(tree, top, group, folder, version):
    if version == 1:
        mount, line, name = v1("pids", top=top), f"8:pids:{group}", "sys/fs/cgroup/pids"
    else:
        mount, line, name = V2.replace(" / ", f" {top} ", 1), f"0::{group}", "sys/fs/cgroup"
    tree([mount], [line], files={f"{name}{folder}/pids.max": "33"})
    assert container.processes() == 33


def test_both_versions_at_once(tree):
    """Version 1 has the limits of memory, version 2, at another place, that of processes."""
    tree(
        [v1("memory"), V2.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified")],
        ["3:memory:/a", "0::/b"],
        files={
            "sys/fs/cgroup/memory/a/memory.limit_in_bytes": str(GIB),
            "sys/fs/cgroup/memory/a/memory.usage_in_bytes": "0",
            "sys/fs/cgroup/unified/b/pids.max": "9",
            "sys/fs/cgroup/unified/b/memory.events": "low 0",
        },
    )
    assert (container.memory(), container.processes(), container.cpus()) == ((GIB, GIB), 9, None)


def test_a_mount_whose_name_has_a_space(tree):
    tree([V2.replace("/sys/fs/cgroup", "/sys/my\\040groups")], ["0::/"], files={"sys/my groups/pids.max": "5"})
    assert container.processes() == 5


@pytest.mark.parametrize("missing", ["proc/self/mountinfo", "proc/self/cgroup"])
@pytest.mark.parametrize("version", [1, 2])
def test_without_one_of_the_files_of_proc_the_usual_folders_are_read(tree, missing, version):
    folder, mount = ("sys/fs/cgroup/pids", v1("pids")) if version == 1 else ("sys/fs/cgroup", V2)
    root = tree([mount], [["1:pids:/"], ["0::/"]][version - 1], files={f"{folder}/pids.max": "7"})
    (root / missing).unlink()
    assert container.processes() == 7


@pytest.mark.parametrize("text", ["", "\n", "many", "-5", "100 0", "0 100000", "1e3 1e5", "\x00\xff"])
def test_files_with_other_contents_are_no_limit(tree, text):
    tree([V2, "odd line", "1 2 3 - cgroup2"], ["0::/", "odd"], files={"sys/fs/cgroup/cpu.max": text})
    assert container.cpus() is None


def test_files_that_cannot_be_read_are_no_limit(tree):
    root = tree([V2], ["0::/"])
    for name in ("cpu.max", "memory.max", "memory.current", "memory.stat", "pids.max"):
        (root / "sys/fs/cgroup" / name).mkdir(parents=True)  # reading a folder fails, also for root
    assert (container.cpus(), container.memory(), container.processes()) == (None, (None, None), None)


@pytest.mark.parametrize(
    ("quota", "processors"), [("50000 100000", 1), ("100000 100000", 1), ("150000 100000", 2), ("max 100000", 8)]
)
def test_default_number_of_threads_is_the_share_of_processor_time_rounded_up(tree, monkeypatch, quota, processors):
    tree([V2], ["0::/"], files={"sys/fs/cgroup/cpu.max": quota})
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    assert parallel.processors() == processors
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3}, raising=False)
    assert parallel.processors() == 1


def test_memory_of_this_process_is_that_of_the_container(tree):
    tree(
        [V2],
        ["0::/"],
        files={"sys/fs/cgroup/memory.max": "1000000", "sys/fs/cgroup/memory.current": "400000"},
    )
    assert memory.host() == (1_000_000, 600_000)
    tree(files={"sys/fs/cgroup/memory.max": str(2**60)})  # a limit above the memory that there is
    assert memory.host()[0] == memory.machine()[0] > 1_000_000


# Real groups, where this process may make some.


@pytest.fixture
def group():
    """Return a function that makes a real group with a limit, and runs Python in it."""
    made = []

    def run(controller, limits, code, **options):
        name_here = f"tinyalex-{os.getpid()}"
        for top, _, name in container._mounts(controller):
            for folder, below in ((top / name_here, False), (top / name_here / "inner", True)):
                try:
                    folder.mkdir()
                except OSError as error:
                    pytest.skip(f"no control group can be made here: {error}")
                made.append(folder)
                for file, value in limits.items() if not below else ():
                    if not (folder / file).exists():
                        pytest.skip(f"control groups of version {1 if name else 2} have no {file} here")
                    (folder / file).write_text(value)
            inner = folder / "cgroup.procs"
            script = f"import os\nopen({str(inner)!r}, 'w').write(str(os.getpid()))\n{code}"
            env = {key: value for key, value in os.environ.items() if key != "OPENBLAS_NUM_THREADS"}
            return subprocess.run(
                [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, env=env, **options
            )
        pytest.skip(f"no control groups for {controller} here")

    yield run
    for folder in reversed(made):
        folder.rmdir()


SHOW = (
    "import json\nfrom tinyalex.devices import container, parallel\nfrom tinyalex.network import memory\n"
    "print(json.dumps([container.cpus(), parallel.processors(), memory.host(), container.processes()]))"
)


@pytest.mark.parametrize(
    ("controller", "limits", "check"),
    [
        ("cpu", {"cpu.cfs_quota_us": "100000"}, lambda found: found[:2] == [1.0, 1]),
        ("memory", {"memory.limit_in_bytes": str(GIB)}, lambda found: found[2][0] == GIB > found[2][1] > GIB // 2),
        ("pids", {"pids.max": "40"}, lambda found: found[3] == 40),
    ],
    ids=["cpu", "memory", "pids"],
)
def test_limits_of_a_real_group_around_this_one(group, controller, limits, check):
    done = group(controller, limits, SHOW)
    assert done.returncode == 0, done.stderr
    assert check(json.loads(done.stdout)), done.stdout


def command(*words):
    return f"import sys\nfrom tinyalex.cli import main\nsys.exit(main({[str(word) for word in words]}))"


@pytest.mark.parametrize("limit", [1, 4])
@pytest.mark.slow
def test_a_command_in_a_container_with_few_processes_uses_fewer_threads(group, limit):
    done = group("pids", {"pids.max": str(limit)}, command("doctor", "--json", "--threads", "8"))
    assert done.returncode == 0, done.stderr
    count = json.loads(done.stdout)["threads"]
    assert max(1, limit - 2) <= count <= max(1, limit - 1)  # Linux may count a thread that has just ended
    assert done.stderr == (
        f"tinyalex: warning: only {count} of 8 threads can be started (the container allows {limit:,} processes and "
        "threads); the command continues with these\n"
    )


def test_training_in_a_container_with_one_process(group, tmp_path):
    (tmp_path / "small.toml").write_text(to_toml(small(epochs=1)))
    prepared_sets.make(tmp_path / "set", size=24)
    words = "train", tmp_path / "small.toml", "--data", tmp_path / "set", "--out", tmp_path / "run", "--weak-signal"
    done = group("pids", {"pids.max": "1"}, command(*words))
    assert done.returncode == 0 and "test error" in done.stdout.splitlines()[-3], done.stderr
    assert done.stderr.count("\n") == (parallel.processors() > 1), done.stderr  # only the warning of fewer threads


def test_prepare_in_a_container_with_one_process_says_what_is_missing(group, tmp_path):
    for name in ("a/1.png", "b/2.png"):
        path = tmp_path / "source" / "train" / name
        path.parent.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(path)
    done = group("pids", {"pids.max": "1"}, command("prepare", tmp_path / "source", tmp_path / "out"))
    assert (done.returncode, done.stderr) == (
        8,
        "tinyalex: error: no thread or process can be started (the container allows 1 processes and threads); allow "
        "more of them, or use --threads 1 or --workers 1\n",
    )

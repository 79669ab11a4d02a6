"""Worker processes: tasks, results, progress, and how each process ends."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
import types
from pathlib import Path

import numpy as np
import pytest

from tinyalex.errors import DataError, DeviceError, Interrupted, StorageError
from tinyalex.prepare import workers
from tinyalex.system.signals import StopRequests


class Never:
    stop_requested = False


def run(job, tasks, count=2, stop=Never, on_tick=lambda parts: None):
    answers = {}
    workers.run(job, tasks, count, stop, answers.__setitem__, on_tick, lambda task, part: f"{task}: part {part}")
    return answers


# Jobs; the worker processes import them by name.


def square(task, reporter):
    reporter.begin(0)
    return task * task, os.getpid()


def describe_yourself(task, reporter):
    from threadpoolctl import threadpool_info

    np.ones((200, 200)) @ np.ones((200, 200))
    blas = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    return blas, signal.pthread_sigmask(signal.SIG_BLOCK, []), multiprocessing.get_start_method(allow_none=True)


def full_disk(task, reporter):
    if task == "bad":
        raise StorageError("set: cannot be written (No space left on device); free some space")
    time.sleep(60)


def fault(task, reporter):
    return {}["surprise"]


def die_at_three(task, reporter):
    for part in range(5):
        reporter.begin(part)
        if part == 3 and task == "bad":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60 if part == 4 else 0)


def compute_and_write(task, reporter):
    begun = time.monotonic()
    task.touch()
    time.sleep(0.1)
    computed = time.monotonic()
    reporter.computed()
    while len(list(task.parent.iterdir())) < 2 and time.monotonic() < begun + 30:  # until another has begun
        time.sleep(0.01)
    return begun, computed, time.monotonic()


def leave(task, reporter):
    os._exit(7)


def never_end(task, reporter):
    for part in range(1_000_000):
        reporter.begin(part)
        time.sleep(0.01)


@pytest.mark.parametrize("count", [1, 4])
def test_every_task_is_done_once(count):
    answers = run(square, [1, 2, 3], count)
    assert {task: answer for task, (answer, _) in answers.items()} == {1: 1, 2: 4, 3: 9}
    processes = {process for _, process in answers.values()}
    assert os.getpid() not in processes and len(processes) <= min(count + 1, 3)
    assert multiprocessing.active_children() == []


def test_one_computes_while_another_writes(tmp_path):
    answers = run(compute_and_write, [tmp_path / name for name in "abcd"], count=1)
    times = sorted(answers.values())
    assert all(computed <= begun for (_, computed, _), (begun, _, _) in zip(times, times[1:], strict=False))
    assert times[1][0] < times[0][2], "the second task waited until the first was written"


def test_no_tasks_no_processes():
    assert run(square, []) == {}


def test_each_worker_has_one_blas_thread_and_blocks_signals():
    blas, blocked, method = run(describe_yourself, ["x"])["x"]
    assert set(blas) <= {1} and {signal.SIGINT, signal.SIGTERM} <= blocked and method == "spawn"
    assert not {signal.SIGINT, signal.SIGTERM} & signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_an_error_in_one_worker_stops_all():
    with pytest.raises(StorageError, match="^set: cannot be written"):
        run(full_disk, ["long", "bad"])
    assert multiprocessing.active_children() == []


def test_an_unexpected_exception_keeps_its_traceback():
    with pytest.raises(KeyError, match="surprise") as caught:
        run(fault, ["x"])
    assert any('{}["surprise"]' in note for note in caught.value.__notes__)


def test_a_worker_that_cannot_start_is_not_blamed_on_its_image(monkeypatch):
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", b"/bin/false")
    with pytest.raises(
        DeviceError, match=r"^no worker process can be started: .* ended at once \((exit code 1|it reads nothing)\)"
    ):
        run(square, ["x"])


def test_a_worker_that_dies_is_noticed_and_its_task_named():
    with pytest.raises(DataError, match=rf"^bad: part 3: .* died on it \({signal.strsignal(signal.SIGKILL)}\)"):
        run(die_at_three, ["long", "bad"])
    assert multiprocessing.active_children() == []
    with pytest.raises(DataError, match=r"died on it \(exit code 7\)"):
        run(leave, ["x"])


@pytest.mark.parametrize(("allowed", "processes"), [(1, 1), (2, 2), (9, 4)])
def test_fewer_processes_work_if_the_system_allows_no_more(monkeypatch, allowed, processes):
    started = []

    class Limited(workers._Worker):
        def __init__(self, job):
            if len(started) >= allowed:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            super().__init__(job)
            started.append(self)

    monkeypatch.setattr(workers, "_Worker", Limited)
    answers = run(square, list(range(5)), count=3)
    assert {task: answer for task, (answer, _) in answers.items()} == {task: task * task for task in range(5)}
    assert len(started) == processes
    allowed = 0
    started.clear()
    with pytest.raises(BlockingIOError):
        run(square, [1], count=3)


def test_workers_need_no_temporary_folder(monkeypatch):
    """As in a container whose file system is read-only."""

    def refuse(*arguments, **options):
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    for module, name in ((tempfile, "mkstemp"), (tempfile, "mkdtemp"), (tempfile, "gettempdir")):
        monkeypatch.setattr(module, name, refuse)
    assert run(square, [3])[3][0] == 9


def test_progress_and_a_stop_request():
    seen = []
    with StopRequests() as stop, pytest.raises(Interrupted):

        def on_tick(parts):
            seen.append(parts)
            if parts > 4:
                os.kill(os.getpid(), signal.SIGINT)

        run(never_end, ["a", "b"], stop=stop, on_tick=on_tick)
    assert seen == sorted(seen) and seen[-1] > 4
    assert multiprocessing.active_children() == []


def test_worker_exits_if_its_caller_was_killed_before_the_worker_began(monkeypatch):
    ended = []
    monkeypatch.setattr(workers.multiprocessing, "parent_process", lambda: types.SimpleNamespace(pid=-1))
    monkeypatch.setattr(workers.os, "_exit", ended.append)
    workers.Reporter(types.SimpleNamespace(send=lambda part: None)).begin(3)
    assert ended == [1]


def test_no_worker_outlives_a_caller_that_was_killed():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from tests.prepare import test_prepare_workers as here\n"
        "if __name__ == '__main__':\n"
        "    here.run(here.never_end, ['a', 'b'], on_tick=lambda parts: print(parts, flush=True))\n"
    )
    here = str(Path(__file__).parents[2])
    caller = subprocess.Popen([sys.executable, "-c", code, here], stdout=subprocess.PIPE, start_new_session=True)
    while int(caller.stdout.readline()) < 4:
        pass
    os.killpg(caller.pid, 0)  # the workers are running
    caller.kill()
    caller.wait()
    caller.stdout.close()
    with pytest.raises(ProcessLookupError):
        for _ in range(300):
            os.killpg(caller.pid, 0)
            time.sleep(0.1)

"""How ranks are started, what they share, and how one that works by itself waits for the others; without MPI."""

import io
import itertools
import re
import signal
import threading
import time
from types import SimpleNamespace

import pytest

from tests.support.ranks import on_ranks
from tinyalex.cli import main
from tinyalex.devices import parallel
from tinyalex.errors import DeviceError, Interrupted, UsageError
from tinyalex.ranks import launch, world


def of_two(rank=0):
    return SimpleNamespace(size=2, rank=rank, local_size=2, local_rank=rank)


def test_devices_are_dealt_out_in_order():
    assert launch.own_devices(["cuda:0", "cuda:1", "cuda:2", "cuda:3"], of_two(1)) == ["cuda:2", "cuda:3"]
    assert launch.own_devices(["cpu"], of_two()) == ["cpu"] and launch.own_devices(["cpu"] * 2, of_two()) == ["cpu"] * 2


@pytest.mark.parametrize("devices, message", [
    (["cpu", "fake:0"], "ranks on the CPU and on GPUs do not train together"),
    (["cuda:0", "cpu"], "ranks on the CPU and on GPUs do not train together"),
    (["cuda:0"], "1 for 2 ranks"),
    (["cuda:0", "cuda:0"], "ranks 0 and 1 would share cuda:0"),
])  # fmt: skip
def test_devices_that_cannot_be_dealt_out(devices, message):
    with pytest.raises(UsageError, match=message):
        launch.own_devices(devices, of_two())


@pytest.mark.parametrize("variables, name", [
    ({}, None),
    ({"SLURM_STEP_NUM_TASKS": "1"}, None),  # srun -n 1, also around a shell
    ({"SLURM_STEP_NUM_TASKS": "1", "PMIX_RANK": "0"}, None),
    ({"PMI_SIZE": "1"}, None),
    ({"SLURM_STEP_NUM_TASKS": "4", "PMIX_RANK": "2"}, "a PMIx launcher"),
    ({"SLURM_STEP_NUM_TASKS": "4"}, "srun"),
    ({"PMI_SIZE": "2"}, "mpiexec of MPICH"),
])  # fmt: skip
def test_one_process_alone_needs_no_mpi(monkeypatch, variables, name):
    for variable in world._SIZES:
        monkeypatch.delenv(variable, raising=False)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    assert world.launcher() == name


@pytest.mark.parametrize("options, message", [
    (["--patience", "-5"], "--patience -5: give a number of seconds above 0"),
    (["--patience", "nan"], "--patience nan: give a number of seconds above 0"),
    (["--patience", "0"], "--patience 0: give a number of seconds above 0"),
    (["--ranks", "0"], "--ranks 0: give a number of processes, 1 or more"),
    (["--ranks", "17"], "--ranks 17: this machine has 3 processors; give 16 or fewer, or start them on several "
     "machines with mpiexec"),
])  # fmt: skip
def test_numbers_that_are_refused(options, message, capsys, monkeypatch):
    monkeypatch.setattr(parallel, "processors", lambda: 3)
    assert main(["train", *options]) == 2
    assert capsys.readouterr().err == f"tinyalex: error: {message}\n"


def test_a_name_that_mpiexec_would_take_for_another_program(monkeypatch, capsys):
    monkeypatch.setattr(launch, "mpiexec", lambda: "mpiexec")
    assert main(["train", "--ranks", "2", "--out", ":"]) == 2
    assert capsys.readouterr().err == (
        "tinyalex: error: ':' separates programs for mpiexec; give './:' or another name\n"
    )


TERM, STOPPED, ERROR = [signal.SIGTERM], ["tinyalex: stopped at step 9, saved"], ["tinyalex: error: no shard 3"]


@pytest.mark.parametrize("code, asked, killed, reported, ended", [
    (0, TERM, [], [], 0),
    (75, TERM, [], STOPPED, 75),
    (15, TERM, ["terminated (signal 15)"], STOPPED, 75),  # asked again while it ended
    (3, [], [], ERROR, 3),
    (9, [], ["killed (signal 9)"], ERROR, 8),  # a stopped rank, that mpiexec has ended
    (2, [], [], [], 2),  # of argparse
    (15, TERM, ["terminated (signal 15)"], [], "ended by SIGTERM when there was nothing to save"),
    (2, [signal.SIGINT], ["interrupt (signal 2)"], [], KeyboardInterrupt),  # before there was anything to save
    (75, [signal.SIGINT], [], STOPPED, 75),
    (14, [], ["alarm clock (signal 14)"], [], "the ranks did not find each other within --patience; one of them hangs"),
    (15, [], ["terminated (signal 15)"], [], "a rank was ended, or did not find the others within --patience (termi"),
    (9, [], ["killed (signal 9)"], [], "a rank ended without a message (killed (signal 9)); a checkpoint is whole if"),
    (-9, [], [], [], "mpiexec was ended by signal 9, and with it all ranks; a checkpoint is whole if there is one"),
    (213, [], [], [], "mpiexec ended with exit code 213, and with it all ranks; a checkpoint is whole if there is one"),
])  # fmt: skip
def test_how_all_ranks_ended(code, asked, killed, reported, ended):
    if ended is KeyboardInterrupt:
        with pytest.raises(KeyboardInterrupt):
            launch._outcome(code, asked, killed, reported)
    elif isinstance(ended, int):
        assert launch._outcome(code, asked, killed, reported) == ended
    else:
        with pytest.raises(DeviceError, match=re.escape(ended)):
            launch._outcome(code, asked, killed, reported)


def test_ranks_that_work_by_themselves_wait_for_all():
    def work(ranks):
        with ranks.apart():
            done.append(ranks.rank)
        return len(done)

    done = []
    assert on_ranks(3, work) == [3, 3, 3]


def test_a_rank_that_is_stopped_stops_the_others():
    def work(ranks):
        try:
            with ranks.apart():
                if ranks.rank == 1:
                    raise Interrupted("stopped at step 3")
        except Interrupted as stop:
            return str(stop)

    others = "stopped, as another rank was; the same command goes on"
    assert on_ranks(3, work) == [others, "stopped at step 3", others]


def of_two_that_never_meet(patience):
    """Rank 1, which does not hear of rank 0, for so long that a test does not wait for ever."""
    sent = SimpleNamespace(Test=lambda: True)
    found = SimpleNamespace(rank=1, size=2, allgather=lambda value: [value] * 2, Isend=lambda *_: sent)
    met = itertools.chain([False] * 200, itertools.repeat(True))
    found.Ibarrier, found.Iprobe = lambda: SimpleNamespace(Test=lambda: next(met)), lambda *_: False
    return world.World(found, patience)


def test_a_rank_that_is_stopped_ends_others_that_are_not(monkeypatch, capsys):
    """The others are still at work when the time that they have to stop by themselves is over."""
    monkeypatch.setattr(world, "_STOPS_WITHIN", 0.05)
    ended = []

    def abort(code):
        ended.append(code)
        raise SystemExit(code)

    alone = of_two_that_never_meet(patience=60)
    monkeypatch.setattr(alone, "abort", abort)
    with pytest.raises(SystemExit), alone.apart():
        raise Interrupted("stopped at step 3")
    assert ended == [75]
    assert capsys.readouterr().err == "tinyalex: stopped, as rank 1 was; the same command goes on\n"
    alone.close()


@pytest.fixture
def exits(monkeypatch):
    """Where a rank would end its process, it raises SystemExit."""

    def ended(code):
        raise SystemExit(code)

    monkeypatch.setattr(world.os, "_exit", ended)


@pytest.mark.parametrize("end", ["apart", "leave"])
def test_a_rank_that_shows_no_life_ends_the_others(exits, capsys, end):
    """Rank 0 was stopped while it worked by itself, or after its last step."""
    alone = of_two_that_never_meet(patience=0.2)
    with pytest.raises(SystemExit, match="8"):
        if end == "leave":
            alone.leave()
        with alone.apart():
            pass
    alone.close()
    assert capsys.readouterr().err == (
        "tinyalex: error: rank 1: rank 0 has shown no sign of life for 0.2 s; it hangs or was stopped; the last "
        "checkpoint is whole, the same command resumes the run\n"
    )


@pytest.mark.slow
def test_a_rank_that_works_longer_than_the_patience_is_waited_for(exits):
    def work(ranks):
        for _ in range(2):
            with ranks.apart():
                if ranks.leads:
                    time.sleep(1.5)
                    done.append(1)
        ranks.leave()
        return len(done)

    done = []
    assert on_ranks(3, work, patience=1.0) == [2, 2, 2]


def test_no_thread_is_left_behind():
    on_ranks(3, lambda ranks: ranks.leave())
    until = time.monotonic() + 10
    while any(thread.name.startswith("tinyalex ranks") for thread in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_several_ranks_that_report_one_that_hangs_are_heard_once():
    hangs = (
        "tinyalex: error: rank {}: the other ranks did not answer for 3 s (testing); one of them hangs or was stopped"
    )
    said = [hangs.format(1), "tinyalex: error: no shard 3", hangs.format(0), "epoch 3"]
    shown, reported = io.BytesIO(), []
    launch._pump(io.BytesIO("".join(f"{line}\n" for line in said).encode()), shown, [], reported)
    assert shown.getvalue().decode().splitlines() == [said[0], said[1], said[3]]

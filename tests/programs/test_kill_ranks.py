"""A short form of `tests.programs.kill_ranks`, and the ends of a run that it does not cover."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.programs import kill_ranks, on_gpus
from tests.support.small_runs import final, same, timeless
from tinyalex import cli

pytest.importorskip("mpi4py", reason="needs the extra mpi", exc_type=ImportError)

# Train, with an act of each rank before its third step.
LATER = """
import sys
import tinyalex.system.storage as storage
from tinyalex import cli
from tinyalex.errors import DataError, DeviceError, StorageError
from tinyalex.training.loop import Training

step = Training.train_step

def fail(error):
    raise error

def changed(training, batch, *arguments):
    if training.step == 2:
        {act}
    return step(training, batch, *arguments)

Training.train_step = changed
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    kill_ranks.draw(folder / "data")
    return folder / "data"


def run(words, **more):
    return subprocess.run(words, capture_output=True, text=True, timeout=120, **more)


def by_mpiexec(data, out, ranks, act):
    """Train under mpiexec itself, with an act of each rank before its third step."""
    from tinyalex.ranks import launch

    words = kill_ranks.command(data, out, 2)[3:]
    source = LATER.format(act=act)
    return run([launch.mpiexec(), "-n", str(ranks), sys.executable, "-c", source, *words])


def lines(text):
    """Lines of stderr, without what MPICH adds when a rank calls Abort."""
    return [line for line in text.splitlines() if line.strip() and not line.startswith("Abort(")]


def test_the_script_for_several_gpus_has_commands_that_exist(tmp_path):
    steps = on_gpus.steps(tmp_path, 2) | {"train": (on_gpus.train(tmp_path / "out", 2, "--set", "learning.parts=2"), 1)}
    for name, (command, _) in steps.items():
        if command[2] == "tinyalex":
            assert cli._parse([str(word) for word in command[3:]]) is not None
        else:
            assert importlib.util.find_spec(command[2]), name


@pytest.mark.slow
def test_two_ranks_give_the_bits_of_one_process(data, tmp_path):
    assert run(kill_ranks.command(data, tmp_path / "one", 2)).returncode == 0
    done = run([*kill_ranks.command(data, tmp_path / "two", 2), "--ranks", "2"])
    assert done.returncode == 0 and not done.stderr
    assert done.stdout.count("epoch 2  test error") == 1 and "2 ranks, devices cpu" in done.stdout
    assert same(final(tmp_path / "one"), final(tmp_path / "two"))
    assert timeless(tmp_path / "one") == timeless(tmp_path / "two")


def test_a_launcher_of_another_mpi_is_named(data, tmp_path):
    words = kill_ranks.command(data, tmp_path / "run", 1)
    launched = os.environ | {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}
    done = run(words, env=launched)
    assert done.returncode == 2 and not (tmp_path / "run").exists()
    assert lines(done.stderr) == [
        "tinyalex: error: mpiexec of Open MPI: has started 2 processes, but each finds itself alone: the launcher "
        "belongs to another MPI than mpi4py uses; use --ranks, or the mpiexec beside this Python"
    ]


@pytest.mark.slow
def test_usage_errors_are_said_once(data, tmp_path):
    for options, message in (
        (["--ranks", "0"], "--ranks 0: give a number of processes, 1 or more"),
        (["--ranks", "5"], "ranks: 5, but each batch has 4 parts (learning.parts): a rank needs at least one"),
        (["--ranks", "2", "--devices", "fake:0"], "--devices: 1 for 2 ranks on this machine; give each rank as many"),
        (["--ranks", "2", "--devices", "fake:0", "fake:0"], "--devices: ranks 0 and 1 would share fake:0"),
    ):
        done = run([*kill_ranks.command(data, tmp_path / "run", 1), *options])
        assert done.returncode == 2 and len(lines(done.stderr)) == 1 and message in done.stderr


BROKEN = "fail(DataError('no shard 3'))"
FAULTS = {  # act of a rank before its third step, exit code, message
    "broken data on all": (BROKEN, 3, "rank 0: no shard 3; stopped at step 2, saved in "),
    "broken data on one": (f"training.world.rank == 1 and {BROKEN}", 3, "rank 1: no shard 3; stopped at step 2, saved"),
    "no device on one": ("training.world.rank == 1 and fail(DeviceError('no cuda:0'))", 8, "error: no cuda:0"),
    "a bug on one": ("training.world.rank == 1 and fail(RuntimeError('oh'))", 1, "RuntimeError: oh; a bug in tinyalex"),
    "not a number on one": ("if training.world.rank == 1: batch.images[0, 0] = float('nan')", 5, "first on rank 1; no"),
    "a full disk": (
        "if training.world.leads: storage.need_room = lambda *_: fail(StorageError('no room'))", 7, "no room",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_an_error_ends_all_ranks_and_is_said_once(data, tmp_path, fault):
    act, code, message = FAULTS[fault]
    done = by_mpiexec(data, tmp_path / "run", 3, act)
    assert done.returncode == code, done.stderr
    assert len(lines(done.stderr)) == 1 and message in done.stderr
    assert (tmp_path / "run" / "checkpoint-00000002.safetensors").exists() == ("stopped at step 2" in message)


@pytest.mark.slow
@pytest.mark.parametrize("send", [os.killpg, os.kill])
def test_interrupted_by_ctrl_c_at_the_launcher_the_run_is_saved(data, tmp_path, send):
    """Ctrl-C reaches the launcher's process group; `kill -INT` the launcher alone."""
    process = training_of_two(data, tmp_path / "run", 2000)
    send(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75 and len(lines(errors)) == 1 and "resume with: " in errors and "--ranks 2" in errors


@pytest.mark.slow
def test_a_launcher_that_is_killed_takes_the_ranks_with_it(data, tmp_path):
    process = training_of_two(data, tmp_path / "run", 2000)
    ranks = kill_ranks.ranks_of(process)
    assert len(ranks) == 2
    process.kill()
    until = time.monotonic() + 60
    while any(map(runs, ranks.values())):
        assert time.monotonic() < until
        time.sleep(0.05)
    process.communicate()
    assert '"saved"' in log(tmp_path / "run")


def training_of_two(data, out, epochs, *more):
    """Start a training on two ranks; return the launcher when the second epoch has ended."""
    words = [*kill_ranks.command(data, out, epochs, *more), "--ranks", "2", "--save-every", "60"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert any("epoch 2" in line for line in process.stdout)
    return process


def runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
def test_a_closed_terminal_saves_and_the_run_goes_on(data, tmp_path):
    words = kill_ranks.command(data, tmp_path / "run", 2000)
    process = subprocess.Popen(
        [*words, "--ranks", "2", "--save-every", "60"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # under nohup it would be ignored
    )  # fmt: skip
    assert any("epoch 2" in line for line in process.stdout)
    assert '"saved"' not in log(tmp_path / "run")
    os.killpg(process.pid, signal.SIGHUP)
    until, seen = time.monotonic() + 60, 0
    while '"saved"' not in log(tmp_path / "run") or seen < 3:  # three more epochs
        seen += "epoch" in process.stdout.readline()
        assert time.monotonic() < until and process.poll() is None
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75 and len(lines(errors)) == 1


def log(folder):
    return (folder / "log.jsonl").read_text()


@pytest.mark.slow
def test_a_rank_that_hangs_before_the_ranks_have_met_ends_all(tmp_path):
    """Stopped as soon as it is there: it has not imported anything yet."""
    words = [sys.executable, "-m", "tinyalex", "evaluate", tmp_path / "none", "--ranks", "2", "--patience", "4"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while len(found := kill_ranks.ranks_of(process)) < 2:
        time.sleep(0.01)
    os.kill(found[1], signal.SIGSTOP)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 8 and lines(errors) == [
        "tinyalex: error: the ranks did not find each other within --patience; one of them hangs or was stopped"
    ]


@pytest.mark.slow
def test_a_run_whose_ranks_were_all_suspended_goes_on(data, tmp_path):
    process = training_of_two(data, tmp_path / "run", 2000, "--patience", "3")
    ranks = kill_ranks.ranks_of(process).values()
    for number, seconds in ((signal.SIGSTOP, 8), (signal.SIGCONT, 2)):
        for pid in ranks:
            os.kill(pid, number)
        time.sleep(seconds)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75 and len(lines(errors)) == 1


# A command whose rank stops (as by SIGSTOP) where it calls a function.
STOPS = """
import os, signal, sys
from tinyalex import cli
from {module} import {place} as place

if os.environ["PMI_RANK"] == "{rank}":
    place.{function} = lambda *_, **more: os.kill(os.getpid(), signal.SIGSTOP)
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("command, rank, module, place, function", [
    ("train", 0, "tinyalex.commands", "train", "_show_results"),  # the report is made after the last step
    ("train", 1, "tinyalex.ranks.world", "World", "leave"),
    ("experiment", 0, "tinyalex.experiments", "compare", "trial"),
    ("experiment", 1, "tinyalex.experiments", "compare", "trial"),
])  # fmt: skip
def test_a_rank_that_is_stopped_while_it_works_by_itself_ends_all(
    data, tmp_path, command, rank, module, place, function
):
    from tinyalex.ranks import launch

    words = kill_ranks.command(data, tmp_path / "run", 1)[3:]
    if command == "experiment":
        words = ["experiment", "dropout", "--recipe", "shapes", "--seeds", "1", "--epochs", "1", "--train-images", "64"]
        words += ["--out", tmp_path / "experiments"]
    source = STOPS.format(rank=rank, module=module, place=place, function=function)
    done = run([launch.mpiexec(), "-n", "3", sys.executable, "-c", source, *words, "--patience", "5"])
    assert done.returncode and f": rank {rank} has shown no sign of life for 5 s; it hangs" in done.stderr


@pytest.mark.slow
def test_an_end_of_mpiexec_is_said(data, tmp_path):
    words = kill_ranks.command(data, tmp_path / "run", 60)
    process = subprocess.Popen([*words, "--ranks", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert any("epoch 2" in line for line in process.stdout)
    subprocess.run(["pkill", "-KILL", "-P", str(process.pid), "mpiexec"], check=True)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 8 and "mpiexec was ended by signal 9, and with it all ranks; a checkpoint" in errors


@pytest.mark.slow
def test_an_error_leaves_nothing_in_shared_memory_and_takes_no_input(tmp_path):
    words = [sys.executable, "-m", "tinyalex", "evaluate", tmp_path / "none", "--ranks", "2"]
    before = shared_memory()
    reader, writer = os.pipe()
    os.write(writer, b"two\n")
    for _ in range(3):
        done = run(words, stdin=reader, env=os.environ | {"PYTHONUNBUFFERED": "1"})
        assert done.returncode == 4 and done.stderr.startswith(f"tinyalex: error: {tmp_path}/none: no such run; give")
        assert done.stderr.count("\n") == 1
    assert os.read(reader, 10) == b"two\n"
    until = time.monotonic() + 20  # other tests may be starting ranks
    while left := shared_memory() - before:
        assert time.monotonic() < until, left
        time.sleep(0.2)


def shared_memory():
    return {name for name in os.listdir("/dev/shm") if name.startswith("mpich")}


@pytest.mark.slow
def test_random_interruptions_change_no_bits():
    wrong, summary = kill_ranks.main(kills=4, seed=1, epochs=60, show=lambda line: None)
    assert wrong == [] and "; the same bits; " in summary


@pytest.mark.slow
def test_a_difference_would_be_noticed(data, tmp_path):
    assert run(kill_ranks.command(data, tmp_path / "whole", 1)).returncode == 0
    assert run(kill_ranks.command(data, tmp_path / "run", 1, "--seed", "1")).returncode == 0
    assert kill_ranks._compared(tmp_path) == ["the tensors are not those of the run that nothing interrupted"]

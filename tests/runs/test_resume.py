"""A resumed run has the same bits and log as an uninterrupted one, and reports what has changed."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import types
from dataclasses import replace

import numpy as np
import pytest

from tests.support.small_runs import (
    after,
    final,
    pressed,
    pressed_while_it_saves,
    quiet,
    same,
    small,
    stripes,
    timeless,
)
from tinyalex.datasets import Dataset
from tinyalex.devices import parallel
from tinyalex.devices.device import Device
from tinyalex.errors import BusyError, CheckpointError, Interrupted, StorageError, UsageError
from tinyalex.recipes.settings import Phase
from tinyalex.runs import checkpoint, fingerprint, retention, run_folder
from tinyalex.runs.checkpoint_manager import CheckpointManager
from tinyalex.runs.resume import ResumeOptions
from tinyalex.runs.train import train
from tinyalex.system import ownership, signals, storage
from tinyalex.system.signals import StopRequests
from tinyalex.training import loop
from tinyalex.training.evaluation import evaluate

# The rate falls in the middle of an epoch, where the colour noise must stay that of the epoch's start, and at an end.
PHASES = [
    {"epoch": 0.0, "rate": 0.03},
    {"epoch": 0.5, "rate": 0.01, "colour_noise": 0.0},
    {"epoch": 2.0, "rate": 0.003, "lr_mult": {"conv1": 0.5}},
]


def phased(**learning):
    made = small('data.colour="2012"', **learning)
    phases = tuple(Phase(**phase) for phase in PHASES)
    changed = {"schedule": "phases", "phases": phases}
    return replace(made, learning=replace(made.learning, **changed))


@pytest.fixture(scope="module")
def data():
    return stripes()


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    train(phased(), data, folder, show=quiet)
    return folder


def interrupted(data, folder, monkeypatch, step, **keywords):
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        pressed(patch, signal.SIGTERM, step)
        train(phased(), data, folder, show=quiet, **keywords)


@pytest.mark.parametrize("step", [1, 3, 4, 6, 7, 12, 17])
def test_t9_t10_resumed_at_any_step_bits_and_log_are_the_same(data, whole, tmp_path, monkeypatch, step):
    """Within an epoch, at its end, and right after the rate has fallen, at an end or within an epoch."""
    interrupted(data, tmp_path, monkeypatch, step)
    lines = []
    train(phased(), data, tmp_path, show=lines.append)
    assert lines[0] == f"resuming at step {step} of 18"
    assert same(final(whole), final(tmp_path))
    assert timeless(whole) == timeless(tmp_path)


def test_interrupted_at_every_step(data, whole, tmp_path, monkeypatch):
    for step in range(4, 14):
        interrupted(data, tmp_path, monkeypatch, step)
    train(phased(), data, tmp_path, show=quiet)
    assert same(final(whole), final(tmp_path)) and timeless(whole) == timeless(tmp_path)


@pytest.mark.parametrize("threads", [0, 7])
def test_resumed_with_any_number_of_loader_threads(data, whole, tmp_path, monkeypatch, threads):
    interrupted(data, tmp_path, monkeypatch, 9)
    made = loop.training_batches
    monkeypatch.setattr(loop, "training_batches", lambda *given, **more: made(*given, threads=threads, **more))
    train(phased(), data, tmp_path, show=quiet)
    assert same(final(whole), final(tmp_path))


@pytest.mark.parametrize("batch", [1, 2])
def test_stopped_during_a_test(data, whole, tmp_path, monkeypatch, batch):
    """The test ends at once and is repeated later; its result is logged once."""
    calls = []

    def stopping(network, images, mean, recipe, after_batch, **more):
        def next_batch():
            calls.append(1)
            if len(calls) == 3 + batch:  # three batches a test
                os.kill(os.getpid(), signal.SIGINT)
            after_batch()

        return evaluate(network, images, mean, recipe, after_batch=next_batch)

    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="stopped at step 12, saved in "):
        patch.setattr("tinyalex.runs.train.evaluate", stopping)
        train(phased(), data, tmp_path, show=quiet)
    assert len(calls) == 3 + batch
    train(phased(), data, tmp_path, show=quiet)
    assert same(final(whole), final(tmp_path)) and timeless(whole) == timeless(tmp_path)


def test_killed_between_a_test_and_its_checkpoint(data, whole, tmp_path, monkeypatch):
    """The log has a test that the checkpoint does not know: its record is removed and the test repeated."""
    save = run_folder.save

    def killed(training, folder, origin=None, tested=False, say=None):
        if tested and training.step == 12:
            raise KeyboardInterrupt
        return save(training, folder, origin, tested)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run_folder, "save", killed)
        train(phased(), data, tmp_path, show=quiet, options=ResumeOptions(save_every=0.0))
    assert [each["step"] for each in run_folder.read_log(tmp_path) if each["event"] == "test"] == [6, 12]
    train(phased(), data, tmp_path, show=quiet)
    assert same(final(whole), final(tmp_path)) and timeless(whole) == timeless(tmp_path)


def test_t17_clock_that_jumps_changes_nothing(data, whole, tmp_path, monkeypatch):
    moments = iter(range(10**9, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: float(next(moments)))  # backwards
    train(phased(), data, tmp_path, show=quiet)
    assert same(final(whole), final(tmp_path))
    old, new = sorted(tmp_path.glob("checkpoint*"))[-2:]
    os.utime(old)
    os.utime(new, (0, 0))
    assert checkpoint.newest(tmp_path) == new


def test_t13_a_finished_run_stays_as_it_is(data, whole, tmp_path):
    train(phased(), data, tmp_path, show=quiet)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    lines = []
    train(phased(), data, tmp_path, show=lines.append)
    assert lines[0] == "resuming at step 18 of 18"
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert before.keys() == after.keys()
    assert all(before[name] == after[name] for name in before if name.startswith("checkpoint"))


# What may change, and what may not.


@pytest.mark.parametrize("changed, message", [
    ({"rate": 0.02}, "learning.rate 0.03, now it is 0.02"),
    ({"momentum": 0.5}, "learning.momentum 0.9, now it is 0.5"),
    ({"weight_decay": 0.1}, "learning.weight_decay 0.0, now it is 0.1"),
    ({"epochs": 3}, "learning.epochs 2, now it is 3"),
    ({"schedule": "plateau"}, "learning.schedule cosine, now it is plateau"),
    ({"settings": ["net.precision=tf32"]}, "net.precision float32, now it is tf32"),
])  # fmt: skip
def test_t11_learning_settings_may_change_with_change(data, tmp_path, monkeypatch, changed, message):
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        pressed(patch, signal.SIGTERM, 8)
        train(small(epochs=2), data, tmp_path, show=quiet)
    changed = {"epochs": 2} | changed
    settings = changed.pop("settings", [])
    with pytest.raises(CheckpointError) as raised:
        train(small(*settings, **changed), data, tmp_path, show=quiet)
    assert message in str(raised.value) and "; add --change to resume with that, or give another --out" in str(
        raised.value
    )
    lines = []
    train(small(*settings, **changed), data, tmp_path, show=lines.append, options=ResumeOptions(change=True))
    assert any(line.startswith("changed from step 8 on: ") and message in line for line in lines)
    assert train(
        small(*settings, **changed), data, tmp_path, show=quiet
    )  # the changed settings are those of the run now


@pytest.mark.parametrize("changed, message", [
    ((["net.hidden=32"], {}), "net.hidden 16, now it is 32"),
    ((['net.norm="none"'], {}), "net.norm paper, now it is none"),
    ((["init.weights={default=0.02}"], {}), "init.weights {'default': 'he', 'conv1': 0.003}, now it is "),
    ((["data.scale=0.5"], {}), "data.scale 0.017, now it is 0.5"),
    (([], {"batch": 8}), "learning.batch 16, now it is 8"),
    (([], {"batch": 8, "rate": 0.2}), "learning.batch 16, now it is 8, learning.rate 0.03, now it is 0.2"),
])  # fmt: skip
def test_t11_other_net_data_or_batch_settings_are_refused(data, whole, tmp_path, changed, message):
    train(small(epochs=1), data, tmp_path, show=quiet)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for terms in (ResumeOptions(), ResumeOptions(change=True)):
        with pytest.raises(CheckpointError) as raised:
            train(small(*changed[0], epochs=1, **changed[1]), data, tmp_path, show=quiet, options=terms)
        assert message in str(raised.value) and str(raised.value).endswith("; give another --out folder")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_t11_another_seed_classes_or_data_are_refused(data, tmp_path):
    train(small(epochs=1), data, tmp_path, show=quiet)
    with pytest.raises(CheckpointError, match="had seed 0, now it is 3; give another --out"):
        train(small(epochs=1), data, tmp_path, seed=3, show=quiet)
    renamed = Dataset("stripes", ["level", "upright"], data.train, data.test)
    with pytest.raises(CheckpointError, match=r"had classes \['upright', 'level'\], now it is .*, data set "):
        train(small(epochs=1), renamed, tmp_path, show=quiet, options=ResumeOptions(change=True))


def test_t11_another_mean_image_is_refused(data, tmp_path):
    """Images that are prepared again with ``--mean-from`` give the same shards and identity, but another mean."""
    train(small(epochs=1), data, tmp_path, show=quiet)
    other = Dataset("stripes", data.classes, data.train, data.test)
    other.__dict__.update(identity=data.identity, mean=data.mean + 1)
    with pytest.raises(CheckpointError, match=r"had mean image [0-9a-f]{8}, now it is [0-9a-f]{8}; give another --out"):
        train(small(epochs=1), other, tmp_path, show=quiet, options=ResumeOptions(change=True))


@pytest.mark.parametrize("step, epoch", [(12, "epoch 2"), (8, "epoch 1.333")])
def test_t11_fewer_epochs_than_are_done_are_refused(data, tmp_path, monkeypatch, step, epoch):
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        pressed(patch, signal.SIGTERM, step)
        train(small(epochs=3), data, tmp_path, show=quiet)
    with pytest.raises(
        CheckpointError, match=rf"the run here is at {epoch}, beyond learning.epochs = 1; give more epochs"
    ):
        train(small(epochs=1), data, tmp_path, show=quiet, options=ResumeOptions(change=True))
    train(small(epochs=2), data, tmp_path, show=quiet, options=ResumeOptions(change=True))
    assert checkpoint.inspect(checkpoint.newest(tmp_path))["step"] == 12


def test_fresh_refuses_a_folder_with_a_run(data, tmp_path):
    train(small(epochs=1), data, tmp_path, show=quiet, options=ResumeOptions(fresh=True))
    with pytest.raises(UsageError, match=r"holds a run already; leave out --fresh to resume it, or give another"):
        train(small(epochs=1), data, tmp_path, show=quiet, options=ResumeOptions(fresh=True))


def test_a_checkpoint_whose_recipe_has_old_keys_is_resumed(data, whole, tmp_path, monkeypatch):
    """Earlier versions wrote `decay` and `slow` for `weight_decay` and `lr_mult`."""
    interrupted(data, tmp_path, monkeypatch, 9)
    path = checkpoint.newest(tmp_path)
    tensors, metadata = checkpoint.read(path)
    text = metadata["recipe"].replace("weight_decay =", "decay =").replace("lr_mult =", "slow =")
    assert "\ndecay = 0.0\n" in text and "slow = { conv1 = 0.5 }" in text and "lr_mult" not in text
    checkpoint.write(path, tensors, metadata | {"recipe": text})
    assert run_folder.load(path).recipe == replace(phased(), net=replace(phased().net, classes=2))
    train(phased(), data, tmp_path, show=quiet, options=ResumeOptions(exact=True))
    assert same(final(whole), final(tmp_path)) and timeless(whole) == timeless(tmp_path)


# The fingerprint.


def test_t12_another_number_of_threads_is_reported(data, tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "_workers", parallel.Workers(1))
    train(small(epochs=1), data, tmp_path, show=quiet)
    monkeypatch.setattr(parallel, "_workers", parallel.Workers(2))
    with pytest.raises(
        CheckpointError,
        match="the run here was made with threads 1, now 2; restore that to resume it, or leave out --exact",
    ):
        train(small(epochs=1), data, tmp_path, show=quiet, options=ResumeOptions(exact=True))
    lines = []
    train(small(epochs=1), data, tmp_path, show=lines.append)
    assert (
        "warning: the run was made with threads 1, now 2: it resumes correctly, but the last bits may differ" in lines
    )


def test_t12_another_blas_changes_the_fingerprint():
    """The same library, set to use the kernels of another processor: its name and its results differ."""
    code = (
        "import json; from tinyalex.runs import fingerprint; from tinyalex.devices.device import Device;"
        "print(json.dumps(fingerprint.take([Device('cpu')])))"
    )
    taken = []
    for kernel in ("", "Haswell", "Nehalem"):
        env = os.environ | ({"OPENBLAS_CORETYPE": kernel} if kernel else {})
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
        taken.append(json.loads(done.stdout))
    if "openblas" not in taken[0]["BLAS"]:
        pytest.skip(f"this NumPy has {taken[0]['BLAS']}, whose kernels cannot be chosen")
    assert fingerprint.differences(taken[0], taken[0]) == ""
    assert re.fullmatch(
        r"BLAS .* Haswell, now .* Nehalem, arithmetic \w+, now \w+", fingerprint.differences(*taken[1:])
    )


def test_t12_fingerprint_has_devices_and_versions(monkeypatch):
    one, two = (fingerprint.take([Device(name) for name in names]) for names in (["cpu"], ["fake:0", "fake:1"]))
    assert fingerprint.differences(one, two) == "devices cpu, now fake:0 fake:1"
    assert one["NumPy"] == np.__version__ and {"Python", "BLAS", "processor", "threads"} <= one.keys()
    assert fingerprint.differences({}, {"threads": "2"}) == "threads nothing, now 2"


def test_b7_fingerprint_has_the_gpu_and_its_settings(monkeypatch):
    """With a stand-in for CuPy, since there may be no GPU."""

    class Runtime:
        getDeviceProperties = staticmethod(lambda index: {"name": f"GPU {index}".encode()})
        runtimeGetVersion = staticmethod(lambda: 13000)

    class CuPy:
        __version__ = "14.0"

        class cuda:
            runtime, Device = Runtime, contextlib.nullcontext
            get_cublas_handle = staticmethod(lambda: 77)
            cublas = types.SimpleNamespace(getVersion=lambda handle: 130000 + handle)
            nvrtc = types.SimpleNamespace(getVersion=lambda: (13, 5))

    monkeypatch.setenv("CUPY_TF32", "1")
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    found = fingerprint._gpu(CuPy, 1)
    versions = {"CuPy": "14.0", "CUDA": "13000", "cuBLAS": "130077", "NVRTC": "13.5"}
    assert found == {"cuda:1": "GPU 1", "TF32": "1", "cuBLAS workspace": ":16:8"} | versions
    monkeypatch.setattr(Runtime, "getDeviceProperties", lambda index: {"name": "GPU as text"})
    assert fingerprint._gpu(CuPy, 1)["cuda:1"] == "GPU as text"


# Signals.


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_t6_save_signal_saves_and_the_run_continues(data, whole, tmp_path, monkeypatch, number):
    before = signal.getsignal(number)
    pressed(monkeypatch, number, 8)
    train(phased(), data, tmp_path, show=quiet)
    assert signal.getsignal(number) is before
    saved = [each for each in run_folder.read_log(tmp_path) if each["event"] == "saved"]
    assert [each["step"] for each in saved] == [3, 8, 12]  # when the rate fell, and when the signal requested it
    assert same(final(whole), final(tmp_path)) and timeless(whole) == timeless(tmp_path)


def test_t6_stop_request_between_two_checks_is_served_at_the_next(data, tmp_path):
    class Late(StopRequests):
        answers = [False, True]

        @property
        def stop_requested(self):
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

        @stop_requested.setter
        def stop_requested(self, value):
            pass

    run = loop.Training(small(), data)
    manager = CheckpointManager(
        run, tmp_path, types.SimpleNamespace(say=quiet, write=lambda *_, **__: None), Late(), ResumeOptions()
    )
    manager.save_if_due()
    with pytest.raises(Interrupted, match="stopped at step 0, saved in "):
        manager.save_if_due()


def test_t6_stop_request_while_the_last_checkpoint_is_written(data, whole, tmp_path, monkeypatch):
    with (
        monkeypatch.context() as patch,
        pytest.raises(Interrupted, match="stopped at step 18, the last step, which is saved"),
    ):
        pressed_while_it_saves(patch, signal.SIGTERM, 18)
        train(phased(), data, tmp_path, show=quiet)
    assert same(final(whole), final(tmp_path)) and timeless(whole) == timeless(tmp_path)


def test_t6_stop_request_while_a_finished_run_is_evaluated(data, tmp_path, monkeypatch):
    train(small(epochs=1), data, tmp_path, show=quiet)
    calls = []

    def stopping(network, images, mean, recipe, after_batch, **more):
        os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(network, images, mean, recipe, after_batch=lambda: (calls.append(1), after_batch()))

    with (
        monkeypatch.context() as patch,
        pytest.raises(Interrupted, match="stopped at step 6, the last step, which is saved"),
    ):
        patch.setattr("tinyalex.runs.train.evaluate", stopping)
        train(small(epochs=1), data, tmp_path, show=quiet)
    assert len(calls) == 1  # of three batches


@pytest.fixture
def interruptible():
    """Let SIGINT raise KeyboardInterrupt, also where a shell started the tests in its background and ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_t5_second_signal_stops_at_once(data, tmp_path, monkeypatch):
    def twice(run):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    after(monkeypatch, 8, twice)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(signals, "_SAME_REQUEST", -1.0)
        train(small(), data, tmp_path / "late", show=quiet)
    assert checkpoint.inspect(checkpoint.newest(tmp_path / "late"))["step"] == 6
    with pytest.raises(Interrupted, match="stopped at step 8, saved"):  # within a second: one request
        train(small(), data, tmp_path / "soon", show=quiet)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("name", ["fsync", "replace", "pread"])
def test_t7_a_signal_while_a_checkpoint_is_written(data, whole, tmp_path, monkeypatch, name):
    """The run stops after the checkpoint is written completely."""
    original, count, sent = getattr(os, name), [], []

    def signalled(*given):
        count.append(1)
        if len(count) >= 5 and not sent and any(tmp_path.glob("*.part")):
            sent.append(os.kill(os.getpid(), signal.SIGTERM))
        return original(*given)

    with monkeypatch.context() as patch, pytest.raises(Interrupted) as stopped:
        patch.setattr(os, name, signalled)
        train(phased(), data, tmp_path, show=quiet, options=ResumeOptions(save_every=0.0))
    step = int(re.search(r"stopped at step (\d+)", str(stopped.value))[1])
    assert checkpoint.inspect(checkpoint.newest(tmp_path))["step"] == step
    assert not list(tmp_path.glob("*.part"))
    train(phased(), data, tmp_path, show=quiet)
    assert same(final(whole), final(tmp_path))


def test_c1_partial_files_of_a_killed_process_are_removed(data, tmp_path):
    for name in ("checkpoint-00000003.safetensors", "log.jsonl"):
        ownership.partial(tmp_path / name).write_bytes(b"half")
    for name in ("notes.txt", "film.mkv.part", ".film.mkv.0123456789abcdef.part"):
        (tmp_path / name).write_text("mine")
    train(small(epochs=1), data, tmp_path, show=quiet)
    assert sorted(path.name for path in tmp_path.glob("*.part")) == [".film.mkv.0123456789abcdef.part", "film.mkv.part"]
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_t14_lock_of_a_dead_process_does_not_count(data, tmp_path):
    """The lock file of a dead process does not count; a living process holds the lock and is named."""
    (tmp_path / ".lock").write_text("process 1 on elsewhere")
    with run_folder.hold(tmp_path), pytest.raises(BusyError, match=f"process {os.getpid()} on "):
        train(small(epochs=1), data, tmp_path, show=quiet)
    code = (
        "import os, sys, time; from tinyalex.runs import run_folder\n"
        "with run_folder.hold(sys.argv[1]): print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    with pytest.raises(BusyError, match=f"process {other.pid} on "):
        train(small(epochs=1), data, tmp_path, show=quiet)
    other.kill()
    other.communicate()
    train(small(epochs=1), data, tmp_path, show=quiet)


def test_disk_without_locks_is_reported(tmp_path, monkeypatch):
    import fcntl

    def refuse(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StorageError, match="cannot be locked .No locks available."), run_folder.hold(tmp_path):
        pass


# Which checkpoints are kept.


def test_c12_newest_two_best_and_one_for_each_drop_are_kept(data, tmp_path):
    train(phased(), data, tmp_path, show=quiet)
    found = checkpoint.by_step(tmp_path)
    reasons = {its["step"]: retention.pinned(found).get(path) for path, its in found}
    errors = [each["top1_error"] for each in run_folder.read_log(tmp_path) if each["event"] == "test"]
    best = 6 * (1 + int(np.argmin(errors)))
    assert reasons.keys() == {3, 12, 18, best}
    assert reasons[3] == "learning rate lowered for the first time"
    assert reasons[12].endswith("learning rate lowered for the second time")
    assert reasons[best].startswith(f"lowest test error, {min(errors):.2%}")


def kept(metadata):
    return {path: why for path, why in retention.pinned(list(enumerate(metadata))).items()}


def test_best_is_the_earliest_tested_with_the_lowest_error():
    made = [
        {"step": 40, "errors": [0.5, 0.3, 0.4, 0.3], "tested": True, "drops": 0},
        {"step": 20, "errors": [0.5, 0.3], "tested": True, "drops": 0},
        {"step": 25, "errors": [0.5, 0.1], "tested": False, "drops": 0},  # the error belongs to other weights
        {"step": 30, "errors": [0.5, 0.3, 0.4], "tested": True, "drops": 0},
    ]
    assert kept(made) == {1: "lowest test error, 30.00%"}
    drops = [{"step": step, "errors": [], "drops": count} for step, count in ((9, 4), (5, 1), (4, 1), (3, 0), (8, 4))]
    assert kept(drops) == {
        2: "learning rate lowered for the first time",
        4: "learning rate lowered for the 4th time",
    }


@pytest.mark.parametrize("seconds, steps", [(0.0, list(range(1, 6)) + [6]), (1e9, [6])])
def test_saved_at_intervals(data, tmp_path, monkeypatch, seconds, steps):
    saved, save = [], run_folder.save
    monkeypatch.setattr(run_folder, "save", lambda run, *given: (saved.append(run.step), save(run, *given))[1])
    train(small(epochs=1), data, tmp_path, show=quiet, options=ResumeOptions(save_every=seconds))
    assert sorted(set(saved)) == steps


def test_c14_reading_while_checkpoints_are_replaced(data, tmp_path, monkeypatch):
    train(small(epochs=1), data, tmp_path, show=quiet)
    newest, gone = checkpoint.newest, []

    def removed_meanwhile(folder, rejected):
        path = newest(folder, rejected)
        if not gone:
            gone.append(path.unlink())
            train(small(epochs=1), data, tmp_path, show=quiet)
        return path

    monkeypatch.setattr(checkpoint, "newest", removed_meanwhile)
    with pytest.raises(CheckpointError, match="no checkpoint here|cannot be read"):
        monkeypatch.setattr(checkpoint, "newest", lambda *_: tmp_path / "checkpoint-00000099.safetensors")
        run_folder.load(tmp_path)
    monkeypatch.setattr(checkpoint, "newest", removed_meanwhile)
    assert run_folder.load(tmp_path).metadata["step"] == 6


def test_missing_disk_space_is_reported_before_the_first_step(data, tmp_path, monkeypatch):
    usage = storage.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    with pytest.raises(StorageError, match=r"needs [\d,]+ bytes, but 1,000 are free on that disk; make room"):
        train(small(), data, tmp_path / "run", show=quiet)
    assert not list((tmp_path / "run").glob("checkpoint*"))


def test_a_run_with_a_least_number_of_steps_resumes_with_the_same_bits(tmp_path):
    """Three epochs of six steps make the fifteen that are wanted; the schedule is that of three epochs."""
    made = small('learning.schedule="cosine"', "learning.lr_mult={conv2=0.5}", epochs=1, steps=15)
    dataset = stripes()
    train(made, dataset, tmp_path / "whole", show=quiet)
    for stop in (1, 2, 9):
        train(made, dataset, tmp_path / "cut", show=quiet, stop_condition=lambda run, stop=stop: run.epoch >= stop)
    plain = small('learning.schedule="cosine"', "learning.lr_mult={conv2=0.5}", epochs=3)
    train(plain, dataset, tmp_path / "plain", show=quiet)
    assert final(tmp_path / "whole").keys() and checkpoint.newest(tmp_path / "whole").stem.endswith("00000018")
    assert same(final(tmp_path / "whole"), final(tmp_path / "cut"))
    assert same(final(tmp_path / "whole"), final(tmp_path / "plain"))
    slower = small('learning.schedule="cosine"', epochs=3)
    train(slower, dataset, tmp_path / "all", show=quiet)
    assert not same(final(tmp_path / "whole"), final(tmp_path / "all"))

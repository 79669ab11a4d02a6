"""Damaged files, full disks, closed outputs: saved checkpoints stay, and the newest valid one is found."""

import errno
import io
import json
import os
import pickle
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.programs import fuzz
from tests.support.small_runs import quiet, same, small, stripes
from tinyalex import randomness
from tinyalex.cli import main
from tinyalex.datasets.loading import batches as loading
from tinyalex.errors import CheckpointError, StorageError
from tinyalex.runs import checkpoint, run_folder, runlog
from tinyalex.runs.resume import ResumeOptions
from tinyalex.runs.train import train
from tinyalex.system import ownership, storage, tensorfile


@pytest.fixture(scope="module")
def data():
    return stripes()


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A run folder with two checkpoints."""
    folder = tmp_path_factory.mktemp("run")
    train(small(epochs=2), data, folder, show=quiet)
    return folder


@pytest.fixture
def copy(run, tmp_path):
    return Path(shutil.copytree(run, tmp_path / "run"))


def damaged(whole):
    """Yield 100 truncations and 1,000 copies with one bit flipped, half of these in the header."""
    key, head = randomness.key(3, "damage"), 8 + int.from_bytes(whole[:8], "little")
    for size in {0, 1, 2, 4, 7, 8, 9, 50, len(whole) // 2, len(whole) - 1}:
        yield whole[:size]
    for size in randomness.below(key, len(whole), np.arange(90)):
        yield whole[:size]
    for number, limit in [(n, len(whole)) for n in range(500)] + [(n, head) for n in range(500, 1000)]:
        bit = int(randomness.below(key, 8 * limit, np.array([number]))[0])
        altered = bytearray(whole)
        altered[bit // 8] ^= 1 << bit % 8
        yield bytes(altered)


@pytest.mark.slow
def test_c4_c5_every_damage_is_detected_and_the_older_checkpoint_is_used(copy, data):
    old, new = sorted(copy.glob("checkpoint*"))
    whole, count = new.read_bytes(), 0
    before = {name: np.array(value) for name, value in checkpoint.read(old)[0].items()}
    for content in damaged(whole):
        new.write_bytes(content)
        rejected = []
        assert checkpoint.newest(copy, rejected) == old
        assert (
            len(rejected) == 1 and new.name in rejected[0] and "pickle" not in rejected[0] and "\n" not in rejected[0]
        )
        count += 1
    assert count == 1100
    assert same(run_folder.read(checkpoint.newest(copy))[0], before)
    lines = []
    train(small(epochs=2), data, copy, show=lines.append)
    assert lines[0].startswith("warning: ") and lines[1] == "resuming at step 6 of 12"
    assert new.read_bytes() == content  # which tinyalex did not write: the run's last checkpoint has another name
    last = checkpoint.newest(copy)
    assert last.stat().st_size == len(whole) and same(checkpoint.read(last)[0], _read(whole, copy.parent))


def _read(content, folder):
    path = folder / "whole.safetensors"
    path.write_bytes(content)
    return checkpoint.read(path)[0]


# The header is checked against the net before the tensors are read.


def edited(path, change):
    """Rewrite a checkpoint with other tensors and metadata, and with the right hashes for them."""
    tensors, metadata = checkpoint.read(path)
    change(tensors, metadata)
    metadata = {key: metadata[key] for key in metadata if key not in ("format", "tinyalex")}
    path.unlink()  # else it would have to be the file that this run wrote, and this is a copy
    checkpoint.write(path, tensors, metadata)


def reshape(name, shape):
    return lambda tensors, metadata: tensors.update({name: tensors[name].reshape(shape)})


@pytest.mark.parametrize("change, message", [
    (lambda t, m: t.pop("conv2b/W"), "conv2b/W is nothing, not float32 (3, 3, 2, 4)"),
    (lambda t, m: t.pop("momentum/fc8/b"), "momentum/fc8/b is nothing, not float32 (2,)"),
    (lambda t, m: t.update(extra=np.zeros(3)), "extra is float64 (3,), not nothing"),
    (reshape("conv1a/b", (1, 2)), "conv1a/b is float32 (1, 2), not float32 (2,)"),
    (lambda t, m: t.update({"fc8/W": t["fc8/W"].astype(np.float64)}), "fc8/W is float64 (16, 2), not float32 (16, 2)"),
    (lambda t, m: t.update({"fc8/W": np.full((16, 2), np.nan, np.float32)}), "fc8/W[0, 0] is not a finite number"),
    (lambda t, m: t["momentum/conv3b/b"].__setitem__(2, np.inf), "momentum/conv3b/b[2] is not a finite number"),
    (lambda t, m: t.update({"data/mean": np.zeros((3, 4, 5), np.float32)}), "data/mean is (3, 4, 5), not a sq"),
    (lambda t, m: m.pop("recipe"), "recipe: None is not valid"),
    (lambda t, m: m.update(recipe="name = 3"), "its recipe is not valid (name: 3 is not valid; give text on one line)"),
    (lambda t, m: m.update(classes=["a"]), "1 class with 2 names, but the net has 2"),
    (lambda t, m: m.update(words=["a"] * 3), "2 classes with 3 names, but the net has 2"),
    (lambda t, m: m.update(errors="0.5"), "errors: '0.5' is not valid"),
    (lambda t, m: m.update(seed=None), "seed: None is not valid"),
])  # fmt: skip
@pytest.mark.parametrize("command", ["evaluate", "resume"])
def test_c8_t3_tensors_or_metadata_that_do_not_fit_the_net_are_refused(copy, data, change, message, command):
    old, new = sorted(copy.glob("checkpoint*"))
    old.unlink()
    edited(new, change)
    with pytest.raises(CheckpointError) as raised:
        run_folder.load(copy) if command == "evaluate" else train(small(epochs=2), data, copy, show=quiet)
    assert f"{new}: {message}" in str(raised.value)


def test_c8_all_differences_are_reported_and_nothing_is_loaded(copy, monkeypatch):
    import safetensors.numpy

    path = checkpoint.newest(copy)
    edited(path, lambda tensors, metadata: [tensors.pop(name) for name in list(tensors) if name.startswith("conv")])
    monkeypatch.setattr(safetensors.numpy, "load_file", lambda path: pytest.fail("the tensors were read"))
    with pytest.raises(
        CheckpointError, match=r"conv1a/W is nothing, .*; conv1a/b .*; conv1b/W .*; conv1b/b .*; and 16"
    ):
        run_folder.load(path)


def test_c7_huge_net_is_refused_from_the_header(copy):
    """Its recipe describes terabytes of weights; nothing is allocated, since the file has no such tensors."""
    path = checkpoint.newest(copy)

    def huge(tensors, metadata):
        metadata["recipe"] = metadata["recipe"].replace("hidden = 16", "hidden = 40000000000")

    edited(path, huge)
    with pytest.raises(CheckpointError, match=r"fc6a/W is float32 \(32, 8\), not float32 \(32, 20000000000\)"):
        run_folder.load(path)


def test_c9_newer_format_names_the_version_that_wrote_it(copy, monkeypatch):
    path = checkpoint.newest(copy)
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    monkeypatch.setattr(checkpoint, "__version__", "0.9.0")
    path.unlink()
    checkpoint.write(path, {"a": np.zeros(2)}, {"step": 3})
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"format 2, not 1; use the tinyalex that wrote it \(0.9.0\)"):
        checkpoint.read(path)


@pytest.mark.parametrize("name", ["run é with spaces", "link"])
def test_c11_moved_renamed_and_linked_runs_are_read(run, tmp_path, name):
    moved = tmp_path / name
    if name == "link":
        moved.symlink_to(run)
    else:
        shutil.copytree(run, moved)
    assert run_folder.load(moved).metadata["step"] == 12
    (tmp_path / "another name").write_bytes(checkpoint.newest(run).read_bytes())
    assert run_folder.load(tmp_path / "another name").metadata["step"] == 12


def test_c13_the_temporary_file_is_in_the_same_folder(copy, monkeypatch):
    renamed, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda old, new: (renamed.append((old, new)), replace(old, new)))
    checkpoint.save(copy, {"a": np.zeros(3)}, {"step": 40})
    assert [Path(old).parent == Path(new).parent == copy for old, new in renamed] == [True]


def test_c17_file_is_flushed_before_it_is_renamed(copy, monkeypatch):
    events, replace, fsync = [], os.replace, os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (events.append(os.readlink(f"/proc/self/fd/{file}")), fsync(file)))
    monkeypatch.setattr(os, "replace", lambda old, new: (events.append("rename"), replace(old, new)))
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("no /proc here to tell which file is flushed")
    checkpoint.save(copy, {"a": np.zeros(3)}, {"step": 40})
    part, *after = [event for event in events if not event.endswith(ownership.MARKER)]
    assert re.fullmatch(r".*/\.checkpoint-00000040\.safetensors\.[0-9a-f]{16}\.part", part)
    assert after == ["rename", str(copy)] and events.index("rename") > events.index(str(copy / ownership.MARKER))


def test_c18_checkpoints_are_written_in_the_main_thread(copy, data, monkeypatch):
    """It writes them between two steps, so no other thread changes the weights meanwhile."""
    import threading

    writers, write = set(), checkpoint.write
    monkeypatch.setattr(checkpoint, "write", lambda *given: (writers.add(threading.current_thread()), write(*given)))
    train(small(epochs=3), data, copy, show=quiet, options=ResumeOptions(change=True, save_every=0.0))
    assert writers == {threading.main_thread()}


# Exported weights.


@pytest.fixture(scope="module")
def weights(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    assert main(["export", str(run), str(path)]) == 0
    return path


def test_exported_weights_give_the_same_predictions(run, weights, data):
    one, two = run_folder.load(run), run_folder.load(weights)
    images = next(loading.test_batches(data.test, one.mean, one.recipe, 40)).images
    np.testing.assert_array_equal(one.network.predict(images), two.network.predict(images))
    np.testing.assert_array_equal(one.mean, two.mean)
    assert (one.recipe, one.classes, one.words) == (two.recipe, two.classes, two.words)
    assert weights.stat().st_size < 0.75 * checkpoint.newest(run).stat().st_size


def test_exported_weights_have_no_momenta_and_no_metrics(weights):
    texts, tensors = tensorfile.read(weights)
    assert not any(name.startswith(("momentum/", "epoch/")) for name in tensors) and "data/mean" in tensors
    assert json.loads(texts["tinyalex"])["kind"] == "weights"


def test_c15_weights_load_into_every_form_of_the_net(weights, data):
    found = []
    for devices in (["cpu"], ["cpu", "cpu"], ["fake:0", "fake:1"]):
        loaded = run_folder.load(weights, devices)
        found.append({name: device.get(view) for name, device, view in loaded.network.tensors()})
    assert same(found[0], found[1]) and same(found[0], found[2])


def test_c16_resuming_from_weights_is_refused(weights, data, tmp_path):
    path = tmp_path / "checkpoint-00000012.safetensors"
    shutil.copy(weights, path)
    with pytest.raises(CheckpointError, match=re.escape(f"{path}: holds only weights, a run cannot resume from it")):
        train(small(epochs=2), data, tmp_path, show=quiet)
    assert run_folder.load(path).metadata["step"] == 12


def test_c16_weights_are_not_a_run_folder(weights, capsys):
    assert main(["train", "--out", str(weights)]) == 7
    assert "is a file; give a folder as --out" in capsys.readouterr().err


def test_export_refuses_names_of_other_formats(run, tmp_path, capsys):
    assert main(["export", str(run), str(tmp_path / "net.pth")]) == 2
    assert "end in .safetensors" in capsys.readouterr().err


def test_export_replaces_its_own_file_only(run, tmp_path, capsys):
    path = tmp_path / "net.safetensors"
    command = ["export", str(run), str(path)]
    assert main(command) == 0 and main(command) == 0
    assert os.listdir(tmp_path) == [path.name] and run_folder.load(path)
    whole = path.read_bytes()
    for content in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:-7], b"mine", checkpoint.newest(run).read_bytes()):
        path.write_bytes(content)
        assert main(command) == 7 and path.read_bytes() == content
        assert "exists already, and is not one that this command made; give another name" in capsys.readouterr().err


# W1, W2: files of other programs, and inconsistent files.


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("EXECUTED"),))


def _zip(content):
    import zipfile

    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("archive/data.pkl", content)
    return stream.getvalue()


def _npz():
    stream = io.BytesIO()
    np.savez(stream, a=np.array([Bomb()], object))
    return stream.getvalue()


@pytest.mark.parametrize("name, content", [
    ("net.pth", lambda: pickle.dumps(Bomb())),
    ("net.pt", lambda: _zip(pickle.dumps(Bomb()))),
    ("net.npz", _npz),
    ("net.caffemodel", lambda: b"\n\x07AlexNet" + bytes(100)),
    ("net.safetensors", lambda: struct.pack("<Q", 100_000_001) + b"{}"),
    ("page.html", lambda: b"<!DOCTYPE html><html>sign in</html>"),
])  # fmt: skip
def test_w1_foreign_files_are_refused_and_no_code_in_them_runs(tmp_path, monkeypatch, capsys, name, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(content())
    for command in (["evaluate", name], ["predict", "a.png", "--run", name]):
        assert main(command) == 4
        error = capsys.readouterr().err
        assert error.startswith(f"tinyalex: error: {name}: ") and error.count("\n") == 1
    assert not (tmp_path / "EXECUTED").exists()


def header(**entries):
    text = json.dumps(entries).encode()
    return lambda data: struct.pack("<Q", len(text)) + text + data


def entry(dtype="F32", shape=(2,), begin=0, end=8):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


@pytest.mark.parametrize("name, content", [
    ("header longer than the file", struct.pack("<Q", 1000) + b"{}"),
    ("header of a gigabyte", struct.pack("<Q", 1 << 30) + b"{}"),
    ("overlap", header(a=entry(), b=entry())(bytes(16))),
    ("hole", header(a=entry(), b=entry(begin=12, end=20))(bytes(20))),
    ("negative", header(a=entry(begin=-8, end=0))(bytes(8))),
    ("backwards", header(a=entry(begin=8, end=0))(bytes(8))),
    ("not its shape's", header(a=entry(shape=(3,)))(bytes(8))),
    ("more than there is", header(a=entry(shape=(4,), end=16))(bytes(8))),
    ("less than there is", header(a=entry())(bytes(9))),
    ("no such type", header(a=entry(dtype="F31"))(bytes(8))),
    ("nothing over something", header(a=entry(), b=entry(shape=(0,), begin=4, end=4))(bytes(8))),
    ("a fraction", header(a=entry(shape=(2.0,)))(bytes(8))),
    ("true", header(a=entry(shape=(True, 2)))(bytes(8))),
    ("text", header(a="F32")(bytes(8))),
    ("twice", struct.pack("<Q", 8) + b'{"a":1,"a":2}'[:8]),
    ("empty", b""),
])  # fmt: skip
def test_w2_inconsistent_headers_are_refused(tmp_path, name, content):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError):
        tensorfile.read(path)
    with pytest.raises(CheckpointError, match=re.escape(str(path))):
        checkpoint.read(path)


# Failures of the log and of the terminal do not end a run.


class Full(io.FileIO):
    """A file on a full disk: only `room` bytes can be written, until the test sets a larger room."""

    room = 25

    def write(self, content):
        if not Full.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = super().write(bytes(content)[: Full.room])
        Full.room -= done
        return done


def test_t18_log_records_that_cannot_be_written_are_written_later(tmp_path):
    lines = []
    log = runlog.Log(tmp_path, 9, show=lines.append)
    log._file.close()
    log._file = Full(tmp_path / "log.jsonl", "ab")
    for step in range(1, 6):
        log.write("train", step=step, loss=0.5)
    assert lines == [
        f"warning: {tmp_path / 'log.jsonl'}: cannot be written (No space left on device); make room, training continues"
    ]
    assert (tmp_path / "log.jsonl").stat().st_size == 25 and run_folder.read_log(tmp_path) == []
    Full.room = 10**6
    log.write("train", step=6, loss=float("nan"))
    log.close()
    assert [(each["step"], each["loss"]) for each in run_folder.read_log(tmp_path)] == [
        (n, 0.5) for n in range(1, 6)
    ] + [(6, None)]
    Full.room = 25


def test_t18_closed_output_does_not_end_a_run(data, tmp_path):
    def broken(text):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    train(small(epochs=1), data, tmp_path, show=broken)
    assert checkpoint.newest(tmp_path)


def test_t18_closed_terminal_does_not_end_a_run(data, tmp_path, monkeypatch):
    import tqdm

    class Gone(io.StringIO):
        def isatty(self):
            return True

        def write(self, text):
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(sys, "stderr", Gone())
    train(small(epochs=1), data, tmp_path, show=quiet)
    assert checkpoint.newest(tmp_path) and tqdm


@pytest.mark.parametrize("text", ["[]", "3", '{"step": 1}', '{"event": "test"}', "[" * 100_000, "\ufffd"])
def test_invalid_lines_in_the_log_are_skipped(tmp_path, text):
    good = '{"event": "train", "step": 2}'
    (tmp_path / "log.jsonl").write_text(f"{good}\n{text}\n{good[:-3]}\n", encoding="utf-8")
    assert run_folder.read_log(tmp_path) == [json.loads(good)]


# Disks.


def test_c3_folder_without_write_permission_is_reported_before_the_first_step(data, tmp_path, monkeypatch):
    """Permissions are simulated, since root may write anywhere."""
    import builtins

    original = builtins.open

    def refuse(path, mode="r", *rest, **more):
        if str(path).startswith(str(tmp_path)) and "w" in mode:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return original(path, mode, *rest, **more)

    monkeypatch.setattr(builtins, "open", refuse)
    with pytest.raises(StorageError, match="recipe.toml: cannot be written .Permission denied."):
        train(small(), data, tmp_path / "run", show=quiet)


def test_c3_folder_that_is_deleted_ends_the_run(data, tmp_path, monkeypatch):
    """There is an error, no message that the run was saved."""
    from tests.support.small_runs import after

    folder = tmp_path / "run"

    def gone(run):
        shutil.rmtree(folder)
        folder.write_text("no folder any more")

    after(monkeypatch, 4, gone)
    with pytest.raises(
        StorageError, match="the checkpoint could not be written .*; make room and check the permissions"
    ):
        train(small(epochs=1), data, folder, show=quiet)


def test_c2_checkpoint_is_not_started_without_room(copy, monkeypatch):
    usage = shutil.disk_usage(copy)
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda folder: usage._replace(free=100_000))
    monkeypatch.setattr(Path, "touch", lambda path: pytest.fail("writing was started"))
    with pytest.raises(StorageError, match=r"needs [\d,]+ bytes, but 100,000 are free on that disk"):
        checkpoint.save(copy, {"a": np.zeros(100_000)}, {"step": 50})


def may_mount():
    return shutil.which("unshare") and subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not may_mount(), reason="no disk of its own may be mounted here (unshare -rm)")
def test_c2_disk_full_at_some_writes():
    command = ["unshare", "-rm", sys.executable, "-m", "tests.programs.full_disk", "--every", "8"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d+ of \d+ points, exit codes \{7: \d+(, 0: \d+)?\}: 0 wrong$", done.stdout, re.M)


# Small samples of the slow checks in tests/programs.


def last_line_of(*command):
    """Run a program of tests/programs; return the last line of its output."""
    command = [sys.executable, "-m", *command]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.slow
def test_t8_killed_at_random_moments():
    line = last_line_of("tests.programs.kill_train", "2", "--seed", "77")
    assert re.match(r"2 runs of [\d.]+ s, [2-9] kills, .* 0 differ from the uninterrupted run$", line), line


@pytest.mark.slow
def test_200_mutated_inputs(tmp_path):
    fuzz.samples(tmp_path)
    codes, wrong, peak = fuzz.fuzz(tmp_path, 0, 200, seed=1, say=quiet)
    assert wrong == [] and sum(codes.values()) == 200 and peak < fuzz.MEMORY // 1024
    assert len(codes) >= 4  # some inputs are valid, others fail in different ways

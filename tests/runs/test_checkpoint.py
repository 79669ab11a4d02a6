"""Checkpoints: only a complete, unaltered file is read, and a failed write leaves older files as they were."""

import errno
import json
import os
import re
import signal
import stat
import struct
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import tinyalex
from tests.support.folders import names
from tinyalex import randomness
from tinyalex.errors import CheckpointError, StorageError
from tinyalex.runs import checkpoint
from tinyalex.system import hashes, ownership, storage


@pytest.fixture
def tensors():
    numbers = randomness.normal(randomness.key(1, "test checkpoint"), np.arange(600)).astype(np.float32)
    return {
        "conv1a/W": numbers.reshape(5, 5, 3, 8),
        "conv1a/b": numbers[:8],
        "data/mean": numbers[:12].reshape(2, 2, 3),
    }


def header(entries, data):
    """Make the bytes of a safetensors file from header entries and data."""
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


def damage(path, index=-1):
    """Flip one bit of the byte at an index."""
    content = bytearray(path.read_bytes())
    content[index] ^= 1
    path.write_bytes(content)


def test_read_returns_what_was_saved(tmp_path, tensors):
    metadata = {"step": 12, "epoch": 0.5, "recipe": 'name = "é"\n', "classes": ["a", "b"], "seed": 3}
    path = checkpoint.save(tmp_path / "new" / "run", tensors, metadata)
    back, read_metadata = checkpoint.read(path)
    assert path.name == "checkpoint-00000012.safetensors"
    assert read_metadata == metadata | {"format": 1, "tinyalex": tinyalex.__version__}
    assert back.keys() == tensors.keys()
    for name, array in tensors.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)
    assert names(path.parent) == [path.name]


@pytest.mark.parametrize("name, array", [
    ("F order", np.asfortranarray(np.arange(24.0, dtype=np.float32).reshape(2, 3, 4))),
    ("strided", np.arange(40.0)[::2].reshape(4, 5).T),
    ("reversed", np.arange(6)[::-1]),
    ("big-endian", np.arange(5, dtype=">f4")),
    ("scalar", np.float64(3.5)),
    ("empty", np.zeros((0, 3), np.float32)),
    ("bytes", np.arange(7, dtype=np.uint8)),
])  # fmt: skip
def test_any_memory_order(tmp_path, name, array):
    back, _ = checkpoint.read(checkpoint.save(tmp_path, {name: array}, {"step": 0}))
    assert back[name].shape == np.shape(array)
    np.testing.assert_array_equal(back[name], array)


def test_every_truncation_is_detected(tmp_path, tensors):
    path = checkpoint.save(tmp_path, tensors, {"step": 1})
    whole = path.read_bytes()
    for size in {0, 1, 2, 7, 8, 9, len(whole) - 1, *np.linspace(10, len(whole) - 2, 30).astype(int)}:
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError):
            checkpoint.read(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(CheckpointError):
        checkpoint.read(path)


def test_every_flipped_bit_is_detected(tmp_path, tensors):
    path = checkpoint.save(tmp_path, tensors, {"step": 1, "recipe": "name = 3"})
    whole = path.read_bytes()
    head = 8 + int.from_bytes(whole[:8], "little")
    key = randomness.key(2, "flips")
    bits = [
        *randomness.below(key, len(whole) * 8, np.arange(100)),
        *randomness.below(key, head * 8, np.arange(300)),
        0,
    ]
    for bit in bits:
        altered = bytearray(whole)
        altered[bit // 8] ^= 1 << bit % 8
        path.write_bytes(altered)
        with pytest.raises(CheckpointError) as raised:
            checkpoint.read(path)
        assert "\n" not in str(raised.value)


ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
TEXTS = {"tinyalex": '{"format": 1, "step": 1}', "tensors.blake2b": "{}"}
TEXTS["tinyalex.blake2b"] = hashes.text(TEXTS["tinyalex"])


@pytest.mark.parametrize("name, content", [
    ("header longer than the file", struct.pack("<Q", 1 << 62) + b"{}"),
    ("no metadata", header({"a": ONE}, bytes(8))),
    ("foreign metadata", header({"__metadata__": {"format": "pt"}, "a": ONE}, bytes(8))),
    ("unknown tensor", header({"__metadata__": TEXTS, "a": ONE}, bytes(8))),
    ("overlap", header({"__metadata__": TEXTS, "a": ONE, "b": ONE}, bytes(8))),
    ("hole", header({"__metadata__": TEXTS, "a": ONE | {"data_offsets": [4, 12]}}, bytes(12))),
    ("huge shape", header({"__metadata__": TEXTS, "a": ONE | {"shape": [1 << 40, 1 << 40]}}, bytes(8))),
    ("negative", header({"__metadata__": TEXTS, "a": ONE | {"shape": [-1, -2]}}, bytes(8))),
    ("unknown type", header({"__metadata__": TEXTS, "a": ONE | {"dtype": "O"}}, bytes(8))),
    ("list", struct.pack("<Q", 2) + b"[]"),
    ("nested", struct.pack("<Q", 100_000) + b"[" * 100_000),
    ("newer", header({"__metadata__": TEXTS | {"tinyalex": (new := '{"format": 9, "step": 1}'),
                                               "tinyalex.blake2b": hashes.text(new)}}, b"")),
    ("pickle", b"\x80\x04\x95" + bytes(40)),
    ("text", b"<!DOCTYPE html><html><body>not found</body></html>"),
])  # fmt: skip
def test_invalid_files_are_refused_in_one_line(tmp_path, name, content):
    path = tmp_path / "checkpoint-00000001.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as raised:
        checkpoint.read(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_duplicate_key_is_refused(tmp_path, tensors):
    path = checkpoint.save(tmp_path, {"a": np.zeros(2, np.float32)}, {"step": 1})
    whole = path.read_bytes()
    head = 8 + int.from_bytes(whole[:8], "little")
    text = whole[8:head].rstrip()[:-1] + b',"a":' + json.dumps(ONE).encode() + b"}"
    path.write_bytes(struct.pack("<Q", len(text)) + text + whole[head:])
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.read(path)


@pytest.mark.parametrize("name", ["missing.safetensors", "."])
def test_missing_file_is_refused(tmp_path, name):
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.read(tmp_path / name)


def test_the_newest_two_are_kept(tmp_path, tensors):
    for step in (1, 2, 3, 4):
        checkpoint.save(tmp_path, tensors, {"step": step})
    assert names(tmp_path) == ["checkpoint-00000003.safetensors", "checkpoint-00000004.safetensors"]


def test_checkpoints_of_another_process_are_verified_before_older_ones_are_removed(tmp_path, tensors, monkeypatch):
    for step in (1, 2):
        checkpoint.save(tmp_path, tensors, {"step": step})
    monkeypatch.setattr(checkpoint, "_verified", {})  # as if another process had written them
    checkpoint.save(tmp_path, tensors, {"step": 3})
    assert names(tmp_path) == ["checkpoint-00000002.safetensors", "checkpoint-00000003.safetensors"]


def test_verify_returns_the_metadata(tmp_path, tensors):
    assert checkpoint.verify(checkpoint.save(tmp_path, tensors, {"step": 7}))["step"] == 7


@pytest.mark.parametrize("index", [20, -1])
def test_damaged_checkpoint_does_not_count_as_kept(tmp_path, tensors, index):
    checkpoint.save(tmp_path, tensors, {"step": 1})
    bad = checkpoint.save(tmp_path, tensors, {"step": 2})
    damage(bad, index)
    checkpoint.save(tmp_path, tensors, {"step": 3})
    assert names(tmp_path) == [f"checkpoint-0000000{step}.safetensors" for step in (1, 2, 3)]


def test_newest_uses_the_step_in_the_metadata(tmp_path, tensors):
    low = checkpoint.save(tmp_path, tensors, {"step": 5})
    high = checkpoint.save(tmp_path, tensors, {"step": 6})
    low, high = low.rename(tmp_path / "checkpoint-9.safetensors"), high.rename(tmp_path / "checkpoint-0.safetensors")
    os.utime(low)
    assert checkpoint.newest(tmp_path) == high


@pytest.mark.parametrize("index", [20, -1])
def test_newest_skips_damaged_checkpoints(tmp_path, tensors, index):
    low = checkpoint.save(tmp_path, tensors, {"step": 5})
    high = checkpoint.save(tmp_path, tensors, {"step": 6})
    damage(high, index)
    rejected = []
    assert checkpoint.newest(tmp_path, rejected) == low
    assert len(rejected) == 1 and high.name in rejected[0]
    low.unlink()
    with pytest.raises(CheckpointError, match="no usable checkpoint"):
        checkpoint.newest(tmp_path)
    with pytest.raises(CheckpointError, match="no checkpoint here"):
        checkpoint.newest(tmp_path / "nowhere")


def run(script, folder):
    return subprocess.run([sys.executable, "-c", textwrap.dedent(script), folder], capture_output=True, text=True)


def test_killed_before_the_rename(tmp_path, tensors):
    first = checkpoint.save(tmp_path, tensors, {"step": 1})
    done = run("""
        import os, signal, sys
        import numpy as np
        from tinyalex.runs import checkpoint
        os.replace = lambda *names: os.kill(os.getpid(), signal.SIGKILL)
        checkpoint.save(sys.argv[1], {"a": np.zeros(9)}, {"step": 2})
        """, tmp_path)  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    partial, _ = names(tmp_path)
    assert re.fullmatch(r"\.checkpoint-00000002\.safetensors\.[0-9a-f]{16}\.part", partial)
    assert checkpoint.newest(tmp_path) == first
    checkpoint.save(tmp_path, tensors, {"step": 2})
    ownership.remove_partial_files(tmp_path)
    assert names(tmp_path) == [first.name, "checkpoint-00000002.safetensors"]


def test_full_disk_leaves_older_checkpoints(tmp_path, tensors):
    first = checkpoint.save(tmp_path, tensors, {"step": 1})
    done = run("""
        import resource, sys
        import numpy as np
        from tinyalex import errors
        from tinyalex.runs import checkpoint
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            checkpoint.save(sys.argv[1], {"a": np.zeros(100_000)}, {"step": 2})
        except errors.StorageError as error:
            print(error)
        """, tmp_path)  # fmt: skip
    assert "could not be written" in done.stdout, done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert names(tmp_path) == [first.name]
    checkpoint.read(first)


@pytest.mark.parametrize("name", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_failed_write_leaves_nothing(tmp_path, tensors, monkeypatch, name, number):
    first = checkpoint.save(tmp_path, tensors, {"step": 1})

    def fail(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, name, fail)
    with pytest.raises(StorageError, match=os.strerror(number)):
        checkpoint.save(tmp_path, tensors, {"step": 2})
    with pytest.raises(StorageError, match=os.strerror(number)):
        storage.write_text(tmp_path / "recipe.toml", "text")
    assert names(tmp_path) == [first.name]


def test_file_system_that_refuses_to_flush_folders(tmp_path, tensors, monkeypatch):
    """A refused flush of a folder is no error; a refused flush of a file is."""
    fsync = os.fsync

    def refusing(descriptor, kind=stat.S_ISDIR):
        if kind(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refusing)
    checkpoint.read(checkpoint.save(tmp_path, tensors, {"step": 1}))
    monkeypatch.setattr(os, "fsync", lambda descriptor: refusing(descriptor, stat.S_ISREG))
    with pytest.raises(StorageError, match="Invalid argument"):
        checkpoint.save(tmp_path, tensors, {"step": 2})


def test_ctrl_c_while_writing_leaves_no_partial_file(tmp_path, tensors, monkeypatch):
    first = checkpoint.save(tmp_path, tensors, {"step": 1})

    def pressed(file):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", pressed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(tmp_path, tensors, {"step": 2})
    assert names(tmp_path) == [first.name]


def test_read_error_of_the_disk(tmp_path, tensors, monkeypatch):
    path = checkpoint.save(tmp_path, tensors, {"step": 1})

    def fail(*given):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(CheckpointError, match="cannot be read .Input/output error."):
        checkpoint.verify(path)
    monkeypatch.setattr("safetensors.numpy.load_file", fail)
    with pytest.raises(CheckpointError, match="cannot be read .*Input/output error"):
        checkpoint.read(path)


def test_disk_that_returns_other_bytes(tmp_path, tensors, monkeypatch):
    first = checkpoint.save(tmp_path, tensors, {"step": 1})
    flush = storage.flush

    def bad_disk(path):
        flush(path)
        if path.suffix == ".part":
            damage(path)

    monkeypatch.setattr(storage, "flush", bad_disk)
    with pytest.raises(StorageError, match="not as it was written"):
        checkpoint.save(tmp_path, tensors, {"step": 2})
    assert names(tmp_path) == [first.name]


def test_folder_is_a_file(tmp_path, tensors):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        checkpoint.save(tmp_path / "file", tensors, {"step": 1})
    with pytest.raises(StorageError):
        storage.write_text(tmp_path / "file" / "recipe.toml", "text")


def test_write_text_replaces_a_file(tmp_path):
    storage.write_text(tmp_path / "a" / "recipe.toml", "é\n")
    storage.write_text(tmp_path / "a" / "recipe.toml", "new\n")
    assert (tmp_path / "a" / "recipe.toml").read_text(encoding="utf-8") == "new\n"
    assert names(tmp_path / "a") == ["recipe.toml"]


def test_permissions_follow_the_umask(tmp_path, tensors):
    before = os.umask(0o022)
    try:
        assert checkpoint.save(tmp_path, tensors, {"step": 1}).stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(before)

"""Files that somebody swaps in, puts back, links or adds where tinyalex works: they stay, and the work goes on."""

import os
import platform
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.programs import other_files
from tests.programs.other_files import state
from tinyalex.cli import main
from tinyalex.errors import BusyError, ForeignFileError
from tinyalex.runs import checkpoint, run_folder
from tinyalex.system import lock, ownership, storage


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a small data set "data", a run "run" of one epoch on it, a set "set" and an image "image.png"."""
    root = tmp_path_factory.mktemp("made")
    other_files.prepare(root)
    return root


def run(made, name, scratch, **values):
    """Run a command in which some options have other values; return its exit code and what it printed to stderr."""
    return other_files.run(other_files.command(made, scratch, name, values))


def another_inode(path):
    """Put a copy back under a file's own name, with its time: as a user does who had saved it."""
    shutil.copy2(path, path.with_suffix(".saved"))
    path.with_suffix(".saved").replace(path)


# Large files are known by their stamps.


def test_a_saved_checkpoint_that_was_put_back_is_not_pruned(tmp_path):
    lines, tensors = [], {"a": np.zeros(9)}
    first = checkpoint.save(tmp_path, tensors, {"step": 1})
    another_inode(first)
    for step in (2, 3, 4, 5):
        checkpoint.save(tmp_path, tensors, {"step": step}, lines.append)
    kept = sorted(path.name for path in tmp_path.glob("checkpoint-*"))
    assert kept == [f"checkpoint-{step:08d}.safetensors" for step in (1, 4, 5)]
    assert lines == [f"{first} is not the file that this run wrote; it is kept"]


def test_a_saved_checkpoint_that_is_put_back_after_it_was_pruned_stays(tmp_path):
    """The copy gets the inode of the file that was removed, if the file system uses it again, and keeps its time."""
    tensors = {"a": np.zeros(9)}
    first = checkpoint.save(tmp_path, tensors, {"step": 1})
    shutil.copy2(first, tmp_path / "saved")
    for step in (2, 3):
        checkpoint.save(tmp_path, tensors, {"step": step})
    assert not first.exists()
    shutil.copy2(tmp_path / "saved", first)
    for step in (4, 5):
        checkpoint.save(tmp_path, tensors, {"step": step})
    assert first.exists()


@pytest.mark.parametrize("plant", [False, True])
def test_without_stamps_the_checkpoint_would_be_pruned(tmp_path, plant, monkeypatch):
    """The planted bug: any file of a listed name counts as ours."""
    if plant:
        monkeypatch.setattr(ownership, "_stamp", lambda status: ())
    first = checkpoint.save(tmp_path, {"a": np.zeros(9)}, {"step": 1})
    another_inode(first)
    for step in (2, 3, 4):
        checkpoint.save(tmp_path, {"a": np.zeros(9)}, {"step": step})
    assert first.exists() != plant


def test_checkpoints_of_this_run_are_pruned_after_a_resume(tmp_path):
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, {"a": np.zeros(9)}, {"step": step})
        checkpoint._verified.clear()
        ownership._read.clear()  # as in a new process
    assert len(list(tmp_path.glob("checkpoint-*"))) == 2


@pytest.mark.parametrize("content", [b"mine", "a shard of another set"])
def test_a_shard_that_was_swapped_is_not_replaced(made, tmp_path, content, capsys):
    shutil.copytree(made / "set", tmp_path / "set")
    shard = tmp_path / "set" / "train-00000.shard"
    if content != b"mine":
        data = np.frombuffer(shard.read_bytes(), np.uint8).copy()
        data[20] ^= 1  # in the plan's name
        content = data.tobytes()
    shard.write_bytes(content)
    code, error = run(made, "prepare", tmp_path, out=str(tmp_path / "set"))
    assert code == 7 and shard.read_bytes() == content
    assert error.count("\n") == 1 and "it is not replaced; move it" in error and str(shard) in error


def test_a_damaged_shard_of_this_set_is_made_again(made, tmp_path):
    shutil.copytree(made / "set", tmp_path / "set")
    shard = tmp_path / "set" / "train-00000.shard"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-9])
    assert run(made, "prepare", tmp_path, out=str(tmp_path / "set"))[0] == 0
    assert shard.read_bytes() == whole


def test_a_link_to_a_damaged_shard_is_refused_in_one_line(made, tmp_path, capsys):
    shutil.copytree(made / "set", tmp_path / "set")
    shard = tmp_path / "set" / "train-00000.shard"
    (tmp_path / "elsewhere").write_bytes(shard.read_bytes()[:-9])
    shard.unlink()
    shard.symlink_to(tmp_path / "elsewhere")
    words = other_files.command(made, tmp_path, "prepare", {"out": str(tmp_path / "set")})
    assert main(words) == 7
    printed = capsys.readouterr()
    assert f"{shard}: exists and is a link, which tinyalex does not make" in printed.err
    assert "makes the shard again" not in printed.out + printed.err and shard.is_symlink()


def test_a_log_that_was_swapped_is_kept_in_a_copy_even_without_a_line_end(made, tmp_path):
    shutil.copytree(made / "run", tmp_path / "run")
    (tmp_path / "run" / "log.jsonl").write_bytes(b"my diary")
    assert run(made, "train", tmp_path)[0] == 0
    assert (tmp_path / "run" / "log.1.jsonl").read_bytes() == b"my diary"


# Files of somebody else that appear during a run.


def test_a_checkpoint_gets_another_name_if_somebody_else_has_a_file_there(tmp_path):
    lines, tensors = [], {"a": np.arange(9.0)}
    for name in ("checkpoint-00000002", "checkpoint-00000002-2"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"mine")
    path = checkpoint.save(tmp_path, tensors, {"step": 2}, lines.append)
    assert path.name == "checkpoint-00000002-3.safetensors" and checkpoint.newest(tmp_path) == path
    assert len(lines) == 2 and lines[1].endswith("; the checkpoint is saved as checkpoint-00000002-3.safetensors")
    for step in (3, 4, 5):
        checkpoint.save(tmp_path, tensors, {"step": step})
    assert not path.exists() and (tmp_path / "checkpoint-00000002.safetensors").read_bytes() == b"mine"


def test_training_ends_well_although_files_appear_in_its_folder(made, tmp_path, monkeypatch, capsys):
    from tinyalex.runs import train

    evaluate, folder, before = train.evaluate, tmp_path / "run", {}

    def disturbed(network, *arguments, **options):
        names = ["curves.png", *(f"checkpoint-{step:08d}.safetensors" for step in range(1, 40))]
        before.update(other_files.fill(folder, [name for name in names if not (folder / name).exists()]))
        return evaluate(network, *arguments, **options)

    monkeypatch.setattr(train, "evaluate", disturbed)
    assert main(other_files.command(made, tmp_path, "train", {})) == 0
    printed = capsys.readouterr().out
    assert f"not drawn: {folder / 'curves.png'} (exists and was not made by tinyalex, so it is not replaced" in printed
    assert "test error" in printed and (folder / "kernels.png").exists() and "the checkpoint is saved as" in printed
    after = state(folder)
    assert len(before) > 30 and all(after[name] == before[name] for name in ("curves.png", *before) if name[0] == "c")
    monkeypatch.undo()
    assert run_folder.load(folder).metadata["epoch"] == 1
    (folder / "curves.png").unlink()
    assert run(made, "train", tmp_path)[0] == 0 and (folder / "curves.png").exists()


def test_figures_look_at_all_names_before_they_draw(made, tmp_path):
    before = other_files.fill(tmp_path, ["codes.png"])
    assert main(["figures", str(made / "run"), "--out", str(tmp_path)]) == 7
    assert state(tmp_path) == before


def test_a_file_that_appears_at_the_last_moment_is_not_replaced(tmp_path, monkeypatch):
    link = os.link

    def late(source, target, **options):
        target.write_bytes(b"mine")
        link(source, target, **options)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(ForeignFileError, match="exists already"):
        storage.write_bytes(tmp_path / "a.png", b"ours", lambda path: False)
    assert (tmp_path / "a.png").read_bytes() == b"mine" and os.listdir(tmp_path) == ["a.png"]


def test_a_file_system_without_hard_links_is_written_to(tmp_path, monkeypatch):
    monkeypatch.setattr(
        os, "link", lambda *names, **options: (_ for _ in ()).throw(OSError(1, "Operation not permitted"))
    )
    storage.write_bytes(tmp_path / "a.png", b"ours", lambda path: False)
    assert (tmp_path / "a.png").read_bytes() == b"ours" and os.listdir(tmp_path) == ["a.png"]


# What a command wrote it may write again.


def test_predict_draws_into_its_own_picture_again_but_not_into_a_changed_one(made, tmp_path, capsys):
    picture = tmp_path / "photo.png"
    assert run(made, "predict", tmp_path)[0] == 0
    first = picture.read_bytes()
    assert run(made, "predict", tmp_path, images=str(next((made / "data").rglob("*.png"))))[0] == 0
    second = picture.read_bytes()
    assert second != first and os.listdir(tmp_path) == ["photo.png"]
    for content in (first[:-1], first[:600] + bytes([first[600] ^ 1]) + first[601:], b"", b"mine", first + b"x"):
        picture.write_bytes(content)
        code, error = run(made, "predict", tmp_path)
        assert code == 7 and picture.read_bytes() == content
        assert "exists already, and is not one that this command made; give another name" in error


@pytest.mark.parametrize("name", ["figures", "experiment", "bench"])
def test_commands_with_a_marker_write_their_files_again(made, tmp_path, name):
    values = {"--out": str(tmp_path / "out")}
    assert run(made, name, tmp_path, **values)[0] == 0 and run(made, name, tmp_path, **values)[0] == 0


# Partial files.


@pytest.fixture
def dead_process():
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    return int(done.stdout)


def left_over(path, process, monkeypatch):
    """The partial file that a process left behind."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: process)
        partial = ownership.partial(path)
    partial.parent.mkdir(exist_ok=True)
    partial.write_bytes(b"half")
    return partial


@pytest.mark.parametrize("name, target", [
    ("figures", "figures/curves.png"), ("predict", "photo.png"), ("export", "weights.safetensors"),
    ("bench", "bench/bench.json"), ("train", "run/log.jsonl"), ("experiment", "trials/norm/result.json"),
    ("prepare", "set/contact_sheet.png"),
])  # fmt: skip
def test_partial_files_of_killed_commands_are_removed_by_the_next(
    made, tmp_path, name, target, monkeypatch, dead_process
):
    path = tmp_path / target
    path.parent.mkdir(parents=True, exist_ok=True)
    if name in ("experiment", "prepare"):
        assert run(made, name, tmp_path)[0] == 0
        path.unlink()
    ours = left_over(path, dead_process, monkeypatch)
    foreign = path.with_name(f".{path.name}.0123456789abcdef.part")
    foreign.write_bytes(b"mine")
    values = {"--out": str(tmp_path / "bench")} if name == "bench" else {}
    assert run(made, name, tmp_path, **values)[0] == 0
    assert not ours.exists() and foreign.read_bytes() == b"mine" and path.is_file()


def test_partial_files_of_running_processes_and_other_machines_stay(tmp_path, monkeypatch, dead_process):
    path = tmp_path / "a.png"
    running = left_over(path, os.getppid(), monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(platform, "node", lambda: "another machine")
        elsewhere = left_over(path, dead_process, monkeypatch)
    other_name = left_over(tmp_path / "b.png", dead_process, monkeypatch)
    storage.write_bytes(path, b"1", lambda path: False)
    assert running.exists() and elsewhere.exists() and other_name.exists()
    ownership.remove_partial_files(tmp_path)  # by the holder of the folder's lock
    assert running.exists() and not elsewhere.exists() and not other_name.exists()


# Locks, links and settings.


def test_a_hard_linked_copy_of_a_run_in_progress_is_explained(tmp_path):
    (tmp_path / "copy").mkdir()
    with lock.hold(tmp_path / "run", "training", "--out"):
        os.link(tmp_path / "run" / ".lock", tmp_path / "copy" / ".lock")
        message = "is a hard link, .*; copy the folder without hard links"
        with pytest.raises(BusyError, match=message), lock.hold(tmp_path / "copy", "training", "--out"):
            pass


@pytest.mark.parametrize("content", ['{"recipe": "not TOML", "data": "x"}', '{"recipe": 3, "data": 4}', "[]", "mine"])
def test_settings_of_another_program_are_named(made, tmp_path, content):
    path = tmp_path / "trials" / "norm" / "settings.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    code, error = run(made, "experiment", tmp_path)
    assert code == 7 and str(path) in error and error.count("\n") == 1 and path.read_text() == content


@pytest.mark.parametrize("name", ["train", "figures", "experiment", "bench", "prepare"])
def test_a_link_to_nowhere_as_output_is_named(made, tmp_path, name):
    (tmp_path / "out").symlink_to("nowhere")
    code, error = run(made, name, tmp_path, **{"--out": str(tmp_path / "out"), "out": str(tmp_path / "out")})
    assert code == 7 and f"{tmp_path / 'out'}: is a link to nowhere, which does not exist; give another path" in error
    assert not (tmp_path / "nowhere").exists()


def test_pictures_are_not_left_out_silently_if_the_disk_is_full(made, tmp_path, monkeypatch, capsys):
    def full(*arguments):
        raise OSError(28, "No space left on device", "curves.png")

    monkeypatch.setattr("tinyalex.figures.page.save", full)
    assert main(other_files.command(made, tmp_path, "train", {})) == 0
    printed = capsys.readouterr().out
    assert "warning: not drawn: " in printed and "No space left on device" in printed

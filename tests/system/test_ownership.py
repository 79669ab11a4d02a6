"""No command deletes, truncates or replaces a file that tinyalex did not make: see `tinyalex.system.ownership`."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.programs import kill_train
from tinyalex.cli import main
from tinyalex.errors import StorageError
from tinyalex.runs import checkpoint, run_folder
from tinyalex.system import lock, ownership, storage

LEGACY = Path(__file__).parents[1] / "legacy"
NAMES = [  # what any command writes somewhere, and what people have in their folders
    *("recipe.toml", "log.jsonl", ".lock", "checkpoint-00000003.part", "log.jsonl.part", "recipe.toml.part"),
    *("curves.png", "kernels.png", "panel.png", "architecture.png", "neighbours.png", "codes.png", "race.png"),
    *("settings.json", "result.json", "result.png", "diverged.txt", "bench.json", "bench.md", "bench.png"),
    *("manifest.json", "mean.f32", "skipped.tsv", "contact_sheet.png", "train-00000.shard", "test-00000.shard"),
    *("film.mkv.part", "Unconfirmed 1.crdownload", "x.tar.part", "shapes.png", "work/thesis.tex", "work/plan.json"),
    *("work/new/notes.txt", "work/train-00000.record", "dropout/settings.json", "dropout/result.json"),
    *("1-four-fifths/recipe.toml", "1-four-fifths/curves.png", "photo.png", "weights.safetensors"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a small data set "data", a run "run" of one epoch on it, and an image "image.png"."""
    root = tmp_path_factory.mktemp("made")
    kill_train.prepare(root)
    Image.new("RGB", (24, 20), "red").save(root / "image.png")
    assert main(train(root, root / "run")) == 0
    return root


def train(root, out, *options):
    """The command that trains a tiny net for one epoch."""
    words = ["train", root / "killed.toml", *options, "--data", root / "data", "--epochs", 1, "--weak-signal"]
    return [*map(str, words), "--out", str(out)]


def fill(folder, names=NAMES):
    """Write files of somebody else; return what `state` finds then."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(f"mine: {name}".encode())
    return state(folder)


def state(folder):
    """Return {path: hash, or where a link points to} of everything below a folder."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_symlink() or path.is_file()]
    return {str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else digest(path) for path in paths}


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def commands(root, out):
    """Every command with an option or argument that names a path to write to, pointed into ``out``."""
    run, data, image = (str(root / name) for name in ("run", "data", "image.png"))
    bench = [
        "bench",
        "cifar10-relu",
        "--batch",
        "2",
        "--rounds",
        "1",
        "--least",
        "0",
        "--contenders",
        "im2col",
        "--out",
        out,
    ]
    return {
        "train": train(root, out),
        "train, three stages": train(root, out, "--footnote-3"),
        "prepare": ["prepare", data, out, "--size", "8", "--workers", "1"],
        "figures of a run": ["figures", run, "--only", "curves", "architecture", "--out", out],
        "figures of two runs": ["figures", run, run, "--out", out],
        "figures of a recipe": ["figures", "shapes", "--out", out],
        "predict": ["predict", image, "--run", run, "--picture", f"{out}/photo.png"],
        "export": ["export", run, f"{out}/weights.safetensors"],
        "experiment": ["experiment", "dropout", "--data", data, "--seeds", "1", "--epochs", "1", "--out", out],
        "bench": bench,
    }  # fmt: skip


COMMANDS = list(commands(Path(), ""))


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_changes_a_folder_full_of_other_peoples_files(made, tmp_path, command, capsys):
    before = fill(tmp_path)
    code = main(commands(made, str(tmp_path))[command])
    error = capsys.readouterr().err
    assert code in (2, 7) and error.count("\n") == 1 and error.startswith("tinyalex: error: "), (code, error)
    assert before.items() <= state(tmp_path).items(), "a file of somebody else was changed or removed"


@pytest.mark.parametrize("command", COMMANDS)
def test_links_are_not_written_through_or_replaced(made, tmp_path, command, capsys):
    """Every name is a symbolic link to a file elsewhere; every second one a link to nowhere."""
    there, folder = tmp_path / "there", tmp_path / "folder"
    elsewhere = fill(there)
    for number, name in enumerate(NAMES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(there / name if number % 2 else tmp_path / "nowhere" / str(number))
    before = state(folder)
    assert main(commands(made, str(folder))[command]) in (2, 7)
    assert before.items() <= state(folder).items() and state(there) == elsewhere
    assert not (tmp_path / "nowhere").exists()


def test_the_sweep_notices_a_writer_that_does_not_check(made, tmp_path, monkeypatch):
    monkeypatch.setattr(ownership, "check", lambda path: None)
    before = fill(tmp_path, ["curves.png"])
    assert main(commands(made, str(tmp_path))["figures of a run"]) == 0
    assert not before.items() <= state(tmp_path).items()


# The cases that were found.


def test_prepare_does_not_remove_a_folder_work_of_the_user(made, tmp_path):
    before = fill(tmp_path, ["work/thesis.tex", "work/data/table.csv"])
    assert main(["prepare", str(made / "data"), str(tmp_path), "--size", "8"]) == 2
    assert state(tmp_path) == before


def test_prepare_keeps_files_that_a_user_put_into_its_work_folder(made, tmp_path, monkeypatch):
    command = ["prepare", str(made / "data"), str(tmp_path / "set"), "--size", "8", "--workers", "1"]
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr("tinyalex.prepare.complete.write", lambda *_: (_ for _ in ()).throw(SystemError))
        raise SystemExit(main(command))
    before = fill(tmp_path / "set", ["work/mine.txt", "work/new/mine.txt"])
    assert main(command) == 0
    left = state(tmp_path / "set" / "work")
    assert {name: value for name, value in left.items() if ownership.MARKER not in name} == {
        name.removeprefix("work/"): value for name, value in before.items() if "mine.txt" in name
    }


def test_train_does_not_remove_partial_downloads(made, tmp_path):
    before = fill(tmp_path, ["film.mkv.part", "paper.pdf.part", "checkpoint-00000003.part", ".x.0123456789abcdef.part"])
    assert main(train(made, tmp_path)) == 0 and main(train(made, tmp_path)) == 0
    assert before.items() <= state(tmp_path).items()


def test_train_does_not_replace_the_recipe_it_was_given(made, tmp_path, capsys):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("# my notes\n" + (made / "run" / "recipe.toml").read_text())
    before = state(tmp_path)
    assert main(["train", str(recipe), "--weak-signal", "--out", str(tmp_path)]) == 7
    assert f"{recipe}: exists and was not made by tinyalex, so it is not replaced; move it" in capsys.readouterr().err
    assert state(tmp_path) == before


def test_train_does_not_replace_its_own_recipe_after_the_user_has_changed_it(made, tmp_path, capsys):
    shutil.copytree(made / "run", tmp_path / "run")
    recipe = tmp_path / "run" / "recipe.toml"
    recipe.write_text("# my notes\n" + recipe.read_text())
    before = state(tmp_path)
    assert main(["train", str(recipe), "--out", str(tmp_path / "run")]) == 7
    assert "was changed after tinyalex wrote it" in capsys.readouterr().err
    assert state(tmp_path) == before


def test_train_refuses_a_picture_of_the_user_before_it_trains(made, tmp_path):
    before = fill(tmp_path, ["curves.png"])
    assert main(train(made, tmp_path)) == 7 and state(tmp_path) == before


def test_train_refuses_a_folder_with_checkpoints_of_another_program(made, tmp_path):
    before = fill(tmp_path, ["checkpoint-00000003.safetensors"])
    assert main(train(made, tmp_path)) == 7 and state(tmp_path) == before


def test_a_copy_of_a_checkpoint_is_not_pruned(tmp_path):
    tensors = {"a": np.zeros(9)}
    shutil.copy(checkpoint.save(tmp_path, tensors, {"step": 1}), tmp_path / "checkpoint-best.safetensors")
    for step in (2, 3, 4):
        checkpoint.save(tmp_path, tensors, {"step": step})
    kept = sorted(path.name for path in tmp_path.glob("checkpoint-*"))
    assert kept == [f"checkpoint-{name}.safetensors" for name in ("00000003", "00000004", "best")]


def test_predict_does_not_replace_a_picture_but_may_draw_the_same_one_again(made, tmp_path):
    command = ["predict", str(made / "image.png"), "--run", str(made / "run"), "--picture", str(tmp_path / "p.png")]
    assert main(command) == 0 and main(command) == 0
    assert os.listdir(tmp_path) == ["p.png"]
    (tmp_path / "p.png").write_bytes(b"a photo")
    assert main(command) == 7 and (tmp_path / "p.png").read_bytes() == b"a photo"


def test_export_does_not_replace_a_link_to_nowhere(made, tmp_path):
    (tmp_path / "w.safetensors").symlink_to("nowhere")
    assert main(["export", str(made / "run"), str(tmp_path / "w.safetensors")]) == 7
    assert os.readlink(tmp_path / "w.safetensors") == "nowhere" and len(os.listdir(tmp_path)) == 1


def test_an_experiment_does_not_take_the_result_of_another_program_for_its_own(tmp_path):
    from tinyalex.experiments import trial

    (tmp_path / "result.json").write_text('{"score": 3}')
    with pytest.raises(StorageError, match="was not made by tinyalex"):
        trial.trial(None, None, tmp_path, ["cpu"], 0, print)


@pytest.mark.parametrize("name", [".lock", ownership.MARKER])
def test_lock_and_marker_of_somebody_else_are_refused(tmp_path, name):
    before = fill(tmp_path, [name])
    with pytest.raises(StorageError, match="was not made by tinyalex"), lock.hold(tmp_path, "training", "--out"):
        pass
    assert before.items() <= state(tmp_path).items()


# The list itself.


def test_a_file_is_listed_before_it_appears(tmp_path, monkeypatch):
    replace, listed = os.replace, []
    monkeypatch.setattr(
        os, "replace", lambda old, new: (listed.append((tmp_path / ownership.MARKER).read_text()), replace(old, new))
    )
    storage.write_text(tmp_path / "a.json", "{}")
    records = [json.loads(line) for line in listed[0].splitlines()]
    assert records[0]["format"] == 1 and records[-1]["file"] == "a.json"
    assert ownership.is_ours(tmp_path / "a.json")


def test_incomplete_lines_of_a_killed_process_are_ignored(tmp_path):
    storage.write_text(tmp_path / "a.json", "{}")
    marker = tmp_path / ownership.MARKER
    for cut in range(marker.stat().st_size + 1):
        marker.write_bytes(marker.read_bytes()[:cut] if cut else b"")
        marker.touch()
        storage.write_text(tmp_path / f"b{cut}.json", str(cut))
        assert ownership.is_ours(tmp_path / f"b{cut}.json")


def test_another_processes_additions_are_seen(tmp_path):
    storage.write_text(tmp_path / "a.json", "{}")
    with (tmp_path / ownership.MARKER).open("a") as file:
        file.write('{"file": "b.json", "hash": null}\n')
    (tmp_path / "b.json").write_text("{}")
    assert ownership.is_ours(tmp_path / "b.json")


def test_a_run_folder_of_an_earlier_version_is_adopted(tmp_path):
    shutil.copytree(LEGACY / "run", tmp_path / "run")
    before = fill(tmp_path / "run", ["film.mkv.part", "notes.txt"])
    run_folder.adopt(tmp_path / "run")
    ours = {name for name in os.listdir(tmp_path / "run") if ownership.is_ours(tmp_path / "run" / name)}
    assert ours == {"checkpoint-00000062.safetensors", "log.jsonl", "recipe.toml"}
    assert before.items() <= state(tmp_path / "run").items()


def test_folders_that_are_only_read_get_no_marker(made, tmp_path):
    shutil.copytree(LEGACY / "finished", tmp_path / "finished")
    before = state(tmp_path)
    main(["predict", str(made / "image.png"), "--run", str(tmp_path / "finished")])
    assert state(tmp_path) == before


def test_a_prepared_set_of_an_earlier_version_is_adopted(tmp_path):
    from tinyalex.prepare import plan

    shutil.copytree(LEGACY / "set", tmp_path / "set")
    before = fill(tmp_path / "set", ["notes.txt"])
    plan.adopt(tmp_path / "set")
    ours = {name for name in os.listdir(tmp_path / "set") if ownership.is_ours(tmp_path / "set" / name)}
    assert ours == set(os.listdir(LEGACY / "set")) and before.items() <= state(tmp_path / "set").items()


def test_an_experiment_of_an_earlier_version_is_adopted(tmp_path):
    from tinyalex.experiments import report

    shutil.copytree(LEGACY / "experiments" / "dropout", tmp_path / "dropout")
    report.check_files(tmp_path / "dropout")
    assert ownership.is_ours(tmp_path / "dropout" / "settings.json")


# Folders without a marker that look like a run: what in them is somebody else's stays.


@pytest.fixture
def unmarked(made, tmp_path):
    """A copy of the run without its marker, as ``cp run/* copy`` makes it."""
    shutil.copytree(made / "run", tmp_path / "copy")
    (tmp_path / "copy" / ownership.MARKER).unlink()
    return tmp_path / "copy"


def test_a_run_copied_without_its_marker_is_resumed_and_drawn_again(made, unmarked):
    assert main(train(made, unmarked)) == 0
    assert {"curves.png", "kernels.png", "panel.png"} <= ownership._listed(unmarked).files.keys()


@pytest.mark.parametrize("content", [b"mine", "photo"])
def test_pictures_of_the_user_in_an_unmarked_run_are_kept(made, unmarked, content):
    content = (made / "image.png").read_bytes() if content == "photo" else content
    for name in ("curves.png", "panel.png", "race.png"):
        (unmarked / name).write_bytes(content)
    assert main(train(made, unmarked)) == 7
    assert {(unmarked / name).read_bytes() for name in ("curves.png", "panel.png", "race.png")} == {content}


@pytest.mark.parametrize(
    "line", ['{"event": "epoch", "step": 5, "loss": 0.3}', '{"event": "click", "step": 1}', "diary"]
)
def test_a_log_of_another_program_is_kept(made, tmp_path, line):
    (tmp_path / "log.jsonl").write_text(line + "\n")
    before = state(tmp_path)
    assert main(train(made, tmp_path)) == 7
    assert state(tmp_path) == before


def test_lines_that_a_user_wrote_into_a_log_are_kept_in_a_copy(made, tmp_path, capsys):
    shutil.copytree(made / "run", tmp_path / "run")
    with (tmp_path / "run" / "log.jsonl").open("a") as file:
        file.write('{"note": "the rate was too high"}\n')
    content = (tmp_path / "run" / "log.jsonl").read_bytes()
    assert main(train(made, tmp_path / "run")) == 0
    assert "holds lines that tinyalex did not write; a copy is kept as " in capsys.readouterr().out
    assert (tmp_path / "run" / "log.1.jsonl").read_bytes() == content


@pytest.mark.parametrize("content", [b"process list: pay rent", b"process 1 my file"])
def test_a_lock_file_of_the_user_is_kept(made, tmp_path, content):
    (tmp_path / ".lock").write_bytes(content)
    assert main(train(made, tmp_path)) == 7
    assert main(["prepare", str(made / "data"), str(tmp_path), "--size", "8", "--workers", "1"]) == 7
    assert (tmp_path / ".lock").read_bytes() == content


def test_unfinished_downloads_in_an_unmarked_run_are_kept(made, unmarked):
    before = fill(unmarked, ["log.jsonl.part", "recipe.toml.part", "checkpoint-00000009.part"])
    assert main(train(made, unmarked)) == 0
    after = state(unmarked)
    assert all(after[name] == before[name] for name in before if name.endswith(".part"))


def test_a_shard_that_is_none_in_an_unmarked_set_is_kept(made, tmp_path):
    prepare = ["prepare", str(made / "data"), str(tmp_path / "set"), "--size", "8", "--workers", "1"]
    assert main(prepare) == 0
    (tmp_path / "set" / ownership.MARKER).unlink()
    (tmp_path / "set" / "train-00000.shard").write_bytes(b"mine")
    assert main(prepare) == 7
    assert (tmp_path / "set" / "train-00000.shard").read_bytes() == b"mine"


def test_a_pipe_of_a_checkpoints_name_does_not_stop_the_command(made, tmp_path):
    os.mkfifo(tmp_path / "checkpoint-00000003.safetensors")
    assert main(train(made, tmp_path)) == 7


@pytest.mark.parametrize("marker", ["\n", '{"tiny\n', '{"tinyalex": "my notes"}\n', "notes"])
def test_a_marker_of_another_program_is_refused(made, tmp_path, marker):
    (tmp_path / ownership.MARKER).write_text(marker)
    assert main(train(made, tmp_path)) == 7
    assert (tmp_path / ownership.MARKER).read_text() == marker


def test_a_run_whose_marker_was_emptied_is_resumed(made, tmp_path):
    shutil.copytree(made / "run", tmp_path / "run")
    (tmp_path / "run" / ownership.MARKER).write_bytes(b"")
    assert main(train(made, tmp_path / "run")) == 0

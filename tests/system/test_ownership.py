"""No command deletes, truncates or replaces a file that tinyalex did not make: see `tinyalex.system.ownership`."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.programs import other_files
from tests.programs.other_files import fill, state
from tinyalex.cli import main
from tinyalex.errors import StorageError
from tinyalex.runs import checkpoint, run_folder
from tinyalex.system import lock, ownership, storage

LEGACY = Path(__file__).parents[1] / "legacy"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a small data set "data", a run "run" of one epoch on it, a set "set" and an image "image.png"."""
    root = tmp_path_factory.mktemp("made")
    other_files.prepare(root)
    return root


def train(root, out, *options):
    """The command that trains a tiny net for one epoch."""
    words = ["train", root / "killed.toml", *options, "--data", root / "data", "--epochs", 1, "--weak-signal"]
    return [*map(str, words), "--out", str(out)]


# The sweep: every option that names a path, pointed into a folder full of other people's files.

FILES = {"--picture": "photo.png", "file": "weights.safetensors", "recipe": "recipe.toml", "images": "photo.png"}


@pytest.mark.parametrize("links", [False, True], ids=["files", "links"])
@pytest.mark.parametrize("command, option", other_files.path_options())
def test_no_option_changes_a_folder_full_of_other_peoples_files(made, tmp_path, command, option, links):
    assert other_files.faults(made, tmp_path, command, option, FILES.get(option, ""), links=links) == []


def test_three_stages_of_training_do_not_change_other_peoples_files(made, tmp_path):
    assert other_files.faults(made, tmp_path, "train", "--out", extra=["--footnote-3"]) == []


WRITERS = [("figures", "--out", "", "curves.png"), ("predict", "--picture", "photo.png", "photo.png")]
WRITERS += [("export", "file", "weights.safetensors", "weights.safetensors"), ("train", "--out", "", "recipe.toml")]


@pytest.mark.parametrize("command, option, below, name", WRITERS, ids=lambda word: word)
def test_the_sweep_notices_a_writer_that_does_not_check(made, tmp_path, monkeypatch, command, option, below, name):
    monkeypatch.setattr(ownership, "check", lambda path: None)
    monkeypatch.setattr(storage, "check", lambda path, may_replace=None: None)
    (line,) = other_files.faults(made, tmp_path, command, option, below, [name])
    assert line.endswith(f"{name} is changed")


def test_the_sweep_fills_the_names_that_commands_write(made):
    found = {*os.listdir(made / "run"), *os.listdir(made / "set")} - {ownership.MARKER}
    assert {name for name in found if not name.startswith("checkpoint-")} <= set(other_files.NAMES)


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

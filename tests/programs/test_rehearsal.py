"""The rehearsal at reduced size, and what it reports about runs that went wrong."""

import json
import re
import shutil

import pytest

from tests.programs import rehearsal
from tinyalex.recipes import recipe
from tinyalex.runs import checkpoint, run_folder

DEVICES = {"two": ["fake:0", "fake:1"], "grouped": ["cpu"]}


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=DEVICES)
def rehearsed(request, tmp_path_factory):
    """Return the folder of a rehearsal, its report, and what it found wrong."""
    report, out = [], tmp_path_factory.mktemp("rehearsal")
    wrong = rehearsal.rehearse(out, DEVICES[request.param], rehearsal.SIZES["small"], say=report.append)
    return out, report, wrong


def test_interrupted_run_ends_with_the_bits_of_an_uninterrupted_one(rehearsed):
    out, report, wrong = rehearsed
    assert wrong == []
    assert report[-1].startswith("all is right, ")
    tensors, equal = re.search(r"^(\d+) tensors of .*: (\d+) equal to the bit$", "\n".join(report), re.M).groups()
    assert int(tensors) >= 61 and equal == tensors
    assert any("SIGKILL at step" in line and line.endswith("exit code -9: resumes from step 12") for line in report)
    assert any("SIGTERM at step" in line and "exit code 75" in line for line in report)
    assert sum("evaluated: " in line for line in report) == 1


def test_table_has_every_phase_of_the_recipe(rehearsed):
    rows = [line.split() for line in rehearsed[1]]
    rows = [row for row in rows if row[1:2] == ["to"]]
    assert [row[3:6] for row in rows] == [
        ["0.01", "0.02", "0.1"],
        ["0.001", "0.02", "0.1"],
        ["0.0001", "0.02", "0.1"],
        ["0.0001", "0.02", "0"],
        ["0.0001", "0.02", "0"],
        ["1e-05", "0.02", "0"],
    ]
    assert ["frozen" in row for row in rows] == [False] * 4 + [True] * 2
    assert (rows[0][0], rows[-1][2]) == ("0.00", "3.00")
    assert all(first[2] == second[0] for first, second in zip(rows, rows[1:], strict=False))


@pytest.mark.parametrize("size", rehearsal.SIZES)
def test_the_phases_are_those_of_the_original_in_proportion(size):
    made, original = rehearsal.compressed(rehearsal.SIZES[size]), recipe.load("original")
    assert len(made.learning.phases) == len(original.learning.phases) == 6
    for phase, full in zip(made.learning.phases, original.learning.phases, strict=True):
        assert abs(phase.epoch / made.learning.epochs - full.epoch / 91) < 0.08
        assert (phase.rate, phase.bias_rate, phase.lr_mult) == (full.rate, full.bias_rate, full.lr_mult)
    if size == "full":
        assert (made.net, made.init, made.data) == (original.net, original.init, original.data)


@pytest.fixture
def again(rehearsed, tmp_path):
    """Return a copy of a rehearsal's folder, to be damaged by a test; `compare` finds what is wrong with it."""
    shutil.copytree(rehearsed[0], tmp_path / "copy")
    return rehearsal.Rehearsal(tmp_path / "copy", ["cpu"], rehearsal.SIZES["small"])


def compared(copy):
    copy.compare()
    return copy.wrong


def test_nothing_is_wrong_with_a_copy(again):
    assert compared(again) == []


def last(copy):
    return max(copy.broken.glob("checkpoint-*.safetensors"))


def rewritten(path, change):
    tensors, metadata = checkpoint.read(path)
    change(tensors, metadata)
    checkpoint.save(path.parent / "other", tensors, metadata).replace(path)


def nudge(name):
    def change(tensors, metadata):
        tensors[name] = tensors[name].copy()
        tensors[name].view("uint32").reshape(-1)[-1] ^= 1

    return change


@pytest.mark.parametrize("name", ["conv2b/W", "momentum/fc8/b", "fc6a/b"])
def test_one_flipped_bit_is_reported(again, name):
    rewritten(last(again), nudge(name))
    assert compared(again) == [f"interrupted, 1 tensors differ at the end: ['{name}']"]


def test_frozen_layer_that_changes_is_reported(again):
    rewritten(again.stopped, nudge("conv1a/W"))
    assert [wrong.partition(" on ")[2] for wrong in compared(again)] == ["['conv1a/W'] changed, which was frozen"]


def test_free_layer_that_does_not_change_is_reported(again):
    same = {"conv3a/W": checkpoint.read(last(again))[0]["conv3a/W"]}
    rewritten(again.stopped, lambda tensors, _: tensors.update(same))
    assert [wrong.partition(" on ")[2] for wrong in compared(again)] == ["['conv3a/W'] did not change"]


def test_other_metadata_in_the_checkpoint_are_reported(again):
    rewritten(last(again), lambda _, metadata: metadata.update(errors=[0.5]))
    assert compared(again) == ["the metadata of the last checkpoints differ"]


def relogged(run, event, key, value):
    records = run_folder.read_log(run)
    next(record for record in records if record["event"] == event)[key] = value
    (run / run_folder.LOG).write_text("".join(json.dumps(record) + "\n" for record in records))


def test_another_test_error_is_reported(again):
    relogged(again.broken, "test", "loss", 0.1)
    assert [wrong.partition(":")[0] for wrong in compared(again)] == ["the logs' tests differ"]


def test_another_rate_is_reported(again):
    relogged(again.whole, "train", "rate", 0.02)
    assert compared(again) == ["step 1: rate 0.02, not 0.01"]

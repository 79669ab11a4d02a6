"""The dress rehearsal at reduced size, and what it would say of runs that went wrong."""

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
    """The folder of a rehearsal, what it said, and what it found wrong."""
    said, out = [], tmp_path_factory.mktemp("rehearsal")
    wrong = rehearsal.rehearse(out, DEVICES[request.param], rehearsal.SIZES["small"], say=said.append)
    return out, said, wrong


def test_a_run_that_is_killed_ends_with_the_bits_of_one_that_is_not(rehearsed):
    out, said, wrong = rehearsed
    assert wrong == []
    assert said[-1].startswith("all is right, ")
    tensors, equal = re.search(r"^(\d+) tensors of .*: (\d+) equal to the bit$", "\n".join(said), re.M).groups()
    assert int(tensors) >= 61 and equal == tensors
    assert any("SIGKILL at step" in line and line.endswith("exit code -9: goes on from step 12") for line in said)
    assert any("SIGTERM at step" in line and "exit code 75" in line for line in said)
    assert sum("evaluated: " in line for line in said) == 1


def test_the_table_tells_every_phase_of_the_recipe(rehearsed):
    rows = [line.split() for line in rehearsed[1]]
    rows = [row for row in rows if row[1:2] == ["to"]]
    assert [row[3:6] for row in rows] == [
        ["0.01", "0.02", "0.1"],
        ["0.001", "0.002", "0.1"],
        ["0.0001", "0.002", "0.1"],
        ["0.0001", "0.002", "0"],
        ["0.0001", "0.002", "0"],
        ["1e-05", "0.002", "0"],
    ]
    assert ["frozen" in row for row in rows] == [False] * 4 + [True] * 2
    assert (rows[0][0], rows[-1][2]) == ("0.00", "3.00")
    assert all(first[2] == second[0] for first, second in zip(rows, rows[1:], strict=False))


@pytest.mark.parametrize("size", rehearsal.SIZES)
def test_the_phases_are_those_of_the_original_in_proportion(size):
    made, original = rehearsal.pressed(rehearsal.SIZES[size]), recipe.load("original")
    assert len(made.learning.phases) == len(original.learning.phases) == 6
    for mine, its in zip(made.learning.phases, original.learning.phases, strict=True):
        assert abs(mine.epoch / made.learning.epochs - its.epoch / 91) < 0.08
        assert (mine.rate, mine.bias_rate, mine.lr_mult) == (its.rate, its.bias_rate, its.lr_mult)
    if size == "full":
        assert (made.net, made.init, made.data) == (original.net, original.init, original.data)


@pytest.fixture
def again(rehearsed, tmp_path):
    """A copy of a rehearsal's folder, to be damaged; `compare` says what is wrong with it."""
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
def test_one_bit_more_or_less_is_told(again, name):
    rewritten(last(again), nudge(name))
    assert compared(again) == [f"interrupted, 1 tensors end otherwise: ['{name}']"]


def test_a_layer_that_moves_when_it_is_frozen_is_told(again):
    rewritten(again.stopped, nudge("conv1a/W"))
    assert [wrong.partition(" on ")[2] for wrong in compared(again)] == ["['conv1a/W'] moved, which was frozen"]


def test_a_layer_that_stands_still_when_it_is_free_is_told(again):
    same = {"conv3a/W": checkpoint.read(last(again))[0]["conv3a/W"]}
    rewritten(again.stopped, lambda tensors, _: tensors.update(same))
    assert [wrong.partition(" on ")[2] for wrong in compared(again)] == ["['conv3a/W'] did not move"]


def test_other_errors_in_the_checkpoint_are_told(again):
    rewritten(last(again), lambda _, metadata: metadata.update(errors=[0.5]))
    assert compared(again) == ["the last checkpoints do not tell the same"]


def relogged(run, event, key, value):
    records = run_folder.read_log(run)
    next(record for record in records if record["event"] == event)[key] = value
    (run / run_folder.LOG).write_text("".join(json.dumps(record) + "\n" for record in records))


def test_another_test_error_is_told(again):
    relogged(again.broken, "test", "loss", 0.1)
    assert [wrong.partition(":")[0] for wrong in compared(again)] == ["the logs' tests differ"]


def test_another_rate_is_told(again):
    relogged(again.whole, "train", "rate", 0.02)
    assert compared(again) == ["step 1: rate 0.02, not 0.01"]

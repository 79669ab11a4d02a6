"""The dress rehearsal at reduced size, and what it would say of runs that went wrong."""

import json
import shutil

import pytest
import rehearsal

from tinyalex import checkpoint, recipe, runs

DEVICES = {"two": ["fake:0", "fake:1"], "grouped": ["cpu"]}


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
    assert any("61 tensors" in line and "61 equal to the bit" in line for line in said)
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
        assert (mine.rate, mine.bias_rate, mine.slow) == (its.rate, its.bias_rate, its.slow)
    if size == "full":
        assert (made.net, made.init, made.data) == (original.net, original.init, original.data)


@pytest.fixture
def again(rehearsed, tmp_path):
    """A copy of a rehearsal's folder, to be damaged; `compare` says what is wrong with it."""
    shutil.copytree(rehearsed[0], tmp_path / "copy")
    whole = rehearsal.Rehearsal(tmp_path / "copy", ["cpu"], rehearsal.SIZES["small"])
    *_, stopped, last = sorted(whole.broken.glob("checkpoint-*.safetensors"))
    return whole, int(stopped.stem.partition("-")[2]), last


def compared(whole, stopped):
    whole.compare(stopped)
    return whole.wrong


def test_nothing_is_wrong_with_a_copy(again):
    whole, stopped, _ = again
    assert compared(whole, stopped) == []


def rewritten(path, change):
    tensors, metadata = checkpoint.read(path)
    change(tensors, metadata)
    path.unlink()
    checkpoint.save(path.parent, tensors, metadata)


def nudge(name):
    def change(tensors, metadata):
        tensors[name] = tensors[name].copy()
        tensors[name].view("uint32").reshape(-1)[-1] ^= 1

    return change


@pytest.mark.parametrize("name", ["conv2b/W", "momentum/fc8/b", "conv1a/b"])
def test_one_bit_more_or_less_is_told(again, name):
    whole, stopped, last = again
    rewritten(last, nudge(name))
    assert f"interrupted, 1 tensors end otherwise: ['{name}']" in compared(whole, stopped)


def test_a_layer_that_moves_when_it_is_frozen_is_told(again):
    whole, stopped, last = again
    rewritten(last.with_stem(f"checkpoint-{stopped:08d}"), nudge("conv1a/W"))
    assert compared(whole, stopped) == [f"from step {stopped} on ['conv1a/W'] moved, which was frozen"]


def test_a_layer_that_stands_still_when_it_is_free_is_told(again):
    whole, stopped, last = again
    final = checkpoint.read(last)[0]
    same = {"conv3a/W": final["conv3a/W"]}
    rewritten(last.with_stem(f"checkpoint-{stopped:08d}"), lambda tensors, _: tensors.update(same))
    assert compared(whole, stopped) == [f"from step {stopped} on ['conv3a/W'] did not move"]


def test_other_errors_in_the_checkpoint_are_told(again):
    whole, stopped, last = again
    rewritten(last, lambda _, metadata: metadata.update(errors=[0.5]))
    assert compared(whole, stopped) == ["the last checkpoints do not tell the same"]


def relogged(run, event, key, value):
    records = runs.read_log(run)
    next(record for record in records if record["event"] == event)[key] = value
    (run / runs.LOG).write_text("".join(json.dumps(record) + "\n" for record in records))


def test_another_test_error_is_told(again):
    whole, stopped, _ = again
    relogged(whole.broken, "test", "loss", 0.1)
    assert [wrong.partition(":")[0] for wrong in compared(whole, stopped)] == ["the logs' tests differ"]


def test_another_rate_is_told(again):
    whole, stopped, _ = again
    relogged(whole.whole, "train", "rate", 0.02)
    assert compared(whole, stopped) == ["step 1: rate 0.02, not 0.01"]

"""tests/programs/same_bits.py says which tensors of two records differ, and by how much."""

import hashlib
import json

import numpy as np
import pytest

from tests.programs import same_bits
from tests.support.small_runs import small

MACHINE = {"checkout": "here", "commit": "1", "processor": "one", "threads": 2}
LARGE = 4 * same_bits.SAMPLE  # entries, of which every fourth is kept


def tensors():
    return {
        "conv1/W": np.linspace(-2, 1, 12).reshape(3, 4),
        "fc8/W": np.arange(LARGE, dtype=np.float32),
        "losses": np.array([6.9, 6.8]),
    }


@pytest.fixture
def record(tmp_path):
    """Make a record of `tensors` with some of them changed; give its path."""

    def make(name, machine=MACHINE, part="cifar/im2col", **changes):
        found = {key: array for key, array in (tensors() | changes).items() if array is not None}
        same_bits.write(tmp_path / f"{name}.json", machine, {part: found})
        return tmp_path / f"{name}.json"

    return make


def compared(one, other, **options):
    lines = []
    same = same_bits.compare(one, other, show=lines.append, **options)
    return same, lines


def test_the_same_tensors_are_identical(record):
    same, lines = compared(record("a"), record("b", MACHINE | {"commit": "2", "checkout": "there"}))
    assert same
    assert [line.split() for line in lines[1:]] == [["cifar/im2col", "3", "3", "0"]]


def test_a_difference_is_told_relative_to_the_largest_entry(record):
    changed = tensors()["conv1/W"]
    changed[1, 2] += 2e-7
    same, lines = compared(record("a", **{"conv1/W": changed}), record("b"))
    assert not same
    assert lines[1].split() == ["cifar/im2col", "3", "2", "1.0e-07"]
    assert lines[2:] == ["cifar/im2col conv1/W: 1.0e-07"]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"fc8/W": np.arange(LARGE) + (np.arange(LARGE) == 2)}, "fc8/W: int64 (16384,) and float32 (16384,)"),
        ({"losses": np.array([[6.9, 6.8]])}, "losses: float64 (1, 2) and float64 (2,)"),
        ({"losses": np.array([6.9, np.nan])}, "losses: inf"),
        ({"losses": np.array([6.9, -np.inf])}, "losses: inf"),
        ({"losses": None}, "losses: only in "),
        ({"extra": np.zeros(2)}, "extra: only in "),
        ({"losses": np.array([6.9, -6.8])}, "losses: 2.0e+00"),
    ],
    ids=["dtype", "shape", "nan", "infinite", "missing", "extra", "sign"],
)
def test_what_differs_is_named(record, changes, line):
    same, lines = compared(record("a", **changes), record("b"))
    assert not same
    assert len(lines) == 3 and f"cifar/im2col {line}" in lines[2]


def test_a_difference_outside_the_sample_is_seen_by_the_hash(record):
    changed = tensors()["fc8/W"]
    changed[2] += 1
    same, lines = compared(record("a", **{"fc8/W": changed}), record("b"))
    assert not same
    assert lines[1].split()[:3] == ["cifar/im2col", "3", "2"]
    assert lines[2] == "cifar/im2col fc8/W: differs outside the sample"


def test_zeros_of_other_sign_are_other_bits(record):
    assert not compared(record("a", extra=np.zeros(2)), record("b", extra=-np.zeros(2)))[0]


def test_parts_are_chosen(record, tmp_path):
    one, other = tmp_path / "a.json", tmp_path / "b.json"
    same_bits.write(one, MACHINE, {"train": tensors(), "original/cpu": tensors()})
    same_bits.write(other, MACHINE, {"train": tensors(), "original/cpu": tensors() | {"losses": np.zeros(2)}})
    assert compared(one, other, only=["train"])[0]
    assert not compared(one, other, only=["original"])[0]
    assert not compared(one, other)[0]
    same, lines = compared(one, other, only=["train", "cifar"])
    assert not same, "what is in neither record is not the same"
    assert lines[-1].startswith("not recorded: cifar;")


def test_a_part_that_only_one_record_has_is_a_difference(record):
    assert not compared(record("a"), record("b", part="cifar/winograd"))[0]


def test_another_machine_is_named(record):
    same, lines = compared(record("a"), record("b", MACHINE | {"threads": 4}))
    assert same
    assert lines[0] == "threads differs, and the last bits may for that reason: 2 and 4"


def test_the_exit_code_tells(record, capsys):
    one, other = record("a"), record("b", **{"losses": np.zeros(2)})
    assert same_bits.main(["compare", str(one), str(one)]) == 0
    assert same_bits.main(["compare", str(one), str(other)]) == 1
    assert "losses" in capsys.readouterr().out


def test_files_written_by_hand_are_compared(tmp_path):
    for name, array in (("a", np.array([1.0, 2.0])), ("b", np.array([1.0, 2.5]))):
        description = {"sha256": hashlib.sha256(array.tobytes()).hexdigest(), "shape": [2], "dtype": "float64"}
        description["max"] = float(array.max())
        record = {"machine": MACHINE, "parts": {"train": {"seconds": 1.0, "tensors": {"conv1/W": description}}}}
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
        np.savez(tmp_path / f"{name}.npz", **{"train|conv1/W": array})
    assert compared(tmp_path / "a.json", tmp_path / "a.json")[0]
    same, lines = compared(tmp_path / "a.json", tmp_path / "b.json")
    assert not same
    assert lines[2] == "train conv1/W: 2.0e-01"


def test_what_is_recorded_is_found_in_this_layout():
    # Its own table of names has to have those of today.
    made = small("net.classes=2")
    rng = np.random.default_rng(0)
    images = rng.integers(-128, 128, (2, 16, 20, 20, 3)).astype(np.float64) * made.data.scale
    found = same_bits.learn(made, ["cpu"], "float64", images, rng.integers(0, 2, (2, 16)))
    kinds = {name.split("/")[0] for name in found}
    assert kinds == {"value", "momentum", "gradient of step 1", "gradient of step 2", "losses"}
    assert all(description["max"] > 0 for name, (description, _) in found.items() if name.endswith("W"))
    again = same_bits.learn(made, ["cpu", "cpu"], "float64", images, rng.integers(0, 2, (2, 16)))
    assert found.keys() == again.keys()
    assert all(same_bits.module(name) for name in same_bits.MODULES)


def test_drawn_images_are_the_same_each_time(tmp_path):
    for name in ("a", "b"):
        same_bits.draw(tmp_path / name)
    files = [{p.relative_to(f): p.read_bytes() for p in f.rglob("*.*")} for f in (tmp_path / "a", tmp_path / "b")]
    assert files[0] == files[1] and len(files[0]) == 40

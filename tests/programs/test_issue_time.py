"""The program that times how steps are issued to a GPU that does nothing counts what a step has to issue."""

import pytest

from tests.programs import issue_time
from tests.support import null_gpu


def steps(columns):
    return issue_time.Steps(issue_time.Code("."), "original", columns, 2)


def test_a_repeated_step_issues_what_a_step_as_written_does():
    """Two columns: 14 copies between them, each with two events, and the products of the layers."""
    made = steps(2)
    repeated, by_part = made.issued(), made.parts(1, recorded=True)
    recorded, made.network.recorded = made.network.recorded, None
    written, layers = made.issued(), made.parts(1, recorded=False)
    assert recorded.repeated > 0
    assert {kind: repeated[kind] for kind in ("products", "copies between devices")} == {
        kind: written[kind] for kind in ("products", "copies between devices")
    }
    assert (written["products"], written["copies between devices"]) == (43, 14)
    assert repeated["kernels"] == written["kernels"] and repeated["allocations"] < written["allocations"] / 5
    assert repeated["events recorded"] == written["events recorded"]
    launches = sum(launches for name, (_, launches) in by_part.items() if name.startswith("all layers"))
    exchanged_twice = 2  # the copies of logits and of their gradient
    loss = sum(layers[f"loss/{way}"][1] for way in ("forward", "backward"))
    whole = layers["whole step, without its batch"][1]
    assert launches == sum(count for name, (_, count) in layers.items() if "/" in name) - loss + exchanged_twice
    assert whole > loss + launches - exchanged_twice
    assert {"conv1/forward", "relu1/backward", "norm2s/forward", "exchange before fc8/backward"} <= layers.keys()


def test_sides_take_turns(monkeypatch):
    taken = []

    class Side:
        def __init__(self, name, seconds):
            self.name, self.seconds = name, iter(seconds)

        def step(self):
            taken.append(self.name)
            return next(self.seconds)

    sides = {"a": Side("a", [9, 1, 1, 3, 3, 3]), "b": Side("b", [2] * 6)}
    assert issue_time.measure(sides, 2, 3) == {"a": 2, "b": 2}
    assert "".join(taken) == "aaabbb" * 2


def test_the_null_gpu_gives_arrays_addresses_of_their_own():
    gpu = null_gpu.NullCuPy()
    arrays = [gpu.empty((3, 5), "float32") for _ in range(3)]
    assert len({array.data.ptr for array in arrays}) == 3
    assert arrays[0][:, 1:].data.ptr == arrays[0].data.ptr + 4 and type(arrays[0][:, 1:]) is gpu.kind
    assert (arrays[0] + arrays[1]).shape == (3, 5) and (arrays[0] > 0).dtype == bool
    with pytest.raises(AttributeError):
        gpu.tanh(arrays[0])

"""The loss takes one whole number from 0 to c - 1 for each image, whoever calls it, and each batch is checked once."""

import numpy as np
import pytest

from tests.support import shim
from tests.support.layer_cases import noise
from tinyalex import labels as label_rules
from tinyalex.errors import DataError, ShapeError
from tinyalex.layers import Linear, SoftmaxLoss
from tinyalex.network import network
from tinyalex.network.columns import Exchange, Stage
from tinyalex.network.network import Network

WRONG = {
    "negative": [0, -1, 2],
    "as many as classes": [0, 5, 2],
    "of another type": [0.0, 1.0, 2.0],
    "fractions": [0.0, 1.5, 2.0],
    "not a number": [0.0, np.nan, 2.0],
    "bool": [True, False, True],
    "text": ["0", "1", "2"],
    "object": [0, 1, None],
    "a column": [[0], [1], [2]],
    "one for all": [2],
    "a number": 2,
    "one-hot": [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0]],
    "too few": [0, 1],
    "too many": [0, 1, 2, 3],
}
ONE = {"a column": [[2]], "one-hot": [[0, 0, 1, 0, 0]], "two": [2, 2], "no dimension": 2}
REFUSED = {name: (3, labels) for name, labels in WRONG.items()} | {
    f"of one image: {name}": (1, labels) for name, labels in ONE.items()
}
RULE = "labels have to be whole numbers from 0 to 4, one an image"


@pytest.mark.parametrize("kind", ["cpu", "fake:0", "kernels", "cuda:0"])
@pytest.mark.parametrize("count, labels", REFUSED.values(), ids=REFUSED)
def test_loss_refuses_wrong_labels(kind, count, labels):
    with shim.device(kind) as device:
        labels = np.array(labels)
        if kind == "cuda:0" and labels.dtype.kind in "UO":
            pytest.skip("CuPy has no arrays of this type")
        with pytest.raises(DataError, match=f"^labels: .*{RULE}") as caught:
            SoftmaxLoss().build(device).forward(device.put(noise(count, 5)), device.put(labels))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["cpu", "fake:0", "kernels"])
def test_loss_refuses_labels_and_logits_that_are_no_arrays(kind):
    with shim.device(kind) as device:
        loss, z, labels = SoftmaxLoss().build(device), device.put(noise(2, 5)), device.put(np.array([0, 1]))
        with pytest.raises(DataError, match=r"^labels: a list instead of an array; .*: use numpy.array\(labels\)$"):
            loss.forward(z, [0, 1])
        for wrong in (
            [[0.0, 1.0]],
            device.put(np.zeros((2, 5), int)),
            device.put(noise(5)),
            device.put(noise(2, 5, 1)),
        ):
            with pytest.raises(ShapeError, match="^SoftmaxLoss: got .*, wants "):
                loss.forward(wrong, labels)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "uint32", "int64", "uint64"])
def test_loss_takes_labels_of_any_integer_type(dtype):
    for device in (shim.device("cpu"), shim.device("kernels")):
        loss = SoftmaxLoss().build(device)
        z = noise(3, 5)
        wanted = -np.log(np.exp(z) / np.exp(z).sum(axis=1, keepdims=True))[[0, 1, 2], [4, 0, 2]].mean()
        np.testing.assert_allclose(loss.forward(z, np.array([4, 0, 2], dtype)), wanted, rtol=1e-12)


def a_net():
    return Network([Stage("fc", Exchange([[0]]), [[Linear((2, 2, 3), 5)]])], (2, 2, 3)).build(dtype="float64")


@pytest.mark.parametrize("count, labels", REFUSED.values(), ids=REFUSED)
def test_network_refuses_wrong_labels(count, labels):
    built = a_net()
    with pytest.raises(DataError, match=f"^labels: .*{RULE}"):
        built.loss_and_backward(noise(count, 2, 2, 3), np.array(labels))
    with pytest.raises(DataError, match="^labels: a (list|int) instead of an array"):
        built.loss_and_backward(noise(count, 2, 2, 3), labels)


def test_network_checks_the_labels_of_a_batch_once(monkeypatch):
    seen, check = [], label_rules.check
    for module, name in ((label_rules, "check"), (network, "check_labels")):
        monkeypatch.setattr(module, name, lambda *args: seen.append(args[1:]) or check(*args))
    a_net().loss_and_backward(noise(3, 2, 2, 3), np.array([0, 4, 2]))
    assert seen == [(3, 5)]

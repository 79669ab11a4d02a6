"""What layers refuse, by name: settings out of range, and inputs that are no arrays of floating numbers."""

import math

import numpy as np
import pytest

from tests.support import shim
from tests.support.layer_cases import CASES, noise
from tinyalex import layers
from tinyalex.errors import ShapeError, UsageError
from tinyalex.layers import loops
from tinyalex.layers.winograd import WinogradConv2d

NAN, INF = math.nan, math.inf
NOT_WHOLE = [0, -1, 2.5, 3.0, "3", None, True, NAN, [3]]  # where a whole number from 1 on is needed
NOT_FROM_0 = [-1, 2.5, "1", None, True, NAN]
ROUNDINGS = ["up", "", None, "Ceil", 1]
NOT_STD = [-0.1, NAN, INF, "He", None, True, [0.1]]
NOT_FINITE = [NAN, INF, "0", None, True]

CONV = {"channels": 4, "maps": 4, "kernel": 3, "stride": 1, "pad": 0, "groups": 1, "rounding": "floor"}
INITIAL = {"std": NOT_STD, "bias": [*NOT_FINITE, -INF]}
GEOMETRY = {"kernel": NOT_WHOLE, "stride": NOT_WHOLE, "pad": NOT_FROM_0, "rounding": ROUNDINGS} | INITIAL
POOL = {"window": [*NOT_WHOLE, 1], "stride": [*NOT_WHOLE, 4], "rounding": ROUNDINGS}
NORM = {"size": NOT_WHOLE, "k": [*NOT_FINITE, 0, -1.0], "alpha": [*NOT_FINITE, -1e-4], "beta": [*NOT_FINITE, -0.75]}
REFUSED = {  # the layer, valid arguments, and invalid values of each
    layers.Conv2d: (CONV, GEOMETRY | dict.fromkeys(("channels", "maps"), NOT_WHOLE) | {"groups": [*NOT_WHOLE, 3, 8]}),
    WinogradConv2d: (CONV, {"kernel": [0, 7, 2.5], "stride": [0, 3], "groups": [0, 3], "pad": [-1]}),
    layers.LocallyConnected: (
        {"inputs": (5, 6, 2), "maps": 3, "kernel": 3},
        GEOMETRY | {"maps": NOT_WHOLE, "kernel": [*NOT_WHOLE, 6],
                    "inputs": [5, None, (5, 6), (), (5, 6, 0), (5, 6, 2.5), (5, 6, NAN), (-5, 6, 2)]},
    ),
    layers.Linear: (
        {"inputs": (2, 3, 4), "outputs": 6},
        INITIAL | {"inputs": [*NOT_WHOLE[:-1], (), [], (2, 3, 0), (2, 2.5, 4)], "outputs": NOT_WHOLE,
                   "groups": [*NOT_WHOLE, 3, 8]},
    ),
    layers.MaxPool: ({"window": 3, "stride": 2}, POOL),
    layers.AvgPool: ({"window": 3, "stride": 2}, POOL),
    layers.LRN: ({}, NORM | {"groups": NOT_WHOLE}),
    layers.SpatialNorm: ({}, NORM),
    layers.ContrastNorm: ({}, NORM),
    layers.GaussianBlur: (
        {"deviation": 1.0, "size": 3}, {"deviation": [*NOT_FINITE, 0, -1.0], "size": [*NOT_WHOLE, 2, 4]},
    ),
    layers.Subsample: ({"stride": 2}, {"stride": NOT_WHOLE}),
    layers.DealChannels: (
        {"channels": 3, "dealt": 6}, {"channels": [*NOT_WHOLE, 4, 12], "dealt": [*NOT_WHOLE, 4]},
    ),
    layers.ChannelSlice: ({"first": 1, "count": 2}, {"first": [*NOT_WHOLE[1:], -1], "count": NOT_WHOLE}),
    layers.ScaledTanh: ({"a": 1.5, "b": 0.5}, {"a": [*NOT_FINITE, INF], "b": [*NOT_FINITE, -INF]}),
    layers.ElementwiseSum: (
        {"coefficients": [1.0, -1]}, {"coefficients": [[], None, 2.0, "12", *([1.0, each] for each in NOT_FINITE)]},
    ),
    layers.SumOfInputs: (
        {"shapes": [(4,), (2, 2, 3)], "layers": [layers.Linear(4, 5), layers.Linear((2, 2, 3), 5)]},
        {"shapes": [[], None, 4, [4, (2, 2, 3)], [(4,), (2, 2.5, 3)]],
         "layers": [[], None, 5, [layers.Linear(4, 5)], [layers.Linear(4, 5), layers.ReLU()], [None, None]]},
    ),
    layers.Dropout: (
        {}, {"p": [1.0, 1, -0.5, 1.5, *NOT_FINITE], "first_unit": NOT_FROM_0, "stream": [None, 6]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED, ids=lambda kind: kind.__name__)
def test_settings_out_of_range_are_refused_by_name(kind):
    valid, invalid = REFUSED[kind]
    kind(**valid)
    for name, values in invalid.items():
        for value in values:
            with pytest.raises(ShapeError) as caught:
                kind(**valid | {name: value})
            message = str(caught.value)
            assert message.startswith(f"{kind.__name__}: got ") and "\n" not in message and len(message) < 150, message
            assert name in message or str(value) in message, (name, value, message)


def test_messages_of_settings():
    for make, message in (
        (lambda: layers.Conv2d(3, 4, 0), "Conv2d: got kernel 0, wants a whole number, 1 or more"),
        (lambda: layers.Conv2d(3, 4, 3, pad=-1), "Conv2d: got pad -1, wants a whole number, 0 or more"),
        (lambda: layers.MaxPool(rounding="up"), "MaxPool: got rounding 'up', wants 'floor' or 'ceil'"),
        (lambda: layers.Dropout(1.0), "Dropout: got p 1.0, wants a finite number, 0 or more, below 1"),
        (lambda: layers.LRN(beta=NAN), "LRN: got beta nan, wants a finite number, 0 or more"),
    ):
        with pytest.raises(ShapeError) as caught:
            make()
        assert str(caught.value) == message


def test_settings_may_be_numpys_numbers():
    three, one = np.int64(3), np.uint8(1)
    for device in (shim.device("cpu"), shim.device("kernels")):
        conv = layers.Conv2d(three, three, three, one, one, one, std=np.float32(0.1)).build(device)
        assert conv.forward(noise(2, 4, 4, 3).astype("float32")).shape == (2, 4, 4, 3)
        assert layers.MaxPool(three, one).build(device).forward(noise(2, 4, 4, 3).astype("float32")).shape[1] == 2
        assert layers.LRN(three, one, one, np.float64(0.75)).build(device).forward(np.ones((1, 4), "f")).shape == (1, 4)
        assert layers.Linear(np.int64(4), three).build(device).forward(np.ones((1, 4), "f")).shape == (1, 3)


# Inputs. Whole numbers would wrap: the average of nine pixels of 200, as bytes, would be 8.

INTEGERS = ["uint8", "int64", "bool", "object"]


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("label", CASES)
@pytest.mark.parametrize("kind", ["cpu", "kernels"])
def test_inputs_of_whole_numbers_are_refused(label, dtype, kind):
    case = CASES[label]
    layer = case.build(shim.device(kind))
    with pytest.raises(ShapeError) as caught:
        layer.forward(np.full(case.shape, 200).astype(dtype), **case.options)
    assert str(caught.value) == f"layer: got x in {dtype}, wants float32 or float64: use x.astype('float32')"


@pytest.mark.parametrize("label", CASES)
def test_loops_compute_with_whole_numbers(label):
    case = CASES[label]
    x = (abs(case.x()) * 20 % 256).astype("uint8")
    arguments = [noise(*p.shape, purpose=p.kind) for p in case.make().parameters]
    y = case.forward(x, *arguments)
    np.testing.assert_allclose(y, case.forward(x.astype(float), *arguments), rtol=1e-12)
    dy = noise(*y.shape, purpose="dy")
    for found, wanted in zip(case.backward(dy, x, *arguments), case.backward(dy, x * 1.0, *arguments), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_loops_of_the_loss_compute_with_whole_numbers():
    z, labels = np.array([[200, 1, 3], [0, 255, 254]], "uint8"), np.array([0, 2])
    np.testing.assert_allclose(loops.softmax_loss(z, labels), loops.softmax_loss(z * 1.0, labels), rtol=1e-12)
    found, wanted = (loops.softmax_loss_backward(logits, labels) for logits in (z, z * 1.0))
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


@pytest.mark.parametrize("z", [np.array([[200, 1]], "uint8"), [[1.0, 2.0]], np.ones(3), np.ones((2, 3, 1))])
def test_probabilities_of_no_logits_are_refused(z):
    with pytest.raises(ShapeError, match="^SoftmaxLoss: got .*, wants "):
        layers.SoftmaxLoss().probabilities(z)


@pytest.mark.parametrize("label", CASES)
def test_an_input_that_is_no_array_is_refused(label):
    case = CASES[label]
    with pytest.raises(ShapeError) as caught:
        case.build(shim.device("cpu")).forward(np.ones(case.shape).tolist(), **case.options)
    assert str(caught.value) == "layer: got x as a list, wants an array: use numpy.array(x, 'float32')"


@pytest.mark.parametrize("make", [
    lambda: layers.Conv2d(3, 4, 3), lambda: layers.Linear((4, 4, 3), 5), lambda: WinogradConv2d(3, 4, 3),
    lambda: layers.LocallyConnected((4, 4, 3), 5, 3), lambda: layers.DealChannels(3, 6),
    lambda: layers.SumOfInputs([(4, 4, 3)], [layers.Conv2d(3, 4, 3)]),
])  # fmt: skip
def test_a_layer_that_was_not_built_says_so(make):
    with pytest.raises(ShapeError, match=r"^conv1: got x before build\(\), wants build\(\) first: layer.build\(\)"):
        make().named("conv1").forward(np.ones((1, 4, 4, 3)))


@pytest.mark.parametrize("make, shape", [
    (lambda: layers.Conv2d(3, 4, 3), (4, 4, 3)), (lambda: layers.Linear((4, 4, 3), 5), (4, 4, 3)),
    (lambda: layers.MaxPool(), (4, 4, 3)), (lambda: layers.AvgPool(), (2, 4)),
    (lambda: layers.SpatialNorm(), (4, 4, 3)), (lambda: layers.Dropout(), (5,)),
    (lambda: layers.Dropout(), (2, 4, 3)), (lambda: layers.Dropout(), (2, 2, 4, 4, 3)), (lambda: layers.LRN(), (5,)),
    (lambda: layers.ContrastNorm(), (4, 4, 3)), (lambda: layers.GaussianBlur(1.0, 3), (4, 4, 3)),
    (lambda: layers.Subsample(2), (4, 4, 3)), (lambda: layers.DealChannels(3, 6), (3,)),
    (lambda: layers.ChannelSlice(1, 2), (4, 4, 2)), (lambda: layers.ElementwiseSum([1.0, 1.0]), (4,)),
    (lambda: layers.SumOfInputs([(4, 4, 3)], [layers.Conv2d(3, 4, 3)]), (4, 4, 3)),
    (lambda: layers.LocallyConnected((4, 4, 3), 5, 3), (4, 4, 3)),
])  # fmt: skip
def test_inputs_of_another_rank_are_refused(make, shape):
    for training in (False, True):
        with pytest.raises(ShapeError, match="^layer: got .*, wants "):
            make().named("layer").build(dtype="float64").forward(np.ones(shape), training=training)


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool"])
def test_parameters_of_whole_numbers_are_refused(dtype):
    with pytest.raises(UsageError, match=f"^fc8: got parameters in {dtype}, wants float32 or float64$"):
        layers.Linear(3, 2).named("fc8").build(dtype=dtype)

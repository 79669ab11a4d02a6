"""Fake devices: operations that mix two of them, or one and the host, raise; all others work as NumPy's."""

import copy

import numpy as np
import pytest

from tinyalex.devices.device import Device
from tinyalex.devices.fake import DeviceMismatch, FakeArray
from tinyalex.layers import Layer
from tinyalex.network import alexnet
from tinyalex.randomness import Step
from tinyalex.recipes.settings import Init, Net

HOST = np.arange(1.0, 13.0).reshape(3, 4)


DEVICES = {name: Device(name) for name in ("fake:0", "fake:1")}
XP = DEVICES["fake:0"].xp


def on(device_name, array=HOST):
    return DEVICES[device_name].put(array)


def fetched(array):
    return DEVICES[array.device_name].get(array)


@pytest.fixture(autouse=True)
def here():
    """fake:0 is the current device."""
    with DEVICES["fake:0"]:
        yield


@pytest.fixture
def mine():
    return on("fake:0")


@pytest.fixture(params=["another device", "the host"])
def stranger(request):
    """An array that must not be used on fake:0."""
    return on("fake:1") if request.param == "another device" else HOST.copy()


# What is refused.

MIXTURES = {
    "ufunc": lambda x, s: np.add(x, s),
    "ufunc, reversed": lambda x, s: np.add(s, x),
    "ufunc with three arrays": lambda x, s: np.clip(x, 0, s),
    "ufunc into out": lambda x, s: np.add(x, 1, out=s),
    "ufunc of a stranger into out": lambda x, s: np.exp(s, out=x),
    "ufunc where": lambda x, s: np.add(x, 1, out=x, where=s > 3),
    "ufunc reduce into out": lambda x, s: np.add.reduce(x, out=s[0]),
    "ufunc accumulate": lambda x, s: np.add.accumulate(x, out=s),
    "ufunc outer": lambda x, s: np.multiply.outer(x, s),
    "ufunc at": lambda x, s: np.add.at(x, 0, s[0]),
    "plus": lambda x, s: x + s,
    "plus, reversed": lambda x, s: s + x,
    "times": lambda x, s: x * s,
    "times, reversed": lambda x, s: s * x,
    "over": lambda x, s: x / s,
    "power": lambda x, s: x**s,
    "power, reversed": lambda x, s: s**x,
    "compare": lambda x, s: x > s,
    "compare, reversed": lambda x, s: s > x,
    "equal": lambda x, s: x == s,
    "not equal, reversed": lambda x, s: s != x,
    "matmul": lambda x, s: x @ s.T,
    "matmul, reversed": lambda x, s: s @ x.T,
    "np.matmul": lambda x, s: np.matmul(x, s.T),
    "np.matmul into out": lambda x, s: np.matmul(x, x.T, out=s[:, :3]),
    "np.dot": lambda x, s: np.dot(x, s.T),
    "x.dot": lambda x, s: x.dot(s.T),
    "einsum": lambda x, s: np.einsum("ij,ij", x, s),
    "concatenate": lambda x, s: np.concatenate([x, s]),
    "stack in a tuple": lambda x, s: np.stack((s, x)),
    "where": lambda x, s: np.where(x > 3, x, s),
    "copyto": lambda x, s: np.copyto(x, s),
    "copyto, reversed": lambda x, s: np.copyto(s, x),
    "tensordot": lambda x, s: np.tensordot(x, s, 2),
    "take": lambda x, s: np.take(x, s.astype(int) % 12),
    "sum into out": lambda x, s: np.sum(x, axis=0, out=s[0]),
    "x.sum into out": lambda x, s: x.sum(axis=0, out=s[0]),
    "x.clip": lambda x, s: x.clip(0, s),
    "x.take": lambda x, s: x.take(s.astype(int) % 12),
    "in place": lambda x, s: x.__iadd__(s),
    "in place times": lambda x, s: x.__imul__(s),
    "in place minus": lambda x, s: x.__isub__(s),
    "in place over": lambda x, s: x.__itruediv__(s),
    "in place power": lambda x, s: x.__ipow__(s),
    "in place, reversed": lambda x, s: s.__iadd__(x),
    "assign": lambda x, s: x.__setitem__(..., s),
    "assign a part": lambda x, s: x.__setitem__((slice(1), 2), s[:1, 2]),
    "assign, reversed": lambda x, s: s.__setitem__(..., x),
    "assign one element, reversed": lambda x, s: s.__setitem__((0, slice(1)), x[0, :1]),
    "assign a list": lambda x, s: x.__setitem__(slice(2), [s[0], s[1]]),
    "index": lambda x, s: x[s[0].astype(int) % 3],
    "index, reversed": lambda x, s: s[x[0].astype(int) % 3],
    "index by mask": lambda x, s: x[s > 3],
    "index in a tuple": lambda x, s: x[0, s[0].astype(int) % 3],
    "assign by index": lambda x, s: x.__setitem__(s > 3, 0),
    "assign by index, reversed": lambda x, s: s.__setitem__(x > 3, 0),
    "xp.maximum": lambda x, s: XP.maximum(x, s),
    "xp.matmul": lambda x, s: XP.matmul(x, s.T),
    "Device.matmul": lambda x, s: DEVICES["fake:0"].matmul(x, s.T, out=XP.empty((3, 3))),
}


@pytest.mark.parametrize("mixture", MIXTURES)
def test_mixing_devices_raises(mixture, mine, stranger):
    before = getattr(stranger, "_array", stranger).copy()
    with pytest.raises(DeviceMismatch):
        MIXTURES[mixture](mine, stranger)
    np.testing.assert_array_equal(fetched(mine), HOST)  # and nothing was written on the way
    np.testing.assert_array_equal(getattr(stranger, "_array", stranger), before)


@pytest.mark.parametrize("mixture", MIXTURES)
def test_the_same_operations_work_on_one_device(mixture):
    MIXTURES[mixture](on("fake:0"), on("fake:0"))  # what is refused above is refused for the mixing alone


def test_device_array_as_a_host_array_raises(mine):
    for use in (np.asarray, np.array, lambda x: np.empty((3, 4)).__setitem__(..., x), lambda x: np.float64(x[0, :1])):
        with pytest.raises(DeviceMismatch):
            use(mine)


def test_array_module_does_not_copy_between_devices():
    for creator in (XP.asarray, XP.array, XP.ascontiguousarray):
        with pytest.raises(DeviceMismatch):
            creator(on("fake:1"))


def test_message_names_both_devices(mine):
    with pytest.raises(DeviceMismatch, match="^an array of fake:1 met one of fake:0; only an Exchange may copy"):
        mine + on("fake:1")
    with pytest.raises(DeviceMismatch, match=r"^a host array met one of fake:0; copy it there with device.put\(\)$"):
        mine + HOST
    with pytest.raises(DeviceMismatch, match=r"^an array of fake:0 was used as a host array; .* device.get\(\)$"):
        np.asarray(mine)


# What is NumPy.

PLAIN = {
    "sum": lambda x, xp: x.sum(axis=0),
    "a number": lambda x, xp: x.sum(),
    "mixed scalars": lambda x, xp: 2 * x**2 / 3 - np.float64(1),
    "comparison": lambda x, xp: (x > 3) & ~(x > 7),
    "matmul": lambda x, xp: x @ x.T,
    "reverse minus": lambda x, xp: 1 - x,
    "negative": lambda x, xp: -x,
    "divmod": lambda x, xp: (x // 2, x % 2),
    "maximum": lambda x, xp: xp.maximum(x, 3),
    "out": lambda x, xp: xp.multiply(x, 2, out=xp.empty(x.shape)),
    "index": lambda x, xp: x[1:, ::2],
    "fancy index": lambda x, xp: x[xp.arange(2), 1],
    "mask": lambda x, xp: x[x > 3],
    "concatenate": lambda x, xp: xp.concatenate([x, x], axis=1),
    "like": lambda x, xp: xp.zeros_like(x),
    "parts": lambda x, xp: x.real + x.T.reshape(3, 4),
    "created": lambda x, xp: (
        x + xp.ones((3, 4)) + xp.full((4,), 2.0) + xp.zeros(4) + xp.eye(3, 4) + xp.linspace(0, 1, 4)
    ),
    "windows": lambda x, xp: xp.lib.stride_tricks.sliding_window_view(x, (2, 2)),
    "argmax": lambda x, xp: x.argmax(axis=1),
    "cast": lambda x, xp: x.astype("float32"),
}


def devices_of(result):
    return {part.device_name for part in (result if isinstance(result, tuple) else (result,))}


@pytest.mark.parametrize("operation", PLAIN)
def test_other_operations_are_numpys_and_stay_on_the_device(mine, operation):
    result, expected = PLAIN[operation](mine, XP), PLAIN[operation](HOST, np)
    assert devices_of(result) == {"fake:0"}
    pairs = zip(result, expected, strict=True) if isinstance(result, tuple) else [(result, expected)]
    for got, wanted in pairs:
        assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
        np.testing.assert_array_equal(fetched(got), wanted)


def test_in_place_operations_write_to_the_memory(mine):
    view, same = mine[1:], mine
    same += 1
    same *= 2
    same[0] = 0
    assert same is mine
    np.testing.assert_array_equal(fetched(view), (HOST[1:] + 1) * 2)
    assert not mine[0].any()


def test_attributes_and_numbers(mine):
    assert (len(mine), mine.shape, mine.ndim, mine.size, mine.nbytes) == (3, (3, 4), 2, 12, 96)
    assert mine.flags.c_contiguous and not mine.T.flags.c_contiguous and mine.T.device_name == "fake:0"
    assert (float(mine[0, 1]), int(mine[0, 1]), bool(mine[0, 1] > 3)) == (2.0, 2, False)
    assert "fake:0" in repr(mine)
    with pytest.raises(AttributeError):
        _ = mine.no_such_thing
    with pytest.raises(AttributeError):
        _ = mine.__array_interface__  # NumPy would look behind the array through this
    with pytest.raises(TypeError):
        hash(mine)
    assert copy.copy(mine).device_name == "fake:0"


def test_get_returns_a_copy(mine):
    fetched(mine)[...] = 0
    np.testing.assert_array_equal(fetched(mine), HOST)


# The point of it all: a net that mixes devices does not run.


class Leak(Layer):
    """A planted bug: adds an array of the host or of the other column to its input."""

    def __init__(self, stray, forward):
        self.stray, self.in_forward = stray, forward

    def forward(self, x, training=False, step=None):
        self.saved = True
        return x + self.stray() if self.in_forward else x

    def backward(self, dy):
        return dy if self.in_forward else dy * self.stray()


@pytest.mark.parametrize("where", ["host", "fake:0", "fake:1"])
@pytest.mark.parametrize("column", [0, 1])
@pytest.mark.parametrize("forward", [True, False], ids=["forward", "backward"])
def test_layer_that_mixes_devices_raises(where, column, forward):
    def stray():
        home = where == f"fake:{column}"
        return np.ones(1) if where == "host" else (network.devices[column] if home else DEVICES[where]).put(np.ones(1))

    net = Net(input=67, maps=(2, 2, 2, 2, 2), hidden=4, classes=3)
    described = alexnet.describe(net, Init(), 2)
    described.stages[1].columns[column].insert(1, Leak(stray, forward))
    network = described.build(["fake:0", "fake:1"], dtype="float64")
    images, labels = np.zeros((2, 67, 67, 3)), np.array([0, 1])
    if where == f"fake:{column}":
        network.loss_and_backward(images, labels, step=Step(0, 0))
    else:
        with pytest.raises(DeviceMismatch):
            network.loss_and_backward(images, labels, step=Step(0, 0))


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_exchange_without_a_copy_raises(monkeypatch, where):
    from tinyalex.network.columns import Exchange

    carry = Exchange._transfer

    def forget(self, x, direction, source, destination, devices):
        return x if direction == where else carry(self, x, direction, source, destination, devices)

    network = alexnet.build(
        Net(input=67, maps=(2, 2, 2, 2, 2), hidden=4, classes=3), Init(), ["fake:0", "fake:1"], dtype="float64"
    )
    monkeypatch.setattr(Exchange, "_transfer", forget)
    with pytest.raises(DeviceMismatch):
        network.loss_and_backward(np.zeros((2, 67, 67, 3)), np.array([0, 1]), step=Step(0, 0))


def test_created_arrays_are_fake_arrays():
    for made in (XP.arange(3), XP.zeros(3), DEVICES["fake:0"].zeros((3,), "float32"), on("fake:0")):
        assert isinstance(made, FakeArray) and made.device_name == "fake:0"

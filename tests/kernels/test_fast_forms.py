"""NumPy's fast forms and the readable layers: they agree, ``kernels=False`` switches the fast ones off, and a bug in a
fast form is noticed.

In float64 test_layers.py compares both with the reference implementation, on the devices "cpu" and "cpu kernels".
"""

import numpy as np
import pytest

from tests.support import shim
from tests.support.layer_cases import CASES, close, noise
from tinyalex import layers
from tinyalex.devices.device import Device
from tinyalex.kernels.cpu import pooling
from tinyalex.layers import loops
from tinyalex.network import alexnet, fusion, network
from tinyalex.randomness import Step
from tinyalex.recipes import recipe
from tinyalex.training.optimizer import Optimizer

NET = recipe.Net(input=67, maps=(6, 16, 24, 24, 16), hidden=16, classes=10, norm="2012")
FAST = [label for label in CASES if label.split()[0] in ("conv", "local", "relu", "lrn", "spatial", "max", "avg")]


def in_both_forms(case):
    x, dy, results = case.x("float32"), None, []
    for kernels in (True, False):
        found, dy = case.run(case.build(Device("cpu", kernels), "float32"), x, dy)
        results.append(found)
    return results


@pytest.mark.parametrize("label", FAST)
def test_fast_and_readable_forms_agree_in_float32(label):
    fast, readable = in_both_forms(CASES[label])
    for name, value in readable.items():
        assert value.dtype == np.float32
        close(name, fast[name], value, 1e-6)


@pytest.mark.parametrize("kernels", [True, False])
def test_first_of_equal_maxima_gets_the_gradient_in_both_forms(kernels):
    x, dy = np.round(noise(2, 7, 6, 3)).astype("float32"), noise(2, 3, 3, 3).astype("float32")
    layer = layers.MaxPool(3, 2).build(Device("cpu", kernels))
    layer.forward(x)
    close("dx", layer.backward(dy), loops.max_pool_backward(dy, x).astype("float32"), 1e-6)


def test_bug_in_a_fast_form_is_noticed(monkeypatch):
    right = pooling.max_pool_backward
    monkeypatch.setattr(pooling, "max_pool_backward", lambda *arguments: right(*arguments)[:, ::-1])
    fast, readable = in_both_forms(CASES["max pool 3/2 ceil"])
    close("y", fast["y"], readable["y"], 1e-6)
    with pytest.raises(AssertionError, match="dx: off by"):
        close("dx", fast["dx"], readable["dx"], 1e-6)


def two_steps(monkeypatch, name, dtype, kernels):
    monkeypatch.setattr(network, "Device", shim.device)
    net = alexnet.build(NET, recipe.Init({"default": "he"}), [name], 0, dtype, kernels)
    optimizer, seen = Optimizer(net, 0.9, 0.01), {}
    for number in range(2):
        with net.step():
            loss, _ = net.loss_and_backward(
                noise(3, 67, 67, 3).astype(dtype), np.array([4, 0, 1]), step=Step(0, number)
            )
            seen |= {f"{name} {number}": device.get(view) for name, device, view in net.tensors("grad")}
            seen[f"loss {number}"] = net.devices[0].get(loss)
        optimizer.update(0.001)
    return seen | {name: device.get(view) for name, device, view in net.tensors()}, net


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("float64", 1e-12)])
@pytest.mark.parametrize("name", ["cpu", "fake:0", "kernels", "cuda:0"])
def test_whole_net_agrees_with_and_without_kernels(monkeypatch, name, dtype, tolerance):
    fast, net = two_steps(monkeypatch, name, dtype, True)
    readable, plain = two_steps(monkeypatch, name, dtype, False)
    assert fast.keys() == readable.keys()
    for tensor, value in readable.items():
        close(tensor, fast[tensor], value, tolerance)
    (device,) = plain.devices
    assert not device.kernel_dtypes and not getattr(device, "started", [])
    assert not any(isinstance(layer, fusion.FusedLayer) for _, layer in plain.layers())
    if name == "kernels":
        assert net.devices[0].started and plain.executors == plain.stages


def test_device_without_kernels_says_so():
    assert repr(Device("cpu")) == "Device('cpu')"
    assert repr(Device("fake:1", kernels=False)) == "Device('fake:1', kernels=False)"

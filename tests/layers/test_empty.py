"""Without images every layer gives an empty result, its parameters' gradients are 0, and the loss is 0."""

import numpy as np
import pytest

from tests.support import shim
from tests.support.layer_cases import CASES, STEP, noise
from tinyalex import layers
from tinyalex.layers import loops
from tinyalex.layers.winograd import WinogradConv2d
from tinyalex.network import alexnet, network
from tinyalex.recipes.settings import Init, Net
from tinyalex.training.step_metrics import StepMetrics


def empty_both_ways(layer, device, shape, dtype, options):
    for parameter in layer.parameters:
        parameter.grad[...] = 7  # of the batch before
    y = device.get(layer.forward(device.put(np.empty((0, *shape[1:]), dtype)), **options))
    assert (y.shape, y.dtype) == ((0, *layer.output_shape(shape[1:])), dtype)
    dx = device.get(layer.backward(device.put(np.empty(y.shape, dtype))))
    assert (dx.shape, dx.dtype) == ((0, *shape[1:]), dtype)
    for parameter in layer.parameters:
        gradient = device.get(parameter.grad)
        assert gradient.shape == parameter.shape and not gradient.any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("label", CASES)
def test_layer_without_images(label, dtype, device):
    case = CASES[label]
    empty_both_ways(case.build(device, dtype), device, case.shape, dtype, case.options)


def test_winograd_without_images(device):
    layer = WinogradConv2d(4, 6, 3, pad=1).build(device, dtype="float64")
    empty_both_ways(layer, device, (1, 7, 8, 4), "float64", {})


@pytest.mark.parametrize("label", CASES)
def test_loops_without_images(label):
    case = CASES[label]
    if "dropout" in label:  # its mask is an argument, for four images
        return
    arguments = [noise(*p.shape, purpose=p.kind) for p in case.make().parameters]
    x = np.empty((0, *case.shape[1:]))
    y = case.forward(x, *arguments)
    assert y.shape[0] == 0 and y.shape[1:] == case.forward(case.x()[:1], *arguments).shape[1:]
    dx, *rest = case.backward(y, x, *arguments)
    assert dx.shape == x.shape and not any(gradient.any() for gradient in rest)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("labels", [np.array([]), np.array([], int)])
def test_loss_of_no_images_is_0(device, dtype, labels):
    loss, z = layers.SoftmaxLoss().build(device), device.put(np.empty((0, 5), dtype))
    value = device.get(loss.forward(z, device.put(labels)))
    assert (value.shape, value.dtype, float(value)) == ((), dtype, 0.0)
    assert device.get(loss.backward()).shape == device.get(loss.probabilities(z)).shape == (0, 5)
    assert loops.softmax_loss(np.empty((0, 5)), []) == 0
    assert loops.softmax_loss_backward(np.empty((0, 5)), []).shape == (0, 5)


@pytest.mark.parametrize("form", [["cpu"], ["cpu", "cpu"], ["fake:0", "fake:1"], ["kernels"], ["kernels", "kernels"]])
@pytest.mark.parametrize("switches", [{}, {"norm": "2012"}, {"convolution": "winograd"}], ids=str)
def test_network_without_images(monkeypatch, form, switches):
    """After a step with images, whose gradients are overwritten with 0."""
    monkeypatch.setattr(network, "Device", shim.device)
    net = Net(**dict(input=67, maps=(16, 32, 32, 32, 16), hidden=16, classes=5) | switches)
    built = alexnet.build(net, Init({"default": "he"}, {"default": 0.1}), form)
    images, labels = noise(2, 67, 67, 3).astype("float32"), np.array([3, 1])
    with built.step(), built.devices[0] as device:
        if form[0] != "kernels":  # they would be compiled for this alone
            built.loss_and_backward(images, labels, step=STEP)
        for _, owner, view in built.tensors("grad"):
            with owner:
                view[...] = 7
        loss, logits = built.loss_and_backward(images[:0], labels[:0], step=STEP)
        assert float(device.get(loss)) == 0 and device.get(logits).shape == (0, 5)
        assert not any(owner.get(view).any() for _, owner, view in built.tensors("grad"))
        assert StepMetrics(device, loss, logits.argmax(axis=1) != device.put(labels[:0])).read() == (0, 0)
    assert built.predict(images[:0]).shape == (0, 5)

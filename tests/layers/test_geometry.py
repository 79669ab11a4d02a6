"""Convolution, locally connected layers and pooling in all small geometries, against PyTorch and the plain loops.

Every combination of size, window, stride, padding and rounding: windows that lie in the padding alone, strides that
skip most of the image, images smaller than the padding.
"""

import itertools

import numpy as np
import pytest

from tests.support import shim
from tests.support.layer_cases import noise
from tinyalex import layers
from tinyalex.kernels import patches
from tinyalex.layers import loops
from tinyalex.layers.winograd import WinogradConv2d

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests: pip install 'tinyalex[parity]'")
F = torch.nn.functional

SIDES = [(1, 1), (2, 5), (5, 4)]  # height, width
WINDOWS, STRIDES, PADS = (1, 2, 3), (1, 2, 3, 9), (0, 1, 2, 4)
GEOMETRIES = [
    (sides, k, s, p, rounding)
    for sides, k, s, p, rounding in itertools.product(SIDES, WINDOWS, STRIDES, PADS, ("floor", "ceil"))
    if min(sides) + 2 * p >= k
]
POOLS = [
    (sides, k, s, rounding)
    for sides, k, s, rounding in itertools.product(SIDES, (1, 2, 3, 4, 5), (1, 2, 3, 5), ("floor", "ceil"))
    if min(sides) >= k >= s
]


@pytest.fixture(autouse=True)
def one_thread():
    """Keep PyTorch's threads from waiting for each other over a handful of numbers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


DEVICES = ["readable", "fast", "cuda source"]


def device(name):
    return shim.AnySize("float64") if name == "cuda source" else shim.device({"fast": "cpu kernels"}.get(name, "cpu"))


def count(side, k, s, p, rounding):
    """Move the window from the padded image's edge until it would leave it, or until it reaches the far edge."""
    if rounding == "floor":
        return len(range(-p, side + p - k + 1, s))
    return 1 + len(range(-p, side + p - k, s))


def padded(x, k, s, p, rounding):
    """Return (n, c, h, w) with exactly the pixels that the windows cover, zero outside the image."""
    sizes = [count(side, k, s, p, rounding) for side in x.shape[2:]]
    height, width = ((size - 1) * s + k for size in sizes)
    return F.pad(x, (p, width, p, height))[:, :, :height, :width]


def agree(what, found, expected):
    for name, value in expected.items():
        value = value.detach().numpy() if hasattr(value, "detach") else value
        assert found[name].shape == value.shape, (what, name)
        assert np.abs(found[name] - value).max(initial=0) <= 1e-12 * max(1, np.abs(value).max(initial=0)), (what, name)


def run(layer, x):
    """Run forward and backward; return the results and dy."""
    y = layer.forward(x)
    dy = noise(*y.shape, purpose="dy")
    return {"y": y, "dx": layer.backward(dy)} | {f"d{p.kind}": p.grad for p in layer.parameters}, dy


def filled(layer, on):
    layer.build(on, dtype="float64")
    for parameter in layer.parameters:
        parameter.value = noise(*parameter.shape, purpose=parameter.kind)
    return layer


def tensors(*arrays):
    return [torch.tensor(array, requires_grad=True) for array in arrays]


def by_torch_conv(x, W, b, dy, s, p, groups, rounding):
    x, W, b = tensors(x, W, b)
    image = padded(x.permute(0, 3, 1, 2), W.shape[0], s, p, rounding)
    y = F.conv2d(image, W.permute(3, 2, 0, 1), b, stride=s, groups=groups).permute(0, 2, 3, 1)
    y.backward(torch.tensor(dy))
    return {"y": y, "dx": x.grad, "dW": W.grad, "db": b.grad}


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("groups", [1, 2])
def test_convolution_in_every_geometry(name, groups):
    on = device(name)
    for sides, k, s, p, rounding in GEOMETRIES:
        layer = filled(layers.Conv2d(2, 4, k, s, p, groups, rounding), on)
        x = noise(2, *sides, 2)
        found, dy = run(layer, x)
        expected = by_torch_conv(x, layer.W.value, layer.b.value, dy, s, p, groups, rounding)
        agree((sides, k, s, p, rounding), found, expected)


def test_loops_of_convolution_in_every_geometry():
    for sides, k, s, p, rounding in GEOMETRIES:
        x, W, b = noise(1, *sides, 2), noise(k, k, 1, 2, purpose="W"), noise(2, purpose="b")
        y = loops.conv2d(x, W, b, s, p, 2, rounding)
        dy = noise(*y.shape, purpose="dy")
        gradients = loops.conv2d_backward(dy, x, W, s, p, 2, rounding)
        found = dict(zip(("y", "dx", "dW", "db"), (y, *gradients), strict=True))
        agree((sides, k, s, p, rounding), found, by_torch_conv(x, W, b, dy, s, p, 2, rounding))


def test_stride_beyond_the_image_leaves_the_bias():
    layer = layers.Conv2d(1, 1, 1, stride=9, pad=2, bias=0.5).build(dtype="float64")
    assert layer.forward(np.ones((1, 5, 5, 1))).tolist() == [[[[0.5]]]]
    local = layers.LocallyConnected((5, 5, 1), 1, 1, stride=9, pad=2, bias=0.5).build(dtype="float64")
    assert local.forward(np.ones((1, 5, 5, 1))).tolist() == [[[[0.5]]]]


@pytest.mark.parametrize(
    "right, wrong", [("i * S) * K + z - j * S", "i * S) * K + z"), ("y - K) / S + 1", "y - K) / S")]
)
def test_a_bug_in_the_cuda_source_is_noticed(monkeypatch, right, wrong):
    assert right in patches.SOURCE
    monkeypatch.setattr(patches, "SOURCE", patches.SOURCE.replace(right, wrong))
    with pytest.raises(AssertionError):
        test_convolution_in_every_geometry("cuda source", 1)


def by_torch_local(x, W, b, dy, s, p, rounding):
    x, W, b = tensors(x, W, b)
    ho, wo, k, _, c, o = W.shape
    image = padded(x.permute(0, 3, 1, 2), k, s, p, rounding)
    windows = F.unfold(image, k, stride=s).reshape(len(x), c, k, k, ho, wo)
    y = torch.einsum("ncuvij,ijuvco->nijo", windows, W) + b
    y.backward(torch.tensor(dy))
    return {"y": y, "dx": x.grad, "dW": W.grad, "db": b.grad}


@pytest.mark.parametrize("name", DEVICES)
def test_locally_connected_in_every_geometry(name):
    on = device(name)
    for sides, k, s, p, rounding in GEOMETRIES:
        layer = filled(layers.LocallyConnected((*sides, 2), 3, k, s, p, rounding), on)
        x = noise(2, *sides, 2)
        found, dy = run(layer, x)
        agree((sides, k, s, p, rounding), found, by_torch_local(x, layer.W.value, layer.b.value, dy, s, p, rounding))


def test_loops_of_locally_connected_in_every_geometry():
    for sides, k, s, p, rounding in GEOMETRIES:
        size = [count(side, k, s, p, rounding) for side in sides]
        x, W, b = noise(1, *sides, 1), noise(*size, k, k, 1, 2, purpose="W"), noise(*size, 2, purpose="b")
        y = loops.locally_connected(x, W, b, s, p)
        dy = noise(*y.shape, purpose="dy")
        gradients = loops.locally_connected_backward(dy, x, W, s, p)
        found = dict(zip(("y", "dx", "dW", "db"), (y, *gradients), strict=True))
        agree((sides, k, s, p, rounding), found, by_torch_local(x, W, b, dy, s, p, rounding))


def by_torch_pool(kind, x, dy, k, s, rounding):
    (x,) = tensors(x)
    image, ceil = x.permute(0, 3, 1, 2), rounding == "ceil"
    pool = F.max_pool2d(image, k, s, ceil_mode=ceil) if kind == "max" else F.avg_pool2d(image, k, s, ceil_mode=ceil)
    y = pool.permute(0, 2, 3, 1)
    y.backward(torch.tensor(dy))
    return {"y": y, "dx": x.grad}


@pytest.mark.parametrize("kind", ["max", "avg"])
@pytest.mark.parametrize("name", [*DEVICES, "loops"])
def test_pooling_in_every_geometry(kind, name):
    on = None if name == "loops" else device(name)
    for sides, k, s, rounding in POOLS:
        x = noise(2, *sides, 3)
        if name == "loops":
            forward, backward = getattr(loops, f"{kind}_pool"), getattr(loops, f"{kind}_pool_backward")
            y = forward(x, k, s, rounding)
            dy = noise(*y.shape, purpose="dy")
            found = {"y": y, "dx": backward(dy, x, k, s, rounding)}
        else:
            make = layers.MaxPool if kind == "max" else layers.AvgPool
            found, dy = run(make(k, s, rounding).build(on), x)
        agree((sides, k, s, rounding), found, by_torch_pool(kind, x, dy, k, s, rounding))


WINOGRAD = [  # kernel, stride: r = 3 or 5
    *((3, 1), (5, 1), (5, 2), (6, 2), (9, 2), (10, 2), (7, 3), (9, 4), (11, 4)),
]


@pytest.mark.parametrize("kernel, stride", WINOGRAD)
def test_winograd_in_every_geometry(kernel, stride):
    for sides, p, rounding in itertools.product([(1, 3), (4, 7), (13, 6)], (0, 1, 3, 7, 13), ("floor", "ceil")):
        if min(sides) + 2 * p < kernel:
            continue
        for groups in (1, 2) if stride == 1 else (1,):
            layer = filled(WinogradConv2d(2, 4, kernel, stride, p, groups, rounding), shim.device("cpu"))
            x = noise(2, *sides, 2)
            found, dy = run(layer, x)
            expected = by_torch_conv(x, layer.W.value, layer.b.value, dy, stride, p, groups, rounding)
            for name, value in expected.items():
                value = value.detach().numpy()
                assert found[name].shape == value.shape
                error = np.abs(found[name] - value).max()
                assert error <= 1e-10 * np.abs(value).max(), (sides, p, rounding, groups, name)

"""Winograd's convolution: its transforms against the definition, its results against im2col and the reference."""

from fractions import Fraction

import numpy as np
import pytest

from tinyalex import gradcheck
from tinyalex.errors import ShapeError, UsageError
from tinyalex.layers import Conv2d, loops
from tinyalex.layers.cook_toom import POINTS, cook_toom
from tinyalex.layers.winograd import WinogradConv2d
from tinyalex.network import alexnet
from tinyalex.randomness import Step, key, normal
from tinyalex.recipes import recipe
from tinyalex.recipes.settings import Init, Net

# channels, maps, kernel, stride, pad, groups, rounding; image sides
SHAPES = {
    "conv1": ((3, 8, 11, 4, 0, 1, "ceil"), (67, 59)),
    "conv2": ((6, 4, 5, 1, 2, 2, "ceil"), (13, 9)),
    "conv3": ((4, 6, 3, 1, 1, 1, "ceil"), (13, 6)),
    "one tile": ((2, 3, 3, 1, 0, 1, "floor"), (6, 5)),
    "sixteen": ((2, 3, 3, 1, 1, 1, "floor"), (16, 15)),
    "stride 2": ((2, 4, 6, 2, 1, 1, "floor"), (12, 17)),
    "stride 2, hangs over": ((3, 2, 5, 2, 2, 1, "ceil"), (9, 10)),
    "stride 2, kernel 9": ((2, 2, 9, 2, 0, 1, "floor"), (20, 14)),
}


def noise(*shape, purpose=""):
    return normal(key(0, "winograd", purpose, *shape), np.arange(np.prod(shape))).reshape(shape)


def results(kind, name, device, dtype, x, dy=None):
    """Return y, dx, dW and db of a kind of convolution, on the host."""
    c, o, k, s, p, g, rounding = SHAPES[name][0]
    layer = kind(c, o, k, s, p, g, rounding=rounding, bias=0.5).named(name).build(device, seed=3, dtype=dtype)
    y = layer.forward(device.put(x.astype(dtype)))
    dy = noise(*y.shape, purpose="dy").astype(dtype)
    dx = layer.backward(device.put(dy))
    return {"y": y, "dx": dx, "dW": layer.W.grad, "db": layer.b.grad}, layer


@pytest.mark.parametrize("outputs, size", POINTS)
def test_transforms_compute_a_convolution(outputs, size):
    A, G, B = cook_toom(outputs, POINTS[outputs, size])
    g, d = noise(size), noise(outputs + size - 1)
    wanted = [sum(g[j] * d[i + j] for j in range(size)) for i in range(outputs)]
    np.testing.assert_allclose(A.T @ ((G @ g) * (B.T @ d)), wanted, atol=1e-13)


def test_transforms_are_the_known_ones():
    # Two outputs of a 3-tap kernel, from 0, 1 and -1: Winograd's own example, but for signs.
    A, G, B = cook_toom(2, ("0", "1", "-1"))
    assert np.abs(G).tolist() == [[1, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5], [0, 0, 1]]
    assert np.abs(B.T).tolist() == [[1, 0, 1, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 1, 0, 1]]
    assert A.T.tolist() == [[1, 1, 1, 0], [0, 1, -1, 1]]


@pytest.mark.parametrize("outputs, size", POINTS)
def test_winograd_needs_a_third_of_the_multiplications(outputs, size):
    assert len({Fraction(point) for point in POINTS[outputs, size]}) == outputs + size - 2
    assert (outputs + size - 1) ** 2 < (outputs * size) ** 2 / 3


@pytest.mark.parametrize(
    "kernel, side, outputs, tiles",
    [(3, 13, 5, 3), (3, 16, 4, 4), (3, 55, 5, 11), (3, 32, 4, 8), (3, 18, 6, 3), (5, 27, 4, 7)],
)
def test_tiling_has_the_fewest_products(kernel, side, outputs, tiles):
    layer = WinogradConv2d(2, 2, kernel, pad=kernel // 2)
    assert layer.tiling((side, side, 2)) == (outputs, tiles, tiles)


def enlarged(outputs, points):
    """The variance of an output's rounding error, that of each product taken as its size."""
    A, G, B = cook_toom(outputs, points)
    return ((A.T**2) @ ((G**2).sum(axis=1) * (B.T**2).sum(axis=1))).max()


def test_points_amplify_rounding_errors_little():
    assert enlarged(4, POINTS[4, 3]) < 0.5 * enlarged(4, ("0", "1", "-1", "2", "-2"))
    assert enlarged(5, POINTS[5, 3]) < 0.5 * enlarged(5, ("0", "1", "-1", "2", "-2", "3"))
    assert enlarged(6, POINTS[6, 3]) < 0.5 * enlarged(6, ("0", "1", "-1", "2", "-2", "3", "-3"))
    assert enlarged(4, POINTS[4, 5]) < 0.5 * enlarged(4, ("0", "1", "-1", "2", "-2", "3", "-3"))


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-10), ("float32", 1e-5)])
def test_winograd_agrees_with_im2col(name, dtype, tolerance, device):
    # Inputs as a ReLU leaves them.
    x = np.abs(noise(3, *SHAPES[name][1], SHAPES[name][0][0]))
    with device.step():
        (mine, _), (its, _) = (results(kind, name, device, dtype, x) for kind in (WinogradConv2d, Conv2d))
        for part in its:
            a, b = device.get(mine[part]), device.get(its[part])
            assert a.dtype == b.dtype == dtype and a.shape == b.shape
            assert np.abs(a - b).max() <= tolerance * np.abs(b).max(), part


@pytest.mark.parametrize("name", ["conv2", "stride 2, hangs over"])
def test_winograd_matches_the_reference(name):
    c, o, k, s, p, g, rounding = SHAPES[name][0]
    x = noise(2, *SHAPES[name][1], c)
    mine, layer = results(WinogradConv2d, name, WinogradConv2d.device, "float64", x)
    wanted = loops.conv2d(x, layer.W.value, layer.b.value, s, p, g, rounding)
    np.testing.assert_allclose(mine["y"], wanted, atol=1e-12)


@pytest.mark.parametrize("name", SHAPES)
def test_winograd_gradient(name):
    c, o, k, s, p, g, rounding = SHAPES[name][0]
    layer = WinogradConv2d(c, o, k, s, p, g, rounding=rounding).named(name).build(dtype="float64")
    x = noise(1, *(min(side, 21) for side in SHAPES[name][1]), c)
    for result in gradcheck.check(layer, x, images_alone=True):
        assert result.verdict == "ok", gradcheck.table([result])


def test_winograd_keeps_its_arguments_and_takes_any_layout(device):
    layer = WinogradConv2d(4, 6, 3, pad=1).build(device, dtype="float64")
    x = np.ascontiguousarray(noise(2, 7, 8, 4).transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)
    sent, dy = device.put(x), device.put(noise(2, 7, 8, 6))
    y = device.get(layer.forward(sent))
    layer.backward(dy)
    assert (device.get(sent) == x).all() and (device.get(dy) == noise(2, 7, 8, 6)).all()
    turned = layer.forward(device.put(x.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3))
    assert (device.get(turned) == y).all()


@pytest.mark.parametrize(
    "channels, kernel, stride, groups, supported",
    [
        (3, 11, 4, 1, True),  # 48 once blocks of pixels are channels
        (96, 5, 1, 2, True),
        (384, 3, 1, 2, True),
        (16, 3, 1, 2, True),
        (14, 3, 1, 2, False),
        (3, 5, 1, 1, False),  # an image's colours: too few for the transforms to pay
        (32, 3, 2, 1, False),
        (3, 11, 2, 1, False),
        (32, 11, 4, 2, False),
    ],
)
def test_when_winograd_is_supported(channels, kernel, stride, groups, supported):
    assert WinogradConv2d.supports(channels, kernel, stride, groups) is supported


@pytest.mark.parametrize("kernel, stride, groups", [
    (6, 2, 2), (5, 2, 2), (11, 4, 2), (1, 1, 1), (2, 1, 1), (4, 1, 1), (7, 1, 1), (3, 2, 1), (3, 3, 1), (11, 2, 1),
])  # fmt: skip
def test_winograd_without_transforms_is_refused(kernel, stride, groups):
    with pytest.raises(ShapeError, match=f"^WinogradConv2d: got kernel {kernel}, stride {stride}, groups {groups}, "):
        WinogradConv2d(4, 4, kernel, stride, groups=groups)


@pytest.mark.parametrize("name, first", [("paper", WinogradConv2d), ("cifar10-relu", Conv2d)])
def test_first_convolution_uses_im2col(name, first):
    network = alexnet.describe(recipe.load(name, ["net.convolution=auto"]).net)
    kinds = [type(layer) for _, layer in network.layers() if isinstance(layer, Conv2d)]
    assert kinds == [first] + [WinogradConv2d] * (len(kinds) - 1)


@pytest.mark.parametrize("devices", [["cpu"], ["cpu", "cpu"], ["fake:0", "fake:1"]], ids=" ".join)
@pytest.mark.parametrize("norm", ["paper", "2012"])
def test_net_with_winograd_agrees_with_im2col(devices, norm):
    found = {}
    for convolution in ("im2col", "auto"):
        net = Net(input=67, maps=(16, 32, 32, 32, 16), hidden=32, classes=10, norm=norm, convolution=convolution)
        network = alexnet.build(net, Init({"default": "he"}, {"default": 0.1}), devices, seed=2, dtype="float64")
        kinds = {type(layer) for _, layer in network.layers() if isinstance(layer, Conv2d)}
        assert kinds == {WinogradConv2d if convolution == "auto" else Conv2d}
        loss, _ = network.loss_and_backward(noise(5, 67, 67, 3), np.arange(5), step=Step(1, 2))
        found[convolution] = {name: device.get(view) for name, device, view in network.tensors("grad")}
        found[convolution]["loss"] = network.devices[0].get(loss)
    for name, value in found["im2col"].items():
        assert np.abs(found["auto"][name] - value).max() <= 1e-10 * np.abs(value).max(), name


def test_each_batch_uses_the_current_weights():
    net = Net(input=67, maps=(16, 32, 32, 32, 16), hidden=32, classes=10, convolution="auto")
    network, fresh = (alexnet.build(net, Init({"default": "he"}), seed=seed, dtype="float64") for seed in (2, 3))
    images = noise(3, 67, 67, 3)
    network.forward(images, training=True, step=Step(0, 0))  # in training, and no backward after it
    network.load(fresh.state())
    np.testing.assert_array_equal(network.forward(images), fresh.forward(images))


def test_unknown_convolution_algorithm_raises():
    with pytest.raises(UsageError, match="net.convolution: 'fft' is not valid; give 'auto' or 'im2col'"):
        Net(convolution="fft")

"""Deconvolution of single units: against PyTorch's transposed convolutions and unpooling, and with planted bugs."""

import numpy as np
import pytest

from tests.explain.test_explain import built, noise
from tinyalex.errors import UsageError
from tinyalex.explain import deconvolution as module
from tinyalex.explain.deconvolution import deconvolution, obstacle
from tinyalex.explain.strongest import strongest_images, strongest_units, unit_gradient
from tinyalex.layers import LRN, ReLU


def by_pytorch(network, image, unit):
    """The same by PyTorch's functions, for a net whose columns are all on one device.

    Windows that do not overlap are unpooled by `max_unpool2d`; of others, the numbers that lie at one place are added,
    which `max_unpool2d` does not do.
    """
    torch = pytest.importorskip("torch", reason="compares with PyTorch: pip install 'tinyalex[parity]'")
    F = torch.nn.functional
    x, back, found = torch.tensor(image.transpose(2, 0, 1)[None].copy()), [], None
    for _, layer in network.layers():
        kind, shape = type(layer).__name__, x.shape
        if kind in ("Conv2d", "WinogradConv2d"):
            k, stride, pad, rounding = layer.geometry.values()
            W = torch.tensor(layer.W.value.transpose(3, 2, 0, 1).copy())
            more = [-(side + 2 * pad - k) % stride if rounding == "ceil" else 0 for side in shape[2:]]
            padded = F.pad(x, (pad, pad + more[1], pad, pad + more[0]))
            x = F.conv2d(padded, W, torch.tensor(layer.b.value), stride, groups=layer.groups)

            def transposed(y, W=W, stride=stride, groups=layer.groups, pad=pad, shape=shape):
                full = F.conv_transpose2d(y, W, stride=stride, groups=groups)
                full = F.pad(full, (0, pad + shape[3], 0, pad + shape[2]))  # pixels that no window reaches
                return full[:, :, pad : pad + shape[2], pad : pad + shape[3]]

            back.append(transposed)
            if found is None and unit.layer in layer.names:
                found = "next"
        elif kind == "ReLU":
            x = F.relu(x)
            back.append(F.relu)
        elif kind == "LRN":
            parts = x.reshape(-1, shape[1] // layer.groups, *shape[2:])
            x = F.local_response_norm(parts, layer.size, layer.alpha * layer.size, layer.beta, layer.k).reshape(shape)
        elif kind == "MaxPool":
            x, where = F.max_pool2d(x, layer.window, layer.stride, ceil_mode=True, return_indices=True)
            back.append(lambda y, where=where, layer=layer, shape=shape: unpooled(F, y, where, layer, shape))
        if found == "next" and kind == "ReLU":
            y = torch.zeros_like(x)
            half = x.shape[1] // 2
            y[0, unit.map + half * unit.layer.endswith("b"), unit.row, unit.column] = unit.value
            for step in reversed(back):
                y = step(y)
            return y[0].numpy().transpose(1, 2, 0)
    raise AssertionError(unit.layer)


def unpooled(F, y, where, layer, shape):
    if layer.window == layer.stride:
        return F.max_unpool2d(y, where, layer.window, layer.stride, output_size=shape)
    flat = y.new_zeros(*shape[:2], shape[2] * shape[3])
    return flat.scatter_add(2, where.flatten(2), y.flatten(2)).reshape(shape)


NETS = {  # name: (net of test_explain, overrides, convolution)
    "pools of 2": ("shapes", ["net.pool=2", "net.kernels=[5, 5, 3, 3, 3]"], "conv3"),
    "overlapping pools": ("shapes", [], "conv5"),
    "windows over the edge": ("tiny-imagenet", [], "conv4"),
    "the authors' net": ("original", [], "conv3"),
    "LRN that divides": ("shapes", ["net.norm=paper"], "conv2"),
}


@pytest.mark.parametrize("name", NETS)
def test_it_is_what_pytorch_computes(name):
    base, overrides, layer = NETS[name]
    network = built(base, ("cpu",), "float64", *overrides)
    for each in (each for _, each in network.layers() if isinstance(each, LRN) and "divides" in name):
        each.alpha = 1.0  # then its derivative is far from a constant
    image = noise(*network.input_shape)
    for unit in strongest_units(network, image, 3, layer):
        expected = by_pytorch(network, image, unit)
        assert np.abs(expected).max() > 0
        tolerance = 1e-11 * np.abs(expected).max()
        np.testing.assert_allclose(deconvolution(network, image, unit), expected, atol=tolerance)


class PlainReLU(module._Rectified):
    """The gradient's rule."""

    def __init__(self, layer):
        super().__init__(layer)
        self.backward = layer.backward


BUGS = {
    "the gradient's rule of ReLU": {ReLU: PlainReLU},
    "no ReLU on the way back": {ReLU: module._Unchanged},
    "the derivative of the normalization": {LRN: lambda layer: layer},
}


@pytest.mark.parametrize("bug", BUGS)
def test_another_way_back_is_noticed(monkeypatch, bug):
    right = module._on_the_way_back
    planted = lambda layer: next((make(layer) for kind, make in BUGS[bug].items() if isinstance(layer, kind)), None)  # noqa: E731
    monkeypatch.setattr(module, "_on_the_way_back", lambda layer: planted(layer) or right(layer))
    with pytest.raises(AssertionError):
        test_it_is_what_pytorch_computes("LRN that divides")


def test_switches_of_other_maxima_are_noticed(monkeypatch):
    from tinyalex.layers import MaxPool

    def mean(self, dy):
        x, _ = self.pop_saved()
        dx = np.zeros(x.shape)
        for units, pixels in self.taps(x.shape):
            dx[pixels] += dy[units] / self.window**2
        return dx

    monkeypatch.setattr(MaxPool, "backward", mean)
    with pytest.raises(AssertionError):
        test_it_is_what_pytorch_computes("pools of 2")


@pytest.mark.parametrize("devices", [("cpu", "cpu"), ("fake:0", "fake:1")])
def test_it_does_not_depend_on_the_devices_and_leaves_the_network_as_it_is(devices):
    image = noise(56, 56, 3)
    one, other = built("shapes"), built("shapes", devices)
    before = other.predict(image[None])
    for unit in strongest_units(one, image, 4, "conv4"):
        found = deconvolution(one, image, unit)
        np.testing.assert_allclose(deconvolution(other, image, unit), found, atol=1e-11 * np.abs(found).max())
    assert (other.predict(image[None]) == before).all()
    assert not any(isinstance(layer, module._Rectified) for _, layer in other.layers())


def test_it_grows_with_the_output_and_stays_inside_the_receptive_field():
    network = built("tiny-imagenet")
    image = noise(57, 57, 3)
    unit = strongest_units(network, image, 1, "conv3")[0]
    found = deconvolution(network, image, unit)
    np.testing.assert_allclose(deconvolution(network, image, unit._replace(value=2 * unit.value)), 2 * found)
    outside = found.copy()
    unit.field.of(outside)[...] = 0
    assert np.abs(outside).max() < 1e-10 * np.abs(found).max()


def test_in_the_first_layer_it_is_the_kernel_times_the_output_as_the_gradient_is():
    network = built("shapes", ("cpu",), "float64", "net.norm=none")
    image = noise(56, 56, 3)
    unit = strongest_units(network, image, 1, "conv1")[0]
    found = deconvolution(network, image, unit)
    np.testing.assert_allclose(found, unit.value * unit_gradient(network, image, unit), atol=1e-12)
    conv1 = next(layer for _, layer in network.layers() if "conv1a" in layer.names)
    kernel = conv1.W.value[..., unit.map + conv1.maps // 2 * (unit.layer == "conv1b")]
    pad = conv1.geometry.pad if hasattr(conv1.geometry, "pad") else conv1.geometry["pad"]
    whole = np.zeros((56 + 2 * pad, 56 + 2 * pad, 3))
    top, left = 2 * unit.row, 2 * unit.column
    part = whole[top : top + 11, left : left + 11]
    part[...] = (unit.value * kernel)[: len(part), : part.shape[1]]
    np.testing.assert_allclose(found, whole[pad : pad + 56, pad : pad + 56], atol=1e-12)


def test_nets_of_other_nonlinearities_are_refused():
    network = built("tanh, one column")
    image = noise(*network.input_shape)
    unit = strongest_units(network, image, 1)[0]
    assert obstacle(network).name == "tanh1" and obstacle(built("shapes")) is None
    with pytest.raises(
        UsageError, match="tanh1: is a Tanh; deconvolution is defined for nets whose nonlinearity is Re"
    ):
        deconvolution(network, image, unit)


# The images that excite each map most.


@pytest.mark.parametrize("devices", [("cpu",), ("cpu", "cpu")])
def test_strongest_images_are_those_of_a_search_image_by_image(devices):
    network = built("shapes", devices)
    images = noise(7, 56, 56, 3)
    found = strongest_images(network, images, 3, "conv3", batch=3)
    assert len(found) == 8
    plain = {}
    for index, image in enumerate(images):
        for unit in strongest_units(network, image, 99, "conv3"):
            plain.setdefault((unit.layer, unit.map), []).append((index, unit))
    for key, best in found.items():
        expected = sorted(plain.get(key, []), key=lambda pair: -pair[1].value)[:3]
        assert [(index, unit[:4], unit.field) for index, unit in best] == [
            (index, unit[:4], unit.field) for index, unit in expected
        ]
        np.testing.assert_allclose([u.value for _, u in best], [u.value for _, u in expected], rtol=1e-9)
    assert any(len(best) == 3 for best in found.values())

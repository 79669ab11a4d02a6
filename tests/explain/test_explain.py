"""What a net looks at: saliency, occlusion, receptive fields and strongest units, against independent computations."""

import numpy as np
import pytest

from tinyalex import layers, randomness
from tinyalex.errors import DataError, ShapeError, UsageError
from tinyalex.explain import receptive_field as fields
from tinyalex.explain import saliency as saliencies
from tinyalex.explain.occlusion import corners, default_patch, default_stride, occlusion
from tinyalex.explain.receptive_field import Field, receptive_field
from tinyalex.explain.saliency import input_gradient, saliency
from tinyalex.explain.strongest import convolutions, main_part, strongest_units, unit_gradient
from tinyalex.network import alexnet
from tinyalex.recipes import recipe

SMALL = ["net.maps=[6, 8, 8, 8, 8]", "net.hidden=16", "net.classes=5"]
CIFAR = ["net.maps=[4, 6, 8]", "net.classes=5"]
LOCAL = ["net.maps=[4, 4, 4, 4]", "net.classes=5"]
NETS = {  # name: (recipe, overrides): strides, padding, windows that hang over the edge, pools of 2 and 3, columns
    "shapes": ("shapes", SMALL),
    "two columns, no exchange": ("shapes", [*SMALL, "net.talk=[]"]),
    "tiny-imagenet": ("tiny-imagenet", SMALL),
    "original": ("original", [*SMALL, "net.input=70"]),
    "pools of 2": ("original", [*SMALL, "net.input=94", "net.pool=2"]),
    "tanh, one column": ("paper", [*SMALL, "net.input=70", "net.columns=1", "net.activation=tanh"]),
    "cifar10-relu": ("cifar10-relu", CIFAR),
    "locally connected": ("cifar10-11pct", LOCAL),
}


def noise(*shape):
    """Normal numbers of a shape; a name before the sides gives others."""
    sides = [side for side in shape if isinstance(side, int)]
    return randomness.normal(randomness.key(0, "explain", *shape), np.arange(np.prod(sides))).reshape(sides)


def built(name, devices=("cpu",), dtype="float64", *overrides):
    base, changes = NETS[name]
    made = recipe.load(base, [*changes, *overrides])
    network = alexnet.build(made.net, made.init, devices, seed=1, dtype=dtype)
    return _spread(network)


def _spread(network):
    # Weights large enough that the classes' scores differ, and biases that differ.
    values = {
        name: noise(name, *view.shape) * (0.3 if name.endswith("/b") else (2 / view[..., 0].size) ** 0.5)
        for name, _, view in network.tensors()
    }
    network.load(values)
    return network


# Saliency.


@pytest.mark.parametrize("name", NETS)
def test_input_gradient_matches_central_differences(name):
    network = built(name)
    image, label = noise(1, *network.input_shape), 3
    gradient = input_gradient(network, image, [label])[0]
    random, own = noise(3, *network.input_shape), gradient / np.linalg.norm(gradient)
    for direction in (own, own * (random[1] > 0), random[2] / np.linalg.norm(random[2])):
        scores = [network.forward(image + step * direction)[0, label] for step in (1e-6, -1e-6)]
        assert (gradient * direction).sum() == pytest.approx((scores[0] - scores[1]) / 2e-6, rel=2e-4, abs=1e-7)
    assert np.abs(gradient).max() > 0


@pytest.mark.parametrize("name", [name for name in NETS if name != "locally connected"])
def test_input_gradient_is_that_of_pytorch(name):
    torch = pytest.importorskip("torch", reason="compares with PyTorch: pip install 'tinyalex[parity]'")
    from tinyalex.bench.pytorch.torch_twin import twin

    base, changes = NETS[name]
    made = recipe.load(base, changes)
    network = alexnet.build(made.net, made.init, seed=1, dtype="float64")
    theirs = twin(alexnet.describe(made.net, made.init), seed=1, dtype="float64").eval()
    images, labels = noise(3, *network.input_shape), [4, 0, 2]
    x = torch.tensor(images.transpose(0, 3, 1, 2).copy(), requires_grad=True)
    theirs(x)[range(3), labels].sum().backward()
    expected = x.grad.numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(input_gradient(network, images, labels, batch=2), expected, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(saliency(network, images, labels), np.abs(expected).max(axis=3), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("devices", [("cpu", "cpu"), ("fake:0", "fake:1"), ("fake:0",)])
@pytest.mark.parametrize("name", ["shapes", "two columns, no exchange", "original"])
def test_saliency_does_not_depend_on_the_devices(name, devices):
    images = noise(2, *built(name).input_shape)
    one, other = (saliency(built(name, names), images, [1, 2]) for names in (("cpu",), devices))
    assert one.max() > 0
    np.testing.assert_allclose(other, one, rtol=1e-8, atol=1e-13)


def test_saliency_beside_the_fast_forms_leaves_the_network_as_it_is():
    network, exact = built("shapes", dtype="float32"), built("shapes")
    images = noise(3, *network.input_shape).astype("float32")
    network.loss_and_backward(images, np.array([0, 1, 2]), training=False)
    before = network.predict(images)
    state = {name: view.copy() for name, view in [*network.state().items()]}
    gradients = {name: view.copy() for name, view in network.gradients().items()}
    found = saliency(network, images, [0, 1, 2])
    assert found.dtype == np.float32 and found.shape == (3, *network.input_shape[:2])
    np.testing.assert_allclose(found, saliency(exact, images, [0, 1, 2]), rtol=2e-3, atol=1e-5)
    assert (network.predict(images) == before).all()
    assert all((view == state[name]).all() for name, view in network.state().items())
    assert all((view == gradients[name]).all() for name, view in network.gradients().items())
    assert not network.stages[0].columns[0][0].input_gradient


def test_a_gradient_of_one_column_only_is_noticed(monkeypatch):
    network = built("two columns, no exchange", ("cpu", "cpu"))
    image = noise(1, *network.input_shape)
    right = input_gradient(network, image, [3])
    monkeypatch.setattr(saliencies, "sum", lambda parts, start: start, raising=False)
    assert np.abs(input_gradient(network, image, [3]) - right).max() > 0.01 * np.abs(right).max()


def test_wrong_images_and_classes_are_refused():
    network = built("shapes")
    with pytest.raises(ShapeError, match=r"images: got \(5, 5, 3\), this network reads \(56, 56, 3\)"):
        input_gradient(network, np.zeros((1, 5, 5, 3)), [0])
    with pytest.raises(DataError, match="label"):
        input_gradient(network, np.zeros((1, 56, 56, 3)), [5])
    with pytest.raises(ShapeError, match="image: got"):
        strongest_units(network, np.zeros((5, 5, 3)))
    with pytest.raises(UsageError, match='no such convolution; did you mean "conv5"'):
        strongest_units(network, np.zeros((56, 56, 3)), layer="conv55")
    with pytest.raises(UsageError, match="patch: 57; give a whole number of pixels from 1 to 56, the image's side"):
        occlusion(network, np.zeros((56, 56, 3)), 0, patch=57)
    with pytest.raises(UsageError, match="stride: 0; give"):
        occlusion(network, np.zeros((56, 56, 3)), 0, stride=0)
    with pytest.raises(DataError, match="label"):
        occlusion(network, np.zeros((56, 56, 3)), 9)


# Occlusion.


def plain_occlusion(network, image, label, patch, stride):
    """The same in a loop over positions, one image at a time."""
    h, w, _ = image.shape
    tops = sorted({*range(0, h - patch + 1, stride), h - patch})
    lefts = sorted({*range(0, w - patch + 1, stride), w - patch})
    whole = network.predict(image[None])[0, label]
    covered, drops = np.empty((len(tops), len(lefts))), [[[] for _ in range(w)] for _ in range(h)]
    for i, top in enumerate(tops):
        for j, left in enumerate(lefts):
            hidden = image.copy()
            for y in range(top, top + patch):
                for x in range(left, left + patch):
                    hidden[y, x] = 0
            covered[i, j] = network.predict(hidden[None])[0, label]
            for y in range(top, top + patch):
                for x in range(left, left + patch):
                    drops[y][x].append(whole - covered[i, j])
    return covered, np.array([[np.mean(cell) if cell else 0 for cell in row] for row in drops])


@pytest.mark.parametrize("patch, stride", [(8, 5), (3, 9), (28, 1)])
def test_occlusion_matches_a_loop_over_positions(patch, stride):
    network = built("cifar10-relu", ("cpu",), "float64", "net.input=28")
    image = noise(28, 28, 3)
    found = occlusion(network, image, 2, patch, stride, batch=7)
    covered, drop = plain_occlusion(network, image, 2, patch, stride)
    np.testing.assert_allclose(found.covered, covered, rtol=1e-12)
    np.testing.assert_allclose(found.drop, drop, atol=1e-15)
    assert found[:2] == (patch, stride) and found.whole == pytest.approx(network.predict(image[None])[0, 2])
    assert np.ptp(covered) > 0 or patch == 28


@pytest.mark.parametrize("planted", [
    lambda side, patch, stride: corners(side, patch, stride) - (corners(side, patch, stride) > 0),  # off by a pixel
    lambda side, patch, stride: np.arange(0, side - patch + 1, stride),  # the last one forgotten
    lambda side, patch, stride: corners(side, patch, stride)[::-1],
])  # fmt: skip
def test_patches_at_wrong_positions_are_noticed(monkeypatch, planted):
    monkeypatch.setattr("tinyalex.explain.occlusion.corners", planted)
    with pytest.raises(AssertionError):
        test_occlusion_matches_a_loop_over_positions(8, 7)


@pytest.mark.parametrize("devices", [("cpu", "cpu"), ("fake:0", "fake:1")])
def test_occlusion_on_two_devices_and_in_float32(devices):
    image = noise(56, 56, 3)
    one = occlusion(built("shapes"), image, 1)
    other = occlusion(built("shapes", devices, "float32"), image.astype("float32"), 1)
    np.testing.assert_allclose(other.covered, one.covered, rtol=2e-4, atol=1e-6)
    assert (one.patch, one.stride) == (11, 3) == (default_patch(56), default_stride(56, 11))


def test_patches_cover_every_pixel_and_stay_inside():
    for side, patch, stride in ((10, 4, 3), (11, 4, 3), (224, 45, 12), (28, 28, 5), (5, 1, 1)):
        firsts = corners(side, patch, stride)
        covered = {pixel for first in firsts for pixel in range(first, first + patch)}
        assert covered == set(range(side))


# Receptive fields.


def reached(network, columns=False):
    """Return {layer: bool (rows of the image, rows of its output)}: which change with which. With ``columns``, columns.

    The readable layers are run as they are, on an image for each row, which is NaN there: a unit becomes NaN if and
    only if it reads one of these pixels.
    """
    h = network.input_shape[columns]
    images, found = noise(h, *network.input_shape), {}
    for number in range(h):
        images[(number, slice(None), number) if columns else (number, number)] = np.nan

    def hook(layer, y):
        if y.ndim == 4:
            found[layer] = np.isnan(y).any(axis=(1 if columns else 2, 3))

    xs = [images] * len(network.devices)
    with np.errstate(invalid="ignore"):
        for stage in network.trunk:
            xs = stage.forward(xs, network.devices, forward_hook=hook)
    return found


@pytest.mark.parametrize("columns", [False, True], ids=["rows", "columns"])
@pytest.mark.parametrize("name", NETS)
def test_receptive_fields_are_the_pixels_that_reach_a_unit(name, columns):
    network = built(name, ("cpu",), "float64", "net.convolution=im2col")
    found = reached(network, columns)
    assert len(found) > 5
    for layer, table in found.items():
        for position in range(table.shape[1]):
            field = receptive_field(network, layer, *((0, position) if columns else (position, 0)))
            first, end = (field.left, field.right) if columns else (field.top, field.bottom)
            assert np.flatnonzero(table[:, position]).tolist() == list(range(first, end)), (layer.name, position)


def smooth(network):
    """Replace max pools by average pools: the gradient of the mean is not 0 at any pixel of the window."""
    for stage in network.stages:
        for column in stage.columns:
            for i, layer in enumerate(column):
                if isinstance(layer, layers.MaxPool):
                    column[i] = layers.AvgPool(layer.window, layer.stride, layer.rounding).named(layer.name)
    return network


@pytest.mark.parametrize("name", ["shapes", "original", "cifar10-relu", "locally connected"])
def test_receptive_fields_are_where_the_gradient_is_not_zero(name):
    base, changes = NETS[name]
    made = recipe.load(base, [*changes, "net.activation=tanh", "net.convolution=im2col"])
    network = smooth(alexnet.describe(made.net, made.init)).build(dtype="float64")
    stages = [stage.replica() for stage in network.trunk]
    for stage in stages:
        for layer in stage.columns[0]:
            layer.input_gradient = True
            for parameter in layer.parameters:
                parameter.grad = np.zeros(parameter.shape)
    last = network.trunk[-1].columns[0][-1]
    ho, wo, o = network.shapes[len(network.trunk)][0]
    for row, column in ((0, 0), (ho // 2, wo // 2), (ho - 1, 0), (ho - 1, wo - 1)):
        xs = [0.1 * noise(1, *network.input_shape)]
        for stage in stages:
            xs = stage.forward(xs, network.devices)
        dy = np.zeros_like(xs[0])
        dy[0, row, column] = noise(o)
        dys = [dy]
        for stage in reversed(stages):
            dys = stage.backward(dys, network.devices)
        pixels = np.abs(dys[0][0]).max(axis=2) > 0
        rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
        field = Field(rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)
        assert receptive_field(network, last, row, column) == field


@pytest.mark.parametrize("kind, wrong", [
    (layers.Conv2d, lambda k, s, p: (k, s, 0)),
    (layers.Conv2d, lambda k, s, p: (k, s, p + 1)),
    (layers.Conv2d, lambda k, s, p: (k - 1, s, p)),
    (layers.MaxPool, lambda k, s, p: (k, 1, p)),
    (layers.MaxPool, lambda k, s, p: (k + 1, s, p)),
])  # fmt: skip
def test_a_wrong_window_is_noticed(monkeypatch, kind, wrong):
    window = fields.window
    monkeypatch.setattr(fields, "window", lambda each: (wrong if isinstance(each, kind) else tuple_of)(*window(each)))
    with pytest.raises(AssertionError):
        test_receptive_fields_are_the_pixels_that_reach_a_unit("shapes", False)


def tuple_of(*values):
    return values


def test_receptive_fields_of_the_papers_net():
    """The sizes are those that sum up kernels and strides: 11, + 2 x 4 + 4 x 8, + 2 x 8 + 2 x 16, + 4 x 16."""
    made = recipe.load("paper")
    network = alexnet.describe(made.net)
    by_name = {layer.name: layer for _, layer in network.layers()}
    for name, size in (("conv1a conv1b", 11), ("conv2a conv2b", 51), ("conv3a conv3b", 99), ("conv5a conv5b", 163)):
        field = receptive_field(network, by_name[name], 6, 6)
        assert field.bottom - field.top == field.right - field.left == size
    with pytest.raises(UsageError, match=r"has 13 x 13 positions, none at \(13, 0\)"):
        receptive_field(network, by_name["conv5a conv5b"], 13, 0)
    with pytest.raises(UsageError, match="is not a layer of this network"):
        receptive_field(network, layers.ReLU().named("relu1"))
    assert receptive_field(network, by_name["fc6a fc6b"]) == Field(0, 0, 224, 224)


@pytest.mark.parametrize("layer", [
    layers.GaussianBlur(1.0, 5), layers.Subsample(3), layers.ContrastNorm(size=3, alpha=9.0),
    layers.ContrastNorm(size=4, alpha=9.0), layers.SpatialNorm(size=4, alpha=9.0), layers.SpatialNorm(size=5),
    layers.AvgPool(3, 2), layers.MaxPool(2, 2, "floor"), layers.Conv2d(2, 3, 5, 3, 2, rounding="ceil"),
    layers.LocallyConnected((11, 11, 2), 3, 5, 2, 1), layers.LRN(), layers.Logistic(), layers.DealChannels(4, 8),
    layers.ChannelSlice(0, 2),
], ids=lambda layer: type(layer).__name__)  # fmt: skip
def test_windows_of_single_layers(layer):
    channels = 4 if isinstance(layer, layers.DealChannels) else 2
    layer.build(dtype="float64")
    ho = layer.output_shape((11, 11, channels))[0]
    reached = np.zeros((11, ho), bool)
    for row in range(11):
        x = noise(1, 11, 11, channels)
        y = layer.forward(x)
        changed = x.copy()
        changed[:, row] += 1 + noise(11, channels) ** 2
        reached[row] = (layer.forward(changed) != y).any(axis=(0, 2, 3))
    for position in range(ho):
        field = fields.field_before(layer, (11, 11, channels), Field(position, 0, position + 1, 1))
        found = np.flatnonzero(reached[:, position])
        assert found[0] == field.top and found[-1] + 1 == field.bottom


def test_the_window_of_every_layer_is_known():
    """Whoever adds a layer says what it reads: here, in `window`, or by a case above."""
    one_pixel = {"Abs", "ChannelSlice", "DealChannels", "Dropout", "ElementwiseSum", "LRN", "Logistic", "ReLU",
                 "ScaledTanh", "SoftReLU", "Square", "Tanh"}  # fmt: skip
    larger = {"AvgPool", "ContrastNorm", "Conv2d", "GaussianBlur", "LocallyConnected", "MaxPool", "SpatialNorm",
              "Subsample"}  # fmt: skip
    whole, none = {"Linear"}, {"Layer", "Parameter", "SoftmaxLoss", "SumOfInputs"}
    assert one_pixel | larger | whole | none == set(layers.__all__)
    with pytest.raises(UsageError, match="the pixels that a SumOfInputs reads are not known"):
        fields.window(layers.SumOfInputs([(4, 4, 1)], [layers.Conv2d(1, 2, 3)]))


# Strongest units.


@pytest.mark.parametrize("devices", [("cpu",), ("cpu", "cpu"), ("fake:0", "fake:1")])
@pytest.mark.parametrize("layer", [None, "conv2"])
def test_strongest_units_are_those_of_a_plain_search(devices, layer):
    network = built("shapes", devices)
    image, found = noise(56, 56, 3), {}
    wanted = "relu5" if layer is None else "relu2"

    def hook(each, y):
        if each.name == wanted:
            for number, part in enumerate(np.split(each.device.get(y)[0], 2, axis=2) if len(devices) == 1 else
                                          [each.device.get(y)[0]]):  # fmt: skip
                letter = "ab"[number] if len(devices) == 1 else "ab"[len({name for name, _ in found})]
                for m in range(part.shape[2]):
                    found[f"{layer or 'conv5'}{letter}", m] = part[..., m]

    with network.step():
        xs = [device.to_device(image[None]) for device in network.devices]
        for stage in network.stages:
            xs = stage.forward(xs, network.devices, forward_hook=hook)
    units = strongest_units(network, image, 5, layer)
    best = sorted(((maps.max(), name, number) for (name, number), maps in found.items()), reverse=True)
    best = [each for each in best if each[0] > 0][:5]
    assert [(unit.layer, unit.map) for unit in units] == [(name, number) for _, name, number in best]
    for unit in units:
        values = found[unit.layer, unit.map]
        assert unit.value == values.max() == values[unit.row, unit.column]


def test_a_unit_depends_on_its_field_and_on_nothing_else():
    network = built("tiny-imagenet")
    image = noise(57, 57, 3)
    unit = strongest_units(network, image, 1, "conv3")[0]
    field = unit.field
    rectangle = slice(field.top, field.bottom), slice(field.left, field.right)
    outside, inside = noise(2, 57, 57, 3)[1], image.copy()
    outside[rectangle] = image[rectangle]
    inside[rectangle] *= 0.5

    def value(x):
        """The unit's output: ReLU of the convolution, from the readable layers."""
        found = []

        def hook(layer, y):
            if layer.name == "relu3":
                found.append(y[0])

        xs = [x[None]]
        for stage in network.stages:
            xs = stage.forward(xs, network.devices, forward_hook=hook)
        half = found[0].shape[2] // 2
        return found[0][unit.row, unit.column, unit.map + half * (unit.layer == "conv3b")]

    assert (field.bottom - field.top) * (field.right - field.left) < 57 * 57
    assert value(image) == pytest.approx(unit.value, rel=1e-12) == pytest.approx(value(outside), rel=1e-9)
    assert value(inside) != pytest.approx(unit.value, rel=1e-3)


@pytest.mark.parametrize("devices", [("cpu",), ("cpu", "cpu"), ("fake:0", "fake:1")])
@pytest.mark.parametrize(
    "name, layer", [("shapes", "conv5"), ("two columns, no exchange", "conv4"), ("original", "conv1")]
)
def test_gradient_of_a_unit_matches_central_differences(name, layer, devices):
    network = built(name, devices)
    image = noise(*network.input_shape)
    units = strongest_units(network, image, 3, layer)
    for number, unit in enumerate(units):
        gradient = unit_gradient(network, image, unit)
        direction = gradient / np.linalg.norm(gradient) * (noise(f"direction {number}", *image.shape) > 0)
        values = []
        for step in (1e-6, -1e-6):
            found = strongest_units(network, image + step * direction, 99, layer)
            values += [each.value for each in found if each[:4] == unit[:4]]
        assert (gradient * direction).sum() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-4)
        outside = gradient.copy()
        unit.field.of(outside)[...] = 0
        assert np.abs(outside).max() < 1e-10 * np.abs(gradient).max()  # Winograd's sums cancel up to rounding
        part = main_part(gradient)
        assert unit.field.top <= part.top < part.bottom <= unit.field.bottom
        total = np.abs(gradient).sum()
        assert np.abs(part.of(gradient)).sum() >= 0.8 * total > 0
        assert np.abs(gradient[: part.top]).sum() <= 0.05 * total >= np.abs(gradient[:, part.right :]).sum()


def test_convolutions_are_listed_in_order():
    assert convolutions(built("locally connected")) == ["conv1", "conv2", "local3", "local4"]
    assert convolutions(built("shapes", ("cpu", "cpu"))) == ["conv1", "conv2", "conv3", "conv4", "conv5"]

"""The gradient checker accepts right gradients, rejects slightly wrong ones, and reports non-differentiable points."""

import re
from dataclasses import replace

import numpy as np
import pytest

from tests.support.layer_cases import CASES, STEP, noise
from tinyalex import gradcheck, layers
from tinyalex.errors import ShapeError, UsageError
from tinyalex.gradcheck import cases
from tinyalex.layers.patches import col2im, im2col, positions
from tinyalex.layers.winograd import WinogradConv2d
from tinyalex.network import alexnet
from tinyalex.network.columns import Exchange
from tinyalex.recipes import recipe
from tinyalex.recipes.settings import Init, Net


class Scale:
    """A layer as a user may write it: y = a x^2, with attributes of any name."""

    def __init__(self):
        self.a, self.da = np.array([2.0, -3.0, 0.5]), None

    def forward(self, x):
        self.x = x
        return self.a * x * x

    def backward(self, dy):
        self.da = (dy * self.x * self.x).sum(axis=0)
        return 2 * dy * self.a * self.x


def broken(base, **methods):
    return type(f"Broken{base.__name__}", (base,), methods)


# The cases of `tinyalex gradcheck`.


@pytest.mark.parametrize("kind", cases.CASES)
@pytest.mark.parametrize("method", ["complex", "central"])
def test_every_layer(kind, method):
    results = gradcheck.suite(kind, method)
    wrong = [result for result in results if result.failed or result.excused or not result.largest]
    assert not wrong, gradcheck.table(wrong)


@pytest.mark.parametrize("name", ["cifar10-relu", "cifar10-tanh", "cifar10-13pct", "cifar10-11pct"])
@pytest.mark.slow
def test_cifar_nets(name):
    results = gradcheck.suite(name)
    assert all(result.verdict == "ok" for result in results), gradcheck.table(results)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["original", "paper"])
def test_every_gradient_of_two_columns(name):
    net = cases.small(recipe.load(name).net)
    assert (net.input, net.maps, net.hidden, net.classes) == (67, (16, 16, 24, 24, 16), 16, 10)
    results = gradcheck.suite(name)
    assert all(result.verdict == "ok" and result.error <= 1e-12 for result in results), gradcheck.table(results)
    assert sum(result.size for result in results if "/" in result.parameter) == 17_594
    assert sum(result.parameter.startswith("image") for result in results) == 2


def test_small_nets_have_the_switches_of_their_recipes():
    for name in recipe.names():
        full = recipe.load(name).net
        small = cases.small(full)
        for switch in ("kind", "columns", "norm", "pool", "talk", "fc8", "activation", "dropout", "stride", "kernels"):
            assert getattr(small, switch) == getattr(full, switch)
    shapes = alexnet.describe(cases.small(recipe.load("original").net), devices=2).shapes
    assert shapes[1:3] == [[(3, 3, 8)] * 2, [(1, 1, 8)] * 2]
    alexnet.describe(cases.small(Net(pool=2)), devices=2)


def test_unknown_name_is_refused_and_the_nearest_is_suggested():
    with pytest.raises(UsageError, match='did you mean "maxpool"'):
        gradcheck.suite("maxpol")
    with pytest.raises(UsageError, match="use complex or central"):
        gradcheck.suite("relu", "forward")


# Networks.

TINY = Net(input=59, maps=(2, 4, 4, 4, 4), hidden=4, classes=3)


def tiny(devices, dtype="float64", **switches):
    init = Init({"default": "he"}, {"default": 0.5, "fc6": 1.0, "fc7": 1.0})
    return alexnet.build(Net(**{**vars(TINY), **switches}), init, devices, seed=9, dtype=dtype)


def check_tiny(network, **options):
    images = 30 * noise(2, 59, 59, 3)
    return gradcheck.check_network(network, images, np.array([0, 2]), training=True, step=STEP, inputs=False, **options)


OTHER_NETS = {
    "one column": {"columns": 1},
    "six convolutions": {"maps": (2, 4, 4, 4, 4, 4), "kernels": (5, 3, 3, 3, 3, 3), "talk": ("conv6", "fc7")},
    "without conv3": {"maps": (2, 4, 0, 4, 4)},
    "without conv4 and conv5": {"maps": (2, 4, 4, 0, 0)},
    "bottleneck": {"bottleneck": 4, "talk": ("bottleneck7",), "fc8": "split"},
    "no normalization": {"norm": "none"},
    "columns without exchanges": {"talk": ()},
    "pools that do not overlap": {"pool": 2, "input": 41},
    "CaffeNet": {
        "norm_window": "all",
        "norm_order": "pool-norm",
        "norm_k": 1.0,
        "norm_alpha": 0.1,
        "conv_rounding": "floor",
        "input": 34,
    },
    "other padding": {"pads": (2, 1, 1, 1, 1), "pool_rounding": "floor", "norm_size": 3, "input": 37},
}


@pytest.mark.parametrize("switches", OTHER_NETS)
def test_other_nets(switches):
    """At a reduced size; ``python -m tests.programs.paper_nets --gradients`` checks the net of every recipe."""
    smaller = {"input": 33, "kernels": (5, 3, 3, 3, 3), "stride": 2, "hidden": 8, "dropout": 0.25}
    net = Net(**{**vars(TINY), **smaller, **OTHER_NETS[switches]})
    init = Init({"default": "he"}, {"default": 0.5})
    network = alexnet.build(net, init, ["cpu"] * net.columns, seed=9, dtype="float64")
    images = noise(2, net.input, net.input, 3)
    results = gradcheck.check_network(network, images, np.array([0, 2]), training=True, step=STEP, inputs=False)
    assert all(result.verdict == "ok" for result in results), gradcheck.table(results)


def test_overrides_need_a_recipe():
    for name in (None, "conv"):
        with pytest.raises(UsageError, match="^--set net.pool=2: changes a recipe's net; name a recipe to check$"):
            gradcheck.suite(name, overrides=["net.pool=2"])
    with pytest.raises(UsageError, match="net.pools: no such key"):
        gradcheck.suite("original", overrides=["net.pools=2"])


@pytest.mark.parametrize("devices", [["cpu"], pytest.param(["fake:0", "fake:1"], marks=pytest.mark.slow)])
def test_network_on_any_devices(devices):
    network = tiny(devices, norm="2012")
    before = {name: device.get(view) for name, device, view in network.tensors()}
    results = check_tiny(network)
    assert not any(result.failed or result.excused for result in results), gradcheck.table(results)
    after = {name: device.get(view) for name, device, view in network.tensors()}
    assert all(np.array_equal(before[name], after[name]) and after[name].dtype == "float64" for name in before)
    assert not network.stages[0].columns[0][0].input_gradient


@pytest.mark.slow
def test_wrong_gradient_in_a_network_is_found(monkeypatch):
    monkeypatch.setattr(Exchange, "backward", lambda self, dys, devices: Exchange_backward(self, dys[:1] * 2, devices))
    failed = {result.parameter for result in check_tiny(tiny(["cpu", "cpu"], fc8="split")) if result.failed}
    assert any(name.startswith("conv1") for name in failed) and "fc8a/W" not in failed


Exchange_backward = Exchange.backward


def test_network_in_float32_is_refused():
    with pytest.raises(UsageError, match="float64, not float32"):
        check_tiny(tiny(["cpu"], "float32"))


# A layer of the user.


def test_users_layer():
    layer = Scale()
    a = layer.a
    for method, tolerance in (("complex", 1e-15), ("central", 1e-8)):
        x, da = gradcheck.check(layer, noise(4, 3), parameters={"a": "da"}, method=method)
        assert (x.parameter, da.parameter, x.size, da.size) == ("x", "a", 12, 3)
        assert x.verdict == da.verdict == "ok" and max(x.error, da.error) <= tolerance
    assert layer.a is a


@pytest.mark.parametrize("method", ["complex", "central"])
def test_users_layer_with_a_wrong_gradient(method):
    def backward(self, dy):
        dx = Scale.backward(self, dy)
        self.da[1] *= 1.001
        dx[2, 1] += 1e-6
        return dx

    results = gradcheck.check(broken(Scale, backward=backward)(), noise(4, 3), parameters={"a": "da"}, method=method)
    x, a = results
    assert x.verdict == a.verdict == "FAIL" and x.index == (2, 1) and a.index == (1,)
    assert abs(a.analytic / a.numeric - 1.001) < 1e-7
    text = gradcheck.table(results)
    assert "at [2, 1]: backward" in text and "2 of 2 tensors FAIL" in text


def test_missing_and_misshapen_gradients_are_refused():
    with pytest.raises(ShapeError, match="x: backward left no gradient"):
        gradcheck.check(broken(Scale, backward=lambda self, dy: None)(), noise(4, 3))
    with pytest.raises(ShapeError, match=r"a gradient of shape \(12,\), expected shape \(4, 3\)"):
        gradcheck.check(broken(Scale, backward=lambda self, dy: dy.reshape(-1))(), noise(4, 3))


def test_all_zero_gradients_are_reported():
    layer = Scale()
    layer.a = np.zeros(3)
    assert [result.verdict for result in gradcheck.check(layer, noise(4, 3))] == ["all zero"]
    zeros = broken(Scale, backward=lambda self, dy: dy * 0)()
    assert gradcheck.check(zeros, noise(4, 3))[0].failed
    nans = broken(Scale, backward=lambda self, dy: dy * np.nan)()
    assert gradcheck.check(nans, noise(4, 3))[0].failed


def test_float32_is_refused():
    with pytest.raises(UsageError, match="x: gradients are checked in float64, not float32"):
        gradcheck.check(layers.ReLU(), noise(2, 3).astype("float32"))
    with pytest.raises(UsageError, match="W: gradients are checked in float64, not float32"):
        gradcheck.check(layers.Linear(3, 2).build(dtype="float32"), noise(2, 3))
    rounding = broken(Scale, forward=lambda self, x: Scale.forward(self, x).astype("float32"))
    with pytest.raises(UsageError, match="output: gradients are checked in float64, not float32"):
        gradcheck.check(rounding(), noise(2, 3), method="central")


def test_changing_an_argument_is_refused():
    def forward(self, x):
        x *= 2
        return x

    def backward(self, dy):
        dy *= 2
        return dy

    with pytest.raises(UsageError, match="forward changes its argument"):
        gradcheck.check(broken(Scale, forward=forward)(), noise(2, 3))
    with pytest.raises(UsageError, match="backward changes its argument"):
        gradcheck.check(broken(Scale, backward=backward)(), noise(2, 3))

    def in_place(self, x):
        self.a *= 1.0
        return self.a * x

    with pytest.raises(UsageError, match="forward changes its argument"):
        gradcheck.check(broken(Scale, forward=in_place)(), noise(2, 3), parameters={"a": "da"})


def test_dropping_the_imaginary_part_is_refused():
    def in_floats(self, x):
        Scale.forward(self, x)
        return self.a * abs(x) ** 2

    with pytest.raises(UsageError, match="forward drops the imaginary part"):
        gradcheck.check(broken(Scale, forward=in_floats)(), noise(2, 3))
    assert gradcheck.check(broken(Scale, forward=in_floats)(), noise(2, 3), method="central")[0].verdict == "ok"

    def into_floats(self, x):
        y = np.empty(x.shape)
        y[...] = Scale.forward(self, x)
        return y

    with pytest.raises(UsageError, match="forward drops an imaginary part"):
        gradcheck.check(broken(Scale, forward=into_floats)(), noise(2, 3))


def test_layer_whose_outputs_depend_on_several_images():
    class Centred:
        def forward(self, x):
            return (x - x.mean(axis=0)) ** 2

        def backward(self, dy):
            g = 2 * dy * (X - X.mean(axis=0))
            return g - g.mean(axis=0)

    X = noise(4, 3)
    assert gradcheck.check(Centred(), X)[0].verdict == "ok"


def test_layers_on_a_device(device):
    case = CASES["conv 3x3/2 ceil"]
    results = gradcheck.check(case.build(device), case.x(), images_alone=True)
    assert [result.parameter for result in results] == ["x", "W", "b"]
    assert all(result.verdict == "ok" for result in results)


def test_lrn_without_its_second_term_is_rejected_at_the_papers_alpha_too():
    def forward(self, x):
        self.x, self.y = x, layers.LRN.forward(self, x)
        return self.y

    def backward(self, dy):
        return dy * self.y / self.x  # the first term: dy / d^beta, as y = x / d^beta

    layer = broken(layers.LRN, forward=forward, backward=backward)
    for alpha in (1.0, 1e-4, 2e-5):
        (result,) = gradcheck.check(layer(alpha=alpha), noise(2, 2, 3, 7), images_alone=True)
        assert result.failed
    assert result.error < 1e-3  # a tolerance of 1e-3 would let this pass


# Non-differentiable points.


@pytest.mark.parametrize("method", ["complex", "central"])
def test_relu_at_zero_is_not_differentiable(method):
    x = noise(3, 4)
    x[1, 2] = x[0, 0] = 0.0
    (result,) = gradcheck.check(layers.ReLU(), x, method=method)
    assert not result.failed and result.nondifferentiable == 2
    assert result.verdict == "not differentiable here (2 of 12)"
    assert "not differentiable here (2 of 12)" in gradcheck.table([result])
    wrong = broken(layers.ReLU, backward=lambda self, dy: 2 * layers.ReLU.backward(self, dy))
    assert gradcheck.check(wrong(), x, method=method)[0].failed


@pytest.mark.parametrize("method", ["complex", "central"])
def test_equal_maxima_are_not_differentiable(method):
    x = noise(1, 4, 4, 1)
    x[0, 0, 1] = x[0, 1, 0] = 5.0
    (result,) = gradcheck.check(layers.MaxPool(2, 2), x, method=method)
    assert not result.failed and result.nondifferentiable == 2


@pytest.mark.parametrize("method", ["complex", "central"])
@pytest.mark.parametrize("distance", [1e-9, 1e-7, 2.5e-6, 1e-5 / 3, 5e-6, 9e-6, 1e-3])
def test_a_kink_beside_the_point_excuses_nothing(distance, method):
    x = noise(2, 3)
    x[0, 1] = distance
    assert gradcheck.check(layers.ReLU(), x, method=method)[0].verdict == "ok"
    x[0, 1] *= -1
    assert gradcheck.check(layers.ReLU(), x, method=method)[0].verdict == "ok"


# The table.


def test_table_fits_a_terminal():
    results = gradcheck.suite("conv") + gradcheck.suite("spatialnorm")
    lines = gradcheck.table(results).splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert lines[0].split() == ["layer", "parameter", "exact", "approximate", "max", "error", "verdict"]
    assert lines[-1].startswith(f"no error in {len(results)} tensors, ")
    assert len(lines) == len(results) + 2


# The adjoint of a linear map A: <A x, y> = <x, A' y>, up to rounding.


def adjoint(ax, y, x, aty):
    left, right = (ax * y).sum(), (x * aty).sum()
    assert abs(left - right) <= 1e-13 * (np.abs(ax * y).sum() + np.abs(x * aty).sum()) / 2


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith(("conv", "linear", "avg", "dropout"))])
def test_backward_is_the_adjoint_in_x(name, device):
    case = CASES[name]
    layer = case.build(device)
    for parameter in layer.parameters:
        if parameter.kind == "b":
            parameter.value = device.put(np.zeros(parameter.shape))
    got, dy = case.run(layer, case.x())
    adjoint(got["y"], dy, case.x(), got["dx"])


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith(("conv", "linear"))])
def test_backward_is_the_adjoint_in_the_parameters(name, device):
    case = CASES[name]
    layer = case.build(device)
    got, dy = case.run(layer, case.x())
    W, b = (device.get(parameter.value) for parameter in layer.parameters)
    layer.b.value = device.put(np.zeros(b.shape))
    of_W, _ = case.run(layer, case.x(), dy)
    adjoint(of_W["y"], dy, W, got["dW"])
    adjoint(got["y"] - of_W["y"], dy, b, got["db"])


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("max pool")])
def test_max_pool_with_fixed_maxima_is_linear(name, device):
    case = CASES[name]
    layer = case.build(device)
    got, dy = case.run(layer, case.x())
    adjoint(got["y"], dy, case.x(), got["dx"])  # with the same maxima, y = A x


@pytest.mark.parametrize(
    "geometry",
    [
        (3, 1, 1, "floor"),
        (11, 4, 0, "ceil"),
        (5, 2, 2, "floor"),
        (2, 3, 0, "floor"),
        (3, 5, 1, "floor"),
        (4, 3, 1, "ceil"),
    ],
)
def test_col2im_is_the_adjoint_of_im2col(geometry, device):
    shape = (2, 13, 15, 3)
    x = noise(*shape)
    patches = device.get(im2col(device, device.put(x), *geometry))
    assert len(patches) == 2 * np.prod([positions(side, *geometry) for side in (13, 15)])
    y = noise(*patches.shape, purpose="y")
    adjoint(patches, y, x, device.get(col2im(device, device.put(y), shape, *geometry)))


@pytest.mark.parametrize("routes", [[[0], [1]], [[0, 1], [0, 1]], [[0, 1], []], [[1], [0]]])
def test_exchange_backward_is_its_adjoint(routes, device):
    devices, exchange = [device, device], Exchange(routes)
    xs = [noise(3, 2, 2, maps, purpose=f"x{maps}") for maps in (4, 5)]
    ys = exchange.forward([device.put(x) for x in xs], devices)
    dys = [None if y is None else noise(*y.shape, purpose=f"y{i}") for i, y in enumerate(ys)]
    dxs = exchange.backward([None if dy is None else device.put(dy) for dy in dys], devices)
    flat = [np.concatenate([a.ravel() for a in arrays if a is not None]) for arrays in (
        [None if y is None else device.get(y) for y in ys], dys, xs, [device.get(dx) for dx in dxs]
    )]  # fmt: skip
    adjoint(*flat)


# Wrong gradients that an earlier version of the checker accepted.

NET = recipe.load("cifar10-relu").net


class Spread:
    """A smooth function with rounding errors: the standard deviation computed from the mean of squares."""

    sign = 1.0

    def forward(self, x):
        self.x, self.mean = x, x.mean(axis=1, keepdims=True)
        self.y = np.sqrt((x * x).mean(axis=1, keepdims=True) - self.mean**2)
        return self.y

    def backward(self, dy):
        return self.sign * dy * (self.x - self.mean) / (self.x.shape[1] * self.y)


@pytest.mark.parametrize("method", ["complex", "central"])
def test_gradient_at_a_non_differentiable_point_has_to_be_near_its_slopes(method):
    x = 100 + noise(3, 5)
    (result,) = gradcheck.check(broken(Spread, sign=-1.0)(), x, method=method)
    assert result.failed

    class Rectifier:
        slope = 0.5

        def forward(self, x):
            self.x = x
            return np.where(x.real > 0, x, 0)

        def backward(self, dy):
            return dy * np.where(self.x == 0, self.slope, self.x > 0)

    x = np.array([[0.0, 1.0, -2.0]])
    for slope, failed in ((0.0, False), (0.5, False), (1.0, False), (1e6, True), (-5.0, True), (np.nan, True)):
        (result,) = gradcheck.check(broken(Rectifier, slope=slope)(), x, method=method)
        assert result.failed == failed and bool(result.nondifferentiable) == (not failed), (slope, result)


def test_gradients_that_accumulate_are_rejected(monkeypatch):
    class Adding(Scale):
        def backward(self, dy):
            self.da = (0 if self.da is None else self.da) + (dy * self.x * self.x).sum(axis=0)
            return 2 * dy * self.a * self.x

    results = gradcheck.check(Adding(), noise(4, 3), parameters={"a": "da"})
    assert [result.failed for result in results] == [False, True]

    def adding(layer, dy, original=layers.Linear.backward):
        before = layer.b.grad.copy()
        dx = original(layer, dy)
        layer.b.grad += before
        return dx

    monkeypatch.setattr(layers.Linear, "backward", adding)
    net = alexnet.build(cases.small(NET), Init({"default": "he"}), ["cpu"], dtype="float64")
    images = noise(2, 12, 12, 3)
    results = gradcheck.check_network(net, images, np.array([3, 8]), inputs=False)
    assert {result.parameter.split("/")[1] for result in results if result.failed} == {"b"}


@pytest.mark.slow
def test_winograd_is_checked(monkeypatch):
    """As a layer, and in every layer of a recipe's net that uses it."""
    for name in ("tiny-imagenet", "original", "cifar10-relu"):
        full = recipe.load(name, ["net.convolution=auto"])
        layers = [layer for _, layer in cases.small_network(full, ["cpu"] * full.net.columns).layers()]
        behind = [layer for layer in layers if re.fullmatch("conv[2-5][ab]?", layer.name)]
        assert behind and all(type(layer) is WinogradConv2d for layer in behind)
    original = WinogradConv2d.backward

    def doubled(layer, dy):
        dx = original(layer, dy)
        layer.W.grad *= 2
        return dx

    monkeypatch.setattr(WinogradConv2d, "backward", doubled)
    assert {result.parameter for result in gradcheck.suite("winograd") if result.failed} == {"W"}


def test_a_loss_of_zero_and_all_zero_tensors_are_reported():
    net = alexnet.build(replace(cases.small(NET), classes=1), Init({"default": "he"}), ["cpu"], dtype="float64")
    images = noise(2, 12, 12, 3)
    results = gradcheck.check_network(net, images, np.array([0, 0]), inputs=False)
    assert not any(result.failed for result in results) and results[0].error == 0
    ending = gradcheck.table(results).splitlines()[-1]
    assert ending.startswith(f"no error in {len(results)} tensors, {len(results)} of them all zero, ")


class _Scale:
    W = np.array([2.0, -3.0])

    def forward(self, x):
        self.x = x
        return self.W * x

    def backward(self, dy):
        self.dW = (dy * self.x).sum(axis=0)
        return dy * self.W


@pytest.mark.parametrize(
    "changes, options, message",
    [
        ({}, {"parameters": {"V": "dV"}}, "_Scale: has no attribute 'V', where a parameter was expected; "),
        ({}, {"parameters": {"W": "dV"}}, "_Scale: has no attribute 'dV', where a gradient was expected; "),
        ({"W": 2.0}, {"parameters": {"W": "dW"}}, "_Scale W: a float instead of an array; use numpy.array(W, "),
        ({}, {"parameters": "W"}, "_Scale: parameters is a str; give parameters={'W': 'dW'}"),
        ({}, {"parameters": [1.0]}, "float: has no attribute 'value', where a parameter was expected"),
        ({"parameters": lambda self: ()}, {}, "_Scale: parameters is a method; give "),
        ({"backward": None}, {}, "_Scale: has no backward; give an object with forward(x) and backward(dy)"),
        ({"forward": 3}, {}, "_Scale: has no forward; "),
        ({}, {"x": [[1.0, 2.0]]}, "_Scale x: a list instead of an array; use numpy.array(x, 'float64')"),
    ],
)
def test_a_layer_that_cannot_be_checked_is_one_clear_line(changes, options, message):
    layer = type("_Scale", (_Scale,), changes)()
    with pytest.raises(UsageError) as error:
        gradcheck.check(layer, **{"x": np.array([[1.0, 0.5], [-2.0, 4.0]])} | options)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)

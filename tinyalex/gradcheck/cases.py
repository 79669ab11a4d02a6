"""The cases of ``tinyalex gradcheck``: every layer in many settings, and recipes' nets at a reduced size."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tinyalex import layers, randomness
from tinyalex.devices.device import Array
from tinyalex.errors import UsageError
from tinyalex.gradcheck.compare import Result
from tinyalex.gradcheck.cuda_convnet import check as check_files
from tinyalex.gradcheck.layer import check
from tinyalex.gradcheck.network import check_network
from tinyalex.layers.winograd import FEW, WinogradConv2d
from tinyalex.network import alexnet
from tinyalex.network.network import Network
from tinyalex.randomness import Step
from tinyalex.recipes import ranges, recipe
from tinyalex.recipes.recipe import Net, Recipe
from tinyalex.recipes.settings import FILES

STEP = Step(seed=7, number=3, first=2)


class _Case:
    """A layer in one setting: label, function that makes it, shape and magnitude of its input, and how to check it."""

    def __init__(
        self,
        label: str,
        make: Callable[[], Any],
        shape: tuple[int, ...],
        size: float = 1.0,
        step: Step | None = None,
        images_alone: bool = True,
    ) -> None:
        self.label, self.make, self.shape, self.size = label, make, shape, size
        self.options: dict[str, Any] = {"training": step is not None, "step": step, "images_alone": images_alone}

    def check(self, method: str) -> list[Result]:
        layer = self.make().build(dtype="float64")
        for parameter in layer.parameters:
            parameter.value = noise(parameter.shape, self.label, parameter.kind) * 0.5
        x = self.size * noise(self.shape, self.label)
        return check(layer, x, method=method, name=self.label, **self.options)


class _Labelled:
    """The loss as a layer with one input; like any layer it multiplies by its upstream gradient."""

    parameters = ()

    def __init__(self, labels: np.ndarray, class_weights: Sequence[float] | None = None) -> None:
        self.labels, self.loss = labels, layers.SoftmaxLoss(class_weights)

    def build(self, dtype: str) -> "_Labelled":
        return self

    def forward(self, z: Array) -> Array:
        return self.loss.forward(z, self.labels)

    def backward(self, dy: Array) -> Array:
        return dy * self.loss.backward()


def noise(shape: tuple[int, ...], *purpose: int | str) -> np.ndarray:
    """Draw normal numbers; they depend on the shape and the purpose only."""
    return randomness.normal(randomness.key(0, "gradcheck", *purpose), np.arange(int(np.prod(shape))).reshape(shape))


def _conv(label: str, shape: tuple[int, ...], *arguments: Any, **options: Any) -> _Case:
    return _Case(f"conv {label}", lambda: layers.Conv2d(shape[3], *arguments, **options), shape)


def _winograd(label: str, shape: tuple[int, ...], *arguments: Any, **options: Any) -> _Case:
    return _Case(f"winograd {label}", lambda: WinogradConv2d(shape[3], *arguments, **options), shape)


def _local(label: str, shape: tuple[int, ...], *arguments: Any, **options: Any) -> _Case:
    return _Case(f"local {label}", lambda: layers.LocallyConnected(shape[1:], *arguments, **options), shape)


def _joined(
    label: str, shapes: Sequence[tuple[int, ...]], joined: tuple[int, ...], windows: Sequence[tuple[int, int, int]]
) -> _Case:
    # A convolution of several inputs, each with its own kernel size, stride and padding.
    def make() -> layers.SumOfInputs:
        convolutions = [
            layers.Conv2d(shape[2], 3, kernel, stride, pad)
            for shape, (kernel, stride, pad) in zip(shapes, windows, strict=True)
        ]
        return layers.SumOfInputs(shapes, convolutions)

    return _Case(label, make, joined)


def _pools(kind: str, make: Callable[..., Any]) -> list[_Case]:
    settings = [(3, 2, "ceil", 6), (3, 2, "floor", 6), (3, 2, "ceil", 7), (2, 2, "ceil", 5), (2, 2, "floor", 5)]
    return [
        _Case(f"{kind} {z}/{s} {rounding} of {side}", partial(make, z, s, rounding), (2, side, side + 1, 3))
        for z, s, rounding, side in settings
    ]


def _norms() -> Iterator[_Case]:
    shape = (2, 3, 2, 10)
    for alpha in (1.0, 0.05, 1e-4, 2e-5):
        for size in (1, 100):
            yield _Case(f"lrn alpha {alpha:g} x {size}", partial(layers.LRN, alpha=alpha), shape, float(size))
    yield _Case("lrn alpha/n 1e-4 x 100", lambda: layers.LRN(average=True), shape, 100.0)
    yield _Case("lrn k 1", lambda: layers.LRN(k=1.0, alpha=1.0), (1, 2, 3, 7))
    yield _Case("lrn groups 2", lambda: layers.LRN(alpha=1.0, groups=2), shape)
    yield _Case("lrn n 4", lambda: layers.LRN(size=4, alpha=1.0), (1, 2, 3, 7))
    yield _Case("lrn n 5 of 3 maps", lambda: layers.LRN(alpha=1.0), (2, 3, 2, 3))


CASES = {
    "conv": [
        _conv("11x11/4 ceil", (1, 16, 17, 3), 4, 11, stride=4, rounding="ceil"),
        _conv("11x11/4 floor pad 2", (2, 15, 19, 2), 3, 11, stride=4, pad=2),
        _conv("5x5 pad 2 groups 2", (2, 5, 6, 4), 6, 5, pad=2, groups=2),
        _conv("3x3 pad 1", (3, 5, 4, 2), 4, 3, pad=1),
        _conv("3x3/2 floor of 6", (2, 6, 8, 3), 2, 3, stride=2),
        _conv("3x3/2 ceil of 6", (2, 6, 8, 3), 2, 3, stride=2, rounding="ceil"),
        _conv("4x4/3 pad 1 ceil", (2, 7, 9, 3), 2, 4, stride=3, pad=1, rounding="ceil"),
        _conv("1x1", (2, 3, 4, 5), 3, 1),
        _conv("2x2/3 leaves gaps", (2, 8, 5, 2), 3, 2, stride=3),
        _conv("one position", (1, 3, 3, 2), 2, 3),
    ],
    "winograd": [
        _winograd("3x3 pad 1", (1, 11, 9, 3), 2, 3, pad=1),
        _winograd("5x5 groups 2", (1, 9, 6, 4), 4, 5, pad=2, groups=2),
        _winograd("11x11/4 ceil", (1, 36, 31, 2), 2, 11, stride=4, rounding="ceil"),
    ],
    "local": [
        _local("3x3 pad 1", (3, 4, 5, 2), 3, 3, pad=1),
        _local("5x5/2 pad 2", (2, 6, 5, 3), 2, 5, stride=2, pad=2),
        _local("3x3/2 ceil of 6", (2, 6, 8, 2), 2, 3, stride=2, rounding="ceil"),
        _local("one position", (2, 3, 3, 2), 4, 3),
    ],
    "relu": [_Case("relu", layers.ReLU, (2, 4, 3, 5)), _Case("relu of units", layers.ReLU, (3, 7))],
    "tanh": [_Case("tanh", layers.Tanh, (2, 4, 3, 5)), _Case("tanh x 5", layers.Tanh, (3, 7), 5.0)],
    "units": [
        _Case("logistic", layers.Logistic, (2, 4, 3, 5)),
        _Case("logistic x 5", layers.Logistic, (3, 7), 5.0),
        _Case("soft relu x 5", layers.SoftReLU, (2, 4, 3, 5), 5.0),
        _Case("abs", layers.Abs, (2, 4, 3, 5)),
        _Case("square", layers.Square, (3, 7)),
        _Case("1.5 tanh(x / 2)", lambda: layers.ScaledTanh(1.5, 0.5), (3, 7)),
    ],
    "lrn": list(_norms()),
    "spatialnorm": [
        _Case("spatial norm", layers.SpatialNorm, (2, 6, 7, 2), 100.0),
        _Case("spatial norm alpha 9", lambda: layers.SpatialNorm(3, alpha=9.0), (2, 4, 5, 3)),
        _Case("spatial norm n 4", lambda: layers.SpatialNorm(4, alpha=16.0), (1, 5, 6, 2)),
        _Case("spatial norm of 3x2", lambda: layers.SpatialNorm(alpha=25.0), (2, 3, 2, 3)),
    ],
    "contrastnorm": [
        _Case("contrast norm", layers.ContrastNorm, (2, 6, 7, 2), 100.0),
        _Case("contrast norm alpha 9", lambda: layers.ContrastNorm(3, 2.0, alpha=9.0), (2, 4, 5, 3)),
        _Case("contrast norm n 4", lambda: layers.ContrastNorm(4, alpha=16.0, beta=0.5), (1, 5, 6, 2)),
        _Case("contrast norm of 3x2", lambda: layers.ContrastNorm(alpha=25.0), (2, 3, 2, 3)),
    ],
    "blur": [
        _Case("blur", lambda: layers.GaussianBlur(1.5, 3), (2, 5, 6, 3)),
        _Case("blur 9 of 3x2", lambda: layers.GaussianBlur(4.0, 9), (2, 3, 2, 3)),
        _Case("every 4th pixel", lambda: layers.Subsample(4), (2, 9, 6, 3)),
    ],
    "maxpool": _pools("max pool", layers.MaxPool),
    "avgpool": _pools("avg pool", layers.AvgPool),
    "linear": [
        _Case("linear", lambda: layers.Linear(7, 5), (3, 7)),
        _Case("linear of images", lambda: layers.Linear((2, 3, 4), 6), (2, 2, 3, 4)),
        _Case("linear groups 2", lambda: layers.Linear((2, 3, 4), 6, groups=2), (3, 2, 3, 4)),
    ],
    "joined": [
        _joined("joined channels", [(5, 6, 3), (5, 6, 2)], (2, 5, 6, 5), [(3, 1, 1), (1, 1, 0)]),
        _joined("joined numbers", [(9, 9, 2), (5, 5, 3)], (2, 237), [(1, 2, 0), (3, 1, 1)]),
        _Case(
            "bias at each position",
            lambda: layers.SumOfInputs([(5, 6, 4)], [layers.Conv2d(4, 2, 3, groups=2)], True),
            (2, 5, 6, 4),
        ),
        _Case("sum of three inputs", lambda: layers.ElementwiseSum([1.0, -1.0, 0.5]), (2, 3, 2, 6)),
        _Case("some channels", lambda: layers.ChannelSlice(2, 3), (2, 3, 2, 6)),
        _Case("dealt channels", lambda: layers.DealChannels(6, 12).named("deal"), (2, 3, 2, 6)),
    ],
    "dropout": [
        _Case("dropout of maps", lambda: layers.Dropout(0.5, "c"), (3, 2, 4, 3), step=STEP, images_alone=False),
        _Case("dropout in training", lambda: layers.Dropout(stream="fc6"), (3, 9), step=STEP, images_alone=False),
        _Case("dropout 0.2, column b", lambda: layers.Dropout(0.2, "fc6", 9), (3, 9), step=STEP, images_alone=False),
        _Case("dropout in testing", lambda: layers.Dropout(0.3), (3, 9)),
    ],
    "softmax": [
        _Case("softmax loss", lambda: _Labelled(np.array([0, 4, 2])), (3, 5), images_alone=False),
        _Case("class weights", lambda: _Labelled(np.array([0, 4, 2]), [2, 1, 0.5, 1, 0]), (3, 5), images_alone=False),
        _Case("softmax loss x 100", lambda: _Labelled(np.array([0, 2])), (2, 6), 100.0, images_alone=False),
    ],
}


def suite(name: str | None = None, method: str = "complex", overrides: Sequence[str] = ()) -> list[Result]:
    """Check a kind of layer, a recipe's net, or everything.

    Parameters
    ----------
    name : str, optional
        A kind of layer (``conv``, ``lrn``, ...) or a recipe (``original``, a file). Default: all layers, and the net of
        ``original`` with each of its two columns on a device.
    method : {"complex", "central"}
    overrides : sequence of str
        Changes to the recipe: see `recipe.load`.

    Returns
    -------
    list of Result

    Raises
    ------
    UsageError
        For an unknown name, and for overrides without a recipe.
    """
    if overrides and (name in CASES or name is None):
        raise UsageError(f"--set {overrides[0]}: changes a recipe's net; name a recipe to check")
    if name in CASES:
        return [result for case in CASES[name] for result in case.check(method)]
    if name is None:
        return [result for kind in [*CASES, "original"] for result in suite(kind, method)]
    if name not in recipe.names() and not Path(name).is_file():
        raise ranges.unknown(name, [*CASES, *recipe.names()], "layer or recipe")
    made = recipe.load(name, overrides)
    if made.net.kind == FILES:
        return check_files(replace(made.net.files, name=made.name), method)
    return _net(made, method)


def _net(full: Recipe, method: str) -> list[Result]:
    net = small(full.net)
    network = small_network(full, ["cpu"] * net.columns)
    size = 1.0 if net.norm == "none" else 60 * full.data.scale  # with normalization, pixels of the recipe's magnitude
    images = size * noise((2, net.input, net.input, 3), "images")
    name = f"{full.name} {net.input}x{net.input}"
    return check_network(network, images, np.array([3, 8]), training=True, step=STEP, method=method, name=name)


def small(net: Net) -> Net:
    """Reduce a recipe's net: 3/8/12/12/8/8 maps a column, 16 hidden units, 10 classes, small images.

    With Winograd's algorithm, layers get as many maps as are needed for it to be used.
    """
    winograd = net.convolution == "auto"
    if net.kind != "alexnet":
        maps: tuple[int, ...] = (FEW, FEW, FEW, 3) if winograd else (4, 5, 6, 3)
        return replace(net, input=12, maps=maps[: len(net.maps)], classes=10)
    outputs = 15 if net.pool == 3 else 19  # side of conv1's maps: then 7, 3, 1 after the pools, or 10, 4, 1
    side = net.kernels[0] + net.stride * (outputs - 1) - 2 * net.padding[0]
    counts = (FEW if winograd else 3, 8, 12, 12, 8, 8)
    maps = tuple(min(maps, net.columns * count) for maps, count in zip(net.maps, counts, strict=False))
    return replace(net, input=side, maps=maps, hidden=16, bottleneck=min(net.bottleneck, 6), classes=10)


def small_network(full: Recipe, devices: Sequence[str]) -> Network:
    """Build a recipe's net at a reduced size, in float64, with weights by which every layer affects the loss."""
    init = recipe.Init(weights={"default": "he", "fc8": 0.1, "fc10": 0.01}, biases={"default": 0.5} | full.init.biases)
    return alexnet.build(small(full.net), init, devices, seed=9, dtype="float64")

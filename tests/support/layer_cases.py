"""Every layer in several settings with its reference implementation, and checks for all of them; used by the tests of
the layers and by the mutants."""

import math
from functools import partial

import numpy as np

from tests.support.in_a_block import BlockCase
from tinyalex import layers
from tinyalex.devices.device import Device
from tinyalex.layers import loops
from tinyalex.randomness import Step, key, normal

STEP = Step(seed=5, number=11, first=3)


def noise(*shape, purpose=""):
    return normal(key(0, "layers", purpose, *shape), np.arange(np.prod(shape))).reshape(shape)


class Case:
    """A layer, an input's shape, and its reference: y of (x, W, b), and (dx, dW, db) of (dy, x, W, b), on the host."""

    def __init__(self, make, shape, forward, backward, step=None, scale=1.0):
        self.make, self.shape, self.scale = make, shape, scale
        self.options = {"training": step is not None, "step": step}  # of forward
        self.forward, self.backward = forward, backward

    def build(self, device, dtype="float64"):
        layer = self.make().named("layer").build(device, 0, dtype)
        for parameter in layer.parameters:
            parameter.value = device.put(noise(*parameter.shape, purpose=parameter.kind).astype(dtype))
        return layer

    def x(self, dtype="float64"):
        return (self.scale * noise(*self.shape, purpose="x")).astype(dtype)

    def run(self, layer, x, dy=None):
        """Run forward and backward on host arrays; return y, dx, dW and db on the host, and dy."""
        device = layer.device
        y = device.get(layer.forward(device.put(x), **self.options))
        dy = noise(*y.shape, purpose="dy").astype(y.dtype) if dy is None else dy
        dx = device.get(layer.backward(device.put(dy)))
        names = [f"d{p.kind}{p.names[0][len(layer.name) :]}" for p in layer.parameters]  # dW, or dW.0, dW.1
        return {"y": y, "dx": dx} | dict(zip(names, (device.get(p.grad) for p in layer.parameters), strict=True)), dy


def _conv(shape, maps, kernel, **options):
    return Case(
        lambda: layers.Conv2d(shape[3], maps, kernel, **options),
        shape,
        lambda x, W, b: loops.conv2d(x, W, b, **options),
        lambda dy, x, W, b: loops.conv2d_backward(dy, x, W, **options),
    )


def _local(shape, maps, kernel, **options):
    rounding = {"rounding": options.pop("rounding", "floor")}
    return Case(
        lambda: layers.LocallyConnected(shape[1:], maps, kernel, **options, **rounding),
        shape,
        lambda x, W, b: loops.locally_connected(x, W, b, **options),
        lambda dy, x, W, b: loops.locally_connected_backward(dy, x, W, **options),
    )


def _linear(shape, outputs, groups=1):
    return Case(
        lambda: layers.Linear(shape[1:], outputs, groups),
        shape,
        lambda x, W, b: loops.linear(x, W, b, groups),
        lambda dy, x, W, b: loops.linear_backward(dy, x, W, groups),
    )


def _plain(make, twin, shape, scale=1.0, **options):
    forward, backward = getattr(loops, twin), getattr(loops, f"{twin}_backward")
    return Case(
        lambda: make(**options), shape, lambda x: forward(x, **options), lambda dy, x: (backward(dy, x, **options),),
        scale=scale,
    )  # fmt: skip


def _deal(shape, dealt):
    layer = layers.DealChannels(shape[-1], dealt).named("layer").build()
    order = [int(channel) for pack, _ in layer.packs for channel in pack]
    return Case(
        lambda: layers.DealChannels(shape[-1], dealt), shape,
        lambda x: loops.deal_channels(x, order), lambda dy, x: (loops.deal_channels_backward(dy, x, order),),
    )  # fmt: skip


def _sum(shapes, makers, forward, backward, joined, unshared=False):
    # ``forward(x, W)`` and ``backward(dy, x, W)`` of each input alone, without its bias.
    def inputs(x):
        sizes = [shape[-1] if len(joined) > 2 else math.prod(shape) for shape in shapes]
        return [
            part.reshape(len(x), *shape)
            for part, shape in zip(np.split(x, np.cumsum(sizes)[:-1], axis=-1), shapes, strict=True)
        ]

    def run(x, *parameters):
        return sum(f(part, W) for f, part, W in zip(forward, inputs(x), parameters, strict=False)) + parameters[-1]

    def run_backward(dy, x, *parameters):
        parts = [f(dy, part, W) for f, part, W in zip(backward, inputs(x), parameters, strict=False)]
        dx = np.concatenate([part[0].reshape(len(x), *joined[1:-1], math.prod(part[0].shape[len(joined) - 1 :]))
                             for part in parts], axis=-1)  # fmt: skip
        db = dy.sum(axis=0) if unshared else dy.reshape(-1, dy.shape[-1]).sum(axis=0)
        return dx, *(part[1] for part in parts), db

    return Case(lambda: layers.SumOfInputs(shapes, [make() for make in makers], unshared), joined, run, run_backward)


def _sum_of_convs(shapes, joined, kernels, options, unshared=False):
    return _sum(
        shapes,
        [
            partial(layers.Conv2d, shape[-1], 4, kernel, **each)
            for shape, kernel, each in zip(shapes, kernels, options, strict=True)
        ],
        [lambda x, W, each=each: loops.conv2d(x, W, np.zeros(4), **each) for each in options],
        [lambda dy, x, W, each=each: loops.conv2d_backward(dy, x, W, **each) for each in options],
        joined,
        unshared,
    )


def _dropout(p, step):
    # The layer draws the mask; an input of ones shows which units it dropped.
    shape = (4, 9)
    ones = np.ones(shape)
    mask = None if step is None else layers.Dropout(p, "fc6", 5).forward(ones, training=True, step=step) != 0
    return Case(
        lambda: layers.Dropout(p, "fc6", 5), shape,
        lambda x: loops.dropout(x, mask, p), lambda dy, x: (loops.dropout_backward(dy, mask, p),), step,
    )  # fmt: skip


CASES = {
    "conv 3x3 pad 1": _conv((2, 4, 5, 3), 6, 3, pad=1),
    "conv 5x5 pad 2 groups 2": _conv((2, 5, 3, 4), 6, 5, pad=2, groups=2),
    "conv 3x3/2 ceil": _conv((2, 6, 8, 3), 4, 3, stride=2, rounding="ceil"),
    "conv 3x3/2 floor": _conv((2, 6, 8, 3), 4, 3, stride=2, rounding="floor"),
    "conv 4x4/3 pad 1 ceil": _conv((2, 7, 9, 3), 5, 4, stride=3, pad=1, rounding="ceil"),
    "conv 11x11/4 ceil": _conv((1, 16, 17, 3), 4, 11, stride=4, rounding="ceil"),
    "conv 1x1": _conv((3, 2, 4, 5), 6, 1),
    "conv of fours": _conv((2, 5, 6, 8), 8, 3, pad=1),
    "conv of fours, groups 2": _conv((2, 5, 6, 8), 8, 3, pad=1, groups=2),
    "conv 2x2/3": _conv((2, 8, 5, 3), 4, 2, stride=3),
    "conv 3x3/3 pad 1": _conv((2, 12, 9, 3), 4, 3, stride=3, pad=1),  # pixels at the edge that no kernel sees
    "local 3x3 pad 1": _local((3, 4, 5, 2), 3, 3, pad=1),
    "local 5x5/2 pad 2": _local((2, 6, 5, 3), 2, 5, stride=2, pad=2),
    "local 3x3/2 ceil": _local((2, 6, 8, 2), 4, 3, stride=2, rounding="ceil"),
    "local of one output position": _local((2, 3, 3, 4), 2, 3),
    "relu": _plain(layers.ReLU, "relu", (2, 3, 4, 5)),
    "tanh": _plain(layers.Tanh, "tanh", (2, 3, 4, 5)),
    "lrn alpha 1": _plain(layers.LRN, "lrn", (2, 3, 4, 7), alpha=1.0),
    "lrn of the paper": _plain(layers.LRN, "lrn", (2, 3, 4, 7), scale=100.0),
    "lrn of 2012": _plain(layers.LRN, "lrn", (2, 3, 4, 7), scale=100.0, average=True),
    "lrn groups 2": _plain(layers.LRN, "lrn", (2, 3, 4, 10), alpha=1.0, groups=2),
    "lrn n 4, k 1": _plain(layers.LRN, "lrn", (2, 3, 4, 7), size=4, k=1.0, alpha=1.0),
    "lrn n 3, beta 1": _plain(layers.LRN, "lrn", (2, 3, 4, 6), size=3, alpha=1.0, beta=1.0),
    "lrn of units": _plain(layers.LRN, "lrn", (3, 7), alpha=1.0, beta=0.5),
    "lrn n 5 of 3 maps": _plain(layers.LRN, "lrn", (2, 4, 5, 3), alpha=1.0),
    "spatial norm of 2012": _plain(layers.SpatialNorm, "spatial_norm", (2, 6, 7, 3), scale=100.0),
    "spatial norm n 4": _plain(layers.SpatialNorm, "spatial_norm", (2, 5, 6, 3), size=4, k=2.0, alpha=16.0),
    "spatial norm of 3x2": _plain(layers.SpatialNorm, "spatial_norm", (4, 3, 2, 5), alpha=25.0),
    "logistic": _plain(layers.Logistic, "logistic", (2, 3, 4, 5)),
    "soft relu": _plain(layers.SoftReLU, "soft_relu", (2, 3, 4, 5)),
    "abs": _plain(layers.Abs, "absolute", (2, 3, 4, 5)),
    "square": _plain(layers.Square, "square", (2, 3, 4, 5)),
    "scaled tanh": _plain(layers.ScaledTanh, "scaled_tanh", (2, 3, 4, 5), a=1.5, b=0.5),
    "contrast norm of 2012": _plain(layers.ContrastNorm, "contrast_norm", (2, 6, 7, 3), scale=30.0),
    "contrast norm n 4": _plain(layers.ContrastNorm, "contrast_norm", (2, 5, 6, 3), size=4, k=2.0, alpha=16.0),
    "contrast norm of 3x2": _plain(layers.ContrastNorm, "contrast_norm", (4, 3, 2, 5), alpha=25.0, beta=0.5),
    "blur": _plain(layers.GaussianBlur, "gaussian_blur", (2, 5, 6, 3), deviation=1.5, size=3),
    "blur wider than the image": _plain(layers.GaussianBlur, "gaussian_blur", (2, 3, 2, 2), deviation=4.0, size=9),
    "subsample": _plain(layers.Subsample, "subsample", (2, 9, 6, 3), stride=4),
    "deal channels": _deal((2, 3, 2, 8), 16),
    "channel slice": _plain(layers.ChannelSlice, "channel_slice", (2, 3, 2, 7), first=2, count=4),
    "elementwise sum": _plain(layers.ElementwiseSum, "elementwise_sum", (2, 3, 2, 6), coefficients=(1.0, -1.0, 0.5)),
    "sum of convs of one size": _sum_of_convs([(5, 6, 3), (5, 6, 2)], (2, 5, 6, 5), (3, 1), [{"pad": 1}, {}]),
    "sum of convs of two sizes": _sum_of_convs([(9, 9, 3), (5, 5, 2)], (2, 293), (1, 3), [{"stride": 2}, {"pad": 1}]),
    "sum with a bias at each position": _sum_of_convs([(5, 6, 4)], (2, 5, 6, 4), (3,), [{"groups": 2}], unshared=True),
    "sum of linears": _sum(
        [(2, 2, 3), (4,)],
        [lambda: layers.Linear((2, 2, 3), 4), lambda: layers.Linear(4, 4)],
        [lambda x, W: loops.linear(x, W, np.zeros(4))] * 2,
        [lambda dy, x, W: loops.linear_backward(dy, x, W)] * 2,
        (3, 16),
    ),
    "linear": _linear((4, 7), 5),
    "linear of images": _linear((2, 3, 5, 4), 6),
    "linear groups 2": _linear((2, 3, 5, 4), 6, groups=2),
    "linear groups 2, odd": _linear((2, 1, 3, 4), 5, groups=2),
    "dropout in training": _dropout(0.5, STEP),
    "dropout 0.2 in training": _dropout(0.2, STEP),
    "dropout at test": _dropout(0.3, None),
}
for _kind, _make, _twin in (("max", layers.MaxPool, "max_pool"), ("avg", layers.AvgPool, "avg_pool")):
    for _z, _s, _rounding in ((3, 2, "ceil"), (3, 2, "floor"), (2, 2, "ceil"), (2, 2, "floor"), (3, 1, "ceil")):
        CASES[f"{_kind} pool {_z}/{_s} {_rounding}"] = _plain(
            _make, _twin, (2, 6, 7, 3), window=_z, stride=_s, rounding=_rounding
        )
    CASES[f"{_kind} pool of fours"] = _plain(_make, _twin, (2, 6, 7, 8), window=3, stride=2, rounding="ceil")


def agrees_with_its_twin(case, device):
    """The layer's outputs and gradients equal the reference implementation's."""
    layer, x = case.build(device), case.x()
    values = [device.get(p.value) for p in layer.parameters]
    got, dy = case.run(layer, x)
    expected = dict(zip(got, (case.forward(x, *values), *case.backward(dy, x, *values)), strict=True))
    for name, value in expected.items():
        assert value.any(), f"{name}: nothing to compare"
        close(name, got[name], value, 1e-12)


def keeps_dtype(case, device, dtype):
    """float32 in, float32 out, everywhere, and the same for float64."""
    layer = case.build(device, dtype)
    got, _ = case.run(layer, case.x(dtype))
    assert {name: str(array.dtype) for name, array in got.items()} == dict.fromkeys(got, dtype)
    assert all(str(p.value.dtype) == dtype for p in layer.parameters)


def leaves_its_arguments(case, device):
    """x, dy and the parameters' values are not modified."""
    layer, x = case.build(device), case.x()
    before = [device.get(p.value) for p in layer.parameters]
    sent = device.put(x)
    y = layer.forward(sent, **case.options)
    dy = noise(*y.shape, purpose="dy")
    sent_dy = device.put(dy)
    kept = device.get(y)
    layer.backward(sent_dy)
    assert np.array_equal(device.get(sent), x), "forward or backward wrote to x"
    assert np.array_equal(device.get(sent_dy), dy), "backward wrote to dy"
    assert np.array_equal(device.get(y), kept), "backward wrote to y"
    assert all(np.array_equal(device.get(p.value), v) for p, v in zip(layer.parameters, before, strict=True))


def repeats_itself(case, device):
    """A second call gives the same; gradients are overwritten, not added to."""
    layer, x = case.build(device), case.x()
    first, dy = case.run(layer, x)
    second, _ = case.run(layer, x, dy)
    assert all(np.array_equal(first[name], second[name]) for name in first)


def close(name, got, expected, tolerance):
    assert got.shape == expected.shape, f"{name}: {got.shape} is not {expected.shape}"
    worst = np.abs(got - expected).max()
    assert worst <= tolerance * np.abs(expected).max(), f"{name}: off by {worst}"


def every_layer(check, *arguments):
    """Apply one of the checks above to all cases on the CPU, with the readable layers and with NumPy's fast forms."""
    for label, case in CASES.items():
        for form in (case, BlockCase(case)) if len(case.shape) == 4 and not label.startswith("linear") else (case,):
            try:
                check(form, Device("cpu", kernels=False), *arguments)
            except AssertionError as error:
                raise AssertionError(f"{label}, {type(form).__name__}: {error}") from error

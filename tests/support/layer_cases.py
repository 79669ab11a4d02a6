"""Every layer in several settings with its reference implementation, and checks for all of them; used by the tests of
the layers and by the mutants."""

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
        return {"y": y, "dx": dx} | {"d" + p.kind: device.get(p.grad) for p in layer.parameters}, dy


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

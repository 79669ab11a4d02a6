"""Activations stored in bfloat16: rounding, kernels and products, compared with NumPy between the same roundings.

Kernels that sum nothing, or sum whole numbers, have to give NumPy's bits. ml_dtypes rounds for the comparison.
"""

import numpy as np
import pytest

from tests.kernels.test_kernels import SIZES, on_kernels, pointed  # noqa: F401  (on_kernels: a fixture)
from tests.support import shim
from tests.support.layer_cases import STEP, noise
from tinyalex import kernels
from tinyalex.devices import bfloat16, emulated, gemm, launch
from tinyalex.devices.bfloat16 import BFLOAT16
from tinyalex.devices.device import Device
from tinyalex.errors import DeviceError, ShapeError
from tinyalex.layers import LRN, AvgPool, Conv2d, Dropout, Linear, MaxPool, ReLU, SpatialNorm
from tinyalex.network import alexnet, summary
from tinyalex.network.columns import Exchange, Stage
from tinyalex.network.fusion import FusedLayer
from tinyalex.network.storage import Bfloat16Stage
from tinyalex.randomness import Step
from tinyalex.recipes import recipe
from tinyalex.training import health

ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes, which rounds for the comparison, is not installed")


def nearest(x):
    """The bits of the nearest bfloat16 numbers."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(x, np.float32).astype(ml_dtypes.bfloat16).view(BFLOAT16)


def wide(bits):
    return bits.view(ml_dtypes.bfloat16).astype(np.float32)


@pytest.fixture(params=["kernels", "cuda:0", "fake:0"])
def device(request):
    with shim.device(request.param) as found:
        found.use("bf16")
        yield found


def floats():
    """All kinds of float32: random bits, and the neighbours of what is halfway between two bfloat16 numbers."""
    bits = np.random.default_rng(0).integers(0, 1 << 32, 1 << 14, dtype=np.uint32)
    halfway = bits[:4096] & 0xFFFF0000 | 0x8000
    return np.concatenate([bits, halfway, halfway - 1, halfway + 1, [0, 1 << 31, 0x7F800000, 0x7FFFFFFF]]).astype(
        np.uint32
    ).view(np.float32).reshape(-1, 4)  # fmt: skip


def rounds_to_nearest(device):
    x = floats()
    stored = device.rounded(device.put(x))
    got, back, number = device.get(stored), device.get(device.widened(stored)), ~np.isnan(x)
    assert np.array_equal(got[number], nearest(x)[number]) and np.array_equal(back[number], wide(nearest(x))[number])
    assert np.isnan(back[~number]).all() and back.dtype == np.float32
    turned = device.rounded(device.put(x).T)
    assert np.array_equal(device.get(turned), got.T) and not turned.flags.c_contiguous
    assert device.rounded(stored) is stored and device.rounded(device.put(x[:0])).shape == (0, 4)


def test_numbers_are_rounded_to_the_nearest(device):
    rounds_to_nearest(device)


def whole(*shape, purpose, most=3):
    """Whole numbers, of which float32 holds any sum exactly."""
    return np.round(most * noise(*shape, purpose=purpose)).astype(np.float32)


def stage(layers, device):
    """The layers in a stage that stores bfloat16, and a function that runs a layer between the same roundings."""
    for number, layer in enumerate(layers):
        layer.named(f"layer{number}").build(device, 0)
    return Bfloat16Stage(Stage("all", Exchange([[0]]), [layers]), [])


EXACT = {
    "conv 3x3 pad 1": (Conv2d, (3, 8, 3, 1, 1), (2, 6, 5, 3)),
    "conv of fours, groups 2": (Conv2d, (8, 8, 3, 1, 1, 2), (2, 5, 6, 8)),
    "conv 11x11/4 of 363 numbers": (Conv2d, (3, 4, 11, 4), (1, 19, 19, 3)),
    "max pool 3/2": (MaxPool, (3, 2, "ceil"), (2, 6, 7, 3)),
    "max pool of fours": (MaxPool, (3, 2, "ceil"), (2, 6, 7, 8)),
    "avg pool 3/2": (AvgPool, (3, 2, "ceil"), (2, 6, 7, 3)),
}


def matches_numpy(name, device):
    """Forward and backward give NumPy's bits, where every sum is of whole numbers."""
    make, arguments, shape = EXACT[name]
    layer, plain = make(*arguments).named("one").build(device, 0), make(*arguments).named("one").build(Device("cpu"), 0)
    for parameter, other in zip(layer.parameters, plain.parameters, strict=True):
        other.value = whole(*other.shape, purpose=other.kind)
        parameter.value = device.put(other.value)
    x = whole(*shape, purpose="x", most=9)
    run = FusedLayer(layer) if layer.parameters and not device.on_host else layer
    steps = Bfloat16Stage(Stage("all", Exchange([[0]]), [[run]]), [])
    (y,) = steps.forward([device.put(x)], [device])
    product = plain.forward(x)
    if layer.parameters and not device.on_host:  # the product is stored before the bias is added
        product = wide(nearest(product - plain.b.value)) + plain.b.value
    # Of patches' gradients below 256, which are stored exactly before col2im adds them.
    dy = whole(*product.shape, purpose="dy", most=2 if layer.parameters else 9)
    (dx,) = steps.backward([device.rounded(device.put(dy))], [device])
    expected = plain.backward(dy)
    assert y.dtype == dx.dtype == BFLOAT16
    assert np.array_equal(device.get(y), nearest(product)), "y"
    if make is AvgPool:  # a sum of quotients
        np.testing.assert_allclose(device.get_float(dx), expected, rtol=2**-8)
    else:
        assert np.array_equal(device.get(dx), nearest(expected)), "dx"
    for parameter, other in zip(layer.parameters, plain.parameters, strict=True):
        assert np.array_equal(device.get(parameter.grad), other.grad), parameter.kind  # in float32, not rounded
        assert parameter.grad.dtype == np.float32


@pytest.mark.parametrize("name", EXACT)
def test_layers_give_numpys_bits(device, name):
    matches_numpy(name, device)


def across(x, size, k, alpha):
    """LRN with beta 3/4 in float32, in the kernel's order: y, and a function that returns dx."""
    k, alpha, scale, one = *(np.float32(each) for each in (k, alpha, 2.0**40)), np.float32(1)
    before = size // 2
    padded = np.pad(x, [(0, 0)] * 3 + [(size - 1, size - 1)])
    maps = x.shape[3]

    def shifted(a, by):  # of the map that is so many maps away
        return np.pad(a, [(0, 0)] * 3 + [(size - 1, size - 1)])[..., size - 1 + by : size - 1 + by + maps]

    def power(middle):
        total = np.zeros_like(x)
        for a in range(-before, size - before):
            v = padded[..., size - 1 + middle + a : size - 1 + middle + a + maps] if abs(middle + a) < size else 0 * x
            total = total + v * v
        r = one / np.sqrt(k + alpha * total)
        return r * (r * (one / np.sqrt(r))), r

    y = x * power(0)[0]

    def backward(dy):
        cross = np.zeros_like(x)
        for middle in range(before - size + 1, before + 1):
            p, r = power(middle)
            cross = cross + shifted(dy, middle) * (shifted(x, middle) * r * r * scale * p)
        return dy * power(0)[0] - np.float32(2) * alpha * np.float32(0.75) / scale * (x * cross)

    return y, backward


def test_normalization_across_maps_gives_numpys_bits():
    device = shim.device("kernels")
    device.use("bf16")
    x, dy = (wide(nearest(noise(2, 3, 4, 7, purpose=what))) for what in ("x", "dy"))
    steps = stage([LRN(size=5, k=2.0, alpha=0.5)], device)
    (y,), (dx,) = steps.forward([x], [device]), steps.backward([nearest(dy)], [device])
    expected, backward = across(x, 5, 2.0, 0.5)
    assert np.array_equal(y, nearest(expected)) and np.array_equal(dx, nearest(backward(dy)))


@pytest.mark.parametrize("layer", [LRN(alpha=1.0), LRN(alpha=1.0, groups=2), SpatialNorm(k=2.0, alpha=16.0)])
def test_normalization_is_within_one_rounding_of_float32(device, layer):
    x, dy = (wide(nearest(noise(2, 5, 6, 8, purpose=what))) for what in ("x", "dy"))
    steps = stage([layer], device)
    (y,) = steps.forward([device.put(x)], [device])
    (dx,) = steps.backward([device.put(dy)], [device])
    layer.build(Device("cpu"))
    for got, expected in ((y, layer.forward(x)), (dx, layer.backward(dy))):
        error = np.abs(device.get_float(got) - expected)
        assert (error <= 2**-8 * np.abs(expected) + 1e-5 * np.abs(expected).max()).all()


@pytest.mark.parametrize("step", [None, STEP])
def test_bias_relu_and_dropout_round_once(step):
    """The sums of the bias's gradient stay in float32; a fully connected layer's outputs are rounded after dropout."""
    device = shim.device("kernels")
    device.use("bf16")
    layers = [Linear(9, 6), ReLU(), Dropout(0.3, "fc6", 4)]
    for layer in layers:
        layer.named("one").build(device, 3)
    x, dy = whole(7, 9, purpose="x"), wide(nearest(noise(7, 6, purpose="dy")))
    layers[0].W.value[...], layers[0].b.value[...] = whole(9, 6, purpose="W"), noise(6, purpose="b")
    steps = Bfloat16Stage(Stage("", Exchange([[0]]), [[FusedLayer(*layers)]]), [])
    (y,) = steps.forward([x], [device], training=step is not None, step=step)
    (dx,) = steps.backward([nearest(dy)], [device])
    weights, mask = x @ layers[0].W.value + layers[0].b.value, wide(y) > 0
    scale = np.float32(1 if step else 1 - 0.3)
    assert np.array_equal(y, np.where(mask, nearest(weights * scale), 0)) and 0.1 < mask.mean() < 0.9
    gradient = np.where(mask, dy * scale, np.float32(0))  # of the ReLU, before it is rounded for the products
    np.testing.assert_allclose(layers[0].b.grad, gradient.sum(axis=0), rtol=1e-6)
    assert np.array_equal(dx, nearest(wide(nearest(gradient)) @ layers[0].W.value.T))


# Products.


@pytest.mark.parametrize("stored", ["", "a", "b", "out", "a b", "a b out"])
@pytest.mark.parametrize("turned", [False, True])
def test_products_are_within_one_rounding(device, stored, turned):
    """Factors are rounded to 8 bits, if they are not stored so, and products summed in float32."""
    m, k, n = 5, 300, 7
    a, b = (noise(*shape, purpose=str(shape)).astype(np.float32) for shape in ((m, k), (k, n)))
    sent = [device.put(np.ascontiguousarray(each.T if turned else each)) for each in (a, b)]
    sent = [device.rounded(each) if name in stored.split() else each for name, each in zip("ab", sent, strict=True)]
    out = device.empty((m, n), BFLOAT16 if "out" in stored else "float32")
    device.matmul(*(each.T if turned else each for each in sent), out=out)
    left, right = (wide(nearest(each)).astype(np.float64) for each in (a, b))
    exact, size = left @ right, np.abs(left) @ np.abs(right)
    limit = k * 2**-24 * size + (2**-8 * np.abs(exact) if "out" in stored else 0)
    assert (np.abs(device.get_float(out) - exact) <= limit).all()
    assert (np.abs(device.get_float(out) - a.astype(np.float64) @ b) > k * 2**-24 * size).any()  # factors were rounded


@pytest.mark.parametrize("out", [BFLOAT16, np.dtype("float32")])
@pytest.mark.parametrize("turned", ["", "ab"])
def test_cublas_gets_bfloat16_numbers_and_sums_in_float32(out, turned):
    a, b, result = whole(3, 40, purpose="a"), whole(40, 5, purpose="b"), np.zeros((3, 5), out)
    left, right = (nearest(each.T).T if turned else nearest(each) for each in (a, b))
    shim.gemm_ex(*gemm.arguments(0, pointed(left), pointed(right), pointed(result)))
    assert np.array_equal(result, nearest(a @ b) if out == BFLOAT16 else a @ b)


# Whole networks.


def first_step(devices, precision="bf16", norm="paper", dtype="float32", **more):
    net = recipe.Net(input=67, maps=(8, 16, 24, 24, 16), hidden=16, classes=5, norm=norm, precision=precision, **more)
    built = alexnet.build(net, recipe.Init({"default": "he"}), devices, 0, dtype)
    images, labels = noise(6, 67, 67, 3).astype(dtype), np.array([4, 0, 1, 2, 3, 0])
    with built.step(), built.devices[0] as device:
        loss, logits = built.loss_and_backward(images, labels, step=Step(0, 0))
        loss, logits = device.get(loss), device.get(logits)
    return built, loss, logits, {name: device.get(g) for name, device, g in built.tensors("grad")}


KINDS = ["kernels"], ["fake:0", "fake:1"], ["kernels"] * 2, ["fake:0"]
NETS = [(devices, norm) for norm in ("paper", "2012") for devices in KINDS]


@pytest.mark.parametrize(
    "devices, norm", [*NETS[:2], *(pytest.param(*each, marks=pytest.mark.slow) for each in NETS[2:])]
)
def test_a_network_is_near_that_of_float64(on_kernels, devices, norm):  # noqa: F811
    _, exact, exact_logits, gradients = first_step(["cpu"] * len(devices), "float32", norm, "float64")
    built, loss, logits, got = first_step(devices, norm=norm)
    assert {array.dtype for array in (loss, logits, *got.values())} == {np.dtype("float32")}
    assert not np.array_equal(logits, wide(nearest(logits)))  # the logits are not rounded
    np.testing.assert_allclose(loss, exact, rtol=0.01)
    assert np.abs(logits - exact_logits).max() < 0.04 * np.abs(exact_logits).max()
    for name, gradient in gradients.items():  # in the first layers other maxima of nearly equal numbers get gradients
        least = 0.999 if name.startswith("fc") else 0.9
        assert (got[name] * gradient).sum() > least * np.linalg.norm(got[name]) * np.linalg.norm(gradient), name
    parameter = built.parameters()[0]
    assert (
        parameter.value.dtype == np.float32 and np.abs(built.predict(noise(2, 67, 67, 3)).sum(axis=1) - 1).max() < 1e-6
    )


@pytest.mark.parametrize("devices", [["fake:0", "fake:1"], pytest.param(["kernels"] * 2, marks=pytest.mark.slow)])
def test_half_the_bytes_cross(on_kernels, devices):  # noqa: F811
    """Of all but the logits; the summary of the net says how many."""
    for split in (False, True):
        for precision, itemsize in (("float32", 4), ("bf16", 2)):
            built = first_step(devices, precision, fc8="split" if split else "a")[0]
            crossed = sum(sum(each.values()) for each in built.crossed().values())
            assert crossed == summary.exchanged(built, 6, itemsize)


def test_outputs_for_hooks_are_in_float32(on_kernels):  # noqa: F811
    built, seen = first_step(["kernels"])[0], []
    with built.step():
        built.forward(noise(2, 67, 67, 3), forward_hook=lambda layer, y: seen.append(y.dtype))
    assert set(seen) == {np.dtype("float32")}
    built.parameters()[0].value[...] = np.inf
    assert health.first_not_finite(built, noise(2, 67, 67, 3)) == "conv1a conv1b"


def test_a_network_in_float64_stores_float64(on_kernels):  # noqa: F811
    """Gradient checks are the same for all precisions."""
    results = [first_step(["fake:0"], precision, dtype="float64")[1:] for precision in ("float32", "bf16")]
    assert all(np.array_equal(results[0][2][name], results[1][2][name]) for name in results[0][2])


# What cannot be done is refused.


def test_numbers_stored_in_bfloat16_are_read_in_that_precision_only():
    with pytest.raises(ShapeError, match="x in uint16, wants float32 or float64"):
        MaxPool().build(shim.device("kernels")).forward(np.zeros((1, 4, 4, 1), BFLOAT16))


def test_devices_that_lack_it_say_so():
    with pytest.raises(DeviceError, match=r"^cpu: bf16 is for GPUs; use --set net.precision=float32$"):
        Device("cpu").use("bf16")
    net = recipe.Net(input=67, maps=(2, 2, 2, 2, 2), hidden=2, classes=2, precision="bf16")
    with pytest.raises(DeviceError, match="^cpu: bf16 is for GPUs"):
        alexnet.build(net, recipe.Init())
    built = alexnet.build(net, recipe.Init(), fall_back=True)
    assert built.devices[0].precision == "float32"


# The tests can fail.


@pytest.mark.parametrize("wrong", ["all >> 16", "(all + 0x8000) >> 16", "(all + 0x7FFF) >> 16"])
def test_another_rounding_is_noticed(monkeypatch, wrong):
    right = "(all + 0x7FFF + (all >> 16 & 1)) >> 16"
    assert right in launch.PREAMBLE
    monkeypatch.setattr(launch, "PREAMBLE", launch.PREAMBLE.replace(right, wrong))
    device = shim.device("kernels")
    device.use("bf16")
    with pytest.raises(AssertionError):
        rounds_to_nearest(device)


@pytest.mark.parametrize("module, right, wrong, case, error", [
    ("pooling", "const store *dy, const unsigned char *winners, store *dx", "const store *dy, const unsigned char "
     "*winners, real *dx", "max pool 3/2", TypeError),
    ("patches", "const store *x, store *patches", "const real *x, store *patches", "conv 3x3 pad 1", TypeError),
    ("patches", "Vector<real, PART> sum", "Vector<store, PART> sum", "conv 3x3 pad 1", DeviceError),
    ("patches", "Vector<real, PART> sum", "Vector<store, PART> sum", "conv of fours, groups 2", DeviceError),
    ("rectify", "values.at[e] + bias.at[e]", "values.at[e]", "conv 3x3 pad 1", AssertionError),
    ("rectify", "    real sum = 0;", "    store sum = 0;", "conv 3x3 pad 1", DeviceError),
])  # fmt: skip
def test_a_wrong_type_in_a_kernel_is_noticed(monkeypatch, module, right, wrong, case, error):
    module, device = getattr(kernels, module), shim.device("kernels")
    device.use("bf16")
    assert right in module.SOURCE
    monkeypatch.setattr(module, "SOURCE", module.SOURCE.replace(right, wrong))
    with pytest.raises(error):
        matches_numpy(case, device)


@pytest.mark.parametrize("method, change", [
    ("widened", lambda self, x: x),
    ("rounded", lambda self, x: x if x.dtype == BFLOAT16 else x.astype(BFLOAT16)),
])  # fmt: skip
def test_a_missing_conversion_is_noticed(on_kernels, monkeypatch, method, change):  # noqa: F811
    monkeypatch.setattr(emulated.EmulatedDevice, method, change, raising=False)
    with pytest.raises((AssertionError, TypeError, ShapeError)):
        test_a_network_is_near_that_of_float64(on_kernels, ["kernels"], "paper")


# The compiler for real GPUs.


NEWER = ("sm_86", "sm_89", "sm_90", "sm_100", "sm_120")


@pytest.mark.parametrize("architecture", ["sm_80", *(pytest.param(each, marks=pytest.mark.slow) for each in NEWER)])
def test_every_kernel_compiles_without_a_warning(architecture):
    if not shim.nvrtc():
        pytest.skip("NVRTC is not installed: pip install nvidia-cuda-nvrtc")
    for name, code in shim.SOURCES.items():
        text = launch.source(code, np.dtype("float32"), SIZES | {"STORE": "bf16"})
        log, compiled = shim.compile_for(architecture, text)
        assert compiled and not log, f"{name} for {architecture}: {log}"


def test_a_kernel_reads_and_writes_half_the_bytes():
    """``store`` of a kernel is of two bytes, and four neighbours are read at once."""
    code = """
    static_assert(sizeof(store) == 2 && sizeof(Vector<store, 4>) == 8 && alignof(Vector<store, 4>) == 8, "");
    static_assert(sizeof(Vector<real, 4>) == 16 && alignof(Vector<real, 4>) == 16, "");
    static_assert(alignof(Vector<store, 1>) == 2, "");
    extern "C" __global__ void nothing(store *x, int count) {}
    """
    x = np.zeros(4, BFLOAT16)
    _, real = launch.typed(4, [x, 1.0])
    assert real == np.float32 and launch.stores_bfloat16([x, 1.0]) and not launch.stores_bfloat16([x.view("int16"), 1])
    emulated.run(launch.source(code, real, {"STORE": "bf16"}), "nothing", (1, 1), 32, [x, np.uint32(4)])


def test_on_the_host_rounding_is_that_of_ml_dtypes():
    x = floats()
    number = ~np.isnan(x)
    assert np.array_equal(bfloat16.rounded(np, x)[number], nearest(x)[number])

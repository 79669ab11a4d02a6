"""CUDA kernels without a GPU: a whole network through them, planted bugs, NVIDIA's compiler, cuBLAS's memory order.

test_layers.py compares each layer's kernels with the reference implementation, on the device "kernels" of
conftest.py.
"""

import types
import weakref

import numpy as np
import pytest

from tests.support import shim
from tests.support.layer_cases import CASES, STEP, close, noise
from tests.support.shim import ShimDevice
from tinyalex import kernels
from tinyalex.datasets.loading.augment import AugmentParams, Cropper
from tinyalex.devices import gemm, launch
from tinyalex.devices.bfloat16 import BFLOAT16
from tinyalex.errors import DeviceError
from tinyalex.kernels import patches, softmax
from tinyalex.layers import LRN, Conv2d, Dropout, Linear, MaxPool, ReLU, SoftmaxLoss
from tinyalex.network import alexnet, fusion, network
from tinyalex.network.columns import Exchange, Stage
from tinyalex.randomness import Step
from tinyalex.recipes import recipe
from tinyalex.training import health
from tinyalex.training.optimizer import Optimizer

EVERY = {name for code in shim.SOURCES.values() for name in shim.kernels(code)}


# A whole network.


def three_steps(devices, norm, dtype="float64", **net):
    net = recipe.Net(
        input=67, maps=(8, 16, 24, 24, 16), hidden=16, classes=5, norm=norm, fc8="a" if norm == "paper" else "split",
        **net,
    )  # fmt: skip
    built = alexnet.build(net, recipe.Init({"default": "he"}), devices, 0, dtype)
    optimizer, seen = Optimizer(built, 0.9, 0.01), {}
    images, labels = noise(3, 67, 67, 3).astype(dtype), np.array([4, 0, 1])
    for number in range(3):
        with built.step(), built.devices[0] as device:
            loss, logits = built.loss_and_backward(images, labels, step=Step(0, number))
            seen["loss", number], seen["logits", number] = device.get(loss), device.get(logits)
            seen |= {(number, name): device.get(g) for name, device, g in built.tensors("grad")}
        optimizer.update(0.01, 0.02, {"conv3": 0.5, "fc6": 0.0} if number == 1 else None)
    seen |= {("w", name): device.get(w) for name, device, w in built.tensors()}
    seen |= {("v", name): device.get(v) for name, device, v in optimizer.tensors()}
    seen["p"] = built.predict(images, 2)
    return seen, built


@pytest.fixture
def on_kernels(monkeypatch):
    """Build networks on the devices of `shim.device`; return the list of devices made."""
    made = []

    def device(name, kernels=True):
        made.append(shim.device(name, kernels))
        return made[-1]

    monkeypatch.setattr(network, "Device", device)
    return made


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("norm", ["paper", "2012"])
@pytest.mark.parametrize("kind", ["kernels", "cuda:0 kernels"])
def test_three_steps_of_a_whole_network(on_kernels, kind, norm, columns):
    """Results equal the CPU's, with dropout, frozen layers and layers with lr_mult."""
    expected, _ = three_steps(["cpu"] * columns, norm)
    got, built = three_steps([kind] * columns, norm)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert value.any()
        close(str(name), got[name], value, 1e-12)
    if kind == "kernels":
        started = {name for device in on_kernels for name in getattr(device, "started", [])}
        missing = {"cut", "average_pool", "average_pool_backward", "round_to_bfloat16", "widen_to_float"}
        missing |= {"around", "around_backward", "relu", "relu_backward"} if norm == "paper" else set()
        assert started == EVERY - missing - ({"add_part"} if columns == 1 else set())
    assert all(isinstance(run.columns[0][0], fusion.FusedLayer) for run in built.executors if run.name != "softmax")


def test_dead_relus_are_found_in_fused_layers(on_kernels):
    shares = []
    for devices in (["cpu"], ["kernels"]):
        net = recipe.Net(input=67, maps=(8, 16, 24, 24, 16), hidden=16, classes=5)
        built = alexnet.build(net, recipe.Init({"default": "he"}), devices, 0, "float64")
        for parameter in built.parameters():
            if parameter.layer == "fc6" and parameter.kind == "b":
                parameter.value[...] = -1e6
        shares.append(health.dead_relu_fraction(built, noise(3, 67, 67, 3)))
    assert shares[0] == shares[1] and shares[0]["relu6"] == 1 and set(shares[0]) == {f"relu{n}" for n in range(1, 8)}


def test_float32_stays_float32(on_kernels):
    expected, _ = three_steps(["cpu"], "2012")
    got, _ = three_steps(["kernels"], "2012", "float32")
    for name, value in got.items():
        assert value.dtype == np.float32
        close(str(name), value, expected[name], 1e-4)


def test_layers_that_do_not_follow_weights_are_not_fused():
    """A ReLU after a pool is not fused into the layer with weights before the pool."""
    layers = [Conv2d(3, 4, 3), MaxPool(), ReLU(), Linear(5, 6), ReLU(), Dropout(), Dropout(), ReLU()]
    column = fusion.fuse(Stage("all", Exchange([[0]]), [layers])).columns[0]
    assert [type(layer).__name__ for layer in column] == [
        "FusedLayer",
        "MaxPool",
        "ReLU",
        "FusedLayer",
        "Dropout",
        "ReLU",
    ]
    assert (column[0].relu, column[3].relu, column[3].dropout) == (None, layers[4], layers[5])


@pytest.mark.parametrize("step", [None, STEP])
@pytest.mark.parametrize("shape", [(7, 300), (2, 12, 13, 5), (1, 181, 182, 1)], ids=str)
def test_bias_relu_and_dropout_in_one_pass(shape, step):
    """With one, two and three passes over the rows for the bias's gradient."""
    device, outputs = ShimDevice("float64"), 6

    def layers(device):
        first = Linear(shape[1], outputs) if len(shape) == 2 else Conv2d(shape[3], outputs, 1)
        after = [Dropout(0.3, "fc6", 4)] if len(shape) == 2 else []
        built = [layer.named("one").build(device, 3, "float64") for layer in (first, ReLU(), *after)]
        first.b.value[...] = noise(outputs, purpose="b")
        return built

    readable, x = layers(ShimDevice()), noise(*shape)
    fast = fusion.fuse(Stage("", Exchange([[0]]), [layers(device)])).columns[0]
    assert len(fast) == 1
    expected, got = x, fast[0].forward(x, training=step is not None, step=step)
    for layer in readable:
        expected = layer.forward(expected, training=step is not None, step=step)
    dy = noise(*expected.shape, purpose="dy")
    dx, back = fast[0].backward(dy), dy
    for layer in reversed(readable):
        back = layer.backward(back)
    assert (expected == 0).any() and device.started.count("rectify_backward") == 1 + (len(shape) > 2) + (shape[0] == 1)
    for name, mine, its in (("y", got, expected), ("dx", dx, back), ("db", fast[0].b.grad, readable[0].b.grad),
                            ("dW", fast[0].W.grad, readable[0].W.grad)):  # fmt: skip
        close(name, mine, its, 1e-12)


def test_many_outputs_do_not_exceed_the_grid(monkeypatch):
    """CUDA allows at most 65,535 parts of a row, so a row is an image, not the batch."""
    device, launched = ShimDevice("float64"), []
    monkeypatch.setattr(device, "launch", lambda source, name, rows, count, *_, **__: launched.append((rows, count)))
    fusion.FusedLayer(Linear(2, 21).build(device, 0, "float64")).forward(noise(900, 2))
    fusion.FusedLayer(Linear(2, 24).build(device, 0, "float64"), ReLU()).forward(noise(5, 2))
    assert launched == [(900, 21), (5, 6)]


@pytest.mark.parametrize("memory", [0, 1e9])
def test_patches_are_freed_after_use(monkeypatch, memory):
    """With little memory one group's patches exist at a time; else those of a forward without backward are freed."""
    device, living, im2col = ShimDevice("float64"), [], patches.im2col

    def watched(*arguments):
        alive.append(sum(each() is not None for each in living))
        made = im2col(*arguments)
        living.append(weakref.ref(made))
        return made

    monkeypatch.setattr(patches, "im2col", watched)
    monkeypatch.setattr(device, "memory", memory)
    layer = Conv2d(4, 8, 3, groups=2).build(device, 0, "float64")
    x, alive = noise(2, 6, 6, 4), []
    for _ in range(2):
        y = layer.forward(x)
    assert alive == ([0] * 4 if memory == 0 else [0, 1, 0, 1])
    alive.clear()
    layer.backward(y)
    assert alive == ([0, 0] if memory == 0 else [])


@pytest.mark.parametrize("matched", [True, False])
@pytest.mark.parametrize("coloured, factors", [(True, [1 / 1.1, 0.02]), (False, [0.5]), (True, [])])
@pytest.mark.parametrize("kind", ["kernels", "cuda:0"])
def test_cut_kernel_gives_the_same_bits_as_the_host(kind, matched, coloured, factors):
    n, size, crop = 5, 24, 20
    images = (128 + 60 * noise(n, size, size, 3)).clip(0, 255).astype(np.uint8)
    mean = (100 + 9 * noise(size, size, 3)).astype(np.float32)
    draws = AugmentParams(
        np.array([[0, 0], [4, 4], [1, 3], [0, 4], [2, 2]]), np.array([False, True, True, False, True]),
        9 * noise(n, 3).astype(np.float32) if coloured else None,
    )  # fmt: skip
    cropper = Cropper(mean, crop, matched, factors)
    with shim.device(kind) as device:
        made = cropper.on(device)(*(device.put(each) for each in (images, *draws) if each is not None))
        got = device.get(made)
        twice = AugmentParams(*(np.concatenate([draw, draw]) for draw in draws[:2]))
        views = device.get(cropper.on(device)(device.put(images[:2]), *(device.put(each) for each in twice[:2])))
    np.testing.assert_array_equal(got, cropper(images, draws))
    np.testing.assert_array_equal(views, cropper(np.repeat(images[:2], n, axis=0), twice))
    assert getattr(device, "started", ["cut", "cut"]) == ["cut", "cut"]


def test_kernels_propagate_nan():
    device = ShimDevice("float64")
    x = np.ones((1, 4, 4, 2))
    x[0, 1, 1, 0] = np.nan
    assert np.isnan(MaxPool().build(device).forward(x)[..., 0]).any()
    assert np.isnan(LRN(alpha=1.0).build(device).forward(x)).any()
    first = fusion.FusedLayer(Linear(2, 2).build(device, 0, "float64"), ReLU())
    assert np.isnan(first.forward(np.array([[np.nan, 1.0]]))).all()
    z = np.zeros((2, 40))
    z[1, 35] = np.nan
    assert np.isnan(SoftmaxLoss().build(device).forward(z, np.array([0, 0])))


def test_logit_of_minus_infinity_has_no_probability():
    z = np.zeros((1, 70))
    z[0, :40] = -np.inf
    layer = SoftmaxLoss()
    for device in (ShimDevice("float64"), ShimDevice()):
        layer.build(device)
        np.testing.assert_allclose(layer.forward(z, np.array([69])), np.log(30))
        np.testing.assert_allclose(layer.backward()[0, 40:69], 1 / 30)


def test_integer_settings_and_keyword_arguments():
    """Integers are converted where a kernel takes real numbers."""
    x = noise(2, 3, 3, 5)
    energy = np.stack([(x[..., max(0, i - 2) : i + 3] ** 2).sum(axis=3) for i in range(5)], axis=3)
    for device in (ShimDevice("float64"), ShimDevice()):
        layer, pool = LRN(k=2, alpha=1, beta=1).build(device), MaxPool().build(device)
        close("y", layer.forward(x), x / (2 + energy), 1e-12)
        for _ in range(2):
            close("y", pool.forward(x=x), x.max(axis=(1, 2), keepdims=True), 0)


def test_slice_of_wider_images_is_read_at_its_offset():
    wide = noise(2, 5, 5, 8)
    results = [Conv2d(4, 4, 3).build(device, 3, "float64").forward(wide[..., 1:5]) for device in
               (ShimDevice("float64"), ShimDevice())]  # fmt: skip
    close("y", *results, 1e-12)


def test_patch_length_is_filled_up_with_zeros():
    device, x = ShimDevice("float64"), 1 + noise(1, 3, 3, 3) ** 2
    got = patches.im2col(device, x, 1, 1, 3, 1, 0)
    np.testing.assert_array_equal(got, [[*x.reshape(27), 0]])


@pytest.mark.parametrize("case", ["conv 11x11/4 ceil", "conv 5x5 pad 2 groups 2", "conv of fours, groups 2"])
def test_patches_are_kept_if_memory_allows(case):
    """Kept or computed again, they give the same bits."""
    case, results = CASES[case], []
    for memory, times in ((0, 2), (1 << 40, 1)):
        device = ShimDevice("float64")
        device.memory = memory
        results.append(case.run(case.build(device), case.x())[0])
        groups = device.started.count("col2im")
        assert device.started.count("im2col") == times * groups
    for name, value in results[0].items():
        assert results[1][name].tobytes() == value.tobytes()


@pytest.mark.parametrize("classes", [5, 32, 100])
@pytest.mark.parametrize("bug", ["", "c += LANES + 1"])
def test_softmax_of_few_classes_and_many(monkeypatch, classes, bug):
    z, labels = 5 * noise(3, classes), np.array([0, classes - 1, 2])
    readable, fast = (SoftmaxLoss().build(device) for device in (ShimDevice(), ShimDevice("float64")))
    if bug:
        monkeypatch.setattr(softmax, "SOURCE", softmax.SOURCE.replace("c += LANES", bug))
    losses = [layer.forward(z, labels) for layer in (readable, fast)]
    agree = np.allclose(*losses, rtol=1e-13) and np.allclose(readable.backward(), fast.backward(), rtol=1e-12)
    assert agree == (not bug or classes <= 32)


# The tests can fail: a bug planted in a kernel's source shows in the layer's test.

BUGS = [
    ("patches", "S * i + u - P", "S * i + u", "conv 3x3 pad 1"),
    ("patches", "z < W;", "z <= W;", "conv 3x3 pad 1"),
    ("patches", "(column + e) / C % K", "(column + e) / C / K", "conv 3x3 pad 1"),
    ("patches", "* WIDE", "* C", "conv 5x5 pad 2 groups 2"),
    ("patches", "--j)", "j -= 2)", "conv 3x3 pad 1"),
    ("patches", "(y - K) / S + 1", "(y - K) / S", "conv 4x4/3 pad 1 ceil"),
    ("patches", "min(z / S, WO - 1)", "z / S", "conv 3x3/2 floor"),
    ("patches", "f < PART", "f < 1", "conv of fours"),
    ("patches", "e < PART", "e < 1", "conv of fours"),
    ("response", "map + a < MAPS ?", "map + a <= MAPS ?", "lrn alpha 1"),
    ("response", "t % MAPS;", "t;", "lrn groups 2"),
    ("response", "a <= AFTER", "a < AFTER", "lrn alpha 1"),
    ("response", "map + a - AFTER", "map + a - BEFORE", "lrn n 4, k 1"),
    ("response", "* r * r * SCALE * p", "* r * SCALE * p", "lrn alpha 1"),
    ("response", "- 2 * alpha * beta / SCALE * (v[SIZE - 1] * cross)", "", "lrn alpha 1"),
    ("response", "if (beta != (real)0.75)", "if (false)", "lrn of units"),
    ("response", "i + u < H &&", "true &&", "spatial norm of 3x2"),
    ("response", "int u = -AFTER; u <= BEFORE", "int u = -BEFORE; u <= AFTER", "spatial norm n 4"),
    ("response", "(x[at] * cross)", "cross", "spatial norm of 2012"),
    ("pooling", "pixel.at[e] > best", "pixel.at[e] >= best", "max pool ties"),
    ("pooling", "top + u < H", "true", "max pool 3/2 ceil"),
    ("pooling", "winner.at[e] = u * Z + v", "winner.at[e] = v * Z + u", "max pool 3/2 ceil"),
    ("pooling", "pixel < Z ? 0 : (pixel - Z) / S + 1", "pixel / S", "max pool 3/2 ceil"),
    ("pooling", "min(j / S, WO - 1)", "j / S", "max pool 2/2 floor"),
    ("pooling", "e < PART", "e < 1", "max pool of fours"),
    ("relu", "value <= 0 ? 0 : value", "value", "relu"),
    ("relu", "y[at] > 0 ? (real)dy[at] : 0", "dy[at]", "relu"),
    ("pooling", "sum / (down * across)", "sum / (Z * Z)", "avg pool 3/2 ceil"),
    ("pooling", "/ area", "/ (Z * Z)", "avg pool 3/2 ceil"),
]


@pytest.mark.parametrize(
    "module, right, wrong, case", BUGS, ids=[f"{bug[0]}: {bug[2] or 'no ' + bug[1]}" for bug in BUGS]
)
def test_planted_bug_in_a_kernel_is_noticed(monkeypatch, module, right, wrong, case):
    module, device, plain = getattr(kernels, module), ShimDevice("float64"), ShimDevice()
    ties = case == "max pool ties"
    case = CASES["max pool 3/2 ceil" if ties else case]
    x = np.round(case.x()) if ties else case.x()
    expected, dy = case.run(case.build(plain), x)
    got, _ = case.run(case.build(device), x, dy)
    for name, value in expected.items():
        close(name, got[name], value, 1e-12)
    assert right in module.SOURCE
    monkeypatch.setattr(module, "SOURCE", guarded(module.SOURCE.replace(right, wrong)))
    got, _ = case.run(case.build(device), x, dy)
    with pytest.raises(AssertionError, match="off by"):
        for name, value in expected.items():
            close(name, np.nan_to_num(got[name]), value, 1e-12)


def guarded(code):
    return f"// with a bug\n{code}"


NET_BUGS = [
    ("rectify", "value <= 0", "value <= 1"),
    ("rectify", "0x9E3779B9u ^ state", "0x9E3779B9u + state"),
    ("rectify", "image + row", "image"),
    ("rectify", "unit + t * PART", "t * PART"),
    ("rectify", "(row + 1) * stretch)", "(row + 1) * stretch - 1)"),
    ("rectify", "y[at] > 0 ? value * scale : 0", "value"),
    ("parts", "row * to_wide + t", "row * count + t"),
    ("parts", "row * from_wide + t", "row * count + t"),
    ("parts", "row * a_wide + t", "row * count + t"),
    ("parts", "row * b_wide + t", "row * count + t"),
    ("parts", " + b[(size_t)row * b_wide + t]", ""),
    ("softmax", "labels[row] == t", "labels[row] == t + 1"),
    ("softmax", ") / n;", ");"),
    ("update", "if (rate == 0) return;", ""),
    ("update", "momentum * v[at]", "v[at]"),
    ("update", "step -= decay * w[at];", ""),
]


@pytest.mark.parametrize(
    "module, right, wrong", NET_BUGS, ids=[f"{bug[0]}: {bug[2] or 'no ' + bug[1]}" for bug in NET_BUGS]
)
def test_planted_bug_in_a_kernel_is_noticed_in_a_network(on_kernels, monkeypatch, module, right, wrong):
    module = getattr(kernels, module)
    assert right in module.SOURCE
    monkeypatch.setattr(module, "SOURCE", guarded(module.SOURCE.replace(right, wrong)))
    with pytest.raises(AssertionError, match="off by"):
        test_three_steps_of_a_whole_network(on_kernels, "kernels", "paper", 2)


# The compiler for real GPUs.

SIZES = {"H": 27, "W": 27, "C": 48, "HO": 27, "WO": 27, "K": 5, "S": 1, "P": 2, "LENGTH": 1200, "PART": 4, "WIDE": 96}
SIZES |= {"Z": 3, "SIZE": 5, "MAPS": 96, "OUTPUTS": 128}


@pytest.mark.parametrize("architecture, reals", [("sm_75", "f"), ("sm_80", "f"), ("sm_90", "fd")])
def test_every_kernel_compiles_without_a_warning(architecture, reals):
    if not shim.nvrtc():
        pytest.skip("NVRTC is not installed: pip install nvidia-cuda-nvrtc")
    for name, code in shim.SOURCES.items():
        for real in reals:
            log, compiled = shim.compile_for(architecture, launch.source(code, np.dtype(real), SIZES))
            assert compiled and not log, f"{name} for {architecture}: {log}"


def test_compiler_reports_an_error():
    if not shim.nvrtc():
        pytest.skip("NVRTC is not installed: pip install nvidia-cuda-nvrtc")
    log, compiled = shim.compile_for(
        "sm_90", launch.source('extern "C" __global__ void f() { EACH(r, t) }', np.dtype("f"), {})
    )
    assert not compiled and "EACH" in log


# What kernels are given.


def test_kernel_arguments_are_typed():
    x = np.zeros(3, np.float32)
    (_, second, *numbers), real = launch.typed(7, (np.zeros(2, np.uint8), x, 5, -1, True, 1 << 40 | 3, 0.5))
    assert real == np.float32 and second is x
    assert [number.dtype for number in numbers] == ["uint32"] * 5 + ["float32"]
    assert [int(number) for number in numbers[:5]] == [7, 5, 0xFFFFFFFF, 1, 3] and numbers[5] == 0.5


def test_mixed_types_raise():
    """A GPU would silently read wrong numbers."""
    with pytest.raises(TypeError, match="float64 and float32 in one kernel"):
        launch.typed(1, (np.zeros(1), np.zeros(1, np.uint8), np.zeros(1, np.float32)))


def test_arrays_of_2_to_the_31_numbers_raise():
    array = types.SimpleNamespace(dtype=np.dtype("float32"), size=1 << 31)
    with pytest.raises(DeviceError, match="smaller learning.batch"):
        launch.typed(1, (array,))


@pytest.mark.parametrize("rows, count, expected", [
    (5, 1, ((5, 1), 32)), (5, 33, ((5, 1), 64)), (1, 256, ((1, 1), 256)), (9, 257, ((9, 2), 256)),
])  # fmt: skip
def test_grids(rows, count, expected):
    assert launch.grid(rows, count) == expected


# cuBLAS: matrices as parts of wider ones, turned or not.


def pointed(array):
    """An array with the attributes of CuPy's that `gemm` reads."""
    return types.SimpleNamespace(
        shape=array.shape, strides=array.strides, itemsize=array.itemsize, dtype=array.dtype,
        data=types.SimpleNamespace(ptr=array.ctypes.data),
    )  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("m, k, n", [(3, 4, 5), (1, 4, 5), (3, 1, 5), (3, 4, 1), (1, 1, 1), (1, 7, 1)])
@pytest.mark.parametrize("turned", ["", "a", "b", "ab"])
@pytest.mark.parametrize("wide", [False, True])
def test_gemm(m, k, n, turned, wide, dtype):
    def matrix(name, rows, columns):
        rows, columns = (columns, rows) if name in turned else (rows, columns)
        whole = noise(rows + 1, columns + 3, purpose=name).astype(dtype)
        part = whole[1:, 2 : columns + 2] if wide else np.ascontiguousarray(whole[1:, 2 : columns + 2])
        return part.T if name in turned else part

    a, b, out = matrix("a", m, k), matrix("b", k, n), matrix("out", m, n)
    whole = out.base if wide else out
    outside = whole.sum() - out.sum()
    shim.gemm_ex(*gemm.arguments(0, pointed(a), pointed(b), pointed(out)))
    np.testing.assert_allclose(out, a @ b, rtol=1e-5 if dtype == "float32" else 1e-12)
    np.testing.assert_allclose(whole.sum() - out.sum(), outside, atol=1e-5)


@pytest.mark.parametrize("shape", [(4, 3), (1, 3), (4, 1), (1, 1)])
@pytest.mark.parametrize("step", [(-1, 1), (1, -1), (2, 2), (1, 3), (-2, 1)])
def test_gemm_of_non_contiguous_matrices(shape, step):
    def lying_otherwise(array):
        wide = np.repeat(np.repeat(array, abs(step[0]), 0), abs(step[1]), 1)
        return wide[:: step[0], :: step[1]]

    a, b = lying_otherwise(noise(*shape, purpose="a")), lying_otherwise(noise(shape[1], 5, purpose="b"))
    for left, right in ((a, b), (b.T, a.T)):
        out = np.empty((len(left), right.shape[1]))
        left, right = (gemm.arranged(np, matrix) for matrix in (left, right))
        shim.gemm_ex(*gemm.arguments(0, pointed(left), pointed(right), pointed(out)))
        np.testing.assert_allclose(out, left @ right, rtol=1e-12)
    part = np.zeros((4, 9))[:, 2:5]
    assert gemm.arranged(np, part) is part and gemm.arranged(np, part.T).base is not None


def test_gemm_raises_on_unsupported_arrays():
    a = np.zeros((4, 6))
    with pytest.raises(ValueError, match="neither its rows nor its columns"):
        gemm.arguments(0, pointed(a[:, ::2]), pointed(np.zeros((3, 2))), pointed(np.zeros((4, 2))))
    with pytest.raises(ValueError, match="its rows do not lie together"):
        gemm.arguments(0, pointed(a), pointed(np.zeros((6, 2))), pointed(np.zeros((2, 4)).T))
    half = np.zeros((4, 6), BFLOAT16)
    assert gemm.supports(half, half, half) and gemm.supports(half, half, np.zeros((4, 6), np.float32))
    assert not gemm.supports(half, half, a) and not gemm.supports(half, np.zeros((4, 6), np.float32), half)
    assert not gemm.supports(a, a, np.zeros((4, 6), np.float32)) and not gemm.supports(a * 1j, a * 1j, a * 1j)


def test_tf32_is_a_choice():
    seen = []
    for dtype, tf32 in (("float32", False), ("float32", True), ("float64", True)):
        a = pointed(np.zeros((2, 2), dtype))
        seen.append(gemm.arguments(0, a, a, a, tf32)[-2])
    assert seen == [68, 77, 70]

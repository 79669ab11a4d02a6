"""NumPy's fast forms: each agrees with its layer and with the reference implementation, alone and in whole nets; they
are chosen where they should be; and a bug in one of them is noticed (mutants.py plants more).
"""

import numpy as np
import pytest

from tests.support import shim
from tests.support.in_a_block import BlockCase, InABlock
from tests.support.layer_cases import (
    CASES,
    agrees_with_its_twin,
    close,
    keeps_dtype,
    leaves_its_arguments,
    noise,
    repeats_itself,
)
from tests.support.quick_checks import batch, gradients, in_fast_stages, network, same
from tinyalex import gradcheck, layers
from tinyalex.devices import parallel
from tinyalex.devices.device import Device
from tinyalex.kernels.cpu import first_convolution, pooling, winograd
from tinyalex.layers import loops
from tinyalex.layers.winograd import WinogradConv2d
from tinyalex.network import alexnet, fast, fusion
from tinyalex.network import network as networks
from tinyalex.randomness import Step
from tinyalex.recipes import recipe
from tinyalex.training.optimizer import Optimizer

NET = recipe.Net(input=67, maps=(6, 16, 24, 24, 16), hidden=16, classes=10, norm="2012")
HOST = Device("cpu", kernels=False)
OF_IMAGES = [label for label, case in CASES.items() if len(case.shape) == 4 and not label.startswith("linear")]
CONVOLUTIONS = {  # channels, maps, kernel, stride, pad, groups; the image's sides
    "winograd 3x3": ((8, 6, 3, 1, 1, 1), (13, 9)),
    "winograd 3x3 without padding": ((4, 6, 3, 1, 0, 1), (9, 12)),
    "winograd 3x3, one tile": ((2, 3, 3, 1, 0, 1), (6, 5)),
    "winograd 3x3, tiles of 6": ((2, 3, 3, 1, 1, 1), (18, 17)),
    "winograd 5x5 groups 2": ((4, 6, 5, 1, 2, 2), (11, 14)),
    "winograd 11x11/4": ((3, 5, 11, 4, 0, 1), (35, 31)),
    "winograd 11x11/4 pad 2": ((3, 5, 11, 4, 2, 1), (31, 35)),
    "winograd 5x5/2 pad 2": ((3, 5, 5, 2, 2, 1), (14, 13)),
    "conv 5x5 pad 2": ((3, 6, 5, 1, 2, 1), (12, 9)),
    "conv 3x3/2 pad 1": ((3, 6, 3, 2, 1, 1), (12, 9)),
    "conv 4x4/3 pad 1": ((3, 5, 4, 3, 1, 1), (7, 9)),
    "conv 2x2/3": ((3, 4, 2, 3, 0, 1), (8, 6)),
    "conv 3x3, wide": ((3, 40, 3, 1, 1, 1), (5, 70)),
}


@pytest.fixture(autouse=True)
def threads(monkeypatch):
    """Restore the process's workers after the test; return the function that sets their number."""
    monkeypatch.setattr(parallel, "_workers", parallel._workers)
    return parallel.set_threads


@pytest.mark.parametrize("more", [0, 3])
@pytest.mark.parametrize("label", OF_IMAGES)
def test_form_agrees_with_the_reference(label, more):
    agrees_with_its_twin(BlockCase(CASES[label], more), HOST)


@pytest.mark.parametrize("check", [leaves_its_arguments, repeats_itself], ids=lambda check: check.__name__)
@pytest.mark.parametrize("label", OF_IMAGES)
def test_form_is_a_layer(label, check):
    check(BlockCase(CASES[label]), HOST)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("label", OF_IMAGES)
def test_form_keeps_the_dtype(label, dtype):
    keeps_dtype(BlockCase(CASES[label]), HOST, dtype)


def convolution(label, dtype):
    (c, o, k, s, p, groups), sides = CONVOLUTIONS[label]
    kind = WinogradConv2d if label.startswith("winograd") else layers.Conv2d
    made = [which(c, o, k, s, p, groups, rounding="ceil", bias=0.5).named("conv") for which in (layers.Conv2d, kind)]
    made[1].input_gradient = label.startswith("winograd") and s == 1
    return *(layer.build(HOST, 3, dtype) for layer in made), np.abs(noise(5, *sides, c)).astype(dtype)


@pytest.mark.parametrize("more", [0, 3])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5)])
@pytest.mark.parametrize("label", CONVOLUTIONS)
def test_convolution_agrees_with_im2col(label, dtype, tolerance, more):
    plain, layer, x = convolution(label, dtype)
    y = plain.forward(x)
    dy = noise(*y.shape, purpose="dy").astype(dtype)
    dx = plain.backward(dy)
    assert not isinstance(fast.form_of(layer, x.shape[1:]), fast.ReadableForm)
    form = InABlock(layer, more)
    close("y", form.forward(x), y, tolerance)
    found = form.backward(dy)
    close("dW", layer.W.grad, plain.W.grad, tolerance)
    close("db", layer.b.grad, plain.b.grad, tolerance)
    assert found is None if not layer.input_gradient else not close("dx", found, dx, tolerance)


@pytest.mark.parametrize("label", [label for label in CONVOLUTIONS if label.startswith("conv")])
@pytest.mark.parametrize("numbers", [1, 1500, 6000])
def test_first_convolution_in_chunks_agrees_with_im2col(label, numbers, monkeypatch):
    monkeypatch.setattr(first_convolution, "PATCHES", numbers)
    monkeypatch.setattr(first_convolution, "SMALL", numbers)
    test_convolution_agrees_with_im2col(label, "float64", 1e-12, 3)


@pytest.mark.parametrize("label", ["winograd 3x3", "winograd 5x5 groups 2"])
def test_convolution_passes_the_gradient_check(label):
    _, layer, x = convolution(label, "float64")
    for result in gradcheck.check(InABlock(layer), x[:2], method="central", images_alone=True):
        assert not result.failed, gradcheck.table([result])


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: layers.ReLU(), (2, 3, 4, 5)),
        (lambda: layers.Tanh(), (2, 3, 4, 5)),
        (lambda: layers.MaxPool(), (2, 6, 7, 3)),
        (lambda: layers.AvgPool(), (2, 6, 7, 3)),
        (lambda: layers.LRN(alpha=1.0, groups=2), (2, 2, 3, 6)),
        (lambda: layers.LRN(alpha=1.0, beta=0.5), (2, 2, 3, 6)),
        (lambda: layers.SpatialNorm(alpha=1.0), (2, 6, 5, 2)),
    ],
)
def test_form_passes_the_gradient_check(make, shape):
    (result,) = gradcheck.check(InABlock(make().named("form").build(HOST)), noise(*shape), method="central")
    assert not result.failed, gradcheck.table([result])


def test_gradient_check_notices_a_bug_in_a_form(monkeypatch):
    right = pooling.MaxPool._to_winners

    def wrong(self, scratch, axis, dy, dx, masks):
        yield from right(self, scratch, axis, dy, dx, masks[::-1])

    monkeypatch.setattr(pooling.MaxPool, "_to_winners", wrong)
    (result,) = gradcheck.check(InABlock(layers.MaxPool().build(HOST)), noise(2, 6, 7, 3), method="central")
    assert result.failed


def test_first_of_equal_maxima_gets_the_gradient():
    x, dy = np.round(noise(2, 7, 6, 3)).astype("float32"), noise(2, 3, 3, 3).astype("float32")
    form = InABlock(layers.MaxPool(3, 2).build(HOST))
    form.forward(x)
    close("dx", form.backward(dy), loops.max_pool_backward(dy, x).astype("float32"), 1e-6)


@pytest.mark.parametrize("make", [layers.ReLU, layers.MaxPool], ids=["relu", "max pool"])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_gradient_that_is_not_finite_stays_where_it_belongs(make, value):
    x = np.abs(noise(1, 7, 7, 2)).astype("float32") - 0.2
    form = InABlock(make().build(HOST))
    dy = np.ones_like(form.forward(x))
    finite = form.backward(dy)
    dy[0, 1, 1, 0] = value
    form.forward(x)
    dx = form.backward(dy)
    assert 0 < (~np.isfinite(dx)).sum() <= 1 or (make is layers.ReLU and x[0, 1, 1, 0] <= 0)
    np.testing.assert_array_equal(dx[np.isfinite(dx)], finite[np.isfinite(dx)])


def test_first_nan_of_a_window_gets_the_gradient():
    x, dy = noise(2, 7, 6, 3), noise(2, 3, 3, 3)
    x[0, 1:3, 2:5, 1] = x[1, 4, 4, 0] = np.nan
    form, layer = InABlock(layers.MaxPool(3, 2).build(HOST)), layers.MaxPool(3, 2).build(HOST)
    np.testing.assert_array_equal(form.forward(x), layer.forward(x))
    np.testing.assert_allclose(form.backward(dy), layer.backward(dy), rtol=1e-12)


def test_pooling_by_another_nan_would_be_noticed(monkeypatch):
    monkeypatch.setattr(pooling.MaxPool, "_let_nan_win", lambda *arguments: None)
    with pytest.raises(AssertionError):
        test_first_nan_of_a_window_gets_the_gradient()


def test_large_numbers_are_normalized():
    x = np.full((1, 1, 1, 5), 1e16, "float32")
    y = InABlock(layers.LRN(size=1, k=1.0, alpha=1.0).build(HOST)).forward(x)
    np.testing.assert_allclose(y, 1e-8, rtol=1e-5)
    x[...] = 1e20
    with np.errstate(over="ignore"):
        assert not InABlock(layers.LRN(size=1, k=1.0, alpha=1.0).build(HOST)).forward(x).any()


@pytest.mark.parametrize("make", [layers.LRN, layers.SpatialNorm], ids=["lrn", "spatial norm"])
def test_gradients_of_large_numbers_keep_their_digits(make):
    x, dy = noise(2, 5, 6, 8), noise(2, 5, 6, 8, purpose="dy")
    for size in 10.0 ** np.arange(0, 19, 3):
        layer, form = make().build(HOST, dtype="float64"), InABlock(make().build(HOST))
        y, found = layer.forward(size * x), form.forward((size * x).astype("float32"))
        close(f"y of {size:g}", found.astype("float64"), y, 1e-6)
        close(f"dx of {size:g}", form.backward(dy.astype("float32")).astype("float64"), layer.backward(dy), 2e-6)


# Whole nets.


@pytest.mark.parametrize("devices", [["cpu"], ["cpu", "cpu"]], ids=" ".join)
@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize(
    "changes",
    [
        {}, {"norm": "paper"}, {"activation": "tanh", "convolution": "im2col"},
        {"norm": "paper", "norm_window": "all", "norm_order": "pool-norm", "norm_k": 1.0, "norm_alpha": 0.02},
        {"input": 95, "pads": (2, 1, 1, 0, 2), "conv_rounding": "floor", "pool_rounding": "floor", "norm_beta": 0.5},
    ],
    ids=str,
)  # fmt: skip
def test_net_agrees_with_its_readable_layers(threads, devices, count, changes):
    shape = {"input": 67, "maps": (16, 32, 24, 24, 16), "hidden": 16, "classes": 10, "norm": "2012"}
    net = recipe.Net(**shape | changes)
    images, labels = noise(count, net.input, net.input, 3, purpose="images"), np.arange(count) * 3 % 10
    threads(1)
    wanted = gradients(network(devices, net=net), images, labels)
    for workers in (1, 2, 3):
        for size in (1, 2, 16):
            built = in_fast_stages(network(devices, workers, net=net), size)
            found = gradients(built, images, labels)
            same(found, wanted, 1e-11)
            same(gradients(built, images, labels), found, 0)  # the same bits, from arrays that have been used


@pytest.mark.parametrize("name", ["cifar10-relu", "cifar10-11pct", "cifar10-columns", "shapes"])
def test_recipe_in_float32_agrees_with_its_readable_layers(name):
    made = recipe.load(name, ["net.classes=10"]).net
    init = recipe.Init({"default": "he"}, {"default": 0.1})
    size = made.input
    images, labels = noise(4, size, size, 3).astype("float32"), np.arange(4)
    found = []
    for kernels in (True, False):
        net = alexnet.build(made, init, seed=1, kernels=kernels)
        kind = fast.FastStage if kernels else networks.BlockedStage
        assert all(type(run) is kind for run in net.executors[: len(net.trunk)])
        found.append(gradients(net, images, labels, Step(0, 1)))
    same(*found, 1e-4)  # a maximum or a sign may change with the last bits


def test_each_batch_uses_the_current_weights():
    net, other = in_fast_stages(network(["cpu"])), network(["cpu"])
    images, labels = noise(3, 67, 67, 3, purpose="images"), np.arange(3)
    gradients(net, images, labels)
    net.load({name: 1.5 * value for name, value in net.state().items()})
    other.load(net.state())
    same(gradients(net, images, labels), gradients(other, images, labels), 1e-12)


def test_batches_of_any_size_in_any_order(threads):
    threads(2)
    net, plain = in_fast_stages(network(["cpu"]), 2), network(["cpu"])
    for count in (5, 1, 7, 2, 5):
        images, labels = noise(count, 67, 67, 3, purpose=str(count)), np.arange(count)
        same(gradients(net, images, labels), gradients(plain, images, labels), 1e-12)
        close("logits", net.forward(images), plain.forward(images), 1e-12)


def test_arrays_of_few_sizes_of_blocks_are_kept(threads):
    threads(1)
    net = in_fast_stages(network(["cpu"]), 16)
    for count in (16, 1, 16, 2, 3, 16):
        net.forward(noise(count, 67, 67, 3))
    (worker,) = net.executors[0]._workers.values()
    assert list(worker._kept) == [3, 16]


def test_shares_cover_the_batch_and_depend_on_its_size_alone(threads):
    stage = in_fast_stages(network(["cpu"]), 16).executors[0]
    for workers in (1, 2, 3):
        threads(workers)
        for count in (1, 2, 3, 9, 17, 64, 100):
            shares, size = stage.shares(count)
            blocks = [block for share in shares for block in share]
            assert [i for block in blocks for i in range(count)[block]] == list(range(count))
            assert max(block.stop - block.start for block in blocks) <= size <= 16
            assert (shares, size) == stage.shares(count)
    threads(1)
    assert stage.shares(32)[1] == 16 and stage.shares(1)[1] == 1


@pytest.mark.parametrize(("name", "sizes"), [("paper", [16, 24]), ("tiny-imagenet", [16, 64]), ("cifar10-relu", [48])])
def test_blocks_have_16_images_or_more_where_outputs_are_small(name, sizes):
    net = alexnet.build(recipe.load(name, ["net.classes=10", "net.hidden=16"]).net, recipe.Init())
    assert [run.size for run in net.executors[: len(net.trunk)]] == sizes


def test_changed_parameters_are_noticed_and_unchanged_ones_are_not_prepared_again(monkeypatch):
    counts, right = [], winograd.Winograd.prepare
    monkeypatch.setattr(winograd.Winograd, "prepare", lambda form, *values: (counts.append(1), right(form, *values)))
    net, (images, labels) = in_fast_stages(network(["cpu"])), batch(3)
    net.predict(images)
    first = len(counts)
    before = net.predict(images)
    assert first and len(counts) == first
    optimizer = Optimizer(net, 0.9, 0.0)

    def change_in_place():
        for _, _, view in net.tensors():
            view *= 0.5

    def replace():
        for _, layer in net.layers():
            for parameter in layer.parameters:
                parameter.value = parameter.value * 1.5

    def train():
        gradients(net, images, labels)
        optimizer.update(0.01)

    for way in (change_in_place, replace, train):
        way()
        plain = network(["cpu"])
        plain.load(net.state())
        found = net.predict(images)
        close(way.__name__, found, plain.predict(images), 1e-12)
        assert not np.allclose(found, before)
        before = found


@pytest.mark.parametrize("devices", [["cpu"], ["cpu", "cpu"]], ids=" ".join)
def test_forward_hook_watches_the_readable_layers(devices):
    seen = []
    net = alexnet.build(NET, recipe.Init({"default": "he"}), devices)
    images = noise(2, 67, 67, 3).astype("float32")
    plain = net.forward(images)
    logits = net.forward(images, forward_hook=lambda layer, y: seen.append((layer.name, y.shape[0])))
    assert {name for name, _ in seen} == {layer.name for _, layer in net.layers()}
    close("logits", plain, logits, 1e-5)


def test_images_of_another_type_run_the_readable_layers():
    net = alexnet.build(NET, recipe.Init({"default": "he"}))
    images = noise(2, 67, 67, 3)
    assert net.forward(images).dtype == np.float64
    close("logits", net.forward(images.astype("float32")), net.forward(images), 1e-4)


def test_columns_count_the_bytes_that_cross():
    net = in_fast_stages(network(["cpu", "cpu"]), 2)
    images, labels = noise(5, 67, 67, 3, purpose="images"), np.arange(5)
    gradients(net, images, labels)
    for stage, shapes in zip(net.stages, net.shapes, strict=False):
        expected = {key: 5 * count for key, count in stage.exchange.bytes_per_image(shapes, itemsize=8).items()}
        assert net.crossed().get(stage.name, {}) == expected


def test_layer_of_a_users_own_class_runs_as_it_is_written():
    class Doubled(layers.ReLU):
        def forward(self, x, training=False, step=None):
            return 2 * super().forward(x, training, step)

        def backward(self, dy):
            return 2 * super().backward(dy)

    form, x = InABlock(Doubled().build(HOST)), noise(2, 3, 4, 5)
    assert isinstance(fast.form_of(form.layer, x.shape[1:]), fast.ReadableForm)
    np.testing.assert_array_equal(form.forward(x), 2 * np.maximum(x, 0))
    np.testing.assert_array_equal(form.backward(np.ones_like(x)), 2.0 * (x > 0))


def two_steps(monkeypatch, name, dtype, kernels):
    monkeypatch.setattr(networks, "Device", shim.device)
    net = alexnet.build(NET, recipe.Init({"default": "he"}), [name], 0, dtype, kernels)
    optimizer, seen = Optimizer(net, 0.9, 0.01), {}
    for number in range(2):
        with net.step():
            loss, _ = net.loss_and_backward(
                noise(3, 67, 67, 3).astype(dtype), np.array([4, 0, 1]), step=Step(0, number)
            )
            seen |= {f"{name} {number}": device.get(view) for name, device, view in net.tensors("grad")}
            seen[f"loss {number}"] = net.devices[0].get(loss)
        optimizer.update(0.001)
    return seen | {name: device.get(view) for name, device, view in net.tensors()}, net


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("float64", 1e-12)])
@pytest.mark.parametrize("name", ["cpu", "fake:0", "kernels", "cuda:0"])
def test_whole_net_agrees_with_and_without_kernels(monkeypatch, name, dtype, tolerance):
    found, net = two_steps(monkeypatch, name, dtype, True)
    readable, plain = two_steps(monkeypatch, name, dtype, False)
    assert found.keys() == readable.keys()
    for tensor, value in readable.items():
        if dtype == "float64" or tensor.endswith(" 0"):  # after an update, a sign or a maximum may have changed
            close(tensor, found[tensor], value, tolerance)
    (device,) = plain.devices
    assert not device.kernel_dtypes and not getattr(device, "started", [])
    assert not any(isinstance(layer, fusion.FusedLayer) for _, layer in plain.layers())
    if name == "kernels":
        assert net.devices[0].started and plain.executors == plain.stages


def test_device_without_kernels_says_so():
    assert repr(Device("cpu")) == "Device('cpu')"
    assert repr(Device("fake:1", kernels=False)) == "Device('fake:1', kernels=False)"

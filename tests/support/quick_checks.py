"""Quick checks of the whole core: functions without arguments that raise if something is wrong.

One of them has to notice each planted bug of mutants.py.
"""

from dataclasses import replace
from functools import partial

import numpy as np

from tests.support.in_a_block import InABlock
from tests.support.layer_cases import (
    STEP,
    agrees_with_its_twin,
    close,
    every_layer,
    keeps_dtype,
    leaves_its_arguments,
    noise,
    repeats_itself,
)
from tinyalex import gradcheck, layers
from tinyalex.devices import parallel
from tinyalex.devices.device import Device
from tinyalex.layers import loops
from tinyalex.layers.winograd import WinogradConv2d
from tinyalex.network import alexnet
from tinyalex.network.fast import FastStage, ReadableForm, form_of
from tinyalex.randomness import Step
from tinyalex.recipes import recipe
from tinyalex.recipes.cuda_convnet.description import Rates
from tinyalex.recipes.settings import Init, Learning, Net, Phase
from tinyalex.training import schedule
from tinyalex.training.optimizer import Optimizer

SMALL = Net(input=67, maps=(6, 16, 24, 24, 16), hidden=16, classes=10, norm="2012")
INIT = Init({"default": "he"}, {"default": 0.1, "fc6": 1.0, "fc7": 1.0})


def network(devices, threads=1, block=None, net=SMALL, dtype="float64"):
    """Build a small net, with a number of worker threads and of images in a block."""
    parallel.set_threads(threads)
    built = alexnet.build(net, INIT, devices, seed=9, dtype=dtype)
    for run in built.executors[: len(built.trunk)]:
        run.size = block or run.size
    return built


def batch(n, size=30.0):
    return size * noise(n, 67, 67, 3, purpose="images"), np.arange(n) * 3 % 10


def gradients(net, images, labels, step=STEP):
    """Every gradient, and the loss, on the host."""
    with net.step():
        loss, _ = net.loss_and_backward(images, labels, step=step)
        found = {name: device.get(view) for name, device, view in net.tensors("grad")}
        return found | {"loss": net.devices[0].get(loss)}


def same(mine, its, tolerance):
    assert mine.keys() == its.keys()
    for name in its:
        close(name, mine[name], its[name], tolerance)


# Layers.


def loss_is_its_twin():
    z, labels = 3 * noise(4, 7), np.array([6, 0, 3, 3])
    loss = layers.SoftmaxLoss()
    close("loss", loss.forward(z, labels), np.float64(loops.softmax_loss(z, labels)), 1e-14)
    close("dz", loss.backward(), loops.softmax_loss_backward(z, labels), 1e-14)


def loss_with_class_weights_is_its_twin():
    z, labels, weights = 3 * noise(4, 7), np.array([6, 0, 3, 3]), [2.0, 1.0, 1.0, 0.25, 1.0, 1.0, 3.0]
    loss = layers.SoftmaxLoss(weights)
    close("loss", loss.forward(z, labels), np.float64(loops.softmax_loss(z, labels, weights)), 1e-14)
    close("dz", loss.backward(), loops.softmax_loss_backward(z, labels, weights), 1e-14)


def loss_does_not_overflow():
    z = np.array([[1000.0, 0.0], [0.0, -1000.0]])
    loss = layers.SoftmaxLoss()
    with np.errstate(all="raise", under="ignore"):
        assert loss.forward(z, np.array([0, 0])) == 0
        assert np.isfinite(loss.backward()).all() and np.isfinite(loss.probabilities(z)).all()


def relu_is_flat_at_zero():
    for dtype in ("float32", "float64"):
        layer = layers.ReLU()
        layer.forward(np.array([[0.0, 1.0]], dtype))
        assert layer.backward(np.ones((1, 2), dtype)).tolist() == [[0.0, 1.0]]


def first_of_equals_wins():
    x, dy, layer = np.round(noise(2, 7, 6, 3)), noise(2, 3, 3, 3), layers.MaxPool(3, 2).build(Device("cpu"))
    layer.forward(x)
    close("dx", layer.backward(dy), loops.max_pool_backward(dy, x), 1e-14)
    fast = InABlock(layer)
    fast.forward(x)
    close("dx of the fast form", fast.backward(dy), loops.max_pool_backward(dy, x), 1e-14)


def masks_are_drawn_anew():
    def mask(step=STEP, stream="fc6", first_unit=0, n=32, m=256):
        return layers.Dropout(0.5, stream, first_unit).forward(np.ones((n, m)), training=step is not None, step=step)

    this = mask()
    assert set(np.unique(this)) == {0.0, 1.0} and abs(this.mean() - 0.5) < 0.03
    others = [mask(Step(5, 12, 3)), mask(Step(6, 11, 3)), mask(stream="fc7"), mask(first_unit=256)]
    others += [mask(Step(5, 11, 35)), np.roll(this, 1, axis=0)]
    assert all(abs((this == other).mean() - 0.5) < 0.05 for other in others)
    assert np.array_equal(mask(n=16, step=Step(5, 11, 19)), this[16:])
    assert np.array_equal(mask(m=128, first_unit=128), this[:, 128:])
    assert np.array_equal(mask(step=None), np.full((32, 256), 0.5))


def normalization_has_its_constants():
    lrn, spatial = layers.LRN(), layers.SpatialNorm()
    assert (lrn.k, lrn.size, lrn.alpha, lrn.beta) == (2.0, 5, 1e-4, 0.75)
    assert (spatial.k, spatial.size, spatial.alpha, spatial.beta) == (1.0, 5, 4e-5, 0.75)
    assert layers.LRN(average=True).alpha == 2e-5


def sides_are_counted_as_in_the_paper():
    for side, rounding, outputs in ((224, "ceil", 55), (227, "floor", 55), (224, "floor", 54)):
        assert layers.Conv2d(3, 96, 11, stride=4, rounding=rounding).output_shape((side, side, 3)) == (
            outputs,
            outputs,
            96,
        )


def gradients_pass_the_checker():
    for kind in ("lrn", "maxpool", "dropout", "softmax"):
        failed = [result for result in gradcheck.suite(kind) if result.failed or result.excused]
        assert not failed, gradcheck.table(failed)


def weights_start_as_told():
    layer = layers.Conv2d(48, 128, 5, std=0.01, bias=1.0).named("conv2a").build(seed=1, dtype="float64")
    other = layers.Conv2d(48, 128, 5, std=0.01, bias=1.0).named("conv2b").build(seed=1, dtype="float64")
    W = layer.W.value
    assert abs(W.std() / 0.01 - 1) < 0.01 and abs(W.mean()) < 1e-4 and (layer.b.value == 1).all()
    assert abs((W * other.W.value).mean()) < 1e-6, "two columns start alike"
    both = layers.Conv2d(96, 256, 5, groups=2, std=0.01).named("conv2a", "conv2b").build(seed=1, dtype="float64")
    assert np.array_equal(both.W.value, np.concatenate([W, other.W.value], axis=-1))
    he = layers.LocallyConnected((6, 6, 64), 32, 3, pad=1).named("local3").build(seed=1).W.value
    assert abs(he.std() * (3 * 3 * 64 / 2) ** 0.5 - 1) < 0.01
    he = layers.Linear(800, 100).named("fc6").build(seed=1).W.value
    assert abs(he.std() / 0.05 - 1) < 0.02 and he.dtype == np.float32


# Columns and networks.


def nets_of_footnote_3_are_those_of_2012():
    plain, normalized = (alexnet.describe(recipe.load(f"cifar10-{name}").net) for name in ("13pct", "11pct"))
    names = [layer.name for _, layer in normalized.layers()]
    assert names[:4] == ["conv1", "relu1", "norm1", "pool1"]
    assert [name for name in names if "norm" not in name] == [layer.name for _, layer in plain.layers()]
    norms = [layer for _, layer in normalized.layers() if "norm" in layer.name]
    assert [(norm.size, norm.k, norm.alpha, norm.beta) for norm in norms] == [(5, 1.0, 1e-3 / 5, 0.75)] * 2
    assert [sum(p.size for p in net.parameters()) for net in (plain, normalized)] == [1_116_490] * 2


def net_has_the_papers_size():
    net = alexnet.describe(recipe.load("original").net, devices=2)
    assert sum(p.size for p in net.parameters()) == 60_965_224
    work = 0
    for stage, shapes in zip(net.stages, net.shapes, strict=False):
        shapes = stage.exchange.output_shapes(shapes)
        for column, chain in enumerate(stage.columns):
            for layer in chain:
                work += layer.multiply_adds(shapes[column])
                shapes[column] = layer.output_shape(shapes[column])
    assert work == 724_406_816
    predicted = [stage.exchange.bytes_per_image(shapes) for stage, shapes in zip(net.stages, net.shapes, strict=False)]
    assert 128 * sum(sum(count.values()) for count in predicted) == 60_030_976


def columns_see_each_other_where_the_paper_says():
    net, (images, _) = network(["cpu", "cpu"]), batch(2)

    def outputs():
        found = {}
        net.forward(images, forward_hook=lambda layer, y: found.setdefault(layer.name, y.copy()))
        return found

    before = outputs()
    net.state()["conv1a/W"][...] *= 1.5
    after = outputs()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert {"conv1a", "conv2a", "conv3a", "conv3b", "conv4b", "conv5b", "fc6b", "fc8"} <= changed
    assert not changed & {"conv1b", "conv2b"}


def columns_join_in_order():
    net = network(["cpu", "cpu"])
    devices, exchange = net.devices, net.head[0].exchange
    a, b = np.full((2, 3), 1.0), np.full((2, 3), 2.0)
    for joined in exchange.forward([a, b], devices):
        assert joined.tolist() == [[1, 1, 1, 2, 2, 2]] * 2
    home = exchange.backward([np.arange(12.0).reshape(2, 6), np.ones((2, 6))], devices)
    assert home[0].tolist() == [[1, 2, 3], [7, 8, 9]] and home[1].tolist() == [[4, 5, 6], [10, 11, 12]]


def all_forms_agree():
    images, labels = batch(3)
    grouped, two, fake = (
        gradients(network(devices), images, labels) for devices in (["cpu"], ["cpu", "cpu"], ["fake:0", "fake:1"])
    )
    same(grouped, two, 1e-12)
    assert all(np.array_equal(two[name], fake[name]) for name in two)


def columns_normalize_together_where_told():
    net = replace(SMALL, norm="paper", norm_alpha=0.01, norm_window="all", norm_order="pool-norm")
    images, labels = batch(3)
    grouped, two = (gradients(network(devices, net=net), images, labels) for devices in (["cpu"], ["cpu", "cpu"]))
    same(grouped, two, 1e-12)
    apart = gradients(network(["cpu"], net=replace(net, norm_window="column")), images, labels)
    assert abs(apart["loss"] - grouped["loss"]) > 1e-9
    names = [layer.name for _, layer in alexnet.describe(net).layers()]
    assert names[1:4] == ["relu1", "pool1", "norm1"]


def winograd_is_im2col():
    for c, o, k, s, p, groups in ((2, 3, 11, 4, 2, 1), (4, 6, 5, 1, 2, 2), (3, 2, 3, 1, 1, 1)):
        mine, its = (
            kind(c, o, k, s, p, groups, rounding="ceil", bias=0.5).named("conv").build(dtype="float64", seed=5)
            for kind in (WinogradConv2d, layers.Conv2d)
        )
        x = noise(2, 21, 18, c, purpose="winograd")
        y = its.forward(x)
        dy = noise(*y.shape, purpose="winograd dy")
        dx = its.backward(dy)
        for factor in (2, 0.5):
            mine.W.value *= factor
            mine.prepare(x.shape[1:])  # the second time with other weights
        for _ in range(2):  # nothing is left over from the first time
            close("y", mine.forward(x), y, 1e-12)
            close("dx", mine.backward(dy), dx, 1e-12)
        close("dW", mine.W.grad, its.W.grad, 1e-12)
        close("db", mine.b.grad, its.b.grad, 1e-12)


def convolutions_in_blocks_are_im2col():
    for c, o, k, s, p, groups in ((3, 4, 5, 2, 2, 1), (3, 5, 3, 1, 1, 1), (4, 6, 5, 1, 2, 2), (4, 2, 3, 1, 0, 1)):
        layer = layers.Conv2d(c, o, k, s, p, groups, rounding="ceil", bias=0.5).named("conv").build(dtype="float64")
        x = noise(3, 40, 130, c, purpose="blocks")  # so large that patches are made in several chunks
        y = layer.forward(x)
        dy = noise(*y.shape, purpose="blocks dy")
        wanted = {"y": y, "dx": layer.backward(dy), "dW": layer.W.grad.copy(), "db": layer.b.grad.copy()}
        twins = (
            [layers.Conv2d, WinogradConv2d] if c == 3 and s == 2 else [WinogradConv2d] if c == 4 else [layers.Conv2d]
        )
        for kind in twins:
            twin = kind(c, o, k, s, p, groups, rounding="ceil", bias=0.5).named("conv").build(dtype="float64")
            twin.input_gradient = c == 4
            fast = InABlock(twin, more=2)
            assert type(form_of(twin, x.shape[1:])) is not ReadableForm
            found = {"y": fast.forward(x), "dx": fast.backward(dy), "dW": twin.W.grad, "db": twin.b.grad}
            for name in found.keys() - ({"dx"} if c == 3 else set()):
                close(f"{kind.__name__} {name}", found[name], wanted[name], 1e-12)


def fast_stages_sum_all_blocks():
    images, labels = batch(7)
    wanted = gradients(network(["cpu"]), images, labels)
    for devices in (["cpu"], ["cpu", "cpu"]):
        for threads in (1, 2):
            net = in_fast_stages(network(devices, threads), size=2)
            for _ in range(2):  # nothing is left over from the first time
                same(gradients(net, images, labels), wanted, 1e-12)


def in_fast_stages(net, size=None):
    """Let a built net on the CPU run its trunk by the fast forms; float64 nets do not by themselves."""
    pairs = zip(net.trunk, net.shapes, net.executors, strict=False)
    net.executors[: len(net.trunk)] = [FastStage(*each, net.dtype) for each in pairs]
    for run in net.executors[: len(net.trunk)]:
        run.size = size or run.size
    return net


def bytes_are_those_predicted():
    net, (images, labels) = network(["fake:0", "fake:1"]), batch(3)
    gradients(net, images, labels)
    for stage, shapes in zip(net.stages, net.shapes, strict=False):
        expected = {key: 3 * count for key, count in stage.exchange.bytes_per_image(shapes, itemsize=8).items()}
        assert net.crossed().get(stage.name, {}) == expected


def blocks_and_workers_change_nothing():
    images, labels = batch(7)
    whole = gradients(network(["cpu", "cpu"]), images, labels)
    for threads, block in ((1, 2), (3, None), (2, 1)):
        net = network(["cpu", "cpu"], threads, block)
        for _ in range(2):
            same(gradients(net, images, labels), whole, 1e-12)


class _Placed(layers.Layer):
    """Adds to every image its index in the batch."""

    def forward(self, x, training=False, step=None):
        return x + (step.first + np.arange(len(x)))[:, None, None, None]


def blocks_know_their_place():
    images, _ = batch(5)
    logits = []
    for threads, block, fast in ((1, None, False), (2, 1, False), (2, 2, True)):
        net = network(["cpu"], threads, block)
        net.trunk[0].columns[0].append(_Placed())
        if fast:
            in_fast_stages(net, block)
        logits.append(net.forward(images, training=True, step=STEP))
    close("logits", *logits[:2], 1e-12)
    close("logits of the fast forms", *logits[1:], 1e-12)


def predictions_are_probabilities():
    images, _ = batch(5)
    p = network(["cpu", "cpu"]).predict(images, batch=2)
    assert p.shape == (5, 10) and (p >= 0).all()
    close("sums", p.sum(axis=1), np.ones(5), 1e-14)
    close("batches", p, network(["cpu"]).predict(images), 1e-12)


def gradient_is_the_mean_over_images():
    images, labels = batch(3)
    net = network(["cpu", "cpu"])
    whole = gradients(net, images, labels)
    each = [
        gradients(net, images[i : i + 1], labels[i : i + 1], Step(STEP.seed, STEP.number, STEP.first + i))
        for i in range(3)
    ]
    same({name: sum(one[name] for one in each) / 3 for name in whole}, whole, 1e-12)


def slope_along_a_direction_is_the_gradients():
    """One complex step through the whole net, all parameters at once."""
    for devices, net in ((["cpu", "cpu"], SMALL), (["cpu", "cpu"], replace(SMALL, norm="paper", fc8="split"))):
        built, (images, labels) = network(devices, 2, 2, net), batch(5)
        found = gradients(built, images, labels)
        directions = {name: noise(*view.shape, purpose=name) for name, _, view in built.tensors()}
        expected = sum((found[name] * direction).sum() for name, direction in directions.items())
        for parameter in built.parameters():
            (name,) = parameter.parts(parameter.value)
            parameter.value = parameter.value + 1e-30j * directions[name]
        loss = built.loss.forward(built.forward(images, training=True, step=STEP), labels)
        close("slope", np.asarray(expected), loss.imag / 1e-30, 1e-12)


def float32_stays_float32():
    images, labels = batch(2)
    found = gradients(network(["cpu", "cpu"], dtype="float32"), images.astype(np.float32), labels)
    assert {str(array.dtype) for array in found.values()} == {"float32"}
    assert str(network(["cpu"], dtype="float32").predict(images.astype(np.float32)).dtype) == "float32"


# Learning.


def update_is_the_papers():
    net = network(["cpu", "cpu"])
    optimizer, rate, bias_rate = Optimizer(net, 0.9, 0.0005, {"fc7": 0.05}), 0.01, 0.02
    w = {name: device.get(view) for name, device, view in net.tensors()}
    v = {name: np.zeros_like(value) for name, value in w.items()}
    for number in range(3):
        for name, _, view in net.tensors("grad"):
            view[...] = noise(*view.shape, purpose=f"{name} {number}")
            if name.endswith("/W"):
                v[name] = 0.9 * v[name] - (0.05 if "fc7" in name else 0.0005) * rate * w[name] - rate * view
            else:
                v[name] = 0.9 * v[name] - bias_rate * view
            w[name] = w[name] + v[name]
        optimizer.update(rate, bias_rate)
    for name, _, view in net.tensors():
        close(name, view, w[name], 1e-14)


def update_of_the_files_is_each_tensors_own():
    net = network(["cpu", "cpu"])
    rates = {
        name: Rates(0.01 / (1 + number), 0.1 * (number % 8), 0.3 if name.endswith("W") else 0.0)
        for number, name in enumerate(net.state())
    }
    w = {name: view.copy() for name, view in net.state().items()}
    v = {name: np.zeros_like(value) for name, value in w.items()}
    optimizer = Optimizer(net)
    for number in range(3):
        for name, _, view in net.tensors("grad"):
            view[...] = noise(*view.shape, purpose=f"{name} {number}")
            own = rates[name]
            v[name] = own.momentum * v[name] - own.weight_decay * own.rate * w[name] - own.rate * view
            w[name] = w[name] + v[name]
        optimizer.update_each(rates)
    for name, _, view in net.tensors():
        close(name, view, w[name], 1e-13)


def slow_layers_are_slow():
    net = network(["cpu", "cpu"])
    before = {name: device.get(view) for name, device, view in net.tensors()}
    for _, _, view in net.tensors("grad"):
        view[...] = 1.0
    Optimizer(net, momentum=0.9, weight_decay=0.0).update(0.01, 0.02, {"conv1": 0.0, "conv2": 0.1})
    for name, _, view in net.tensors():
        rate = (0.01 if name.endswith("W") else 0.02) * {"conv1": 0.0, "conv2": 0.1}.get(name[:5], 1.0)
        np.testing.assert_allclose(view, before[name] - rate, rtol=0, atol=1e-15)


def rates_follow_the_script():
    rates = schedule.rates
    script = Learning(epochs=9, rate=0.01, phases=(Phase(0, 0.01, 0.02), Phase(4, 0.001, None, 0.0, {"conv1": 0.1})))
    early, late = rates(script, 3.99), rates(script, 4.0)
    assert early[:4] == (0.01, 0.02, {}, None) and not early.finished
    assert late[:4] == (0.001, 0.001, {"conv1": 0.1}, 0.0)
    plateau = Learning(rate=0.01, schedule="plateau", patience=2, drops=1)
    assert rates(plateau, 3, [0.5, 0.4, 0.4]).rate == 0.01
    dropped = rates(plateau, 4, [0.5, 0.4, 0.4, 0.45])
    assert dropped.rate == 0.001 and not dropped.finished
    assert rates(plateau, 6, [0.5, 0.4, 0.4, 0.45, 0.4, 0.4]).finished
    cosine = Learning(epochs=10, rate=0.01, schedule="cosine", warmup=2.0, bias_rate=2.0)
    assert rates(cosine, 0).rate == 0 and abs(rates(cosine, 5).rate - 0.005) < 1e-15
    assert rates(cosine, 5).bias_rate == 2 * rates(cosine, 5).rate and rates(cosine, 9.99).rate < 1e-6


def _of_all_layers(check, *arguments):
    found = partial(every_layer, check, *arguments)
    found.__name__ = f"{check.__name__} {' '.join(arguments)}".strip()
    return found


CHECKS = [
    _of_all_layers(agrees_with_its_twin),
    _of_all_layers(keeps_dtype, "float32"),
    _of_all_layers(leaves_its_arguments),
    _of_all_layers(repeats_itself),
    loss_is_its_twin,
    loss_with_class_weights_is_its_twin,
    loss_does_not_overflow,
    relu_is_flat_at_zero,
    first_of_equals_wins,
    masks_are_drawn_anew,
    normalization_has_its_constants,
    sides_are_counted_as_in_the_paper,
    weights_start_as_told,
    net_has_the_papers_size,
    nets_of_footnote_3_are_those_of_2012,
    columns_see_each_other_where_the_paper_says,
    columns_join_in_order,
    columns_normalize_together_where_told,
    winograd_is_im2col,
    convolutions_in_blocks_are_im2col,
    fast_stages_sum_all_blocks,
    bytes_are_those_predicted,
    float32_stays_float32,
    all_forms_agree,
    slope_along_a_direction_is_the_gradients,
    gradient_is_the_mean_over_images,
    blocks_and_workers_change_nothing,
    blocks_know_their_place,
    predictions_are_probabilities,
    update_is_the_papers,
    update_of_the_files_is_each_tensors_own,
    slow_layers_are_slow,
    rates_follow_the_script,
    gradients_pass_the_checker,
]

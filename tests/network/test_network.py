"""The network: blocks and workers, memory, loading, prediction, and errors."""

import copy

import numpy as np
import pytest

from tinyalex.devices import parallel
from tinyalex.errors import CheckpointError, DataError, ShapeError, UsageError
from tinyalex.layers import Conv2d, Dropout, Layer, Linear, MaxPool, ReLU
from tinyalex.network import alexnet, blocks
from tinyalex.network.columns import Exchange, Stage
from tinyalex.network.network import Network
from tinyalex.randomness import Step, key, normal
from tinyalex.recipes.settings import Init, Net
from tinyalex.training.health import first_not_finite
from tinyalex.training.optimizer import Optimizer

FORMS = {"grouped": ["cpu"], "cpu cpu": ["cpu", "cpu"], "fake:0 fake:1": ["fake:0", "fake:1"]}
SMALL = dict(input=67, maps=(6, 16, 24, 24, 16), hidden=32, classes=10)
STEP = Step(4, 2)
HE = Init({"default": "he"}, {"default": 0.1})


@pytest.fixture(autouse=True)
def threads(monkeypatch):
    """Restore the process's workers after the test; return the function that sets their number."""
    monkeypatch.setattr(parallel, "_workers", parallel._workers)
    return parallel.set_threads


@pytest.fixture(params=FORMS)
def form(request):
    return FORMS[request.param]


def noise(*shape, purpose=""):
    return normal(key(0, "network", purpose, *shape), np.arange(np.prod(shape))).reshape(shape)


def host(array):
    return np.array(getattr(array, "_array", array))


def device_of(network, tensor):
    """Return the device that a tensor is on."""
    return next(device for name, device, _ in network.tensors() if name == tensor)


def build(form=("cpu",), dtype="float64", seed=0, **switches):
    return alexnet.build(Net(**SMALL | switches), HE, form, seed, dtype)


def batch(count, dtype="float64"):
    return noise(count, 67, 67, 3).astype(dtype), np.arange(count) * 3 % 10


def gradient(network, count, step=STEP, dtype="float64"):
    with network.step():
        loss, logits = network.loss_and_backward(*batch(count, dtype), training=step is not None, step=step)
        results = {"loss": host(loss), "logits": host(logits)}
        return results | {name: host(value) for name, value in network.gradients().items()}


def agree(found, expected, tolerance):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert np.abs(found[name] - value).max() <= tolerance * np.abs(value).max(), name


def in_blocks(network, size):
    """Set the number of images in a block."""
    for run in network.executors[: len(network.trunk)]:
        run.size = size


# Blocks and workers: the sums are taken in another order, the gradient is the same.


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("block", [1, 2, 1000])
def test_workers_and_blocks_change_last_bits_only(threads, form, count, block):
    threads(1)
    whole = build(form)
    in_blocks(whole, count)
    expected = gradient(whole, count)
    assert all(value.any() for value in expected.values())
    for workers in (1, 2, 3):
        threads(workers)
        network = build(form)
        in_blocks(network, block)
        first = gradient(network, count)
        agree(first, expected, 1e-12)
        agree(gradient(network, count), first, 0)  # the same bits, from replicas that have been used
        agree(gradient(build_like(network, form, block), count), first, 0)  # and from new ones


def build_like(network, form, block):
    twin = build(form)
    in_blocks(twin, block)
    return twin


def test_the_shares_cover_the_batch_in_order(threads):
    network = build()
    in_blocks(network, 2)
    for workers in (1, 2, 3):
        threads(workers)
        for count in (1, 2, 3, 7, 12):
            shares = network.executors[0].shares(count)
            assert len(shares) == min(workers, count)
            assert [i for share in shares for block in share for i in range(count)[block]] == list(range(count))
            assert all(block.stop - block.start <= 2 for share in shares for block in share)


def test_block_size_keeps_outputs_in_the_cache():
    small, budget = build(dtype="float32").executors, blocks.BYTES
    small = [run.readable for run in small[:2]]
    # conv1's outputs are the largest of the first stage, conv3's of the second.
    for run, side, maps in zip(small, (15, 3), (6, 24), strict=False):
        output = side * side * maps * 4  # bytes, an image
        assert run.size * output <= budget < (run.size + 1) * output
    assert small[1].size > small[0].size
    assert build(dtype="float64").executors[0].size in (small[0].size // 2, small[0].size // 2 + 1)
    # One column computes after the other, with half the maps.
    assert build(["cpu", "cpu"], dtype="float32").executors[0].readable.size // 2 == small[0].size


def test_batch_sizes_may_change_from_step_to_step(threads):
    threads(2)
    network = build(["cpu", "cpu"])
    in_blocks(network, 2)
    fresh = {count: gradient(build_like(network, ["cpu", "cpu"], 2), count) for count in (13, 1, 6)}
    for count in (13, 1, 6, 1, 13):
        agree(gradient(network, count), fresh[count], 0)


def test_each_image_has_its_own_dropout_mask_in_any_block(threads):
    threads(2)
    network = build()
    in_blocks(network, 1)
    images = np.repeat(noise(1, 67, 67, 3), 4, axis=0)
    rows = host(network.forward(images, training=True, step=Step(0, 0)))
    assert len(np.unique(rows, axis=0)) == 4
    later = host(network.forward(images[:2], training=True, step=Step(0, 0, first=2)))
    np.testing.assert_allclose(later, rows[2:], rtol=1e-12)
    assert (host(network.forward(images, training=True, step=Step(0, 1))) != rows).any()
    assert (host(network.forward(images, training=True, step=Step(1, 0))) != rows).any()
    still = host(network.forward(images))
    np.testing.assert_allclose(still, still[[0, 0, 0, 0]], rtol=1e-12)


def test_each_block_gets_its_index_in_the_batch(threads, form):
    threads(2)
    seen = []

    class Recorder(Layer):
        def forward(self, x, training=False, step=None):
            seen.append((step.seed, step.number, step.first, len(x)))
            return x

    described = alexnet.describe(Net(**SMALL), HE, len(form))
    described.stages[0].columns[0].append(Recorder())
    network = described.build(form, kernels=False)
    in_blocks(network, 2)
    network.forward(batch(7, "float32")[0], training=True, step=Step(5, 6, first=100))
    assert sorted(seen) == [(5, 6, 100, 1), (5, 6, 101, 2), (5, 6, 103, 2), (5, 6, 105, 2)]


def test_the_gradient_is_the_mean_of_the_images_gradients(form):
    network = build(form, dropout=0.0)
    whole, (images, labels) = gradient(network, 6, None), batch(6)
    total = dict.fromkeys(network.gradients(), 0.0)
    for index in range(6):
        network.loss_and_backward(images[index : index + 1], labels[index : index + 1], training=False)
        for name, value in network.gradients().items():
            total[name] = total[name] + host(value) / 6
    agree(total, {name: whole[name] for name in total}, 1e-12)


def test_float32_stays_float32(form):
    results = gradient(build(form, "float32"), 5, dtype="float32")
    assert {value.dtype for value in results.values()} == {np.dtype("float32")}
    exact = gradient(build(form), 5)
    agree({name: results[name] for name in ("loss", "logits")}, {n: exact[n] for n in ("loss", "logits")}, 1e-4)


def test_images_and_labels_are_not_modified(form):
    images, labels = batch(5)
    kept = images.copy(), labels.copy()
    build(form).loss_and_backward(images, labels, step=Step(0, 0))
    np.testing.assert_array_equal(images, kept[0])
    np.testing.assert_array_equal(labels, kept[1])


# Memory.


@pytest.mark.parametrize("norm", ["paper", "2012"])
def test_only_the_first_step_allocates(threads, form, norm):
    threads(1)
    network = build(form, "float32", norm=norm)
    in_blocks(network, 3)
    optimizer, taken = Optimizer(network), []
    for number in range(4):
        with network.step():
            network.loss_and_backward(*batch(8, "float32"), step=Step(0, number))
            optimizer.update(0.01)
        taken.append([device._arena.allocated for device in network.devices])
    assert min(taken[0]) > 0
    assert taken[1:] == [taken[0]] * 3
    network.predict(batch(5, "float32")[0], batch=5)  # a shorter batch, and no backward


def test_two_workers_allocate_a_bounded_amount(threads, form):
    taken = {}
    for workers in (1, 2):
        threads(workers)
        network = build(form, "float32")
        in_blocks(network, 2)
        for number in range(10):
            with network.step():
                network.loss_and_backward(*batch(8, "float32"), step=Step(0, number))
        taken[workers] = sum(device._arena.allocated for device in network.devices)
    # How far the workers overlap differs from step to step, but neither needs more than a single worker.
    assert taken[2] < 2 * taken[1]


# Predicting.


@pytest.mark.parametrize("batch_size", [1, 3, 7, 128])
def test_predict_in_batches(form, batch_size):
    network, images = build(form), noise(7, 67, 67, 3)
    probabilities = network.predict(images, batch_size)
    assert type(probabilities) is np.ndarray and probabilities.shape == (7, 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    logits = host(network.forward(images))
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-11)
    assert probabilities.std() > 0.01


def test_predict_nothing(form):
    probabilities = build(form, "float32").predict(np.empty((0, 67, 67, 3), "float32"))
    assert (probabilities.shape, probabilities.dtype) == ((0, 10), np.float32)


def test_predictions_are_not_overwritten_by_the_next(form):
    network = build(form)
    first = network.predict(noise(4, 67, 67, 3))
    kept = first.copy()
    network.predict(noise(4, 67, 67, 3, purpose="other"))
    np.testing.assert_array_equal(first, kept)


# Parameter values, under the names of 2012.


@pytest.mark.parametrize("other", FORMS)
@pytest.mark.parametrize("switches", [{}, {"talk": (), "fc8": "split"}], ids=str)
def test_values_load_from_one_form_into_another(form, other, switches):
    source, target = build(form, seed=1, **switches), build(FORMS[other], seed=2, **switches)
    images, values = noise(3, 67, 67, 3), {name: host(value) for name, value in source.state().items()}
    assert np.abs(source.predict(images) - target.predict(images)).max() > 1e-3
    target.load(values)
    np.testing.assert_allclose(target.predict(images), source.predict(images), rtol=1e-11)
    back = target.state()
    assert list(back) and back.keys() == values.keys()
    for name, value in values.items():
        np.testing.assert_array_equal(host(back[name]), value, err_msg=name)
        assert back[name].shape == value.shape


def test_state_is_a_view(form):
    network, images = build(form), noise(2, 67, 67, 3)
    before = network.predict(images)
    with device_of(network, "conv2b/W"):
        network.state()["conv2b/W"][...] = 0
    assert np.abs(network.predict(images) - before).max() > 1e-6
    assert not host(network.state()["conv2b/W"]).any() and host(network.state()["conv2a/W"]).any()


def test_load_reaches_the_replicas(threads):
    threads(2)
    network = build()
    in_blocks(network, 1)
    gradient(network, 6)  # makes replicas
    other = build(seed=9)
    network.load({name: host(value) for name, value in other.state().items()})
    in_blocks(other, 1)
    agree(gradient(network, 6), gradient(other, 6), 0)


def test_load_copies_and_converts(form):
    network = build(form, "float32")
    values = {name: np.full(value.shape, 0.25) for name, value in network.state().items()}
    network.load(values)
    values["conv1a/W"][...] = 7
    assert all((host(v) == 0.25).all() and v.dtype == np.float32 for v in network.state().values())


def test_load_needs_every_tensor():
    network = build()
    values = {name: host(value) for name, value in network.state().items()}
    del values["fc7b/W"]
    with pytest.raises(CheckpointError, match="^weights: fc7b/W missing; give the tensors of the same net"):
        network.load(values)


MISFITS = {
    "another shape": ({"fc7b/b": np.ones(1)}, r"fc7b/b is float64 \(1,\), this net needs .* shape \(16,\)"),
    "one number": ({"fc7b/b": np.array(0.0)}, r"fc7b/b is float64 \(\), this net needs"),
    "whole numbers": ({"fc7b/b": np.zeros(16, int)}, r"fc7b/b is int64 \(16,\), this net needs floating numbers"),
    "a list": ({"fc7b/b": [0.0] * 16}, "fc7b/b is a list, this net needs"),
    "surplus": ({"fc9/W": np.ones(3)}, "fc9/W not in this net"),
    "much": ({f"fc{i}/W": np.ones(3) for i in range(10, 16)}, "fc10/W, fc11/W, fc12/W, fc13/W and 2 more not in this"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_load_refuses_what_does_not_fit_and_copies_nothing(name, form):
    network = build(form)
    before = {name: host(value).copy() for name, value in network.state().items()}
    misfit, message = MISFITS[name]
    with pytest.raises(CheckpointError, match=f"^weights: {message}") as caught:
        network.load({key: value + 1 for key, value in before.items()} | misfit)
    assert "\n" not in str(caught.value)
    agree({key: host(value) for key, value in network.state().items()}, before, 0)
    momenta = {key: value * 0 for key, value in before.items()}
    with pytest.raises(CheckpointError, match=f"^momenta: {message}"):
        Optimizer(network).load(momenta | misfit)


# A net built by hand.


def by_hand(*more, columns=1, **names):
    """Two convolutions and two linear layers without names."""
    layers = [Conv2d(3, 4, 3), ReLU(), Conv2d(4, 4, 3), ReLU(), Linear((4, 4, 4), 6), ReLU(), Linear(6, 5), *more]
    routes = [[column] for column in range(columns)]
    return Network([Stage("all", Exchange(routes), [layers] + [copy.deepcopy(layers) for _ in routes[1:]])], (8, 8, 3))


def test_layers_without_a_name_are_numbered():
    network = by_hand().build()
    kinds = [f"{kind}{number}/{tensor}" for kind in ("conv2d", "linear") for number in (1, 2) for tensor in "Wb"]
    assert list(network.state()) == kinds
    other = by_hand().build(seed=1)
    other.load(network.state())
    images = noise(2, 8, 8, 3).astype("float32")
    np.testing.assert_array_equal(other.predict(images), network.predict(images))
    two = by_hand(columns=2).build(["cpu", "cpu"])
    assert list(two.state())[:3] == ["conv2d1a/W", "conv2d1a/b", "conv2d2a/W"] and "linear2b/b" in two.state()
    assert len(two.state()) == 16


def test_dropout_layers_without_a_name_drop_different_units(form):
    """And in two columns each column has masks of its own."""
    layers = [Linear((8, 8, 3), 64), Dropout(), Dropout(), Linear(64, 5)]
    columns = [copy.deepcopy(layers) for _ in form]
    network = Network([Stage("all", Exchange([[column] for column in range(len(form))]), columns)], (8, 8, 3))
    drops = [layer for _, layer in network.build(form).layers() if isinstance(layer, Dropout)]
    masks = []
    for drop in drops:
        with drop.device as device:
            masks.append(device.get(drop.forward(device.put(np.ones((8, 64))), training=True, step=STEP)))
    for i, mask in enumerate(masks):
        for other in masks[:i]:
            assert abs((mask == other).mean() - 0.5) < 0.15
    assert len({drop.name for drop in drops}) == len(drops)


def test_two_layers_of_one_name_are_refused():
    layers = [Conv2d(3, 4, 3).named("one"), Linear((6, 6, 4), 5).named("one")]
    with pytest.raises(UsageError, match="^network: two layers with parameters are called 'one'; give each a name"):
        Network([Stage("all", Exchange([[0]]), [layers])], (8, 8, 3))
    again = Linear(5, 5)
    with pytest.raises(UsageError, match="called 'linear1'"):
        Network([Stage("all", Exchange([[0]]), [[again, again]])], (5,))


@pytest.mark.parametrize("columns, message", [
    ([[Conv2d(3, 4, 3), ReLU()]], "no stage has a Linear layer; add one on column a, whose outputs are the logits$"),
    ([[], [Linear((8, 8, 3), 4)]], r"its outputs are \(8, 8, 3\); end it with a Linear layer on column a$"),
    ([[Conv2d(3, 4, 3)], [Linear((8, 8, 3), 4)]], r"its outputs are \(6, 6, 4\); end it with a Linear layer"),
    ([[]], "the first stage has no layer; add one, which reads the images$"),
    ([[], []], "the first stage has no layer; add one, which reads the images$"),
])  # fmt: skip
def test_a_net_that_cannot_compute_logits_is_refused(columns, message):
    with pytest.raises(UsageError, match=f"^network: {message}"):
        Network([Stage("all", Exchange([[column] for column in range(len(columns))]), columns)], (8, 8, 3))


def test_a_net_without_stages_is_refused():
    with pytest.raises(UsageError, match="^network: the first stage has no layer; add one, which reads the images$"):
        Network([], (8, 8, 3))


def test_a_column_of_the_first_stage_may_hand_on_the_images():
    stages = [
        Stage("pool", Exchange([[0], [1]]), [[], [MaxPool(2, 2)]]),
        Stage("all", Exchange([[0, 1], []]), [[Linear(8 * 8 * 3 + 4 * 4 * 3, 5)], []]),
    ]
    images = noise(2, 8, 8, 3).astype("float32")
    network = Network(stages, (8, 8, 3)).build(["cpu", "cpu"])
    joined = [images, MaxPool(2, 2).forward(images)]
    x = np.concatenate([part.reshape(2, -1) for part in joined], axis=1)
    np.testing.assert_allclose(network.forward(images), x @ network.state()["linear1a/W"], rtol=1e-5, atol=1e-6)


def test_a_net_without_arrays_says_so():
    for call in (lambda net: net.forward(noise(1, 8, 8, 3)), lambda net: net.predict(noise(1, 8, 8, 3)),
                 lambda net: net.loss_and_backward(noise(1, 8, 8, 3), np.array([0])),
                 Network.state, Network.gradients, lambda net: net.load({}), Optimizer):  # fmt: skip
        with pytest.raises(UsageError, match=r"^network: it has no arrays yet; call network.build\(\) first$"):
            call(by_hand())


@pytest.mark.parametrize("images, message", [
    (np.zeros((2, 8, 8, 3)).tolist(), r"a list instead of an array; use numpy.array\(images, 'float32'\)"),
    (np.zeros((2, 8, 8, 3), "uint8"), r"got uint8, this network reads float32; use images.astype\('float32'\)"),
    (np.zeros((2, 8, 8, 3), bool), "got bool, this network reads float32"),
    (np.zeros((8, 8, 3), "f"), r"got \(8, 3\), this network reads \(8, 8, 3\)"),
    (np.float32(1), r"got \(\), this network reads \(8, 8, 3\)"),
])  # fmt: skip
def test_images_that_do_not_fit_are_refused(images, message):
    network = by_hand().build()
    for call in (network.forward, network.predict, lambda x: network.loss_and_backward(x, np.array([0, 1]))):
        with pytest.raises(ShapeError, match=f"^images: {message}") as caught:
            call(images)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [8, (), None, (8.0, 8, 3), (8, 0, 3), (8, -8, 3), "883", (8, np.nan, 3)])
def test_an_input_shape_that_is_none_is_refused(shape):
    with pytest.raises(UsageError, match=r"^network: input_shape .*; give \(height, width, channels\), whole numbers$"):
        Network(by_hand().stages, shape)


@pytest.mark.parametrize("settings, message", [
    ({"devices": "cpu"}, r"devices: 'cpu' is one name; give a list with a name for each column, \['cpu'\]"),
    ({"devices": []}, r"devices: 0 given, this form of the net has 1 column\(s\)"),
    ({"seed": 1.5}, "seed: 1.5; give a whole number, or None"), ({"seed": "a"}, "seed: 'a'; give a whole number"),
    ({"dtype": "int32"}, "conv2d1: got parameters in int32, wants float32 or float64"),
])  # fmt: skip
def test_arguments_of_build_are_refused_by_name(settings, message):
    with pytest.raises(UsageError, match=f"^{message}"):
        by_hand().build(**settings)


@pytest.mark.parametrize("arrays", [None, [1, 2], "weights"])
def test_load_refuses_what_is_no_dict(arrays):
    with pytest.raises(CheckpointError, match="^weights: a (NoneType|list|str) instead of a dict of arrays"):
        by_hand().build().load(arrays)


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, "2", None, True])
def test_predict_refuses_a_batch_that_is_no_number_of_images(batch_size):
    with pytest.raises(UsageError, match=f"^predict: a batch of {batch_size!r} images; give a whole number, 1 or more"):
        by_hand().build().predict(noise(5, 8, 8, 3).astype("f"), batch_size)


# Errors.


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("bad", ["conv1a/W", "conv2b/b", "conv4a/W", "conv5b/W", "fc6b/W", "fc7a/b", "fc8/W"])
def test_the_first_layer_that_is_not_finite(form, bad, value):
    network, images = build(form), noise(5, 67, 67, 3)
    assert first_not_finite(network, images) is None
    with device_of(network, bad):
        network.state()[bad][..., -1] = value
    name = first_not_finite(network, images, training=True, step=Step(0, 0))
    layer = bad.split("/")[0]
    grouped = f"{layer[:-1]}a {layer[:-1]}b" if len(form) == 1 and layer != "fc8" else layer
    assert name == grouped


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_first_output_that_is_not_finite():
    network, images = build(["cpu", "cpu"]), noise(5, 67, 67, 3)
    network.state()["conv3b/b"][...] = 1e308
    network.state()["conv4b/W"][...] = 1e10
    assert first_not_finite(network, images) == "conv4b"
    images[3, 5, 5, 1] = np.nan
    assert first_not_finite(network, images) == "conv1a"


def test_checking_for_nan_changes_nothing(form):
    network = build(form)
    before = gradient(network, 5)
    first_not_finite(network, noise(5, 67, 67, 3), training=True, step=Step(1, 1))
    agree(gradient(network, 5), before, 0)


@pytest.mark.parametrize("shape", [(2, 66, 67, 3), (2, 67, 67, 1), (2, 3, 67, 67), (67, 67, 3), (2, 67 * 67 * 3)])
def test_images_of_another_shape(form, shape):
    with pytest.raises(ShapeError) as error:
        build(form).forward(np.zeros(shape))
    assert str(error.value) == f"images: got {shape[1:]}, this network reads (67, 67, 3)"


def test_backward_without_forward(form):
    network = build(form)
    gradient(network, 2)
    with pytest.raises(RuntimeError, match="backward needs a forward before it"):
        network.backward(network.devices[0].put(noise(2, 10)))


@pytest.mark.parametrize("wrong, bad", [([0, 10], 10), ([-1, 0], -1)])
def test_a_label_outside_the_classes_is_refused(wrong, bad):
    with pytest.raises(DataError, match=f"^labels: image {wrong.index(bad)} has label {bad}; .* 0 to 9, one an image"):
        build().loss_and_backward(noise(2, 67, 67, 3), np.array(wrong))


@pytest.mark.parametrize("labels", [[], [1], [1, 2, 3]])
def test_another_number_of_labels_than_images_is_refused(labels):
    """A single label would be broadcast, and the gradient would be too large by the number of images."""
    with pytest.raises(DataError, match=f"labels: {len(labels)} labels for 2 images"):
        build().loss_and_backward(noise(2, 67, 67, 3), np.array(labels, int))

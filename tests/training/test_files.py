"""Nets of the authors' files in training: as their recipes, as PyTorch, on any devices, resumed to the last bit."""

import contextlib
import functools
import signal
from dataclasses import replace

import numpy as np
import pytest

from tests.support.cuda_convnet_files import pairs, read, side
from tests.support.files_as_recipes import LAYERS, RATES, as_recipe, images, parsed, shrunk
from tests.support.small_runs import final, pressed, quiet, same
from tinyalex.errors import CheckpointError, Interrupted, UsageError
from tinyalex.layers import Dropout, ElementwiseSum
from tinyalex.network import alexnet, conversion, memory, summary
from tinyalex.network import cuda_convnet as nets
from tinyalex.randomness import Step
from tinyalex.recipes import recipe
from tinyalex.runs import run_folder
from tinyalex.runs.resume import ResumeOptions
from tinyalex.runs.train import train
from tinyalex.training import health
from tinyalex.training.loop import Training
from tinyalex.training.optimizer import Optimizer

# A net of one GPU that a recipe of kind cifar10 can say: rates of layers, weight decays, a schedule in the notes.
SAID = """
[data]
type=data
dataIdx=0
[labels]
type=data
dataIdx=1
[conv1]
type=conv
inputs=data
channels=3
filters=8
padding=2
stride=1
filterSize=5
initW=0.01
[pool1]
type=pool
pool=max
inputs=conv1
sizeX=3
stride=2
channels=8
neuron=relu
[conv2]
type=conv
inputs=pool1
channels=8
filters=8
padding=2
stride=1
filterSize=5
initW=0.1
initB=0.5
neuron=relu
[pool2]
type=pool
pool=avg
inputs=conv2
sizeX=3
stride=2
channels=8
[conv3]
type=conv
inputs=pool2
channels=8
filters=12
padding=2
stride=1
filterSize=5
initW=0.1
neuron=relu
[pool3]
type=pool
pool=avg
inputs=conv3
sizeX=3
stride=2
channels=12
[fc10]
type=fc
inputs=pool3
outputs=4
initW=0.1
[probs]
type=softmax
inputs=fc10
[cost]
type=cost.logreg
inputs=labels,probs
"""
SAID_RATES = "".join(
    f"[{name}]\nepsW={rate}\nepsB={2 * rate}\nmomW=0.9\nmomB=0.9\nwc={decay}\n"
    for name, rate, decay in (("conv1", 1e-5, 0.004), ("conv2", 1e-4, 0.004), ("conv3", 1e-4, 0.004), ("fc10", 1e-4, 1))
) + (
    "[cost]\ncoeff=1\n# epoch 1: set epsw to 0.0001 from 0.001\n# epoch 2: set epsw to 0.00001 from 0.0001 on conv1\n"
    "# epoch 3: killed\n"
)


def of_kind_files(made, side, like):
    """The recipe of the files themselves, for a net that another kind can say as well; its data are that recipe's."""
    texts = dict(zip(("layers_cfg", "layer_params_cfg"), made.texts, strict=True))
    net = recipe.Net(kind="cuda-convnet", input=side, classes=like.net.classes, **texts)
    return recipe.Recipe("files", net, data=like.data, learning=conversion.learns(made)[0])


def steps(made, dataset, count, devices=("cpu",), state=None):
    training = Training(made, dataset, devices, seed=3)
    if state:
        training.network.load(state)
    losses = []
    while training.step < count:
        with contextlib.closing(training.batches()) as batches:
            losses += [
                training.train_step(batch).read()[0]
                for batch, _ in zip(batches, range(count - training.step), strict=False)
            ]
    return training, losses


def test_a_net_that_a_recipe_can_say_trains_to_the_same_bits():
    made = parsed(SAID, SAID_RATES)
    said = conversion.to_recipe(made, 16)
    assert said.net.kind == "cifar10" and len(said.learning.phases) == 3
    batch = ["learning.batch=10"]
    said = recipe.parse(recipe.to_toml(said), "said", batch)
    files = recipe.parse(recipe.to_toml(of_kind_files(made, 16, said)), "files", batch)
    dataset = images(18)  # three steps an epoch
    one, losses = steps(said, dataset, 9)
    other, again = steps(files, dataset, 9)
    assert one.rates.lr_mult and losses == again and same(one.network.state(), other.network.state())
    assert same(
        dict((n, v) for n, _, v in one.optimizer.tensors()), dict((n, v) for n, _, v in other.optimizer.tensors())
    )


def by_names_of_the_files(state):
    """The weights of the recipe original, by the names of run 145, whose fc2048bb reads column b before column a."""
    names = {"fc6a": "fc2048a", "fc6b": "fc2048b", "fc7a": "fc2048ba", "fc7b": "fc2048bb", "fc8": "fc1000"}
    found = {}
    for name, value in state.items():
        layer, kind = name.split("/")
        found[f"{names.get(layer, layer)}/{kind}"] = np.roll(value, len(value) // 2, axis=0 if name == "fc7b/W" else ())
    return found


@pytest.mark.slow
def test_run_145_trains_as_its_recipe_where_it_sums_in_another_order(cuda_convnet):
    made = shrunk(read(cuda_convnet, "layers/layers-145"), 8)
    made = parsed(made.texts[0].replace("keep=0.5", "keep=1"), made.texts[1])  # masks are drawn by other names
    said = conversion.to_recipe(made, 67)
    changes = ["learning.batch=4", "learning.epochs=4", "learning.rate=0.001"]
    files = recipe.parse(recipe.to_toml(of_kind_files(made, 67, said)), "files", changes)
    said = recipe.parse(recipe.to_toml(said), "said", changes)
    dataset = images(70, 8, 8)
    first = by_names_of_the_files(Training(said, dataset, ("cpu", "cpu"), seed=3).network.state())
    one, losses = steps(said, dataset, 6, ("cpu", "cpu"))
    other, again = steps(files, dataset, 6, ("cpu", "cpu"), first)
    np.testing.assert_allclose(losses, again, rtol=1e-5)
    for name, value in by_names_of_the_files(one.network.state()).items():
        assert np.abs(value - other.network.state()[name]).max() <= 1e-4 * np.abs(value).max() + 1e-7, name


# PyTorch.


@pytest.mark.parametrize("bug", [None, "eltsum", "momentum"])
def test_two_steps_are_pytorchs(bug):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle: pip install 'tinyalex[parity]'")
    from tests.network.test_cuda_convnet_parity import logits

    made = as_recipe(parsed(), 12, "net.convolution=im2col")
    if bug == "momentum":
        made = replace(made, learning=replace(made.learning, layer_momentum={}))
    network = alexnet.build(made.net, made.init, ["cpu"], seed=4, dtype="float64")
    if bug == "eltsum":
        (layer,) = [layer for _, layer in network.layers() if isinstance(layer, ElementwiseSum)]
        layer.coefficients = [1.0, 0.5]
    section, own = made.learning, made.net.by_tensor
    tables = own(section.layer_weight_decay), own(section.layer_momentum), own(section.lr_mult)
    optimizer = Optimizer(network, section.momentum, section.weight_decay, *tables)
    pixels = np.random.default_rng(0).normal(0, 30, (5, 12, 12, 3))
    labels = np.array([0, 3, 1, 2, 2])
    theirs = {name: torch.tensor(value.copy(), requires_grad=True) for name, value in network.state().items()}
    velocity = {name: torch.zeros_like(value) for name, value in theirs.items()}
    files = nets.rates(parsed())
    drops = {layer.name: layer for _, layer in network.layers() if isinstance(layer, Dropout)}

    def masked(layer, x, step):
        # The mask of tinyalex, (n, h, w, c) or (n, m), for PyTorch's (n, c, h, w).
        ones = np.ones(x.shape if x.ndim == 2 else (len(x), *x.shape[2:], x.shape[1]))
        mask = torch.tensor(drops[layer.name].forward(ones, training=True, step=step))
        return x * (mask if x.ndim == 2 else mask.permute(0, 3, 1, 2))

    differing = False
    for number in range(2):
        step = Step(7, number)
        loss, _ = network.loss_and_backward(pixels, labels, step=step)
        optimizer.update(section.rate, section.rate * section.bias_rate)
        its = torch.nn.functional.cross_entropy(
            logits(parsed(), pixels, theirs, {}, functools.partial(masked, step=step)), torch.tensor(labels)
        )
        its.backward()
        with torch.no_grad():
            for name, w in theirs.items():
                rate, momentum, decay = files[name].rate, files[name].momentum, files[name].weight_decay
                velocity[name] = momentum * velocity[name] - decay * rate * w - rate * w.grad
                w += velocity[name]
                w.grad = None
        differing |= abs(float(loss) - its.item()) > 1e-10 * its.item()
    for name, value in network.state().items():
        expected = theirs[name].detach().numpy()
        differing |= bool(np.abs(value - expected).max() > 1e-10 * np.abs(expected).max())
    assert differing == (bug is not None)


# Devices, resuming, other runs.


@pytest.mark.parametrize("devices", [("cpu", "cpu"), ("fake:0", "fake:1"), ("fake:0",)])
def test_devices_do_not_change_the_result(devices):
    made = as_recipe(parsed(), 12, "learning.batch=10")
    one, losses = steps(made, images(), 4)
    other, again = steps(made, images(), 4, devices)
    np.testing.assert_allclose(losses, again, rtol=1e-5)
    fetched = {name: device.get(view) for name, device, view in other.network.tensors()}
    for name, value in one.network.state().items():
        assert np.abs(value - fetched[name]).max() <= 1e-5 * np.abs(value).max() + 1e-7, name
    assert devices != ("cpu", "cpu") or (losses == again and same(one.network.state(), fetched))


def test_neighbouring_gpus_share_a_device_and_more_devices_than_gpus_are_refused(cuda_convnet):
    made = as_recipe(read(cuda_convnet, "example-layers/layers.gc"), 8)
    for devices, wanted in (
        (["fake:0"], "000"),
        (["fake:0", "fake:1"], "001"),
        (["fake:0", "fake:1", "fake:2"], "012"),
    ):
        network = alexnet.build(made.net, made.init, devices)
        gpus = sorted({(gpu, device.name) for gpu, device in zip(network.gpus, network.devices, strict=True)})
        assert [name[-1] for _, name in gpus] == list(wanted)
    with pytest.raises(UsageError, match="devices: 4 given, this form of the net has 3 column"):
        alexnet.build(made.net, made.init, ["fake:0"] * 4)


def short(*overrides):
    return as_recipe(parsed(), 12, "learning.batch=10", "learning.epochs=3", *overrides)


START = ResumeOptions(weak_signal=True)


def test_a_run_that_was_stopped_gives_the_same_bits_and_is_exported(tmp_path, monkeypatch):
    train(short(), images(), tmp_path / "whole", show=quiet, options=START)
    with monkeypatch.context() as patch:
        pressed(patch, signal.SIGTERM, 4)
        with pytest.raises(Interrupted):
            train(short(), images(), tmp_path / "stopped", show=quiet, options=START)
    train(short(), images(), tmp_path / "stopped", ["cpu", "cpu"], show=quiet, options=START)
    assert same(final(tmp_path / "whole"), final(tmp_path / "stopped"))
    saved = recipe.load(tmp_path / "whole" / "recipe.toml")
    assert saved == short() and saved.net.layers_cfg == LAYERS and saved.net.layer_params_cfg == RATES
    run = run_folder.load(tmp_path / "whole")
    exported = run_folder.load(run_folder.export(run, tmp_path / "weights.safetensors"))
    pixels = np.random.default_rng(1).normal(0, 30, (3, 12, 12, 3)).astype("float32")
    assert np.array_equal(run.network.predict(pixels), exported.network.predict(pixels))
    other = as_recipe(parsed(LAYERS.replace("keep=0.75", "keep=0.5")), 12, "learning.batch=10", "learning.epochs=3")
    with pytest.raises(
        CheckpointError, match="the run here had net.layers_cfg, line 62: 'keep=0.75', now it is 'keep=0.5'"
    ):
        train(other, images(), tmp_path / "whole", show=quiet, options=START)
    lines = []
    more = as_recipe(parsed(), 12, "learning.batch=10", "learning.epochs=1", "net.classes=6")
    options = START._replace(init_from=tmp_path / "whole")
    train(more, images(classes=6), tmp_path / "more", show=lines.append, options=options)
    copied = next(line for line in lines if line.startswith("initialized from"))
    assert "conv1a, conv2.0" in copied and copied.count("6 classes, not 4 as in that run") == 4, (
        "fc4a, fc4b.0, fc4b.1, fc4b"
    )


def test_summary_memory_and_health_read_such_a_net():
    made = as_recipe(parsed(), 12)
    described = alexnet.describe(made.net, made.init)
    assert len(memory.needed(described, 16)) == 2 and all(memory.needed(described, 16))
    text = summary.text(made, described)
    assert text.startswith("toy: 2 GPUs; 12 x 12 x 3 in, 4 classes out") and "GPU 1 " in text and "SumOfInputs" in text
    network = alexnet.build(made.net, made.init, seed=1)
    pixels = np.random.default_rng(1).normal(0, 30, (9, 12, 12, 3)).astype("float32")
    assert set(health.dead_relu_fraction(network, pixels)) == {"cnorm1_neuron", "conv2_neuron", "fc16_neuron"}
    assert 0 < health.signal(network, pixels) <= 1
    network.state()["conv2.1/W"][0, 0, 0, 0] = np.nan
    assert health.first_not_finite(network, pixels) == "conv2"


# All nets of the archive.


QUICK = ["layers/layers-113", "example-layers/layers.gc", "layers-cifar/layers-18pct"]


def one_step(made, name):
    small = 67 if side(name) == 224 else side(name)
    try:
        nets.describe(made, small)
    except UsageError:
        small = 75  # pools of 2 x 2
    converted = as_recipe(made, small, "net.classes=5", "learning.batch=4")
    dataset = images(small + 2, 4, 4)
    dataset = replace(dataset, classes=[*dataset.classes, "none"])
    ends = []
    for kernels in (True, False):
        training = Training(converted, dataset, ["cpu"], 0, kernels)
        before = {key: value.copy() for key, value in training.network.state().items()}
        with contextlib.closing(training.batches()) as batches:
            loss, _ = training.train_step(next(batches)).read()
        assert np.isfinite(loss), name
        after = training.network.state()
        assert any(not np.array_equal(value, before[key]) for key, value in after.items()), name
        ends.append((loss, after))
    (loss, after), (again, readable) = ends
    assert loss == pytest.approx(again, rel=1e-4), name
    for key, value in after.items():
        assert np.abs(value - readable[key]).max() <= 1e-4 * np.abs(value).max() + 1e-6, f"{name} {key}"


@pytest.mark.parametrize("names", [QUICK, pytest.param(None, marks=pytest.mark.slow)], ids=["few", "all"])
def test_one_step_of_every_net_is_that_of_the_readable_layers(names, cuda_convnet):
    count = 0
    for name in names or pairs(cuda_convnet):
        made = shrunk(read(cuda_convnet, name), 8)
        if not nets.unsupported(made):
            one_step(made, name)
            count += 1
    assert count == (len(names) if names else 64)

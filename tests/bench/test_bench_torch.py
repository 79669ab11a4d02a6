"""The net in PyTorch that `bench` measures: equal to tinyalex's net forward, backward and after updates."""

import json

import numpy as np
import pytest

from tinyalex.bench import contenders, net
from tinyalex.bench.ours import Ours
from tinyalex.cli import main
from tinyalex.devices import parallel
from tinyalex.layers import Layer
from tinyalex.randomness import Step
from tinyalex.recipes import recipe
from tinyalex.training.optimizer import Optimizer

torch = pytest.importorskip("torch", reason="compares with PyTorch: pip install 'tinyalex[parity]'")
from tests.layers.test_parity import channels_first, close, mask  # noqa: E402
from tinyalex.bench.pytorch.torch_side import TorchSide, optimizer  # noqa: E402
from tinyalex.bench.pytorch.torch_twin import shifted_norm, twin  # noqa: E402
from tinyalex.errors import UsageError  # noqa: E402

# 94 pixels: the last windows of conv1 and of pool1 extend beyond the edge.
SMALL = ["net.input=94", "net.maps=[6, 16, 24, 24, 16]", "net.hidden=32", "net.classes=10"]
SMALL_CIFAR = ["net.input=21", "net.maps=[4, 6, 8]"]
COUNT = 4


def nets(name, *overrides):
    """Return tinyalex's net and its twin, in float64, with a batch."""
    small = SMALL_CIFAR if name.startswith("cifar10") else SMALL
    made = recipe.load(name, [*small, *overrides])
    ours, theirs = net.describe(made).build(dtype="float64"), twin(net.describe(made), dtype="float64")
    images, labels = net.batch(made, COUNT, dtype=np.float64)
    return made, ours, theirs, (images, labels), (torch.tensor(channels_first(images).copy()), torch.tensor(labels))


def in_our_shapes(layer, module, attribute="data"):
    """Return a module's weights and biases, or their gradients, in the shapes of tinyalex."""
    parts = [each for each in module.modules() if isinstance(each, torch.nn.Conv2d | torch.nn.Linear)]
    values = {"W": [], "b": []}
    for part in parts:
        weight = getattr(part.weight, attribute)
        if weight.ndim == 2:
            h, w, c = layer.inputs if len(layer.inputs) == 3 else (1, 1, *layer.inputs)
            weight = weight.reshape(len(weight), c // len(parts), h, w).permute(2, 3, 1, 0).flatten(0, 2)
        else:
            weight = weight.permute(2, 3, 1, 0)
        values["W"].append(weight)
        values["b"].append(getattr(part.bias, attribute))
    return {kind: torch.cat(each, -1) for kind, each in values.items()}


def agree(ours, theirs, kind, attribute):
    for (_, layer), module in zip(ours.layers(), theirs, strict=True):
        for parameter in layer.parameters:
            expected = in_our_shapes(layer, module, attribute)[parameter.kind]
            close(f"{kind} of {layer.name}", getattr(parameter, kind), expected, 1e-10)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("paper", []),
        ("original", []),
        ("modern", ["net.talk=[]", "net.fc8=split"]),
        ("paper", ["net.pool=2"]),
        ("paper", ["net.columns=1", "net.activation=tanh"]),
        ("cifar10-relu", []),
        ("cifar10-tanh", []),
    ],
)
def test_two_training_steps(name, overrides):
    made, ours, theirs, (images, labels), (x, targets) = nets(name, *overrides, "net.dropout=0")
    updates, rate = Optimizer(ours, made.learning.momentum, made.learning.weight_decay), made.learning.rate
    torch_updates = optimizer(theirs, made.learning)
    assert [name for name, _ in theirs.named_children()] == [layer.name.split()[0].removesuffix("a") if layer.parameters
                                                             else layer.name for _, layer in ours.layers()]  # fmt: skip
    for number in range(3):
        agree(ours, theirs, "value", "data")
        loss, logits = ours.loss_and_backward(images, labels, step=Step(0, number))
        torch_updates.zero_grad()
        expected = theirs(x)
        torch_loss = torch.nn.functional.cross_entropy(expected, targets)
        torch_loss.backward()
        close("loss", np.asarray(loss), torch_loss, 1e-10)
        close("logits", logits, expected, 1e-10)
        agree(ours, theirs, "grad", "grad")
        updates.update(rate, rate * made.learning.bias_rate)
        torch_updates.step()


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("size", [1, 2, 4, 5, 7])
def test_normalization_by_shifted_slices_is_pytorchs_own(size, groups):
    """Forward and backward in float64, also where the window is wider than a group; channels last stay so."""
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(2, 12, 3, 5, dtype=torch.float64).to(memory_format=memory_format).requires_grad_()
        upstream = torch.randn_like(x)
        found = shifted_norm(x, size, 0.3, 2.0, 0.75, groups)
        own = torch.nn.LocalResponseNorm(size, 0.3 * size, 0.75, 2.0)
        wanted = torch.cat([own(part) for part in x.chunk(groups, 1)], 1)
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-14)
        gradients = [torch.autograd.grad(y, x, upstream)[0] for y in (found, wanted)]
        torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-14)
        assert found.is_contiguous(memory_format=memory_format)
        shifted = torch.cat([own(part.roll(1, 1)).roll(-1, 1) for part in x.chunk(groups, 1)], 1)  # a planted bug
        assert size == 1 or not torch.allclose(found, shifted, rtol=1e-6)


def test_pytorch_at_its_best_is_the_same_net():
    """As a task of ``torch-best-*`` makes it, without the compiler: shifted slices, channels last, fused SGD, bf16."""
    made = recipe.load("paper", [*SMALL, "net.dropout=0"])
    task = {"recipe": recipe.to_toml(made), "batch": 5, "threads": 1, "devices": ["fake:0"], "tf32": True}
    losses = {}
    for name, more in (
        ("eager", {}),
        ("best", {"channels_last": True, "tuned": True}),
        ("bf16", {"channels_last": True, "tuned": True, "bf16": True}),
    ):
        side = TorchSide(task | more)
        fingerprint, found = side.ready()["fingerprint"], []
        for _ in range(3):
            side.step()
            found.append(side.last_loss()["loss"])
        assert side.net[0][1].weight.dtype == torch.float32 if len(side.net[0]) > 1 else True
        losses[name] = np.array([fingerprint, *found])
    np.testing.assert_allclose(losses["best"], losses["eager"], rtol=1e-5)
    np.testing.assert_allclose(losses["bf16"], losses["eager"], rtol=0.05)
    assert not np.allclose(losses["bf16"], losses["eager"], rtol=1e-5)  # it does round


def test_normalization_within_columns():
    made = recipe.load("paper", [*SMALL, "net.dropout=0"])
    described = [net.describe(made) for _ in range(2)]
    for each in described:
        for _, layer in each.layers():
            if "norm" in layer.name:
                layer.groups, layer.alpha = 2, 1.0
    ours, theirs = described[0].build(dtype="float64"), twin(described[1], dtype="float64")
    images, _ = net.batch(made, COUNT, dtype=np.float64)
    close("logits", ours.forward(images), theirs(torch.tensor(channels_first(images).copy())), 1e-10)


def test_dropout_in_testing_and_with_our_masks(monkeypatch):
    _, ours, theirs, (images, labels), (x, targets) = nets("paper")
    theirs.eval()
    close("logits in testing", ours.forward(images), theirs(x), 1e-10)
    step, layers = Step(3, 14), iter(["fc6", "fc7"])

    def dropout(x, p, training, inplace=False):
        assert training and not inplace
        return x * mask(step, next(layers), *x.shape, p) / (1 - p)

    theirs.train()
    monkeypatch.setattr(torch.nn.functional, "dropout", dropout)
    torch.nn.functional.cross_entropy(theirs(x), targets).backward()
    ours.loss_and_backward(images, labels, step=step)
    agree(ours, theirs, "grad", "grad")


def test_layer_without_a_counterpart_is_refused():
    class Odd(Layer):
        pass

    described = net.describe(recipe.load("paper", SMALL))
    described.stages[0].columns[0].append(Odd().named("odd1"))
    with pytest.raises(UsageError, match="odd1: PyTorch has no Odd to compare with"):
        twin(described)


def test_twin_leaves_no_arrays_in_the_described_net():
    described = net.describe(recipe.load("paper", SMALL))
    twin(described)
    assert all(parameter.value is None and parameter.grad is None for parameter in described.parameters())


@pytest.mark.parametrize("name", ["paper", "original", "cifar10-relu"])
def test_both_contenders_compute_and_time_the_same(name):
    small = SMALL_CIFAR if name.startswith("cifar10") else SMALL
    task = {"recipe": recipe.to_toml(recipe.load(name, small)), "batch": 5, "devices": ["cpu"], "convolution": "im2col"}
    ours = Ours(task | {"threads": parallel.workers().count})
    theirs = TorchSide(task | {"threads": torch.get_num_threads()})
    assert theirs.ready()["versions"]["PyTorch"] == torch.__version__
    assert theirs.ready()["fingerprint"] == pytest.approx(ours.ready()["fingerprint"], rel=1e-4)
    if name.startswith("cifar10"):  # no dropout: the losses are comparable
        for side in (ours, theirs):
            side.step()
        assert theirs.last_loss()["loss"] == pytest.approx(ours.last_loss()["loss"], rel=1e-4)
    for side in (ours, theirs):
        side.forward()
        side.predict()
    seconds = theirs.layers()
    assert seconds.keys() == ours.layers().keys()
    assert min(seconds.values()) > 0


@pytest.mark.parametrize(
    "compiled", [False, pytest.param(True, marks=[pytest.mark.slow, pytest.mark.filterwarnings("ignore")])]
)
def test_pytorch_at_its_best_computes_the_same_net(compiled):
    if compiled and not contenders.compiler_installed():
        pytest.skip("no C++ compiler")
    made = recipe.load("paper", [*SMALL, "net.dropout=0.0"])
    task = {"recipe": recipe.to_toml(made), "batch": COUNT, "threads": 1, "devices": ["cpu"]}
    plain = TorchSide(task)
    best = TorchSide(task | {"channels_last": True, "compiled": compiled})
    assert best.images.is_contiguous(memory_format=torch.channels_last)
    assert best.ready()["fingerprint"] == pytest.approx(plain.ready()["fingerprint"], rel=1e-4)
    for side in (plain, best):
        side.step()
        side.forward()
        side.predict()
    assert best.last_loss()["loss"] == pytest.approx(plain.last_loss()["loss"], rel=1e-4)


@pytest.mark.slow
def test_command_with_pytorch(tmp_path):
    options = ["--batch", "4", "--rounds", "1", "--least", "0", "--contenders", "winograd", "torch-tuned"]
    command = ["bench", "original", *options, "--out", str(tmp_path), *(w for key in SMALL for w in ("--set", key))]
    assert main(command) == 0
    result = json.loads((tmp_path / "bench.json").read_text())
    assert [each["environment"] for each in result["contenders"]] == [{}, contenders.MALLOC]
    assert result["versions"]["PyTorch"] == torch.__version__
    assert "| x best |" in (tmp_path / "bench.md").read_text()

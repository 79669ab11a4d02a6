"""The nets of the authors' files against PyTorch, which interprets the same descriptions layer by layer.

Logits and every gradient agree, at a reduced size, in float64. Nothing of `tinyalex.network` decides here what a layer
reads or computes; PyTorch gets the weights alone, and the random order of the channels where there is one.
"""

import re

import numpy as np
import pytest

from tests.network.test_cuda_convnet import MISSING
from tests.support.cuda_convnet_files import pairs, read
from tests.support.mutants import Mutant, plant
from tinyalex.gradcheck.cuda_convnet import batch, reduced, small_network

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests: pip install 'tinyalex[parity]'")
F = torch.nn.functional

QUICK = {"layers/layers-145", "layers/layers-120", "layers/layers-146-2011", "layers-cifar/layers-18pct",
         "layers-cifar/layers-conv-local-13pct", "example-layers/layers.gc"}  # fmt: skip

NEURONS = {
    "ident": lambda x: x, "relu": F.relu, "logistic": torch.sigmoid, "abs": torch.abs, "square": torch.square,
    "softrelu": F.softplus,
}  # fmt: skip


def neuron(name):
    if name.startswith("tanh["):
        a, b = map(float, name[5:-1].split(","))
        return lambda x: a * torch.tanh(b * x)
    return NEURONS[name]


def over_windows(x, size, stride=1, before=0, fill=0.0, reduce=torch.sum):
    """Reduce windows of size x size, as many as are needed to read every pixel."""
    side = x.shape[2]
    count = 1 + -(-(side + 2 * before - size) // stride) if not before else side
    after = max(0, (count - 1) * stride + size - side - before)
    x = F.pad(x, (before, after, before, after), value=fill)
    windows = x.unfold(2, size, stride).unfold(3, size, stride)[:, :, :count, :count]
    return reduce(windows.reshape(*windows.shape[:4], -1), dim=-1)


def over_maps(x, size):
    padded = F.pad(x, (0, 0, 0, 0, size // 2, size - 1 - size // 2))
    return sum(padded[:, shift : shift + x.shape[1]] for shift in range(size))


def flat(x):
    """(n, c, h, w) as plain numbers in the order of tinyalex, or plain numbers as they are."""
    return x if x.ndim == 2 else x.permute(0, 2, 3, 1).flatten(1)


def convolve(x, W, stride, pad, groups):
    size, side = W.shape[0], x.shape[2]
    count = 1 + -(-(side + 2 * pad - size) // stride)
    after = max(0, (count - 1) * stride + size - side - pad)
    x = F.pad(x, (pad, after, pad, after))[:, :, : (count - 1) * stride + size, : (count - 1) * stride + size]
    return F.conv2d(x, W.permute(3, 2, 0, 1), stride=stride, groups=groups)


def weighted(layer, xs, parameters, channels):
    """A convolution or fully connected layer of several inputs: one matrix for all of them, or one for each."""
    get, settings = parameters.get, layer.settings
    apart = get(f"{layer.name}.0/W") is not None
    same = len({tuple(x.shape[2:]) for x in xs}) == 1 and xs[0].ndim == 4
    if not apart:
        xs = [torch.cat(xs, dim=1) if same else torch.cat([flat(x) for x in xs], dim=1)]
    b, y = parameters[f"{layer.name}/b"], 0
    for number, x in enumerate(xs):
        W = parameters[f"{layer.name}.{number}/W" if apart else f"{layer.name}/W"]
        if layer.type == "fc":
            y = y + flat(x) @ W
            continue
        if settings["randSparse"][number]:
            x = x[:, channels[f"{layer.name}.{number} channels"]]
        y = y + convolve(x, W, *(settings[key][number] for key in ("stride", "padding", "groups")))
    return y + (b if layer.type == "fc" else b.permute(2, 0, 1) if b.ndim == 3 else b[:, None, None])


def local(layer, x, parameters):
    W, b = parameters[f"{layer.name}/W"], parameters[f"{layer.name}/b"]  # (h, w, k, k, c, o)
    pad, stride, size = (layer.settings[key][0] for key in ("padding", "stride", "filterSize"))
    windows = F.pad(x, (pad,) * 4).unfold(2, size, stride).unfold(3, size, stride)  # (n, c, h, w, k, k)
    return torch.einsum("nchwuv,hwuvco->nohw", windows, W) + b.permute(2, 0, 1)


def pooled(settings, x):
    size, stride = settings["sizeX"], settings["stride"]
    if settings["pool"] == "max":
        return over_windows(x, size, stride, fill=-torch.inf, reduce=torch.amax)
    return over_windows(x, size, stride) / over_windows(torch.ones_like(x), size, stride)


def normed(layer, x):
    size, scale, power, k = (layer.settings[key] for key in ("size", "scale", "pow", "minDiv"))
    if layer.type == "cmrnorm":
        return x * (k + scale / size * over_maps(x**2, size)) ** -power
    around = {"size": size, "before": size // 2}
    if layer.type == "rnorm":
        return x * (k + scale / size**2 * over_windows(x**2, **around)) ** -power
    e = x - over_windows(x, **around) / over_windows(torch.ones_like(x), **around)
    return x * (k + scale / size**2 * over_windows(e**2, **around)) ** -power


def blurred(settings, x):
    half = settings["filterSize"] // 2
    line = torch.exp(-(torch.arange(-half, half + 1, dtype=x.dtype) ** 2) / (2 * settings["stdev"] ** 2))
    line, c = (line / line.sum()).expand(x.shape[1], 1, -1), x.shape[1]
    x = F.conv2d(x, line[..., None], padding=(half, 0), groups=c)
    return F.conv2d(x, line[:, :, None], padding=(0, half), groups=c)


def kept(layer, x):
    return layer.settings["keep"] * x


def logits(description, images, parameters, channels, dropout=kept):
    """Interpret a description; ``dropout(layer, x)`` is that of the test, or of a training step."""
    values = {}
    for layer in description.layers.values():
        xs = [values[name] for name in layer.inputs if name in values]
        if layer.type == "data":
            values[layer.name] = torch.tensor(np.moveaxis(images, 3, 1).copy())
            continue
        if layer.type == "softmax":
            return xs[0]
        y = {
            "conv": lambda layer=layer, xs=xs: weighted(layer, xs, parameters, channels),
            "fc": lambda layer=layer, xs=xs: weighted(layer, xs, parameters, channels),
            "local": lambda layer=layer, xs=xs: local(layer, xs[0], parameters),
            "pool": lambda layer=layer, xs=xs: pooled(layer.settings, xs[0]),
            "hs": lambda layer=layer, xs=xs: dropout(layer, xs[0]),
            "eltsum": lambda layer=layer, xs=xs: sum(a * x for a, x in zip(layer.settings["coeffs"], xs, strict=True)),
            "concat": lambda layer=layer, xs=xs: torch.cat(xs, dim=1),
            "blur": lambda layer=layer, xs=xs: blurred(layer.settings, xs[0]),
            "nailbed": lambda layer=layer, xs=xs: xs[0][:, :, :: layer.settings["stride"], :: layer.settings["stride"]],
        }.get(layer.type, lambda layer=layer, xs=xs: normed(layer, xs[0]))()
        values[layer.name] = neuron(layer.neuron)(y)


def compare(made):
    net = small_network(made)
    images, labels = batch(net)
    parameters = {key: torch.tensor(value.copy(), requires_grad=True) for key, value in net.state().items()}
    channels = {
        layer.name: np.concatenate([pack for pack, _ in layer.packs])
        for _, layer in net.layers()
        if re.search(r"\.\d channels$", layer.name)
    }
    theirs = logits(reduced(made), images, parameters, channels)
    _, ours = net.loss_and_backward(images, labels, training=False)
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-9, atol=1e-12, err_msg=made.name)
    F.cross_entropy(theirs, torch.tensor(labels)).backward()
    for key, gradient in net.gradients().items():
        its = parameters[key].grad.numpy()
        assert its.any(), f"{made.name} {key}: nothing to compare"
        assert np.abs(gradient - its).max() <= 1e-9 * np.abs(its).max(), f"{made.name} {key}"


@pytest.mark.parametrize("kind", ["layers", "layers-cifar", "example-layers"])
@pytest.mark.parametrize("quick", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_logits_and_gradients_are_pytorchs(kind, quick, cuda_convnet):
    for name in pairs(cuda_convnet):
        if name.startswith(f"{kind}/") and name not in MISSING and (name in QUICK or not quick):
            compare(read(cuda_convnet, name))


@pytest.mark.parametrize("name, replaced", [
    ("layers-cifar/layers-18pct", ("layers.pooling", "AvgPool.forward", "area[units] += 1", "area[units] = 9")),
    ("layers/layers-145", ("network.columns", "Exchange._join", "read[source]", "read[sources[0]]")),
    ("example-layers/layers.gc", ("network.columns", "Exchange._part", "if each == source]", "if each == source][:1]")),
])  # fmt: skip
def test_a_planted_bug_is_noticed(name, replaced, cuda_convnet, monkeypatch):
    module, where, old, new = replaced
    plant(Mutant("planted", f"{module}:{where}", old, new), monkeypatch)
    with pytest.raises(AssertionError):
        compare(read(cuda_convnet, name))

"""Against PyTorch: every layer, forward and backward, and three training steps of a small two-column net.

Layouts are converted here: activations (n, h, w, c) and kernels (k, k, c, o) are (n, c, h, w) and (o, c, k, k) there.
"""

import numpy as np
import pytest

from tinyalex import layers
from tinyalex.bench.pytorch.torch_twin import overhang, spatial_norm
from tinyalex.devices.device import Device
from tinyalex.network import alexnet
from tinyalex.randomness import Step, bits, key, normal
from tinyalex.recipes.settings import Init, Net

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests: pip install 'tinyalex[parity]'")
F = torch.nn.functional

TOLERANCE = {"float64": 1e-10, "float32": 1e-5}  # of the tensor's maximum


def noise(*shape, purpose=""):
    return normal(key(0, "parity", purpose, *shape), np.arange(np.prod(shape))).reshape(shape)


def close(name, mine, its, tolerance):
    its = its.detach().numpy()
    assert (mine.shape, mine.dtype) == (its.shape, its.dtype), name
    assert its.any(), f"{name}: nothing to compare"
    assert np.abs(mine - its).max() <= tolerance * np.abs(its).max(), name


def channels_first(x):
    return np.moveaxis(x, -1, 1) if x.ndim == 4 else x


def compare(dtype, layer, shape, oracle, step=None, **weights):
    """Compare one layer's y, dx, dW and db with PyTorch's; ``weights`` say how PyTorch lays out a kernel."""
    device, tolerance = Device("cpu"), TOLERANCE[dtype]
    layer.named("layer").build(device, 0, dtype)
    for parameter in layer.parameters:
        parameter.value[...] = noise(*parameter.shape, purpose=parameter.kind)
    x = noise(*shape, purpose="x").astype(dtype)

    theirs = torch.tensor(channels_first(x), requires_grad=True)
    params = {
        p.kind: torch.tensor(np.ascontiguousarray(weights.get(p.kind, np.asarray)(p.value)), requires_grad=True)
        for p in layer.parameters
    }
    expected = oracle(theirs, **params)

    y = layer.forward(x, training=step is not None, step=step)
    close("y", channels_first(y), expected, tolerance)
    dy = noise(*y.shape, purpose="dy").astype(dtype)
    dx = layer.backward(dy)
    expected.backward(torch.tensor(np.ascontiguousarray(channels_first(dy))))
    close("dx", channels_first(dx), theirs.grad, tolerance)
    for p in layer.parameters:
        close(f"d{p.kind}", weights.get(p.kind, np.asarray)(p.grad), params[p.kind].grad, tolerance)


@pytest.fixture(params=TOLERANCE)
def dtype(request):
    return request.param


def kernel_first(W):
    return W.transpose(3, 2, 0, 1)


@pytest.mark.parametrize(
    "shape, maps, kernel, stride, pad, groups",
    [
        ((2, 7, 9, 3), 4, 3, 1, 0, 1),
        ((2, 7, 9, 3), 4, 3, 1, 1, 1),
        ((3, 8, 7, 2), 5, 1, 1, 0, 1),
        ((2, 8, 6, 4), 6, 5, 1, 2, 2),
        ((1, 9, 8, 6), 9, 3, 2, 1, 3),
        ((2, 11, 13, 3), 4, 5, 3, 2, 1),
        ((2, 5, 6, 3), 4, 3, 4, 3, 1),
        ((2, 5, 5, 4), 2, 5, 1, 0, 2),
        ((2, 23, 27, 3), 4, 11, 4, 0, 1),
    ],
)
@pytest.mark.parametrize("rounding", ["floor", "ceil"])
def test_convolution(dtype, shape, maps, kernel, stride, pad, groups, rounding):
    right, below = (overhang(side, kernel, stride, pad) if rounding == "ceil" else 0 for side in (shape[2], shape[1]))

    def oracle(x, W, b):
        return F.conv2d(F.pad(x, (pad, pad + right, pad, pad + below)), W, b, stride, groups=groups)

    layer = layers.Conv2d(shape[3], maps, kernel, stride, pad, groups, rounding)
    compare(dtype, layer, shape, oracle, W=kernel_first)


def test_conv1_of_the_paper_from_224_and_from_227(dtype):
    for side, rounding in (224, "ceil"), (227, "floor"):
        below = overhang(side, 11, 4) if rounding == "ceil" else 0
        layer = layers.Conv2d(3, 8, 11, 4, rounding=rounding)
        assert layer.output_shape((side, side, 3)) == (55, 55, 8)
        compare(
            dtype,
            layer,
            (1, side, side, 3),
            lambda x, W, b, below=below: F.conv2d(F.pad(x, (0, below, 0, below)), W, b, 4),
            W=kernel_first,
        )


@pytest.mark.parametrize(
    "layer, oracle",
    [
        (layers.Logistic, torch.sigmoid),
        (layers.SoftReLU, F.softplus),
        (layers.Abs, torch.abs),
        (layers.Square, torch.square),
        (lambda: layers.ScaledTanh(1.7, 0.6), lambda x: 1.7 * torch.tanh(0.6 * x)),
    ],
)
def test_units_of_2012(dtype, layer, oracle):
    compare(dtype, layer(), (3, 5, 4, 6), oracle)


@pytest.mark.parametrize("size, k, alpha, beta", [(5, 1.0, 1e-3, 0.75), (3, 2.0, 9.0, 0.5), (7, 1.0, 0.5, 0.75)])
def test_contrast_norm(dtype, size, k, alpha, beta):
    def mean(x):
        return F.avg_pool2d(x, size, 1, size // 2, count_include_pad=False)

    def oracle(x):
        energy = F.avg_pool2d(torch.square(x - mean(x)), size, 1, size // 2)  # divides by the full window
        return x * (k + alpha * energy) ** -beta

    compare(dtype, layers.ContrastNorm(size, k, alpha, beta), (2, 8, 9, 3), oracle)


def test_blur_and_subsampling(dtype):
    def oracle(x):
        line = torch.exp(-(torch.arange(-4, 5, dtype=x.dtype) ** 2) / (2 * 4.0**2))
        line = (line / line.sum()).expand(3, 1, 9)
        return F.conv2d(
            F.conv2d(x, line[..., None], padding=(4, 0), groups=3), line[:, :, None], padding=(0, 4), groups=3
        )

    compare(dtype, layers.GaussianBlur(4.0, 9), (2, 11, 13, 3), oracle)
    compare(dtype, layers.Subsample(4), (2, 11, 13, 3), lambda x: x[:, :, ::4, ::4])


def test_relu(dtype):
    compare(dtype, layers.ReLU(), (2, 5, 6, 3), torch.relu)


def test_tanh(dtype):
    compare(dtype, layers.Tanh(), (2, 5, 6, 3), torch.tanh)


@pytest.mark.parametrize("alpha, k", [(1.0, 1.0), (1e-4, 2.0), (0.3, 0.5)])
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("average", [False, True])
def test_lrn(dtype, alpha, k, size, average):
    # PyTorch divides alpha by n, as the 2012 code does and the paper does not: for the paper's sum it gets n alpha.
    theirs = alpha if average else alpha * size
    layer = layers.LRN(size, k, alpha, 0.75, average)
    compare(dtype, layer, (2, 4, 5, 7), lambda x: F.local_response_norm(x, size, theirs, 0.75, k))


def test_lrn_stays_inside_its_column(dtype):
    def oracle(x):
        return torch.cat([F.local_response_norm(half, 5, 5.0, 0.75, 2.0) for half in x.chunk(2, 1)], 1)

    compare(dtype, layers.LRN(alpha=1.0, groups=2), (2, 4, 5, 12), oracle)


@pytest.mark.parametrize("alpha, k, size", [(1e-3, 1.0, 5), (2.0, 1.0, 5), (2.0, 0.5, 3)])
def test_spatial_norm(dtype, alpha, k, size):
    layer = layers.SpatialNorm(size, k, alpha)
    compare(dtype, layer, (2, 6, 7, 3), lambda x: spatial_norm(x, alpha, k, size))


SIDES = [(7, 9), (8, 6), (6, 7), (13, 12)]


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("window, stride", [(3, 2), (2, 2), (3, 1), (4, 3)])
@pytest.mark.parametrize("rounding", ["floor", "ceil"])
def test_max_pool(dtype, sides, window, stride, rounding):
    layer = layers.MaxPool(window, stride, rounding)
    compare(dtype, layer, (2, *sides, 3), lambda x: F.max_pool2d(x, window, stride, ceil_mode=rounding == "ceil"))


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("window, stride", [(3, 2), (2, 2), (3, 1), (4, 3)])
@pytest.mark.parametrize("rounding", ["floor", "ceil"])
def test_average_pool(dtype, sides, window, stride, rounding):
    def oracle(x):
        return F.avg_pool2d(x, window, stride, ceil_mode=rounding == "ceil", count_include_pad=False)

    compare(dtype, layers.AvgPool(window, stride, rounding), (2, *sides, 3), oracle)


@pytest.mark.parametrize("sides, kernel, stride, pad", [((6, 7), 3, 1, 1), ((7, 5), 5, 2, 2), ((4, 4), 4, 1, 0)])
def test_locally_connected(dtype, sides, kernel, stride, pad):
    def oracle(x, W, b):
        columns = F.unfold(x, kernel, padding=pad, stride=stride)
        patches = columns.reshape(len(x), 3, kernel, kernel, *W.shape[:2])
        return torch.einsum("ncuvij,ijuvco->noij", patches, W) + b.permute(2, 0, 1)

    layer = layers.LocallyConnected((*sides, 3), 4, kernel, stride, pad)
    compare(dtype, layer, (2, *sides, 3), oracle)


def test_linear(dtype):
    compare(dtype, layers.Linear(7, 5), (4, 7), lambda x, W, b: x @ W + b)


def test_linear_reads_maps_in_h_w_c_order(dtype):
    def oracle(x, W, b):
        return x.permute(0, 2, 3, 1).flatten(1) @ W + b

    compare(dtype, layers.Linear((3, 4, 5), 6), (2, 3, 4, 5), oracle)


def test_linear_in_groups(dtype):
    def oracle(x, W, b):
        halves = zip(x.chunk(2, 1), W.chunk(2, 1), strict=True)
        return torch.cat([half.permute(0, 2, 3, 1).flatten(1) @ w for half, w in halves], 1) + b

    compare(dtype, layers.Linear((3, 4, 6), 8, groups=2), (2, 3, 4, 6), oracle)


def mask(step, layer, n, units, p):
    """Dropout's mask from its definition: 32 bits for each image and unit, kept if they are p * 2^32 or more."""
    drawn = bits(
        key(step.seed, "dropout", layer, step.number), np.arange(step.first, step.first + n)[:, None], np.arange(units)
    )
    return torch.tensor(drawn >= p * 2**32)


@pytest.mark.parametrize("p", [0.5, 0.2])
def test_dropout(dtype, p):
    step = Step(3, 14, first=15)
    kept = mask(step, "fc6", 6, 50, p)
    assert 0 < kept.double().mean() < 1
    compare(dtype, layers.Dropout(p, "fc6"), (6, 50), lambda x: x * kept, step)
    compare(dtype, layers.Dropout(p, "fc6"), (6, 50), lambda x: x * (1 - p))


def test_softmax_cross_entropy(dtype):
    z, labels = (4 * noise(6, 5)).astype(dtype), np.array([0, 4, 2, 2, 1, 3])
    theirs = torch.tensor(z, requires_grad=True)
    expected = F.cross_entropy(theirs, torch.tensor(labels))
    expected.backward()
    loss = layers.SoftmaxLoss()
    close("loss", np.asarray(loss.forward(z, labels)), expected, TOLERANCE[dtype])
    close("dz", loss.backward(), theirs.grad, TOLERANCE[dtype])
    close("p", loss.probabilities(z), torch.softmax(theirs, 1), TOLERANCE[dtype])


# Three training steps of a two-column net of 3/8/12/12/8 maps a column, on 67 x 67: 15, 7, 3 and 1 positions a side.

NET = dict(input=67, maps=(6, 16, 24, 24, 16), hidden=32, classes=10)
NETS = {
    "paper": {},
    "2012": {"norm": "2012"},
    # As in Caffe's files: "bvlc_alexnet" normalizes before it pools, "CaffeNet" after; on 70 pixels conv1 leaves out 3.
    "bvlc_alexnet": {"norm_window": "all", "norm_k": 1.0, "norm_alpha": 0.02, "conv_rounding": "floor", "input": 70},
    "CaffeNet": {"norm_window": "all", "norm_k": 1.0, "norm_alpha": 0.02, "norm_order": "pool-norm"},
    "torchvision": {"norm": "none", "pads": (2, 2, 1, 1, 1), "conv_rounding": "floor", "pool_rounding": "floor"},
    "other constants": {"norm": "2012", "norm_size": 3, "norm_k": 0.5, "norm_alpha": 0.1, "norm_beta": 0.6},
    "other padding": {"pads": (4, 1, 1, 2, 0), "input": 91, "pool_rounding": "floor"},
}
MOMENTUM, DECAY, RATE = 0.9, 0.05, 0.01


class Twin:
    """The same net as grouped convolutions of PyTorch, differentiated by it and updated by hand."""

    def __init__(self, state, net):
        self.net = net
        self.params = {name: torch.tensor(value, requires_grad=True) for name, value in state.items()}
        self.momenta = {name: torch.zeros_like(value) for name, value in self.params.items()}

    def both(self, layer, kind):
        columns = [f"{layer}{c}/{kind}" for c in "ab"] if f"{layer}a/{kind}" in self.params else [f"{layer}/{kind}"]
        return torch.cat([self.params[name] for name in columns], -1)

    def conv(self, x, layer, stride=1, pad=0, groups=1):
        return F.conv2d(x, self.both(layer, "W").permute(3, 2, 0, 1), self.both(layer, "b"), stride, pad, groups=groups)

    def lrn(self, x):
        net = self.net
        if net.norm == "none":
            return x
        alpha = net.norm_alpha * (1 if net.norm == "2012" else net.norm_size)  # PyTorch divides by n
        parts = x.chunk(1 if net.norm_window == "all" else 2, 1)
        return torch.cat([F.local_response_norm(p, net.norm_size, alpha, net.norm_beta, net.norm_k) for p in parts], 1)

    def logits(self, images, step):
        net, pads = self.net, self.net.pads or (0, 2, 1, 1, 1)

        def pool(x):
            return F.max_pool2d(x, 3, 2, ceil_mode=net.pool_rounding == "ceil")

        def norm_and_pool(x, spatial=False):
            x = pool(x) if net.norm_order == "pool-norm" else x
            x = self.lrn(x)
            x = spatial_norm(x, 1e-3) if spatial and net.norm == "2012" else x
            return x if net.norm_order == "pool-norm" else pool(x)

        # In the nets that round up, 11 pixels at stride 4 cover the image: PyTorch, which rounds down, does the same.
        x = self.conv(images, "conv1", stride=4, pad=pads[0])
        x = torch.relu(norm_and_pool(x)) if net.norm == "2012" else norm_and_pool(torch.relu(x))
        x = norm_and_pool(torch.relu(self.conv(x, "conv2", pad=pads[1], groups=2)), spatial=True)
        x = torch.relu(self.conv(x, "conv3", pad=pads[2]))
        x = torch.relu(self.conv(x, "conv4", pad=pads[3], groups=2))
        x = pool(torch.relu(self.conv(x, "conv5", pad=pads[4], groups=2)))
        x = x.permute(0, 2, 3, 1).flatten(1)
        for layer in ("fc6", "fc7"):
            x = torch.relu(x @ self.both(layer, "W") + self.both(layer, "b"))
            x = x * mask(step, layer, *x.shape, 0.5)
        return x @ self.both("fc8", "W") + self.both("fc8", "b")

    def update(self):
        """v <- 0.9 v - decay rate w - rate dw,  w <- w + v (paper section 5); biases: twice the rate, no decay."""
        with torch.no_grad():
            for name, w in self.params.items():
                rate, decay = (2 * RATE, 0.0) if name.endswith("/b") else (RATE, DECAY)
                v = self.momenta[name]
                v.copy_(MOMENTUM * v - decay * rate * w - rate * w.grad)
                w += v
                w.grad = None


@pytest.mark.parametrize(
    "name, devices",
    [
        *((name, devices) for name in ("paper", "2012") for devices in (["cpu"], ["cpu", "cpu"], ["fake:0", "fake:1"])),
        *((name, ["cpu"]) for name in [*NETS][2:]),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_three_training_steps(name, devices):
    from tinyalex.training.optimizer import Optimizer

    net = Net(**NET | NETS[name])
    network = alexnet.build(net, Init({"default": "he"}, {"default": 0.1}), devices, 0, "float64")
    host = network.devices[0]

    def fetched(tensors):
        return {name: device.get(tensor) for name, device, tensor in tensors}

    twin, optimizer = Twin(fetched(network.tensors()), net), Optimizer(network, MOMENTUM, DECAY)
    before = fetched(network.tensors())
    for number in range(3):
        images = noise(6, net.input, net.input, 3, purpose=f"images {number}")
        labels, step = (np.array([1, 9, 3, 3, 0, 5]) + number) % 10, Step(7, number)
        expected = twin.logits(torch.tensor(channels_first(images)), step)
        its_loss = F.cross_entropy(expected, torch.tensor(labels))
        its_loss.backward()
        with network.step():
            loss, logits = network.loss_and_backward(images, labels, step=step)
            close("loss", host.get(loss), its_loss, 1e-10)
            close("logits", host.get(logits), expected, 1e-10)
            for name, gradient in fetched(network.tensors("grad")).items():
                close(f"gradient {number} of {name}", gradient, twin.params[name].grad, 1e-10)
            optimizer.update(RATE, 2 * RATE)
        twin.update()
        for name, value in fetched(network.tensors()).items():
            close(f"{name} after step {number}", value, twin.params[name], 1e-10)
        for name, momentum in fetched(optimizer.tensors()).items():
            close(f"momentum of {name} after step {number}", momentum, twin.momenta[name], 1e-10)
    assert all((value != before[name]).any() for name, value in fetched(network.tensors()).items())

"""A recipe's net as Chainer computed it on a card: the Chainer-style port that `bench` compares with.

Chainer, the framework that CuPy was made for, had no cuDNN where there was none: images (n, c, h, w), patches written
by an elementwise kernel, `tensordot` over them, which copies what it has to transpose, LRN by a running sum down the
maps, pooling that keeps its winners, dropout from an array of random numbers, one update kernel a parameter. The words
are ours, the way is its own; where it would read a rolled view through slow indices, the port copies it first. Groups
are two convolutions of slices.
"""

from tinyalex import layers as ours
from tinyalex.bench.chainer_elementwise import DRAW, NORM, NORM_BACK, RELU_BACK, SILENCE, SUMMAND, WINDOW
from tinyalex.bench.chainer_kernels import COL2IM, IM2COL, POOL, UNPOOL
from tinyalex.bench.floor import plain
from tinyalex.errors import UsageError
from tinyalex.layers.layer import grouped


class Part:
    """One layer of ours in the port; its parameters are ``{"W": [value, gradient], "b": [value, gradient]}``."""

    def __init__(self, layer, shape, device):
        self.layer, self.name, self.device, self.xp = layer, plain(layer.name), device, device.xp
        self.shape, self.parameters = shape, {}

    def put(self, kind, array):
        """Keep a parameter's first value."""
        value = self.device.put(array)
        self.parameters[kind] = [value, self.xp.zeros(value.shape, value.dtype)]

    def empty(self, shape, like):
        return self.xp.empty(shape, like.dtype)


class Convolution(Part):
    """Patches, `tensordot` with kernels (o, c/g, k, k), and the transposes that it takes."""

    def __init__(self, layer, shape, device):
        super().__init__(layer, shape, device)
        self.places = layer.output_shape(shape)[:2]
        self.k, self.s, self.p, _ = layer.geometry.values()
        self.put("W", layer.W.value.transpose(3, 2, 0, 1).copy())
        self.put("b", layer.b.value)
        self.groups = grouped(layer.channels, layer.maps, layer.groups)

    def _patches(self, x, inputs):
        x = self.xp.ascontiguousarray(x[:, inputs])
        (n, c), (h, w) = x.shape[:2], self.shape[:2]
        col = self.empty((n, c, self.k, self.k, *self.places), x)
        IM2COL(self.device, x, h, w, *self.places, self.k, self.s, self.p, col)
        return col

    def forward(self, x, training):
        self.x, (W, _), (b, _) = x, *self.parameters.values()
        y = self.empty((len(x), self.layer.maps, *self.places), x)
        for inputs, outputs in self.groups:
            product = self.xp.tensordot(self._patches(x, inputs), W[outputs], ((1, 2, 3), (1, 2, 3)))
            product += b[outputs]  # (n, ho, wo, o)
            y[:, outputs] = product.transpose(0, 3, 1, 2)
        return y

    def backward(self, dy):
        (W, dW), (_, db) = self.parameters.values()
        n, (h, w) = len(dy), self.shape[:2]
        db[...] = dy.sum(axis=(0, 2, 3))
        dx = self.empty(self.x.shape, dy) if self.layer.input_gradient else None
        for inputs, outputs in self.groups:
            part = dy[:, outputs]
            dW[outputs] = self.xp.tensordot(part, self._patches(self.x, inputs), ((0, 2, 3), (0, 4, 5)))
            if dx is not None:
                c = inputs.stop - inputs.start
                col = self.xp.tensordot(W[outputs], part, (0, 1))  # (c, k, k, n, ho, wo)
                image = dx if len(self.groups) == 1 else self.empty((n, c, h, w), dy)
                COL2IM(self.device, col, n, c, h, w, *self.places, self.k, self.s, self.p, image)
                if image is not dx:
                    dx[:, inputs] = image
        return dx


class Linear(Part):
    """Weights (o, m), which read an image in the order (c, h, w)."""

    def __init__(self, layer, shape, device):
        super().__init__(layer, shape, device)
        h, w, c = (1, 1, *layer.inputs) if len(layer.inputs) == 1 else layer.inputs
        W = layer.W.value.reshape(h, w, c // layer.groups, layer.outputs)
        self.put("W", W.transpose(3, 2, 0, 1).reshape(layer.outputs, -1).copy())
        self.put("b", layer.b.value)
        self.groups = grouped(h * w * c, layer.outputs, layer.groups)

    def forward(self, x, training):
        self.x, (W, _), (b, _) = x, *self.parameters.values()
        flat, y = x.reshape(len(x), -1), self.empty((len(x), self.layer.outputs), x)
        for inputs, outputs in self.groups:
            y[:, outputs] = flat[:, inputs].dot(W[outputs].T)
        y += b
        return y

    def backward(self, dy):
        (W, dW), (_, db) = self.parameters.values()
        flat = self.x.reshape(len(dy), -1)
        db[...] = dy.sum(axis=0)
        dx = self.empty(flat.shape, dy)
        for inputs, outputs in self.groups:
            dW[outputs] = dy[:, outputs].T.dot(flat[:, inputs])
            dx[:, inputs] = dy[:, outputs].dot(W[outputs])
        return dx.reshape(self.x.shape)


class ReLU(Part):
    """What is positive."""

    def forward(self, x, training):
        self.y = self.xp.maximum(x, 0)
        return self.y

    def backward(self, dy):
        dx = self.empty(dy.shape, dy)
        RELU_BACK(self.device, self.y, dy, dx)
        return dx


class LRN(Part):
    """Squares, a running sum down the maps, then scale and result; backward the same way."""

    def _window(self, x):
        n, c, h, w = x.shape
        total, groups = self.empty(x.shape, x), self.layer.groups
        WINDOW(self.device, x, c // groups, h * w, self.layer.size, total, size=n * groups * h * w)
        return total

    def forward(self, x, training):
        self.x, self.scale, self.y = x, self.empty(x.shape, x), self.empty(x.shape, x)
        layer = self.layer
        NORM(self.device, x, self._window(x * x), layer.k, layer.alpha, layer.beta, self.scale, self.y)
        return self.y

    def backward(self, dy):
        summand, dx = self.empty(dy.shape, dy), self.empty(dy.shape, dy)
        SUMMAND(self.device, self.y, dy, self.scale, summand)
        total = self._window(summand)
        NORM_BACK(self.device, self.x, dy, self.scale, total, self.layer.alpha, self.layer.beta, dx)
        return dx


class MaxPool(Part):
    """The largest of each window, and where it was."""

    def forward(self, x, training):
        n, c, h, w = x.shape
        ho, wo, _ = self.layer.output_shape(self.shape)
        self.sizes = (h, w, ho, wo, self.layer.window, self.layer.stride)
        y, self.winner = self.empty((n, c, ho, wo), x), self.xp.empty((n, c, ho, wo), "int32")
        POOL(self.device, x, *self.sizes, y, self.winner)
        return y

    def backward(self, dy):
        dx = self.empty((*dy.shape[:2], *self.sizes[:2]), dy)
        UNPOOL(self.device, dy, self.winner, *self.sizes, dx)
        return dx


class Dropout(Part):
    """A random number for each unit, then mask and result in one kernel; at test all speak at reduced strength."""

    draws = 0

    def forward(self, x, training):
        if not training:
            return x * (1 - self.layer.p)
        self.draws += 1
        drawn, self.mask, y = self.xp.empty(x.shape, "float32"), self.empty(x.shape, x), self.empty(x.shape, x)
        DRAW(self.device, self.draws, sum(map(ord, self.layer.stream)), drawn)
        SILENCE(self.device, x, drawn, self.layer.p, self.mask, y)
        return y

    def backward(self, dy):
        return dy * self.mask


PARTS = {
    ours.Conv2d: Convolution, ours.Linear: Linear, ours.ReLU: ReLU, ours.LRN: LRN, ours.MaxPool: MaxPool,
    ours.Dropout: Dropout,
}  # fmt: skip


def port(network, device, seed=0, dtype="float32"):
    """Build the port of a described network of one device.

    Parameters
    ----------
    network : Network
        Gets no arrays; its layers draw their first values one after the other.
    device : Device
    seed : int
    dtype : str

    Returns
    -------
    list of Part

    Raises
    ------
    UsageError
        For a layer that the port has not.
    """
    parts, shape = [], network.input_shape
    for _, layer in network.layers():
        if type(layer) not in PARTS:
            raise UsageError(f"{layer.name}: the Chainer-style port has no {type(layer).__name__}; leave it out")
        layer.build(seed=seed, dtype=dtype)
        with device:
            parts.append(PARTS[type(layer)](layer, shape, device))
        for parameter in layer.parameters:
            parameter.value = parameter.grad = None
        shape = layer.output_shape(shape)
    return parts


def loss(xp, z, labels):
    """Return the mean cross-entropy of logits (n, c), and its gradient."""
    shifted = z - z.max(axis=1, keepdims=True)
    log = shifted - xp.log(xp.exp(shifted).sum(axis=1, keepdims=True))
    every, dz = xp.arange(len(z)), xp.exp(log)
    mean = -log[every, labels].mean()
    dz[every, labels] -= 1
    dz /= len(z)
    return mean, dz

"""Nonlinearities (paper §3.1): y = max(0, x), and the tanh that it was measured against in Figure 1."""

from tinyalex.layers.layer import Layer


class ReLU(Layer):
    """Keep what is positive; any shape."""

    def forward(self, x, step=None):
        y = self.device.empty(x.shape, x.dtype)
        self.device.xp.maximum(x, 0, out=y)
        self.saved = y  # y > 0 where x > 0: the next layer holds it anyway
        return y

    def backward(self, dy):
        # dx = dy where x > 0, and 0 elsewhere, at x = 0 too (2012: ``neuron.cuh``).
        y = self.recall()
        return self.device.xp.multiply(dy, y > 0, out=self.device.empty(dy.shape, dy.dtype))


class Tanh(Layer):
    """Squash to (-1, 1); any shape."""

    def forward(self, x, step=None):
        y = self.device.xp.tanh(x, out=self.device.empty(x.shape, x.dtype))
        self.saved = y
        return y

    def backward(self, dy):
        # y = tanh x:  dy/dx = 1 - y^2
        y = self.recall()
        return dy * (1 - y * y)

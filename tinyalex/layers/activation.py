"""Nonlinearities (paper §3.1): y = max(0, x), and the tanh that it was measured against in Figure 1."""

from tinyalex.layers.layer import Layer


class ReLU(Layer):
    """Keep what is positive; any shape."""

    @property
    def relu(self):
        return self

    def forward(self, x, training=False, step=None):
        zeros = self.device.zeros(x.shape[-2:], x.dtype)  # NumPy takes an array twice as fast as a number
        self.saved = self.device.xp.maximum(x, zeros, out=self.device.empty(x.shape, x.dtype))
        return self.saved  # y > 0 where x > 0: the next layer holds it anyway

    def backward(self, dy):
        # dx = dy where x > 0, and 0 elsewhere, at x = 0 too (2012: ``neuron.cuh``).
        y = self.pop_saved()
        return self.device.xp.multiply(dy, y > 0, out=self.device.empty(dy.shape, dy.dtype))


class Tanh(Layer):
    """Squash to (-1, 1); any shape."""

    def forward(self, x, training=False, step=None):
        self.saved = self.device.xp.tanh(x, out=self.device.empty(x.shape, x.dtype))
        return self.saved

    def backward(self, dy):
        # y = tanh x:  dy/dx = 1 - y^2
        y = self.pop_saved()
        return dy * (1 - y * y)

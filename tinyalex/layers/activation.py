"""Nonlinearities (paper §3.1): y = max(0, x), and the tanh that it was measured against in Figure 1."""

from tinyalex.devices.device import Array
from tinyalex.kernels import relu as cuda_kernels
from tinyalex.layers.layer import Layer
from tinyalex.randomness import Step


class ReLU(Layer):
    """y = max(0, x), element by element; any shape.

    >>> import numpy as np
    >>> relu = ReLU()
    >>> relu.forward(np.array([-1.0, 2.0]))
    array([0., 2.])
    >>> relu.backward(np.array([5.0, 5.0]))
    array([0., 5.])
    """

    @property
    def relu(self) -> Layer:  # type: ignore[override]
        return self

    def forward(self, x: Array, training: bool = False, step: Step | None = None) -> Array:
        self.check_input(x)
        if kernels := self.kernels_for(x, cuda=cuda_kernels):
            self.saved = kernels.forward(self.device, x)
        else:
            self.saved = self.device.xp.maximum(x, 0)
        return self.saved  # y > 0 where x > 0, and the next layer holds y anyway

    def backward(self, dy: Array) -> Array:
        # dx = dy where x > 0, and 0 elsewhere, at x = 0 too (2012: ``neuron.cuh``).
        y = self.pop_saved()
        if kernels := self.kernels_of_forward(dy):
            return kernels.backward(self.device, dy, y)
        return self.device.xp.where(y > 0, dy, 0)


class Tanh(Layer):
    """y = tanh(x), element by element; any shape.

    >>> import numpy as np
    >>> tanh = Tanh()
    >>> tanh.forward(np.array([0.0, 1.0])).round(4)
    array([0.    , 0.7616])
    >>> tanh.backward(np.ones(2)).round(4)
    array([1.  , 0.42])
    """

    def forward(self, x: Array, training: bool = False, step: Step | None = None) -> Array:
        self.check_input(x)
        self.saved = self.device.xp.tanh(x, out=self.device.empty(x.shape, x.dtype))
        return self.saved

    def backward(self, dy: Array) -> Array:
        # y = tanh x:  dy/dx = 1 - y^2
        y = self.pop_saved()
        return dy * (1 - y * y)

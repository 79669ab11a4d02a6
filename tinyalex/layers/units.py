"""More nonlinearities of the 2012 code (its ``neuron=``), beside those of `tinyalex.layers.activation`; any shape."""

from typing import Any

from tinyalex.devices.device import Array
from tinyalex.layers.layer import Layer
from tinyalex.randomness import Step


class Logistic(Layer):
    """y = 1 / (1 + e^-x), the other saturating unit that the paper names (§3.1).

    >>> import numpy as np
    >>> logistic = Logistic()
    >>> logistic.forward(np.array([0.0, 2.0])).round(4)
    array([0.5   , 0.8808])
    >>> logistic.backward(np.ones(2)).round(4)
    array([0.25 , 0.105])
    """

    def forward(self, x: Array, training: bool = False, step: Step | None = None) -> Array:
        self.check_input(x)
        self.saved = _logistic(self.device.xp, x)
        return self.saved

    def backward(self, dy: Array) -> Array:
        # dy/dx = y (1 - y)
        y = self.pop_saved()
        return dy * y * (1 - y)


class SoftReLU(Layer):
    """y = log(1 + e^x), a ReLU without the bend.

    >>> import numpy as np
    >>> soft = SoftReLU()
    >>> soft.forward(np.array([-1000.0, 0.0, 1000.0])).round(4)
    array([0.000e+00, 6.931e-01, 1.000e+03])
    >>> soft.backward(np.ones(3))
    array([0. , 0.5, 1. ])
    """

    def forward(self, x: Array, training: bool = False, step: Step | None = None) -> Array:
        self.check_input(x)
        xp, self.saved = self.device.xp, x
        positive = x.real > 0
        return xp.where(positive, x, 0) + xp.log1p(xp.exp(xp.where(positive, -x, x)))  # no exponential overflows

    def backward(self, dy: Array) -> Array:
        # dy/dx = 1 / (1 + e^-x)
        return dy * _logistic(self.device.xp, self.pop_saved())


class Abs(Layer):
    """y = ``|x|``.

    >>> import numpy as np
    >>> absolute = Abs()
    >>> absolute.forward(np.array([-3.0, 0.0, 2.0]))
    array([3., 0., 2.])
    >>> absolute.backward(np.ones(3))
    array([-1.,  0.,  1.])
    """

    def forward(self, x: Array, training: bool = False, step: Step | None = None) -> Array:
        self.check_input(x)
        self.saved = x
        return self.device.xp.where(x.real < 0, -x, x)

    def backward(self, dy: Array) -> Array:
        # dy/dx is the sign of x, and 0 at x = 0
        xp, x = self.device.xp, self.pop_saved().real
        return xp.where(x > 0, dy, xp.where(x < 0, -dy, 0))


class Square(Layer):
    """y = x^2.

    >>> import numpy as np
    >>> square = Square()
    >>> square.forward(np.array([-3.0, 2.0]))
    array([9., 4.])
    >>> square.backward(np.ones(2))
    array([-6.,  4.])
    """

    def forward(self, x: Array, training: bool = False, step: Step | None = None) -> Array:
        self.check_input(x)
        self.saved = x
        return x * x

    def backward(self, dy: Array) -> Array:
        # dy/dx = 2 x
        return 2 * dy * self.pop_saved()


class ScaledTanh(Layer):
    """y = a tanh(b x); 2012: ``tanh[a,b]``.

    Parameters
    ----------
    a, b : float

    Raises
    ------
    ShapeError
        If a or b is not a finite number.

    Examples
    --------
    >>> import numpy as np
    >>> tanh = ScaledTanh(2.0, 0.5)
    >>> tanh.forward(np.array([0.0, 1.0])).round(4)
    array([0.    , 0.9242])
    >>> tanh.backward(np.ones(2)).round(4)
    array([1.    , 0.7864])
    """

    def __init__(self, a: float = 1.0, b: float = 1.0) -> None:
        self.a, self.b = self.real(a=a, b=b)

    def forward(self, x: Array, training: bool = False, step: Step | None = None) -> Array:
        self.check_input(x)
        self.saved = self.device.xp.tanh(self.b * x)
        return self.a * self.saved

    def backward(self, dy: Array) -> Array:
        # t = tanh(b x):  dy/dx = a b (1 - t^2)
        t = self.pop_saved()
        return dy * (self.a * self.b) * (1 - t * t)


def _logistic(xp: Any, x: Array) -> Array:
    return 0.5 + 0.5 * xp.tanh(0.5 * x)  # equals 1 / (1 + e^-x), and overflows nowhere

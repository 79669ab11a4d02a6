"""What every layer is: a forward, a backward, and the parameters in between."""

import copy
import math
import re

from tinyalex.devices.device import Device
from tinyalex.devices.parallel import ranges
from tinyalex.errors import ShapeError
from tinyalex.layers.initialization import first_value

_HOST = Device("cpu")


class Parameter:
    """A tensor that learns, under the names of the 2012 files.

    In the grouped form one tensor holds both columns' parts side by side along its last axis; ``names`` then has two
    entries, and `parts` gives the views ``conv2a/W`` and ``conv2b/W``.

    Parameters
    ----------
    kind : {"W", "b"}
        Weights, which decay, or biases, which do not (2012: ``wc`` is set on weights only).
    shape : tuple of int
        The last axis runs over the outputs.
    init : float or "he"
        Weights: standard deviation of the Gaussian, or "he" for the square root of 2 / fan-in. Biases: the constant.

    Attributes
    ----------
    value, grad : array, shape ``shape``
        Replicas share the value and have a gradient of their own.
    """

    def __init__(self, kind, shape, init):
        self.kind, self.shape, self.init = kind, shape, init
        self.names = ("",)
        self._owner, self._value, self.grad = None, None, None

    @property
    def value(self):
        return (self._owner or self)._value

    @value.setter
    def value(self, array):
        (self._owner or self)._value = array

    @property
    def size(self):
        return math.prod(self.shape)

    @property
    def layer(self):
        """The layer's name without its column: ``conv2``."""
        return re.sub(r"(?<=\d)[ab]$", "", self.names[0])

    def parts(self, array):
        """Return ``{"conv2a/W": view, ...}`` of an array of this shape."""
        cuts = ranges(self.shape[-1], len(self.names))
        return {f"{name}/{self.kind}": array[..., cut] for name, cut in zip(self.names, cuts, strict=True)}

    def build(self, device, seed, dtype):
        """Draw the first value, or leave the weights 0 without a seed."""
        self.value, self.grad = device.put(first_value(self, seed, dtype)), device.zeros(self.shape, dtype)

    def replica(self):
        """Return a parameter with the same value and no gradient yet."""
        twin = copy.copy(self)
        twin._owner, twin.grad = self._owner or self, None
        return twin


class Layer:
    """What layers have in common; each adds ``forward(x, step=None)`` and ``backward(dy)``.

    A layer is described first and computes after `build`. Shapes in descriptions leave the images out: (h, w, c). Here
    are the descriptions of a layer that has no parameters and changes no shape.

    Attributes
    ----------
    names : tuple of str
        Its name, or one name a column where both columns lie side by side.
    device : Device
    input_gradient : bool
        Whether backward has to return a gradient; the first layer's input needs none.
    relu : ReLU or None
        The ReLU that makes this layer's output: the layer itself, or one that is fused into it.
    """

    names = ("",)
    device = _HOST
    input_gradient = True
    relu = None
    saved = None

    @property
    def name(self):
        return " ".join(self.names)

    @property
    def parameters(self):
        """This layer's `Parameter` objects, weights first."""
        return [value for value in vars(self).values() if isinstance(value, Parameter)]

    def named(self, *names):
        """Set the name, or the columns' names, and return the layer."""
        self.names = names
        for parameter in self.parameters:
            parameter.names = names
        return self

    def build(self, device=_HOST, seed=0, dtype="float32"):
        """Give the layer its device and its parameters their first values; return the layer."""
        self.device = device
        for parameter in self.parameters:
            parameter.build(device, seed, dtype)
        return self

    def replica(self):
        """Return a layer with the same parameter values, and saved state and gradients of its own."""
        twin = copy.copy(self)
        twin.saved = None
        for name, value in vars(self).items():
            if isinstance(value, Parameter):
                setattr(twin, name, value.replica())
        return twin

    def prepare(self, shape):
        """Compute what all blocks of a batch of (n, *shape) share; most layers have nothing to compute."""

    def release(self):
        """Let go of what `prepare` computed."""

    def output_shape(self, shape):
        """Return the shape, without the images, that an input of ``shape`` becomes."""
        return shape

    def multiply_adds(self, shape):
        """Return the multiply-adds of one image's forward pass."""
        return 0

    def pop_saved(self):
        """Return what forward saved for backward, and let go of it."""
        if self.saved is None:
            raise RuntimeError(f"{self.name or type(self).__name__}: backward needs a forward before it")
        saved, self.saved = self.saved, None
        return saved

    def expect(self, condition, shape, wanted):
        """Refuse a shape with a line that says what was wanted."""
        if not condition:
            raise ShapeError(f"{self.name or type(self).__name__}: got {tuple(shape)}, wants {wanted}")


def grouped(inputs, outputs, groups):
    """Return, for each group, the slices of its input channels and of its outputs."""
    return list(zip(ranges(inputs, groups), ranges(outputs, groups), strict=True))

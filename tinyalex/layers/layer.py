"""The base class of all layers, which declares forward and backward, and the parameters that layers learn."""

import copy
import math
import re
from numbers import Integral, Real
from types import ModuleType
from typing import Any, Self

from tinyalex.devices.bfloat16 import BFLOAT16
from tinyalex.devices.device import Array, Device, DTypeLike
from tinyalex.devices.parallel import ranges
from tinyalex.errors import OrderError, ShapeError
from tinyalex.layers.initialization import first_value
from tinyalex.randomness import Step

_HOST = Device("cpu")


class Parameter:
    """A learned tensor, named as in the 2012 files.

    In the grouped form (both columns on one device) one tensor holds both columns' parts side by side along its last
    axis; ``names`` then has two entries, and `parts` returns the views ``conv2a/W`` and ``conv2b/W``.

    Parameters
    ----------
    kind : {"W", "b"}
        Weights, which get weight decay, or biases, which do not (2012: ``wc`` is set on weights only).
    shape : tuple of int
        The last axis runs over the outputs.
    init : float or "he"
        Weights: standard deviation of the Gaussian, or "he" for the square root of 2 / fan-in. Biases: the constant.

    Attributes
    ----------
    value, grad : array, shape ``shape``
        Replicas share the value; each has its own gradient.
    """

    def __init__(self, kind: str, shape: tuple[int, ...], init: float | str) -> None:
        self.kind, self.shape, self.init = kind, shape, init
        self.names: tuple[str, ...] = ("",)
        self._owner: Parameter | None = None
        self._device: Device | None = None  # where value and gradient are
        self._value: Array = None
        self.grad: Array = None

    def __copy__(self) -> Self:
        return _shallow_copy(self)

    def __getstate__(self) -> dict[str, Any]:
        # For deep copies and for pickling: arrays of a GPU as arrays of the host.
        state = vars(self) | ({"_value": None} if self._owner else {})
        return state | {name: _on_host(self._device, state[name]) for name in ("_value", "grad")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._value, self.grad = (_back(self._device, array) for array in (self._value, self.grad))

    @property
    def value(self) -> Array:
        return (self._owner or self)._value

    @value.setter
    def value(self, array: Array) -> None:
        (self._owner or self)._value = array

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def layer(self) -> str:
        """The layer's name without its column: ``conv2``."""
        return re.sub(r"(?<=\d)[ab]$", "", self.names[0])

    def parts(self, array: Array) -> dict[str, Array]:
        """Return ``{"conv2a/W": view, ...}`` of an array of this shape."""
        cuts = ranges(self.shape[-1], len(self.names))
        return {f"{name}/{self.kind}": array[..., cut] for name, cut in zip(self.names, cuts, strict=True)}

    def build(self, device: Device, seed: int | None, dtype: DTypeLike) -> None:
        """Put the initial value on a device, and zeros for the gradient; without a seed the weights are 0."""
        self._device = device
        self.value, self.grad = device.put(first_value(self, seed, dtype)), device.zeros(self.shape, dtype)

    def replica(self) -> "Parameter":
        """Return a parameter with the same value and no gradient yet."""
        twin = copy.copy(self)
        twin._owner, twin.grad = self._owner or self, None
        return twin


def _shallow_copy(original: Any) -> Any:
    # What copy.copy does, without what __getstate__ leaves out of deep copies and pickles.
    twin = object.__new__(type(original))
    vars(twin).update(vars(original))
    return twin


def _on_host(device: Device | None, array: Array) -> Array:
    return array if device is None or device.kind == "cpu" or array is None else device.get(array)


def _back(device: Device | None, array: Array) -> Array:
    return array if device is None or device.kind == "cpu" or array is None else device.put(array)


class Layer:
    """Base class of all layers.

    A layer is constructed without arrays, gets its device and its parameters' first values from `build`, and then
    computes `forward` and `backward`. `output_shape` and `multiply_adds` work before `build`; their shapes leave out
    the images: (h, w, c). What this class returns there is right for a layer without parameters that keeps the shape.
    A deep copy, or a layer that was pickled, has the parameters and gradients, on a device of its own, but not what
    forward saved.

    Attributes
    ----------
    names : tuple of str
        The layer's name, or one name for each column where both columns lie side by side.
    device : Device
    input_gradient : bool
        Whether backward has to return dx; the first layer's need not.
    relu : ReLU or None
        The ReLU that computes this layer's output: the layer itself, or one fused into it; None if there is none.
    """

    names: tuple[str, ...] = ("",)
    device = _HOST
    input_gradient = True
    relu: "Layer | None" = None
    saved: Any = None
    form: tuple[ModuleType | None, Any] = None, None  # of the last forward: its module of kernels if any, x's dtype

    def __copy__(self) -> Self:
        return _shallow_copy(self)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("saved", "form")}

    def forward(self, x: Array, training: bool = False, step: Step | None = None) -> Array:
        """Compute the layer's output and save what `backward` needs.

        Parameters
        ----------
        x : array of ``self.device``, shape (n, h, w, c) or (n, m)
            n images. It is not modified.
        training : bool
            Whether this pass is part of a training step. Only `Dropout` computes something else then.
        step : Step, optional
            In training: the seed, the number of the step and the position of the first image in the batch. `Dropout`
            draws its mask from them.

        Returns
        -------
        array of ``self.device``, shape (n, *output_shape), in x's dtype
            float32, float64, or complex128 for the complex-step gradient check. (Where a GPU's kernels read images
            stored in bfloat16, the outputs are stored so too, or are float32.)

        Raises
        ------
        ShapeError
            If x is no array of floating numbers, its shape does not fit, or the layer has not been built.
        UsageError
            From `Dropout`, in training without a step.
        """
        raise NotImplementedError

    def backward(self, dy: Array) -> Array | None:
        """Compute the gradients of the loss with respect to the input and the parameters.

        Each parameter's ``grad`` is overwritten, not added to. What `forward` saved is released, so that every
        backward needs a forward of its own before it.

        Parameters
        ----------
        dy : array of ``self.device``, in shape and dtype of the output of the last `forward`
            Gradient of the loss with respect to that output. It is not modified.

        Returns
        -------
        array of ``self.device``, in the shape of forward's x, or None
            Gradient of the loss with respect to x. None if ``input_gradient`` is False and the layer makes use of it.

        Raises
        ------
        OrderError
            If no forward came before; it is a RuntimeError too.
        ShapeError
            On a GPU, if dy's dtype is not that of forward's x and the layer uses kernels.
        """
        raise NotImplementedError

    @property
    def name(self) -> str:
        return " ".join(self.names)

    @property
    def parameters(self) -> list[Parameter]:
        """This layer's `Parameter` objects, weights first."""
        return [value for value in list(vars(self).values()) if isinstance(value, Parameter)]

    @property
    def built(self) -> bool:
        """Whether `build` has been called, for a layer that needs it."""
        return all(parameter.value is not None for parameter in self.parameters)

    def named(self, *names: str) -> Self:
        """Set the name, or the columns' names, and return the layer."""
        self.names = names
        for parameter in self.parameters:
            parameter.names = names
        return self

    def build(self, device: Device = _HOST, seed: int | None = 0, dtype: DTypeLike = "float32") -> Self:
        """Put the layer on a device, draw its parameters' initial values, and return the layer.

        Parameters
        ----------
        device : Device
        seed : int or None
            Of the first values; None leaves the weights 0, to be loaded.
        dtype : str or dtype
            Of the parameters: float32 or float64.
        """
        given = _HOST.xp.dtype(dtype)
        self.expect(given.kind in "fc", f"parameters in {given}", "float32 or float64")
        self.device = device
        for parameter in self.parameters:
            parameter.build(device, seed, dtype)
        return self

    def replica(self) -> Self:
        """Return a layer that shares the parameter values and has its own saved state and gradients."""
        twin = copy.copy(self)
        twin.saved = None
        for name, value in list(vars(self).items()):  # another worker may be setting attributes of this layer
            if isinstance(value, Parameter):
                setattr(twin, name, value.replica())
        return twin

    def prepare(self, shape: tuple[int, ...]) -> None:
        """Compute what all blocks of a batch of (n, *shape) share; most layers have nothing to do."""

    def release(self) -> None:
        """Free what `prepare` computed."""

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return one image's output shape from its input shape."""
        return shape

    def multiply_adds(self, shape: tuple[int, ...]) -> int:
        """Return the multiply-adds of one image's forward pass."""
        return 0

    def check_input(self, x: Array) -> tuple[int, ...]:
        """Return the shape of one image's output, (ho, wo, o) or (o,), for the input of a forward.

        Raises
        ------
        ShapeError
            If x is no array of floating numbers, its shape does not fit, or the layer has not been built.
        """
        dtype = getattr(x, "dtype", None)
        self.expect(dtype is not None, f"x as a {type(x).__name__}", "an array: use numpy.array(x, 'float32')")
        reads = dtype.kind in "fc" or (dtype == BFLOAT16 and self.device.precision == "bf16")  # type: ignore[union-attr]
        if not reads:
            self.expect(False, f"x in {dtype}", "float32 or float64: use x.astype('float32')")
        self.expect(self.built, "x before build()", "build() first: layer.build().forward(x)")
        return self.output_shape(x.shape[1:])

    def pop_saved(self) -> Any:
        """Return what forward saved for backward, and release it."""
        if self.saved is None:
            raise OrderError(f"{self.name or type(self).__name__}: backward needs a forward before it")
        saved, self.saved = self.saved, None
        return saved

    def kernels_for(self, x: Array, cuda: ModuleType) -> ModuleType | None:
        """Choose the form of an operation in forward, as `Device.kernels_for` does, and keep it for backward."""
        self.form = self.device.kernels_for(x, cuda=cuda), x.dtype
        return self.form[0]

    def kernels_of_forward(self, dy: Array) -> ModuleType | None:
        """Return in backward what `kernels_for` returned in forward; kernels of a GPU need a dy in x's dtype."""
        kernels, dtype = self.form
        if kernels and not self.device.on_host and dy.dtype != dtype:
            self.expect(False, f"dy in {dy.dtype}", f"{dtype}, which x was: use dy.astype('{dtype}')")
        return kernels

    def whole(self, least: int = 1, **values: Any) -> list[int]:
        """Return a constructor's arguments as ints; raise a ShapeError unless each is a whole number from ``least`` on.

        >>> Layer().whole(kernel=3, stride=2)
        [3, 2]
        """
        for name, value in values.items():
            fits = isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least
            self.expect(fits, f"{name} {value!r}", f"a whole number, {least} or more")
        return [int(value) for value in values.values()]

    def real(self, least: float = -math.inf, below: float = math.inf, **values: Any) -> list[float]:
        """Return a constructor's arguments as floats; raise a ShapeError unless each is finite and in a range."""
        limits = f", {least:g} or more" if least > -math.inf else ""
        limits += f", below {below:g}" if below < math.inf else ""
        for name, value in values.items():
            number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
            self.expect(number and least <= value < below, f"{name} {value!r}", f"a finite number{limits}")
        return [float(value) for value in values.values()]

    def rounding_of(self, rounding: str) -> str:
        """Return a constructor's argument; raise a ShapeError unless it is "floor" or "ceil"."""
        self.expect(rounding in ("floor", "ceil"), f"rounding {rounding!r}", "'floor' or 'ceil'")
        return rounding

    def initial_values(self, std: float | str, bias: float) -> None:
        """Raise a ShapeError unless a constructor's arguments are a standard deviation, or "he", and a number."""
        if std != "he":
            self.real(0, std=std)
        self.real(bias=bias)

    def expect(self, condition: object, got: tuple[int, ...] | str, wanted: str) -> None:
        """Unless the condition holds, raise a ShapeError that names the layer, what it got and what it needs."""
        if not condition:
            got = got if isinstance(got, str) else tuple(got)
            raise ShapeError(f"{self.name or type(self).__name__}: got {got}, wants {wanted}")


def grouped(inputs: int, outputs: int, groups: int) -> list[tuple[slice, slice]]:
    """Return, for each group, the slices of its input channels and of its outputs."""
    return list(zip(ranges(inputs, groups), ranges(outputs, groups), strict=True))

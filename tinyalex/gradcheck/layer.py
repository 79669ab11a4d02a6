"""Check the gradients of one layer: of its input and of every parameter, element by element."""

import copy
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tinyalex.devices.device import Array, Device
from tinyalex.errors import UsageError
from tinyalex.gradcheck.compare import Result, compare, equal, refuse_other_dtypes, refuse_other_outputs, upstream_for
from tinyalex.gradcheck.slopes import Outputs, method_named
from tinyalex.randomness import Step

_CENTRAL = "use x's dtype for all arrays, or check with method='central'"
_NUMBERS = 1 << 16  # about how many input numbers a layer gets at once


def check(
    layer: Any,
    x: np.ndarray,
    training: bool = False,
    step: Step | None = None,
    parameters: dict[str, str] | Sequence[Any] | None = None,
    method: str = "complex",
    tolerance: float | None = None,
    seed: int = 0,
    images_alone: bool = False,
    name: str | None = None,
) -> list[Result]:
    """Compare the gradients of a layer's backward with numerical derivatives of its forward.

    Forward has to be a function of its input: it also runs twice with the same x, after a backward, and after other
    inputs, and always has to give the same output. Backward runs with two upstream gradients.

    Parameters
    ----------
    layer
        Anything with ``forward(x)`` and ``backward(dy)`` that returns dx.
    x : ndarray, float64
        On the host; copied to ``layer.device`` if the layer has one. All arrays that the layer gets are read-only.
    training : bool
        True calls ``forward(x, training=True, step=step)``.
    step : Step, optional
        In training: gives the same dropout mask in every pass.
    parameters : dict or list, optional
        ``{"W": "dW"}``: the attributes in which the layer has a parameter and in which backward leaves its gradient. Or
        a list of objects with ``value`` and ``grad`` (default: ``layer.parameters``, if there is one).
    method : {"complex", "central"}
    tolerance : float, optional
        Largest relative error of an element that passes, besides the error bar of its numerical derivative. Default:
        1e-12 for the complex step, 1e-8 for central differences.
    seed : int
        Seed of the random upstream gradient.
    images_alone : bool
        Whether the output of each row of x depends on this row alone; several changed copies are then computed at once.
    name : str, optional
        Name in the report.

    Returns
    -------
    list of Result
        First the input, "x", then the parameters.

    Raises
    ------
    UsageError
        If the layer lacks forward, backward, or an attribute that ``parameters`` names; if an array is not float64, or
        no array; if forward is random or keeps state, drops the imaginary part, or gives an output
        that is not finite; if the layer changes an argument or a parameter.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyalex import gradcheck, layers
    >>> linear = layers.Linear(4, 3).build(dtype="float64")
    >>> results = gradcheck.check(linear, np.arange(8.0).reshape(2, 4))
    >>> [(result.parameter, result.verdict) for result in results]
    [('x', 'ok'), ('W', 'ok'), ('b', 'ok')]
    """
    subject = _Subject(layer, training, step, parameters, name or getattr(layer, "name", "") or type(layer).__name__)
    method_named(method)
    refuse_other_dtypes(f"{subject.name} x", x)
    try:
        y, dxs, gradients, upstream = subject.analytic(x, seed)
        subject.expect_function(x, y, images_alone, method)
        rest: dict[str, Any] = {"upstream": upstream.reshape(-1), "method": method, "tolerance": tolerance}
        rest["chunk"] = max(1, min(256, _NUMBERS // max(x.size, y.size, 1)))
        results = []
        if getattr(layer, "input_gradient", True):
            results.append(compare(subject.name, "x", x, dxs, subject.of_inputs(images_alone), **rest))
        for (label, slot), runs in zip(subject.slots, gradients, strict=True):
            outputs = subject.of_parameter(slot, x)
            results.append(compare(subject.name, label, slot.host, runs, outputs, **rest))
        subject.expect_same(y, x, "after many other inputs")
        return results
    finally:
        for _, slot in subject.slots:
            slot.put(slot.original)


class _Slot:
    """The attributes of a parameter's value and of its gradient."""

    host: np.ndarray

    def __init__(self, owner: Any, value: str, gradient: str) -> None:
        self.owner, self.value, self.gradient = owner, value, gradient
        self.original = _attribute(owner, value, "a parameter")

    def put(self, array: Array) -> None:
        setattr(self.owner, self.value, array)


class _Subject:
    def __init__(
        self,
        layer: Any,
        training: bool,
        step: Step | None,
        parameters: dict[str, str] | Sequence[Any] | None,
        name: str,
    ) -> None:
        for method in ("forward", "backward"):
            if not callable(getattr(layer, method, None)):
                raise UsageError(f"{name}: has no {method}; give an object with forward(x) and backward(dy)")
        self.layer, self.fresh, self.name = layer, copy.copy(layer), name
        self.options: dict[str, Any] = {"training": True, "step": step} if training else {}
        device = getattr(layer, "device", None)
        self.device = device if isinstance(device, Device) else Device("cpu")
        parameters = getattr(layer, "parameters", ()) if parameters is None else parameters
        if isinstance(parameters, str) or not isinstance(parameters, dict | Iterable):
            raise UsageError(
                f"{name}: parameters is a {type(parameters).__name__}; give parameters={{'W': 'dW'}}, the names of the "
                "attributes with a parameter and with its gradient, or a list of objects with value and grad"
            )
        if isinstance(parameters, dict):
            self.slots = [(value, _Slot(layer, value, gradient)) for value, gradient in parameters.items()]
        else:
            self.slots = [(_label(p, number), _Slot(p, "value", "grad")) for number, p in enumerate(parameters)]
        for label, slot in self.slots:
            refuse_other_dtypes(f"{name} {label}", slot.original)
            slot.host = self.device.get(slot.original)

    def analytic(
        self, x: np.ndarray, seed: int
    ) -> tuple[np.ndarray, list[np.ndarray | None], list[tuple[np.ndarray | None, ...]], np.ndarray]:
        """Run forward and backward; return the output, dx and the parameters' gradients, and the upstream gradient.

        Backward runs twice, to find gradients that accumulate by mistake; the second time with another upstream
        gradient, -4 times the first one, to find those that are not proportional to it. The results are divided by the
        same factor.
        """
        self._fill(np.float64)
        y = self._forward(x)
        refuse_other_dtypes(f"{self.name} output", y)
        if not np.isfinite(y).all():
            raise UsageError(f"{self.name}: forward's output for x is not finite; check at an x where it is")
        upstream, dxs, gradients = upstream_for(y.shape, seed, self.name), [], []
        for factor in (1, -4):
            self.expect_same(y, x, "called twice" if factor == 1 else "after a backward")
            dx = self._call("backward", factor * upstream)
            with self.device:
                runs = [self._fetch(_attribute(slot.owner, slot.gradient, "a gradient")) for _, slot in self.slots]
            self._expect_parameters("backward")
            dxs.append(None if dx is None else dx / factor)
            gradients.append([None if gradient is None else gradient / factor for gradient in runs])
        return y, dxs, list(zip(*gradients, strict=True)), upstream

    def expect_function(self, x: np.ndarray, y: np.ndarray, images_alone: bool, method: str) -> None:
        """Raise UsageError if the output for x depends on anything else: inputs before it, other rows, x's dtype."""
        other = np.where(x == 0, 0.001, 0.999 * x)  # in the same domain
        with np.errstate(all="ignore"):
            after, layer = self._forward(other), self.layer
            self.layer = self.fresh
            refuse_other_outputs(self.name, after, self._forward(other), "before and after another input")
            self.layer = layer
        self.expect_same(y, x, "after another input")
        if images_alone:
            with np.errstate(all="ignore"):
                both = self._forward(np.concatenate([x, other]))[: len(y)]
            if not equal(both, y):
                raise UsageError(f"{self.name}: an output depends on other rows of x; check with images_alone=False")
        if method == "complex":
            self._fill(np.complex128)
            if not equal(self._forward(x.astype(np.complex128)), y):
                raise UsageError(f"{self.name}: forward gives another output if x is complex; {_CENTRAL}")

    def expect_same(self, y: np.ndarray, x: np.ndarray, when: str) -> None:
        """Raise UsageError unless forward gives the output y for x again."""
        self._fill(np.float64)
        refuse_other_outputs(self.name, self._forward(x), y, when)
        self._expect_parameters("forward")

    def _expect_parameters(self, name: str) -> None:
        for label, slot in self.slots:
            if not np.array_equal(self._fetch(getattr(slot.owner, slot.value)), slot.host, equal_nan=True):
                raise UsageError(f"{self.name}: {name} changes {label}; leave updates to an optimizer")

    def of_inputs(self, images_alone: bool) -> Outputs:
        def outputs(points: np.ndarray) -> np.ndarray:
            self._fill(points.dtype)
            if images_alone:
                return self._forward(points.reshape(-1, *points.shape[2:])).reshape(len(points), -1)
            return np.stack([self._forward(point).reshape(-1) for point in points])

        return outputs

    def of_parameter(self, slot: _Slot, x: np.ndarray) -> Outputs:
        def outputs(points: np.ndarray) -> np.ndarray:
            self._fill(points.dtype)
            rows = []
            for point in points:
                slot.put(self._send(point))
                rows.append(self._forward(x.astype(points.dtype)).reshape(-1))
            return np.stack(rows)

        return outputs

    def _fill(self, dtype: type | np.dtype) -> None:
        # Convert all parameters to one dtype, so that a layer can combine them with its input in one array.
        for _, slot in self.slots:
            slot.put(self._send(slot.host.astype(dtype)))

    def _forward(self, x: np.ndarray) -> np.ndarray:
        y = self._call("forward", x, **self.options)
        if x.dtype.kind == "c" and y.dtype.kind != "c":
            raise UsageError(f"{self.name}: forward drops the imaginary part; {_CENTRAL}")
        return y

    def _call(self, name: str, array: np.ndarray, **options: Any) -> Any:
        # Call forward or backward with a read-only copy of an array; return a copy of what it returns.
        changes = UsageError(f"{self.name}: {name} changes its argument; write the result to a new array")
        try:
            with self.device, warnings.catch_warnings():
                warnings.simplefilter("error", np.exceptions.ComplexWarning)
                argument = self._send(array)
                result = self._fetch(getattr(self.layer, name)(argument, **options))
                if not self.device.on_host and not np.array_equal(self._fetch(argument), array, equal_nan=True):
                    raise changes
                return result
        except np.exceptions.ComplexWarning as error:
            raise UsageError(f"{self.name}: {name} drops an imaginary part; {_CENTRAL}") from error
        except ValueError as error:
            if "read-only" not in str(error):
                raise
            raise changes from error

    def _send(self, array: np.ndarray) -> Array:
        array = self.device.put(array)
        if self.device.on_host:
            array.flags.writeable = False
        return array

    def _fetch(self, array: Array) -> Any:
        return None if array is None else self.device.get(array)


def _attribute(owner: Any, name: str, what: str) -> Any:
    if not hasattr(owner, name):
        kind = type(owner).__name__
        raise UsageError(f"{kind}: has no attribute '{name}', where {what} was expected; correct parameters={{...}}")
    return getattr(owner, name)


def _label(parameter: Any, number: int) -> str:
    return getattr(parameter, "name", None) or getattr(parameter, "kind", None) or f"parameter {number}"

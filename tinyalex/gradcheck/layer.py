"""Check the gradients of one layer: of its input and of every parameter, element by element."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyalex.devices.device import Array, Device
from tinyalex.errors import UsageError
from tinyalex.gradcheck.compare import Outputs, Result, compare, method_named, refuse_other_dtypes, upstream_for
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
        Default: 1e-12 for the complex step, 1e-8 for central differences.
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
        If an array is not float64, if forward drops the imaginary part, or if the layer changes an argument.

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
    for label, slot in subject.slots:
        refuse_other_dtypes(f"{subject.name} {label}", slot.original)
    try:
        y, dx, gradients, upstream = subject.analytic(x, seed)
        rest: dict[str, Any] = {"upstream": upstream.reshape(-1), "method": method, "tolerance": tolerance}
        rest["chunk"] = max(1, min(256, _NUMBERS // max(x.size, y.size, 1)))
        results = []
        if getattr(layer, "input_gradient", True):
            results.append(compare(subject.name, "x", x, dx, subject.of_inputs(images_alone), **rest))
        for (label, slot), gradient in zip(subject.slots, gradients, strict=True):
            outputs = subject.of_parameter(slot, x)
            results.append(compare(subject.name, label, slot.host, gradient, outputs, **rest))
        return results
    finally:
        for _, slot in subject.slots:
            slot.put(slot.original)


class _Slot:
    """The attributes of a parameter's value and of its gradient."""

    host: np.ndarray

    def __init__(self, owner: Any, value: str, gradient: str) -> None:
        self.owner, self.value, self.gradient = owner, value, gradient
        self.original = getattr(owner, value)

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
        self.layer, self.name = layer, name
        self.options: dict[str, Any] = {"training": True, "step": step} if training else {}
        self.device = getattr(layer, "device", None) or Device("cpu")
        parameters = getattr(layer, "parameters", ()) if parameters is None else parameters
        if isinstance(parameters, dict):
            self.slots = [(value, _Slot(layer, value, gradient)) for value, gradient in parameters.items()]
        else:
            self.slots = [(_label(p, number), _Slot(p, "value", "grad")) for number, p in enumerate(parameters)]
        for _, slot in self.slots:
            slot.host = self.device.get(slot.original)

    def analytic(
        self, x: np.ndarray, seed: int
    ) -> tuple[np.ndarray, np.ndarray | None, list[np.ndarray | None], np.ndarray]:
        """Run forward and backward; return the output, dx, the parameters' gradients, and the upstream gradient."""
        with self.device:
            self._fill(np.float64)
            y = self._forward(x)
            upstream = upstream_for(y.shape, seed, self.name)
            for _ in range(2):  # twice, to find gradients that accumulate by mistake
                self._forward(x)
                dx = self._call("backward", self._send(upstream))
            gradients = [getattr(slot.owner, slot.gradient) for _, slot in self.slots]
            return y, *(self._fetch(dx), [self._fetch(gradient) for gradient in gradients]), upstream

    def of_inputs(self, images_alone: bool) -> Outputs:
        def outputs(points: np.ndarray) -> np.ndarray:
            self._fill(points.dtype)
            with self.device:
                if images_alone:
                    return self._forward(points.reshape(-1, *points.shape[2:])).reshape(len(points), -1)
                return np.stack([self._forward(point).reshape(-1) for point in points])

        return outputs

    def of_parameter(self, slot: _Slot, x: np.ndarray) -> Outputs:
        def outputs(points: np.ndarray) -> np.ndarray:
            self._fill(points.dtype)
            rows = []
            with self.device:
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
        y = self._fetch(self._call("forward", self._send(x), **self.options))
        if x.dtype.kind == "c" and y.dtype.kind != "c":
            raise UsageError(f"{self.name}: forward drops the imaginary part; {_CENTRAL}")
        return y

    def _call(self, name: str, *arguments: Array, **options: Any) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", np.exceptions.ComplexWarning)
                return getattr(self.layer, name)(*arguments, **options)
        except np.exceptions.ComplexWarning as error:
            raise UsageError(f"{self.name}: {name} drops an imaginary part; {_CENTRAL}") from error
        except ValueError as error:
            if "read-only" not in str(error):
                raise
            raise UsageError(f"{self.name}: {name} changes its argument; write the result to a new array") from error

    def _send(self, array: np.ndarray) -> Array:
        array = self.device.put(array)
        if self.device.on_host:
            array.flags.writeable = False
        return array

    def _fetch(self, array: Array) -> Any:
        return None if array is None else self.device.get(array)


def _label(parameter: Any, number: int) -> str:
    return getattr(parameter, "name", None) or getattr(parameter, "kind", None) or f"parameter {number}"

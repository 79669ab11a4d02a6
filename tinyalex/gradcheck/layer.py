"""The gradient check of one layer: its input and every parameter, element by element."""

import warnings

import numpy as np

from tinyalex.devices.device import Device
from tinyalex.errors import UsageError
from tinyalex.gradcheck.compare import compare, method_named, refuse_other_dtypes, upstream_for

_CENTRAL = "compute in x's dtype, or check with method='central'"
_NUMBERS = 1 << 16  # about as many input numbers go through a layer at once


def check(
    layer,
    x,
    training=False,
    step=None,
    parameters=None,
    method="complex",
    tolerance=None,
    seed=0,
    images_alone=False,
    name=None,
):
    """Check a layer's backward against its forward.

    Parameters
    ----------
    layer
        Anything with ``forward(x)`` and ``backward(dy)`` that returns dx.
    x : ndarray, float64
        On the host; goes to ``layer.device`` if there is one. The layer gets it read-only, as it gets everything.
    training : bool
        True calls ``forward(x, training=True, step=step)``.
    step : Step, optional
        In training: gives the same dropout mask in every pass.
    parameters : dict or list, optional
        ``{"W": "dW"}``: attribute of the layer that holds a value, and attribute where backward leaves its gradient.
        Or objects with ``value`` and ``grad``; without it, ``layer.parameters`` if there is such.
    method : {"complex", "central"}
    tolerance : float, optional
        1e-12 by complex step and 1e-8 by central differences if not given.
    seed : int
        Of the random upstream gradient.
    images_alone : bool
        Whether the layer treats every row of x by itself; many changed copies then go through it at once.
    name : str, optional
        For the report.

    Returns
    -------
    list of Result
        The input's, "x", then the parameters'.

    Raises
    ------
    UsageError
        If an array is not float64, forward drops the imaginary part, or the layer writes to its arguments.
    """
    subject = _Subject(layer, training, step, parameters, name or getattr(layer, "name", "") or type(layer).__name__)
    method_named(method)
    refuse_other_dtypes(f"{subject.name} x", x)
    for label, slot in subject.slots:
        refuse_other_dtypes(f"{subject.name} {label}", slot.original)
    try:
        y, dx, gradients, upstream = subject.analytic(x, seed)
        rest = {"upstream": upstream.reshape(-1), "method": method, "tolerance": tolerance}
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
    """Where a parameter lives: an attribute for its value and one for its gradient."""

    def __init__(self, owner, value, gradient):
        self.owner, self.value, self.gradient = owner, value, gradient
        self.original = getattr(owner, value)

    def put(self, array):
        setattr(self.owner, self.value, array)


class _Subject:
    def __init__(self, layer, training, step, parameters, name):
        self.layer, self.name = layer, name
        self.options = {"training": True, "step": step} if training else {}
        self.device = getattr(layer, "device", None) or Device("cpu")
        parameters = getattr(layer, "parameters", ()) if parameters is None else parameters
        if isinstance(parameters, dict):
            self.slots = [(value, _Slot(layer, value, gradient)) for value, gradient in parameters.items()]
        else:
            self.slots = [(_label(p, number), _Slot(p, "value", "grad")) for number, p in enumerate(parameters)]
        for _, slot in self.slots:
            slot.host = self.device.get(slot.original)

    def analytic(self, x, seed):
        """Run forward and backward once: the output, dx, the parameters' gradients, and the upstream gradient."""
        with self.device:
            self._fill(np.float64)
            y = self._forward(x)
            upstream = upstream_for(y.shape, seed, self.name)
            for _ in range(2):  # gradients that add up show the second time
                self._forward(x)
                dx = self._call("backward", self._send(upstream))
            gradients = [getattr(slot.owner, slot.gradient) for _, slot in self.slots]
            return y, *(self._fetch(dx), [self._fetch(gradient) for gradient in gradients]), upstream

    def of_inputs(self, images_alone):
        def outputs(points):
            self._fill(points.dtype)
            with self.device:
                if images_alone:
                    return self._forward(points.reshape(-1, *points.shape[2:])).reshape(len(points), -1)
                return np.stack([self._forward(point).reshape(-1) for point in points])

        return outputs

    def of_parameter(self, slot, x):
        def outputs(points):
            self._fill(points.dtype)
            rows = []
            with self.device:
                for point in points:
                    slot.put(self._send(point))
                    rows.append(self._forward(x.astype(points.dtype)).reshape(-1))
            return np.stack(rows)

        return outputs

    def _fill(self, dtype):
        # All in one dtype, so that what a layer makes of its input and its parameters fits into one array.
        for _, slot in self.slots:
            slot.put(self._send(slot.host.astype(dtype)))

    def _forward(self, x):
        y = self._fetch(self._call("forward", self._send(x), **self.options))
        if x.dtype.kind == "c" and y.dtype.kind != "c":
            raise UsageError(f"{self.name}: forward drops the imaginary part; {_CENTRAL}")
        return y

    def _call(self, name, *arguments, **options):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", np.exceptions.ComplexWarning)
                return getattr(self.layer, name)(*arguments, **options)
        except np.exceptions.ComplexWarning as error:
            raise UsageError(f"{self.name}: {name} drops an imaginary part; {_CENTRAL}") from error
        except ValueError as error:
            if "read-only" not in str(error):
                raise
            raise UsageError(f"{self.name}: {name} changes its argument; write to a new array") from error

    def _send(self, array):
        array = self.device.put(array)
        if self.device.on_host:
            array.flags.writeable = False
        return array

    def _fetch(self, array):
        return None if array is None else self.device.get(array)


def _label(parameter, number):
    return getattr(parameter, "name", None) or getattr(parameter, "kind", None) or f"parameter {number}"

"""One tensor's gradient against derivatives of the forward pass, element by element, and the table of the verdicts."""

from dataclasses import dataclass

import numpy as np

from tinyalex import randomness
from tinyalex.errors import ShapeError, UsageError

_ROUNDING = 2e-14  # of an output, some hundred times that of one operation


@dataclass(frozen=True)
class Method:
    """A way to take derivatives: its step, the error it allows, and how closely it looks for kinks.

    A kink is looked for within ``reach`` of the point; slopes that differ by less than ``sharp`` of the tensor's
    largest derivative are taken for rounding.
    """

    step: float
    tolerance: float
    reach: float
    sharp: float


METHODS = {
    "complex": Method(step=1e-30, tolerance=1e-12, reach=1e-8, sharp=1e-6),
    "central": Method(step=1e-5, tolerance=1e-8, reach=1e-5, sharp=1e-8),
}


@dataclass(frozen=True)
class Result:
    """What the check of one tensor found.

    Attributes
    ----------
    layer, parameter : str
    size : int
        Number of derivatives.
    exact : bool
        Whether all are equal to the last bit.
    error : float
        The largest difference, over the largest derivative of the tensor; at differentiable points only.
    tolerance : float
    kinks : int
        Points where the function has no derivative, and backward is off by no more than twice what the slopes to both
        sides differ by: they neither pass nor fail.
    largest : float
        The largest derivative; 0 where the check says nothing, because nothing came through.
    place : tuple of int
        Index of the largest difference; ``analytic`` and ``numeric`` are the values there.
    """

    layer: str
    parameter: str
    size: int
    exact: bool
    error: float
    tolerance: float
    kinks: int
    largest: float
    place: tuple
    analytic: float
    numeric: float

    @property
    def failed(self):
        return not self.error <= self.tolerance

    @property
    def verdict(self):
        if self.failed:
            return "FAIL"
        if self.kinks:
            return f"not differentiable here ({self.kinks} of {self.size})"
        return "ok" if self.largest else "all zero"


def method_named(name):
    """Return the `Method` of that name, or refuse it."""
    if name not in METHODS:
        raise UsageError(f"method: '{name}' is not one; use complex or central")
    return METHODS[name]


def refuse_other_dtypes(what, array):
    """Refuse everything but float64: in float32 rounding hides wrong gradients."""
    if array.dtype != np.float64:
        raise UsageError(f"{what}: gradients are checked in float64, not {array.dtype}; build and feed it in float64")


def compare(layer, parameter, value, gradient, outputs, upstream, method="complex", tolerance=None, chunk=32):
    """Compare a gradient with derivatives in every element.

    Parameters
    ----------
    layer, parameter : str
        Names for the report.
    value, gradient : ndarray, float64, the same shape
        Where to look, and what backward says.
    outputs : callable
        Takes values stacked along a new first axis, (count, *shape), real or complex, and returns what the forward
        pass makes of each, (count, m).
    upstream : ndarray, shape (m,)
        The gradient of the outputs that backward was given.
    method : {"complex", "central"}
    tolerance : float, optional
    chunk : int
        How many values to hand over at once.

    Returns
    -------
    Result
    """
    way = method_named(method)
    if gradient is None or gradient.shape != value.shape:
        found = "no gradient" if gradient is None else f"a gradient of shape {gradient.shape}"
        raise ShapeError(f"{layer} {parameter}: backward left {found}, wants {value.shape}")
    tolerance = way.tolerance if tolerance is None else tolerance
    size = max(1.0, float(np.abs(value).max(initial=0.0)))

    here = outputs(value[None])[0]

    def slopes(elements):
        if method == "complex":
            return (outputs(_moved(value, elements, way.step * 1j)) @ upstream).imag / way.step
        step = way.step * size
        plus, minus = (outputs(_moved(value, elements, sign * step)) for sign in (1, -1))
        return (plus - minus) @ upstream / (2 * step)

    def noise(elements):
        step = way.step * size
        changed = outputs(_moved(value, elements, step)) != here
        return changed @ np.abs(here * upstream) * _ROUNDING / (2 * step)

    everywhere = np.arange(value.size)
    numeric, analytic = _in_chunks(slopes, everywhere, chunk), gradient.reshape(-1)
    difference, scale = np.abs(analytic - numeric), np.abs(numeric).max(initial=0.0)
    suspects = everywhere[~(difference <= tolerance * scale)]
    if method == "central":  # what rounding alone can do is no error
        difference[suspects] -= np.minimum(difference[suspects], _in_chunks(noise, suspects, chunk))
        suspects = everywhere[~(difference <= tolerance * scale)]
    bend = _Bend(value, outputs, here, upstream, way.reach * size, way.sharp * scale)
    if bend.along_all():
        suspects = everywhere
    kinks = suspects[_in_chunks(bend.at, suspects, chunk).astype(bool)]
    kinks = kinks[difference[kinks] <= 2 * _in_chunks(bend.gap, kinks, chunk)]  # no kink excuses what lies far outside

    difference[kinks] = 0.0
    worst = int(np.argmax(difference)) if value.size else 0
    largest = float(difference.max(initial=0.0))
    return Result(
        layer, parameter, value.size,
        exact=bool(np.array_equal(analytic, numeric)),
        error=largest if largest == 0 or np.isnan(largest) else largest / float(scale) if scale else np.inf,
        tolerance=tolerance,
        kinks=len(kinks),
        largest=float(scale),
        place=tuple(int(i) for i in np.unravel_index(worst, value.shape)) if value.size else (),
        analytic=float(analytic[worst]) if value.size else 0.0,
        numeric=float(numeric[worst]) if value.size else 0.0,
    )  # fmt: skip


class _Bend:
    """Whether the slopes to both sides of a point differ by more than curvature explains.

    Over a distance e, curvature makes them differ in proportion to e, a kink does not: the difference at e is compared
    with twice that at e/2 and, because a kink a third of the way off would look straight, thrice that at e/3.
    """

    def __init__(self, value, outputs, here, upstream, reach, sharp):
        self.value, self.outputs, self.here, self.upstream = value, outputs, here, upstream
        self.reach, self.sharp = reach, sharp

    def along_all(self):
        """Look along one random direction that moves every element; no kink there means none anywhere."""
        # No two by the same amount: the largest of several equals has no kink where all move alike.
        direction = randomness.normal(0, np.arange(self.value.size)).reshape(self.value.shape)
        direction /= max(1.0, np.linalg.norm(direction))
        return bool(np.any(list(self._bent(lambda step: (self.value + step * direction)[None]))))

    def at(self, elements):
        """Look along each of some elements."""
        return np.any(list(self._bent(lambda step: _moved(self.value, elements, step))), axis=0)

    def gap(self, elements):
        """By how much the slopes to both sides differ."""
        plus, minus = (self.outputs(_moved(self.value, elements, sign * self.reach)) - self.here for sign in (1, -1))
        return np.abs((plus + minus) @ self.upstream) / self.reach

    def _bent(self, points):
        def bend(step):
            plus, minus = (self.outputs(points(sign * step)) - self.here for sign in (1, -1))
            noise = ((plus != 0) | (minus != 0)) @ np.abs(self.here * self.upstream) * _ROUNDING
            return (plus + minus) @ self.upstream / step, noise / step

        whole, _ = bend(self.reach)
        for part in (2, 3):
            slope, noise = bend(self.reach / part)
            yield np.abs(whole - part * slope) > self.sharp + part * noise


def _moved(value, elements, step):
    # Copies of the value, in each of which one element is moved by the step.
    points = np.empty((len(elements), value.size), np.result_type(value, type(step)))
    points[...] = value.reshape(-1)
    points[np.arange(len(elements)), elements] += step
    return points.reshape(-1, *value.shape)


def _in_chunks(function, elements, chunk):
    parts = [function(elements[low : low + chunk]) for low in range(0, len(elements), chunk)]
    return np.concatenate(parts) if parts else np.zeros(0)


def upstream_for(shape, seed, *purpose):
    """Draw a random gradient for an output, float64: of either sign and never near zero, so that nothing hides."""
    key, index = randomness.key(seed, "upstream", *purpose), np.arange(int(np.prod(shape))).reshape(shape)
    return np.where(randomness.bits(key, index, 1) & 1, 1.0, -1.0) * (0.5 + randomness.uniform(key, index, 0))


def table(results):
    """Write results as text, at most 80 columns wide: parameter, exact or approximate, largest error, verdict."""
    lines = [f"{'layer':24} {'parameter':16} {'exact':5} {'approximate':11} {'max error':>9}  verdict"]
    for result in results:
        exact, close = str(result.exact), str(not result.failed)
        verdict = "kinks" if result.kinks and not result.failed else result.verdict
        row = f"{result.layer:24} {result.parameter:16} {exact:5} {close:11} {result.error:9.1e}  {verdict}"
        lines.append(row)
        if result.failed:
            lines.append(f"  at {list(result.place)}: backward {result.analytic:.12g}, forward {result.numeric:.12g}")
        elif result.kinks:
            lines.append(f"  {result.verdict}")
    failed, total = sum(result.failed for result in results), sum(result.size for result in results)
    silent = sum(not result.largest for result in results)
    ending = f"{failed} of {len(results)} tensors FAIL" if failed else f"no error in {len(results)} tensors"
    ending += f", {silent} of them all zero" if silent else ""
    return "\n".join([*lines, f"{ending}, {total:,} derivatives"])

"""Compare the gradient of one tensor with numerical derivatives, element by element; print a table of the results."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from tinyalex import randomness
from tinyalex.devices.device import Array
from tinyalex.errors import ShapeError, UsageError

_ROUNDING = 2e-14  # relative error of an output that rounding can cause: about a hundred operations


Outputs: TypeAlias = Callable[[np.ndarray], np.ndarray]  # stacked values to the outputs of forward for each of them


@dataclass(frozen=True)
class Method:
    """A way to compute numerical derivatives.

    Attributes
    ----------
    step : float
        h.
    tolerance : float
        The largest error that passes, relative to the tensor's largest derivative.
    reach : float
        How far from the point a non-differentiable point is looked for.
    sharp : float
        Slopes to both sides that differ by less than this share of the tensor's largest derivative count as equal.
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
    """The result of checking one tensor.

    Attributes
    ----------
    layer, parameter : str
    size : int
        Number of derivatives.
    exact : bool
        Whether gradient and numerical derivatives are equal to the last bit.
    error : float
        The largest difference divided by the largest derivative of the tensor, at differentiable points only.
    tolerance : float
    nondifferentiable : int
        Number of points where the function has no derivative and the gradient differs from the numerical derivative by
        at most twice the difference of the slopes to both sides. They neither pass nor fail.
    largest : float
        The largest derivative; if it is 0, the check shows nothing.
    index : tuple of int
        Index of the largest difference; ``analytic`` and ``numeric`` are the gradient and the numerical derivative
        there.
    """

    layer: str
    parameter: str
    size: int
    exact: bool
    error: float
    tolerance: float
    nondifferentiable: int
    largest: float
    index: tuple[int, ...]
    analytic: float
    numeric: float

    @property
    def failed(self) -> bool:
        return not self.error <= self.tolerance

    @property
    def verdict(self) -> str:
        if self.failed:
            return "FAIL"
        if self.nondifferentiable:
            return f"not differentiable here ({self.nondifferentiable} of {self.size})"
        return "ok" if self.largest else "all zero"


def method_named(name: str) -> Method:
    """Return the `Method` with this name.

    Raises
    ------
    UsageError
        For an unknown name.
    """
    if name not in METHODS:
        raise UsageError(f"method: '{name}' is unknown; use complex or central")
    return METHODS[name]


def refuse_other_dtypes(what: str, array: Array) -> None:
    """Raise `UsageError` unless an array is float64: in float32, rounding hides wrong gradients."""
    if array.dtype != np.float64:
        raise UsageError(
            f"{what}: gradients are checked in float64, not {array.dtype}; use float64 for layer and input"
        )


def compare(
    layer: str,
    parameter: str,
    value: np.ndarray,
    gradient: np.ndarray | None,
    outputs: Outputs,
    upstream: np.ndarray,
    method: str = "complex",
    tolerance: float | None = None,
    chunk: int = 32,
) -> Result:
    """Compare a gradient with numerical derivatives, element by element.

    Parameters
    ----------
    layer, parameter : str
        Names for the report.
    value, gradient : ndarray, float64, the same shape
        The point, and the gradient that backward computed there.
    outputs : callable
        Takes values stacked along a new first axis, (count, *shape), real or complex, and returns the outputs of
        forward for each of them, (count, m).
    upstream : ndarray, shape (m,)
        The gradient of the outputs that backward was given.
    method : {"complex", "central"}
    tolerance : float, optional
    chunk : int
        How many values are passed to ``outputs`` at once.

    Returns
    -------
    Result
    """
    settings = method_named(method)
    if gradient is None or gradient.shape != value.shape:
        found = "no gradient" if gradient is None else f"a gradient of shape {gradient.shape}"
        raise ShapeError(f"{layer} {parameter}: backward left {found}, expected shape {value.shape}")
    tolerance = settings.tolerance if tolerance is None else tolerance
    size = max(1.0, float(np.abs(value).max(initial=0.0)))

    here = outputs(value[None])[0]

    def slopes(elements: np.ndarray) -> np.ndarray:
        if method == "complex":
            return (outputs(_moved(value, elements, settings.step * 1j)) @ upstream).imag / settings.step
        step = settings.step * size
        plus, minus = (outputs(_moved(value, elements, sign * step)) for sign in (1, -1))
        return (plus - minus) @ upstream / (2 * step)

    def noise(elements: np.ndarray) -> np.ndarray:
        step = settings.step * size
        changed = outputs(_moved(value, elements, step)) != here
        return changed @ np.abs(here * upstream) * _ROUNDING / (2 * step)

    everywhere = np.arange(value.size)
    numeric, analytic = _in_chunks(slopes, everywhere, chunk), gradient.reshape(-1)
    difference, scale = np.abs(analytic - numeric), np.abs(numeric).max(initial=0.0)
    suspects = everywhere[~(difference <= tolerance * scale)]
    if method == "central":  # subtract what rounding alone can cause
        difference[suspects] -= np.minimum(difference[suspects], _in_chunks(noise, suspects, chunk))
        suspects = everywhere[~(difference <= tolerance * scale)]
    bend = _Bend(value, outputs, here, upstream, settings.reach * size, settings.sharp * scale)
    if bend.along_all():
        suspects = everywhere
    exempt = suspects[_in_chunks(bend.at, suspects, chunk).astype(bool)]  # not differentiable there
    exempt = exempt[difference[exempt] <= 2 * _in_chunks(bend.gap, exempt, chunk)]  # a gradient further off is wrong

    difference[exempt] = 0.0
    worst = int(np.argmax(difference)) if value.size else 0
    largest = float(difference.max(initial=0.0))
    return Result(
        layer, parameter, value.size,
        exact=bool(np.array_equal(analytic, numeric)),
        error=largest if largest == 0 or np.isnan(largest) else largest / float(scale) if scale else np.inf,
        tolerance=tolerance,
        nondifferentiable=len(exempt),
        largest=float(scale),
        index=tuple(int(i) for i in np.unravel_index(worst, value.shape)) if value.size else (),
        analytic=float(analytic[worst]) if value.size else 0.0,
        numeric=float(numeric[worst]) if value.size else 0.0,
    )  # fmt: skip


class _Bend:
    """Finds non-differentiable points, where the slopes to both sides differ by more than curvature explains.

    Curvature makes the slopes over a distance e differ in proportion to e; at a non-differentiable point the difference
    does not shrink with e. The difference at e is therefore compared with twice the difference at e/2, and with three
    times that at e/3, because a non-differentiable point at a third of the distance would pass the first comparison.
    """

    def __init__(
        self, value: np.ndarray, outputs: Outputs, here: np.ndarray, upstream: np.ndarray, reach: float, sharp: float
    ) -> None:
        self.value, self.outputs, self.here, self.upstream = value, outputs, here, upstream
        self.reach, self.sharp = reach, sharp

    def along_all(self) -> bool:
        """Whether there is such a point along one random direction, which moves all elements. If not, none exists."""
        # Elements move by different amounts: the maximum of equal elements that move alike would look differentiable.
        direction = randomness.normal(0, np.arange(self.value.size)).reshape(self.value.shape)
        direction /= max(1.0, np.linalg.norm(direction))
        return bool(np.any(list(self._bent(lambda step: (self.value + step * direction)[None]))))

    def at(self, elements: np.ndarray) -> np.ndarray:
        """Whether the function has such a point in the direction of each of these elements."""
        return np.any(list(self._bent(lambda step: _moved(self.value, elements, step))), axis=0)

    def gap(self, elements: np.ndarray) -> np.ndarray:
        """Return the difference of the slopes to both sides, for each of these elements."""
        plus, minus = (self.outputs(_moved(self.value, elements, sign * self.reach)) - self.here for sign in (1, -1))
        return np.abs((plus + minus) @ self.upstream) / self.reach

    def _bent(self, points: Callable[[float], np.ndarray]) -> Iterator[np.ndarray]:
        def bend(step: float) -> tuple[np.ndarray, np.ndarray]:
            plus, minus = (self.outputs(points(sign * step)) - self.here for sign in (1, -1))
            noise = ((plus != 0) | (minus != 0)) @ np.abs(self.here * self.upstream) * _ROUNDING
            return (plus + minus) @ self.upstream / step, noise / step

        whole, _ = bend(self.reach)
        for part in (2, 3):
            slope, noise = bend(self.reach / part)
            yield np.abs(whole - part * slope) > self.sharp + part * noise


def _moved(value: np.ndarray, elements: np.ndarray, step: float | complex) -> np.ndarray:
    # Return copies of the value; in each copy one of the elements is changed by the step.
    points = np.empty((len(elements), value.size), np.result_type(value, type(step)))
    points[...] = value.reshape(-1)
    points[np.arange(len(elements)), elements] += step
    return points.reshape(-1, *value.shape)


def _in_chunks(function: Callable[[np.ndarray], np.ndarray], elements: np.ndarray, chunk: int) -> np.ndarray:
    parts = [function(elements[low : low + chunk]) for low in range(0, len(elements), chunk)]
    return np.concatenate(parts) if parts else np.zeros(0)


def upstream_for(shape: tuple[int, ...], seed: int, *purpose: int | str) -> np.ndarray:
    """Draw a random upstream gradient, float64, of both signs and never near zero, so that every output counts."""
    key, index = randomness.key(seed, "upstream", *purpose), np.arange(int(np.prod(shape))).reshape(shape)
    return np.where(randomness.bits(key, index, 1) & 1, 1.0, -1.0) * (0.5 + randomness.uniform(key, index, 0))


def table(results: Sequence[Result]) -> str:
    """Return results as text, at most 80 columns wide: layer, parameter, exact, approximate, largest error, verdict."""
    lines = [f"{'layer':24} {'parameter':16} {'exact':5} {'approximate':11} {'max error':>9}  verdict"]
    for result in results:
        exact, close = str(result.exact), str(not result.failed)
        verdict = "see below" if result.nondifferentiable and not result.failed else result.verdict
        row = f"{result.layer:24} {result.parameter:16} {exact:5} {close:11} {result.error:9.1e}  {verdict}"
        lines.append(row)
        if result.failed:
            lines.append(f"  at {list(result.index)}: backward {result.analytic:.12g}, forward {result.numeric:.12g}")
        elif result.nondifferentiable:
            lines.append(f"  {result.verdict}")
    failed, total = sum(result.failed for result in results), sum(result.size for result in results)
    all_zero = sum(not result.largest for result in results)
    ending = f"{failed} of {len(results)} tensors FAIL" if failed else f"no error in {len(results)} tensors"
    ending += f", {all_zero} of them all zero" if all_zero else ""
    return "\n".join([*lines, f"{ending}, {total:,} derivatives"])

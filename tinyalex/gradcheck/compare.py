"""Compare the gradient of one tensor with numerical derivatives, element by element; print a table of the results."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinyalex import randomness
from tinyalex.devices.device import Array
from tinyalex.errors import ShapeError, UsageError
from tinyalex.gradcheck.slopes import SHARE, Outputs, Slopes, method_named


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
    wrong : int
        Number of elements whose gradient differs from the numerical derivative by more than the derivative's error bar
        and the tolerance.
    error : float
        The largest difference, divided by the largest derivative of the tensor, of elements that are not excused.
    tolerance : float
        The largest error that passes, relative to the element's own derivative.
    nondifferentiable : int
        Number of elements at which the function has no derivative and the gradient lies between the slopes to both
        sides. They are excused: they neither pass nor fail.
    unmeasured : int
        Number of elements whose numerical derivative has an error bar of more than a thousandth of it, because of
        rounding, and whose gradient lies within that bar. They are excused too, unless the bar is less than the
        tolerance times the tensor's largest derivative.
    largest : float
        The largest derivative; if it is 0, the check shows nothing.
    index : tuple of int
        Index of the worst element; ``analytic`` and ``numeric`` are the gradient and the numerical derivative there.
    """

    layer: str
    parameter: str
    size: int
    exact: bool
    wrong: int
    error: float
    tolerance: float
    nondifferentiable: int
    unmeasured: int
    largest: float
    index: tuple[int, ...]
    analytic: float
    numeric: float

    @property
    def excused(self) -> int:
        """Number of elements that neither pass nor fail."""
        return self.nondifferentiable + self.unmeasured

    @property
    def failed(self) -> bool:
        """Whether an element is wrong, or more than half of them are excused, so that the tensor is not checked."""
        return self.wrong > 0 or 2 * self.excused > self.size

    @property
    def verdict(self) -> str:
        """What the report says: "ok", "all zero", what is excused and how often, "NOT CHECKED" or "FAIL"."""
        if self.wrong:
            return "FAIL"
        if self.failed:
            return f"NOT CHECKED: {self.excuses}"
        return self.excuses or ("ok" if self.largest else "all zero")

    @property
    def excuses(self) -> str:
        """How many elements are excused, and why; "" if there are none."""
        kinds = {"not differentiable here": self.nondifferentiable, "not measurable here": self.unmeasured}
        return ", ".join(f"{kind} ({count} of {self.size})" for kind, count in kinds.items() if count)


def refuse_other_dtypes(what: str, array: Array) -> None:
    """Raise `UsageError` unless an array is float64: in float32, rounding hides wrong gradients."""
    if not hasattr(array, "dtype"):
        kind = type(array).__name__
        raise UsageError(f"{what}: a {kind} instead of an array; use numpy.array({what.split()[-1]}, 'float64')")
    if array.dtype != np.float64:
        raise UsageError(
            f"{what}: gradients are checked in float64, not {array.dtype}; use float64 for layer and input"
        )


def equal(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether outputs are equal except for rounding, which can depend on threads and on the size of the batch."""
    limit = 1e-12 * np.abs(other[np.isfinite(other)]).max(initial=0.0)
    return one.shape == other.shape and np.allclose(one, other, rtol=0, atol=limit, equal_nan=True)


def refuse_other_outputs(what: str, again: np.ndarray, before: np.ndarray, when: str) -> None:
    """Raise `UsageError` if forward gives another output for an input that it had before: it has no derivative then."""
    if not equal(again, before):
        raise UsageError(
            f"{what}: forward gives different outputs for the same input ({when}); draw its random numbers from the "
            "step, as layers.Dropout does, check with training=True, step=Step(seed, number), and keep no state from "
            "one forward to the next"
        )


def compare(
    layer: str,
    parameter: str,
    value: np.ndarray,
    gradients: Sequence[np.ndarray | None],
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
    value : ndarray, float64
        The point.
    gradients : sequence of ndarray, float64, value's shape
        The gradients that backward computed there, one for each time that it ran. All have to be right.
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
    tolerance = method_named(method).tolerance if tolerance is None else tolerance
    if not value.size:
        raise ShapeError(f"{layer} {parameter}: has shape {value.shape}, so there is no derivative to check")
    runs = []
    for gradient in gradients:
        if gradient is None or gradient.shape != value.shape:
            found = "no gradient" if gradient is None else f"a gradient of shape {gradient.shape}"
            raise ShapeError(f"{layer} {parameter}: backward left {found}, expected shape {value.shape}")
        runs.append(gradient.reshape(-1))
    with np.errstate(all="ignore"):  # a step may leave the domain of a logarithm
        slopes = Slopes(value, outputs, upstream, method, tolerance, chunk)
        numeric, scale, bar = slopes.first()
        analytic = np.choose(np.abs(np.stack(runs) - numeric).argmax(axis=0), runs)  # the worst run
        again = ~(np.abs(analytic - numeric) <= tolerance * scale + bar)
        if method == "complex":
            again |= slopes.bent(numeric, scale)
        measured, kinks = np.ones(value.size, bool), np.zeros(value.size, bool)
        if again.any():
            suspects = np.flatnonzero(again)
            numeric[again], scale[again], bar[again], measured[again], kinks[again] = slopes.bracket(suspects)

        difference, allowed = np.abs(analytic - numeric), tolerance * scale + bar
        largest = float(np.abs(numeric).max())
        wrong = ~((difference <= allowed) & np.isfinite(analytic))
        unsure = kinks | ~measured & ((difference > tolerance * scale) | np.isinf(bar))
        excused = ~wrong & unsure & (bar > tolerance / SHARE * largest)
        worst = int(np.argmax(np.where(wrong, difference / allowed, 0) if wrong.any() else difference * ~excused))
    error = float(difference[~excused].max(initial=0.0))
    return Result(
        layer, parameter, value.size,
        exact=bool(np.array_equal(analytic, numeric)),
        wrong=int(wrong.sum()),
        error=error if error == 0 or np.isnan(error) else error / largest if largest else np.inf,
        tolerance=tolerance,
        nondifferentiable=int((excused & kinks).sum()),
        unmeasured=int((excused & ~kinks).sum()),
        largest=largest,
        index=tuple(int(i) for i in np.unravel_index(worst, value.shape)),
        analytic=float(analytic[worst]),
        numeric=float(numeric[worst]),
    )  # fmt: skip


def upstream_for(shape: tuple[int, ...], seed: int, *purpose: int | str) -> np.ndarray:
    """Draw a random upstream gradient, float64, of both signs and never near zero, so that every output counts."""
    key, index = randomness.key(seed, "upstream", *purpose), np.arange(int(np.prod(shape))).reshape(shape)
    return np.where(randomness.bits(key, index, 1) & 1, 1.0, -1.0) * (0.5 + randomness.uniform(key, index, 0))


def table(results: Sequence[Result]) -> str:
    """Return results as text, at most 80 columns wide: layer, parameter, exact, approximate, largest error, verdict.

    The last line counts the tensors that fail and all derivatives, and those among them that are excused.
    """
    lines = [f"{'layer':24} {'parameter':16} {'exact':5} {'approximate':11} {'max error':>9}  verdict"]
    for result in results:
        exact, close = str(result.exact), str(not result.failed)
        verdict = "see below" if result.excused and not result.failed else result.verdict.split(":")[0]
        lines.append(f"{result.layer:24} {result.parameter:16} {exact:5} {close:11} {result.error:9.1e}  {verdict}")
        if result.wrong:
            lines.append(f"  at {list(result.index)}: backward {result.analytic:.12g}, forward {result.numeric:.12g}")
        if result.excused:
            lines.append(f"  {result.excuses}")
    wrong = sum(result.wrong > 0 for result in results)
    counts = {"FAIL": wrong, "NOT CHECKED": sum(result.failed for result in results) - wrong}
    ending = ", ".join(f"{count} of {len(results)} tensors {what}" for what, count in counts.items() if count)
    ending = ending or f"no error in {len(results)} tensors"
    all_zero, excused = sum(not result.largest for result in results), sum(result.excused for result in results)
    ending += f", {all_zero} of them all zero" if all_zero else ""
    ending += f", {sum(result.size for result in results):,} derivatives"
    return "\n".join([*lines, ending + (f", {excused:,} of them excused" if excused else "")])

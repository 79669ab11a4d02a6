"""Numerical derivatives with respect to single elements, each with an error bar.

Let g(t) be the sum of all outputs, times their upstream gradients, after t has been added to one element. For a step h,
both methods give a slope to each side of the point: central differences (g(h) - g(0)) / h and (g(0) - g(-h)) / h, the
complex step the derivatives of g at h and at -h. By Taylor's series, for a smooth g,

    mean of both slopes = g'(0) + a h^2 + ...        difference of both slopes = b h + ...

so from two steps, h and r h, one can compute the mean without a h^2 (Richardson's extrapolation) and the difference
without b h. What is left of the difference is the jump of the derivative at the point. The error bar of a step is

    half the jump  +  3 abs(change of the mean since the step before)  +  rounding of the outputs that change.

No step suits every element, so `Slopes.bracket` tries many for each element, from one as large as a fraction of the
value down to 1e-12 of it, until a smaller one cannot make the error bar smaller.

- If h is too large for Taylor's series, or a kink lies within h, the mean changes or the difference does not shrink
  with h. Smaller steps leave a kink beside the point behind. The jump of a kink at the point itself stays, and the
  interval of the error bar then reaches from the slope on one side to the slope on the other.
- Rounding is bounded by the outputs' magnitude, divided by h. More of it, in a forward that computes in float32 or
  subtracts nearly equal numbers, appears as changes of the mean. Rounding grows as h shrinks: what a step shows
  bounds, after division by r, that of the larger steps. (With the complex step it does not grow.)
- A step over which no output changes is on a plateau, as of a rounded function, or too small for the outputs to show.
  It does not count if larger steps have measured a slope and the last change was less than float32 can show.
- A large step can miss a narrow feature around the point. From the smallest step upward, a step counts only as long as
  its interval overlaps the intervals of all smaller ones. Of these steps, the one with the smallest error bar is taken.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from tinyalex import randomness
from tinyalex.errors import TinyalexError, UsageError

Outputs: TypeAlias = Callable[[np.ndarray], np.ndarray]  # stacked values to the outputs of forward for each of them

SHARE = 1e-3  # a derivative has been measured if its error bar is at most this share of it
_ROUNDING = 1e-14  # relative error of an output that rounding can cause: about fifty operations
_ULP = 2.0**-52  # the smallest relative change of an output that shows
_TINY = float(np.finfo(float).tiny)
_LARGEST = 0.0731  # first step, relative to the value or 1; an uneven number, so that it is no multiple of a period
_SMALLEST = 1e-12  # last step, relative to the value
_RATIO = 4.3  # r
_LOST = 1e-7  # changes of the outputs up to this, relative to the value or 1, can be lost in rounding


@dataclass(frozen=True)
class Method:
    """A way to compute numerical derivatives.

    Attributes
    ----------
    step : float
        h of the first estimate, which suffices for most elements: along the imaginary axis, relative to the value if
        that is less than 1; or along the real axis, relative to the value if that is more than 1.
    tolerance : float
        The largest error that passes, relative to the element's derivative.
    """

    step: float
    tolerance: float


METHODS = {"complex": Method(step=1e-30, tolerance=1e-12), "central": Method(step=1.137e-5, tolerance=1e-8)}


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


@dataclass
class _Sides:
    """For some elements, one step: what each output contributes, times its upstream gradient; (elements, outputs).

    Attributes
    ----------
    right, left : ndarray
        Slopes to both sides of the point.
    change : ndarray
        How much the output changes, by absolute value.
    magnitude : ndarray
        The output's absolute value.
    """

    right: np.ndarray
    left: np.ndarray
    change: np.ndarray
    magnitude: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        return (self.right + self.left).sum(axis=1) / 2

    @property
    def difference(self) -> np.ndarray:
        return (self.right - self.left).sum(axis=1)

    @property
    def scale(self) -> np.ndarray:
        return np.abs(self.right + self.left).sum(axis=1) / 2

    @property
    def steepest(self) -> np.ndarray:
        return np.maximum(np.abs(self.right).sum(axis=1), np.abs(self.left).sum(axis=1))


class Slopes:
    """Computes the derivatives of sum(upstream * outputs) with respect to the elements of a value.

    Parameters
    ----------
    value : ndarray, float64
    outputs : callable
        Takes values stacked along a new first axis, (count, *shape), real or complex, and returns the outputs of
        forward for each of them, (count, m).
    upstream : ndarray, shape (m,)
    method : {"complex", "central"}
    tolerance : float
        Relative error bar below which no further step is tried.
    chunk : int
        How many values are passed to ``outputs`` at once.
    """

    def __init__(
        self, value: np.ndarray, outputs: Outputs, upstream: np.ndarray, method: str, tolerance: float, chunk: int
    ) -> None:
        self.value, self.outputs, self.upstream, self.weights = value, outputs, upstream, np.abs(upstream)
        self.complex, self.step = method == "complex", method_named(method).step
        self.tolerance, self.chunk = tolerance, chunk
        self.here = outputs(value[None])[0]
        self.sizes = np.abs(value.reshape(-1))

    def first(self) -> tuple[np.ndarray, ...]:
        """Compute all derivatives with one step.

        Returns
        -------
        derivatives, scales, bars : ndarray, shape (value.size,)
            The scale is the sum of the absolute values that the outputs contribute to the derivative. The bar bounds
            the rounding error; it is -inf if this step does not suffice: near a kink, with much rounding, and where no
            output changes.
        """
        return self._in_chunks(self._first_complex if self.complex else self._first_central, np.arange(self.value.size))

    def bent(self, derivatives: np.ndarray, scales: np.ndarray) -> np.ndarray:
        """Return which elements have a kink at the point: the complex step at the point sees only one of its sides."""
        step = _SMALLEST * np.where(self.sizes, self.sizes, 1)
        # One random direction moves all elements, by different amounts. If the derivative along it has no jump at the
        # point, no element has one.
        direction = (randomness.normal(0, np.arange(self.value.size)) * step).reshape(self.value.shape)
        imaginary = 1j * self.step * direction / np.abs(direction).max()
        shifts = np.multiply.outer([0, 1, -1, _RATIO, -_RATIO], direction)
        parts = self.outputs(self.value + shifts + imaginary).imag
        if _jump(*(parts @ self.upstream)) <= 1e-9 * np.max(np.abs(parts) @ self.weights):
            return np.zeros(self.value.size, bool)

        def jumps(elements: np.ndarray) -> tuple[np.ndarray, ...]:
            near, far = (self._sides(elements, h * step[elements]) for h in (1, _RATIO))
            slopes = [side.sum(axis=1) for sides in (near, far) for side in (sides.right, sides.left)]
            scale = np.maximum(scales[elements], near.steepest)
            return (~(_jump(derivatives[elements], *slopes) <= 1e-6 * scale),)

        return self._in_chunks(jumps, np.arange(self.value.size))[0]

    def bracket(self, elements: np.ndarray) -> tuple[np.ndarray, ...]:
        """Compute derivatives with error bars, with as many steps as each of these elements needs.

        Returns
        -------
        derivatives, scales, bars : ndarray, shape (len(elements),)
            The true derivative, or at a kink the slope to each side, differs from the derivative by at most the bar.
        measured : ndarray of bool
            Whether the bar is at most a thousandth of the derivative, or of the mean slope around the point.
        kinks : ndarray of bool
            Whether the bar is mostly half a jump of the derivative.
        """
        return self._in_chunks(self._bracket, elements)

    def _first_complex(self, elements: np.ndarray) -> tuple[np.ndarray, ...]:
        step = self._imaginary(elements)
        parts = self.outputs(self._moved(elements, 1j * step)).imag * self.upstream / step[:, None]
        return parts.sum(axis=1), np.abs(parts).sum(axis=1), np.zeros(len(elements))

    def _first_central(self, elements: np.ndarray) -> tuple[np.ndarray, ...]:
        step = self.step * np.maximum(1, self.sizes[elements])
        sides = self._sides(elements, step)
        bend, scale = np.abs(sides.difference), sides.scale
        noise = self._noise(elements, step, sides.magnitude, sides.change > 0)
        suffices = (scale > 0) & (bend <= 1e-4 * scale) & (noise <= 1e-4 * scale)
        return sides.mean, scale, np.where(suffices, noise, -np.inf)

    def _bracket(self, elements: np.ndarray) -> tuple[np.ndarray, ...]:
        size, count = self.sizes[elements], len(elements)
        step, last = _LARGEST * np.maximum(1, size), _SMALLEST * np.where(size, np.maximum(size, 1e-220), 1)
        here = self._first_complex(elements)[0] if self.complex else None
        mean, difference, estimate = np.full((3, count), np.nan)  # of the step before
        changed, measured = np.zeros((count, self.upstream.size), bool), np.zeros(count, bool)  # by any step so far
        around, least = np.zeros((2, count))  # mean slope over the largest step; change over the last one with any
        # How much rounding the last step shows is partly chance, so it is taken to be at least that of steps before.
        growth, before = (1, 5) if self.complex else (_RATIO, 1)
        levels, going, rounding = [], np.ones(count, bool), np.full(count, np.nan)
        while going.any():
            at = np.flatnonzero(going)
            h, sides = step[at], self._sides(elements[at], step[at])
            changed[at] |= sides.change > 0
            change, unit = sides.change.sum(axis=1), np.maximum(1, size[at])
            faint = (change == 0) & (least[at] > 0) & (least[at] <= 4 * _ULP * unit)
            noise = self._noise(elements[at], h, sides.magnitude, changed[at]) + faint * 4 * _ULP * unit / h
            extrapolated = sides.mean + (sides.mean - mean[at]) / (_RATIO**2 - 1)
            half_jump = np.abs(_RATIO * sides.difference - difference[at]) / (_RATIO - 1) / 2
            bar = half_jump + 3 * np.abs(extrapolated - estimate[at]) + noise
            lost = (change == 0) & measured[at] & (least[at] <= _LOST * unit)

            level = np.full((4, count), np.nan)
            level[:, at] = np.where(lost | ~np.isfinite(bar), np.nan, [extrapolated, bar, sides.scale, half_jump])
            levels.append(level)
            done = level[1, at] <= np.maximum(self.tolerance * sides.scale, 2 * noise)
            if here is not None:  # unlike a central difference, this step has not used the point itself
                done &= np.abs(extrapolated - here[at]) <= bar + self.tolerance * sides.scale
            mean[at], difference[at], estimate[at] = sides.mean, sides.difference, extrapolated
            measured[at] |= bar <= SHARE * sides.steepest
            around[at] = np.fmax(around[at], change / (_LARGEST * unit))
            least[at] = np.where(change, change, least[at])
            step[at] /= _RATIO
            going[at] = ~done & (step[at] >= last[at])
            exhausted = at[~done & (step[at] < last[at])]
            if len(exhausted):
                shown = [level[1, exhausted] for level in levels[-1 - before : -1]]
                rounding[exhausted] = growth * np.fmax.reduce(shown)
        estimate, bar, scale, half_jump = _narrowest(levels, rounding, growth)
        slope = np.maximum(scale, around)
        kinks = half_jump > np.maximum(bar / 2, self.tolerance / SHARE * slope)
        return estimate, scale, bar, bar <= SHARE * slope, kinks

    def _noise(self, elements: np.ndarray, step: np.ndarray, magnitude: np.ndarray, changed: np.ndarray) -> np.ndarray:
        # Return a bound of the derivatives' rounding error, from the magnitude of the outputs that an element changes.
        # If it changes none, each has changed by less than its last bit shows.
        largest = magnitude.max(axis=1)
        unseen = _ULP * np.where(largest, largest, 1)  # an output of 0 may be the difference of larger numbers
        noise = np.where(changed.any(axis=1), _ROUNDING * (changed * magnitude).sum(axis=1), unseen)
        if self.complex:  # backward may compute from outputs, and the complex step may underflow
            return noise / np.maximum(1, self.sizes[elements]) + _TINY / self._imaginary(elements)
        return noise / step

    def _sides(self, elements: np.ndarray, step: np.ndarray) -> _Sides:
        imaginary = self._imaginary(elements)
        along = 1j * imaginary if self.complex else 0
        plus, minus = (self._outputs_or_nan(self._moved(elements, side + along)) for side in (step, -step))
        if self.complex:
            right, left = plus.imag / imaginary[:, None], minus.imag / imaginary[:, None]
        else:  # divide by the difference of the rounded values
            at = self.value.reshape(-1)[elements]
            right = (plus - self.here) / ((at + step) - at)[:, None]
            left = (self.here - minus) / (at - (at - step))[:, None]
        change = np.maximum(np.abs(plus - self.here), np.abs(minus - self.here))
        magnitude = np.maximum(np.abs(self.here), np.maximum(np.abs(plus.real), np.abs(minus.real)))
        return _Sides(right * self.upstream, left * self.upstream, change * self.weights, magnitude * self.weights)

    def _outputs_or_nan(self, points: np.ndarray) -> np.ndarray:
        # A large step may leave the domain of forward, which may then raise an error.
        try:
            return self.outputs(points)
        except (ArithmeticError, ValueError) as error:
            if isinstance(error, TinyalexError):
                raise
            if len(points) == 1:
                return np.full((1, self.upstream.size), np.nan, points.dtype)
            return np.concatenate([self._outputs_or_nan(point[None]) for point in points])

    def _imaginary(self, elements: np.ndarray) -> np.ndarray:
        # Return the complex step of each element: much smaller than the element, and not so small that it is 0.
        sizes = self.sizes[elements]
        return self.step * np.where(sizes, np.clip(sizes, 1e-220, 1), 1)

    def _moved(self, elements: np.ndarray, steps: np.ndarray) -> np.ndarray:
        # Return copies of the value; in each copy one of the elements is changed by its step.
        points = np.empty((len(elements), self.value.size), np.result_type(self.value, steps))
        points[...] = self.value.reshape(-1)
        points[np.arange(len(elements)), elements] += steps
        return points.reshape(-1, *self.value.shape)

    def _in_chunks(
        self, function: Callable[[np.ndarray], tuple[np.ndarray, ...]], elements: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        parts = [function(elements[low : low + self.chunk]) for low in range(0, len(elements), self.chunk)]
        return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))


def _jump(here: np.ndarray, right: np.ndarray, left: np.ndarray, far_right: np.ndarray, far_left: np.ndarray) -> Any:
    # By how much the derivatives at both sides differ from each other, after extrapolation from r h and h to 0, or from
    # the one in between.
    difference = (_RATIO * (right - left) - (far_right - far_left)) / (_RATIO - 1)
    return np.maximum(np.abs(difference), np.abs(right + left - 2 * here))


def _narrowest(levels: list[np.ndarray], rounding: np.ndarray, growth: float) -> np.ndarray:
    # Choose for each element the step with the smallest error bar, of those whose intervals overlap all finer ones.
    # From one step to the next the rounding error grows by a factor; each bar is at least that of the finer steps.
    count = levels[0].shape[1]
    best = np.stack([np.zeros(count), np.full(count, np.inf), np.zeros(count), np.zeros(count)])
    low, high, agrees = np.full(count, -np.inf), np.full(count, np.inf), np.ones(count, bool)
    for estimate, bar, *rest in reversed(levels):
        used = ~np.isnan(bar)
        rounding = np.where(used, np.fmax(bar, rounding), rounding)
        bar = np.where(used, rounding, np.inf)
        agrees &= ~((estimate - bar > high) | (estimate + bar < low))
        low = np.where(agrees, np.fmax(low, estimate - bar), low)
        high = np.where(agrees, np.fmin(high, estimate + bar), high)
        best = np.where(agrees & (bar < best[1]), [estimate, bar, *rest], best)
        rounding = np.where(used, rounding / growth, rounding)
    return best

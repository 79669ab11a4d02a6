"""Check what a reader's function returned, before its values are compared: one line says what is wrong."""

import numpy as np
import pytest


def array(name, value, shape, dtype=None):
    """Return ``value``, or fail with one line if it is not an array of numbers of this shape (and dtype, if given)."""
    if value is None:
        pytest.fail(f"{name} returned None: does it end with a return statement?", pytrace=False)
    if not isinstance(value, np.ndarray):
        pytest.fail(f"{name} returned a {type(value).__name__}; return a NumPy array of shape {shape}", pytrace=False)
    if value.dtype.kind not in "biuf" or dtype and value.dtype != dtype:
        pytest.fail(f"{name} returned an array of dtype {value.dtype}; return {dtype or 'float64'}", pytrace=False)
    if value.shape != shape:
        pytest.fail(f"{name} returned an array of shape {value.shape}; return one of shape {shape}", pytrace=False)
    return value


def number(name, value):
    """Return ``value``, or fail with one line if it is not one number."""
    if value is None:
        pytest.fail(f"{name} returned None: does it end with a return statement?", pytrace=False)
    if np.ndim(value) or np.asarray(value).dtype.kind not in "biuf":
        kind = f"an array of shape {np.shape(value)}" if np.ndim(value) else f"a {type(value).__name__}"
        pytest.fail(f"{name} returned {kind}; return one number", pytrace=False)
    return value


def sequence(name, value, length):
    """Return ``value``, or fail with one line if it is not a list, tuple or array of this length."""
    if value is None:
        pytest.fail(f"{name} returned None: does it end with a return statement?", pytrace=False)
    if not isinstance(value, list | tuple | np.ndarray) or np.asarray(value).dtype.kind not in "biufO":
        pytest.fail(f"{name} did not return numbers; return {length} of them", pytrace=False)
    if len(value) != length:
        pytest.fail(f"{name} returned {len(value)} numbers; return {length} of them", pytrace=False)
    return value


def alike(found, expected):
    """Return what all numbers of a wrong answer have in common, as "; all have the opposite sign", or ""."""
    found, expected = np.asarray(found, float), np.asarray(expected, float)
    if np.allclose(found, -expected):
        return "; all have the opposite sign"
    factor = (found * expected).sum() / max((expected**2).sum(), 1e-300)
    if np.allclose(found, factor * expected) and not np.isclose(factor, 1) and abs(factor) > 1e-12:
        return f"; all are {factor:.4g} times what they should be"
    for one in range(found.ndim):
        for other in range(one):
            swapped = found.swapaxes(other, one)
            if swapped.shape == expected.shape and np.allclose(swapped, expected):
                return f"; the axes {other} and {one} are exchanged"
    return ""


def derivative(name, result):
    """Return a line on the worst derivative of a failed `gradcheck` result: what backward says, and what is right."""
    if not result.wrong:
        return f"{name}: {result.verdict}"
    yours, right = result.analytic, result.numeric
    line = f"{name}: at x{list(result.index)} your backward says {yours:.6g}, the numerical derivative is {right:.6g}"
    if np.isclose(yours, -right):
        return line + ", of the opposite sign"
    return line + (f", {yours / right:.3g} times as large" if yours * right > 0 and 0.1 < yours / right < 10 else "")

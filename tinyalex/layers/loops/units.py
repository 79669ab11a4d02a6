"""The other nonlinearities of the 2012 code, one number at a time."""

import math
from collections.abc import Callable

import numpy as np

from tinyalex.layers.loops.activation import tanh_backward


def _each(x: np.ndarray, function: Callable[[float], float]) -> np.ndarray:
    y = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        y[index] = function(float(x[index]))
    return y


def logistic(x: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + e^-x) of every number."""
    return _each(x, lambda a: math.exp(min(a, 0)) / (1 + math.exp(-abs(a))))  # no power overflows


def logistic_backward(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return dx, from the derivative e^-x / (1 + e^-x)^2."""
    return dy * _each(x, lambda a: math.exp(-abs(a)) / (1 + math.exp(-abs(a))) ** 2)  # it is even


def soft_relu(x: np.ndarray) -> np.ndarray:
    """Return log(1 + e^x) of every number."""
    return _each(x, lambda a: max(a, 0) + math.log(1 + math.exp(-abs(a))))  # no power overflows


def soft_relu_backward(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return dx, from the derivative e^x / (1 + e^x)."""
    return dy * _each(x, lambda a: math.exp(min(a, 0)) / (1 + math.exp(-abs(a))))


def absolute(x: np.ndarray) -> np.ndarray:
    """Return the absolute value of every number."""
    return _each(x, lambda a: a if a > 0 else -a)


def absolute_backward(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return dx: dy where x is above 0, -dy where it is below, 0 at x = 0."""
    dx = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        if x[index] != 0:
            dx[index] = dy[index] if x[index] > 0 else -dy[index]
    return dx


def square(x: np.ndarray) -> np.ndarray:
    """Return x^2 of every number."""
    return _each(x, lambda a: a**2)


def square_backward(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return dx, from the derivative 2 x."""
    return dy * _each(x, lambda a: 2 * a)


def scaled_tanh(x: np.ndarray, a: float = 1.0, b: float = 1.0) -> np.ndarray:
    """Return a tanh(b x) of every number x."""
    return _each(x, lambda each: a * math.tanh(b * each))


def scaled_tanh_backward(dy: np.ndarray, x: np.ndarray, a: float = 1.0, b: float = 1.0) -> np.ndarray:
    """Return dx, from the derivative of tanh: 1 / cosh(b x)^2."""
    return tanh_backward(a * b * dy, b * x)

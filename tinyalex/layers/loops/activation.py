"""ReLU and tanh, one number at a time (paper §3.1): f(x) = max(0, x), and f(x) = tanh(x)."""

import math

import numpy as np


def relu(x: np.ndarray) -> np.ndarray:
    """Return max(0, x) of every number."""
    y = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        y[index] = 0.0 if x[index] <= 0 else x[index]  # NaN stays NaN
    return y


def relu_backward(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return dx: the gradient passes where x was positive, and nowhere else, x = 0 included."""
    dx = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        if x[index] > 0:
            dx[index] = dy[index]
    return dx


def tanh(x: np.ndarray) -> np.ndarray:
    """Return the hyperbolic tangent of every number."""
    y = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        y[index] = math.tanh(x[index])
    return y


def tanh_backward(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return dx, from the derivative of tanh: 1 / cosh(x)^2."""
    dx = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        e = math.exp(-abs(float(x[index])))  # cosh(x) = (1 / e + e) / 2 overflows, 1 / cosh(x) does not
        dx[index] = dy[index] * (2 * e / (1 + e * e)) ** 2
    return dx

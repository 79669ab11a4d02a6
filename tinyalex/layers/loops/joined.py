"""Layers that deal, choose, join and add inputs, one number at a time."""

from collections.abc import Sequence

import numpy as np


def deal_channels(x: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Return x (..., c) with channel ``order[i]`` as its i-th."""
    y = np.zeros((*x.shape[:-1], len(order)))
    for *before, i in np.ndindex(y.shape):
        y[(*before, i)] = x[(*before, order[i])]
    return y


def deal_channels_backward(dy: np.ndarray, x: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Return dx: a channel that was dealt several times adds up their gradients."""
    dx = np.zeros(x.shape)
    for *before, i in np.ndindex(dy.shape):
        dx[(*before, order[i])] += dy[(*before, i)]
    return dx


def channel_slice(x: np.ndarray, first: int, count: int) -> np.ndarray:
    """Return the channels of x (..., c) from ``first`` on, ``count`` of them."""
    y = np.zeros((*x.shape[:-1], count))
    for *before, i in np.ndindex(y.shape):
        y[(*before, i)] = x[(*before, first + i)]
    return y


def channel_slice_backward(dy: np.ndarray, x: np.ndarray, first: int, count: int) -> np.ndarray:
    """Return dx: 0 for the channels that were left out."""
    dx = np.zeros(x.shape)
    for *before, i in np.ndindex(dy.shape):
        dx[(*before, first + i)] = dy[(*before, i)]
    return dx


def elementwise_sum(x: np.ndarray, coefficients: Sequence[float]) -> np.ndarray:
    """Return the sum of a_i x_i, for inputs x_i side by side along the last axis of x."""
    size = x.shape[-1] // len(coefficients)
    y = np.zeros((*x.shape[:-1], size))
    for *before, i in np.ndindex(y.shape):
        for number, a in enumerate(coefficients):
            y[(*before, i)] += a * x[(*before, number * size + i)]
    return y


def elementwise_sum_backward(dy: np.ndarray, x: np.ndarray, coefficients: Sequence[float]) -> np.ndarray:
    """Return dx: a_i dy for each input."""
    dx = np.zeros(x.shape)
    for *before, i in np.ndindex(dy.shape):
        for number, a in enumerate(coefficients):
            dx[(*before, number * dy.shape[-1] + i)] = a * dy[(*before, i)]
    return dx

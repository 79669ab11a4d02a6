"""Softmax cross-entropy, image by image (paper §3.5).

p[c] = exp(z[c]) / sum over k of exp(z[k]),    L = mean over the images of -log p[right class]

With a weight for each class it is the weighted mean: an image counts as much as its right class weighs.
"""

import math
from collections.abc import Sequence

import numpy as np


def _softmax(row: np.ndarray) -> list[float]:
    largest = float(max(row))  # e^(z - largest) / the same sum is the same number, and does not overflow
    powers = [math.exp(z - largest) for z in row]
    return [power / sum(powers) for power in powers]


def _all_weights(labels: np.ndarray, weights: Sequence[float]) -> float:
    return sum(weights[label] for label in labels) or 1.0


def softmax_loss(z: np.ndarray, labels: np.ndarray, weights: Sequence[float] | None = None) -> float:
    """Return the loss of logits z (n, c) and integer labels (n,), a float; 0 without images."""
    total, weights = 0.0, [1.0] * z.shape[1] if weights is None else weights
    for i, label in enumerate(labels):
        largest = float(max(z[i]))
        loss = math.log(sum(math.exp(value - largest) for value in z[i])) - (z[i, label] - largest)
        total += weights[label] * loss
    return total / _all_weights(labels, weights)


def softmax_loss_backward(z: np.ndarray, labels: np.ndarray, weights: Sequence[float] | None = None) -> np.ndarray:
    """Return dz (n, c): every class's probability, less 1 for the right one, times the image's share of the weights."""
    dz, weights = np.zeros(z.shape), [1.0] * z.shape[1] if weights is None else weights
    for i, label in enumerate(labels):
        for c, p in enumerate(_softmax(z[i])):
            dz[i, c] = weights[label] * (p - (c == label)) / _all_weights(labels, weights)
    return dz

"""Softmax cross-entropy, image by image (paper §3.5).

p[c] = exp(z[c]) / sum over k of exp(z[k]),    L = mean over the images of -log p[right class]
"""

import math

import numpy as np


def _softmax(row: np.ndarray) -> list[float]:
    largest = float(max(row))  # e^(z - largest) / the same sum is the same number, and does not overflow
    powers = [math.exp(z - largest) for z in row]
    return [power / sum(powers) for power in powers]


def softmax_loss(z: np.ndarray, labels: np.ndarray) -> float:
    """Return the loss of logits z (n, c) and integer labels (n,), a float; 0 without images."""
    total = 0.0
    for i, label in enumerate(labels):
        largest = float(max(z[i]))
        total += math.log(sum(math.exp(value - largest) for value in z[i])) - (z[i, label] - largest)
    return total / max(1, len(labels))


def softmax_loss_backward(z: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return dz (n, c): every class's probability, less 1 for the right one, over n."""
    dz = np.zeros(z.shape)
    for i, label in enumerate(labels):
        for c, p in enumerate(_softmax(z[i])):
            dz[i, c] = (p - (c == label)) / len(labels)
    return dz

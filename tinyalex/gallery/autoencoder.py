"""Short binary codes for images by an auto-encoder, as the paper suggests at the end of §6.1.

features (m) -> linear -> tanh -> linear -> noise -> tanh (bits) -> linear -> tanh -> linear -> features (m)

A code is the signs of the ``bits`` units. The noise added in training drives these units to large positive or negative
values, because small ones would be lost in it, so that taking signs loses little. The paper does no such experiment;
the noise is from Salakhutdinov and Hinton (Semantic Hashing, 2007), the sizes are chosen here.
"""

import numpy as np

from tinyalex import randomness
from tinyalex.layers import Layer, Linear, Tanh
from tinyalex.network.columns import Exchange, Stage
from tinyalex.network.network import Network
from tinyalex.randomness import Step
from tinyalex.training.optimizer import Optimizer

HIDDEN, BATCH, RATE, EPOCHS = 128, 128, 0.05, 20


class Noise(Layer):
    """Add Gaussian noise in training and nothing in testing; (n, m) to (n, m).

    Parameters
    ----------
    deviation : float
    """

    def __init__(self, deviation):
        self.deviation = deviation

    def forward(self, x, training=False, step=None):
        if not training:
            return x
        images, units = np.arange(step.first, step.first + len(x))[:, None], np.arange(x.shape[1])
        noise = self.deviation * randomness.normal(randomness.key(step.seed, "noise", step.number), images, units)
        return x + self.device.put(noise.astype(x.dtype))

    def backward(self, dy):
        # y = x + noise:  dx = dy
        return dy


class AutoEncoder:
    """Learns binary codes for feature vectors.

    Parameters
    ----------
    size : int
        m, the length of a feature vector.
    bits : int
        Length of a code.
    seed : int
    noise : float
        Standard deviation of the noise.
    """

    def __init__(self, size, bits=32, seed=0, noise=1.0):
        hidden = min(HIDDEN, size)
        input_init = {"std": (1.0 / size) ** 0.5}
        hidden_init, code_init = {"std": (1.0 / hidden) ** 0.5}, {"std": (1.0 / bits) ** 0.5}
        encoder = [
            Linear(size, hidden, **input_init).named("encode1"),
            Tanh(),
            Linear(hidden, bits, **hidden_init).named("encode2"),
        ]
        decoder = [
            Linear(bits, hidden, **code_init).named("decode1"),
            Tanh(),
            Linear(hidden, size, **hidden_init).named("decode2"),
        ]
        one_column = Exchange([[0]])
        stages = [
            Stage("encode", one_column, [encoder]),
            Stage("decode", one_column.replica(), [[Noise(noise), Tanh(), *decoder]]),
        ]
        self.seed, self.network = seed, Network(stages, (size,)).build(seed=seed)

    def fit(self, features, epochs=EPOCHS):
        """Train to reconstruct the features.

        Parameters
        ----------
        features : ndarray, shape (n, m)
        epochs : int

        Returns
        -------
        list of float
            For each epoch, the fraction of the features' variance that the reconstruction misses.
        """
        self.mean = features.mean(axis=0)
        self.scale = float(np.sqrt(((features - self.mean) ** 2).mean())) or 1.0
        x, optimizer, number, losses = self._scaled(features), Optimizer(self.network, 0.9, 0.0), 0, []
        for epoch in range(epochs):
            order, errors = randomness.permutation(randomness.key(self.seed, "codes", epoch), len(x)), []
            for first in range(0, len(x), BATCH):
                batch = x[order[first : first + BATCH]]
                with self.network.step():
                    difference = self.network.forward(batch, training=True, step=Step(self.seed, number)) - batch
                    self.network.backward(difference / len(batch))  # of half the squared error, summed over m
                    errors.append(float((difference**2).mean()))
                optimizer.update(RATE * 0.5 * (1 + np.cos(np.pi * epoch / epochs)) / batch.shape[1] ** 0.5)
                number += 1
            losses.append(float(np.mean(errors)))
        return losses

    def codes(self, features):
        """Return the codes, bool (n, bits), of features (n, m)."""
        with self.network.step():
            (y,) = self.network.stages[0].forward([self._scaled(features)], self.network.devices)
        return np.array(y > 0)

    def _scaled(self, features):
        return np.ascontiguousarray((features - self.mean) / self.scale, np.float32)


def hamming(queries, stored, count):
    """Find the stored codes nearest to each query by Hamming distance.

    Parameters
    ----------
    queries : bool array, shape (q, bits)
    stored : bool array, shape (n, bits)
    count : int

    Returns
    -------
    int64 ndarray, shape (q, count)
        Indices, as those of `tinyalex.gallery.retrieval.nearest`.
    """
    queries, stored = np.packbits(queries, axis=1), np.packbits(stored, axis=1)
    rows = []
    for query in queries:
        distances = np.bitwise_count(stored ^ query).sum(axis=1)
        rows.append(np.argsort(distances, kind="stable")[:count])
    return np.stack(rows)

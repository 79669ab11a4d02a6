"""Short binary codes for images: an auto-encoder of the same layers, as the paper suggests at the end of §6.1.

features (m) -> linear -> tanh -> linear -> noise -> tanh (bits) -> linear -> tanh -> linear -> features (m)

The noise makes the code's units say clearly yes or no, because anything between drowns in it; a code is their signs.
The paper has no such experiment; the noise is Salakhutdinov and Hinton's (Semantic Hashing, 2007), the sizes are ours.
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
    """Add Gaussian noise in training, nothing at test; (n, m).

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
    """Learns codes for features.

    Parameters
    ----------
    size : int
        m, numbers in a feature vector.
    bits : int
        Of a code.
    seed : int
    """

    def __init__(self, size, bits=32, seed=0, noise=1.0):
        hidden = min(HIDDEN, size)
        first = {"std": (1.0 / size) ** 0.5}
        inner, out = {"std": (1.0 / hidden) ** 0.5}, {"std": (1.0 / bits) ** 0.5}
        encoder = [
            Linear(size, hidden, **first).named("encode1"),
            Tanh(),
            Linear(hidden, bits, **inner).named("encode2"),
        ]
        decoder = [Linear(bits, hidden, **out).named("decode1"), Tanh(), Linear(hidden, size, **inner).named("decode2")]
        straight = Exchange([[0]])
        stages = [
            Stage("encode", straight, [encoder]),
            Stage("decode", straight.replica(), [[Noise(noise), Tanh(), *decoder]]),
        ]
        self.seed, self.network = seed, Network(stages, (size,)).build(seed=seed)

    def fit(self, features, epochs=EPOCHS):
        """Learn to give features back; return the share of their variance that is lost, an epoch.

        Parameters
        ----------
        features : ndarray, shape (n, m)
        epochs : int

        Returns
        -------
        list of float
        """
        self.mean = features.mean(axis=0)
        self.scale = float(np.sqrt(((features - self.mean) ** 2).mean())) or 1.0
        x, optimizer, number, lost = self._scaled(features), Optimizer(self.network, 0.9, 0.0), 0, []
        for epoch in range(epochs):
            order, errors = randomness.permutation(randomness.key(self.seed, "codes", epoch), len(x)), []
            for first in range(0, len(x), BATCH):
                batch = x[order[first : first + BATCH]]
                with self.network.step():
                    wrong = self.network.forward(batch, training=True, step=Step(self.seed, number)) - batch
                    self.network.backward(wrong / len(batch))  # half the squared error, summed over the m numbers
                    errors.append(float((wrong**2).mean()))
                optimizer.update(RATE * 0.5 * (1 + np.cos(np.pi * epoch / epochs)) / batch.shape[1] ** 0.5)
                number += 1
            lost.append(float(np.mean(errors)))
        return lost

    def codes(self, features):
        """Return the codes of features (n, m): bool (n, bits)."""
        with self.network.step():
            (y,) = self.network.stages[0].forward([self._scaled(features)], self.network.devices)
        return np.array(y > 0)

    def _scaled(self, features):
        return np.ascontiguousarray((features - self.mean) / self.scale, np.float32)


def hamming(queries, shelf, count):
    """Find the codes, of bool (n, bits), that differ in the fewest bits from bool (q, bits): as `retrieval.nearest`."""
    queries, shelf = np.packbits(queries, axis=1), np.packbits(shelf, axis=1)
    rows = []
    for query in queries:
        apart = np.bitwise_count(shelf ^ query).sum(axis=1)
        rows.append(np.argsort(apart, kind="stable")[:count])
    return np.stack(rows)

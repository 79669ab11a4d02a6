"""Softmax cross-entropy: the mean over images of minus the log-probability of the right class (paper §3.5).

n images, c classes:    p = softmax(z),    L = -(1/n) sum over i of log p[i, label i]
"""

from tinyalex.devices.device import Array
from tinyalex.errors import DataError
from tinyalex.kernels import softmax as cuda_kernels
from tinyalex.layers.layer import Layer


class SoftmaxLoss(Layer):
    """The mean loss of logits (n, c) and integer labels (n,).

    >>> import numpy as np
    >>> loss = SoftmaxLoss()
    >>> round(float(loss.forward(np.array([[1.0, 1.0], [1.0, 1.0]]), np.array([0, 1]))), 4)  # log 2
    0.6931
    >>> loss.backward()
    array([[-0.25,  0.25],
           [ 0.25, -0.25]])
    """

    def forward(self, z: Array, labels: Array) -> Array:  # type: ignore[override]
        """Return the mean loss, as an array of no dimensions on the device."""
        if kernels := self.kernels_for(z, cuda=cuda_kernels):
            loss, self.saved = kernels.forward(self.device, z, labels)
            return loss
        xp, n = self.device.xp, len(z)
        shifted = z - z.real.max(axis=1)[:, None]  # no exponential overflows
        total = xp.exp(shifted).sum(axis=1)
        right = xp.arange(z.shape[1]) == labels[:, None]  # (n, c), one True in each row
        self.saved = shifted, total, right
        return (xp.log(total) - xp.where(right, shifted, 0).sum(axis=1)).sum() / n

    def backward(self) -> Array:  # type: ignore[override]
        """Return the gradient with respect to the logits, (n, c)."""
        # dL/dz = (p - [class is right]) / n
        saved = self.pop_saved()
        if kernels := self.kernels_of_forward(saved[0]):
            return kernels.backward(self.device, saved)
        shifted, total, right = saved
        return (self.device.xp.exp(shifted) / total[:, None] - right) / len(right)

    def probabilities(self, z: Array) -> Array:
        """Return softmax(z), (n, c)."""
        e = self.device.xp.exp(z - z.max(axis=1)[:, None])
        return e / e.sum(axis=1)[:, None]


def check_labels(labels: Array, count: int, classes: int) -> None:
    """Raise a DataError unless there is one label for each image, and each is a class."""
    if len(labels) != count:
        raise DataError(f"labels: {len(labels)} for {count} images")
    if count and not 0 <= labels.min() <= labels.max() < classes:
        raise DataError(f"labels: {labels.min()} to {labels.max()}, but the classes are 0 to {classes - 1}")

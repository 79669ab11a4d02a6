"""Softmax cross-entropy: the mean over images of minus the log-probability of the right class (paper §3.5).

n images, c classes:    p = softmax(z),    L = -(1/n) sum over i of log p[i, label i]

Without images the loss is 0, and its gradient is empty.
"""

from tinyalex import labels as label_rules
from tinyalex.devices.device import Array
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
        """Return the mean loss, as an array of no dimensions on the device.

        Parameters
        ----------
        z : array, shape (n, c)
        labels : array of int, shape (n,)
            Copied to the host to be checked, which waits for the device.

        Raises
        ------
        ShapeError
            If z is no array of floating numbers, or not (n, c).
        DataError
            If the labels are not one whole number from 0 to c - 1 for each image.
        """
        self.check_input(z)
        on_host = self.device.get(labels) if hasattr(labels, "get") else labels
        label_rules.check(on_host, *z.shape)
        return self.forward_checked(z, labels)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        self.expect(len(shape) == 1 and shape[0] > 0, shape, "logits (classes,)")
        return ()

    def forward_checked(self, z: Array, labels: Array) -> Array:
        """Run `forward` with labels that have been checked."""
        if kernels := self.kernels_for(z, cuda=cuda_kernels):
            loss, self.saved = kernels.forward(self.device, z, labels)
            return loss
        xp, n = self.device.xp, max(1, len(z))
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
        return (self.device.xp.exp(shifted) / total[:, None] - right) / max(1, len(right))

    def probabilities(self, z: Array) -> Array:
        """Return softmax(z), (n, c)."""
        self.check_input(z)
        e = self.device.xp.exp(z - z.max(axis=1)[:, None])
        return e / e.sum(axis=1)[:, None]

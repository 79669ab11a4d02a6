"""Softmax cross-entropy: the mean over images of minus the log-probability of the right class (paper §3.5).

n images, c classes:    p = softmax(z),    L = -(1/n) sum over i of log p[i, label i]

With a weight w for each class it is the weighted mean, in which an image counts as much as its class weighs:

    L = -(1/S) sum over i of w[label i] log p[i, label i],    S = sum over i of w[label i]

This is PyTorch's ``CrossEntropyLoss(weight=w)``. A batch in which only some classes occur is divided by the weights of
these alone, so the size of the gradient does not depend on which images share a batch by chance. Without images, or if
all weights in a batch are 0, the loss is 0 and so is its gradient.
"""

from collections.abc import Sequence
from typing import Any, Self

from tinyalex import labels as label_rules
from tinyalex.devices.device import Array, Device, DTypeLike
from tinyalex.kernels import softmax as cuda_kernels
from tinyalex.layers.layer import Layer


class SoftmaxLoss(Layer):
    """The mean loss of logits (n, c) and integer labels (n,).

    Parameters
    ----------
    class_weights : sequence of float, optional
        How much an image of each class counts, 0 or more. Default: all images count the same.

    Examples
    --------
    >>> import numpy as np
    >>> loss = SoftmaxLoss()
    >>> round(float(loss.forward(np.array([[1.0, 1.0], [1.0, 1.0]]), np.array([0, 1]))), 4)  # log 2
    0.6931
    >>> loss.backward()
    array([[-0.25,  0.25],
           [ 0.25, -0.25]])
    """

    def __init__(self, class_weights: Sequence[float] | Array | None = None) -> None:
        self.class_weights = None
        if class_weights is not None:
            self.class_weights = [self.real(0, class_weights=float(weight))[0] for weight in class_weights]
            self.expect(any(self.class_weights), "class_weights of 0 only", "one above 0")
        self.weights: Array = None  # on the device
        self._dtype: DTypeLike = "float64"
        self._put_weights()

    def _put_weights(self) -> None:
        given, self.weights = self.class_weights, None
        if given is not None:
            self.weights = self.device.put(Layer.device.xp.array(given, self._dtype))

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"weights": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._put_weights()

    def build(self, device: Device | None = None, seed: int | None = 0, dtype: DTypeLike = "float32") -> Self:
        super().build(device or self.device, seed, dtype)
        self._dtype = dtype
        self._put_weights()
        return self

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
        fits = self.class_weights is None or len(self.class_weights) == shape[0]
        self.expect(fits, shape, f"logits of {len(self.class_weights or ())} classes, as there are class weights")
        return ()

    def forward_checked(self, z: Array, labels: Array) -> Array:
        """Run `forward` with labels that have been checked."""
        shares = None if self.weights is None else self._shares(z, labels)
        if kernels := self.kernels_for(z, cuda=cuda_kernels):
            loss, self.saved = kernels.forward(self.device, z, labels, shares)
            return loss
        xp, n = self.device.xp, max(1, len(z))
        shifted = z - z.real.max(axis=1)[:, None]  # no exponential overflows
        total = xp.exp(shifted).sum(axis=1)
        right = xp.arange(z.shape[1]) == labels[:, None]  # (n, c), one True in each row
        self.saved = shifted, total, right, shares
        if shares is not None:
            return (shares * (xp.log(total) - xp.where(right, shifted, 0).sum(axis=1))).sum()
        return (xp.log(total) - xp.where(right, shifted, 0).sum(axis=1)).sum() / n

    def backward(self) -> Array:  # type: ignore[override]
        """Return the gradient with respect to the logits, (n, c)."""
        # dL/dz = (p - [class is right]) / n,    with class weights  (p - [class is right]) w[label] / S
        saved = self.pop_saved()
        if kernels := self.kernels_of_forward(saved[0]):
            return kernels.backward(self.device, saved)
        shifted, total, right, shares = saved
        difference = self.device.xp.exp(shifted) / total[:, None] - right
        return difference / max(1, len(right)) if shares is None else difference * shares[:, None]

    def _shares(self, z: Array, labels: Array) -> Array:
        # What share of the batch's weights each image has: w[label] / S, (n,).
        weights = self.weights[labels].astype(z.real.dtype)
        total = weights.sum()
        return weights / self.device.xp.where(total > 0, total, 1)

    def probabilities(self, z: Array) -> Array:
        """Return softmax(z), (n, c)."""
        self.check_input(z)
        e = self.device.xp.exp(z - z.max(axis=1)[:, None])
        return e / e.sum(axis=1)[:, None]

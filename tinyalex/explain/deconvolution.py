"""Deconvolution: what in an image made a unit's output as large as it is, carried back layer by layer to the pixels.

All other outputs of the unit's layer are set to 0, and the layers before it are gone through from the last to the first
(Zeiler and Fergus, "Visualizing and understanding convolutional networks", 2013, section 2.1):

    layer            the gradient                             deconvolution
    convolution      transposed kernels, without biases       the same
    max pooling      to the place of each window's maximum    the same: the places are the forward pass's "switches"
    ReLU             passes numbers where its input was > 0   passes the numbers that are themselves > 0
    normalization    multiplies by its derivative             passes all numbers unchanged

Where pools overlap, a pixel that is the maximum of several windows gets the sum of their numbers. Of the two rules of
ReLU only the second is not a derivative, so a deconvolution is a picture, not a measure of how much the output would
change. The other linear layers pass numbers as the gradient does.
"""

from typing import Any

import numpy as np

from tinyalex.devices.device import Array
from tinyalex.errors import UsageError
from tinyalex.explain.replicas import replicas
from tinyalex.explain.strongest import Unit, down_to_image
from tinyalex.layers import (
    LRN,
    Abs,
    ContrastNorm,
    Layer,
    Logistic,
    ReLU,
    ScaledTanh,
    SoftReLU,
    SpatialNorm,
    Square,
    Tanh,
)
from tinyalex.network.network import Network
from tinyalex.randomness import Step

_NORMALIZATIONS = LRN, SpatialNorm, ContrastNorm
_OTHERS = Tanh, Abs, Logistic, ScaledTanh, SoftReLU, Square  # nonlinearities through which there is no way back


def deconvolution(network: Network, image: np.ndarray, unit: Unit) -> np.ndarray:
    """Carry the output of a unit back to the image.

    Parameters
    ----------
    network : Network
        Built. Its nonlinearity is ReLU.
    image : ndarray, shape (h, w, k)
        Prepared as for `Network.predict`; converted to the network's dtype.
    unit : Unit
        What `strongest_units` or `strongest_images` returned for this image.

    Returns
    -------
    ndarray, shape (h, w, k), in the network's dtype
        Positive where the pixel's number is above the mean in the pattern that is shown, negative where it is below. 0
        outside ``unit.field``, up to the rounding of Winograd's algorithm.

    Raises
    ------
    UsageError
        If the network has another nonlinearity before the unit: see `obstacle`.

    Examples
    --------
    >>> from tinyalex import alexnet, recipe
    >>> from tinyalex.explain.strongest import strongest_units
    >>> shapes = recipe.load("shapes", ["net.classes=12"])
    >>> network = alexnet.build(shapes.net, shapes.init)
    >>> image = np.ones(network.input_shape)
    >>> deconvolution(network, image, strongest_units(network, image, 1)[0]).shape
    (56, 56, 3)
    """
    if layer := obstacle(network):
        kind = type(layer).__name__
        raise UsageError(f"{layer.name}: is a {kind}; deconvolution is defined for nets whose nonlinearity is ReLU")
    stages = replicas(network, gradients=True)
    for stage in stages:
        for column in stage.columns:
            column[:] = [_on_the_way_back(layer) for layer in column]
    return down_to_image(network, image, unit, unit.value, stages)


def obstacle(network: Network) -> Layer | None:
    """Return the first layer of a network through which deconvolution has no way back, None if there is none."""
    return next((layer for _, layer in network.layers() if isinstance(layer, _OTHERS)), None)


def _on_the_way_back(layer: Layer) -> Layer:
    if isinstance(layer, ReLU):
        return _Rectified(layer)
    return _Unchanged(layer) if isinstance(layer, _NORMALIZATIONS) else layer


class _Rectified(Layer):
    """Forward as the layer; backward max(0, dy), wherever the layer's input was."""

    def __init__(self, layer: Layer) -> None:
        self.layer, self.names, self.device = layer, layer.names, layer.device

    def forward(self, x: Array, training: bool = False, step: Step | None = None) -> Array:
        return self.layer.forward(x)

    def backward(self, dy: Array) -> Any:
        return self.device.xp.maximum(dy, 0)


class _Unchanged(_Rectified):
    """Forward as the layer; backward dy."""

    def backward(self, dy: Array) -> Any:
        return dy

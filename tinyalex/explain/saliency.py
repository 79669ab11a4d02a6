"""Saliency: how much a class's score changes with each pixel, from one backward pass down to the image.

The score is the logit z_c, before the softmax: a probability near 1 hardly changes with any pixel, its logit does
(Simonyan, Vedaldi and Zisserman, "Deep inside convolutional networks", 2013, §3). n images, h x w pixels, k colours.
"""

from collections.abc import Sequence

import numpy as np

from tinyalex.errors import ShapeError
from tinyalex.explain.replicas import replicas
from tinyalex.labels import check as check_labels
from tinyalex.network.columns import Stage
from tinyalex.network.network import Network


def input_gradient(network: Network, images: np.ndarray, classes: Sequence[int], batch: int = 16) -> np.ndarray:
    """Differentiate each image's logit of a class with respect to the image, with dropout as it is at test time.

    Parameters
    ----------
    network : Network
        Built.
    images : ndarray, shape (n, h, w, k)
        Prepared as for `Network.predict`; converted to the network's dtype.
    classes : sequence of int, length n
        The class of each image whose logit is meant.
    batch : int
        Images at a time.

    Returns
    -------
    ndarray, shape (n, h, w, k), in the network's dtype
        dz_c / dx of every number of the image that the net reads. Where two columns read the image, the sum of both.

    Raises
    ------
    ShapeError
        If the images are not those of the network.
    DataError
        If there is not one class of the network for each image.

    Examples
    --------
    >>> import numpy as np
    >>> from tinyalex import alexnet, recipe
    >>> shapes = recipe.load("shapes", ["net.classes=12"])
    >>> network = alexnet.build(shapes.net, shapes.init)
    >>> input_gradient(network, np.zeros((2, 56, 56, 3)), [0, 7]).shape
    (2, 56, 56, 3)
    """
    network.require_arrays()
    images, chosen = np.asarray(images, network.dtype), np.asarray(classes)
    if images.shape[1:] != network.input_shape:
        raise ShapeError(f"images: got {images.shape[1:]}, this network reads {network.input_shape}")
    check_labels(chosen, len(images), network.classes)
    stages, gradient = replicas(network, gradients=True), np.empty_like(images)
    for first in range(0, len(images), batch):
        part = slice(first, first + batch)
        with network.step():
            gradient[part] = _gradient(network, stages, np.ascontiguousarray(images[part]), chosen[part])
    return gradient


def _gradient(network: Network, stages: list[Stage], images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    devices = network.devices
    uploaded = {device: device.to_device(images) for device in dict.fromkeys(devices)}
    xs = [uploaded[device] for device in devices]
    for stage in stages:
        xs = stage.forward(xs, devices)
    with devices[0] as device:
        one = np.zeros((len(images), network.classes), network.dtype)
        one[np.arange(len(images)), classes] = 1
        dys = [device.put(one), *[None] * (len(devices) - 1)]
    for stage in reversed(stages):
        dys = stage.backward(dys, devices)
    gradients = [device.get(dy) for device, dy in zip(devices, dys, strict=True) if dy is not None]
    return sum(gradients[1:], start=gradients[0])  # of the columns that read the image


def saliency(network: Network, images: np.ndarray, classes: Sequence[int], batch: int = 16) -> np.ndarray:
    """Return the largest absolute value of `input_gradient` over the colours of each pixel, shape (n, h, w)."""
    return np.abs(input_gradient(network, images, classes, batch)).max(axis=3)

"""Checks nets of cuda-convnet's files at a reduced size: all layers and connections, with fewer maps and units."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tinyalex import randomness
from tinyalex.errors import UsageError
from tinyalex.gradcheck.compare import Result
from tinyalex.gradcheck.network import check_network
from tinyalex.layers import LRN
from tinyalex.network import cuda_convnet
from tinyalex.network.network import Network
from tinyalex.randomness import Step
from tinyalex.recipes.cuda_convnet.description import Description, Layer

MAPS, UNITS, CLASSES = 4, 16, 10  # at most: of a group of a convolution, of a hidden layer, of the last


def reduced(description: Description) -> Description:
    """Reduce a description's maps, units and classes, with first values by which every layer affects the loss."""
    layers: dict[str, Layer] = {}
    maps: dict[str, int] = {}  # channels of each layer's output
    last = next(layer.inputs[0] for layer in description.layers.values() if layer.type == "softmax")
    for name, layer in description.layers.items():
        settings = dict(layer.settings)
        channels = [maps[each] for each in layer.inputs]
        if layer.type in ("conv", "local"):
            total = max(
                groups * min(filters, MAPS)
                for groups, filters in zip(settings["groups"], settings["filters"], strict=True)
            )
            settings["filters"] = [total // groups for groups in settings["groups"]]
            shares = zip(channels, settings["filterChannels"], settings["channels"], strict=True)
            settings["filterChannels"] = [now * share // of for now, share, of in shares]
            settings["channels"] = channels
            maps[name] = settings["filters"][0] * settings["groups"][0]
        elif layer.type == "fc":
            settings["outputs"] = min(settings["outputs"], CLASSES if name == last else UNITS)
            maps[name] = settings["outputs"]
        else:
            maps[name] = 3 if layer.type == "data" else channels[0]
        first: tuple[float | str, ...] = tuple(0.1 if name == last else "he" for _ in layer.first_weights)
        layers[name] = replace(
            layer, settings=settings, first_weights=first, first_bias=layer.first_bias or (0.0 if name == last else 0.5)
        )
    return replace(description, layers=layers)


def smallest(description: Description) -> int:
    """Return the side of the smallest image that all layers of a net can read."""
    for side in range(4, 256):
        with contextlib.suppress(UsageError):
            cuda_convnet.describe(description, side)
            return side
    cuda_convnet.describe(description)  # raises the error that says why
    return 224


def small_network(description: Description, devices: Sequence[str] = ()) -> Network:
    """Build a net at a reduced size in float64, by default with each of its GPUs on the CPU."""
    small = reduced(description)
    network = cuda_convnet.describe(small, smallest(small))
    return network.build(devices or ["cpu"] * (max(network.gpus) + 1), seed=9, dtype="float64")


def batch(network: Network) -> tuple[np.ndarray, np.ndarray]:
    """Draw two images of the size that a net reads, and their labels."""
    shape = (2, *network.input_shape)
    key = randomness.key(0, "gradcheck", "images")
    across_maps = any(isinstance(layer, LRN) for _, layer in network.layers())
    size = 60 if across_maps else 1  # with that normalization, of the magnitude of pixels
    images = size * randomness.normal(key, np.arange(int(np.prod(shape))).reshape(shape))
    return images, np.array([3, network.classes - 2])


def check(description: Description, method: str = "complex") -> list[Result]:
    """Compare every gradient of a net at a reduced size with numerical derivatives: see `check_network`."""
    network = small_network(description)
    side = network.input_shape[0]
    return check_network(
        network,
        *batch(network),
        training=True,
        step=Step(seed=7, number=3),
        method=method,
        name=f"{description.name} {side}x{side}",
    )

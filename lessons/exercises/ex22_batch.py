"""Exercise 22: the largest batch for which a net can predict (lesson 22). Check it: ``pytest -m ex22``."""

import pytest
from returned import number

from tinyalex.layers import Conv2d, Linear, MaxPool

GTX_580 = 3_000_000_000


def largest_batch(layers, shape, memory):
    """Return how many images a batch can have, at most, if a net predicts in ``memory`` bytes of float32 numbers.

    layers: layers of the package, in their order. ``layer.output_shape(shape)`` is the shape of a layer's output for
    one image, ``parameter.size`` the size of each of its ``layer.parameters``. shape: of the image, (height, width,
    channels). Predicting is not training: it keeps every parameter once, and no gradients. One layer computes after the
    other, and only its input and its output are needed meanwhile; the first layer's input are the images. 0 if not even
    one image fits.
    """
    raise NotImplementedError("write largest_batch: what the weights leave, divided by the most that an image takes")


def net(maps, hidden):
    return [
        *(Conv2d(3, maps, 5, 2), MaxPool(), Conv2d(maps, 2 * maps, 3, pad=1), MaxPool()),
        *(Linear((6, 6, 2 * maps), hidden), Linear(hidden, 100)),
    ]


@pytest.mark.ex22
def test_largest_batch():
    for maps, hidden, memory, expected in (
        (32, 256, 1 << 24, 114), (64, 512, 1 << 26, 264), (64, 60_000, GTX_580, 7234), (96, 8192, 1 << 20, 0),
    ):  # fmt: skip
        got = number("largest_batch", largest_batch(net(maps, hidden), (56, 56, 3), memory))
        assert got == expected, f"{maps} maps, {hidden} units, {memory:,} bytes: {got}, expected {expected}"

"""Exercise 10: count the parameters and products of any net (lesson 10). Check it: ``pytest -m ex10``."""

import pytest
from returned import sequence

from tinyalex.layers import Conv2d, Linear, MaxPool

ALEXNET = [
    ("conv", 96, 11, 4, 0, 1), ("pool", 3, 2), ("conv", 256, 5, 1, 2, 2), ("pool", 3, 2), ("conv", 384, 3, 1, 1, 1),
    ("conv", 384, 3, 1, 1, 2), ("conv", 256, 3, 1, 1, 2), ("pool", 3, 2),
    ("linear", 4096), ("linear", 4096), ("linear", 1000),
]  # fmt: skip


def count(layers, side, channels=3):
    """Return (parameters, multiply-adds of one image).

    layers: ("conv", maps, kernel, stride, pad, groups), ("pool", window, stride), ("linear", outputs). The image is
    side x side x channels. Numbers of output positions are rounded up, as in 2012. Biases count as parameters, but not
    as multiply-adds.
    """
    raise NotImplementedError("write count: compute the shape of each layer's output, and add up as you go")


@pytest.mark.ex10
def test_count():
    sequence("count", count(ALEXNET, 224), 2)
    assert count(ALEXNET, 224) == (60_965_224, 724_406_816), (
        f"AlexNet at 224: {count(ALEXNET, 224)}, expected (60965224, 724406816)"
    )
    odd = [("conv", 8, 5, 2, 1, 1), ("pool", 2, 2), ("conv", 12, 3, 1, 0, 4), ("linear", 7)]
    for side in (20, 21, 33):
        shape, parameters, products = (side, side, 4), 0, 0
        for kind, *numbers in odd:
            if kind == "conv":
                maps, k, stride, pad, groups = numbers
                layer = Conv2d(shape[2], maps, k, stride, pad, groups, rounding="ceil")
            else:
                layer = MaxPool(*numbers) if kind == "pool" else Linear(shape, *numbers)
            parameters += sum(parameter.size for parameter in layer.parameters)
            products += layer.multiply_adds(shape)
            shape = layer.output_shape(shape)
        assert count(odd, side, 4) == (parameters, products), (
            f"{side} pixels, 4 channels: {count(odd, side, 4)}, expected {(parameters, products)}"
        )

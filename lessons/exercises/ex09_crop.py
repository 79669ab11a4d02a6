"""Exercise 9: cut, reflect, subtract the mean (lesson 9). Check it: ``pytest -m ex09``."""

import numpy as np
import pytest
from returned import array

from tinyalex.datasets.loading.augment import AugmentParams, Cropper
from tinyalex.randomness import below, key


def cut(image, mean, top, left, flip, size):
    """Return a crop as float32 (size, size, 3): the window at (top, left), mirrored left to right if ``flip``.

    image: uint8 (S, S, 3), mean: float32 (S, S, 3). From every pixel subtract the mean at *its position in the image*.
    """
    raise NotImplementedError(
        "write cut: convert to float32 before subtracting, and subtract the mean before mirroring"
    )


@pytest.mark.ex09
def test_cut():
    image = below(key(0, "ex09"), 256, np.arange(20 * 20 * 3)).reshape(20, 20, 3).astype(np.uint8)
    mean = np.linspace(50, 200, 1200, dtype=np.float32).reshape(20, 20, 3)
    for top, left, flip in ((0, 0, False), (3, 5, False), (2, 7, True), (8, 0, True)):
        ours = Cropper(mean, 12, matched=True)(image[None], AugmentParams(np.array([[top, left]]), np.array([flip])))[0]
        yours = array("cut", cut(image.copy(), mean.copy(), top, left, flip, 12), (12, 12, 3), "float32")
        assert yours.min() < 0, "no value is negative: uint8 overflowed, or the mean was not subtracted"
        assert np.allclose(yours, ours), f"top {top}, left {left}, flip {flip}: differs from tinyalex's Cropper"

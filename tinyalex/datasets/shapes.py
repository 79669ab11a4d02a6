"""Drawn images: an object of random outline, filled with one of twelve patterns, anywhere, in any light.

The class is the pattern. To recognise it a network has to see the direction of stripes (four), their width (two), and
colour: red-green and blue-yellow patterns come in pairs that look alike to the colour-blind. Outline, position, size,
contrast, background and light are independent of the class. A reflection turns rising stripes into falling ones, so
train on these images without flips.

Image i of a split is a function of (seed, split, i). Only operations that IEEE arithmetic defines to the last bit are
used (so no library sine): every machine draws the same bytes.
"""

import numpy as np

from tinyalex import randomness
from tinyalex.datasets.dataset import Dataset, ImageSet
from tinyalex.datasets.outlines import OUTLINES, sine, turned

SIZE = 64  # pixels
TRAIN, TEST = 9_600, 1_920  # images: 800 and 160 a class
CLASSES = [
    *("fine level stripes", "coarse level stripes", "fine upright stripes", "coarse upright stripes"),
    *("fine rising stripes", "coarse rising stripes", "fine falling stripes", "coarse falling stripes"),
    *("red-green checks", "blue-yellow checks", "red-green rings", "blue-yellow rings"),
]
_CHECKS, _RINGS = 4, 5  # label // 2: four ways of stripes come before
_WAYS = np.array([0, 0.25, 0.125, 0.375, 0, 0], np.float32)  # in turns, by label // 2
_CHUNK = 64  # images drawn at once: their planes stay in cache
_MIDDLES = np.arange(SIZE, dtype=np.float32) - np.float32((SIZE - 1) / 2)  # of pixels, from the image's
# Steps in RGB: brighter; then towards red, and towards blue, at equal luminance 0.299 R + 0.587 G + 0.114 B.
_BRIGHT, _RED, _BLUE = np.array([[1, 1, 1], [1, -0.471, -0.2], [-0.5, 0.0605, 1]], np.float32).reshape(3, 3, 1, 1)

# n images of a chunk; pictures are (n, 3, 64, 64) while they are drawn, masks (n, 1, 64, 64), draws (n, 1, 1, 1).


def load(seed=0, train=TRAIN, test=TEST):
    """Draw the whole data set.

    Parameters
    ----------
    seed : int
    train, test : int
        Number of images in each split.

    Returns
    -------
    Dataset
    """
    sets = []
    for split, count in (("train", train), ("test", test)):
        images, labels = np.empty((count, SIZE, SIZE, 3), np.uint8), np.arange(count) % len(CLASSES)
        for start in range(0, count, _CHUNK):
            part = np.arange(start, min(start + _CHUNK, count))
            images[part] = draw(seed, split, part, labels[part])
        sets.append(ImageSet(images, labels))
    return Dataset("shapes", list(CLASSES), *sets)


def draw(seed, split, indices, labels):
    """Draw images.

    Parameters
    ----------
    seed : int
    split : "train" or "test"
    indices, labels : integers (n,)
        Numbers of the images in the split, and their classes. In the data set, image i has class ``i % 12``.

    Returns
    -------
    uint8 (n, 64, 64, 3)
    """
    dice, labels = _Dice(seed, split, np.asarray(indices)), np.asarray(labels).reshape(-1, 1, 1, 1)
    x, y = _MIDDLES - dice("x", -8, 8), dice("y", -8, 8) - _MIDDLES[:, None]  # from the object's middle, y upwards
    pictures = _background(dice)
    for picture, mask, colours in zip(pictures, _mask(dice, x, y), _filling(dice, labels, x, y), strict=True):
        _paint(picture, mask, colours)
    _bars(dice, pictures, "over", 2, widest=3)
    return _lit(dice, pictures)


class _Dice:
    """Uniform random numbers for the images of a chunk, independent for every name."""

    def __init__(self, seed, split, indices):
        self.seed, self.split, self.indices = seed, split, indices[:, None]

    def _key(self, name):
        return randomness.key(self.seed, "shapes", self.split, name)

    def __call__(self, name, low, high, each=1):
        drawn = randomness.uniform(self._key(name), self.indices, np.arange(each)).astype(np.float32)
        return np.float32(low) + np.float32(high - low) * drawn.reshape(-1, each, 1, 1)

    def field(self, name, each, side):
        """Random numbers between -1 and 1 with 8 bits each, (n, each, side, side); one draw gives four."""
        count = each * side * side
        words = randomness.bits(self._key(name), self.indices, np.arange(-(-count // 4)))
        drawn = words.astype("<u4").view(np.uint8)[:, :count].reshape(-1, each, side, side)
        return (drawn - np.float32(127.5)) * np.float32(1 / 128)


def _paint(picture, mask, colour):
    picture += (colour - picture) * mask  # one picture at a time, (3, 64, 64), so that it stays in cache


def _colour(dice, name):
    """A random colour, mostly of low saturation, (n, 3, 1, 1)."""
    return dice(name, 45, 205) + dice(f"{name} tone", -60, 60, 3)


def _background(dice):
    """A background: one colour, cloudy noise that is smooth or grainy, and a few bars."""
    grain, clouds = dice("grain", 0.3, 1), 0
    for cells in (2, 4, 8, 16, 32):
        strength = 42 * (1.4 - grain) if cells < 16 else 20 * grain
        clouds = _doubled(clouds + dice.field(f"clouds {cells}", 3, cells + 1) * strength)
    pictures = _colour(dice, "ground") + clouds[:, :, :SIZE, :SIZE]
    _bars(dice, pictures, "under", 5, widest=9)
    return pictures


def _bars(dice, pictures, name, most, widest):
    """Draw at most ``most`` bars of one colour each on every picture."""
    for bar in (f"{name} {k}" for k in range(most)):
        x, y = _MIDDLES - dice(f"{bar} x", -32, 32), _MIDDLES[:, None] - dice(f"{bar} y", -32, 32)
        along, across = turned(x, y, dice(f"{bar} turn", 0, 1))
        inside = np.minimum(dice(f"{bar} length", 4, 20) - abs(along), dice(f"{bar} width", 1, widest) - abs(across))
        masks, colours = np.clip(inside, 0, 1), _colour(dice, bar)
        for i in np.flatnonzero(dice(f"{bar} there", 0, 1) < 0.6):
            _paint(pictures[i], masks[i], colours[i])


def _doubled(grid):
    """Double a grid by linear interpolation: (n, 3, g + 1, g + 1) to (n, 3, 2 g + 1, 2 g + 1)."""
    n, c, nodes, _ = grid.shape
    tall = np.empty((n, c, 2 * nodes - 1, nodes), np.float32)
    tall[:, :, ::2], tall[:, :, 1::2] = grid, (grid[:, :, 1:] + grid[:, :, :-1]) * np.float32(0.5)
    fine = np.empty((n, c, 2 * nodes - 1, 2 * nodes - 1), np.float32)
    fine[..., ::2], fine[..., 1::2] = tall, (tall[..., 1:] + tall[..., :-1]) * np.float32(0.5)
    return fine


def _mask(dice, x, y):
    """The object's mask: how much of every pixel it covers, 0 to 1."""
    x, y = turned(x, y, dice("turn", 0, 1))
    radius, kind = dice("radius", 16, 26), dice("outline", 0, len(OUTLINES)).astype(int).ravel()
    beyond = np.empty_like(x)
    for k, distance in enumerate(OUTLINES):
        beyond[kind == k] = distance(x[kind == k], y[kind == k], radius[kind == k])
    return np.clip(np.float32(0.5) - beyond, 0, 1)


def _filling(dice, labels, x, y):
    """The pattern of each image's class, in two colours."""
    kind, phase = labels // 2, dice("phase", 0, 1)
    fine, coarse, medium = dice("fine", 4, 5.5), dice("coarse", 9, 13), dice("medium", 8, 12)
    _, across = turned(x, y, _WAYS[kind] + dice("tilt", -0.025, 0.025))
    wave = sine(across / np.where(labels % 2 == 0, fine, coarse) + phase)
    rows = kind.ravel() == _CHECKS
    u, v = turned(x[rows], y[rows], dice("turn of checks", 0, 1)[rows])
    wave[rows] = sine(u / medium[rows] + phase[rows]) * sine(v / medium[rows]) * 2
    rows = kind.ravel() == _RINGS
    wave[rows] = sine(np.sqrt(x[rows] * x[rows] + y[rows] * y[rows]) / medium[rows] + phase[rows])
    wave = np.clip(wave * dice("sharpness", 1, 3), -1, 1)

    bright, red, blue = _contrast(dice, labels)
    middle = dice("middle", 110, 165) * _BRIGHT
    middle = middle + dice("middle red", -25, 25) * _RED + dice("middle blue", -40, 10) * _BLUE
    return middle + wave * (bright * _BRIGHT + red * _RED + blue * _BLUE)


def _contrast(dice, labels):
    """Half the difference between the pattern's two colours: in luminance, towards red, towards blue.

    The colours of stripes differ in any way, for half of the images mostly in brightness. Those of checks and rings
    are as their class names say, and hardly differ in brightness.
    """
    sign = np.where(dice("sign", 0, 1) < 0.5, np.float32(-1), np.float32(1))
    full, other, little = dice("full", 44, 85), dice("other", -70, 70), dice("little", -12, 12)
    bright, which = sign * dice("bright", 24, 72), dice("which", 0, 1)
    patterned = labels >= 2 * _CHECKS
    is_red = np.where(patterned, labels % 2 == 0, which < 0.25)
    is_bright = ~patterned & (which > 0.5)
    other = np.where(patterned, little, other)
    red, blue = np.where(is_red, sign * full, other), np.where(is_red, other, sign * full)
    return np.where(is_bright, bright, little), np.where(is_bright, little, red), np.where(is_bright, other / 3, blue)


def _lit(dice, pictures):
    """Apply gain, tint, light from one side and a little noise; convert to uint8 (n, 64, 64, 3)."""
    side = _MIDDLES / SIZE
    light = (
        dice("gain", 0.75, 1.1) + dice("from left", -0.3, 0.3) * side + dice("from above", -0.3, 0.3) * side[:, None]
    )
    tint, dust = dice("tint", 0.93, 1.07, 3), dice.field("dust", 1, SIZE) * dice("dusty", 2, 12)
    lit = np.empty((len(pictures), SIZE, SIZE, 3), np.uint8)
    for i, picture in enumerate(pictures):
        picture *= light[i] * tint[i]
        picture += dust[i]
        lit[i] = np.clip(picture + np.float32(0.5), 0, 255).transpose(1, 2, 0)
    return lit

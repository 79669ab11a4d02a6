"""The drawn data set: the same bytes on every machine, and patterns that match their class names."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from tinyalex.datasets import outlines, shapes

GOLDEN = "e2ebde06fc0213b7e4ba7c57a8f4d177433a1fe6c2f0b965e8560650b97a919b"
LUMINANCE = np.array([0.299, 0.587, 0.114])


def draw(label, count=60, split="train", seed=0):
    return shapes.draw(seed, split, np.arange(count), np.full(count, label))


def label(name):
    return shapes.CLASSES.index(name)


def test_golden_bytes():
    images = shapes.draw(0, "train", np.arange(24), np.arange(24) % 12)
    assert hashlib.sha256(images.tobytes()).hexdigest() == GOLDEN


def test_only_arithmetic_that_is_the_same_on_every_machine():
    for module in (shapes, outlines):
        source = Path(module.__file__).read_text()
        assert not re.search(
            r"np\.(sin|cos|tan|arc|exp|log|power|dot|einsum|random|linalg)| @ |\*\*|\.(sum|mean)\(", source
        )


def test_an_image_is_a_function_of_seed_split_and_index():
    numbers = np.arange(10, 30)
    images = shapes.draw(3, "test", numbers, numbers % 12)
    assert images.dtype == np.uint8 and images.shape == (20, 64, 64, 3)
    for i in (0, 7, 19):
        alone = shapes.draw(3, "test", numbers[i : i + 1], numbers[i : i + 1] % 12)
        np.testing.assert_array_equal(images[i], alone[0])
    for other in (
        shapes.draw(4, "test", numbers, numbers % 12),
        shapes.draw(3, "train", numbers, numbers % 12),
        shapes.draw(3, "test", numbers + 12, numbers % 12),
    ):
        assert (np.abs(images.astype(int) - other).mean(axis=(1, 2, 3)) > 8).all()


def test_load():
    dataset = shapes.load(0, train=70, test=25)
    assert dataset.name == "shapes" and dataset.classes == shapes.CLASSES and len(set(dataset.classes)) == 12
    assert (len(dataset.train), len(dataset.test), dataset.train.size) == (70, 25, 64)
    assert np.bincount(dataset.train.labels).tolist() == [6] * 10 + [5] * 2
    numbers = np.array([69, 5, 64])
    np.testing.assert_array_equal(
        dataset.train.read(numbers), shapes.draw(0, "train", numbers, dataset.train.labels[numbers])
    )
    assert dataset.identity != shapes.load(1, train=70, test=25).identity
    assert dataset.identity == shapes.load(0, train=70, test=25).identity


@pytest.mark.parametrize("name", shapes.CLASSES[:8])
def test_stripes_run_and_repeat_as_their_name_says(name):
    """The structure tensor of the image's middle gives the direction and length of the waves."""
    images = draw(label(name)).astype(float)
    middle = images[:, 20:44, 20:44]
    down, right = np.gradient(middle, axis=(1, 2))
    xx, yy, xy = (np.sum(a * b, axis=(1, 2, 3)) for a, b in ((right, right), (down, down), (right, down)))
    angle = np.degrees(np.arctan2(2 * xy, xx - yy)) / 2 % 180  # of the gradient, clockwise from rightwards
    wanted = {"level": 90, "upright": 0, "rising": 45, "falling": 135}[name.split()[1]]
    off = np.abs((angle - wanted + 90) % 180 - 90)
    assert np.median(off) < 10 and np.mean(off < 22) > 0.9
    variance = np.sum((middle - middle.mean(axis=(1, 2), keepdims=True)) ** 2, axis=(1, 2, 3))
    length = 2 * np.pi / np.sqrt((xx + yy) / variance)
    assert np.mean((length < 8.2) == name.startswith("fine")) > 0.9


@pytest.mark.parametrize("kind", ["checks", "rings"])
def test_colour_pairs_differ_in_colour_alone(kind):
    """The same image drawn red-green and blue-yellow has nearly the same luminance."""
    red, blue = (draw(label(f"{colours} {kind}"), 200).astype(float) for colours in ("red-green", "blue-yellow"))
    grey = (red - blue) @ LUMINANCE
    coloured = np.abs(red - blue).mean()
    assert np.abs(grey).mean() < 0.12 * coloured
    signed = grey.mean(axis=(1, 2))
    assert abs(signed.mean()) < 4 * signed.std() / np.sqrt(len(signed)) + 0.05


def test_colours_are_what_they_are_called():
    """The principal direction of the middle's colours is red against green, or blue against yellow."""
    for colours, one, other in (("red-green", 0, 1), ("blue-yellow", 2, 0)):
        for kind in ("checks", "rings"):
            right = 0
            for image in draw(label(f"{colours} {kind}")).astype(float):
                pixels = image[22:42, 22:42].reshape(-1, 3)
                v = np.linalg.eigh(np.cov(pixels.T))[1][:, 2]
                right += v[one] * v[other] < 0 and abs(v[one]) > 0.6
            assert right > 0.9 * 60


def test_stripes_come_in_any_colour():
    """Level stripes too are red-green, blue-yellow or light-dark, so that colour alone does not give the class."""
    leading = []
    for image in draw(label("coarse level stripes"), 120).astype(float):
        v = np.linalg.eigh(np.cov(image[20:44, 20:44].reshape(-1, 3).T))[1][:, 2]
        leading.append("bright" if (v > 0).all() or (v < 0).all() else "red" if abs(v[0]) > abs(v[2]) else "blue")
    assert all(leading.count(each) > 15 for each in ("bright", "red", "blue"))


def test_a_linear_classifier_fails():
    dataset = shapes.load(0, train=2400, test=480)

    def features(images):
        return images.images.reshape(-1, 16, 4, 16, 4, 3).mean(axis=(2, 4)).reshape(len(images), -1) / 64

    x, x_test = features(dataset.train), features(dataset.test)
    x, x_test = x - x.mean(axis=0), x_test - x.mean(axis=0)
    targets = np.eye(12)[dataset.train.labels] - 1 / 12
    W = np.linalg.solve(x.T @ x + 1000 * np.eye(x.shape[1]), x.T @ targets)
    assert np.mean((x_test @ W).argmax(axis=1) != dataset.test.labels) > 0.5


def test_sine():
    turns = np.linspace(-3, 3, 10_001, dtype=np.float32)
    y = outlines.sine(turns)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, np.sin(2 * np.pi * turns.astype(float)), atol=0.0011)


def test_turned():
    x, y = outlines.turned(np.float32(3), np.float32(4), np.float32(0.25))  # a quarter turn: up becomes along
    np.testing.assert_allclose((x, y), (4, -3), atol=0.02)


@pytest.mark.parametrize("outline", outlines.OUTLINES, ids=lambda f: f.__name__[1:])
def test_outlines(outline):
    x, y = np.meshgrid(np.arange(-40, 41, dtype=np.float32), np.arange(-40, 41, dtype=np.float32))
    beyond = outline(x, y, np.float32(20))
    assert beyond.shape == x.shape and beyond.dtype == np.float32
    assert beyond[40, 40] < -8  # the middle is inside
    assert 500 < (beyond < 0).sum() < 1600
    assert np.hypot(x, y)[beyond < 0].max() < 29
    steep = np.hypot(*np.gradient(beyond))[np.abs(beyond) < 2]
    assert 0.8 < np.median(steep) < 1.25  # near the edge it is a distance in pixels, which makes edges one pixel soft


def test_outline_corners():
    """Corners are counted along circles with radii between the middles of the edges and the corners."""
    for outline, corners in zip(outlines.OUTLINES, (0, 3, 4, 6, 6, 4), strict=True):
        turns = np.arange(720) / 720 * 2 * np.pi
        changes = []
        for radius in np.arange(8, 27, 0.25):
            points = (np.cos(turns) * radius, np.sin(turns) * radius)
            inside = outline(*(p.astype(np.float32) for p in points), np.float32(20)) < 0
            changes.append(np.sum(inside & ~np.roll(inside, 1)))
        assert max(changes) == corners

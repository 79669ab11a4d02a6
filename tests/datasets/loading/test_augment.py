"""Crops, reflections, means and colours against explicit slicing and formulas; random draws against golden hashes."""

import hashlib

import numpy as np
import pytest

from tinyalex.datasets.dataset import Dataset, ImageSet
from tinyalex.datasets.loading import augment

GOLDEN = "88206dc2a103334bece8880a69ae547f00527c5cd11fb2792276af119be14586"
NO_IMAGES = ImageSet(np.zeros((0, 4, 4, 3), np.uint8), np.zeros(0, int))
FIRST_OFFSETS = [[2, 26], [31, 25], [13, 12], [26, 1]]
FIRST_FLIPS = [True, True, False, False, False, True, False, False]


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (6, 9, 9, 3), dtype=np.uint8)


@pytest.fixture
def mean():
    return np.random.default_rng(1).uniform(0, 255, (9, 9, 3)).astype(np.float32)


def test_variants_of_an_image():
    assert augment.positions(256, 224) ** 2 * 2 == 2178  # the paper says 2048, its code draws offsets 0 to 32
    offsets, flips = augment.draw_crops(0, 0, np.arange(60_000), 256, 224, flip=True)
    drawn = np.unique(np.column_stack([offsets, flips]), axis=0)
    assert len(drawn) == 2178
    assert offsets.min(axis=0).tolist() == [0, 0] and offsets.max(axis=0).tolist() == [32, 32]


def test_draws_are_uniform_and_independent():
    offsets, flips = augment.draw_crops(5, 2, np.arange(33_000), 40, 8, flip=True)
    counts = np.array([np.bincount(offsets[:, axis], minlength=33) for axis in (0, 1)])
    assert np.abs(counts - 1000).max() < 5 * np.sqrt(1000)
    assert abs(flips.mean() - 0.5) < 5 * 0.5 / np.sqrt(33_000)
    for a, b in ((offsets[:, 0], offsets[:, 1]), (offsets[:, 0], flips), (offsets[:-1, 0], offsets[1:, 0])):
        assert abs(np.corrcoef(a, b)[0, 1]) < 5 / np.sqrt(33_000)


def test_draws_depend_on_seed_epoch_and_unit_only():
    units = np.array([4, 9, 4, 70_000])
    offsets, flips = augment.draw_crops(1, 3, units, 256, 224, flip=True)
    np.testing.assert_array_equal(offsets[0], offsets[2])
    assert flips[0] == flips[2]
    for i, unit in enumerate(units):
        alone, flip = augment.draw_crops(1, 3, [unit], 256, 224, flip=True)
        assert alone[0].tolist() == offsets[i].tolist() and flip[0] == flips[i]
    many = np.arange(200)
    first = augment.draw_crops(1, 3, many, 256, 224, flip=True)
    for seed, epoch in ((2, 3), (1, 4)):
        second = augment.draw_crops(seed, epoch, many, 256, 224, flip=True)
        assert np.mean(first[0] == second[0]) < 0.1 and 0.3 < np.mean(first[1] == second[1]) < 0.7


def test_no_flip_changes_nothing_else():
    offsets, flips = augment.draw_crops(0, 0, np.arange(50), 64, 56, flip=False)
    np.testing.assert_array_equal(offsets, augment.draw_crops(0, 0, np.arange(50), 64, 56, flip=True)[0])
    assert flips.dtype == bool and not flips.any()


def test_crops_of_the_images_size_have_offset_zero():
    assert not augment.draw_crops(0, 0, np.arange(50), 32, 32, flip=False)[0].any()


def test_golden_draws():
    offsets, flips = augment.draw_crops(0, 0, np.arange(1000), 256, 224, flip=True)
    stream = offsets.astype("<i8").tobytes() + flips.tobytes()
    assert hashlib.sha256(stream).hexdigest() == GOLDEN
    assert offsets[:4].tolist() == FIRST_OFFSETS and flips[:8].tolist() == FIRST_FLIPS


def some_params(colour=True):
    """Offsets in all corners, flips and colour shifts of six images."""
    offsets = np.array([[0, 0], [4, 4], [0, 4], [3, 1], [2, 2], [4, 0]])
    shifts = np.random.default_rng(2).normal(0, 20, (6, 3)).astype(np.float32) if colour else None
    return augment.AugmentParams(offsets, np.array([False, True, True, False, True, False]), shifts)


@pytest.mark.parametrize("matched", [True, False])
def test_crop_by_hand(images, mean, matched):
    """Every pixel one by one: the image's, less the mean at the same position in the image, or in the centre crop."""
    params = some_params(colour=False)
    before = images.copy(), mean.copy()
    y = augment.Cropper(mean, 5, matched)(images, params)
    assert y.shape == (6, 5, 5, 3) and y.dtype == np.float32
    for i, (top, left) in enumerate(params.offsets):
        for row in range(5):
            for column in range(5):
                source = left + (4 - column if params.flips[i] else column)
                lost = mean[top + row, source] if matched else mean[2 + row, 2 + column]
                np.testing.assert_array_equal(y[i, row, column], images[i, top + row, source].astype(np.float32) - lost)
    np.testing.assert_array_equal(images, before[0])
    np.testing.assert_array_equal(mean, before[1])


def test_colours_and_factors_by_hand(images, mean):
    """Shifts are added to every pixel, then one factor after the other is multiplied, each rounded to float32."""
    params = some_params()
    y = augment.Cropper(mean, 5, True, [1.0 / 1.1, 1, 0.017])(images, params)
    wanted = augment.Cropper(mean, 5, True)(images, some_params(colour=False)) + params.shifts[:, None, None, :]
    wanted = wanted * np.float32(1.0 / 1.1) * np.float32(0.017)
    np.testing.assert_array_equal(y, wanted)
    assert y.dtype == wanted.dtype == np.float32


def test_crop_of_a_strided_view(images, mean):
    cropper, params = augment.Cropper(mean, 6, True), some_params().select(slice(0, 3))
    params = params._replace(offsets=params.offsets // 2)
    np.testing.assert_array_equal(cropper(images[::2], params), cropper(images[::2].copy(), params))


def test_crop_into_given_memory(images, mean):
    cropper, params, space = augment.Cropper(mean, 5, True), some_params(), np.full((6, 2, 5, 5, 3), np.nan, np.float32)
    assert np.shares_memory(cropper(images, params, out=space[:, 1]), space)
    np.testing.assert_array_equal(space[:, 1], cropper(images, params))
    assert np.isnan(space[:, 0]).all()


@pytest.mark.parametrize("colour", [True, False])
@pytest.mark.parametrize("matched", [True, False])
def test_a_device_crops_to_the_same_bits(device, images, mean, matched, colour):
    cropper, params = augment.Cropper(mean, 5, matched, [1.0 / 1.1, 0.017]), some_params(colour)
    there = [device.put(array) for array in (images, *params) if array is not None]
    y = device.get(cropper.on(device)(*there))
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, cropper(images, params))
    np.testing.assert_array_equal(device.get(there[0]), images)


def test_ten_views_by_hand():
    """The corners from the top left in reading order, the centre; then these five reflected."""
    views = augment.views(256, 224, 10)
    assert [offset for offset, _ in views[:5]] == [(0, 0), (0, 32), (32, 0), (32, 32), (16, 16)]
    assert [offset for offset, _ in views[5:]] == [offset for offset, _ in views[:5]]
    assert [flip for _, flip in views] == [False] * 5 + [True] * 5
    assert augment.views(256, 224, 1) == [((16, 16), False)]
    grid = [(top, left) for top in (0, 16, 32) for left in (0, 16, 32)]
    assert augment.views(256, 224, 9) == [(offset, False) for offset in grid]
    with pytest.raises(ValueError, match="use 1, 9 or 10"):
        augment.views(256, 224, 2)


@pytest.mark.parametrize(("size", "crop", "offset"), [(256, 224, 16), (256, 227, 14), (64, 56, 4), (32, 32, 0)])
def test_centre(size, crop, offset):
    assert augment.centre(size, crop) == offset


def test_colour_2012_has_the_standard_deviations_of_the_components():
    """0.1 of the components' standard deviations: 12.2 grey levels along ImageNet's first."""
    deviations = np.array([19.7208, 37.0939, 121.7801])
    vectors = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    shifts = augment.draw_colours(0, 1, np.arange(20_000), (deviations, vectors), "2012", 0.1)
    assert shifts.shape == (20_000, 3) and shifts.dtype == np.float32
    along = shifts @ vectors  # back to the components
    np.testing.assert_allclose(along.std(axis=0), 0.1 * deviations, rtol=0.03)
    np.testing.assert_allclose(along.mean(axis=0) / along.std(axis=0), 0, atol=0.03)
    np.testing.assert_allclose(np.corrcoef(along.T), np.eye(3), atol=0.03)


def test_colour_as_in_the_paper_has_the_eigenvalues_for_pixels_from_0_to_1():
    deviations = np.array([19.7208, 37.0939, 121.7801])
    shifts = augment.draw_colours(0, 1, np.arange(20_000), (deviations, np.eye(3)), "paper", 0.1)
    np.testing.assert_allclose(shifts.std(axis=0), 255 * 0.1 * (deviations / 255) ** 2, rtol=0.03)
    assert 5.5 < shifts[:, 2].std() < 6.1


def test_colour_draws_depend_on_seed_epoch_and_sample_only():
    colour = np.array([1.0, 2.0, 3.0]), np.eye(3)
    shifts = augment.draw_colours(0, 0, [5, 6, 5], colour, "2012", 0.1)
    assert shifts[0].tolist() == shifts[2].tolist() != shifts[1].tolist()
    for seed, epoch in ((1, 0), (0, 1)):
        assert shifts[0].tolist() != augment.draw_colours(seed, epoch, [5], colour, "2012", 0.1)[0].tolist()


def test_mean_image_is_exact():
    images = np.random.default_rng(0).integers(0, 256, (1300, 4, 4, 3), dtype=np.uint8)  # more than one chunk
    dataset = Dataset("test", ["a"], ImageSet(images, np.zeros(1300, int)), NO_IMAGES)
    sums = [sum(int(v) for v in images[:, r, c, k]) for r, c, k in ((0, 0, 0), (3, 1, 2))]
    assert dataset.mean.dtype == np.float32 and dataset.mean.shape == (4, 4, 3)
    assert [dataset.mean[0, 0, 0], dataset.mean[3, 1, 2]] == [np.float32(s / 1300) for s in sums]


def test_colour_components():
    """Against NumPy's covariance in float64; standard deviations, not eigenvalues; the sum keeps the variance."""
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(700, 5, 5, 3)) @ (20 * rng.normal(size=(3, 3))) + 128
    images = np.clip(mixed, 0, 255).astype(np.uint8)
    deviations, vectors = Dataset("test", ["a"], ImageSet(images, np.zeros(700, int)), NO_IMAGES).colour
    pixels = images.reshape(-1, 3).astype(float)
    covariance = np.cov(pixels.T, bias=True)
    np.testing.assert_allclose((vectors * deviations**2) @ vectors.T, covariance, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=1e-12)
    assert (np.diff(deviations) > 0).all() and deviations.dtype == vectors.dtype == np.float64
    assert (np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0) > 0).all()


def test_colour_of_grey_images():
    """Two components have variance zero; a rounding error below zero must not reach the square root."""
    grey = np.repeat(np.random.default_rng(0).integers(0, 256, (9, 5, 5, 1), dtype=np.uint8), 3, axis=3)
    deviations, _ = Dataset("test", ["a"], ImageSet(grey, np.zeros(9, int)), NO_IMAGES).colour
    np.testing.assert_allclose(deviations, [0, 0, np.sqrt(3) * grey.std()], atol=1e-5)

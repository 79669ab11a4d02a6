"""Batches: the same bits whatever the timing, every image once an epoch, and no thread left over."""

import hashlib
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from tinyalex import randomness
from tinyalex.datasets.dataset import Dataset, ImageSet
from tinyalex.datasets.loading import augment, loader
from tinyalex.datasets.loading import batches as loading
from tinyalex.errors import DataError
from tinyalex.recipes import recipe

GOLDEN = "aaf7b42cfa87df64bb04ede0bcb594346f54b38e67a7c04a3a8661259892f9c7"
NO_IMAGES = ImageSet(np.zeros((0, 40, 40, 3), np.uint8), np.zeros(0, int))
FIRST = [3568, 7171, 4423, 3849, 3409]
GOLDEN_BATCHES = {
    "2012": "e5af8dc4f1cb9cb905234db402e3c2d215ee22fcf5165266586ba691565be11b",
    "paper": "b107ce96b7aff5f1f97a3eaf6122cf4409abe9a0f2e6b4f95b4393198f9dbc4b",
}


@pytest.fixture(scope="module")
def dataset():
    rng = np.random.default_rng(0)
    train, test = (
        ImageSet(rng.integers(0, 256, (n, 40, 40, 3), dtype=np.uint8), rng.integers(0, 5, n)) for n in (50, 21)
    )
    return Dataset("test", list("abcde"), train, test)


def make_recipe(batch=8, **data):
    made = recipe.load("paper", ["net.input=32"])
    data = {"flip": True, "shared_crop": 1, "mean": "image", "scale": 1.0, "colour": "none", **data}
    return replace(made, data=replace(made.data, **data), learning=replace(made.learning, batch=batch))


def same(a, b):
    return all(np.array_equal(x, y) and x.dtype == y.dtype for x, y in zip(a, b, strict=True))


def loader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("tinyalex-loader")]


def test_an_epoch_has_every_image_once(dataset):
    batches = list(loading.training_batches(dataset, make_recipe(), 0, 0))
    assert [len(batch.images) for batch in batches] == [8] * 6 + [2]
    indices = np.concatenate([batch.indices for batch in batches])
    assert sorted(indices) == list(range(50)) and indices.tolist() != list(range(50))
    for batch in batches:
        assert batch.images.dtype == np.float32 and batch.images.shape[1:] == (32, 32, 3)
        assert batch.labels.dtype == np.int64 and batch.labels.tolist() == dataset.train.labels[batch.indices].tolist()


def test_order_changes_with_seed_and_epoch(dataset):
    orders = [
        np.concatenate([b.indices for b in loading.training_batches(dataset, make_recipe(), seed, epoch)]).tolist()
        for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, 0))
    ]
    assert orders[0] == orders[3] and len({tuple(order) for order in orders}) == 3


def test_golden_order():
    order = randomness.permutation(randomness.key(0, "order", 0), 9600)
    assert hashlib.sha256(order.astype("<i8").tobytes()).hexdigest() == GOLDEN
    assert order[:5].tolist() == FIRST


@pytest.mark.parametrize("colour", ["2012", "paper"])
def test_golden_batches(dataset, colour):
    rest = {"2012": {"scale": 0.017}, "paper": {"mean": "centre", "shared_crop": 4}}[colour]
    digest = hashlib.sha256()
    for batch in loading.training_batches(dataset, make_recipe(colour=colour, **rest), 3, 2):
        for array in batch:
            digest.update(array)
    assert digest.hexdigest() == GOLDEN_BATCHES[colour]


@pytest.mark.parametrize(("reading", "divisor"), [("2012", 1.1), ("paper", 1.0)])
def test_an_image_by_hand(dataset, reading, divisor):
    """Crop, flip, mean, colour and scale of one image, put together from the drawn parameters."""
    made = make_recipe(colour=reading, scale=0.5)
    batch = list(loading.training_batches(dataset, made, 3, 2))[4]
    sample = batch.indices[1]
    (top, left), flip = (array[0] for array in augment.draw_crops(3, 2, [sample], 40, 32, True))
    shift = augment.draw_colours(3, 2, [sample], dataset.colour, reading, 0.1)[0]
    image = dataset.train.images[sample].astype(float) - dataset.mean
    image = image[top : top + 32, left : left + 32]
    wanted = ((image[:, ::-1] if flip else image) + shift) / divisor * 0.5
    np.testing.assert_allclose(batch.images[1], wanted, atol=1e-4)


@pytest.mark.parametrize("shared", [1, 4, 20, 64])
def test_shared_crops(dataset, shared):
    """Neighbours in the epoch's order share one crop and flip, across batches too; 2012 took 32."""
    one = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    same_images = Dataset("test", ["a"], ImageSet(np.stack([one] * 50), np.zeros(50, int)), NO_IMAGES)
    same_images.__dict__["mean"] = np.zeros((40, 40, 3), np.float32)
    batches = loading.training_batches(same_images, make_recipe(shared_crop=shared), 0, 0)
    kinds = [image.tobytes() for batch in batches for image in batch.images]
    groups = [kinds[start : start + shared] for start in range(0, 50, shared)]
    assert all(len(set(group)) == 1 for group in groups)
    assert len(set(kinds)) > 0.8 * len(groups)


@pytest.mark.parametrize("first", [0, 1, 5, 6, 7, 9])
def test_resuming_in_the_middle_of_an_epoch(dataset, first):
    made = make_recipe(colour="2012", shared_crop=3)
    whole = list(loading.training_batches(dataset, made, 0, 1))
    rest = list(loading.training_batches(dataset, made, 0, 1, first_batch=first))
    assert len(rest) == max(0, 7 - first) and all(map(same, whole[first:], rest))


class Delayed(ImageSet):
    """Images that take a while to read, some longer than others."""

    def read(self, indices, out=None):
        time.sleep(0.002 * (indices[0] % 5))
        return super().read(indices, out=out)


@pytest.mark.parametrize("threads", [0, 1, 2, 7])
def test_same_bits_whatever_the_timing_and_the_threads(dataset, threads):
    made = make_recipe(batch=4, colour="paper")
    alone = list(loading.training_batches(dataset, made, 0, 0, threads=0))
    slow = Dataset("test", dataset.classes, Delayed(dataset.train.images, dataset.train.labels), dataset.test)
    slow.__dict__.update(mean=dataset.mean, colour=dataset.colour)
    batches = list(loading.training_batches(slow, made, 0, 0, threads=threads))
    assert len(batches) == len(alone) == 13 and all(map(same, alone, batches))
    slow_caller = []
    for batch in loading.training_batches(dataset, made, 0, 0, threads=threads):
        time.sleep(0.002)
        slow_caller.append(batch)
    assert all(map(same, alone, slow_caller))


@pytest.mark.parametrize("threads", [0, 1, 7])
def test_cropping_raw_batches_gives_the_same_batches(dataset, threads):
    """What a device gets: whole images and the parameters of their crops."""
    made = make_recipe(colour="2012", scale=0.5)
    epoch = loader.Epoch(dataset, made, 1, 2)
    raw_batches = list(loader.raw_batches(epoch, 2, threads=threads))
    batches = list(loading.training_batches(dataset, made, 1, 2, first_batch=2))
    assert len(raw_batches) == len(batches) == 5
    for raw, batch in zip(raw_batches, batches, strict=True):
        np.testing.assert_array_equal(raw.images, dataset.train.images[raw.indices])
        assert raw.images.dtype == np.uint8
        cropped = epoch.cropper(raw.images, raw.params)
        assert same(batch, (cropped, raw.labels, raw.indices))


def test_raw_batches_go_into_the_given_memory(dataset):
    taken = []

    def empty(shape, dtype):
        taken.append(np.empty(shape, dtype))
        return taken[-1]

    epoch = loader.Epoch(dataset, make_recipe(colour="2012"), 1, 2)
    first = next(loader.raw_batches(epoch, threads=0, empty=empty))
    arrays = [first.images, *first.params]
    assert len(taken) == 4 and all(a is b for a, b in zip(arrays, taken, strict=True))


@pytest.mark.parametrize("kind", ["batches", "raw batches"])
def test_a_batch_keeps_its_memory_while_anything_views_it(dataset, kind):
    """Batches that are kept are not overwritten, nor is a batch of which only a view is kept."""

    def iterate():
        if kind == "batches":
            return loading.training_batches(dataset, make_recipe(batch=3), 0, 0, threads=2)
        return loader.raw_batches(loader.Epoch(dataset, make_recipe(batch=3), 0, 0), threads=2)

    whole = list(iterate())
    assert not any(np.shares_memory(a.images, b.images) for a, b in zip(whole, whole[1:], strict=False))
    expected = [batch.images.copy() for batch in whole]
    views = [batch.images[1:, ::-1, 3:5] for batch in iterate()]
    for view, images in zip(views, expected, strict=True):
        np.testing.assert_array_equal(view, images[1:, ::-1, 3:5])


def test_memory_of_dropped_batches_is_reused(dataset):
    """An epoch of 25 batches lives in the memory of a few."""
    addresses = {batch.images.ctypes.data for batch in loading.training_batches(dataset, make_recipe(batch=2), 0, 0)}
    assert len(addresses) <= 5


def test_images_are_not_changed(dataset):
    before = dataset.train.images.copy(), dataset.mean.copy()
    list(loading.training_batches(dataset, make_recipe(colour="2012", scale=0.1), 0, 0))
    np.testing.assert_array_equal(dataset.train.images, before[0])
    np.testing.assert_array_equal(dataset.mean, before[1])


@pytest.mark.parametrize("colour", ["2012", "paper"])
def test_a_phase_can_switch_colour_noise_off(dataset, colour):
    plain = list(loading.training_batches(dataset, make_recipe(), 0, 0))
    assert all(map(same, plain, loading.training_batches(dataset, make_recipe(colour=colour), 0, 0, colour_noise=0.0)))
    noisy, stronger = (
        next(loading.training_batches(dataset, make_recipe(colour=colour), 0, 0, colour_noise=noise)).images
        for noise in (None, 0.3)
    )
    assert not np.array_equal(noisy, plain[0].images) and not np.array_equal(noisy, stronger)


def test_an_error_is_raised_with_its_batch(dataset):
    class Failing(ImageSet):
        def read(self, indices, out=None):
            if bad in indices:
                raise OSError("disk gone")
            return super().read(indices, out=out)

    order = randomness.permutation(randomness.key(0, "order", 0), 50)
    bad = order[17]  # in batch 2
    failing = Dataset("test", list("abcde"), Failing(dataset.train.images, dataset.train.labels), NO_IMAGES)
    failing.__dict__["mean"] = dataset.mean
    batches = loading.training_batches(failing, make_recipe(), 0, 0)
    assert len(next(batches).images) == len(next(batches).images) == 8
    with pytest.raises(OSError, match="disk gone"):
        next(batches)
    assert not loader_threads()


def test_test_batches_are_centre_crops(dataset):
    made = make_recipe(colour="2012", scale=0.25, shared_crop=4)
    batches = list(loading.test_batches(dataset.test, dataset.mean, made, 8))
    assert [len(batch.images) for batch in batches] == [8, 8, 5]
    assert np.concatenate([batch.indices for batch in batches]).tolist() == list(range(21))
    wanted = (dataset.test.images.astype(np.float32) - dataset.mean)[:, 4:36, 4:36] * np.float32(0.25)
    np.testing.assert_array_equal(np.concatenate([batch.images for batch in batches]), wanted)
    assert np.concatenate([batch.labels for batch in batches]).tolist() == dataset.test.labels.tolist()


@pytest.mark.parametrize("mean", ["image", "centre"])
def test_ten_views_of_test_images(dataset, mean):
    """Ten rows an image: corners, centre, and their reflections, each less the mean."""
    made = make_recipe(mean=mean, scale=0.25)
    batches = list(loading.test_batches(dataset.test, dataset.mean, made, 8, views=10))
    assert [len(batch.images) for batch in batches] == [80, 80, 50]
    assert [len(batch.labels) for batch in batches] == [8, 8, 5]
    for i, (top, left) in ((0, (0, 0)), (1, (0, 8)), (2, (8, 0)), (3, (8, 8)), (4, (4, 4))):
        for flip in (False, True):
            window = np.s_[top : top + 32, left : left + 32]
            image, lost = dataset.test.images[9][window].astype(np.float32), dataset.mean[window]
            if mean == "centre":
                lost = dataset.mean[4:36, 4:36]
            if flip:
                image, lost = image[:, ::-1], lost[:, ::-1] if mean == "image" else lost
            wanted = (image - lost) * np.float32(0.25)
            np.testing.assert_array_equal(batches[1].images[10 + i + 5 * flip], wanted)


def test_no_crop_if_the_net_takes_whole_images(dataset):
    made = make_recipe(flip=False)
    made = replace(made, net=replace(made.net, input=40))
    batch = next(loading.training_batches(dataset, made, 0, 0))
    wanted = dataset.train.images[batch.indices].astype(np.float32) - dataset.mean
    np.testing.assert_array_equal(batch.images, wanted)


def test_images_too_small(dataset):
    made = make_recipe()
    made = replace(made, net=replace(made.net, input=41))
    for call in (
        lambda: loading.training_batches(dataset, made, 0, 0),
        lambda: loader.raw_batches(loader.Epoch(dataset, made, 0, 0)),
        lambda: loading.test_batches(dataset.test, dataset.mean, made, 8),
        lambda: loader.prepare_image(dataset.test.images[0], dataset.mean, made),
    ):
        with pytest.raises(DataError) as caught:
            call()
        assert str(caught.value) == ("images: 40 x 40 is too small for crops of 41; use larger images or set net.input")


def test_prepare_image_is_a_test_image(dataset):
    made = make_recipe(scale=0.5, mean="centre")
    batch = next(loading.test_batches(dataset.test, dataset.mean, made, 2))
    prepared = loader.prepare_image(dataset.test.images[1], dataset.mean, made)
    np.testing.assert_array_equal(prepared, batch.images[1])
    wide = np.full((90, 200, 3), 100, np.uint8)
    prepared = loader.prepare_image(wide, dataset.mean, made)
    np.testing.assert_array_equal(prepared, (100 - dataset.mean[4:36, 4:36]) * np.float32(0.5))


@pytest.mark.parametrize(
    ("image", "seen"),
    [
        (np.zeros((5, 5), np.uint8), r"uint8 \(5, 5\)"),
        (np.zeros((5, 5, 4), np.uint8), r"uint8 \(5, 5, 4\)"),
        (np.zeros((5, 5, 3), np.float32), r"float32 \(5, 5, 3\)"),
        (np.zeros((0, 5, 3), np.uint8), r"uint8 \(0, 5, 3\)"),
    ],
)
def test_prepare_image_refuses(dataset, image, seen):
    with pytest.raises(
        DataError, match=f"^image: {seen} is not uint8 \\(height, width, 3\\); convert it to RGB first$"
    ):
        loader.prepare_image(image, dataset.mean, make_recipe())


def test_a_batch_larger_than_the_set(dataset):
    """S11: one batch with every image once."""
    (batch,) = loading.training_batches(dataset, make_recipe(batch=64), 0, 0)
    assert sorted(batch.indices) == list(range(50))

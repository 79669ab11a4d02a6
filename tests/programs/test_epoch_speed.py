"""The batches of the loop in PyTorch are those of tinyalex, so that both sides of the comparison do the same work."""

import numpy as np
import pytest

from tests.support.small_runs import small, stripes
from tinyalex.datasets.loading.batches import test_batches as batches_of_tests
from tinyalex.recipes import recipe

pytest.importorskip("torch", reason="PyTorch is not installed")


def feed(*changes):
    from tests.programs.epoch_speed import Feed

    dataset = stripes()
    made = recipe.with_classes(small(), len(dataset.classes))
    made = recipe.parse(recipe.to_toml(made), overrides=changes)
    return Feed(dataset, made), dataset, made


def test_test_batches_are_those_of_tinyalex():
    fed, dataset, made = feed("learning.batch=7")
    theirs = list(fed.epoch(dataset.test, training=False))
    ours = list(batches_of_tests(dataset.test, dataset.mean, made, made.learning.batch))
    assert len(theirs) == len(ours) > 1
    for (images, labels), batch in zip(theirs, ours, strict=True):
        np.testing.assert_allclose(images.numpy().transpose(0, 2, 3, 1), batch.images, rtol=0, atol=1e-5)
        assert np.array_equal(labels.numpy(), batch.labels)


def test_training_batches_hold_every_image_once_cropped_and_reflected():
    fed, dataset, made = feed("learning.batch=7", "data.flip=true", "data.scale=1.0", "data.colour='none'")
    crop, room = made.net.input, dataset.train.size - made.net.input + 1
    places = [slice(start, start + crop) for start in range(room)]
    whole = dataset.train.images.astype(np.float32) - dataset.mean
    variants = {
        np.ascontiguousarray(part[:, ::way]).tobytes(): number
        for number, image in enumerate(whole)
        for part in (image[down, across] for down in places for across in places)
        for way in (1, -1)
    }
    seen = []
    for images, labels in fed.epoch(dataset.train, training=True):
        for image, label in zip(images.numpy().transpose(0, 2, 3, 1), labels.numpy(), strict=True):
            number = variants[np.ascontiguousarray(image).tobytes()]
            assert dataset.train.labels[number] == label
            seen.append(number)
    assert len(seen) == len(dataset.train)

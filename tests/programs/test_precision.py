"""The program that compares how nets learn in several precisions: its images, its table, and a run of one step."""

import numpy as np

from tests.programs import precision
from tests.support.small_runs import small, stripes


def test_images_are_means_of_neighbours():
    dataset = precision.small_images(24, 12)
    assert (len(dataset.train), len(dataset.test), dataset.train.size) == (24, 12, 32)
    whole = precision.shapes.load(train=24, test=12)
    pixels = whole.train.read(np.array([5]))[0, 8:10, 20:22, 1]
    assert dataset.train.read(np.array([5]))[0, 4, 10, 1] == round(pixels.mean())
    assert np.array_equal(dataset.train.labels, whole.train.labels)


def test_precisions_begin_with_the_same_net_and_differ():
    ends = [
        precision.curves(small(f"net.precision={each}", epochs=1), stripes(), device, seed=1)
        for each, device in (("float32", "cpu"), ("bf16", "fake:0"))
    ]
    assert all(len(losses) == len(errors) == 1 for losses, errors in ends)
    assert 0 < abs(ends[0][0][0] - ends[1][0][0]) < 0.02


def test_the_table_has_means_and_the_largest_differences():
    found = {
        "float32@cpu": {0: ([2.0, 1.0], [0.9, 0.2]), 1: ([2.0, 0.5], [0.9, 0.1])},
        "bf16@cuda:0": {0: ([2.0, 1.1], [0.9, 0.2]), 1: ([2.0, 0.7], [0.9, 0.16])},
    }
    head, first, second = precision.table(found)
    assert first.split() == ["float32@cpu", "0.750", "15.00%", "20.00%,", "10.00%"]
    assert second.endswith("20.00%, 16.00%; beside the first at most 0.200 and 6.00%") and "0.900" in second

"""Parts of a batch: every image belongs to one, and their sum is the same for any number of ranks."""

import numpy as np
import pytest

from tinyalex.errors import UsageError
from tinyalex.ranks import parts as rules
from tinyalex.ranks.parts import Parts

CASES = [(count, ranks) for count in (1, 2, 3, 4, 6, 7, 8) for ranks in range(1, count + 1)]


@pytest.mark.parametrize(("count", "ranks"), CASES)
def test_every_image_belongs_to_one_part_of_one_rank(count, ranks):
    parts = Parts(count, ranks)
    for images in (0, 1, 2, 3, 5, 16, 31, 128):
        slices = parts.slices(images)
        assert [i for part in slices for i in range(images)[part]] == list(range(images))
        assert max(len(range(images)[part]) for part in slices) <= -(-images // count)
        shares = [range(images)[parts.share(rank, images)] for rank in range(ranks)]
        assert [i for share in shares for i in share] == list(range(images))
    assert [part for rank in range(ranks) for part in parts.of_rank(rank)] == list(range(count))


def reference(values, low=0, high=None):
    # The sum over parts [low, high) as a binary tree: halves of a power of two.
    high = (1 << (len(values) - 1).bit_length()) if high is None else high
    if high - low == 1:
        return values[low] if low < len(values) else None
    middle = (low + high) // 2
    halves = [half for half in (reference(values, low, middle), reference(values, middle, high)) if half is not None]
    return None if not halves else halves[0] if len(halves) == 1 else halves[0] + halves[1]


def summed(count, ranks, images, values):
    # What all ranks have left, summed; and whether each has what the others expect.
    parts, nodes = Parts(count, ranks), {}
    for rank in range(ranks):
        left = {}
        for part in parts.of_rank(rank):
            if parts.slices(images)[part].start < parts.slices(images)[part].stop:
                rules.add(left, part, values[part].copy(), np.add)
        assert list(left) == parts.nodes(rank, images)
        nodes |= left
    return parts.total(nodes, np.add)


@pytest.mark.parametrize(("count", "ranks"), CASES)
def test_the_sum_is_that_of_one_tree_to_the_bit(count, ranks):
    values = list(np.random.default_rng(count).standard_normal((count, 50)).astype(np.float32) * 10.0 ** np.arange(50))
    for images in (count, 3 * count + 1, 128):
        assert np.array_equal(summed(count, ranks, images, values), reference(values))


@pytest.mark.parametrize("ranks", [1, 2, 3, 5, 8])
def test_parts_without_images_are_left_out_for_any_number_of_ranks(ranks):
    values = list(np.random.default_rng(0).standard_normal((8, 50)).astype(np.float32))
    for images in range(8):
        present = [part.start < part.stop for part in Parts(8).slices(images)]
        expected = reference(
            [value if there else np.zeros(50, np.float32) for value, there in zip(values, present, strict=True)]
        )
        found = summed(8, ranks, images, values)
        assert (found is None) if images == 0 else np.array_equal(found, expected)


def test_a_sum_in_the_order_of_the_ranks_would_be_noticed():
    values = list(np.random.default_rng(1).standard_normal((8, 500)).astype(np.float32))
    in_order = sum(values[1:], values[0])
    assert not np.array_equal(in_order, reference(values)) and np.allclose(in_order, reference(values), atol=1e-5)


def test_more_ranks_than_parts_are_refused():
    with pytest.raises(UsageError, match=r"ranks: 3, but each batch has 2 parts \(learning.parts\)"):
        Parts(2, 3)


def test_the_work_of_a_part_is_divided_by_its_images_alone():
    assert [Parts(count).shares_of_work(128) for count in (2, 4, 8, 16, 64)] == [4, 2, 1, 1, 1]

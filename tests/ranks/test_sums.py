"""Sums over ranks: the same bits on all ranks for any number of them, and as many bytes as predicted."""

import numpy as np
import pytest

from tests.ranks.test_parts import reference
from tests.support.ranks import on_ranks
from tinyalex.ranks import ledger, sums
from tinyalex.ranks import parts as rules
from tinyalex.ranks.parts import Parts

SIZE = 1003  # no multiple of anything


def total(world, values, count, images=64, how="ordered"):
    parts = Parts(count, world.size)
    found = sums.SUMS[how](world, parts, SIZE, np.dtype("float32"))
    nodes = {}
    for part in parts.of_rank(world.rank):
        if parts.slices(images)[part].start < parts.slices(images)[part].stop:
            array = np.zeros(found.padded, np.float32)
            array[:SIZE] = values[part]
            rules.add(nodes, part, array, np.add)
    return found.start(nodes, images).finish()[:SIZE].copy(), world


@pytest.mark.parametrize(("count", "ranks"), [(4, 1), (4, 2), (4, 3), (4, 4), (6, 5), (7, 3), (8, 6)])
@pytest.mark.parametrize("images", [64, 5, 1])
def test_all_ranks_get_the_sum_of_the_tree(count, ranks, images, monkeypatch):
    monkeypatch.setattr(sums, "CHUNK", 100)  # several messages for each slice
    values = list(np.random.default_rng(0).standard_normal((count, SIZE)).astype(np.float32))
    there = [part.start < part.stop for part in Parts(count).slices(images)]
    expected = reference([value if used else np.zeros_like(value) for value, used in zip(values, there, strict=True)])
    for found, _ in on_ranks(ranks, lambda world: total(world, values, count, images)):
        assert np.array_equal(found, expected)


def test_all_reduce_agrees_up_to_rounding():
    values = list(np.random.default_rng(0).standard_normal((5, SIZE)).astype(np.float32))
    for found, _ in on_ranks(5, lambda world: total(world, values, 5, how="fast")):
        assert np.allclose(found, sum(values), atol=1e-5) and not np.array_equal(found, reference(values))


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_bytes_are_those_of_the_ledger(ranks):
    values = list(np.ones((ranks, SIZE), np.float32))
    net = ledger.Net(SIZE, ())
    predicted = ledger.data_parallel(net, ranks, images=64)
    for _, world in on_ranks(ranks, lambda world: total(world, values, ranks)):
        assert world.sent == world.received
        assert predicted <= world.received <= predicted + 2 * 4 * sums.ALIGN * ranks  # slices are whole lines
    assert ledger.data_parallel(net._replace(convolutions=SIZE // 2), ranks, 64) < predicted


def test_the_ledger_of_the_papers_net():
    # Counted by hand: gradients of all parameters; those of the convolutions and activations; factors.
    from tinyalex.network import alexnet, summary
    from tinyalex.recipes import recipe

    net = summary.for_ledger(alexnet.describe(recipe.load("original").net))
    assert net == (2_334_080, ((9216, 4096), (4096, 4096), (4096, 1000)), 4)
    convolutions, others = 2 * 7 * 2_334_080 * 4 // 8, 7 * 128
    assert ledger.data_parallel(net, 8, 128) == 2 * 7 * 60_965_224 * 4 // 8
    assert ledger.one_weird_trick(net, 8, 128) == convolutions + 2 * 4 * others * (9216 + 4096 + 4096)
    assert ledger.factors(net, 8, 128) == convolutions + 4 * others * (9216 + 4096 + 4096 + 4096 + 4096 + 1000)

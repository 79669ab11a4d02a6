"""Random numbers: fixed bits on all machines and devices, and statistical tests."""

import numpy as np
import pytest

from tinyalex.devices.device import Device
from tinyalex.randomness import Step, below, bits, key, normal, permutation, uniform

N = 1 << 16


# What was drawn once is drawn for ever: recorded runs and checkpoints depend on these numbers.


def test_golden_keys():
    assert key(0) == 7163381271710615482
    assert key(7, "crop", 3) == 4997421534491980176
    assert key(7, "crop", "3") == 18048824187078431184  # a number is not its digits


def test_golden_bits():
    assert bits(key(0), np.arange(4)).tolist() == [3084699123, 3821440220, 2536973556, 3967664617]
    grid = bits(key(7, "crop", 3), np.arange(2)[:, None], np.arange(3))
    assert grid.tolist() == [[1723481632, 2069019342, 1831181969], [4139232218, 1303379110, 3486903724]]
    assert int(bits(0, 5)) == 1226964223


def test_golden_draws():
    one, counters = key(1), np.arange(3)
    assert uniform(one, counters).tolist() == [0.011023369967006147, 0.855398201267235, 0.5430889729177579]
    np.testing.assert_allclose(
        normal(one, counters), [-0.5675623096512792, 0.9782361641238013, 1.0627876567323422], rtol=1e-14
    )
    assert below(one, 10, np.arange(8)).tolist() == [0, 8, 5, 2, 8, 8, 0, 9]
    assert permutation(one, 8).tolist() == [0, 6, 3, 2, 5, 4, 1, 7]


def test_types_and_shapes():
    assert bits(3, np.arange(4)[:, None], np.arange(5)).dtype == np.uint32
    assert bits(3, np.arange(4)[:, None], np.arange(5)).shape == (4, 5)
    assert uniform(3, np.arange(4)).dtype == normal(3, np.arange(4)).dtype == np.float64
    assert below(3, 7, np.arange(4)).dtype == permutation(3, 4).dtype == np.int64


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.uint32, np.int64])
def test_type_of_the_counters_does_not_matter(dtype):
    np.testing.assert_array_equal(bits(5, np.arange(100, dtype=dtype)), [bits(5, i) for i in range(100)])


def test_type_of_an_integer_in_the_key_does_not_matter():
    assert key(np.int32(4), "crop", np.int64(3)) == key(4, "crop", 3)
    assert key(0, "3") != key(0, 3)


def test_bits_of_a_slice_are_the_slice_of_the_bits():
    whole = bits(9, np.arange(50)[:, None], np.arange(20))
    np.testing.assert_array_equal(bits(9, np.arange(30, 50)[:, None], np.arange(7, 20)), whole[30:, 7:])


def test_single_counters_draw_without_a_warning():
    with np.errstate(all="raise"):
        bits(key(2), 2**31, 2**32 - 1)
        normal(key(2), 2**31)


def test_the_same_bits_on_another_device():
    with Device("fake:0") as device:
        there = bits(key(4), device.xp.arange(100)[:, None], device.xp.arange(30), xp=device.xp)
    assert there.device_name == "fake:0"
    np.testing.assert_array_equal(device.get(there), bits(key(4), np.arange(100)[:, None], np.arange(30)))


# Uniform: every bit is a fair coin, every sixteenth of the range gets its share.

FAMILIES = {
    "one counter": lambda k: bits(k, np.arange(N)),
    "far counters": lambda k: bits(k, np.arange(N) * 4096),
    "a column of two": lambda k: bits(k, np.arange(N), 7),
    "a row of two": lambda k: bits(k, 7, np.arange(N)),
    "a grid": lambda k: bits(k, np.arange(256)[:, None], np.arange(256)).ravel(),
    "other keys": lambda k: np.array([bits(key(k, i), 0) for i in range(4096)]),
    "other seeds": lambda k: np.array([bits(key(i, "dropout"), 1, 1) for i in range(4096)]),
}


def z_of_bits(drawn):
    ones = (drawn[:, None] >> np.arange(32, dtype=np.uint32) & 1).sum(axis=0)
    return np.abs(ones - len(drawn) / 2).max() / (len(drawn) / 4) ** 0.5


def chi_square(drawn, cells):
    counts = np.bincount(drawn.astype(np.int64) * cells >> 32, minlength=cells)
    return ((counts - len(drawn) / cells) ** 2).sum() / (len(drawn) / cells)


@pytest.mark.parametrize("family", FAMILIES)
def test_uniform(family):
    drawn = FAMILIES[family](key(0, "uniformity"))
    assert z_of_bits(drawn) < 4.5
    assert chi_square(drawn, 256) < 255 + 5 * (2 * 255) ** 0.5


def correlation(a, b):
    return abs(np.corrcoef(a, b)[0, 1]) * len(a) ** 0.5


@pytest.mark.parametrize("shift", [1, 2, 3, 255, 4096])
def test_neighbours_are_independent(shift):
    drawn = uniform(key(1, "neighbours"), np.arange(N + shift))
    assert correlation(drawn[:-shift], drawn[shift:]) < 4.5


@pytest.mark.parametrize(
    "other",
    [
        lambda i: uniform(key(1, "x"), i),
        lambda i: uniform(key(0, "y"), i),
        lambda i: uniform(key(0, "x", 0), i),
        lambda i: uniform(key(0, "x"), i, 0),
        lambda i: uniform(key(0, "x"), i + 1),
        lambda i: uniform(key(0, "x"), 0, i),
    ],
    ids=["seed", "purpose", "epoch", "counter added", "counter moved", "order of counters"],
)
def test_streams_are_independent(other):
    counters = np.arange(N)
    mine, its = uniform(key(0, "x"), counters), other(counters)
    assert correlation(mine, its) < 4.5
    assert correlation(mine, np.abs(its - 0.5)) < 4.5
    assert (mine == its).mean() < 0.001


def test_rows_and_columns_of_a_mask_are_independent():
    mask = bits(key(0, "dropout", "fc6", 0), np.arange(128)[:, None], np.arange(4096)) >= 2**31
    assert abs(mask.mean() - 0.5) < 4.5 * 0.5 / mask.size**0.5
    for part in (mask, mask.T):
        each = part.mean(axis=1)
        assert np.abs(each - 0.5).max() < 5 * 0.5 / part.shape[1] ** 0.5
        assert 0.8 < each.std() / (0.5 / part.shape[1] ** 0.5) < 1.25
    assert len(np.unique(mask, axis=0)) == 128


def test_one_input_bit_flips_half_the_output_bits():
    counters = np.arange(4096, dtype=np.uint32)
    for bit in range(32):
        flipped = bits(11, counters) ^ bits(11, counters ^ np.uint32(1 << bit))
        assert abs(np.bitwise_count(flipped).mean() / 32 - 0.5) < 0.01, bit


def test_no_collisions_of_single_counters():
    assert len(np.unique(bits(key(3), np.arange(N)))) == N  # one counter: the hash is a bijection


# What is made of the bits.


def test_uniform_stays_inside():
    assert 0 < uniform(0, np.arange(N)).min() < 1e-3 and 1 - 1e-3 < uniform(0, np.arange(N)).max() < 1


@pytest.mark.parametrize("limit", [1, 2, 7, 33, 1_300_000])
def test_below(limit):
    drawn = below(key(0, "below"), limit, np.arange(N))
    assert drawn.min() >= 0 and drawn.max() < limit
    assert abs(drawn.mean() - (limit - 1) / 2) <= 4.5 * limit / (12 * N) ** 0.5
    if limit < 100:
        assert len(np.unique(drawn)) == limit


def test_normal_moments():
    drawn = normal(key(0, "normal"), np.arange(16 * N))
    n = drawn.size
    for power, mean, deviation in [(1, 0, 1), (2, 1, 2**0.5), (3, 0, 15**0.5), (4, 3, 96**0.5)]:
        assert abs((drawn**power).mean() - mean) < 4.5 * deviation / n**0.5, power
    assert abs((np.abs(drawn) < 1).mean() - 0.6826895) < 4.5 * 0.47 / n**0.5
    assert 4 < np.abs(drawn).max() < 7  # there are tails


def test_normal_of_two_counters():
    grid = normal(key(0, "normal"), np.arange(300)[:, None], np.arange(200))
    assert np.abs(grid.mean(axis=0)).max() < 5 / 300**0.5 and np.abs(grid.mean(axis=1)).max() < 5 / 200**0.5


@pytest.mark.parametrize("size", [0, 1, 2, 10, 5000])
def test_permutation_is_one(size):
    assert sorted(permutation(key(0), size).tolist()) == list(range(size))


def test_permutations_differ_and_mix():
    first, second = permutation(key(0, 0), 5000), permutation(key(0, 1), 5000)
    assert (first == second).sum() < 12
    assert correlation(first, np.arange(5000)) < 4.5 and correlation(first, second) < 4.5
    first = np.bincount([permutation(key(i), 6)[0] for i in range(3000)], minlength=6)
    assert ((first - 500) ** 2 / 500).sum() < 25


def test_step_is_immutable():
    step = Step(seed=1, number=2)
    assert step.first == 0
    with pytest.raises(AttributeError):
        step.number = 3

"""The program that measures claims with small nets: its crops, its nets, its counts, and what it has recorded."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import t as student
from scipy.stats import ttest_rel

from tests.programs import small_nets
from tests.programs.small_nets import Net, centre, compare, connected, convolutional
from tinyalex import randomness

SEEDS = {name: 20 for name in ("overlap", "depth", "decay", "bias", "norm", "columns", "colour")}  # five of the others


def drawn(count=60, seed=0):
    """Bright and dark images, which differ enough to be told apart after a few steps."""
    labels = np.arange(count) % 2
    noise = randomness.normal(randomness.key(seed, "drawn"), np.arange(count * 300)).reshape(count, 10, 10, 3)
    return SimpleNamespace(labels=labels, pixels=(noise + 2.0 * labels[:, None, None, None]).astype(np.float32))


def test_images_are_means_and_parts_have_equally_many_of_each_class():
    pixels = np.arange(2 * 32 * 32 * 3).reshape(2, 32, 32, 3) % 251
    images = small_nets.Images(np.repeat(pixels, 10, axis=0), np.arange(20) % 4)
    assert images.pixels[0, 2, 5, 1] == pytest.approx(pixels[0, 7:10, 16:19, 1].mean())
    part = images.first(8)
    assert np.bincount(part.labels).tolist() == [2, 2, 2, 2] and part.pixels.shape == (8, 10, 10, 3)


def test_random_crops_are_windows_of_the_image_or_their_reflections():
    pixels = drawn(40).pixels
    cut = small_nets.random_crops(pixels, 3, 0)
    places = {
        (top, left, flip)
        for image, window in zip(pixels, cut, strict=True)
        for top in range(3)
        for left in range(3)
        for flip in (1, -1)
        if np.array_equal(image[top : top + 8, left : left + 8][:, ::flip], window)
    }
    assert len(cut) == 40 and len(places) > 12
    assert not np.array_equal(cut, small_nets.random_crops(pixels, 4, 0))


@pytest.mark.parametrize("make", [connected, convolutional, lambda: convolutional(depth=3, without=2)])
def test_nets_learn(make):
    data, net = drawn(), make()
    before = net.error(centre(data.pixels), data.labels)
    net.train(data, 40, 0.02)
    assert net.error(centre(data.pixels), data.labels) < min(before, 15)
    random = make()
    random.train(data, 40, 0.0)  # without steps nothing is learned
    assert random.error(centre(data.pixels), data.labels) == before


def test_silencing_takes_units_away_and_keeps_the_sum():
    net, x = connected(0.0), centre(drawn(400).pixels)
    assert np.array_equal(net.outputs(x), net.outputs(x, silenced=0.0))
    assert not np.allclose(net.outputs(x), net.outputs(x, silenced=0.5))
    # a net of one hidden layer is linear in it: silencing changes no mean
    short = Net([*net.layers[:3], net.layers[-1]], 0)
    whole, silenced = short.outputs(x), short.outputs(x, silenced=0.25)
    assert np.abs((silenced - whole).mean(axis=0)).max() < 0.1 * np.abs(silenced - whole).max()


def test_sentences_are_counted_by_seed():
    def measure(name, seed):
        return {"error": 10.0 * seed + (name == "b")}

    found = compare("ab", measure, {"b is higher": lambda e: e["b"]["error"] > e["a"]["error"],
                                    "a is higher": lambda e: e["a"]["error"] > e["b"]["error"],
                                    "late": lambda e: e["a"]["error"] >= 30})  # fmt: skip
    assert found["holds"] == {"b is higher": "5 of 5 seeds", "a is higher": "0 of 5 seeds", "late": "2 of 5 seeds"}
    assert found["nets"]["b"]["error"] == {"mean": 21.0, "deviation": 15.8, "seeds": [1.0, 11.0, 21.0, 31.0, 41.0]}
    assert found["differences"] == {"b minus a": {"error": {"mean": 1.0, "standard error": 0.0}}}


def test_differences_are_those_of_one_seed():
    a, b = [10.0, 20.0, 30.0, 40.0], [12.0, 20.0, 31.0, 45.0]
    found = small_nets.differences({"a": {"error": {"seeds": a}}, "b": {"error": {"seeds": b}}})
    t, p = ttest_rel(b, a)  # p from t, so that the order of the nets and the root of n count
    mean, error = found["b minus a"]["error"].values()
    assert mean == 2.0 and mean / error == pytest.approx(t, rel=0.01) and 0.1 < p < 0.2
    assert 2 * student.sf(3, 19) == pytest.approx(0.007, abs=0.0005)  # as the program says of twenty seeds


@pytest.mark.parametrize("path", sorted(small_nets.OUT.glob("*.json")), ids=lambda path: path.stem)
def test_a_recorded_measurement_agrees_with_itself(path):
    found = json.loads(path.read_text(encoding="utf-8"))
    assert path.stem in small_nets.NAMES and path.with_suffix(".png").is_file()
    assert found["command"].endswith(f"--only {path.stem}")
    assert found["differences"] == small_nets.differences(found["nets"])
    for numbers in found["nets"].values():
        for each in numbers.values():
            assert len(each["seeds"]) == SEEDS.get(path.stem, 5)
            assert each["mean"] == pytest.approx(np.mean(each["seeds"]), abs=0.051)
            assert each["deviation"] == pytest.approx(np.std(each["seeds"], ddof=1), abs=0.051)

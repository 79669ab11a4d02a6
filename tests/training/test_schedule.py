"""Learning rates: the 2012 phases, the paper's rule, warm-up and cosine."""

import math

import pytest

from tinyalex.recipes import recipe
from tinyalex.training.schedule import plateaus, rates


def test_the_phases_of_run_145():
    learning = recipe.load("original").learning
    table = {
        0: (0.01, 0.02, None, {}),
        24.99: (0.01, 0.02, None, {}),
        25: (0.001, 0.02, None, {}),
        51: (0.0001, 0.02, None, {}),
        67: (0.0001, 0.02, 0.0, {"conv1": 0.1}),
        72: (0.0001, 0.02, 0.0, {"conv1": 0.0}),
        79: (0.00001, 0.02, 0.0, {"conv1": 0.0}),
        90.9: (0.00001, 0.02, 0.0, {"conv1": 0.0}),
    }
    for epoch, (rate, bias_rate, noise, lr_mult) in table.items():
        now = rates(learning, epoch)
        assert (now.rate, now.bias_rate, now.colour_noise, now.lr_mult) == (rate, bias_rate, noise, lr_mult), epoch
    assert learning.epochs == 91


def test_divided_by_ten_when_the_error_stops_improving():
    learning = recipe.load("paper").learning
    patience, errors, seen = learning.patience, [0.9, 0.8], []
    assert rates(learning, 2, errors).rate == 0.01
    for _ in range(4 * patience):
        errors.append(0.8)
        seen.append(rates(learning, len(errors), errors))
    assert [r.rate for r in seen[patience - 1 :: patience]] == pytest.approx([1e-3, 1e-4, 1e-5, 1e-5])
    assert [r.finished for r in seen[patience - 1 :: patience]] == [False, False, False, True]
    assert rates(learning, len(errors), [*errors[:4], 0.7, 0.7]).rate == 0.01  # an improvement restarts the count


@pytest.mark.parametrize(
    ("errors", "patience", "count"),
    [([], 2, 0), ([0.5, 0.5], 2, 0), ([0.5, 0.5, 0.5], 2, 1), ([0.5, 0.6, 0.4, 0.5, 0.4], 2, 1), ([0.1] * 7, 2, 3)],
)
def test_plateaus(errors, patience, count):
    assert plateaus(errors, patience) == count


def test_warm_up_and_cosine():
    learning = recipe.load("modern").learning
    assert learning.warmup > 0
    half, full = rates(learning, learning.warmup / 2), rates(learning, learning.warmup)
    assert half.rate / full.rate == pytest.approx(0.5, rel=0.01)
    for epoch in (learning.warmup, learning.epochs / 2, learning.epochs):
        wanted = learning.rate * (1 + math.cos(math.pi * epoch / learning.epochs)) / 2
        assert rates(learning, epoch).rate == pytest.approx(wanted)


def test_a_parabola_and_rates_that_grow_with_the_batch():
    learning = recipe.load("modern-8k").learning
    for epoch in (learning.warmup, 45, 80, learning.epochs):
        assert rates(learning, epoch).rate == pytest.approx(learning.rate * (1 - epoch / learning.epochs) ** 2)
    assert rates(learning, 2.5).rate == pytest.approx(rates(learning, 5).rate * (85 / 90) ** -2 * (87.5 / 90) ** 2 / 2)
    large = recipe.load("paper", ["learning.scale=linear", "learning.batch=1024"]).learning
    small = recipe.load("paper", ["learning.scale=linear"]).learning
    for epoch in (0, 50):
        one, eight = rates(small, epoch), rates(large, epoch)
        assert (eight.rate, eight.bias_rate) == (8 * one.rate, 8 * one.bias_rate)
        assert one == rates(recipe.load("paper").learning, epoch)

"""Exercise 7: divide the rate by 10 when the error stops improving (lesson 7). Check it: ``pytest -m ex07``."""

import pytest
from returned import number

from tinyalex.randomness import key, uniform
from tinyalex.recipes import recipe
from tinyalex.training import schedule


def plateau_rate(errors, rate, patience, drops):
    """Return the learning rate after epochs with these validation errors.

    It is divided by 10 each time that ``patience`` epochs in a row had no error *below the best so far*. After that the
    count of epochs starts again from 0; the best error is kept. The rate is divided at most ``drops`` times.
    """
    raise NotImplementedError("write plateau_rate: keep the best error and count the epochs that are not below it")


@pytest.mark.ex07
def test_plateau_rate():
    number("plateau_rate", plateau_rate([0.9], 0.01, 2, 3))
    assert plateau_rate([], 0.01, 2, 3) == pytest.approx(0.01), "before the first epoch the rate is unchanged"
    assert plateau_rate([0.9, 0.8, 0.8, 0.8], 0.01, 2, 3) == pytest.approx(0.001), "an equal error is no improvement"
    assert plateau_rate([0.5, 0.9, 0.8, 0.7], 0.01, 3, 3) == pytest.approx(0.001), (
        "compare with the best error so far, not with the last one"
    )
    assert plateau_rate([0.5] * 4, 0.01, 2, 3) == pytest.approx(0.001), "after a drop the count starts again from 0"
    assert plateau_rate([0.5] * 100, 0.01, 2, 3) == pytest.approx(1e-5), "the rate is divided at most three times"
    learning = recipe.load("paper").learning
    for case in range(50):
        errors = list(uniform(key(case, "ex07"), range(30)).round(1))
        ours = schedule.rates(learning, len(errors), errors).rate
        assert plateau_rate(errors, learning.rate, learning.patience, learning.drops) == pytest.approx(ours), errors

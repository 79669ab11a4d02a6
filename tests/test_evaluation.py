"""Error rates, with ties, few classes and numbers that are none."""

import numpy as np

from tinyalex.evaluation import ranks, score


def test_counting_by_hand():
    p = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.2, 0.5, 0.3]])
    assert ranks(p, np.array([0, 1, 0])).tolist() == [0, 1, 2]
    result = score(p, np.array([0, 1, 0]))
    assert (result.count, result.top1_error, result.top5_error) == (3, 2 / 3, 0.0)
    np.testing.assert_allclose(result.loss, -np.log([0.5, 0.2, 0.2]).mean())


def test_against_sorting():
    p = np.random.default_rng(0).random((200, 20))
    labels = np.arange(200) % 20
    order = np.argsort(-p, axis=1)
    result = score(p, labels)
    assert result.top1_error == np.mean(order[:, 0] != labels)
    assert result.top5_error == np.mean([label not in row[:5] for row, label in zip(order, labels, strict=True)])


def test_of_equals_the_lower_number_comes_first():
    p = np.full((7, 7), 1 / 7)
    assert ranks(p, np.arange(7)).tolist() == [0, 1, 2, 3, 4, 5, 6]
    result = score(p, np.arange(7))
    assert (result.top1_error, result.top5_error) == (6 / 7, 2 / 7)


def test_a_number_that_is_none_is_an_error():
    p = np.array([[np.nan, 0.1, 0.2, 0.1, 0.1, 0.1], [np.nan] * 6])
    assert ranks(p, np.array([2, 0])).tolist() == [6, 6]
    assert score(p, np.array([2, 0])).top5_error == 1.0


def test_a_probability_of_zero_has_a_finite_loss():
    assert 80 < score(np.array([[0.0, 1.0]]), np.array([0])).loss < 100

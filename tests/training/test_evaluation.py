"""Error rates, with ties, few classes and probabilities that are not finite."""

import numpy as np
import pytest

from tinyalex.datasets import ImageSet
from tinyalex.datasets.loading.batches import test_batches as batches_of
from tinyalex.errors import DataError, UsageError
from tinyalex.network import alexnet
from tinyalex.recipes import recipe
from tinyalex.training import confusion, evaluation
from tinyalex.training.evaluation import ranks, score


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


def test_among_equal_probabilities_the_lower_label_ranks_first():
    p = np.full((7, 7), 1 / 7)
    assert ranks(p, np.arange(7)).tolist() == [0, 1, 2, 3, 4, 5, 6]
    result = score(p, np.arange(7))
    assert (result.top1_error, result.top5_error) == (6 / 7, 2 / 7)


def test_nan_is_an_error():
    p = np.array([[np.nan, 0.1, 0.2, 0.1, 0.1, 0.1], [np.nan] * 6])
    assert ranks(p, np.array([2, 0])).tolist() == [6, 6]
    assert score(p, np.array([2, 0])).top5_error == 1.0


def test_nan_is_an_error_with_few_classes_too():
    p = np.array([[np.nan, 0.5, 0.5], [0.2, 0.3, 0.5], [0.1, np.inf, 0.2], [np.nan, np.nan, np.nan]])
    result = score(p, np.array([1, 0, 1, 2]))
    assert (result.top1_error, result.top5_error) == (1.0, 0.75)  # the second image's five guesses are all classes
    assert np.isfinite(result.loss) and result.loss > 20
    assert confusion.predictions(p).tolist() == [-1, 2, -1, -1]


def test_the_sixth_of_six_is_beyond_the_top_five():
    p = np.arange(12.0).reshape(2, 6)
    assert score(p, np.array([0, 1])).top5_error == 0.5


def test_confusion_against_a_simple_count():
    rng = np.random.default_rng(3)
    p = np.round(rng.random((400, 9)), 1)  # with ties
    p[7, 3] = np.nan
    labels = rng.integers(0, 8, 400)  # no image of class 8
    guesses = [-1 if np.isnan(row).any() else int(np.flatnonzero(row == row.max())[0]) for row in p]
    table = np.zeros((9, 9), int)
    for label, guess in zip(labels, guesses, strict=True):
        if guess >= 0:
            table[label, guess] += 1
    for row in confusion.by_class(p, labels)[:8]:
        mine = labels == row.label
        assert row.count == mine.sum()
        assert row.top1_error == np.mean([guess != row.label for guess in np.array(guesses)[mine]])
        assert np.isclose(row.top5_error, score(p[mine], labels[mine]).top5_error)
        others = np.where(np.arange(9) == row.label, 0, table[row.label])
        assert row.times == others.max() and row.taken_for == tuple(np.flatnonzero(others == others.max()))
    empty = confusion.by_class(p, labels)[8]
    assert empty.count == 0 and np.isnan(empty.top1_error) and empty.taken_for == ()
    pairs = {(a, b): int(table[a, b] + table[b, a]) for a in range(9) for b in range(a + 1, 9)}
    found = confusion.confused(p, labels, 100)
    assert {(pair.first, pair.second): pair.times for pair in found} == {k: n for k, n in pairs.items() if n}
    assert [(-pair.times, pair.first, pair.second) for pair in found] == sorted(
        (-pair.times, pair.first, pair.second) for pair in found
    )
    assert all(pair.first_as_second == table[pair.first, pair.second] for pair in found)
    assert confusion.confused(p, labels, 3) == found[:3]


def test_equally_frequent_mistakes_are_all_named():
    p = np.eye(9)[[1, 2, 1, 2, 3, 0, 1, 1, *range(2, 9)]]
    rows = confusion.by_class(p, np.array([0, 0, 0, 0, 0, 0, 1, 1, *[2] * 7]))
    names = list("abcdefghi")
    assert [row.mistaken_for(names) for row in rows[:3]] == ["b, c (2 each)", "", "d, e, f, g, h and 1 other (1 each)"]
    assert rows[0]._replace(taken_for=(1,)).mistaken_for(names) == "b (2)"


def test_no_mistakes_no_pairs():
    p = np.eye(3)
    assert confusion.confused(p, np.arange(3)) == []
    assert [row.times for row in confusion.by_class(p, np.arange(3))] == [0, 0, 0]


def test_a_probability_of_zero_has_a_finite_loss():
    assert 80 < score(np.array([[0.0, 1.0]]), np.array([0])).loss < 100


@pytest.mark.parametrize("label", [-1, 3])
def test_label_outside_the_classes_is_refused(label):
    with pytest.raises(
        DataError, match=f"^labels: image 1 has label {label}; labels have to be whole numbers from 0 to 2, "
    ):
        score(np.full((2, 3), 1 / 3), np.array([0, label]))


WRONG_LABELS = [[0, 3], [-1, 0], [0.0, 1.0], [True, False], [[0], [1]], [0], [0, 1, 2], [[1, 0, 0], [0, 1, 0]]]


@pytest.mark.parametrize("labels", WRONG_LABELS, ids=str)
@pytest.mark.parametrize("function", [ranks, score, confusion.by_class, confusion.confused])
def test_all_scores_refuse_wrong_labels(function, labels):
    with pytest.raises(DataError, match="labels have to be whole numbers from 0 to 2, one an image"):
        function(np.full((2, 3), 1 / 3), np.array(labels))
    with pytest.raises(DataError, match="^labels: a list instead of an array"):
        function(np.full((2, 3), 1 / 3), labels)


def test_evaluation_of_an_empty_set():
    settings = recipe.load("shapes", ["net.classes=3"])
    network, mean = alexnet.build(settings.net, settings.init), np.zeros((64, 64, 3), "float32")
    nothing = ImageSet(np.empty((0, 64, 64, 3), "uint8"), np.array([], int))
    for views in (1, 10):
        assert evaluation.probabilities(network, nothing, mean, settings, views).shape == (0, 3)
        assert evaluation.evaluate(network, nothing, mean, settings, views).count == 0


@pytest.mark.parametrize("views", [0, -1, 2, 2.5, "10", None, True])
def test_another_number_of_views_is_refused(views):
    settings = recipe.load("shapes", ["net.classes=3"])
    network, mean = alexnet.build(settings.net, settings.init), np.zeros((64, 64, 3), "float32")
    images = ImageSet(np.zeros((2, 64, 64, 3), "uint8"), np.array([0, 1]))
    with pytest.raises(UsageError, match=f"^views: {views!r} is not supported; use 1, 9 or 10$"):
        evaluation.evaluate(network, images, mean, settings, views)


@pytest.mark.parametrize("batch", [0, -1, 2.5, "10", None, True])
def test_test_batches_of_no_number_of_images_are_refused(batch):
    settings = recipe.load("shapes", ["net.classes=3"])
    images, mean = ImageSet(np.zeros((2, 64, 64, 3), "uint8"), np.array([0, 1])), np.zeros((64, 64, 3), "float32")
    with pytest.raises(UsageError, match=f"^test batches of {batch!r} images; give a whole number, 1 or more$"):
        batches_of(images, mean, settings, batch)


@pytest.mark.parametrize("labels", [np.array([]), np.array([], int)])
def test_scores_of_no_images(labels):
    p = np.empty((0, 3))
    assert ranks(p, labels).tolist() == [] and confusion.confused(p, labels) == []
    found = score(p, labels)
    assert found.count == 0 and np.isnan(found[1:]).all()
    assert [(row.count, row.times) for row in confusion.by_class(p, labels)] == [(0, 0)] * 3


def test_the_mean_of_the_classes_counts_each_class_once():
    """Nine images of one class, all right, and one of another, which is wrong; a third class has no images."""
    p = np.tile([0.8, 0.1, 0.1], (10, 1))
    result = score(p, np.array([0] * 9 + [1]))
    assert (result.top1_error, result.mean_class_error) == (0.1, 0.5)
    rows = [row for row in confusion.by_class(p, np.array([0] * 9 + [1])) if row.count]
    assert result.mean_class_error == np.mean([row.top1_error for row in rows])
    assert score(p, np.array([0] * 10)).mean_class_error == 0


def test_the_mean_of_the_classes_of_balanced_images_is_the_top1_error():
    rng = np.random.default_rng(0)
    p, labels = rng.random((60, 6)), np.repeat(np.arange(6), 10)
    result = score(p, labels)
    assert result.mean_class_error == pytest.approx(result.top1_error)

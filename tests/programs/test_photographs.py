"""The program that measures shifted photographs and the kinds of wrong labels."""

import numpy as np

from tests.programs.photographs import is_animal, same_kind, shifted


def test_shifted_images_show_the_mean_where_they_have_left():
    images = np.arange(2 * 8 * 8 * 3).reshape(2, 8, 8, 3) % 256
    mean = np.full((8, 8, 3), 99.6, np.float32)
    right = shifted(images, mean, 0, 2)
    assert (right[:, :, 2:] == images[:, :, :6]).all() and (right[:, :, :2] == 100).all()
    up = shifted(images, mean, -3, 0)
    assert (up[:, :5] == images[:, 3:]).all() and (up[:, 5:] == 100).all()
    assert (shifted(images, mean, 0, 0) == images).all()


def test_animals_are_known_by_their_wnids():
    assert all(map(is_animal, ("n01443537", "n02124075", "n02486410", "n02655020")))  # goldfish, cat, monkey, fish
    assert not any(map(is_animal, ("n02666196", "n02788148", "n07875152", "n09256479")))  # abacus, rail, pie, reef


def test_wrong_labels_are_counted_by_kind():
    animal = np.array([True] * 5 + [False] * 7)
    right, odd = np.zeros((2, 12)), np.zeros((1, 12))
    right[:, [0, 1, 2, 3, 4]] = 5, 4, 3, 2, 1  # an animal: the four wrong labels are animals
    odd[:, [9, 0, 1, 2, 10]] = 5, 4, 3, 2, 1  # a thing: of its four wrong labels one is a thing
    found = same_kind(np.concatenate([right, odd]), np.array([0, 2, 9]), animal)
    assert found["animals"] == {"wrong labels of this kind": 100.0, "by chance": 36.4}  # 4 of the other 11
    assert found["other things"] == {"wrong labels of this kind": 25.0, "by chance": 54.5}

"""Training in the three stages of footnote 3: the images of each stage, when it ends, and stopping anywhere."""

import signal

import numpy as np
import pytest

from tests.support.small_runs import final, pressed_while_it_saves, quiet, same, small
from tests.training.test_training import Pressed, stripes  # noqa: F401, the last a fixture
from tinyalex.datasets import Dataset, ImageSet
from tinyalex.datasets.loading.batches import training_batches
from tinyalex.datasets.parts import Subset, fifths, part
from tinyalex.errors import Interrupted
from tinyalex.experiments import footnote3
from tinyalex.runs import run_folder
from tinyalex.runs.train import train


@pytest.fixture
def images():
    return ImageSet(np.arange(30 * 2 * 2 * 3).reshape(30, 2, 2, 3).astype(np.uint8), np.arange(30) % 3)


def test_fifths_divide_every_class(images):
    order = np.argsort(images.labels, kind="stable")  # sorted by class, as folders are read
    sorted_images = ImageSet(images.images[order], images.labels[order])
    four, last = fifths(Dataset("folders", list("abc"), sorted_images, images))
    assert sorted([*four, *last]) == list(range(30))
    assert last.tolist() == [8, 9, 18, 19, 28, 29]


def test_the_last_fifth_of_cifar10_is_file_5(images):
    four, last = fifths(Dataset("cifar10", list("abc"), images, images))
    assert four.tolist() == list(range(24)) and last.tolist() == list(range(24, 30))


def test_a_part_keeps_the_mean_image_of_the_whole_set(images):
    whole = Dataset("set", list("abc"), images, images)
    some = part(whole, Subset(images, [5, 2, 7]), Subset(images, [1]))
    assert len(some.train) == 3 and some.train.labels.tolist() == [2, 2, 1] and some.train.size == 2
    np.testing.assert_array_equal(some.train.read(np.array([2, 0])), images.images[[7, 5]])
    np.testing.assert_array_equal(some.mean, whole.mean)
    assert some.identity != whole.identity and some.classes == whole.classes
    out = np.empty((1, 2, 2, 3), np.uint8)
    assert some.test.read(np.array([0]), out=out) is out and (out[0] == images.images[1]).all()


def training_loss(folder, dataset, numbers, made):
    """The mean loss on some training images with the crops of the first epoch, one image at a time."""
    run, losses = run_folder.load(folder), []
    some = part(dataset, Subset(dataset.train, numbers), dataset.test)
    for batch in training_batches(some, made, 0, 0, threads=0):
        for image, label in zip(batch.images, batch.labels, strict=True):
            losses.append(-np.log(run.network.predict(image[None])[0, label]))
    assert len(losses) == len(set(numbers.tolist()))
    return np.mean(losses)


def test_stages_end_as_specified_and_are_not_repeated(stripes, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(footnote3, "EPOCHS", 2)
    made, lines = small(epochs=12, patience=2, bias_rate=2.0, rate=0.02), []
    result = footnote3.train(made, stripes, tmp_path / "out", show=lines.append)
    first, second, third = (tmp_path / "out" / stage for stage in footnote3.STAGES)
    four, last = fifths(stripes)
    ending = run_folder.read_log(third)[-1]
    assert (ending["count"], ending["top1_error"], ending["epoch"]) == (40, result.top1_error, 4)

    epochs = [record for record in run_folder.read_log(first) if record["event"] == "epoch"]
    assert epochs[0]["step"] == -(-len(four) // 16) == 5
    tests = [record for record in run_folder.read_log(first) if record["event"] == "test"]
    assert {record["count"] for record in tests} == {len(last)}
    errors = [record["top1_error"] for record in tests]
    best = min(errors[:-2])
    assert len(errors) == 12 or all(error >= best for error in errors[-2:]), "stopped while the error still improved"

    noted = training_loss(first, stripes, four, made)
    assert any(f"until the loss on the last fifth is {noted:.4f}" in line for line in lines)
    epochs = [record for record in run_folder.read_log(second) if record["event"] == "epoch"]
    assert training_loss(second, stripes, last, made) <= noted or len(epochs) == 12
    origin = run_folder.load(third).metadata["origin"]
    assert origin["run"] == str(second) and origin["anew"] == {}

    records = [record for record in run_folder.read_log(third) if record["event"] == "train"]
    rates = {(int(np.ceil(record["epoch"] - 1e-9)) - 1, record["rate"]) for record in records}
    assert {rate for epoch, rate in rates if epoch in (0,)} == {0.002}
    assert {rate for epoch, rate in rates if epoch in (3,)} == {0.0002}
    last_run = run_folder.load(third).recipe.learning
    assert [phase.bias_rate for phase in last_run.phases] == [0.04, 0.04] and last_run.epochs == 4

    before = [final(folder) for folder in (first, second, third)]
    again = footnote3.train(made, stripes, tmp_path / "out", show=quiet)  # all stages are finished: nothing changes
    assert again == pytest.approx(result)
    assert all(same(one, final(folder)) for one, folder in zip(before, (first, second, third), strict=True))


@pytest.mark.parametrize("after", [3, 6, 8, 12])
def test_stop_condition_ends_a_resumed_run_at_the_same_step(stripes, tmp_path, monkeypatch, after):  # noqa: F811
    """An epoch has six steps; the stop condition is met after two epochs."""

    def enough(run):
        return run.step > 6

    with monkeypatch.context() as patch:
        Pressed(patch, signal.SIGINT, after)
        with pytest.raises(Interrupted):
            train(small(epochs=5), stripes, tmp_path, show=quiet, stop_condition=enough)
    train(small(epochs=5), stripes, tmp_path, show=quiet, stop_condition=enough)
    tests = [record["step"] for record in run_folder.read_log(tmp_path) if record["event"] == "test"]
    assert tests == [6, 12]


def test_a_stop_request_at_the_end_of_a_stage_prevents_the_next(stripes, tmp_path, monkeypatch):  # noqa: F811
    pressed_while_it_saves(monkeypatch, signal.SIGTERM, 5)  # steps of the first stage, four fifths of 88 images
    with pytest.raises(Interrupted):
        footnote3.train(small(epochs=1), stripes, tmp_path, show=quiet)
    assert [path.name for path in tmp_path.iterdir()] == [footnote3.STAGES[0]]


def test_the_second_stage_ends_when_the_loss_on_the_last_fifth_is_reached(stripes, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(footnote3, "EPOCHS", 1)
    losses = iter([0.5, 0.9, 0.51, 0.5])  # noted; of the last fifth before, after one epoch, after two
    monkeypatch.setattr(footnote3, "_loss", lambda *_: next(losses))
    made = small(epochs=5, patience=1, rate=0.02)
    footnote3.train(made, stripes, tmp_path, show=quiet)
    records = run_folder.read_log(tmp_path / footnote3.STAGES[1])
    epochs = [record for record in records if record["event"] == "epoch"]
    assert [record["step"] for record in epochs] == [6, 12] and {record["rate"] for record in epochs} == {0.02}
    assert next(losses, None) is None

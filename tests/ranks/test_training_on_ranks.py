"""Training on several ranks, as threads of one process: the same bits for any number of them."""

import contextlib

import numpy as np
import pytest

from tests.support.ranks import on_ranks
from tests.support.small_runs import final, quiet, same, small, stripes, timeless
from tinyalex.devices import parallel
from tinyalex.errors import CheckpointError, DataError, DivergedError, Interrupted, UsageError
from tinyalex.ranks import parts as rules
from tinyalex.runs import resume
from tinyalex.runs import train as runs_train
from tinyalex.training import evaluation
from tinyalex.training.loop import Training

DATA = stripes(train=83, test=37)  # the last batch has 3 images: fewer than parts


@pytest.fixture(autouse=True)
def undivided():
    yield
    parallel.divide(None)


def recipe_in(parts, *settings, **learning):
    return small('data.colour="paper"', "net.dropout=0.5", *settings, parts=parts, epochs=2, **learning)


def train(folder, recipe, ranks, devices=("cpu",), **options):
    def run(world):
        return runs_train.train(recipe, DATA, folder, devices, seed=3, show=quiet, world=world, **options)

    return on_ranks(ranks, run)


@pytest.mark.parametrize(("parts", "several"), [(4, (2, 3, 4)), (6, (5,))])
def test_any_number_of_ranks_gives_the_same_bits(tmp_path, parts, several):
    train(tmp_path / "1", recipe_in(parts), 1)
    for ranks in several:
        scores = train(tmp_path / str(ranks), recipe_in(parts), ranks)
        assert len(set(scores)) == 1
        assert same(final(tmp_path / "1"), final(tmp_path / str(ranks)))
        assert timeless(tmp_path / "1") == timeless(tmp_path / str(ranks))


def test_two_columns_on_two_devices_and_without_fast_forms(tmp_path):
    for devices, kernels in ((("cpu", "cpu"), True), (("cpu",), False)):
        folders = [tmp_path / f"{len(devices)}-{kernels}-{ranks}" for ranks in (1, 3)]
        for folder, ranks in zip(folders, (1, 3), strict=True):
            train(folder, recipe_in(4), ranks, devices, kernels=kernels)
        assert same(*map(final, folders))


def test_any_number_of_threads_gives_the_same_bits(tmp_path):
    before = parallel.workers().wanted
    try:
        for threads in (1, 2, 3):
            parallel.set_threads(threads)
            train(tmp_path / str(threads), recipe_in(2, batch=64), 1)
    finally:
        parallel.set_threads(before)
    assert same(final(tmp_path / "1"), final(tmp_path / "2")) and same(final(tmp_path / "1"), final(tmp_path / "3"))


def gradients(ranks, parts, dtype="float64", settings=()):
    recipe = small(*settings, parts=parts)

    def run(world):
        training = Training(recipe, DATA, seed=3, world=world)
        weights = training.network.loss.class_weights
        training.network.build(["cpu"], 3, dtype)
        training.network.weigh_classes(weights)
        training.data_parallel = training.data_parallel and type(training.data_parallel)(
            training.network, world, training.parts
        )
        with contextlib.closing(training.batches()) as batches:
            batch = next(batches)
        batch = batch._replace(images=batch.images.astype(dtype))
        metrics = training.train_step(batch)
        return {name: value.copy() for name, value in training.network.gradients().items()}, metrics.read()

    return on_ranks(ranks, run)[0]


def test_the_sum_of_the_parts_is_the_gradient_of_the_batch():
    whole, loss = gradients(1, 1)
    for ranks, parts in ((1, 4), (2, 2), (3, 4)):
        found, its_loss = gradients(ranks, parts)
        assert np.allclose(its_loss, loss, rtol=1e-12)
        for name, gradient in whole.items():
            assert np.abs(found[name] - gradient).max() <= 1e-12 * np.abs(gradient).max(), name


def test_a_part_with_a_wrong_share_is_noticed(monkeypatch):
    whole, _ = gradients(1, 1)
    add = rules.add
    monkeypatch.setattr(rules, "add", lambda nodes, part, array, add_to: add(nodes, part, array * (1 + part), add_to))
    found, _ = gradients(1, 4)
    assert any(np.abs(found[name] - gradient).max() > 0.01 * np.abs(gradient).max() for name, gradient in whole.items())


def test_a_run_goes_on_with_another_number_of_ranks(tmp_path, monkeypatch):
    train(tmp_path / "whole", recipe_in(4), 1)
    step = Training.train_step

    def stopping(training, batch, *arguments):
        if training.step == 4 and training.world.rank == training.world.size - 1:
            training.agree.__self__._stop.stop_requested = True  # what a signal to the last rank does
        return step(training, batch, *arguments)

    monkeypatch.setattr(Training, "train_step", stopping)
    with pytest.raises(Interrupted, match="stopped at step 5"):
        train(tmp_path / "parts", recipe_in(4), 3)
    monkeypatch.setattr(Training, "train_step", step)
    train(tmp_path / "parts", recipe_in(0), 2)  # the run keeps its parts
    assert same(final(tmp_path / "whole"), final(tmp_path / "parts"))
    assert timeless(tmp_path / "whole") == timeless(tmp_path / "parts")
    with pytest.raises(UsageError, match="ranks: 5, but each batch has 4 parts"):
        train(tmp_path / "parts", recipe_in(0), 5)


def test_the_first_start_decides_the_parts(tmp_path):
    train(tmp_path, recipe_in(0), 2)
    assert "parts = 2" in (tmp_path / "recipe.toml").read_text()
    with pytest.raises(CheckpointError, match=r"learning.parts 2, now it is 4"):
        train(tmp_path, recipe_in(4), 2)


@pytest.mark.parametrize("parts, ranks, message", [
    (17, 2, "learning.parts: 17, but a batch has 16 images; give fewer parts"),
    (0, 17, "ranks: 17, but a batch has 16 images; give fewer ranks"),
])  # fmt: skip
def test_more_parts_than_images_are_refused(tmp_path, parts, ranks, message):
    with pytest.raises(UsageError, match=message):
        train(tmp_path, recipe_in(parts), ranks)
    assert not list(tmp_path.iterdir())
    assert resume.parts(recipe_in(16), tmp_path, 2) == 16


def fail_on(monkeypatch, ranks, step):
    """Let the data of some ranks break before a step."""
    train_step = Training.train_step

    def failing(training, *arguments):
        if training.step == step and training.world.rank in ranks:
            raise DataError("no shard 3")
        return train_step(training, *arguments)

    monkeypatch.setattr(Training, "train_step", failing)
    return train_step


@pytest.mark.parametrize("ranks", [{1}, {0}, {1, 2}, {0, 1, 2}])
def test_broken_data_on_any_rank_are_known_to_all_and_the_run_is_saved(tmp_path, monkeypatch, ranks):
    train(tmp_path / "whole", recipe_in(4), 1)
    train_step = fail_on(monkeypatch, ranks, 4)
    raised = []

    def run(world):
        try:
            runs_train.train(recipe_in(4), DATA, tmp_path / "run", seed=3, show=quiet, world=world)
        except DataError as error:
            raised.append(str(error))

    on_ranks(3, run)
    assert len(raised) == 3 and len(set(raised)) == 1
    assert raised[0].startswith(f"rank {min(ranks)}: no shard 3; stopped at step 4, saved in ")
    monkeypatch.setattr(Training, "train_step", train_step)
    train(tmp_path / "run", recipe_in(0), 2)
    assert same(final(tmp_path / "whole"), final(tmp_path / "run"))
    assert timeless(tmp_path / "whole") == timeless(tmp_path / "run")


def test_data_that_break_before_the_first_step_save_nothing(tmp_path, monkeypatch):
    fail_on(monkeypatch, {1}, 0)
    with pytest.raises(DataError, match="^no shard 3$"):
        train(tmp_path, recipe_in(4), 3)
    assert not list(tmp_path.glob("checkpoint-*"))


def test_testing_gives_the_bits_of_one_rank():
    network = Training(recipe_in(0), DATA, seed=3).network
    arguments = network, DATA.test, DATA.mean, recipe_in(0)
    for views in (1, 10):
        alone = evaluation.probabilities(*arguments, views)
        networks = [Training(recipe_in(0), DATA, seed=3).network for _ in range(3)]

        def run(world, networks=networks, views=views):
            own = networks[world.rank], *arguments[1:]
            return evaluation.probabilities(*own, views, world=world)

        assert all(np.array_equal(alone, found) for found in on_ranks(3, run))


def test_ranks_that_differ_are_named(tmp_path):
    def run(world):
        recipe = recipe_in(2, *(["net.dropout=0.4"] if world.rank else []))
        return runs_train.train(recipe, DATA, tmp_path / "a", show=quiet, world=world)

    with pytest.raises(UsageError, match="rank 1: the recipe is .*, but on rank 0 it is"):
        on_ranks(2, run)

    def other_data(world):
        return runs_train.train(recipe_in(2), stripes(83, 38 - world.rank), tmp_path / "b", show=quiet, world=world)

    with pytest.raises(UsageError, match="rank 1: the data set is .*, but on rank 0"):
        on_ranks(2, other_data)


def test_a_number_that_is_not_finite_on_one_rank_ends_all_with_its_layer(tmp_path, monkeypatch):
    step = Training.train_step

    def spoiled(training, batch, *arguments):
        if training.step == 3 and training.world.rank == 1:
            batch.images[0, 0, 0, 0] = np.nan
        return step(training, batch, *arguments)

    monkeypatch.setattr(Training, "train_step", spoiled)
    with pytest.raises(DivergedError, match="conv1a conv1b: numbers are no longer finite at step 3, first on rank 1"):
        train(tmp_path, recipe_in(2), 2)


def test_weights_that_differ_at_a_save_are_named(tmp_path, monkeypatch):
    step = Training.train_step

    def flipped(training, batch, *arguments):
        found = step(training, batch, *arguments)
        if training.step == 3 and training.world.rank == 2:
            training.network.state()["fc8/b"][0] += 1e-6
        return found

    monkeypatch.setattr(Training, "train_step", flipped)
    with pytest.raises(CheckpointError, match="rank 2: at step 6 its weights are not those of the other ranks"):
        train(tmp_path, recipe_in(3), 3)


def test_all_reduce_is_named_in_the_fingerprint(tmp_path):
    train(tmp_path, recipe_in(2), 2, how="fast")
    shown = []

    def run(world):
        return runs_train.train(recipe_in(2), DATA, tmp_path, seed=3, show=shown.append, world=world)

    on_ranks(2, run)
    assert any("sum of gradients fast, 2 ranks, now nothing" in line for line in shown)


def test_requests_of_any_rank_are_those_of_all():
    from tinyalex.runs.requests import AgreedRequests

    class Stop:
        stop_requested = save_requested = False

    def run(world):
        own = Stop()
        own.save_requested = world.rank == 2
        requests = AgreedRequests(own, world)
        first = requests.agree([world.rank]), requests.save_requested, requests.stop_requested
        own.stop_requested, requests.save_requested = world.rank == 1, False
        requests.late = lambda: world.rank == 0
        requests.agree()
        return first, requests.save_requested, requests.stop_requested, own.save_requested

    assert on_ranks(3, run) == [(([0, 1, 2], True, False), True, True, False)] * 3


def test_class_weights_count_over_the_whole_batch(tmp_path):
    weights = "learning.class_weights={upright=3, level=0.5}"
    whole, loss = gradients(1, 1, settings=[weights])
    plain, _ = gradients(1, 1)
    found, its_loss = gradients(3, 4, settings=[weights])
    assert np.allclose(its_loss, loss, rtol=1e-12)
    for name, gradient in whole.items():
        assert np.abs(found[name] - gradient).max() <= 1e-12 * np.abs(gradient).max(), name
    assert any(np.abs(plain[name] - gradient).max() > 0.01 * np.abs(gradient).max() for name, gradient in whole.items())
    for ranks in (1, 3):
        train(tmp_path / str(ranks), recipe_in(4, weights, 'data.sampling="balanced"'), ranks)
    assert same(final(tmp_path / "1"), final(tmp_path / "3"))

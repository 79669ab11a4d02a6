"""The order of shards: each image once, the same bits however it is read, and reading that never goes back."""

import hashlib
import heapq
import os
import signal
import time

import numpy as np
import pytest

from tests.programs import kill_train
from tests.support import prepared_sets
from tests.support.forks import forked
from tests.support.ranks import on_ranks
from tests.support.small_runs import final, quiet, same, small, stripes, timeless
from tinyalex import datasets, randomness
from tinyalex.datasets import parts
from tinyalex.datasets.loading import sampling, shuffle_buffer
from tinyalex.datasets.loading.batches import training_batches
from tinyalex.datasets.shards.shards import Shard
from tinyalex.devices.device import Device
from tinyalex.errors import CheckpointError, DataError, UsageError
from tinyalex.runs.train import train

STARTS = np.array([0, 500, 1000, 1500, 1730])
GOLDEN = "bbf318ae5b74e278ad9c9eced3c9548dbe67083e531f75e5977fb6349dc0e55d"


def in_order_of_shards(*settings, buffer=10, **learning):
    return small("data.order=shards", f"data.shuffle_buffer={buffer}", *settings, **learning)


@pytest.fixture(scope="module", params=["pixels", "jpeg"])
def dataset(request, tmp_path_factory):
    """88 images in shards of seven."""
    folder = tmp_path_factory.mktemp("shards") / "set"
    quality = 85 if request.param == "jpeg" else None
    return datasets.load(prepared_sets.make(folder, train=88, test=20, size=24, per_shard=7, quality=quality))


def equal(a, b):
    return all(np.array_equal(x, y) and x.dtype == y.dtype for x, y in zip(a, b, strict=True))


# The order.


def orders(seed, epoch, buffer, starts=STARTS):
    read = sampling.stream(seed, epoch, starts)
    return read, sampling.through_buffer(seed, epoch, read, buffer)


@pytest.mark.parametrize("buffer", [1, 2, 64, 1730, 10**6])
def test_each_image_comes_once_and_is_read_in_time(buffer):
    for epoch in (0, 3):
        read, order = orders(5, epoch, buffer)
        assert sorted(order) == sorted(read) == list(range(1730))
        position = np.empty(1730, int)
        position[read] = np.arange(1730)
        assert all((np.diff(position[a:b]) == 1).all() for a, b in zip(STARTS, STARTS[1:], strict=False))
        ahead = np.maximum.accumulate(position[order]) - np.arange(1730)  # images that are kept at each position
        assert ahead.max() < buffer
        assert ahead.max() > 0.4 * min(buffer, 1000) or buffer < 3  # the buffer is used
    assert buffer > 1 or np.array_equal(read, order)


def test_the_order_is_that_of_a_buffer_that_is_filled_and_emptied_image_by_image():
    """An independent form: read one image after the other, and give out those that no later one can precede."""
    read, order = orders(1, 2, 100)
    key, kept, found, most = randomness.key(1, "shuffle buffer", 2), [], [], 0
    for number, image in enumerate(read.tolist()):
        while kept and kept[0][0] < number << 32:
            found.append(heapq.heappop(kept)[1])
        heapq.heappush(kept, ((number << 32) + 100 * int(randomness.bits(key, image)), image))
        most = max(most, len(kept))
    found += [heapq.heappop(kept)[1] for _ in range(len(kept))]
    assert found == order.tolist() and most <= 101


def test_the_order_changes_with_seed_and_epoch_and_nothing_else():
    drawn = [orders(seed, epoch, 50)[1].tolist() for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, 0))]
    assert drawn[0] == drawn[3] and len({tuple(order) for order in drawn}) == 3
    assert orders(0, 0, 50)[1].tolist() != orders(0, 0, 51)[1].tolist()


def test_golden_order():
    digest = hashlib.sha256(orders(0, 1, 256)[1].astype("<i8").tobytes()).hexdigest()
    assert digest == GOLDEN


def test_batches_mix_the_images_of_several_shards():
    _, order = orders(0, 0, 512)
    shards = np.searchsorted(STARTS, order, side="right")
    assert np.mean([len(set(shards[start : start + 64])) for start in range(0, 1730, 64)]) > 1.8


# Reading.


@pytest.mark.parametrize("threads", [0, 1, 2, 5])
def test_the_bits_are_those_of_images_that_are_read_one_by_one(dataset, threads):
    made = in_order_of_shards('data.colour="2012"', "data.shared_crop=3", batch=6)
    for first in (0, 1, 7, 14):
        for few in (False, True):
            found = list(training_batches(dataset, made, 4, 1, first, threads=threads, few=few))
            plain = list(training_batches(dataset, made, 4, 1, threads=0, few=True))
            assert len(found) == 15 - first and all(map(equal, found, plain[first:]))
    assert sorted(np.concatenate([batch.indices for batch in plain])) == list(range(88))
    for batch in plain:
        raw = dataset.train.read(batch.indices)
        assert batch.labels.tolist() == dataset.train.labels[batch.indices].tolist() and len(raw) == len(batch.images)


@pytest.mark.parametrize("threads", [1, 5])
def test_the_batches_of_a_gpu_have_the_same_bits(dataset, threads):
    made = in_order_of_shards(batch=8)
    device = Device("fake:0")
    found = list(training_batches(dataset, made, 4, 1, devices=[device], threads=threads))
    plain = list(training_batches(dataset, made, 4, 1, threads=0, few=True))
    for ours, wanted in zip(found, plain, strict=True):
        np.testing.assert_array_equal(device.get(device.to_device(ours.images)), wanted.images)
        assert ours.indices.tolist() == wanted.indices.tolist()


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_the_shares_of_ranks_are_the_whole(dataset, ranks):
    made = in_order_of_shards(batch=9)
    whole = list(training_batches(dataset, made, 0, 0))
    shares = []
    for rank in range(ranks):

        def own(n, rank=rank):
            return slice(n * rank // ranks, n * (rank + 1) // ranks)

        shares.append(list(training_batches(dataset, made, 0, 0, share=own, threads=2)))
    for batch, *pieces in zip(whole, *shares, strict=True):
        assert equal(batch, [np.concatenate(arrays) for arrays in zip(*pieces, strict=True)])


@pytest.fixture
def reads(monkeypatch):
    """The (shard, first, count) of all reads."""
    found, fetch = [], Shard.fetch

    def noted(self, first, count):
        found.append((self.path.name, first, count))
        return fetch(self, first, count)

    monkeypatch.setattr(Shard, "fetch", noted)
    monkeypatch.setattr(Shard, "read", lambda self, first, rows: pytest.fail("read at random"))
    return found


@pytest.mark.parametrize("threads", [0, 3])
@pytest.mark.parametrize("first", [0, 6])
def test_shards_are_read_once_from_their_beginning_to_their_end(dataset, reads, monkeypatch, threads, first):
    monkeypatch.setattr(shuffle_buffer, "PIECE", 3 * 24**2 * 3)  # three images
    made, most = in_order_of_shards(batch=4, buffer=12), 0
    buffers, init = [], shuffle_buffer.ShuffleBuffer.__init__
    monkeypatch.setattr(
        shuffle_buffer.ShuffleBuffer, "__init__", lambda self, *a: (buffers.append(self), init(self, *a))[0]
    )
    for _ in training_batches(dataset, made, 0, 0, first, threads=threads):
        (state,) = buffers[0]._states.values()
        most = max(most, len(state.kept))
    images = [(name, row) for name, start, count in reads for row in range(start, start + count)]
    assert len(images) == len(set(images)) == 88 - 4 * first
    names = [name for name, _ in images]
    assert len({*names}) == 1 + sum(a != b for a, b in zip(names, names[1:], strict=False))  # no shard twice
    assert all(a < b for (x, a), (y, b) in zip(images, images[1:], strict=False) if x == y)
    assert most <= 12 + 3 + 4 * (threads + 1)
    assert not state.kept


def test_a_forked_process_goes_on_by_itself(dataset):
    made = in_order_of_shards(batch=4)
    wanted = [batch.indices.tolist() for batch in training_batches(dataset, made, 0, 0)]
    batches = training_batches(dataset, made, 0, 0, threads=2)
    before = [next(batches).indices.tolist() for _ in range(3)]

    def rest():
        found = list(batches)
        plain = list(training_batches(dataset, made, 0, 0, 3, few=True))
        assert all(map(equal, found, plain))
        assert before + [batch.indices.tolist() for batch in found] == wanted

    forked(rest)
    batches.close()


def test_a_damaged_image_ends_the_pass_when_its_batch_is_due(tmp_path, monkeypatch):
    monkeypatch.setattr("tinyalex.datasets.shards.shard_set._SPOT_CHECKS", 0)
    folder = prepared_sets.make(tmp_path / "set", train=40, size=24, per_shard=10, quality=85)
    path = folder / "train-00002.shard"
    prepared_sets.flip(path, path.stat().st_size - 50)
    found = datasets.load(folder)
    for threads in (0, 2):
        made, good = in_order_of_shards(batch=4), []
        with pytest.raises(DataError, match="train-00002.shard: image 9: its JPEG file is not as it was prepared"):
            good.extend(training_batches(found, made, 0, 0, threads=threads))
        order = sampling.through_buffer(0, 0, sampling.stream(0, 0, found.train.starts), 10)
        assert len(good) == order.tolist().index(29) // 4


# Training.


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    """A run that was never stopped."""
    out = tmp_path_factory.mktemp("whole")
    train(in_order_of_shards(parts=2), dataset, out, seed=2, show=quiet)
    return out


@pytest.mark.parametrize("ranks", [1, 2])
def test_any_number_of_ranks_and_threads_trains_the_same_net(dataset, whole, tmp_path, ranks, monkeypatch):
    from tinyalex.datasets.loading import batches

    monkeypatch.setattr(batches, "_threads", 3 * ranks)
    made = in_order_of_shards(parts=2)
    on_ranks(ranks, lambda world: train(made, dataset, tmp_path, seed=2, show=quiet, world=world))
    assert same(final(tmp_path), final(whole)) and timeless(tmp_path) == timeless(whole)


def test_a_run_resumes_only_in_its_order(dataset, tmp_path):
    train(in_order_of_shards(epochs=1), dataset, tmp_path, show=quiet)
    for other, line in (
        (
            small(epochs=1),
            "had data.order shards, now it is random, data.shuffle_buffer 10, now it is 4096; give another",
        ),
        (in_order_of_shards(buffer=20, epochs=1), "had data.shuffle_buffer 10, now it is 20; give another --out"),
    ):
        with pytest.raises(CheckpointError, match=line):
            train(other, dataset, tmp_path, show=quiet)


@pytest.mark.slow
@pytest.mark.parametrize("quality", [None, 85])
def test_a_killed_run_resumes_with_the_same_bits(tmp_path, quality):
    """SIGKILL in the middle of an epoch, then another number of loader threads."""
    kill_train.prepare(tmp_path)
    data = prepared_sets.make(tmp_path / "set", train=120, test=10, size=24, per_shard=16, quality=quality)
    command = ["train", str(tmp_path / "killed.toml"), "--data", str(data), "--threads", "1", "--weak-signal"]
    command += ["--set", "data.order=shards", "data.shuffle_buffer=40"]
    kill_train.finish([*command, "--loader-threads", "1"], tmp_path / "whole")
    often = [*command, "--save-every", "0.0001", "--loader-threads", "2"]
    pid = kill_train.start(often, tmp_path / "run", os.devnull)
    deadline, step = time.monotonic() + 120, 0
    while step % 8 == 0 and time.monotonic() < deadline:  # an epoch has 8 steps
        found = sorted((tmp_path / "run").glob("checkpoint-*.safetensors"))
        step = int(found[-1].stem.partition("-")[2]) if found else 0
    os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    kill_train.finish([*command, "--loader-threads", "5"], tmp_path / "run")
    assert kill_train.result(tmp_path / "run") == kill_train.result(tmp_path / "whole")


def test_a_part_of_a_set_keeps_its_shards(dataset):
    """Such as the four fifths of the images in the first stage of footnote 3."""
    four, _ = parts.fifths(dataset)
    some = parts.part(dataset, parts.Subset(dataset.train, four), dataset.test)
    made = in_order_of_shards(batch=5)
    found = list(training_batches(some, made, 0, 0, threads=2))
    assert sorted(np.concatenate([batch.indices for batch in found])) == list(range(len(four)))
    assert all(map(equal, found, training_batches(some, made, 0, 0, few=True)))
    assert some.decoder == dataset.decoder


# What is refused, and planted bugs.


def test_sets_without_shards_and_balanced_classes_are_refused(tmp_path):
    with pytest.raises(
        DataError, match="^stripes: has no shards, as data.order = 'shards' needs; give a folder made by"
    ):
        train(in_order_of_shards(), stripes(), tmp_path, show=quiet)
    with pytest.raises(UsageError, match="^data.order: 'shards' reads each image once"):
        in_order_of_shards("data.sampling=balanced")
    for wrong in ("data.order=disk", "data.shuffle_buffer=0"):
        with pytest.raises(UsageError, match=wrong.partition("=")[0]):
            small(wrong)


@pytest.mark.parametrize("plant", ["no epoch", "half the buffer", "a piece twice", "images mixed up", "not at an end"])
def test_planted_bugs_are_noticed(dataset, reads, monkeypatch, plant):
    through_buffer, stream, pieces = sampling.through_buffer, sampling.stream, shuffle_buffer.ShuffleBuffer._pieces
    take = shuffle_buffer.ShuffleBuffer.take
    if plant == "no epoch":
        monkeypatch.setattr(sampling, "stream", lambda seed, epoch, starts: stream(seed, 0, starts))
        monkeypatch.setattr(sampling, "through_buffer", lambda seed, epoch, *rest: through_buffer(seed, 0, *rest))
        check, arguments = test_the_order_changes_with_seed_and_epoch_and_nothing_else, ()
    if plant == "half the buffer":
        monkeypatch.setattr(sampling, "through_buffer", lambda *a: through_buffer(*a[:3], a[3] // 2))
        check, arguments = test_the_order_is_that_of_a_buffer_that_is_filled_and_emptied_image_by_image, ()
    if plant == "a piece twice":
        twice = shuffle_buffer.ShuffleBuffer
        monkeypatch.setattr(twice, "_pieces", lambda *a: (piece for each in pieces(*a) for piece in (each, each)))
        check = test_shards_are_read_once_from_their_beginning_to_their_end
        arguments = (dataset, reads, monkeypatch, 0, 0)
    if plant == "images mixed up":
        check, arguments = test_the_bits_are_those_of_images_that_are_read_one_by_one, (dataset, 0)
        monkeypatch.undo()  # `reads` refuses to read at random
        monkeypatch.setattr(shuffle_buffer.ShuffleBuffer, "take", lambda *a: take(*a)[::-1])
    if plant == "not at an end":  # reads the shards in the order of the batches
        monkeypatch.setattr(
            shuffle_buffer.ShuffleBuffer, "_pieces", lambda self, first: ([int(k)] for k in np.argsort(-self._position))
        )
        check = test_shards_are_read_once_from_their_beginning_to_their_end
        arguments = (dataset, reads, monkeypatch, 0, 0)
    with pytest.raises((AssertionError, StopIteration, RuntimeError, DataError)):
        check(*arguments)

"""Fine-tuning: which layers are copied from another run, and that a resumed run keeps its origin."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from tests.support.small_runs import final, quiet, same, small
from tests.training.test_training import stripes  # noqa: F401, a fixture
from tinyalex.cli import main
from tinyalex.datasets import Dataset, ImageSet
from tinyalex.errors import CheckpointError
from tinyalex.recipes import recipe
from tinyalex.runs import checkpoint, finetune, run_folder
from tinyalex.runs.resume import ResumeOptions
from tinyalex.runs.train import train
from tinyalex.training import loop


@pytest.fixture(scope="module")
def run(stripes, tmp_path_factory):  # noqa: F811
    """A run on stripes."""
    folder = tmp_path_factory.mktemp("finetune") / "run"
    train(small(epochs=2), stripes, folder, show=quiet)
    return folder


def with_classes(dataset, *classes):
    """Return the same images with other classes; some classes may have no images."""
    return Dataset("other", list(classes), dataset.train, dataset.test)


def started(run, dataset, made=None, devices=("cpu",)):
    fresh, other = (loop.Training(made or small(), dataset, devices, seed=3) for _ in range(2))
    other.origin = finetune.start_from(other.network, run, other.dataset.classes, other.recipe.init.anew)
    return host(fresh.network), host(other.network), other


def host(network):
    return {name: np.array(device.get(view)) for name, device, view in network.tensors()}


@pytest.mark.parametrize("devices", [["cpu"], ["cpu", "cpu"], ["fake:0", "fake:1"]], ids=" ".join)
def test_with_another_number_of_classes_all_but_the_last_layer_are_copied(run, stripes, devices):  # noqa: F811
    fresh, now, other = started(run, with_classes(stripes, "a", "b", "c"), devices=devices)
    before = final(run)
    for name, value in now.items():
        np.testing.assert_array_equal(value, fresh[name] if name.startswith("fc8") else before[name], err_msg=name)
    assert other.origin["anew"] == {"fc8": "3 classes, not 2 as in that run"}
    assert other.origin["taken"] == sorted(
        {name.split("/")[0] for name in fresh} - {"fc8"}, key=other.origin["taken"].index
    )
    assert len(other.origin["taken"]) == 14
    momenta = [device.get(v) for _, device, v in other.optimizer.tensors()]
    assert not any(v.any() for v in momenta) and before["momentum/conv1a/W"].any()


def test_other_classes_of_the_same_number(run, stripes):  # noqa: F811
    fresh, now, other = started(run, with_classes(stripes, "level", "upright"))
    assert other.origin["anew"] == {"fc8": "other classes"}
    assert (now["fc8/W"] == fresh["fc8/W"]).all()


def test_split_last_layer_is_not_copied_in_either_column(stripes, tmp_path):  # noqa: F811
    made = small(epochs=1)
    made = replace(made, net=replace(made.net, fc8="split"))
    train(made, stripes, tmp_path, show=quiet)
    _, _, other = started(tmp_path, with_classes(stripes, "a", "b", "c"), made)
    assert list(other.origin["anew"]) == ["fc8a", "fc8b"]


def test_with_the_same_classes_everything_is_copied(run, stripes):  # noqa: F811
    _, _, other = started(run, stripes)
    images = np.ones((3, 20, 20, 3), np.float32)
    np.testing.assert_array_equal(other.network.predict(images), run_folder.load(run).network.predict(images))
    assert other.origin["anew"] == {} and "not copied: nothing" in finetune.line(other.origin)


def test_layers_of_another_shape_are_not_copied(run, stripes):  # noqa: F811
    made = small()
    made = replace(made, net=replace(made.net, maps=(4, 8, 8, 0, 16, 8), kernels=(5, 3, 3, 3, 3, 3)))
    fresh, now, other = started(run, stripes, made)
    assert {"conv1a", "conv2b", "conv3a", "fc7b"} <= set(other.origin["taken"])
    anew = other.origin["anew"]
    assert anew["conv5a"] == "3 x 3 x 4 x 8, not 3 x 3 x 4 x 4 as in that run" and anew["conv6b"] == "not in that run"
    assert all((now[f"{layer}/W"] == fresh[f"{layer}/W"]).all() for layer in anew)
    for part in ("copied conv1a", "conv6b (not in that run)", "step 12"):
        assert part in finetune.line(other.origin)


def test_no_layer_fits(run, stripes):  # noqa: F811
    made = recipe.load("cifar10-relu", ["net.input=20", "net.maps=[3, 3, 3]", "net.classes=0"])
    with pytest.raises(
        CheckpointError, match="none of its layers fits this net; give --init-from a run of a similar net"
    ):
        started(run, stripes, made)


def test_resumed_run_needs_no_source_and_gives_the_same_bits(run, stripes, tmp_path):  # noqa: F811
    """Stopped after an epoch and resumed after the source run was deleted; the checkpoints still name the source."""
    source = tmp_path / "source"
    shutil.copytree(run, source)
    dataset, lines = with_classes(stripes, "a", "b", "c"), []
    train(small(), dataset, tmp_path / "whole", show=lines.append, options=ResumeOptions(init_from=source))
    assert any(line.startswith(f"initialized from {source}, step 12: copied conv1a") for line in lines)
    options = {"show": quiet, "stop_condition": lambda run: len(run.errors) == 1}
    train(small(), dataset, tmp_path / "cut", **options, options=ResumeOptions(init_from=source))
    shutil.rmtree(source)
    train(small(), dataset, tmp_path / "cut", show=quiet, options=ResumeOptions(init_from=source))
    assert same(final(tmp_path / "whole"), final(tmp_path / "cut"))
    shutil.copytree(tmp_path / "cut", tmp_path / "again")
    train(small(), dataset, tmp_path / "again", show=quiet)  # without --init-from as well
    for folder in ("whole", "cut", "again"):
        metadata = checkpoint.read(checkpoint.newest(tmp_path / folder))[1]
        assert metadata["origin"]["run"] == str(source) and metadata["origin"]["step"] == 12
        (record,) = [each for each in run_folder.read_log(tmp_path / folder) if each["event"] == "begin"]
        assert record["origin"] == metadata["origin"]
    train(small(), dataset, tmp_path / "anew", show=quiet)
    anew = checkpoint.newest(tmp_path / "anew")
    assert checkpoint.inspect(anew)["origin"] is None
    assert not same(final(tmp_path / "anew"), final(tmp_path / "whole"))


def test_resuming_with_another_origin_is_refused(run, stripes, tmp_path):  # noqa: F811
    copied, random, moved = tmp_path / "copied", tmp_path / "random", tmp_path / "moved"
    train(small(epochs=1), stripes, copied, show=quiet, options=ResumeOptions(init_from=run))
    train(small(epochs=1), stripes, random, show=quiet)
    shutil.copytree(run, moved)
    train(small(epochs=1), stripes, copied, show=quiet, options=ResumeOptions(init_from=moved))  # the same weights
    exported = tmp_path / "exported.safetensors"
    assert main(["export", str(run), str(exported)]) == 0
    train(small(epochs=1), stripes, copied, show=quiet, options=ResumeOptions(init_from=exported))
    with pytest.raises(CheckpointError) as error:
        train(small(epochs=1), stripes, copied, show=quiet, options=ResumeOptions(init_from=random))
    assert str(error.value) == f"{copied}: the run here started with {run}, not {random}; give another --out folder"
    with pytest.raises(CheckpointError) as error:
        train(small(epochs=1), stripes, random, show=quiet, options=ResumeOptions(init_from=run))
    assert (
        str(error.value)
        == f"{random}: the run here started with random weights, not with {run}; give another --out folder"
    )


def test_missing_source_is_reported_before_data_is_loaded(tmp_path, capsys):
    options = ["--data", "/nowhere either", "--out", str(tmp_path / "out"), "--init-from", str(tmp_path / "none")]
    assert main(["train", "shapes", *options]) == 4
    assert "none: cannot be read" in capsys.readouterr().err


def test_a_net_for_more_classes_learns(run, stripes, tmp_path):  # noqa: F811
    """Four classes: stripes of two directions, in the left or the right half of the image."""

    def halves(images):
        left, right = images.images.copy(), images.images.copy()
        left[:, :, 12:], right[:, :, :12] = 128, 128
        return ImageSet(np.concatenate([left, right]), np.concatenate([images.labels, images.labels + 2]))

    dataset = Dataset("halves", list("abcd"), halves(stripes.train), halves(stripes.test))
    result = train(small(epochs=6), dataset, tmp_path, show=quiet, options=ResumeOptions(init_from=run))
    assert result.top1_error < 0.4


def test_layers_that_begin_anew_are_frozen_or_slower(run, stripes, tmp_path):  # noqa: F811
    """`init.anew` names layers that would fit; of those that are copied, one is frozen and the others learn."""
    made = small("init.anew=[fc7,fc8]", "learning.lr_mult={conv1=0,conv2=0.5}", epochs=1)
    fresh, now, other = started(run, stripes, made)
    assert other.origin["anew"] == dict.fromkeys(["fc7a", "fc7b", "fc8"], "init.anew")
    for name, value in now.items():
        anew = name.startswith(("fc7", "fc8"))
        np.testing.assert_array_equal(value, (fresh if anew else final(run))[name], err_msg=name)
    train(made, stripes, tmp_path, show=quiet, options=ResumeOptions(init_from=run))
    before, after = final(run), final(tmp_path)
    for name in now:
        assert same({name: before[name]}, {name: after[name]}) == name.startswith("conv1"), name


def test_net_of_the_run_replaces_that_of_the_recipe(run):
    made = recipe.load("finetune", ["learning.batch=8"])
    taken = finetune.like_run(made, run)
    assert taken.net == replace(small().net, classes=0, dropout=0.5) and taken.data.size == 24
    assert (taken.init.weights, taken.data.scale) == (small().init.weights, small().data.scale)
    assert (taken.learning, taken.init.anew, taken.init.like_run) == (made.learning, ("fc8",), False)


def test_of_a_net_with_other_layers_those_are_left_out(stripes, tmp_path):  # noqa: F811
    made = recipe.load("cifar10-relu", ["net.input=20", "net.maps=[3, 3, 3]", "net.classes=0", "learning.epochs=1"])
    train(replace(made, data=replace(made.data, set="memory")), stripes, tmp_path, show=quiet)
    taken = finetune.like_run(recipe.load("finetune"), tmp_path)
    assert taken.net.kind == "cifar10" and taken.net.dropout == 0 and taken.init.anew == ()
    assert taken.learning.lr_mult == {"conv1": 0.1, "conv2": 0.3}

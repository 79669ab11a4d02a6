"""Runs in bfloat16, on pretend GPUs: resumed to the bit, checkpoints in float32 that any precision reads, refusals."""

import signal

import numpy as np
import pytest

from tests.support.small_runs import final, pressed, quiet, same, small, stripes
from tinyalex.cli import main
from tinyalex.errors import CheckpointError, Interrupted
from tinyalex.gallery import retrieval
from tinyalex.runs import run_folder
from tinyalex.runs.resume import ResumeOptions
from tinyalex.runs.train import train

BF16 = "net.precision=bf16"


@pytest.fixture(scope="module")
def data():
    return stripes()


def trained(folder, data, *settings, devices=("fake:0", "fake:1"), options=None, **learning):
    made = small(*settings, **{"epochs": 2} | learning)
    return train(made, data, folder, devices=list(devices), show=quiet, options=options)


def test_a_run_in_bfloat16_is_resumed_to_the_bit_and_its_checkpoints_are_of_any_precision(data, tmp_path, monkeypatch):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    trained(whole, data, BF16, epochs=1)
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        pressed(patch, signal.SIGTERM, 4)
        trained(broken, data, BF16, epochs=1)
    trained(broken, data, BF16, epochs=1)
    tensors = final(whole)
    assert same(tensors, final(broken))
    learned = {name: tensor for name, tensor in tensors.items() if not name.startswith(("training", "data"))}
    assert {tensor.dtype for name, tensor in learned.items() if name.endswith(("/W", "/b"))} == {np.dtype("float32")}

    images = data.test.read(np.arange(8))[:, 2:22, 2:22].astype("float32") / 100
    on_gpu, on_cpu = (run_folder.load(whole, devices) for devices in (["fake:0"], ["cpu"]))
    assert [run.network.devices[0].precision for run in (on_gpu, on_cpu)] == ["bf16", "float32"]
    assert same(*({name: np.array(device.get(view)) for name, device, view in run.network.tensors()}
                  for run in (on_gpu, on_cpu)))  # fmt: skip
    probabilities = [run.network.predict(images) for run in (on_gpu, on_cpu)]
    np.testing.assert_allclose(*probabilities, atol=0.05)
    assert not np.allclose(*probabilities, atol=1e-5)
    features = [retrieval.features(run.network, images) for run in (on_gpu, on_cpu)]
    assert {each.dtype for each in features} == {np.dtype("float32")}
    np.testing.assert_allclose(*features, atol=0.05 * np.abs(features[1]).max())


def test_the_precision_may_change_with_change(data, tmp_path, monkeypatch):
    """A run begins in float32 on a CPU, goes on in bfloat16 on a GPU, and ends in float32."""
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        pressed(patch, signal.SIGTERM, 4)
        trained(tmp_path, data, devices=["cpu"])
    with pytest.raises(CheckpointError, match="net.precision float32, now it is bf16; add --change"):
        trained(tmp_path, data, BF16)
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        pressed(patch, signal.SIGTERM, 8)
        trained(tmp_path, data, BF16, options=ResumeOptions(change=True))
    assert trained(tmp_path, data, devices=["cpu"], options=ResumeOptions(change=True)).top1_error <= 0.5


@pytest.mark.parametrize("more", [[], ["--devices", "cpu", "cpu"]])
def test_training_in_bfloat16_on_a_cpu_is_refused_before_anything_is_written(tmp_path, capsys, more):
    out = tmp_path / "run"
    assert main(["train", "shapes", "--set", BF16, "--out", str(out), *more]) == 8
    printed = capsys.readouterr()
    assert printed.err == "tinyalex: error: cpu: bf16 is for GPUs; use --set net.precision=float32\n"
    assert not printed.out and not out.exists()

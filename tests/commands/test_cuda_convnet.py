"""Commands on a pair of the authors' files of 2012, unmodified."""

import re

import pytest

from tests.support.cuda_convnet_files import pairs
from tinyalex.cli import main
from tinyalex.layers import MaxPool


@pytest.fixture
def pair(cuda_convnet):
    """The arguments of a command for a pair, by its name."""
    return lambda name: list(map(str, pairs(cuda_convnet)[name]))


def test_summary_of_run_145_prints_shapes_counts_first_values_rates_and_notes(pair, capsys):
    assert main(["summary", *pair("layers/layers-145")]) == 0
    text = capsys.readouterr().out
    for part in (
        "layers-145: GPUs 0, 1; 224 x 224 x 3 in, 1000 classes out",
        "60,965,224 parameters, 724,406,816 multiply-adds",
        "60,030,976 bytes cross",
        "epoch 67: rate of the weights 1e-05 in conv1",
        "epoch 91: the run is ended",
    ):
        assert part in text
    assert re.search(r"^conv3b +Conv2d +13 x 13 x 192 +32,448 +442,560", text, re.M)
    assert re.search(r"^conv3a +0.03 +0 +1e-05 +0.02 +0.9 +0.0005$", text, re.M)
    assert text.index("GPU 0") < text.index("conv5a") < text.index("GPU 1") < text.index("conv5b")
    assert max(map(len, text.splitlines())) <= 110


def test_summary_has_several_values_where_inputs_differ(pair, capsys):
    assert main(["summary", *pair("example-layers/layers-example")]) == 0
    assert re.search(r"^fc10 +0.0001 +0 +0.0001, 0.001 +0.002 +0.5, 0.9, 0.9 +0$", capsys.readouterr().out, re.M)


def test_summary_takes_the_size_of_the_images(pair, capsys):
    name = pair("layers-cifar/layers-conv-local-13pct")
    assert main(["summary", *name]) == 0
    assert "layers-conv-local-13pct: 1 GPU; 32 x 32 x 3 in, 10 classes out" in capsys.readouterr().out
    assert main(["summary", *name, "--set", "net.input=24"]) == 0
    assert "1,116,490 parameters" in capsys.readouterr().out


def test_gradcheck_of_a_pair_checks_every_tensor_at_a_reduced_size(pair, capsys, monkeypatch):
    name = pair("layers-cifar/layers-18pct")
    assert main(["gradcheck", *name]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^18pct 12x12 +conv1/W +\w+ +True ", text, re.M) and "no error in" in text
    backward = MaxPool.backward
    monkeypatch.setattr(MaxPool, "backward", lambda self, dy: 1.01 * backward(self, dy))
    assert main(["gradcheck", *name]) == 1
    assert "FAIL" in capsys.readouterr().out


@pytest.mark.slow
def test_gradcheck_of_run_145(pair, capsys):
    assert main(["gradcheck", *pair("layers/layers-145")]) == 0
    text = capsys.readouterr().out
    assert "no error in 33 tensors" in text and "fc2048bb/W" in text


@pytest.mark.parametrize("command", ["summary", "gradcheck"])
def test_usage_errors_are_one_line_and_say_what_to_type(command, pair, capsys):
    layers, rates = pair("layers/layers-145")
    for arguments, message in (
        ([layers], "files of cuda-convnet come in pairs; add its file of rates, LAYER-PARAMS.cfg"),
        (["original", rates], "follows original, which is not a LAYERS.cfg of cuda-convnet; give one argument"),
        ([layers, rates, "--set", "net.maps=[1]"], "--set net.maps=[1]: "),
        (pair("layers/layers-178"), "line 121: pool=rand of [pool2a]; layers-178.cfg, line 129: pool=rand of [pool2b]"),
    ):
        assert main([command, *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1

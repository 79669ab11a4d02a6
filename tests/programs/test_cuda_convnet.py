"""A short form of the program that prints a table of the authors' nets."""

import shutil

import pytest

from tests.programs import cuda_convnet as program
from tests.support.cuda_convnet_files import pairs


def test_table_says_what_is_built_with_which_rates_and_what_is_missing(cuda_convnet, tmp_path, capsys):
    for name in ("layers/layers-145-half", "layers/layers-178", "layers/layers-153-4gpu"):
        for path in pairs(cuda_convnet)[name]:
            (tmp_path / "layers").mkdir(exist_ok=True)
            shutil.copy(path, tmp_path / "layers")
    assert program.main([str(tmp_path)]) == 2
    half, four, rand, end = capsys.readouterr().out.splitlines()
    counts = "59,798,312 parameters, 1 GPU, 1,000 classes"
    assert " ".join(half.split()) == f"layers/layers-145-half.cfg built: {counts}, trains as alexnet"
    assert four.startswith("layers/layers-153-4gpu.cfg with layer-params-170-4gpu.cfg ") and "4 GPUs" in four
    assert four.endswith(", trains as cuda-convnet")
    assert rand.endswith(
        "not built: layers-178.cfg, line 121: pool=rand of [pool2a]; layers-178.cfg, line 129: pool=rand of [pool2b]"
    )
    assert end.startswith("2 of 3 are built")


@pytest.mark.parametrize("broken", [False, True])
def test_gradients_are_checked_if_asked_for(broken, cuda_convnet, monkeypatch):
    if broken:
        monkeypatch.setattr(program, "wrong_gradients", lambda *arguments: {"conv1/W": (1.0, 2.0)})
    built, line = program.row("x/layers-18pct", *pairs(cuda_convnet)["layers-cifar/layers-18pct"], gradients=True)
    ending = "wrong: {'conv1/W': (1.0, 2.0)}" if broken else "right"
    assert built and line.endswith(f"gradients of 8 parameters {ending}")

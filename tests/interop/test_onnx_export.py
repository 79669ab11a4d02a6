"""Runs are written as ONNX files that onnxruntime computes alike, and come back from them bit for bit."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from tests.support import torch_nets
from tests.support.imported_nets import error
from tinyalex.cli import main
from tinyalex.errors import CheckpointError, ForeignFileError, UsageError
from tinyalex.interop import onnx_format
from tinyalex.interop.imported import Options
from tinyalex.network import alexnet
from tinyalex.recipes import recipe
from tinyalex.runs import run_folder
from tinyalex.runs.run_folder import Run

onnx = pytest.importorskip("onnx", reason="these tests read ONNX files: pip install 'tinyalex[interop]'")
from onnx import numpy_helper  # noqa: E402

from tests.support import onnx_nets  # noqa: E402
from tinyalex.interop import onnx_export, onnx_layout  # noqa: E402

SMALL = ["net.hidden=30", "net.classes=7", "net.maps=8,16,12,12,8", "net.input=96"]
SIX = ["net.hidden=30", "net.classes=7", "net.maps=8,16,12,12,8,6", "net.input=128"]


def made(name, *settings, mean=0, devices=("cpu",)):
    """A run of a recipe with random weights that keep a signal; its mean image has ``mean`` more pixels a side."""
    chosen = recipe.load(name, settings)
    net = alexnet.build(chosen.net, replace(chosen.init, weights={"default": "he"}), devices, seed=3)
    rng, side = np.random.default_rng(1), chosen.net.input + mean
    for key, value in sorted(net.state().items()):
        if key.endswith("/b"):
            value[...] = rng.normal(0, 0.1, value.shape)
        elif key.startswith("conv1"):  # smaller where pixels are large
            value *= 0.017 / chosen.data.scale
    image = rng.uniform(60, 180, (side, side, 3)).astype(np.float32)
    classes = [f"class {number}" for number in range(chosen.net.classes)]
    words = [f"what {number} is" for number in range(chosen.net.classes)]
    return Run(net, chosen, classes, words, image, {"step": 12, "errors": [0.5], "recipe": ""}, [])


def logits(run, pixels):
    """What the run's net computes for central crops of pixels from 0 to 255."""
    side = run.recipe.net.input
    first = (len(run.mean) - side) // 2
    mean = run.mean[first : first + side, first : first + side]
    return run.network.forward((pixels - mean) * np.float32(run.recipe.data.scale))


RECIPES = {
    "original": ("original", *SMALL),
    "original, 2010": ("original-2010", *SMALL, "net.fc8=split"),
    "paper": ("paper", *SMALL),
    "modern": ("modern", *SMALL),
    "one GPU": ("one-gpu", *SMALL),
    "six convolutions": ("six-conv", *SIX, "net.bottleneck=6", "net.fc8=split"),
    "without a layer": ("paper", *SMALL, "net.maps=8,16,0,12,8"),
    "columns that never exchange maps": ("paper", *SMALL, "net.talk=[]"),
    "exchange before fc7 alone": ("paper", *SMALL, "net.talk=fc7", "net.fc8=split"),
    "windows across columns": ("paper", *SMALL, "net.norm_window=all", "net.norm_order=pool-norm"),
    "other windows": ("paper", *SMALL, "net.input=130", "net.pads=2,1,1,0,1", "net.conv_rounding=floor",
                      "net.pool_rounding=floor,ceil,floor", "net.norm_size=3", "net.norm_k=1", "net.norm_alpha=0.5"),
    "pools that do not overlap": ("original", *SMALL, "net.pool=2"),
    "without normalization": ("original", *SMALL, "net.norm=none"),
    "tanh": ("paper", *SMALL, "net.activation=tanh"),
    "shapes": ("shapes", "net.classes=12"),
    "tiny-imagenet": ("tiny-imagenet", *SMALL, "net.input=57"),
    "cifar10-relu": ("cifar10-relu",),
    "cifar10-tanh": ("cifar10-tanh",),
    "cifar10-13pct": ("cifar10-13pct",),
    "cifar10-11pct": ("cifar10-11pct",),
    "cifar10-columns": ("cifar10-columns",),
}  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_the_graph_computes_what_the_net_does(name):
    pytest.importorskip("onnxruntime", reason="onnxruntime is the oracle: pip install 'tinyalex[parity]'")
    run = made(*RECIPES[name], mean=5)
    model = onnx_export.model(run)
    onnx.checker.check_model(model, full_check=True)
    pixels = torch_nets.noise(run.recipe.net.input, 3)
    found, probabilities = onnx_nets.values(model, pixels)
    wanted = logits(run, pixels)
    assert wanted.std(axis=0).max() > 0.01 * np.abs(wanted).max()
    assert error(found, wanted) < 1e-5
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert (probabilities.argmax(axis=1) == wanted.argmax(axis=1)).all()


@pytest.mark.parametrize("name", RECIPES)
def test_a_run_comes_back_bit_for_bit(name, tmp_path):
    run, path = made(*RECIPES[name], mean=4), tmp_path / "net.onnx"
    onnx_format.write(run, path)
    found = onnx_format.read(path)
    assert found.recipe == run.recipe and found.classes == run.classes and found.words == run.words
    np.testing.assert_array_equal(found.mean.view(np.uint32), run.mean.view(np.uint32))
    state = run.network.state()
    assert found.state.keys() == state.keys()
    for key, value in state.items():
        wanted = np.ascontiguousarray(value).view(np.uint32)
        np.testing.assert_array_equal(found.state[key].view(np.uint32), wanted, err_msg=key)


def test_columns_on_two_devices_give_the_same_file():
    one = onnx_export.model(made("paper", *SMALL))
    two = onnx_export.model(made("paper", *SMALL, devices=("cpu", "cpu")))
    assert one.SerializeToString(deterministic=True) == two.SerializeToString(deterministic=True)


FAULTS = {
    "colours reversed": ("mean", lambda array: array[:, ::-1]),
    "columns changed over": ("conv2/W", lambda array: np.roll(array, 8, axis=0)),
    "a kernel mirrored": ("conv3/W", lambda array: array[..., ::-1]),
    "fc6 in another order": ("fc6/W", lambda array: array.reshape(30, 8, -1).transpose(0, 2, 1).reshape(30, -1)),
    "dropout left out": ("drop6/kept", lambda array: np.float32(1)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_noticed(fault):
    """What the comparison with onnxruntime would show if the export had such a fault."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is the oracle: pip install 'tinyalex[parity]'")
    run = made("paper", *SMALL)
    model, (name, change) = onnx_export.model(run), FAULTS[fault]
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    spoilt = np.asarray(change(numpy_helper.to_array(tensor)), order="C")
    tensor.CopyFrom(numpy_helper.from_array(spoilt, name))
    pixels = torch_nets.noise(96, 3)
    assert error(onnx_nets.values(model, pixels)[0], logits(run, pixels)) > 1e-3


def test_what_the_file_says_of_itself(tmp_path):
    path = tmp_path / "net.onnx"
    onnx_format.write(made("paper", *SMALL, mean=8), path)
    model = onnx.load(path)
    texts = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(texts["classes"])[:2] == ["class 0", "class 1"]
    assert "float32 (n, 3, 96, 96), the central crop of an image of 104 pixels" in texts["input"]
    assert recipe.parse(json.loads(texts["tinyalex"])["recipe"]).net.hidden == 30
    assert json.loads(texts["tinyalex"])["step"] == 12
    sides = [side.dim_value or side.dim_param for side in model.graph.input[0].type.tensor_type.shape.dim]
    assert (model.graph.input[0].name, sides) == ("images", ["n", 3, 96, 96])
    assert [output.name for output in model.graph.output] == ["logits", "probabilities"]
    groups = [attribute.i for node in model.graph.node for attribute in node.attribute if attribute.name == "group"]
    assert groups == [1, 2, 1, 2, 2]


def test_a_window_that_onnx_puts_elsewhere_is_refused():
    with pytest.raises(UsageError, match="norm1: ONNX's LRN puts a window of an even number of maps, 4, elsewhere"):
        onnx_export.model(made("paper", *SMALL, "net.norm_size=4"))


def test_a_net_that_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(onnx_export, "_LIMIT", 1000)
    with pytest.raises(UsageError, match="paper: .* bytes, and an ONNX file holds 2 GB; write .safetensors instead"):
        onnx_export.model(made("paper", *SMALL))


# Damaged files, and files of somebody else.


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("written") / "net.onnx"
    onnx_format.write(made("shapes", "net.classes=2", "net.hidden=4", "net.maps=4,4,4,4,4"), path)
    return path.read_bytes()


def test_truncated_files_are_refused(written, tmp_path):
    path, rng = tmp_path / "net.onnx", np.random.default_rng(0)
    for length in {*rng.integers(0, len(written), 60), *range(len(written) - 40, len(written))}:
        path.write_bytes(written[:length])
        with pytest.raises(CheckpointError, match="net.onnx: "):
            onnx_format.read(path)
        assert not onnx_export.is_ours(path)


def test_a_changed_bit_is_noticed_wherever_it_is(written, tmp_path):
    """Either the file is refused, or what was changed says nothing about the net."""
    path, rng = tmp_path / "net.onnx", np.random.default_rng(0)
    path.write_bytes(written)
    wanted, read = onnx_format.read(path), 0
    for at in rng.integers(0, len(written), 150):
        spoilt = bytearray(written)
        spoilt[at] ^= 1 << rng.integers(8)
        path.write_bytes(spoilt)
        try:
            found = onnx_format.read(path, None)
        except (CheckpointError, UsageError) as error:
            assert "\n" not in str(error)
            continue
        read += 1
        assert found.recipe == wanted.recipe
        assert all(np.array_equal(found.state[key], value) for key, value in wanted.state.items())
    assert read < 15


def test_a_graph_that_a_tool_has_changed_is_read_as_any_other(written, tmp_path):
    model = onnx.ModelProto.FromString(written)
    model.graph.node[-2].name = "renamed"
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match="node Split 'norm1.inputs' is no layer of an AlexNet"):
        onnx_format.read(path)


def test_no_file_of_somebody_else_is_replaced(written, tmp_path):
    run, path = made("shapes", "net.classes=2", "net.hidden=4", "net.maps=4,4,4,4,4"), tmp_path / "net.onnx"
    path.write_bytes(written)
    onnx_format.write(run, path)  # one of ours is
    for content in (b"mine", written[:-1], onnx_nets.alexnet()[0].SerializeToString()):
        path.write_bytes(content)
        with pytest.raises(ForeignFileError, match="exists already, and is not one that this command made"):
            onnx_format.write(run, path)
        assert path.read_bytes() == content


# The commands.


@pytest.fixture
def weights(tmp_path):
    run, path = made("shapes", "net.classes=3", "net.hidden=8"), tmp_path / "weights.safetensors"
    metadata = {"seed": 0, "dataset": "x", "errors": [], "step": 4, "recipe": recipe.to_toml(run.recipe)}
    metadata |= {"classes": run.classes, "words": run.words, "fingerprint": None}
    run_folder.export(run._replace(metadata=metadata), path)
    return path


def test_a_run_goes_through_onnx_and_back(weights, tmp_path, capsys):
    there, back = tmp_path / "net.onnx", tmp_path / "back.safetensors"
    assert main(["export", str(weights), str(there)]) == 0
    assert main(["import", str(there), str(back)]) == 0
    printed = capsys.readouterr().out
    assert "input: images, float32 (n, 3, 56, 56), RGB, 0 to 255; outputs: logits, probabilities" in printed
    assert f"{back}: a net of tinyalex in ONNX, from net.onnx, 3 classes" in printed
    (one, first), (two, second) = run_folder.read(weights), run_folder.read(back)
    assert one.keys() == two.keys() and all(np.array_equal(one[key], two[key]) for key in one)
    assert recipe.parse(first["recipe"]) == recipe.parse(second["recipe"]) and first["words"] == second["words"]


@pytest.mark.parametrize("file, options, message", [
    ("net.pth", [], "net.pth: the name does not end in .safetensors, .onnx or .net; give one that does"),
    ("net.onnx", ["--format", "safetensors"], "net.onnx: the name does not end in .safetensors, as --format"),
    ("net.bin", ["--format", "onnx"], "net.bin: the name does not end in .onnx, as --format onnx; give one that does"),
])  # fmt: skip
def test_names_that_do_not_fit_the_format(file, options, message, weights, tmp_path, capsys):
    assert main(["export", str(weights), str(tmp_path / file), *options]) == 2
    assert message in capsys.readouterr().err


def test_without_the_library_the_line_says_what_to_install(weights, tmp_path, capsys, monkeypatch):
    path = tmp_path / "net.onnx"
    path.write_bytes(onnx_nets.alexnet()[0].SerializeToString())
    monkeypatch.setitem(sys.modules, "onnx", None)
    for command in (["import", str(path), str(tmp_path / "a.safetensors")], ["export", str(weights), str(path)]):
        assert main(command) == 2
        assert "net.onnx: ONNX needs the package onnx" in (line := capsys.readouterr().err)
        assert line.endswith("install it with pip install '.[interop]'\n") and line.count("\n") == 1


def test_the_command_offers_every_kind_of_input(tmp_path, capsys):
    from tinyalex.interop import onnx_import

    main(["import", "a", "b", "--input", "x"])
    line = capsys.readouterr().err
    assert all(name in line for name in onnx_import.INPUTS)


def test_an_input_for_another_format_is_refused(weights, tmp_path, capsys):
    assert main(["import", str(weights), str(tmp_path / "a.safetensors"), "--input", "caffe"]) == 2
    assert "weights.safetensors: leave out --input, which is for ONNX (.onnx)" in capsys.readouterr().err


def test_an_input_given_on_the_command_line(tmp_path, capsys):
    path = tmp_path / "net.onnx"
    path.write_bytes(onnx_nets.alexnet(classes=2)[0].SerializeToString())
    (tmp_path / "words.txt").write_text("n01440764 tench\nn01443537 goldfish\n")
    out = tmp_path / "a.safetensors"
    assert main(["import", str(path), str(out), "--input", "caffe", "--words", str(tmp_path / "words.txt")]) == 0
    assert "its input is taken as caffe: BGR, from 0 to 255, minus a mean" in capsys.readouterr().out
    assert run_folder.load(out).words == ["tench", "goldfish"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["original", "paper"])
def test_full_nets_on_photographs(name, test_data, tmp_path):
    pytest.importorskip("onnxruntime", reason="onnxruntime is the oracle: pip install 'tinyalex[parity]'")
    run = made(name, mean=32)
    pixels, path = torch_nets.photographs(test_data / "imagenet-samples-dev.tar"), tmp_path / "net.onnx"
    onnx_format.write(run, path)
    found, _ = onnx_nets.values(onnx.load(path), pixels)
    assert error(found, logits(run, pixels)) < 1e-4
    assert onnx_format.read(path, Options()).recipe == run.recipe
    assert len(onnx_layout.lay_out(alexnet.describe(run.recipe.net), 1.0, 256).nodes) > 20

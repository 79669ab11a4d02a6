"""Commands on a pair of the authors' files of 2012, unmodified."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.support.cuda_convnet_files import pairs, read, side
from tinyalex.cli import main
from tinyalex.errors import UsageError
from tinyalex.layers import MaxPool
from tinyalex.network import alexnet, conversion
from tinyalex.network import cuda_convnet as nets
from tinyalex.recipes import recipe


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
    text = capsys.readouterr().out
    assert "layers-conv-local-13pct: 1 GPU; 24 x 24 x 3 in, 10 classes out" in text and "1,116,490 parameters" in text
    assert main(["summary", *name, "--set", "net.input=32"]) == 0
    assert "1,901,386 parameters" in capsys.readouterr().out


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


# Nets that a recipe can say, with the recipe that is the same.
SAME = {
    ("layers/layers-145", "layer-params-145"): ("original", []),
    ("layers/layers-145", "layer-params-145-2010"): ("original-2010", []),
    ("layers/layers-145-half", "layer-params-145-half"): ("one-gpu", []),
    ("example-layers/layers-conv-local-13pct", "layer-params-conv-local-13pct"): (
        "cifar10-13pct",
        ["learning.epochs=90", "learning.phases=[{epoch=0, rate=0.001, bias_rate=0.002}]", "learning.patience=4"],
    ),
}


@pytest.mark.parametrize("files", SAME, ids=lambda files: files[1])
def test_convert_writes_the_recipe_that_we_have_of_the_same_net(files, pair, tmp_path, capsys):
    layers, rates = pair(files[0])
    rates = str(Path(rates).with_name(f"{files[1]}.cfg"))
    out = tmp_path / "made.toml"
    assert main(["convert", layers, rates, str(out)]) == 0
    assert f"the section data is that of the recipe {'original' if files[0][:7] == 'layers/' else 'cifar10-13pct'}" in (
        capsys.readouterr().out
    )
    name, changes = SAME[files]
    made, wanted = recipe.load(out), recipe.load(name, changes)
    assert made == replace(wanted, name=files[1].removeprefix("layer-params-"))


def test_eleven_nets_are_of_another_kind_too_and_of_the_others_it_is_said_why_not(cuda_convnet):
    made, reasons = {}, {}
    for name in pairs(cuda_convnet):
        description = read(cuda_convnet, name)
        try:
            made[name] = conversion.to_recipe(description, side(name))
        except UsageError as error:
            reasons[name.split("/")[1]] = str(error)
    assert sorted(each.name for each in made.values()) == [
        "145", "145-half", "146-2011", "146-2012-2009", "146-2012-2011", "147", "148", "19pct", "conv-local-12pct",
        "conv-local-13pct", "conv-local-13pct-noisylr",
    ]  # fmt: skip
    for name, each in made.items():
        ours, theirs = alexnet.describe(each.net, each.init), nets.describe(read(cuda_convnet, name), side(name))
        assert sum(p.size for p in ours.parameters()) == sum(p.size for p in theirs.parameters())
        assert recipe.parse(recipe.to_toml(each)) == each
    for name, why in (
        ("layers-137", "layers-137.cfg, line 10: type=blur of [blur0]"),
        ("layers-150", "fc2048ba on GPU 0 is Linear 2048, in a recipe Linear 4096"),
        ("layers-149", "rnorm5a on GPU 0 is LRN 13 x 13 x 128, in a recipe ReLU 13 x 13 x 128"),
        ("layers-153-4gpu", "4 GPUs, in a recipe 2"),
        ("layers-153", "layer-params-153.cfg, line 8: the rates follow sched=linear[1000]"),
        ("layers.gc", "1 layers of type conv on a GPU, in a recipe 3"),
    ):
        assert f"no recipe can say this net: {why}; tinyalex train takes the files" in reasons[name]


def test_convert_keeps_rates_of_single_layers_that_the_notes_say(cuda_convnet):
    made = conversion.to_recipe(read(cuda_convnet, "layers/layers-146-2012-2011"), 224)
    assert [(p.epoch, p.rate, p.lr_mult, p.colour_noise) for p in made.learning.phases[:4]] == [
        (0.0, 0.001, {"conv1": 0.1, "fc8": 10.0}, None),  # "init epsw 0.0001 on conv1, 0.001 elsewhere"
        (5.0, 0.001, {"conv1": 0.01, "fc8": 10.0}, None),
        (7.0, 0.001, {"conv1": 0.0, "fc8": 10.0}, None),
        (9.0, 0.001, {"conv1": 0.0}, None),
    ]
    assert made.learning.epochs == 54 and "in the files from another net" in made.notes[1]


def test_convert_replaces_no_file_and_wants_a_toml(pair, tmp_path, capsys):
    out = tmp_path / "mine.toml"
    out.write_text("mine")
    assert main(["convert", *pair("layers/layers-145"), str(out)]) == 7 and out.read_text() == "mine"
    assert "mine.toml" in capsys.readouterr().err
    assert main(["convert", *pair("layers/layers-145"), str(tmp_path / "mine.cfg")]) == 2
    assert "does not end in .toml" in capsys.readouterr().err


@pytest.mark.slow
def test_train_on_a_pair_resumes_and_its_run_is_read_as_any_other(pair, tmp_path, capsys):
    files, run = pair("example-layers/layers-19pct"), str(tmp_path / "run")
    classes = [f"class{n}" for n in range(10)]
    for split in ("train", "test"):
        for number, name in enumerate(classes):
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            Image.new("RGB", (32, 32), (25 * number, 255 - 25 * number, 128)).save(folder / "0.png")
    arguments = ["train", *files, "--data", str(tmp_path / "data"), "--out", run, "--weak-signal"]
    assert main([*arguments, "--epochs", "1"]) == 0
    assert 'name = "19pct"' in capsys.readouterr().out
    assert recipe.load(tmp_path / "run" / "recipe.toml").net.kind == "cifar10"
    assert main([*arguments, "--epochs", "1"]) == 0
    assert main(["figures", run, "--only", "architecture"]) == 0
    assert (tmp_path / "run" / "architecture.png").is_file()
    capsys.readouterr()
    assert main(["train", *pair("layers/layers-137"), "--data", str(tmp_path / "data"), "--out", run + "2"]) == 2
    assert "net.classes: 1000 in recipe 137, but the data has 10; add --set net.classes=10" in capsys.readouterr().err
    assert main(["train", *pair("layers/layers-178"), "--data", str(tmp_path / "data")]) == 2
    assert "layers-178.cfg, line 121: pool=rand of [pool2a]" in capsys.readouterr().err


def test_a_pair_of_three_gpus_is_trained_evaluated_drawn_and_exported(pair, tmp_path, capsys):
    files, run = pair("example-layers/layers.gc"), str(tmp_path / "run")
    for split in ("train", "test"):
        for number in range(4):
            folder = tmp_path / "data" / split / f"class{number}"
            folder.mkdir(parents=True)
            for each in range(3):
                Image.effect_noise((12, 12), 30 + 50 * number).convert("RGB").save(folder / f"{each}.png")
    changes = ["--set", "net.input=10", "net.classes=4", "learning.batch=6", "learning.rate=0.001"]
    command = ["train", *files, "--data", str(tmp_path / "data"), *changes, "--epochs", "1", "--out", run]
    assert main([*command, "--devices", "fake:0", "fake:1", "--weak-signal"]) == 0
    text = capsys.readouterr().out
    for line in (
        "# from layers.gc.cfg and layer-params.gc.cfg; the section data is that of the recipe cifar10-relu",
        "# net.classes: fc10 with 4 outputs, in the files 10",
        "\n# layers_cfg: ",
        "classes = 4",
    ):
        assert line in text
    assert main(["evaluate", run]) == 0
    assert main(["predict", str(tmp_path / "data/test/class1/0.png"), "--run", run]) == 0
    assert "class1" in capsys.readouterr().out
    assert main(["figures", run, "--only", "architecture", "kernels", "neighbours"]) == 0
    assert "kernels.png: colourfulness conv32a " in capsys.readouterr().out
    assert main(["export", run, str(tmp_path / "w.safetensors")]) == 0
    assert main(["evaluate", str(tmp_path / "w.safetensors")]) == 0
    assert main(["summary", f"{run}/recipe.toml"]) == 0
    assert "gc: 3 GPUs; 10 x 10 x 3 in, 4 classes out" in capsys.readouterr().out
    for name, message in (
        ("bench", "gc: bench measures the nets of other kinds than cuda-convnet; give another recipe"),
        ("experiment", "experiment: varies nets of other kinds than cuda-convnet, which recipe gc has"),
    ):
        recipe_file = [f"{run}/recipe.toml"] if name == "bench" else ["norm", "--recipe", f"{run}/recipe.toml"]
        assert main([name, *recipe_file]) == 2
        assert message in capsys.readouterr().err


def test_footnote_3_is_refused_where_the_first_phase_has_rates_of_layers(pair, tmp_path, capsys):
    data = tmp_path / "data" / "a"
    data.mkdir(parents=True)
    Image.new("RGB", (70, 70)).save(data / "0.png")
    command = ["train", *pair("layers/layers-146-2009"), "--data", str(data.parent), "--footnote-3"]
    assert main([*command, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "--footnote-3: replaces the phases, of which the first has lr_mult for fc2048a, " in error
    assert error.count("\n") == 1


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


def changed(pair, tmp_path, name, *replacements):
    """Write a pair again with some text replaced in it; return the arguments."""
    files = []
    for path in map(Path, pair(name)):
        text = path.read_text()
        for old, new in replacements:
            text = text.replace(old, new)
        (tmp_path / path.name).write_text(text)
        files.append(str(tmp_path / path.name))
    return files


@pytest.mark.parametrize("old, new, why", [
    ("size=5", "size=9", "size of rnorm1a on GPU 0 is 9, in a recipe 5"),
    ("keep=0.5\ninputs=fc2048b\n", "keep=0.7\ninputs=fc2048b\n", "p of hs1b on GPU 1 is 0.3"),
    ("neuron=relu", "neuron=logistic", "net.activation: 'logistic' is not valid; give 'relu' or 'tanh'"),
    ("momW=0.9\n", "momW=0.8\n", "momentum: 0.8, 0.9, in a recipe one"),
    ("[conv1a]\nepsW=0.000", "[conv1a]\nwball=1\nepsW=0.000", "wball of [conv1a] limits weights"),
])  # fmt: skip
def test_convert_names_the_setting_for_which_it_keeps_the_files(old, new, why, pair, tmp_path, capsys):
    files = changed(pair, tmp_path, "layers/layers-145", (old, new))
    if "wball" in new:
        text = Path(files[1]).read_text().replace("wball=0.00\n", "", 1)
        Path(files[1]).write_text(text)
    assert main(["convert", *files, str(tmp_path / "out.toml")]) == 0
    text = re.sub(r"layer-[\w.-]+, line \d+: ", "", capsys.readouterr().out)
    assert f"no other kind of net can say it: {why}" in text
    assert recipe.load(tmp_path / "out.toml").net.kind == "cuda-convnet"


def test_convert_of_rates_that_are_all_zero_is_one_line(pair, tmp_path, capsys):
    files = changed(pair, tmp_path, "example-layers/layers-19pct", ("epsW=0.001", "epsW=0"))
    assert main(["convert", *files, str(tmp_path / "out.toml")]) == 2
    assert "layer-params-19pct.cfg: epsW is 0 for all layers, so that nothing learns" in capsys.readouterr().err

"""Reading cuda-convnet's files: every setting by hand, defaults, notes, and errors that name file and line."""

import pytest

from tests.support.cuda_convnet_files import pairs, read
from tinyalex.errors import UsageError
from tinyalex.recipes.cuda_convnet import description, notes
from tinyalex.recipes.cuda_convnet.description import Rates

LAYERS = """
[data]
type=data
dataIdx=0

[labels]
type=data
dataIdx=1

[conv1]
type=conv
inputs=data
channels=3
filters=4
filterSize=3
gpu=1

[fc]
type=fc
inputs=conv1,data
outputs=5
initW=0.01,0.3
initB=-2
neuron=tanh[1.5, 0.5]

[probs]
type=softmax
inputs=fc

[cost]
type=cost.logreg
inputs=labels,probs
"""
RATES = """
# what this is
[conv1]
epsW=0.001
epsB=0.002
momW=0.9
momB=0.8
wc=0.004

[fc]
epsW=0.01,0
epsB=0.02
momW=0.9,0.5
momB=0.9
wc=0.5,0

# epoch 10: set epsw to 0.0001 from 0.001 on conv1
# epoch 12: killed
# epoch 40: set epsw to 0.1 from 0.01
"""


def written(tmp_path, layers=LAYERS, rates=RATES):
    files = tmp_path / "layers-toy.cfg", tmp_path / "layer-params-toy.cfg"
    for file, text in zip(files, (layers, rates), strict=True):
        file.write_text(text)
    return description.read(*files)


def test_a_pair_of_files_becomes_layers_with_inputs_first_values_and_rates(tmp_path):
    made = written(tmp_path)
    assert made.name == "toy" and list(made.layers) == ["data", "labels", "conv1", "fc", "probs", "cost"]
    conv, fc = made.layers["conv1"], made.layers["fc"]
    assert (conv.type, conv.inputs, conv.gpu, conv.neuron) == ("conv", ("data",), 1, "ident")
    assert conv.settings == {
        "channels": [3], "filters": [4], "filterSize": [3], "padding": [0], "stride": [1], "groups": [1],
        "filterChannels": [3], "randSparse": [False], "sharedBiases": True,
    }  # fmt: skip
    assert (conv.first_weights, conv.first_bias) == ((0.01,), 0.0), "defaults"
    assert (conv.weights, conv.biases) == ((Rates(0.001, 0.9, 0.004),), Rates(0.002, 0.8))
    assert (fc.inputs, fc.neuron, fc.first_weights, fc.first_bias) == (
        ("conv1", "data"), "tanh[1.5,0.5]", (0.01, 0.3), -2.0,
    )  # fmt: skip
    assert fc.weights == (Rates(0.01, 0.9, 0.5), Rates(0.0, 0.5, 0.0)) and fc.biases == Rates(0.02, 0.9)
    assert fc.gpu == 1, "that of its first input"
    assert made.gpus == [1] and made.readers("data") == ["conv1", "fc"]
    assert made.phases == (notes.Change(10.0, 0.0001, 0.001, ("conv1",)), notes.Change(12.0, end=True))


@pytest.mark.parametrize("old, new, message", [
    ("inputs=conv1,data", "inputs=conv2,data", r"layers-toy.cfg, line 20: \[fc\] reads conv2, which no section above"),
    ("filters=4", "filters=four", r"layers-toy.cfg, line 14: \[conv1\] filters=four is not valid; give a whole number"),
    ("filters=4", "filters=0", r"line 14: \[conv1\] filters=0 is not valid; give 1 or more"),
    ("filters=4", "", r"layers-toy.cfg, line 10: \[conv1\] has no filters; add filters="),
    ("initW=0.01,0.3", "initW=0.01", r"line 22: \[fc\] initW=0.01 has 1 values for 2 inputs; give 2"),
    ("outputs=5", "outputs 5", r"layers-toy.cfg, line 21: not a file of cuda-convnet"),
    ("[fc]", "[conv1]", r"layers-toy.cfg, line 18: not a file of cuda-convnet"),
    ("type=conv", "", r"layers-toy.cfg, line 10: \[conv1\] has no type"),
    ("gpu=1", "gpu=-1", r"line 16: \[conv1\] gpu=-1 is not valid; give 0 or more"),
])  # fmt: skip
def test_an_error_in_the_layers_names_file_and_line(tmp_path, old, new, message):
    assert LAYERS.count(old) == 1 or old in ("[fc]",)
    with pytest.raises(UsageError, match=message):
        written(tmp_path, LAYERS.replace(old, new))


@pytest.mark.parametrize("old, new, message", [
    ("[fc]", "[fc2]", r"layers-toy.cfg, line 18: \[fc\] has no section in layer-params-toy.cfg"),
    ("epsW=0.01,0\n", "", r"layer-params-toy.cfg, line 10: \[fc\] has no epsW"),
    ("wc=0.5,0", "wc=0.5", r"layer-params-toy.cfg, line 15: \[fc\] wc=0.5 has 1 values for 2 inputs"),
    ("momB=0.8", "momB=x", r"layer-params-toy.cfg, line 7: \[conv1\] momB=x is not valid; give a number"),
])  # fmt: skip
def test_an_error_in_the_rates_names_file_and_line(tmp_path, old, new, message):
    with pytest.raises(UsageError, match=message):
        written(tmp_path, rates=RATES.replace(old, new))


def test_files_that_do_not_belong_together_are_named(cuda_convnet):
    layers, _ = pairs(cuda_convnet)["layers/layers-145"]
    with pytest.raises(UsageError, match=r"layer-params-148.cfg: \[rnorm1a\] has no scale; add scale="):
        description.read(layers, layers.with_name("layer-params-148.cfg"))
    with pytest.raises(UsageError, match=r"layer-params-145.cfg, line 1: \[conv1a\] has no type; add type="):
        description.read(layers.with_name("layer-params-145.cfg"), layers)


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(UsageError, match=r"none.cfg: cannot be read \(No such file or directory\); give a file of"):
        description.read(tmp_path / "none.cfg", tmp_path / "none.cfg")


@pytest.mark.parametrize("text, changes", [
    ("# epoch 25: set epsw to 0.001 from 0.01", [(25, 0.001, ())]),
    ("# epoch 20: set epstw ot 0.001 from 0.01", [(20, 0.001, ())]),
    ("# epoch 7: set conv1 epsw to 0 from 0.00001", [(7, 0.0, ("conv1",))]),
    ("# epoch 73: set epsw conv1 to 0 from 0.01", [(73, 0.0, ("conv1",))]),
    ("# epoch 66: set epsw to 0.00001 from 0.0001 on conv1,conv2", [(66, 1e-5, ("conv1", "conv2"))]),
    ("# epoch 79: set epsw to 0 on conv1, 0.00001 elsewhere", [(79, 1e-5, ()), (79, 0.0, ("conv1",))]),
    ("# epoch 36: paused for localization experiments", []),
])  # fmt: skip
def test_notes_of_rates(text, changes):
    assert [(c.epoch, c.rate, c.layers) for c in notes.schedule(text)] == changes


@pytest.mark.parametrize("text", [
    "# epoch 69: set epsw to 0.00001 from 0.0001 on conv1, set color noise to 0 from 0.1",
    "# epoch 69: set epsw to 0.00001 from 0.0001 on conv1\n#           set color noise to 0 from 0.1\n# on 2012-full:",
])  # fmt: skip
def test_notes_of_colour_noise_on_the_same_or_the_next_line(text):
    slower, noise = notes.schedule(text)
    assert slower == notes.Change(69.0, 1e-5, 1e-4, ("conv1",)) and noise == notes.Change(69.0, colour_noise=0.0)


def test_all_72_pairs_are_read(cuda_convnet):
    found = pairs(cuda_convnet)
    assert len(found) == 72
    for name in found:
        made = read(cuda_convnet, name)
        assert sum(layer.type == "data" for layer in made.layers.values()) == 2, name


def test_run_145_is_read_as_the_paper_describes_it(cuda_convnet):
    made = read(cuda_convnet, "layers/layers-145")
    assert made.gpus == [0, 1] and made.layers["pool1b"].gpu == 1, "inherited from conv1b"
    conv3, fc = made.layers["conv3a"], made.layers["fc2048bb"]
    assert conv3.inputs == ("pool2a", "pool2b") and conv3.settings["filters"] == [192, 192]
    assert (conv3.first_weights, conv3.first_bias) == ((0.03, 0.03), 0.0)
    assert fc.inputs == ("hs1b", "hs1a") and fc.gpu == 1 and fc.first_bias == 1
    assert made.layers["rnorm1a"].settings == {"size": 5, "scale": 0.0001, "pow": 0.75, "minDiv": 2.0}
    assert made.layers["cnorm2a"].settings == {"size": 5, "scale": 0.001, "pow": 0.75, "minDiv": 1.0}
    assert [(c.epoch, c.rate, c.layers, c.colour_noise) for c in made.phases] == [
        (25, 0.001, (), None), (51, 0.0001, (), None), (67, 0.00001, ("conv1",), None), (67, None, (), 0.0),
        (72, 0.0, ("conv1",), None), (79, 0.00001, (), None), (91, None, (), None),
    ]  # fmt: skip


def test_older_syntax_has_the_norms_constants_beside_the_layers(cuda_convnet):
    layers = read(cuda_convnet, "example-layers/layers-example").layers
    assert layers["cnorm1"].settings == {"size": 7, "scale": 0.001, "pow": 0.5, "minDiv": 1.0}
    assert layers["conv32-2"].settings["sharedBiases"] is False
    assert layers["conv32-3"].settings["filterChannels"] == [64] and layers["conv32-3"].settings["randSparse"] == [True]

"""Recipes that hold the authors' files: written and read back equal, checked, and how their nets learn."""

import re
from dataclasses import replace

import pytest

from tests.support.cuda_convnet_files import pairs, read, side
from tests.support.files_as_recipes import LAYERS, RATES, as_recipe, parsed
from tinyalex.errors import UsageError
from tinyalex.network import alexnet, conversion
from tinyalex.network import cuda_convnet as nets
from tinyalex.recipes import recipe
from tinyalex.recipes.cuda_convnet import classes
from tinyalex.recipes.cuda_convnet.learning import learning
from tinyalex.training import schedule


def test_a_pair_that_no_other_kind_can_say_is_a_recipe_of_its_texts():
    made = conversion.of_files(parsed(), 12)
    assert (made.net.kind, made.net.classes, made.net.columns, made.net.input) == ("cuda-convnet", 4, 2, 12)
    assert (made.net.layers_cfg, made.net.layer_params_cfg) == (LAYERS, RATES)
    assert made.notes == (
        "from layers-toy.cfg and layer-params-toy.cfg; the section data is that of the recipe original",
        "the net is what the files say; no other kind of net can say it: layers-toy.cfg, line 11: type=blur of [blur0]",
    )
    text = recipe.to_toml(made)
    assert recipe.parse(text) == made
    assert "\n[conv1a]\nepsW=0.001\n" in text and "init" not in text.replace("initW", "").replace("initB", "")
    short = recipe.to_toml(made, texts=False)
    assert f"# layers_cfg: {LAYERS.count(chr(10)) + 1} lines, not shown" in short and "[conv1a]" not in short


@pytest.mark.parametrize("comment", ['"""', "'''", 'C:\\new "x" \\u0041', "tab\there", "\\", '""', "é 图 \u2028"])
def test_any_text_is_read_back_equal(comment):
    made = as_recipe(parsed(f"# {comment}\n{LAYERS}# {comment}", RATES + f"# {comment}\n"))
    assert made.net.layers_cfg.endswith(f"# {comment}") and made.net.layer_params_cfg.endswith(f"# {comment}\n")
    assert recipe.parse(recipe.to_toml(made)) == made


def test_files_with_other_line_ends_say_the_same():
    made = as_recipe(parsed())
    assert replace(made.net, layers_cfg=LAYERS.replace("\n", "\r\n")) == made.net


QUICK = ["layers/layers-120-4gpu", "layers/layers-184-4gpu", "example-layers/layers.gc", "layers-cifar/layers-18pct"]


@pytest.mark.parametrize("names", [QUICK, pytest.param(None, marks=pytest.mark.slow)], ids=["few", "all"])
def test_the_authors_files_become_recipes_that_are_read_back_equal(names, cuda_convnet):
    count = 0
    for name in names or pairs(cuda_convnet):
        try:
            made = conversion.of_files(read(cuda_convnet, name), side(name))
        except UsageError as error:
            assert "not supported" in str(error), name
            continue
        count += 1
        assert recipe.parse(recipe.to_toml(made)) == made
        assert alexnet.describe(made.net, made.init).classes == made.net.classes
    assert count == (len(names) if names else 64)


@pytest.mark.parametrize("changes, message", [
    ({"maps": (1, 2, 3, 4, 5)}, "net.maps: a net of kind 'cuda-convnet' is what net.layers_cfg says; take out net.m"),
    ({"dropout": 0.1}, "net.dropout: a net of kind"),
    ({"columns": 3}, "net.columns: a net of kind"),
    ({"layers_cfg": None}, "net.layers_cfg: is missing; a net of kind 'cuda-convnet' needs the text of that file"),
    ({"layers_cfg": LAYERS + "\x07"}, "net.layers_cfg: .* is not valid; give the text of a file of cuda-convnet"),
    ({"layers_cfg": LAYERS.replace("filters=6", "filters=x", 1)},
     r"net.layers_cfg, line 28: \[conv1a\] filters=x is not valid; give a whole number"),
    ({"layer_params_cfg": RATES.replace("[fc16]", "[fc17]")}, r"net.layers_cfg, line 86: \[fc16\] has no section in"),
    ({"kind": "alexnet"}, "net.layers_cfg: belongs to a net of kind 'cuda-convnet', not 'alexnet'; take it out"),
])  # fmt: skip
def test_what_does_not_belong_to_such_a_net_is_refused(changes, message):
    with pytest.raises(UsageError, match=message) as caught:
        replace(as_recipe(parsed()).net, **changes)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("override, message", [
    ("net.columns=2", "net.columns: a net of kind 'cuda-convnet' is what net.layers_cfg says"),
    ("net.norm=none", "net.norm: a net of kind"),
    ("init.weights.conv1a=0.1", "init: the first values of a cuda-convnet net are initW and initB in net.layers_cfg"),
    ("learning.lr_mult.conv1=0.1", "conv1: no such layer for learning.lr_mult; did you mean \"conv1a\""),
    ("learning.layer_momentum={\"conv2.3/W\"=0.1}", "conv2.3/W: no such layer"),
    ("learning.layer_momentum={conv1a=1}", "learning.layer_momentum: .* give a table of layers, each a number from 0"),
])  # fmt: skip
def test_overrides_that_do_not_fit_are_refused(override, message):
    with pytest.raises(UsageError, match=message):
        as_recipe(parsed(), 12, override)


def test_the_first_line_that_differs_is_named():
    one, other = as_recipe(parsed()), as_recipe(parsed(LAYERS.replace("keep=0.5", "keep=0.6")))
    text = recipe.describe(recipe.differences(one, other))
    assert text == "net.layers_cfg, line 96: 'keep=0.5', now it is 'keep=0.6'"


# How it learns.


def rates_of(made, tensor, epoch=0.0):
    """Rate, momentum and weight decay of a tensor as the section says it."""
    section, now = made.learning, schedule.rates(made.learning, epoch)

    def own(table, default=1.0):
        return made.net.by_tensor(table).get(tensor, default)

    bias = tensor.endswith("/b")
    rate = (now.bias_rate if bias else now.rate) * own(section.lr_mult) * own(now.lr_mult)
    return rate, own(section.layer_momentum, section.momentum), own(section.layer_weight_decay, section.weight_decay)


def test_without_notes_every_tensor_learns_as_the_file_says():
    made = as_recipe(parsed())
    for tensor, wanted in nets.rates(parsed()).items():
        rate, momentum, decay = rates_of(made, tensor)
        assert rate == pytest.approx(wanted.rate, rel=1e-12) and momentum == wanted.momentum, tensor
        assert decay == wanted.weight_decay or tensor.endswith("/b"), tensor
    assert made.learning.lr_mult == {
        "conv1b/W": 0.1, "conv2.1/W": 0.5, "conv2/b": 0.5, "fc4b.1/W": 2.0, "fc4b/b": 2.0,
    }  # fmt: skip
    assert made.learning.layer_momentum == {"conv1b/b": 0.8, "conv2.1/W": 0.5}
    assert made.learning.layer_weight_decay == {"conv1b": 0.0, "conv2.1/W": 0.1}
    assert made.learning.phases == (recipe.Phase(0.0, 0.001, 0.002),) and made.learning.epochs == 90


NOTES = """
# epoch 10: set epsw to 0.001 from 0.01
# epoch 20: set epsw to 0.0001 from 0.001 on conv1
#           set color noise to 0 from 0.1
# epoch 25: set epsw to 0 on conv1
# epoch 30: killed
"""


def test_the_notes_are_the_schedule():
    conv2 = RATES.index("[conv2]")
    first = re.sub(r"(?m)^(eps[WB])=.*", r"\1=0", RATES[:conv2])  # conv1a and conv1b as they were saved at the end
    rates = first + RATES[conv2:].replace("0.001,0.0005", "0.001,0.001").replace("0.001,0.002", "0.001,0.001") + NOTES
    made = as_recipe(parsed(rates=rates))
    assert made.learning.epochs == 30
    assert [(p.epoch, p.rate, p.bias_rate, p.colour_noise, p.lr_mult) for p in made.learning.phases] == [
        (0.0, 0.01, 0.02, None, {}),
        (10.0, 0.001, 0.002, None, {}),
        (20.0, 0.001, 0.002, 0.0, {"conv1a": 0.1, "conv1b": 0.1}),
        (25.0, 0.001, 0.002, 0.0, {"conv1a": 0.0, "conv1b": 0.0}),
    ]
    assert made.learning.lr_mult == {"conv2/b": 0.5, "fc4b/b": 2.0}
    assert not learning(parsed(rates=rates))[1]


def test_inputs_keep_the_ratio_of_their_rates_when_the_notes_change_them():
    notes = "\n# epoch 4: set epsw to 0.001 from 0.01\n# epoch 6: set epsw to 0.0001 from 0.001 on conv2\n"
    rates = RATES.replace("0.001,0.0005", "0.0001,0.00005").replace("epsB=0.001", "epsB=0.0002")
    made = as_recipe(parsed(rates=rates + notes))
    assert made.learning.lr_mult["conv2.1/W"] == 0.5
    assert [phase.lr_mult for phase in made.learning.phases] == [{}, {}, {"conv2": 0.1}]
    own = made.net.by_tensor(made.learning.phases[-1].lr_mult)
    assert own == {"conv2.0/W": 0.1, "conv2.1/W": 0.1, "conv2/b": 0.1}


def test_biases_that_do_not_learn_stay_so():
    rates = re.sub(r"epsB=.*", "epsB=0", RATES) + "\n# epoch 4: set epsw to 0.001 from 0.01\n"
    assert [phase.bias_rate for phase in as_recipe(parsed(rates=rates)).learning.phases] == [0.0, 0.0]


@pytest.mark.parametrize("old, new, message", [
    ("[hs1]", "[hs1]\nfrom=here", "layer-params-toy.cfg, line 49: from of [hs1] is not known, and left out"),
    ("wc=0.1", "wc=0.1\nwball=1", "layer-params-toy.cfg, line "),
    ("momW=0.9\nmomB=0.8", "schedW=exp[10]\nmomW=0.9\nmomB=0.8",
     "layer-params-toy.cfg, line 12: the rates follow schedw=exp[10], which is left out"),
    ("\n[cost]", "\n[cost]\n# epoch 5: set epsw to 0.1 from 0.2 on conv9",
     "layer-params-toy.cfg, notes, epoch 5: the rate 0.1 of conv9, which is no layer, is left out"),
    ("\n[cost]", "\n[cost]\n# epoch 5: set epsw to 0.0001 from 0.001",
     "last rates by the notes, and in brackets those of layer-params-toy.cfg: conv1a 0.0001 (0.001), "),
])  # fmt: skip
def test_what_a_recipe_cannot_say_is_named_with_its_line(old, new, message):
    if "wball" in new:
        old, new = "wc=0.004,0.1", "wc=0.004,0.1\nwball=0,1"
    assert old in RATES
    notes = conversion.of_files(parsed(rates=RATES.replace(old, new, 1)), 12).notes
    assert any(message in note for note in notes), notes


def test_weights_of_another_layer_and_layers_of_another_net_are_named():
    shared = LAYERS.replace("[sum]", "[sum]", 1).replace("initW=0.01\ngpu=0", "initW=0.01\nweightSource=conv1b\ngpu=0")
    with pytest.raises(UsageError, match=r"layers-toy.cfg, line 33: weightSource=conv1b of \[conv1a\]: not supported"):
        conversion.of_files(parsed(shared), 12)
    copied = LAYERS.replace("initW=0.01\ngpu=0", "initW=0.01\ninitWFunc=initw.makew(conv1a)\ngpu=0")
    assert "first values of conv1a: in the files from another net (initWFunc), here random" in (
        conversion.of_files(parsed(copied), 12).notes
    )


def test_if_no_weights_learn_that_is_an_error():
    zero = re.sub(r"epsW=[\d.]+(,?)[\d.]*", lambda found: "epsW=0,0" if found[1] else "epsW=0", RATES)
    with pytest.raises(UsageError, match="layer-params-toy.cfg: epsW is 0 for all layers, so that nothing learns"):
        conversion.of_files(parsed(rates=zero), 12)


# Classes.


@pytest.mark.parametrize("number, shares", [(4, [2, 2]), (7, [3, 4]), (2, [1, 1]), (1000, [500, 500])])
def test_the_last_layers_share_another_number_of_classes(number, shares):
    made = as_recipe(parsed(), 12, f"net.classes={number}")
    assert [layer.settings["outputs"] for layer in classes.heads(classes.with_classes(parsed(), number))] == shares
    assert alexnet.describe(made.net).classes == number
    assert recipe.with_classes(as_recipe(parsed(), 12, "net.classes=0"), number).net == made.net


def test_a_number_of_classes_that_cannot_be_is_refused():
    with pytest.raises(UsageError, match="net.classes: 1 for 2 last layers, fc4a, fc4b; give 2 or more"):
        alexnet.describe(as_recipe(parsed(), 12, "net.classes=1").net)
    summed = LAYERS.replace("type=concat\ninputs=fc4a,fc4b", "type=eltsum\ninputs=fc4a,fc4b")
    made = as_recipe(parsed(summed), 12)
    assert alexnet.describe(made.net).classes == 2
    with pytest.raises(UsageError, match=r"net.layers_cfg, line 114: the classes come from \[all\] of type eltsum"):
        alexnet.describe(replace(made.net, classes=9))

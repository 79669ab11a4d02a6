"""Recipes: what they contain, which values they refuse, and that a resolved recipe is read back equal."""

from dataclasses import fields, replace

import pytest

from tinyalex.errors import UsageError
from tinyalex.recipes import recipe
from tinyalex.recipes.ranges import RULES
from tinyalex.training.schedule import rates


@pytest.mark.parametrize("name", recipe.names())
@pytest.mark.parametrize("overrides", [[], ["learning.epochs=13"], ["learning.rate=0.003"]])
def test_resolved_recipe_reads_back_equal(name, overrides):
    original = recipe.load(name, overrides)
    assert original.name == name
    assert recipe.parse(recipe.to_toml(original)) == original


def test_switches_of_nets_made_elsewhere_read_back_equal():
    overrides = ["net.pads=[2, 2, 1, 1, 1]", "net.conv_rounding=floor", "net.pool_rounding=floor", "net.norm_size=3"]
    overrides += ["net.norm_k=1", "net.norm_alpha=2e-5", "net.norm_beta=.5", "net.norm_window=all"]
    made = recipe.load("paper", [*overrides, "net.norm_order=pool-norm"])
    assert recipe.parse(recipe.to_toml(made)) == made
    before = recipe.load("paper").net
    keys = [key.name for key in fields(recipe.Net) if getattr(made.net, key.name) != getattr(before, key.name)]
    assert keys == [key for key in SWITCHES if key in keys] == [*SWITCHES]


SWITCHES = ("pads", "conv_rounding", "pool_rounding", "norm_size", "norm_k", "norm_alpha", "norm_beta")
SWITCHES += ("norm_window", "norm_order")


@pytest.mark.parametrize("name", recipe.names())
def test_recipes_of_earlier_versions_have_the_usual_switches(name):
    text = "\n".join(line for line in recipe.to_toml(recipe.load(name)).splitlines()
                     if line.split(" = ")[0] not in SWITCHES)  # fmt: skip
    assert recipe.parse(text) == recipe.load(name)


def test_every_key_has_a_rule_and_every_rule_a_key():
    parts = (recipe.Net, recipe.Init, recipe.Data, recipe.Learning, recipe.Phase)
    keys = {f"{part.section}.{each.name}" for part in parts for each in fields(part)}
    assert set(RULES) == keys | {"name"}


@pytest.mark.parametrize("name", recipe.names())
def test_every_recipe_starts_with_a_comment_on_its_origin(name):
    assert (recipe._folder() / f"{name}.toml").read_text().startswith("# ")


def test_original_is_run_145_of_2012():
    original = recipe.load("original")
    assert [(p.epoch, p.rate, p.bias_rate, p.colour_noise, p.lr_mult) for p in original.learning.phases] == [
        (0, 1e-2, 0.02, None, {}),
        (25, 1e-3, 0.02, None, {}),
        (51, 1e-4, 0.02, None, {}),
        (67, 1e-4, 0.02, 0.0, {"conv1": 0.1}),
        (72, 1e-4, 0.02, 0.0, {"conv1": 0.0}),
        (79, 1e-5, 0.02, 0.0, {"conv1": 0.0}),
    ]
    assert (original.learning.epochs, original.learning.batch, original.net.norm) == (91, 128, "2012")
    assert (original.data.shared_crop, original.data.mean, original.data.colour) == (32, "centre", "2012")
    assert original.init.weights == {"default": 0.01, "conv3": 0.03, "conv4": 0.03, "conv5": 0.03}


def test_paper_is_the_text():
    paper = recipe.load("paper")
    ones = {layer for layer, bias in paper.init.biases.items() if bias == 1}
    assert ones == {"conv2", "conv4", "conv5", "fc6", "fc7"}
    assert paper.init.weights == {"default": 0.01}
    assert (paper.learning.schedule, paper.learning.drops, paper.learning.bias_rate) == ("plateau", 3, 1.0)
    assert paper.learning.phases == ()


def test_cifar_nets_differ_in_the_activation_alone():
    relu, tanh = recipe.load("cifar10-relu"), recipe.load("cifar10-tanh")
    assert replace(tanh, name=relu.name, net=replace(tanh.net, activation="relu")) == relu
    assert relu.learning.phases == (recipe.Phase(0, 0.001),)
    assert (relu.learning.weight_decay, relu.data.flip, relu.init.weights["conv1"]) == (0.0, False, 1e-4)


def test_another_number_of_epochs_scales_the_phases():
    short = recipe.load("original", ["learning.epochs=10"])
    assert [p.epoch for p in short.learning.phases] == pytest.approx([e * 10 / 91 for e in (0, 25, 51, 67, 72, 79)])
    assert recipe.load("modern", ["learning.epochs=9"]).learning.warmup == pytest.approx(0.5)
    assert "10 epochs instead of 91" in recipe.to_toml(short)
    assert recipe.with_epochs(recipe.load("original"), 10) == short


def test_another_rate_scales_the_phases():
    fast = recipe.load("original", ["learning.rate=0.02"])
    assert [p.rate for p in fast.learning.phases] == pytest.approx([0.02, 2e-3, 2e-4, 2e-4, 2e-4, 2e-5])
    assert fast.learning.phases[1].bias_rate == pytest.approx(0.04)


@pytest.mark.parametrize("rate", [0.01 / 3, 0.001234567891, 0.02])
def test_a_new_rate_is_the_first_phases_to_the_last_digit(rate):
    learning = recipe.load("original", [f"learning.rate={rate!r}"]).learning
    assert learning.phases[0].rate == rate == rates(learning, 0).rate and rates(learning, 0).drops == 0


def test_phases_given_as_an_override_are_not_scaled():
    override = ["learning.phases=[{epoch=0, rate=0.5}, {epoch=2, rate=0.1}]", "learning.rate=0.5", "learning.epochs=3"]
    learning = recipe.load("shapes", ["learning.schedule=phases", *override]).learning
    assert learning.phases == (recipe.Phase(0, 0.5), recipe.Phase(2, 0.1))
    assert learning.epochs == 3


def test_overrides_of_every_kind():
    changed = recipe.load("shapes", ["net.norm=none", "init.weights.conv1=0.5", "net.talk=[]", "data.flip=true"])
    assert (changed.net.norm, changed.net.talk, changed.data.flip) == ("none", (), True)
    assert changed.init.weights["conv1"] == 0.5
    assert changed.init.weights["default"] == recipe.load("shapes").init.weights["default"]


@pytest.mark.parametrize(
    "override, message",
    [
        ("rate=1", '"learning.rate"'),
        ("learning.rat=1", '"learning.rate"'),
        ("lerning.rate=1", '"learning.rate"'),
        ("net.talk=['fc9']", '"fc'),
        ("init.weights.conf1=1", '"conv1"'),
        ("learning.phases=[{epoch=0, rate=0.01, lr_mult={conv9=0}}]", '"conv'),
        ("learning.phases=[{epoch=0, rat=0.01}]", '"learning.phases.rate"'),
        ("learning.phases=[{epoch=0}]", "give epoch and rate"),
        ("learning.phases.epoch=3", "as a whole"),
        ("learning.rate=0", "above 0"),
        ("learning.rate=true", "above 0"),
        ("learning.rate=nan", "above 0"),
        ("learning.rate=fast", "above 0"),
        ("learning.epochs=0", "1 or more"),
        ("learning.epochs=2.5", "1 or more"),
        ("learning.batch=0", "1 or more"),
        ("learning.momentum=1.0", "below 1"),
        ("net.dropout=1.0", "below 1"),
        ("net.dropout=-0.1", "below 1"),
        ("net.columns=3", "1 or 2"),
        ("net.columns=true", "1 or 2"),
        ("net.maps=[97, 256, 384, 384, 256]", "97 is not a multiple"),
        ("net.maps=[96, 256]", "give 5"),
        ("net.hidden=4095", "4095 is not a multiple"),
        ("net.norm=batch", "'paper'"),
        ("data.flip=1", "true or false"),
        ("data.scale=0", "above 0"),
        ("net=3", "table of keys"),
        ("net.input", "no value"),
        ("learning.warmup=91", "fewer"),
        ("learning.phases=[{epoch=5, rate=0.01}]", "begin at 0"),
        ("learning.phases=[{epoch=0, rate=0.01}, {epoch=95, rate=0.1}]", "end before 91"),
        ("learning.phases=[{epoch=0, rate=0.1}]", "make them equal"),
    ],
)
def test_invalid_overrides_are_refused(override, message):
    with pytest.raises(UsageError) as raised:
        recipe.load("original", [override])
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("override", ["net.columns=2", "net.norm=paper", "net.dropout=0.5"])
def test_settings_that_a_cifar_net_lacks_are_refused(override):
    with pytest.raises(UsageError, match="for a cifar10 net"):
        recipe.load("cifar10-relu", [override])


@pytest.mark.parametrize("name, nearest", [("orginal", '"original"'), ("cifar-relu", '"cifar10-relu"')])
def test_unknown_recipe_names_the_nearest(name, nearest):
    with pytest.raises(UsageError, match=nearest):
        recipe.load(name)


@pytest.mark.parametrize("content", [b"[net\ninput = 3", b"\xff\xfe", b"[net]\ninput = 3\ninput = 4\n"])
def test_file_that_is_not_a_recipe(tmp_path, content):
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError) as raised:
        recipe.load(path)
    assert "\n" not in str(raised.value)


def test_recipe_from_a_file_is_named_after_it(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text("[net]\nclasses = 0\n")
    small = recipe.load(path)
    assert small.name == "small"
    assert recipe.with_classes(small, 7).net.classes == 7


def test_split_layer_needs_a_class_in_each_column():
    with pytest.raises(UsageError, match="net.fc8: 'split' needs a class for each column, but there is 1; use 'a'"):
        recipe.load("original", ["net.fc8=split", "net.classes=1"])


# Keys of earlier versions.

OLD = """
name = "old"
[learning]
rate = 0.02
decay = 0.001
decays = { fc6 = 0.004, fc7 = 0.0 }
[[learning.phases]]
epoch = 0
rate = 0.02
[[learning.phases]]
epoch = 10
rate = 0.002
slow = { conv1 = 0.1 }
[[learning.phases]]
epoch = 20
rate = 0.002
lr_mult = { conv1 = 0.0 }
"""
NOTES = [
    f"learning.{old} is now called learning.{new}; the old name is still read"
    for old, new in (("decay", "weight_decay"), ("decays", "layer_weight_decay"), ("phases.slow", "phases.lr_mult"))
]


def test_old_keys_are_read_and_noted():
    old = recipe.parse(OLD)
    renamed = OLD.replace("decays =", "layer_weight_decay =").replace("decay =", "weight_decay =")
    renamed = renamed.replace("layer_weight_weight_decay", "layer_weight_decay").replace("slow =", "lr_mult =")
    assert "weight_decay = 0.001" in renamed and "lr_mult = { conv1 = 0.1 }" in renamed
    assert old == recipe.parse(renamed) and recipe.parse(renamed).notes == ()
    assert old.learning.weight_decay == 0.001
    assert old.learning.layer_weight_decay == {"fc6": 0.004, "fc7": 0.0}
    assert [phase.lr_mult for phase in old.learning.phases] == [{}, {"conv1": 0.1}, {"conv1": 0.0}]
    assert sorted(old.notes) == sorted(NOTES)


@pytest.mark.parametrize(("old", "new"), [("true", "tf32"), ("false", "float32")])
def test_tf32_of_earlier_versions_is_read_as_a_precision(old, new):
    made = recipe.load("shapes", [f"net.precision={new}"])
    text = recipe.to_toml(made).replace(f'precision = "{new}"', f"tf32 = {old}")
    assert recipe.parse(text) == made == recipe.load("shapes", [f"net.tf32={old}"])
    assert recipe.parse(text).notes == ("net.tf32 is now called net.precision; the old name is still read",)
    with pytest.raises(UsageError, match="^net.tf32: 1 is not valid; give true or false, or net.precision instead$"):
        recipe.load("shapes", ["net.tf32=1"])
    with pytest.raises(UsageError, match="^net.precision: 'fp16' is not valid; give 'float32' or 'tf32' or 'bf16'$"):
        recipe.load("shapes", ["net.precision=fp16"])


def test_a_resolved_recipe_has_the_new_keys_and_the_notes_as_comments():
    text = recipe.to_toml(recipe.parse(OLD))
    assert sorted(line[2:] for line in text.splitlines() if line.startswith("#")) == sorted(NOTES)
    again = recipe.parse(text)
    assert again == recipe.parse(OLD) and again.notes == ()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("learning.decay=0.1", "learning.weight_decay=0.1"),
        ("learning.decays={fc6=0.1}", "learning.layer_weight_decay={fc6=0.1}"),
        ("learning.decays.fc6=0.1", "learning.layer_weight_decay.fc6=0.1"),
        (
            "learning.phases=[{epoch=0, rate=0.01, slow={conv1=0.5}}]",
            "learning.phases=[{epoch=0, rate=0.01, lr_mult={conv1=0.5}}]",
        ),
        ("learning={decay=0.1}", "learning={weight_decay=0.1}"),
    ],
)
def test_overrides_with_old_keys(old, new):
    changed = recipe.load("original", [old])
    assert changed == recipe.load("original", [new])
    assert changed != recipe.load("original")
    assert len(changed.notes) == 1 and "the old name is still read" in changed.notes[0]


def test_an_override_and_a_file_may_use_different_names_of_a_key():
    assert recipe.parse(OLD, overrides=["learning.weight_decay=0.5"]).learning.weight_decay == 0.5
    assert recipe.load("original", ["learning.decay=0.5"]).learning.weight_decay == 0.5
    decays = recipe.parse(OLD, overrides=["learning.decays.fc8=0.5"]).learning.layer_weight_decay
    assert decays == {"fc6": 0.004, "fc7": 0.0, "fc8": 0.5}


@pytest.mark.parametrize(
    ("text", "overrides", "old", "new"),
    [
        ("[learning]\ndecay = 0.1\nweight_decay = 0.2", [], "decay", "weight_decay"),
        ("[learning]\ndecays = { fc6 = 0.1 }\nlayer_weight_decay = {}", [], "decays", "layer_weight_decay"),
        (OLD.replace("rate = 0.002\nslow", "rate = 0.002\nlr_mult = {}\nslow"), [], "phases.slow", "phases.lr_mult"),
        ("", ["learning.decay=0.1", "learning.weight_decay=0.2"], "decay", "weight_decay"),
        ("", ["learning.weight_decay=0.2", "learning.decay=0.1"], "decay", "weight_decay"),
        ("", ["learning.decays.fc6=1", "learning.layer_weight_decay.fc6=2"], "decays", "layer_weight_decay"),
    ],
)
def test_both_names_of_a_key_are_refused(text, overrides, old, new):
    with pytest.raises(UsageError) as raised:
        recipe.parse(text, overrides=overrides)
    assert str(raised.value) == (
        f"learning.{old}: was renamed to learning.{new}, which is given too; remove learning.{old}"
    )


def test_deeply_nested_tables_are_refused():
    # Python 3.14 has a limit of its own.
    with pytest.raises(UsageError, match="learning.a: no such key|more than the allowed"):
        recipe.parse(f"learning.{'.'.join('a' * 5000)} = 1")
    with pytest.raises(UsageError, match="a: no such key|more than the allowed"):
        recipe.parse(f"{'.'.join('a' * 5000)} = 1")
    with pytest.raises(UsageError, match="correct the TOML"):
        recipe.parse(f"a = {'[' * 5000}")


def test_another_number_of_classes_is_refused():
    with pytest.raises(UsageError, match="net.classes=7"):
        recipe.with_classes(recipe.load("original"), 7)
    assert recipe.with_classes(recipe.load("original"), 1000) == recipe.load("original")


def test_recipes_cannot_be_changed_by_accident():
    with pytest.raises(AttributeError):
        recipe.load("paper").net.input = 3


def test_winograd_is_read_as_auto():
    # Recipes of earlier versions say "winograd" for what is the default now.
    assert recipe.load("shapes", ["net.convolution=winograd"]) == recipe.load("shapes")
    assert recipe.load("shapes").net.convolution == "auto"


# What people type after --set, and files as editors write them.


@pytest.mark.parametrize("text, value", [
    (".01", 0.01), ("1e-2", 0.01), ("1.", 1.0), ("+5", 5.0), ("1_000", 1000.0), (".5e-3", 0.0005), ("1.e-3", 0.001),
    ("+.5", 0.5), (" 2 ", 2.0),
])  # fmt: skip
def test_numbers_are_read_as_people_write_them(text, value):
    assert recipe.load("shapes", [f"learning.rate={text}"]).learning.rate == value


@pytest.mark.parametrize("override, part, key, value", [
    *(("data.flip=" + word, "data", "flip", True) for word in ("true", "True", "yes", "ON")),
    *(("data.flip=" + word, "data", "flip", False) for word in ("false", "False", "no", "Off")),
    *(("net.maps=" + word, "net", "maps", (2, 4, 6, 8, 9)) for word in ("[2,4,6,8,9]", "2,4,6,8,9", "(2, 4,6,8,9)")),
    *(("net.talk=" + word, "net", "talk", ("conv3",)) for word in ('["conv3"]', "[conv3]", "conv3")),
    ("net.talk=conv3,fc6", "net", "talk", ("conv3", "fc6")),
    ("init.weights={default=he, conv1=.1}", "init", "weights", {"default": "he", "conv1": 0.1}),
    ("init.weights.conv1=.1", "init", "weights", {"default": "he", "conv1": 0.1}),
    ("learning.batch=1e2", "learning", "batch", 100),
    ("net.norm=2012", "net", "norm", "2012"),
    ('net.norm="2012"', "net", "norm", "2012"),
])  # fmt: skip
def test_values_without_quotes_brackets_or_zeros_are_read(override, part, key, value):
    assert getattr(getattr(recipe.load("shapes", ["net.columns=1", override]), part), key) == value


@pytest.mark.parametrize("text", ["text", '"text"', "two words", "yes", "2012", "a, b"])
def test_text_stays_text(text):
    assert recipe.load("shapes", [f"name={text}"]).name == text.strip('"')


@pytest.mark.parametrize("override, message", [
    ("learning.rate=0,01", "learning.rate: '0,01' is not valid; give a number above 0"),
    ("learning.rate=fast", "give a number above 0"),
    ("learning.epochs=2.5", "give a whole number, 1 or more"),
    ("data.flip=maybe", "give true or false"),
    ("learning.rate", "write --set section.key=value, without spaces"),
    ("learning.rate=", "no value; write --set learning.rate=value"),
    ("momentum=.5", 'did you mean "learning.momentum"'),
    ("lerning.rate=1", 'did you mean "learning.rate"'),
    ("learning.xyz=1", "give one of learning.batch, learning.parts,"),
    ("xyz=1", "give a key of net, init, data or learning, such as learning.rate"),
])  # fmt: skip
def test_what_cannot_be_read_is_answered_with_what_to_type(override, message):
    with pytest.raises(UsageError) as caught:
        recipe.load("shapes", [override])
    assert message in str(caught.value)
    assert "did you mean" in message or "did you mean" not in str(caught.value)  # no far-fetched suggestions


@pytest.mark.parametrize("begin, end", [("\ufeff", "\n"), ("", "\r\n"), ("\ufeff", "\r\n")])
def test_byte_order_marks_and_windows_lines_are_read(tmp_path, begin, end):
    text = (recipe._folder() / "shapes.toml").read_text()
    (tmp_path / "shapes.toml").write_bytes((begin + text.replace("\n", end)).encode())
    assert recipe.load(tmp_path / "shapes.toml") == recipe.load("shapes")


@pytest.mark.parametrize("content, message", [
    ("name = 'a'".encode("utf-16"), "is written in UTF-16; save it as UTF-8"),
    ("name = 'a'".encode("utf-16-le"), "holds bytes of 0, as UTF-16 does; save it as UTF-8, or give a TOML file"),
    (b"\xff\xd8\xff\xe0", "is not text in UTF-8 (byte 1); give a TOML file"),
    ("name = 'ä'".encode("latin-1"), "is not text in UTF-8 (byte 9); give a TOML file"),
])  # fmt: skip
def test_files_in_another_encoding_are_named(tmp_path, content, message):
    (tmp_path / "a.toml").write_bytes(content)
    with pytest.raises(UsageError) as caught:
        recipe.load(tmp_path / "a.toml")
    assert str(caught.value).startswith(f"{tmp_path / 'a.toml'}: ") and str(caught.value).endswith(message)


def test_a_folder_given_as_recipe_is_answered_with_the_option_that_takes_it(tmp_path):
    (tmp_path / "my run").mkdir()
    with pytest.raises(
        UsageError, match="is a folder, not a recipe; to train on its images: tinyalex train --data '.*/my run'"
    ):
        recipe.load(tmp_path / "my run")
    (tmp_path / "my run" / "recipe.toml").write_text("")
    with pytest.raises(UsageError, match="for the recipe of a run, give '.*/my run/recipe.toml'"):
        recipe.load(tmp_path / "my run")
    with pytest.raises(UsageError, match="to change a key, write --set learning.rate=1"):
        recipe.load("learning.rate=1")


def test_an_error_in_a_file_names_the_file(tmp_path):
    (tmp_path / "mine.toml").write_text("name 3")
    with pytest.raises(UsageError) as caught:
        recipe.load(tmp_path / "mine.toml")
    assert str(caught.value).startswith(f"{tmp_path / 'mine.toml'}: Expected '='")


def test_few_images_take_more_epochs_for_the_least_number_of_steps():
    made = recipe.load("photos-64")
    batch, steps, epochs = made.learning.batch, made.learning.steps, made.learning.epochs
    for images in (1, batch, batch + 1, 400):
        raised = recipe.with_steps(made, images).learning
        per_epoch = -(-images // batch)
        assert steps <= raised.epochs * per_epoch < steps + per_epoch
        assert raised.warmup == pytest.approx(made.learning.warmup * raised.epochs / epochs)
        assert recipe.with_steps(recipe.with_steps(made, images), images).learning == raised
    assert recipe.with_steps(made, 100_000) == made
    phased = recipe.load("original", ["learning.steps=9100"])
    assert recipe.with_steps(phased, 1280).learning.phases[1].epoch == pytest.approx(250)
    assert recipe.load("photos-64", ["learning.epochs=3"]).learning.steps is None
    assert recipe.load("photos-64", ["learning.epochs=3", "learning.steps=9"]).learning.steps == 9


@pytest.mark.parametrize("override", ["learning.lr_mult={conv9=1}", "init.anew=[fc9]"])
def test_layers_that_the_net_lacks_are_named(override):
    with pytest.raises(UsageError, match="no such layer for"):
        recipe.load("photos-64", [override])


@pytest.mark.parametrize("name", recipe.names())
def test_crops_fit_into_the_images_that_a_recipe_wants(name):
    made = recipe.load(name)
    assert made.net.input <= made.image_size <= 2 * made.net.input

"""The summary of a net: its counts are the paper's figures, except for those that are slips."""

from collections import Counter

import pytest

from tests.programs.paper_nets import NETS
from tinyalex.network import alexnet, summary
from tinyalex.recipes import recipe

# 2012: layers-145.cfg, counted; per column where columns hold halves.
NEURONS = {"conv1": 290_400, "conv2": 186_624, "conv3": 64_896, "conv4": 64_896, "conv5": 43_264,
           "fc6": 4096, "fc7": 4096, "fc8": 1000}  # fmt: skip
PARAMETERS = {"conv1": 34_944, "conv2": 307_456, "conv3": 885_120, "conv4": 663_936, "conv5": 442_624,
              "fc6": 37_752_832, "fc7": 16_781_312, "fc8": 4_097_000}  # fmt: skip
PRODUCTS = {"conv1": 105_415_200, "conv2": 223_948_800, "conv3": 149_520_384, "conv4": 112_140_288,
            "conv5": 74_760_192, "fc6": 37_748_736, "fc7": 16_777_216, "fc8": 4_096_000}  # fmt: skip


def described(name="original", columns=None, overrides=()):
    made = recipe.load(name, overrides)
    return made, alexnet.describe(made.net, made.init, columns or made.net.columns)


@pytest.mark.parametrize("columns", [1, 2])
def test_layer_by_layer(columns):
    _, network = described(columns=columns)
    sums = {field: Counter() for field in ("neurons", "parameters", "multiply_adds")}
    for rows in summary.rows(network).values():
        for row in rows:
            for field, counter in sums.items():
                counter[row.layer.split()[0].rstrip("ab")] += getattr(row, field)
    for field, wanted in (("neurons", NEURONS), ("parameters", PARAMETERS), ("multiply_adds", PRODUCTS)):
        assert {name: count for name, count in sums[field].items() if count} == wanted
    assert sum(PARAMETERS.values()) == 60_965_224
    assert sum(PRODUCTS.values()) == 724_406_816


def test_each_column_of_2012():
    _, network = described()
    held = {index: sum(row.parameters for row in rows) for index, rows in summary.rows(network).items()}
    assert held == {0: 32_531_112, 1: 28_434_112}


def test_bytes_between_the_columns():
    _, network = described()
    assert summary.exchanged(network, 128) == 60_030_976
    by_layer = {row.layer: row.exchanged_bytes for row in summary.rows(network)[0] if row.exchanged_bytes}
    # Column a receives b's pooled maps and sends as many bytes of gradients home; fc8 lives on it alone.
    assert by_layer == {"conv3a": 173_056, "fc6a": 36_864, "fc7a": 16_384, "fc8": 16_384}
    assert summary.exchanged(network, 128, 2) == 60_030_976 / 2
    assert summary.exchanged(described(columns=1)[1], 128) == 0
    assert summary.exchanged(described(overrides=["net.fc8=split"])[1], 128) > 60_030_976


@pytest.mark.parametrize(
    "overrides, kinds", [([], ["Conv2d", "WinogradConv2d"]), (["net.convolution=im2col"], ["Conv2d", "Conv2d"])]
)
def test_summary_shows_the_algorithm_of_each_convolution(overrides, kinds):
    made = recipe.load("cifar10-relu", overrides)
    lines = summary.text(made, alexnet.describe(made.net)).splitlines()
    assert [line.split()[1] for line in lines if line.split()[:1] in (["conv1"], ["conv2"])] == kinds


def test_summary_text_names_the_papers_slips():
    text = summary.text(*described())
    for part in ("60,965,224 parameters", "724,406,816 multiply-adds", "659,272 neurons", "60,030,976 bytes",
                 "290,400   253,440  a slip", "conv3 1.45% and conv4 1.09%"):  # fmt: skip
        assert part in text
    assert max(map(len, text.splitlines())) <= 100


def test_other_nets_are_not_compared_with_the_paper():
    assert "slip" not in summary.text(*described("cifar10-relu"))
    assert "89,578 parameters" in summary.text(*described("cifar10-relu"))
    for other in ("net.hidden=2048", "net.bottleneck=2048", "net.maps=[96, 256, 0, 384, 256]"):
        assert "slip" not in summary.text(*described(overrides=[other]))
    assert "column b" not in summary.text(*described("cifar10-relu"))


@pytest.mark.parametrize("overrides, line", [
    (["net.norm_window=all", "net.norm_k=1", "net.norm_alpha=2e-5", "net.norm_order=pool-norm"],
     "normalization over 5 maps, k 1, alpha 2e-05, beta 0.75; its windows cross the columns; pool before norm"),
    (["net.norm_window=all"], "the windows of normalization cross the columns"),
    (["net.pads=[2, 2, 1, 1, 1]", "net.conv_rounding=floor"],
     "padding 2, 2, 1, 1, 1; convolutions rounded down, pools up"),
    (["net.norm=none", "net.norm_k=1", "net.norm_window=all"], "on a GPU: float32"),
    (["net.pads=[0, 2, 1, 1, 1]"], "on a GPU: float32"),  # what it has without them
    (["net.precision=tf32"], "on a GPU: float32, the factors of matrix products in TF32"),
    (["net.precision=bf16"],
     "on a GPU: activations and the factors of matrix products in bfloat16, all else in float32"),
])  # fmt: skip
def test_switches_are_shown(overrides, line):
    assert summary.text(*described("paper", overrides=overrides)).splitlines()[1] == line


def test_sizes_of_another_geometry_are_not_compared_with_the_papers():
    assert "slip" in summary.text(*described(overrides=["net.norm_window=all"]))
    assert "slip" not in summary.text(*described(overrides=["net.conv_rounding=floor"]))


def test_both_input_sizes_give_55():
    for size in (224, 227):
        _, network = described(overrides=[f"net.input={size}"])
        assert summary.rows(network)[0][0].shape == (55, 55, 48)


@pytest.mark.parametrize("name", NETS)
def test_the_papers_other_nets(name):
    paper = NETS[name]
    text = summary.text(*described(paper.recipe, overrides=paper.overrides))
    assert f"{paper.parameters:,} parameters" in text
    assert max(map(len, text.splitlines())) <= 120


def test_work_of_the_one_gpu_net():
    assert "391,514,384 multiply-adds" in summary.text(*described("one-gpu"))
    overrides = ["net.columns=1", "net.maps=[48, 128, 192, 192, 256]"]
    assert "59,798,312 parameters" in summary.text(*described(overrides=overrides))


def test_exchange_of_a_layer_left_out_moves_to_the_next():
    text = summary.text(*described(overrides=["net.maps=[96, 256, 0, 384, 256]"]))
    assert "exchange before conv4, fc6, fc7, fc8" in text and "conv3" not in text

"""Figures 1 to 4 and their computations: colourfulness, wiring of the columns, nearest images, binary codes."""

import math

import numpy as np
import pytest

from tests.support.cuda_convnet_files import read
from tests.support.figure_checks import assert_no_overlap, noise, pictures, texts
from tests.support.files_as_recipes import as_recipe, parsed
from tinyalex import figures, gradcheck
from tinyalex.cli import main
from tinyalex.datasets import ImageSet
from tinyalex.figures.wiring import IMAGE, levels, on_the_image
from tinyalex.gallery import gallery, retrieval
from tinyalex.gallery.autoencoder import AutoEncoder, Noise, hamming
from tinyalex.layers import Linear
from tinyalex.network import alexnet
from tinyalex.network.columns import Exchange, Stage
from tinyalex.network.network import Network
from tinyalex.randomness import Step
from tinyalex.recipes import recipe

# Colourfulness.


def test_colourfulness_of_kernels_with_known_values():
    grey = np.repeat(noise(5, 5, 1, 1), 3, axis=2)
    opponent = noise(5, 5, 1, 1) * np.array([1.0, -1.0, 0.0])[:, None]  # red against green
    red = noise(5, 5, 1, 1) * np.array([1.0, 0.0, 0.0])[:, None]
    halves = grey / np.linalg.norm(grey) + opponent / np.linalg.norm(opponent)
    kernels = np.concatenate([grey, opponent, red, halves, 0 * grey], axis=3)
    found = figures.colourfulness(kernels)
    np.testing.assert_allclose(found[:4], [0, 1, 2 / 3, 0.5], atol=1e-12)
    assert np.isnan(found[4])
    np.testing.assert_allclose(
        figures.colourfulness(-7 * kernels)[:4], found[:4], atol=1e-12
    )  # independent of scale and sign
    assert figures.colourfulness(noise(11, 11, 3, 400)).mean() == pytest.approx(2 / 3, abs=0.01)


def test_specialisation_distinguishes_sorted_from_mixed_columns():
    grey = np.repeat(noise(5, 5, 1, 24), 3, axis=2) + 0.1 * noise(5, 5, 3, 24)
    colour = noise(5, 5, 1, 24) * np.array([1.0, -0.8, -0.2])[:, None]
    sorted_ = figures.specialisation({"a": grey, "b": colour})
    assert sorted_.means["a"] < 0.05 and sorted_.means["b"] > 0.95
    assert sorted_.difference == pytest.approx(sorted_.means["b"] - sorted_.means["a"])
    assert sorted_.difference > 3 * sorted_.by_chance
    mixed = np.concatenate([grey, colour], axis=3)
    mixed_ = figures.specialisation({"a": mixed[..., ::2], "b": mixed[..., 1::2]})
    assert mixed_.difference < mixed_.by_chance
    assert figures.specialisation({"a": colour, "b": grey}).difference == pytest.approx(sorted_.difference)


# Architecture.


def described(name, *overrides):
    made = recipe.load(name, overrides)
    return alexnet.describe(made.net, made.init, made.net.columns)


def test_wiring_of_the_original_net_matches_the_paper():
    found = {level.name: level for level in levels(described("original"))}
    assert list(found) == ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]
    crossing = {name for name, level in found.items() if any(part.sources == [0, 1] for part in level.parts.values())}
    assert crossing == {"conv3", "fc6", "fc7", "fc8"}
    assert {name: level.kernel for name, level in found.items() if level.kernel} == {
        "conv1": (11, 11, 3), "conv2": (5, 5, 48), "conv3": (3, 3, 256), "conv4": (3, 3, 192), "conv5": (3, 3, 192),
    }  # fmt: skip
    assert {name: level.parts[1].shape for name, level in found.items() if 1 in level.parts} == {
        "conv1": (55, 55, 48), "conv2": (27, 27, 128), "conv3": (13, 13, 192), "conv4": (13, 13, 192),
        "conv5": (13, 13, 128), "fc6": (2048,), "fc7": (2048,),
    }  # fmt: skip
    assert found["conv2"].parts[0].before == (27, 27, 48) and found["conv1"].stride == 4
    assert found["conv2"].after == ["ReLU", "LRN", "spatial norm", "max pool 3, stride 2"]


@pytest.mark.parametrize(
    "changes",
    [
        ("original",),
        ("paper",),
        ("paper", "net.talk=[]", "net.fc8=split"),
        ("paper", 'net.talk=["conv2", "conv5"]'),
        ("cifar10-tanh",),
        ("cifar10-columns", "net.columns=1", "net.norm=none"),
    ],
)
def test_architecture_draws_every_layer_and_connection(changes):
    network = described(*changes)
    figure = figures.architecture(network)
    assert_no_overlap(figure)
    chain, page = levels(network), figure.axes[0]
    assert [text for text in texts(page) if text[:4] in ("conv", "fc6", "fc7", "fc8", "fc10")] == [
        level.name for level in chain
    ]
    shapes = [part.shape for level in chain for part in level.parts.values()]
    written = [" × ".join(map(str, shape)) if len(shape) == 3 else f"{shape[0]:,}" for shape in shapes]
    for text in written:
        assert texts(page).count(text) >= written.count(text)
    # Four lines connect a convolution's window to the block that it computes; a fully connected layer has two.
    lines = sum((4 if level.kernel else 2) * len(p.sources) for level in chain[1:] for p in level.parts.values())
    assert len(page.lines) == lines + 4 * len(chain[0].parts)


def test_wiring_of_a_net_of_the_authors_files():
    made = as_recipe(parsed(), 12)
    network = alexnet.describe(made.net, made.init)
    chain = {level.name: level for level in levels(network)}
    assert list(chain) == ["conv1b", "conv1a", "conv2", "fc16", "fc4"]
    assert on_the_image(network) == ["blur", "subsampled by 2"]
    assert chain["conv1a"].after == ["contrast norm", "ReLU", "sum", "dropout 0.25"] and chain["conv1b"].after == [
        "tanh"
    ]
    assert {row: part.reads for row, part in chain["conv2"].parts.items()} == {1: [(1, 0), (0, 1), (IMAGE, 0)]}
    assert {row: part.reads for row, part in chain["fc4"].parts.items()} == {0: [(3, 0)], 1: [(3, 0), (2, 1)]}
    assert chain["conv2"].kernel == (3, 3, 6) and chain["fc16"].kernel is None
    figure, _ = gallery.of_recipe(made)
    assert_no_overlap(figure)
    assert {"GPU 0", "GPU 1", "blur", "fc4", "4 units"} <= set(texts(figure.axes[0]))


def test_architecture_of_three_gpus_names_them_above_their_rows(cuda_convnet):
    figure, line = gallery.of_recipe(as_recipe(read(cuda_convnet, "example-layers/layers.gc"), 32))
    assert_no_overlap(figure)
    assert {"GPU 0", "GPU 1", "GPU 2", "fc16", "48 of 3 × 3 × 3"} <= set(texts(figure.axes[0]))
    assert line.startswith("2,075,482 parameters, ")


def test_kernels_and_features_of_a_net_of_the_authors_files():
    made = as_recipe(parsed(), 12)
    network = alexnet.build(made.net, made.init, ["fake:0", "fake:1"], seed=3)
    found = retrieval.first_kernels(network)
    assert {name: kernels.shape for name, kernels in found.items()} == {"a": (3, 3, 3, 6), "b": (3, 3, 3, 6)}
    np.testing.assert_array_equal(found["b"], network.devices[0].get(network.state()["conv1b/W"]))
    images = (30 * noise(3, 12, 12, 3)).astype(np.float32)
    features = retrieval.features(network, images)
    assert features.shape == (3, 16 + 3 * 3 * 8), "fc16 for both last layers, and pool2 for fc4b"


def test_a_net_without_a_convolution_on_the_image_has_no_kernels():
    made = recipe.load("cifar10-13pct", ["net.classes=10"])
    assert set(retrieval.first_kernels(alexnet.build(made.net, made.init))) == {""}
    network = layers_only()
    assert retrieval.first_kernels(network) == {}


def layers_only():
    stage = Stage("fc", Exchange([[0]]), [[Linear((4, 4, 3), 5).named("fc")]])
    return Network([stage], (4, 4, 3)).build()


# Figure 1.


def test_race_shows_both_curves_and_where_they_reach_the_goal():
    figure = figures.race([("ReLU, rate 1", [0.5, 0.3, 0.2]), ("tanh, rate 2", [0.6, 0.5, 0.4, 0.3, 0.2])])
    axes = figure.axes[0]
    solid, dashed = (line for line in axes.lines if line.get_linewidth() > 2)
    assert solid.get_linestyle() == "-" and dashed.get_linestyle() == "--"
    np.testing.assert_allclose(solid.get_ydata(), [50, 30, 20])
    dots = [line.get_xydata().tolist() for line in axes.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(dots, [[[2.5, 25]], [[4.5, 25]]])
    assert any((np.array(line.get_ydata()) == 25).all() and len(line.get_ydata()) == 2 for line in axes.lines)
    assert "ReLU reaches 25 % training error 1.8 times as fast" in texts(axes)
    assert_no_overlap(figure)


def test_race_names_the_net_that_reached_the_goal():
    shown = texts(figures.race([("ReLU", [0.5, 0.2]), ("tanh", [0.6, 0.5])]).axes[0])
    assert "ReLU reached 25 % training error" in shown and not any("as fast" in text for text in shown)


# Neighbours and codes.


@pytest.mark.parametrize("devices", [("cpu",), ("cpu", "cpu"), ("fake:0", "fake:1")])
def test_features_are_the_inputs_of_the_last_layer(devices):
    made = recipe.load("cifar10-columns", ["net.maps=[4, 4, 4, 4, 4]", "net.hidden=8"])
    network = alexnet.build(made.net, made.init, devices, seed=3)
    images = (30 * noise(5, 28, 28, 3)).astype(np.float32)
    found = retrieval.features(network, images, batch=2)
    assert found.shape == (5, 8)
    values = {name: network.devices[0].get(value) for name, value in network.state().items() if name.startswith("fc8")}
    logits = found @ values["fc8/W"] + values["fc8/b"]
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(network.predict(images), expected, rtol=1e-4, atol=1e-6)


def test_a_common_offset_does_not_change_the_nearest_rows():
    rows = np.random.default_rng(3).normal(1000, 1, (40, 12))
    distances = ((rows[:, None] - rows) ** 2).sum(axis=2)
    np.testing.assert_array_equal(retrieval.nearest(rows, rows, 6), np.argsort(distances, axis=1, kind="stable")[:, :6])


def test_nearest_and_hamming_match_a_reference_implementation():
    queries, rows = noise(7, 9), np.concatenate([noise(30, 9), noise(30, 9)[:4]])  # four rows occur twice
    found = retrieval.nearest(queries, rows, 5)
    codes, stored = queries > 0, rows > 0
    nearest_codes = hamming(codes, stored, 5)
    for i in range(7):
        distances = [math.dist(queries[i], row) for row in rows]
        assert found[i].tolist() == sorted(range(34), key=lambda j: (round(distances[j], 5), j))[:5]
        bits = [sum(a != b for a, b in zip(codes[i], row, strict=True)) for row in stored]
        assert nearest_codes[i].tolist() == sorted(range(34), key=lambda j: (bits[j], j))[:5]
    assert retrieval.precision(np.array([[0, 1], [2, 2]]), [5, 6, 7], [5, 7]) == 0.75


def test_auto_encoder_gradients_match_differences():
    coder = AutoEncoder(6, bits=4, seed=1, noise=0.5)
    coder.network.build(dtype="float64", seed=1)
    assert not any(result.failed for result in gradcheck.check(Noise(0.5), noise(3, 4), training=True, step=Step(0, 3)))
    x, step, network = noise(5, 6), Step(0, 3), coder.network
    network.forward(x, training=True, step=step)
    network.backward(network.forward(x, training=True, step=step) - x)
    for name, gradient in network.gradients().items():
        value, index = network.state()[name], tuple(side // 2 for side in gradient.shape)
        losses = []
        for nudge in (1e-6, -2e-6):
            value[index] += nudge
            losses.append(0.5 * ((network.forward(x, training=True, step=step) - x) ** 2).sum())
        value[index] += 1e-6
        assert gradient[index] == pytest.approx((losses[0] - losses[1]) / 2e-6, rel=1e-5), name


def test_codes_separate_clusters():
    # Four clusters in 20 dimensions, which codes of 8 bits must separate.
    labels = np.arange(400) % 4
    middles = 3 * noise(4, 20)
    values = (middles[labels] + 0.3 * noise(400, 20)).astype(np.float32)
    coder = AutoEncoder(20, bits=8)
    losses = coder.fit(values[:300], epochs=15)
    assert losses[-1] < 0.3 * losses[0]
    codes = coder.codes(values)
    assert codes.shape == (400, 8) and codes.dtype == bool
    found = hamming(codes[300:], codes[:300], 6)
    assert retrieval.precision(found, labels[:300], labels[300:]) > 0.95
    again = AutoEncoder(20, bits=8)
    assert again.fit(values[:300], epochs=15) == losses and (again.codes(values) == codes).all()


def test_pixels_to_code_are_means_of_at_most_32_by_32():
    for side, factor in ((64, 2), (32, 1), (20, 1), (96, 3)):
        images = pictures(2, side)
        kept = side // factor
        small = gallery._small(ImageSet(images, np.zeros(2, np.int64))).reshape(2, kept, kept, 3)
        block = images[1, factor : 2 * factor, 3 * factor : 4 * factor].reshape(-1, 3)
        assert kept <= 32 and small[1, 1, 3] == pytest.approx(block.mean(axis=0))


def test_neighbours_draws_a_row_per_query():
    queries, found = pictures(2, 24), pictures(6, 24).reshape(2, 3, 24, 24, 3)
    codes = noise(2, 12) > 0, noise(2, 3, 12) > 0
    figure = figures.neighbours(queries, found, [0, 1], [[0, 1, 0], [1, 1, 2]], ["cat", "dog", "box"], "a line", codes)
    page = figure.axes[0]
    assert texts(page) == ["a line", "cat", "cat", "dog", "cat", "dog", "dog", "dog", "box"]
    shown = [image.get_array() for image in page.images if image.get_array().shape[0] == 24]
    for drawn, given in zip(shown, [queries[0], *found[0], queries[1], *found[1]], strict=True):
        np.testing.assert_array_equal(drawn, given)
    strips = [
        np.asarray(image.get_array()).reshape(-1, 3).astype(int) for image in page.images if len(image.get_array()) == 2
    ]
    for strip, code, query in zip(strips[1:4], codes[1][0], [codes[0][0]] * 3, strict=True):
        red = (strip[:, 0] - strip[:, 2]) > 60
        assert (red == (code != query)).all()
    assert_no_overlap(figure)


# The command.


def test_figures_of_a_recipe_and_of_two_logs(tmp_path, capsys):
    assert main(["figures", "original", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "original.png").read_bytes().startswith(b"\x89PNG")
    assert (
        "60,965,224 parameters, 468,992 bytes per image are exchanged" in capsys.readouterr().out
    )  # 60,030,976 in a step of 128
    for name, errors in (("relu", (0.4, 0.2)), ("tanh", (0.5, 0.3, 0.2))):
        (tmp_path / name).mkdir()
        lines = [f'{{"event": "epoch", "epoch": {k + 1}, "step": 1, "top1_error": {e}}}' for k, e in enumerate(errors)]
        (tmp_path / name / "log.jsonl").write_text("\n".join(lines) + "\n")
    assert main(["figures", str(tmp_path / "relu"), str(tmp_path / "tanh")]) == 0
    assert (tmp_path / "relu" / "race.png").is_file()


def test_figures_with_wrong_input(tmp_path, capsys):
    for arguments, code, message in (
        (["paper", "--only", "kernels"], 2, "of a recipe only the architecture can be drawn"),
        (["nowhere"], 4, "no such folder"),
        (["a", "b", "c"], 2, "3 runs given"),
        ([str(tmp_path), str(tmp_path)], 3, "its log has no finished epoch"),
    ):
        assert main(["figures", *arguments, "--out", str(tmp_path)]) == code
        assert message in capsys.readouterr().err


def test_every_stored_image_is_its_own_nearest():
    images = ImageSet(pictures(30, 8), np.arange(30) % 3)
    rows = images.images.reshape(30, -1).astype(np.float32)
    assert (retrieval.nearest(rows, rows, 1)[:, 0] == np.arange(30)).all()


# Seeds.


@pytest.mark.parametrize("paper", [1.4, None])
def test_seeds_draws_dots_and_intervals(paper):
    errors = {"with it": [0.30, 0.31, 0.33], "without": [0.32, 0.33, 0.34], "otherwise": [0.31, 0.30, 0.33]}
    arms = [{"name": name, "top1_error": values} for name, values in errors.items()]
    found = [{"name": "without", "top1_error": {"mean": 0.0167, "half": 0.014}},
             {"name": "otherwise", "top1_error": {"mean": 0.0, "half": None}}]  # fmt: skip
    about = {"title": "a thing", "section": "3.3", "paper": [paper, None], "epochs": 9, "seeds": 3}
    figure = figures.seeds(about | {"data": {"shown": "images"}, "arms": arms, "effects": found})
    left, right = figure.axes
    dots = [line.get_xdata().tolist() for line in left.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(dots, 100 * np.array(list(errors.values())))
    assert texts(left) == list(errors) and left.yaxis_inverted()
    (bar, point) = [lines.get_segments()[0] for lines in right.collections]
    np.testing.assert_allclose(bar[:, 0], [0.27, 3.07])
    np.testing.assert_allclose(point[:, 0], [0, 0])
    diamonds = [line.get_xdata().tolist() for line in right.lines if line.get_marker() == "D"]
    assert diamonds == ([[1.4], [1.4]] if paper else [])
    assert_no_overlap(figure)

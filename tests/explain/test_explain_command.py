"""`tinyalex explain`: the crop that the net reads, the numbers that it prints, and the picture that it draws."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.figure_checks import assert_no_overlap, noise, pictures, texts
from tests.support.small_runs import quiet, small, stripes
from tinyalex import figures
from tinyalex.cli import main
from tinyalex.datasets import folders
from tinyalex.datasets.loading.loader import prepare_image
from tinyalex.datasets.picture import square
from tinyalex.errors import PictureError
from tinyalex.explain.crop import crop_of
from tinyalex.explain.deconvolution import deconvolution
from tinyalex.explain.occlusion import Occlusion, occlusion
from tinyalex.explain.saliency import saliency
from tinyalex.explain.strongest import main_part, strongest_units, unit_gradient
from tinyalex.figures.explanation import salient
from tinyalex.figures.page import new_figure
from tinyalex.gallery.gallery import WITH_IMAGES, Gallery
from tinyalex.runs import run_folder
from tinyalex.runs.train import train


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of one epoch, and a picture of 60 x 40 pixels."""
    root = tmp_path_factory.mktemp("explain")
    train(small(epochs=1), stripes(), root / "run", show=quiet)
    Image.fromarray(pictures(1, 60)[0][:40]).save(root / "picture.png")
    return root


# The crop.


@pytest.mark.parametrize("shape", [(24, 24), (48, 48), (96, 72), (40, 100), (25, 24)])
def test_the_crop_is_what_the_net_reads(shape):
    """With a mean of 0 and a scale of 1, the input is the crop itself."""
    image, recipe = pictures(1, max(shape))[0][: shape[0], : shape[1]], small("data.scale=1.0")
    crop, frame = crop_of(image, 24, 20)
    np.testing.assert_array_equal(crop, prepare_image(image, np.zeros((24, 24, 3), "float32"), recipe))
    assert frame.bottom - frame.top == pytest.approx(20 / 24 * min(shape), abs=1)
    assert frame.top + frame.bottom == pytest.approx(shape[0], abs=1)
    assert frame.left + frame.right == pytest.approx(shape[1], abs=1)


def test_the_frame_shows_what_the_crop_shows():
    """Whatever is outside of the frame, by more than the reach of the resizing, does not change the crop."""
    image = pictures(1, 96)[0][:64]
    crop, frame = crop_of(image, 32, 26)
    other = 255 - image
    other[frame.top - 5 : frame.bottom + 5, frame.left - 5 : frame.right + 5] = image[
        frame.top - 5 : frame.bottom + 5, frame.left - 5 : frame.right + 5
    ]
    np.testing.assert_array_equal(crop_of(other, 32, 26)[0], crop)
    assert (square(Image.fromarray(other), 32) != square(Image.fromarray(image), 32)).any()


# Pictures.


def test_overlay_is_orange_where_positive_and_blue_where_negative():
    image, values = np.full((2, 3, 3), 200, np.uint8), np.array([[1.0, -1.0, 0.0], [0.5, np.nan, -4.0]])
    shown = figures.overlay(image, values, largest=1.0).astype(int)
    assert shown[0, 0].tolist() == [213, 94, 0] and shown[0, 1].tolist() == [0, 114, 178] == shown[1, 2].tolist()
    assert len(set(shown[0, 2])) == 1 and (shown[0, 2] == shown[1, 1]).all()
    assert shown[0, 2, 0] < shown[1, 0, 0] < 213 or shown[1, 0, 2] < shown[0, 2, 2]
    assert (figures.overlay(image, np.zeros((2, 3))) == shown[0, 2]).all()
    hardly = Occlusion(1, 1, None, None, 0.8, None, np.full((2, 3), 0.001))
    assert figures.needed(hardly) == pytest.approx(0.04)
    assert figures.needed(hardly._replace(drop=np.array([[0.1, -0.3]]))) == 0.3


@pytest.mark.parametrize("deconvolved", [False, True])
@pytest.mark.parametrize("classes", [2, 7])
@pytest.mark.parametrize("shape", [(40, 60), (90, 20)])
def test_the_explanation_shows_its_images_and_texts(folder, classes, shape, deconvolved):
    picture, crop = pictures(1, 90)[0][: shape[0], : shape[1]], pictures(1, 20)[0]
    words = [f"a class with a rather long name {i}, synonym" for i in range(classes)]
    network = run_folder.load(folder / "run").network
    found = occlusion(network, noise(20, 20, 3), 0)
    gradient = saliency(network, noise(1, 20, 20, 3), [0])[0]
    patches = [(crop[:5], f"conv5b {i}: 12.3") for i in range(6)]
    p = np.full(classes, 1 / classes)
    projections = [figures.projected(noise(5, 5, 3))] * 6 if deconvolved else []
    figure = figures.explanation(
        picture, (2, 1, 18, 18), crop, p, words, 0, found, gradient, patches, "conv5", projections
    )
    shown = [image.get_array() for image in figure.axes[0].images]
    np.testing.assert_array_equal(shown[1], crop)
    np.testing.assert_array_equal(shown[2], figures.overlay(crop, found.drop, figures.needed(found)))
    np.testing.assert_array_equal(shown[3], figures.overlay(crop, gradient, salient(gradient)))
    np.testing.assert_array_equal(shown[0][2:18, 1:18], picture[2:18, 1:18])
    assert (shown[0][18:] >= picture[18:]).all() and len(shown) == 10 + 6 * deconvolved
    assert "conv5b 3: 12.3" in texts(figure.axes[0])
    assert_no_overlap(figure)


@pytest.mark.parametrize("name", ["a cat", "the grey cat of my grandmother in the garden", "cat_" * 14 + "end"])
def test_the_explanation_shows_the_whole_name_of_a_class(name):
    crop = pictures(1, 20)[0]
    found = Occlusion(5, 5, np.arange(2), np.arange(2), 0.5, np.full((2, 2), 0.2), np.full((20, 20), 0.3))
    figure = figures.explanation(crop, (0, 0, 20, 20), crop, np.array([0.4, 0.6]), ["b", name], 1, found,
                                 np.ones((20, 20)), [(crop, "conv5 1: 2")], "conv5")  # fmt: skip
    shown = ["".join(texts(axes)).replace(" ", "") for axes in figure.axes]
    assert f"neededfor{name.replace(' ', '')}" in shown[0] and name.replace(" ", "") in shown[1]
    assert "…" not in "".join(shown)
    assert_no_overlap(figure)


def test_an_occlusion_that_changes_nothing_is_said_to(folder, tmp_path, monkeypatch, capsys):
    from tinyalex.commands import explain

    some = Occlusion(4, 3, np.arange(2), np.arange(2), 0.8, np.array([[0.79, 0.8], [0.8, 0.77]]), np.zeros((9, 9)))
    assert not some.matters and some._replace(covered=some.covered - 0.02).matters
    line = explain._of_occlusion(some, "cat")
    assert line.endswith("; no position changes that by a twentieth: cover more at a time, with --patch 8")
    assert "twentieth" not in explain._of_occlusion(some._replace(covered=some.covered - 0.02), "cat")
    assert explain._of_occlusion(some._replace(patch=9), "cat").endswith("twentieth")
    crop = pictures(1, 20)[0]
    some = some._replace(drop=np.zeros((20, 20)))
    figure = figures.explanation(crop, (0, 0, 20, 20), crop, np.array([0.4, 0.6]), ["dog", "cat"], 1, some,
                                 np.ones((20, 20)), [], "conv5")  # fmt: skip
    assert "no position matters for cat" in texts(figure.axes[0])


def test_a_test_image_is_explained_by_its_name(tmp_path, monkeypatch, capsys):
    """The names are those of the report; a file of that name comes first."""
    root = tmp_path / "photos"
    for split, count in (("train", 8), ("test", 3)):
        for label, name in enumerate(("up", "level")):
            (root / split / name).mkdir(parents=True)
            for k in range(count):
                pixels = np.roll(pictures(1, 24)[0], k + 8 * label, axis=label)
                Image.fromarray(pixels).save(root / split / name / f"{k}.png")
    monkeypatch.chdir(tmp_path)
    train(small("data.set=photos", epochs=1), folders.load(root), "run", show=quiet)
    capsys.readouterr()
    assert main(["explain", "level/2.png", "--run", "run", "--out", "a.png"]) == 0
    by_name = capsys.readouterr().out
    assert main(["explain", "photos/test/level/2.png", "--run", "run", "--out", "a.png"]) == 0
    assert capsys.readouterr().out.partition(":")[2] == by_name.partition(":")[2]
    assert main(["explain", "level/9.png", "--run", "run"]) == 3
    error = capsys.readouterr().err
    assert "level/9.png: No such file, and no test image of " in error and "report.html" in error
    assert main(["explain", "level/7.png", "--run", "run"]) == 3  # a training image
    assert "with this name; if it is a training image, give its path: " in (error := capsys.readouterr().err)
    assert Path(error.strip().rpartition(": ")[2]).resolve() == root / "train" / "level" / "7.png"
    assert main(["explain", "2.png", "--run", "run"]) == 3
    assert "2.png: 2 test images of " in (error := capsys.readouterr().err) and "level/2.png or up/2.png" in error
    (root / "test" / "level" / "2.png").rename(root / "test" / "level" / "alone.png")
    assert main(["explain", "alone.png", "--run", "run", "--out", "a.png"]) == 0
    assert main(["predict", "alone.png", "level/alone.png", "--run", "run"]) == 0
    assert main(["predict", "level/7.png", "--run", "run"]) == 3
    assert "give its path: " in capsys.readouterr().err
    assert main(["explain", "run", "--run", "photos/test/level/alone.png"]) == 2
    assert "run: a run; write --run run, and the image without an option" in capsys.readouterr().err
    assert main(["predict", "photos", "--csv", "out.csv", "--run", "run"]) == 2
    error = capsys.readouterr()
    assert not error.out and "to write a file: tinyalex predict photos --csv --run run > out.csv\n" in error.err
    (root / "test" / "level" / "alone.png").rename(root / "test" / "level" / "2.png")
    shutil.move(root, tmp_path / "moved")
    assert main(["explain", "level/2.png", "--run", "run"]) == 3
    assert "if it is a test image, add --data" in capsys.readouterr().err
    assert main(["explain", "level/2.png", "--run", "run", "--data", "moved", "--out", "a.png"]) == 0


@pytest.mark.parametrize("name, count", [("occlusion", 4), ("saliency", 4), ("patches", 12), ("deconvolution", 48)])
def test_the_gallery_draws_test_images_with_what_the_net_looks_at(folder, name, count):
    gallery = Gallery(folder / "run", stripes())
    figure, line = gallery.draw(name)
    assert name in WITH_IMAGES and len(line) > 20
    images = figure.axes[0].images
    assert len(images) == count  # of two classes, or of six maps
    assert_no_overlap(figure)


def test_a_projection_is_grey_where_it_is_0():
    shown = figures.projected([[[0.0, 2.0, -2.0]], [[1.0, np.nan, -9.0]]], largest=2.0).tolist()
    assert shown == [[[128, 255, 0]], [[191, 128, 0]]]
    assert (figures.projected(np.zeros((2, 2, 3))) == 128).all()


# The command.


def test_it_prints_what_it_computes_and_draws_it(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["explain", str(folder / "picture.png"), "--run", str(folder / "run")]
    assert main([*command, "--patch", "6", "--stride", "5"]) == 0
    out = capsys.readouterr().out
    run = run_folder.load(folder / "run")
    image = np.asarray(Image.open(folder / "picture.png"))
    x = prepare_image(image, run.mean, run.recipe)
    p = run.network.predict(x[None])[0]
    best = int(p.argmax())
    assert f"{p[best]:6.1%}  {run.words[best]}" in out
    found = occlusion(run.network, x, best, 6, 5)
    assert f"{found.covered.min():.1%} to {found.covered.max():.1%}, lowest at rows" in out
    assert "with 6 x 6 pixels covered, at 16 positions 5 pixels apart" in out
    assert "60 x 40 pixels; the net reads rows 3 to 36, columns 13 to 46, as 20 x 20 pixels" in out
    units = strongest_units(run.network, x, 6)
    assert len(re.findall(r"^conv5[ab]: map", out, re.M)) == len(units) > 0
    part = main_part(unit_gradient(run.network, x, units[0]))
    assert f"most of its gradient is in rows {part.top} to {part.bottom - 1}, columns {part.left}" in out
    drawn = []
    monkeypatch.setattr(figures, "explanation", lambda *given: drawn.extend(given[-1]) or new_figure(1, 1))
    assert main([*command, "--out", "other.png"]) == 0
    for unit, shown in zip(units, drawn, strict=True):
        part = main_part(unit_gradient(run.network, x, unit))
        expected = figures.projected(part.of(deconvolution(run.network, x, unit)))
        np.testing.assert_array_equal(shown, expected)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert (tmp_path / "picture-explained.png").read_bytes().startswith(b"\x89PNG") and "picture-explained.png" in out
    assert main(command) == 0  # replaces its own picture
    (tmp_path / "picture-explained.png").write_bytes(b"mine")
    assert main(command) == 7 and (tmp_path / "picture-explained.png").read_bytes() == b"mine"


def test_another_class_and_layer_and_devices(folder, tmp_path, capsys):
    command = ["explain", str(folder / "picture.png"), "--run", str(folder / "run"), "--out", str(tmp_path / "a.png")]
    for name in ("upright", "level"):
        assert main([*command, "--class", name, "--layer", "conv2", "--devices", "cpu", "cpu"]) == 0
        out = capsys.readouterr().out
        assert f"occlusion: {name} " in out and "conv2" in out and "conv5" not in out
    assert main([*command, "--no-kernels"]) == 0 and "readable layers" in capsys.readouterr().out


def test_without_relu_there_is_no_deconvolution_and_a_line_says_so(folder, tmp_path, capsys):
    train(small("net.activation=tanh", epochs=1), stripes(), tmp_path / "tanh", show=quiet)
    line = "no deconvolution: tanh1 is a Tanh, and it is defined for ReLU alone"
    command = [
        "explain",
        str(folder / "picture.png"),
        "--run",
        str(tmp_path / "tanh"),
        "--out",
        str(tmp_path / "a.png"),
    ]
    assert main(command) == 0 and line in capsys.readouterr().out
    with pytest.raises(PictureError, match="deconvolution: tanh1 is a Tanh; it is defined for nets of ReLU"):
        Gallery(tmp_path / "tanh", stripes()).draw("deconvolution")


@pytest.mark.parametrize("words, code, message", [
    (["--class", "upricht"], 2, '--class upricht: the run has no such class; did you mean "upright"?'),
    (["--layer", "conv9"], 2, "layer 'conv9': no such convolution"),
    (["--patch", "21"], 2, "patch: 21; give a whole number of pixels from 1 to 20, the image's side"),
    (["--stride", "0"], 2, "stride: 0; give a whole number"),
    (["--out", "a.jpg"], 2, "--out a.jpg: a PNG file is written; give a name that ends in .png"),
    (["--run", "nowhere"], 4, "nowhere"),
])  # fmt: skip
def test_wrong_options(folder, tmp_path, monkeypatch, capsys, words, code, message):
    monkeypatch.chdir(tmp_path)
    assert main(["explain", str(folder / "picture.png"), "--run", str(folder / "run"), *words]) == code
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_files_that_are_no_image(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("no image")
    for name, message in (
        ("text.txt", "text.txt: "),
        ("none.png", "none.png: No such file"),
        (".", "a folder; give image files"),
    ):
        assert main(["explain", name, "--run", str(folder / "run")]) == 3
        assert message in capsys.readouterr().err

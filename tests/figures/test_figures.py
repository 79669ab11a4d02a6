"""Figures show the data that they are given; saving is atomic and reproducible."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import Image

from tests.support import folders
from tests.support.figure_checks import assert_no_overlap, noise, pictures, texts
from tinyalex import figures, randomness
from tinyalex.cli import main
from tinyalex.errors import StorageError
from tinyalex.figures import page as figure_page
from tinyalex.figures import wiring
from tinyalex.network import alexnet
from tinyalex.recipes.settings import Net

# Kernels.


def layer(k=5, n=20):
    # The weights of column b are ten times larger, and every kernel has its own scale and mean.
    strength = np.linspace(0.2, 1, n)
    return {
        "a": noise(k, k, 3, n) * strength + strength / 3,
        "b": 10 * noise(k, k, 3, n + 1)[..., 1:] * strength,
    }


def recover(figure, path, k, n, a_row):
    """Read the (k, k, 3, n) kernels of each column back from the pixels of the saved picture."""
    figures.save(figure, path)
    pixels = np.asarray(Image.open(path).convert("RGB")) / 255
    found = []
    for image in figure.axes[0].images:
        left, right, bottom, top = np.array(image.get_extent()) * figure.dpi
        rows, across = -(-n // a_row) * (k + 1) - 1, a_row * (k + 1) - 1
        y = (top + (np.arange(rows) + 0.5) * (bottom - top) / rows).astype(int)
        x = (left + (np.arange(across) + 0.5) * (right - left) / across).astype(int)
        picture = pixels[np.ix_(y, x)]
        corners = [(i // a_row * (k + 1), i % a_row * (k + 1)) for i in range(n)]
        found.append(np.stack([picture[y : y + k, x : x + k] for y, x in corners], axis=-1))
        gaps = np.delete(picture, [x + j for _, x in corners for j in range(k)], axis=1)
        assert (gaps == 1).all() and gaps.shape[1] == a_row - 1
    return found


@pytest.mark.parametrize(("k", "n", "a_row"), [(11, 48, 16), (5, 20, 10), (3, 3, 3), (7, 17, 9)])
def test_kernels_are_normalized_over_the_whole_layer(tmp_path, k, n, a_row):
    columns = layer(k, n)
    figure = figures.kernels(columns)
    shown = recover(figure, tmp_path / "kernels.png", k, n, a_row)
    low = min(W.min() for W in columns.values())
    high = max((W - low).max() for W in columns.values())
    for W, drawn in zip(columns.values(), shown, strict=True):
        np.testing.assert_allclose(drawn, (W - low) / high, atol=0.51 / 255, rtol=0)
    above, below = figure.axes[0].images
    assert above.get_extent()[2] < below.get_extent()[3]  # inches from the top
    labels = [f"column {name}, colourfulness {figures.colourfulness(W).mean():.2f}" for name, W in columns.items()]
    assert texts(figure.axes[0]) == labels
    assert_no_overlap(figure)


def test_kernels_of_one_column_have_no_label(tmp_path):
    W = layer(5, 32)["b"]
    figure = figures.kernels({"a": W})
    assert texts(figure.axes[0]) == []
    (drawn,) = recover(figure, tmp_path / "kernels.png", 5, 32, 16)
    np.testing.assert_allclose(drawn, (W - W.min()) / (W - W.min()).max(), atol=0.51 / 255, rtol=0)


@pytest.mark.parametrize("c", [1, 2, 4])
def test_kernels_that_are_not_rgb_are_grey(tmp_path, c):
    W = noise(3, 3, c, 6)
    (drawn,) = recover(figures.kernels({"a": W}), tmp_path / "kernels.png", 3, 6, 6)
    grey = W.mean(axis=2, keepdims=True)
    expected = np.broadcast_to((grey - grey.min()) / (grey - grey.min()).max(), drawn.shape)
    np.testing.assert_allclose(drawn, expected, atol=0.51 / 255, rtol=0)


@pytest.mark.parametrize("value", [0.0, 1.0, np.nan])
def test_kernels_without_contrast_can_be_drawn(value):
    (image,) = figures.kernels({"a": np.full((5, 5, 3, 4), value)}).axes[0].images
    assert np.isfinite(image.get_array()).all()


def test_drawing_kernels_does_not_modify_them():
    columns = layer()
    before = {name: W.copy() for name, W in columns.items()}
    figures.kernels(columns)
    assert all((columns[name] == before[name]).all() for name in columns)


# Panel.


def shown_bars(axes):
    (bars,) = axes.containers
    return sorted(bars.patches, key=lambda bar: bar.get_y())


def names_by_height(axes):
    return [t.get_text() for t in sorted(axes.texts, key=lambda t: t.get_position()[1]) if t.get_ha() == "left"]


def softmax(x):
    return np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("classes", "bars"), [(3, 3), (10, 5), (1000, 5)])
def test_panel_shows_the_most_probable_classes_in_order(classes, bars):
    names = [f"class {c}, synonym" for c in range(classes)]
    probabilities = softmax(3 * noise(8, classes))
    ranks = np.argsort(-probabilities, axis=1)
    labels = [ranks[i, i % bars] if i < 6 else ranks[i, -1] for i in range(8)]
    images = pictures(8, 24)
    figure = figures.panel(images, np.array(labels), probabilities, names)
    page, *cells = figure.axes
    assert texts(page) == [f"class {c}" for c in labels]
    assert len(page.images) == len(cells) == 8
    for i, axes in enumerate(cells):
        np.testing.assert_array_equal(page.images[i].get_array(), images[i])
        best = ranks[i, :bars]
        assert names_by_height(axes) == [f"class {c}" for c in best]
        drawn = shown_bars(axes)
        np.testing.assert_allclose([bar.get_width() for bar in drawn], probabilities[i, best])
        for bar, c in zip(drawn, best, strict=True):
            red, _, blue, _ = bar.get_facecolor()
            assert (red > blue) == (c == labels[i])
        assert axes.get_xlim() == (0, 1) and axes.yaxis_inverted()
    assert_no_overlap(figure)


def test_panel_is_a_grid_of_four_columns():
    page = figures.panel(pictures(8, 24), None, softmax(noise(8, 10)), list("abcdefghij")).axes[0]
    corners = [(round(image.get_extent()[0], 3), round(image.get_extent()[3], 3)) for image in page.images]
    across, down = sorted({x for x, _ in corners}), sorted({y for _, y in corners})
    assert corners == [(x, y) for y in down for x in across] and len(across) == 4


def test_panel_without_labels_marks_nothing():
    page, cell = figures.panel(pictures(1, 32), None, softmax(noise(1, 10)), list("abcdefghij")).axes
    assert texts(page) == []
    assert len({bar.get_facecolor() for bar in shown_bars(cell)}) == 1


def test_panel_accepts_any_names_and_image_sizes():
    names = ["a$b$ c_{x}", "n" * 3000, "electric switch box with no end of words\nand lines", "W W W W W " * 9, "", "é"]
    images = [pictures(1, 24)[0], pictures(1, 224)[0][:100], pictures(1, 96)[0][:, :31], pictures(1, 32)[0]]
    probabilities = softmax(noise(4, 6))
    probabilities[3] = np.nan
    figure = figures.panel(images, [0, 1, 2, 3], probabilities, names)
    assert texts(figure.axes[0])[0] == names[0]
    assert not any(text.get_parse_math() for axes in figure.axes for text in axes.texts)
    assert texts(figure.axes[0])[1].endswith("n…")
    assert_no_overlap(figure)


# Mosaic.


def test_mosaic_sorts_images_by_class_and_names_each_class_once_a_row():
    images, labels = pictures(30, 24), np.arange(30) % 3
    axes = figures.mosaic(images, labels, ["circle", "square, box", "triangle"]).axes[0]
    assert texts(axes) == ["circle", "square", "triangle"]
    order = [image for c in range(3) for image in images[labels == c]]
    for drawn, given in zip(axes.images, order, strict=True):
        np.testing.assert_array_equal(drawn.get_array(), given)


@pytest.mark.parametrize(("count", "classes"), [(1, 3), (24, 1000), (40, 3)])
def test_mosaic_texts_do_not_overlap(count, classes):
    names = [f"a class with a long name, number {c}" if c % 2 else f"{c} " * 99 for c in range(classes)]
    labels = randomness.below(randomness.key(0, "labels"), classes, np.arange(count))
    assert_no_overlap(figures.mosaic(pictures(count, 32), labels, names))


# Files.


def test_save_gives_the_same_bytes_for_the_same_figure(tmp_path):
    figure = figures.panel(pictures(2, 24), [0, 1], np.eye(2), ["circle", "square"])
    for name in ("one.png", "two.png"):
        figures.save(figure, tmp_path / name)
    figures.save(figures.panel(pictures(2, 24), [0, 1], np.eye(2), ["circle", "square"]), str(tmp_path / "three.png"))
    contents = {(tmp_path / name).read_bytes() for name in folders.names(tmp_path)}
    assert len(contents) == 1 and contents.pop().startswith(b"\x89PNG")
    assert len(folders.names(tmp_path)) == 3


def test_a_failed_save_keeps_the_old_file_and_leaves_no_partial_file(tmp_path, monkeypatch):
    kept = tmp_path / "kept.png"
    figures.save(figures.curves([]), kept)
    before = kept.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(StorageError, match=r"kept\.png: cannot be written \(No space left on device\); "):
        figures.save(figures.panel(pictures(2, 24), [0, 1], np.eye(2), ["circle", "square"]), kept)
    assert folders.names(tmp_path) == ["kept.png"]
    assert kept.read_bytes() == before


@pytest.mark.parametrize("name", ["missing/figure.png", "file/figure.png", "folder"])
def test_save_to_an_unusable_path_raises_storage_error(tmp_path, name):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError):
        figures.save(figures.curves([]), tmp_path / name)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]


def test_importing_figures_does_not_import_matplotlib_nor_drawing_pyplot(tmp_path):
    code = (
        "import sys; from tinyalex import figures; assert 'matplotlib' not in sys.modules;"
        f"figures.save(figures.curves([]), {str(tmp_path / 'figure.png')!r});"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_names_in_any_script_are_drawn_without_a_warning(tmp_path):
    """What no installed font has is drawn as its number; formatting characters are left out."""
    from tinyalex.figures import page

    text, family = page.drawable("\U0010fffd cat\U000e0041\x1b")
    assert text == "\\U0010fffd cat\\x1b" and len(family) >= 1
    for name in ("\u732b", "\u05d7\u05ea\u05d5\u05dc", "\U0001f469\u200d\U0001f467", "$a_b$", "\ue000", "caf\xe9"):
        figure, axes = page.page(2, 1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            page.write(axes, 0.1, 0.5, page.short_name(name, 1.5, 9))
            page.save(figure, tmp_path / "name.png")


def test_an_installed_font_is_used_for_characters_that_the_usual_one_lacks():
    from matplotlib import font_manager

    from tinyalex.figures import page

    usual = set(font_manager.get_font(font_manager.findfont(font_manager.FontProperties())).get_charmap())
    stix = set(font_manager.get_font(font_manager.findfont("STIXGeneral")).get_charmap())
    char = chr(min(code for code in stix - usual if code > 0xA0 and chr(code).isprintable()))
    text, family = page.drawable(f"a {char}")
    assert text == f"a {char}" and len(family) == 2
    fonts = [font.fname for font in font_manager.fontManager.ttflist if font.name == family[1]]
    assert any(font_manager.get_font(path).get_char_index(ord(char)) for path in fonts)


def test_a_name_that_begins_with_a_comma_is_not_lost():
    from tinyalex.figures import page

    assert page.short_name(", cat", 2, 9) == ", cat" and page.short_name("tench, Tinca tinca", 2, 9) == "tench"


def test_names_in_any_writing_are_drawn_without_warnings(tmp_path):
    words = ["\u732b", "\u72ac, hund", "\u0e41\u0e21\u0e27", "\U0001f408", "\u0642\u0637"]
    p = np.full((2, 5), 0.2)
    figures.save(figures.panel(pictures(2, 16), np.array([0, 1]), p, words), tmp_path / "panel.png")
    assert (tmp_path / "panel.png").stat().st_size > 1000


def test_an_exchange_for_normalization_alone_is_not_drawn_as_a_wire():
    """Figure 2 shows what a layer with weights reads: conv2's column b does not read column a's maps."""

    def drawn(window):
        levels = wiring.levels(alexnet.describe(Net(norm_window=window), devices=2))
        return [(level.name, level.after, {c: part.sources for c, part in level.parts.items()}) for level in levels]

    assert drawn("all") == drawn("column")
    assert ("conv2", ["ReLU", "LRN", "max pool 3, stride 2"], {0: [0], 1: [1]}) in drawn("all")


def test_a_recipe_that_takes_its_classes_from_the_data_is_drawn(tmp_path, capsys):
    assert main(["figures", "tiny-imagenet", "--out", str(tmp_path)]) == 0
    assert "with 1,000 classes; a run has as many as its data" in capsys.readouterr().out
    assert (tmp_path / "tiny-imagenet.png").is_file()


def test_a_font_that_was_installed_after_the_list_of_fonts_is_found(monkeypatch):
    from matplotlib import font_manager

    fonts = font_manager.fontManager.ttflist
    upright = [font for font in fonts if font.style == "normal" and font.weight == 400]
    own, other = (next(f.fname for f in upright if f.name == name) for name in ("DejaVu Sans", "STIXGeneral"))
    char = chr(min(set(font_manager.get_font(other).get_charmap()) - set(font_manager.get_font(own).get_charmap())))
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [f for f in fonts if f.name == "DejaVu Sans"])
    for installed, found in (([], None), ([other], "STIXGeneral")):
        figure_page._family.cache_clear()
        figure_page._look_for_new_fonts.cache_clear()
        monkeypatch.setattr(font_manager, "findSystemFonts", lambda installed=installed: installed)
        assert figure_page._family(char) == found
    figure_page._family.cache_clear()

"""The site's pages: folded code, lines that wrap, downloads on top, the map of the paper, colours for dark pages."""

import base64
import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

ROOT = Path(__file__).parents[2]
LESSONS = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "lessons").glob("[0-9][0-9]_*.py")}


@pytest.fixture(autouse=True)
def settings():
    """Restore matplotlib's settings, which the lessons' shared.py changes, after each test."""
    matplotlib = pytest.importorskip("matplotlib")
    with matplotlib.rc_context():
        yield


def site(name):
    """Import a file of lessons/site, or skip if Sphinx is not installed."""
    pytest.importorskip("sphinx")
    added = [str(ROOT / "lessons" / "site"), str(ROOT / "lessons")]
    sys.path[:0] = added
    try:
        return importlib.import_module(name)
    finally:
        for path in added:
            sys.path.remove(path)


@pytest.mark.parametrize("name", LESSONS)
def test_the_code_that_draws_a_lessons_figure_is_folded(name):
    cells = [re.sub(r"^(#.*\n)*", "", cell) for cell in LESSONS[name].split("\n# %%\n")]
    split = [site("pages").split_plot(cell) for cell in cells]
    assert all(before + plot == cell for cell, (before, plot) in zip(cells, split, strict=True))
    drawn = [plot for _, plot in split if plot]
    assert len(drawn) >= 1 and all(plot.startswith("figure") for plot in drawn)
    assert not any("keep(figure" in before for before, _ in split)


def test_each_line_of_code_is_an_element_and_the_text_stays_the_same():
    html = '<span class="s">a &lt;\nb</span> <a href="x"><span>c</span></a><span class="w">\n</span>\nd\n'
    made = site("pages").in_lines(html)
    plain = re.sub(r"<[^>]+>", "", made)
    assert plain == re.sub(r"<[^>]+>", "", html)
    lines = re.findall(r'<span class="line">(.*?)\n</span>', made, re.S)
    assert [re.sub(r"<[^>]+>", "", line) for line in lines] == ["a &lt;", "b c", "", "d"]
    assert site("pages").in_lines("a<b>\n</b>") == '<span class="line">a<b></b>\n</span>'
    for line in lines:
        assert line.count("<span") == line.count("</span") and line.count("<a ") == line.count("</a")


def test_downloads_stand_below_the_title():
    text = (
        ".. only:: html\n\n    .. note::\n        :class: x\n\n        Go to the end\n\n.. _ref:\n\n"
        "Lesson 1\n========\n\nText\n\n.. _sphx_glr_download_lessons_01_convolution.py:\n\nthe end\n"
    )
    source = [text]
    site("pages").rewrite(None, "lessons/01_convolution", source)
    assert re.search(r"^Lesson 1\n=+\n.*\n?.. rst-class:: downloads", source[0], re.M)
    assert "<01_convolution.ipynb>" in source[0] and "<01_convolution.zip>" in source[0] and "\nText\n" in source[0]
    assert "the end" not in source[0] and "Go to" not in source[0]


def test_every_section_that_a_lesson_names_is_on_the_page_of_the_paper():
    contents = site("contents")
    shown = [section for section, _, _ in contents.sections() if section]
    assert shown == sorted(shown, key=lambda section: [int(part) for part in section.split(".")])
    assert {"2", "3.1", "3.3", "3.5", "4.2", "5", "6.1", "7"} <= set(shown)
    for title, named in contents.lessons().values():
        assert named and set(named) <= set(shown), title


def test_the_page_of_the_paper_has_all_files_of_readmes_table():
    contents = site("contents")
    table = (
        (ROOT / "README.md").read_text(encoding="utf-8").split("## The paper, section by section")[1].split("\n## ")[0]
    )
    files = {name for name in re.findall(r"`([^`]+\.(?:py|toml))`", table)}
    text = " ".join(contents.linked(each) for _, _, texts in contents.sections() for each in texts)
    for name in files:
        assert f"`{name} <" in text, name
        target = re.search(rf"`{re.escape(name)} <([^>]+)>", text)[1]
        if name.endswith(".py"):
            assert target == f"_modules/tinyalex/{name.removesuffix('.py')}.html"
        else:
            assert (ROOT / "lessons" / "site" / target).is_file()
    assert contents.linked("no `layers/nothing.py`") == "no ``layers/nothing.py``"


def test_the_kernels_to_try_are_those_of_the_recorded_file():
    data, weights = site("look").data(), load_file(ROOT / "data" / "runs" / "shapes" / "weights.safetensors")
    kernels = np.frombuffer(base64.b64decode(data["kernels"]), "<f4").reshape(32, 11, 11, 3)
    for number, column, map_ in ((0, "conv1a", 0), (17, "conv1b", 1), (31, "conv1b", 15)):
        assert np.array_equal(kernels[number], weights[f"{column}/W"][..., map_])
    assert data["picture"].startswith("data:image/jpeg;base64,") and len(str(data)) < 150_000


def test_a_figure_for_dark_pages_keeps_its_images():
    pytest.importorskip("sphinx_gallery")
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    dark = site("dark")
    figure, (left, right) = plt.subplots(1, 2)
    left.imshow(np.ones((4, 4, 3)))
    upon, beside = left.text(1, 1, "upon", color="black"), left.text(0, -1.2, "beside", color="black")
    (bar,) = right.bar([0], [1], color="#0072b2")
    label = right.text(0, 0.5, "in the bar", color="white")
    title = right.set_title("title", color="black")
    plt.close(figure)
    dark.darken(figure)
    background = matplotlib.colors.to_rgb(dark.BACKGROUND)
    assert np.allclose(figure.get_facecolor()[:3], background)
    assert upon.get_color() == "black" and min(matplotlib.colors.to_rgb(beside.get_color())) > 0.8
    assert min(matplotlib.colors.to_rgb(title.get_color())) > 0.8
    assert np.array_equal(left.images[0].get_array(), np.ones((4, 4, 3)))
    assert bar.get_facecolor()[2] > 0.8 and label.get_color() in ("black", "white")


@pytest.mark.parametrize("value, darker", [("white", True), ("#e9ebee", True), ("#24292f", False), ("#0072b2", False)])
def test_greys_are_turned_over_and_colours_lightened(value, darker):
    pytest.importorskip("sphinx_gallery")
    from matplotlib.colors import to_rgb

    before, after = to_rgb(value), site("dark").colour(value)[:3]
    assert (sum(after) < sum(before)) is darker
    assert site("dark").colour((0.2, 0.2, 0.2, 0.4))[3] == 0.4


@pytest.mark.parametrize("name", LESSONS)
def test_every_question_under_try_has_an_answer(name):
    items = LESSONS[name].split("\n# Try\n")[1].split("\n# Exercise\n")[0].split("\n# - ")[1:]
    for item in items:
        question = item.split(".. answer::")[0]
        assert "?" not in question or ".. answer::" in item, " ".join(question.split())

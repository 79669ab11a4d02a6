"""The check of the web pages accepts good pages and finds every kind of error."""

import shutil

import pytest

from tests.lessons.test_pages import ROOT, site
from tests.programs.check_site import Browser, broken_links, language_faults, lesson_faults, notebook_errors

SITE = ROOT / "lessons" / "site"

GOOD = '<html><head><link rel="stylesheet" href="s.css"></head><body><h1 id="a">x</h1><a href="b.html#c">b</a>'


def check(folder, **pages):
    (folder / "s.css").write_text("body { color: black }")
    (folder / "b.html").write_text('<html><p id="c">c</p><a href="https://example.org">elsewhere</a></html>')
    for name, text in pages.items():
        (folder / f"{name}.html").write_text(text)
    return list(broken_links(folder))


def test_good_pages_pass(tmp_path):
    assert check(tmp_path, a=GOOD) == []


def test_every_kind_of_error_is_found(tmp_path):
    for bad in (
        '<a href="nowhere.html">',
        '<a href="b.html#nothing">',
        '<a href="#nothing">',
        '<img src="picture.png">',
        '<img src="s.css" srcset="s.css 1x, missing.png 2x">',
        '<script src="https://cdn.example.org/math.js"></script>',
        '<link rel="stylesheet" href="//fonts.example.org/f.css">',
    ):
        assert len(check(tmp_path, a=GOOD + bad)) == 1, bad
    (tmp_path / "a.html").write_text(GOOD)
    (tmp_path / "t.css").write_text("@font-face { src: url(https://fonts.example.org/f.woff) }")
    assert len(list(broken_links(tmp_path))) == 1


def test_a_folder_without_pages_is_an_error(tmp_path):
    assert len(list(broken_links(tmp_path))) == 1


LESSON = (
    '<p class="downloads"><a href="01_a.ipynb">n</a><a href="01_a.zip">s</a></p>'
    '<a href="../paper.html#section-3-5">§3.5</a>'
    '<details class="plot"><pre>keep(figure, "a")</pre></details><img src="a_dark.png">'
)


def test_a_lesson_without_one_of_its_parts_is_found(tmp_path):
    (tmp_path / "lessons").mkdir()
    page = tmp_path / "lessons" / "01_a.html"
    page.write_text(LESSON, encoding="utf-8")
    assert list(lesson_faults(tmp_path)) == []
    for part in ("01_a.ipynb", "01_a.zip", "paper.html#", 'class="plot"', "_dark.png"):
        page.write_text(LESSON.replace(part, "x"), encoding="utf-8")
        assert len(list(lesson_faults(tmp_path))) == 1, part


def test_a_page_without_its_other_language_is_found(tmp_path):
    (tmp_path / "zh").mkdir()
    english, chinese = '<a href="zh/a.html">中文</a>', '<html lang="zh-CN"><a href="../a.html">English</a>卷积'
    for first, second, faults in (
        (english, chinese, 0),
        ("no link", chinese, 1),
        (english, chinese.replace("../a.html", "b.html"), 1),
        (english, chinese.replace("zh-CN", "en"), 1),
        (english, chinese.replace("卷积", "convolution"), 1),
    ):
        (tmp_path / "a.html").write_text(first, encoding="utf-8")
        (tmp_path / "zh" / "a.html").write_text(second, encoding="utf-8")
        assert len(list(language_faults(tmp_path))) == faults, (first, second)
    shutil.rmtree(tmp_path / "zh")
    assert len(list(language_faults(tmp_path))) == 1


BAD = {
    "the page is": '<div style="width: 900px">wide</div>',
    "clipped: no end": '<pre style="white-space: pre; overflow: hidden">no end' + " and no end" * 99 + "</pre>",
    "boom": "<script>throw new Error('boom')</script>",
    "could not load https:": '<img src="https://example.org/a.png">',
    "no picture": '<article><img src="none.png" width="9" height="9"></article>',
    "the other colour scheme": '<article><img src="sphx_glr_a_001.png" width="9" height="9"></article>',
}


@pytest.mark.slow
def test_a_browser_finds_every_kind_of_fault(tmp_path):
    pytest.importorskip("playwright")
    executable = shutil.which("chromium")
    if not executable:
        pytest.skip("Chromium is not installed")
    browser, page = Browser(executable), tmp_path / "a.html"
    try:
        page.write_text("<h1>x</h1><pre>short</pre>", encoding="utf-8")
        assert list(browser.faults(page, 390, "dark")) == []
        for fault, html in BAD.items():
            page.write_text(f"<h1>x</h1>{html}", encoding="utf-8")
            assert any(fault in line for line in browser.faults(page, 390, "dark")), fault
        (tmp_path / "lessons").mkdir()
        code = (
            '<div><div class="highlight"><pre style="white-space: pre-wrap"><span class="line" style="display: block">'
            f"{'a b ' * 99}</span></pre></div></div>"
        )
        (tmp_path / "lessons" / "a.html").write_text(code, encoding="utf-8")
        assert any("wraps" in line for line in browser.faults(tmp_path / "lessons" / "a.html", 1280, "light"))
    finally:
        browser.close()


def test_a_notebook_that_fails_or_shows_no_figure_is_reported(tmp_path):
    """With a stand-in for nbclient: what is tested is how the result is read."""
    stand_in = tmp_path / "python"
    for script, fault in (
        ("echo Traceback >&2; echo 'NameError: x' >&2; exit 1", "NameError: x"),
        ("echo 'it shows no figure' >&2; exit 1", "it shows no figure"),
        ("exit 0", None),
    ):
        stand_in.write_text(f"#!/bin/sh\n{script}\n")
        stand_in.chmod(0o755)
        found = list(notebook_errors(tmp_path / "1.ipynb", str(stand_in)))
        assert found == ([f"1.ipynb: {fault}"] if fault else [])


BUGS = {
    "Math.max(0, value)": "value",
    "sum = biases[o]": "sum = 0",
    "c <= Math.min(last, o + reach)": "c <= o + reach",
    "below[(2 * i + u) * side + 2 * j + v]": "below[(3 * i + u) * side + 2 * j + v]",
    "state.row = clamp(": "state.never = clamp(",
    'canvas.addEventListener("pointermove"': 'canvas.addEventListener("never"',
}


@pytest.mark.slow
def test_the_page_to_try_is_compared_with_the_package(tmp_path):
    pytest.importorskip("playwright")
    pytest.importorskip("sphinx")
    executable = shutil.which("chromium")
    if not executable:
        pytest.skip("Chromium is not installed")
    look, script = site("look"), (SITE / "static" / "look.js").read_text(encoding="utf-8")
    page = tmp_path / "look.html"
    page.write_text(look.page(), encoding="utf-8")
    (tmp_path / "_static").mkdir()
    browser = Browser(executable)
    try:
        for right, wrong in {script[:9]: script[:9], **BUGS}.items():
            assert right in script
            (tmp_path / "_static" / "look.js").write_text(script.replace(right, wrong), encoding="utf-8")
            found = list(browser.faults(page, 1280, "light"))
            assert bool(found) is (right != wrong), (wrong, found)
    finally:
        browser.close()

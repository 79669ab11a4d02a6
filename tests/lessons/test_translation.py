"""The Chinese pages and the Chinese README say what the English ones say now; translate.py --check lists the same."""

import ast
import csv
import importlib
import re
import shutil
import sys
from pathlib import Path

import pytest

pytest.importorskip("sphinx")
ROOT = Path(__file__).parents[2]
SITE = ROOT / "lessons" / "site"
sys.path[:0] = [str(SITE), str(SITE.parent)]
translate = importlib.import_module("translate")
importlib.import_module("contents")
languages = importlib.import_module("languages")
sys.path[:2] = []


@pytest.mark.parametrize("page", translate.PAGES)
def test_the_translation_of_a_page_is_complete_and_up_to_date(page):
    assert list(translate.out_of_date(page)) == []


def test_the_words_that_extensions_write_are_translated():
    """A message is a string in ``_(...)``; Sphinx has translations of its own for a few words."""
    code = "".join(path.read_text(encoding="utf-8") for path in SITE.glob("*.py"))
    used = {ast.literal_eval(text) for text, _ in re.findall(r"\b_\((([\"']).+?\2)\)", code)}
    known = {m.id: m.string for m in translate.messages(translate.read(translate.MESSAGES / "sphinx.po"))}
    assert len(used) > 15 and not [text for text in used if not known.get(text)]
    for text, translation in known.items():
        assert set(re.findall(r"{\d}", text)) == set(re.findall(r"{\d}", translation)), text


def test_readme_is_translated_section_by_section():
    assert list(translate.readme_out_of_date()) == []


def exact(text):
    """Return what is the same in both languages: code spans, commands, names of files and numbers of two digits."""
    text = re.sub(r"<!--.*?-->", "", text)
    spans = {translate.one_line(span) for span in re.findall(r"`([^`]+)`", text)}
    commands = set(re.findall(r"^ {4}(?:\.venv|python3|tinyalex |import |\w+ = |\w+, \w+ = | {4}--).*$", text, re.M))
    files = set(re.findall(r"[\w/]+\.(?:py|md|toml|rst|png)", text))
    return spans, commands, files, set(re.findall(r"\d[\d,.]*\d", re.sub(r"`[^`]+`", "", text)))


def test_the_chinese_readme_keeps_code_commands_and_numbers():
    english, chinese = (
        [exact(text) for text in translate.sections((ROOT / name).read_text(encoding="utf-8")).values()]
        for name in ("README.md", "README.zh-CN.md")
    )
    for of_english, of_chinese in zip(english[1:], chinese[1:], strict=True):
        assert of_english == of_chinese


@pytest.mark.parametrize(
    ("old", "new"),
    [("0.26 %", "0.62 %"), ("`runs/shapes/`", "`runs/shape/`"), ("/pip install .", "/pip install -e .")],
)
def test_a_changed_number_and_a_changed_command_are_seen(old, new):
    text = translate.sections((ROOT / "README.zh-CN.md").read_text(encoding="utf-8"))["两条命令"]
    assert old in text and exact(text.replace(old, new)) != exact(text)


def test_both_readmes_link_to_each_other():
    for name, other in (("README.md", "README.zh-CN.md"), ("README.zh-CN.md", "README.md")):
        assert f"]({other})" in "".join((ROOT / name).read_text(encoding="utf-8").splitlines()[:5])


def planted(tmp_path, monkeypatch, page="lessons/01_convolution"):
    """Copy a page's translation and its source to where a test may change them; return both paths."""
    monkeypatch.setattr(translate, "MESSAGES", tmp_path)
    monkeypatch.setattr(translate, "ROOT", tmp_path)
    message, lesson = tmp_path / f"{page}.po", tmp_path / f"{page}.py"
    message.parent.mkdir(parents=True)
    shutil.copy(SITE / "locale" / "zh_CN" / "LC_MESSAGES" / f"{page}.po", message)
    shutil.copy(ROOT / f"{page}.py", lesson)
    assert list(translate.out_of_date(page)) == []
    return message, lesson


def change(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "so there is one more axis in front",
            "so there are two more axes in front",
            "no longer in the text: ``Conv2d``",
        ),
        (
            "# Try\n# ---\n",
            "# Try\n# ---\n# Something to begin with.\n#\n",
            "new in the text: Something to begin with.",
        ),
        ("#      110.6: 217 x 217", "#      110: 217 x 217", "no longer in the text: 110.6"),
        ("# And backward\n# ------------", "# And back\n# --------", "no longer in the text: And backward"),
        (":Takes: 3 s", ":Takes: 4 s", "no longer in the text: 3 s on two cores."),
        (r"\frac{\partial y_i}", r"\frac{\partial y_j}", "no longer in the text: y_i ="),
    ],
)
def test_a_lesson_that_has_changed_is_found(tmp_path, monkeypatch, old, new, said):
    _, lesson = planted(tmp_path, monkeypatch)
    change(lesson, old, new)
    found = list(translate.out_of_date("lessons/01_convolution"))
    assert found and any(line.startswith(said) for line in found), found


def test_a_lesson_whose_lines_break_elsewhere_is_not_out_of_date(tmp_path, monkeypatch):
    _, lesson = planted(tmp_path, monkeypatch)
    change(lesson, "multiply element\n# by element", "multiply\n# element by element")
    assert list(translate.out_of_date("lessons/01_convolution")) == []


def test_an_empty_a_fuzzy_and_a_lost_translation_are_found(tmp_path, monkeypatch):
    message, _ = planted(tmp_path, monkeypatch)
    change(message, 'msgstr "再看反向"', 'msgstr ""')
    change(message, 'msgid "Try"', '#, fuzzy\nmsgid "Try"')
    assert sorted(translate.out_of_date("lessons/01_convolution")) == ["changed: Try", "not translated: And backward"]
    message.unlink()
    assert list(translate.out_of_date("lessons/01_convolution")) == ["it has no translation"]


def test_a_changed_section_of_the_readme_is_found(tmp_path, monkeypatch):
    for name in ("README.md", "README.zh-CN.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.setattr(translate, "ROOT", tmp_path)
    before = list(translate.readme_out_of_date())
    change(tmp_path / "README.md", "Ctrl-C saves and stops", "Ctrl-C stops")
    (found,) = set(translate.readme_out_of_date()) - set(before)
    assert found.startswith(
        '"Two commands" has changed; its mark when it is up to date: <!-- README.md, "Two commands": '
    )
    chinese = tmp_path / "README.zh-CN.md"
    mark = re.search(r'<!-- README.md, "Two commands": \w+ -->', chinese.read_text(encoding="utf-8"))[0]
    change(chinese, mark, found.split(": ", 1)[1])
    assert list(translate.readme_out_of_date()) == before


def test_translations_keep_code_links_and_formulas():
    """Each code span, target and bold number of a message is in its translation too."""
    for path in sorted(translate.MESSAGES.rglob("*.po")):
        for message in translate.messages(translate.read(path)):
            if message.string and path.stem != "sphinx":
                for pattern in (r"``.+?``", r"<([^<>`]+)>`", r"\*\*[\d.,]+\*\*"):
                    parts = sorted(set(re.findall(pattern, message.id)))
                    assert parts == sorted(set(re.findall(pattern, message.string))), f"{path.name}: {message.id}"


def test_each_term_is_there_once():
    rows = list(csv.reader((SITE / "terms.csv").read_text(encoding="utf-8").splitlines()))
    assert all(len(row) == 3 and row[0] and row[1] for row in rows)
    names = [row[0] for row in rows]
    assert len(names) > 120 and len(set(names)) == len(names) and names == sorted(names, key=str.lower)


def test_chinese_words_are_found_in_a_text():
    words = languages.Search({}).split("用反向传播训练网络。Dropout 也是。")
    for word in ("反向传播", "训练", "传播训", "用反向传播训练网络", "Dropout"):
        assert word in words
    assert "络也" not in words and "网络。" not in words

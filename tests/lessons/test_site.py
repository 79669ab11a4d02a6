"""The package reference of the site: it has every public module, and the methods of the layers."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SITE = ROOT / "lessons" / "site"


@pytest.fixture(scope="module")
def pages():
    spec = importlib.util.spec_from_file_location("reference", SITE / "reference.py")
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    return reference.pages()


def public_modules():
    for path in (ROOT / "tinyalex").rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if not any(part.startswith("_") for part in parts):
            yield ".".join(parts)


def test_every_public_module_is_on_exactly_one_page(pages):
    listed = [name for text in pages.values() for name in re.findall(r"^\.\. automodule:: (\S+)$", text, re.M)]
    assert sorted(listed) == sorted(public_modules())
    assert {"tinyalex", "tinyalex.errors", "tinyalex.layers.convolution", "tinyalex.datasets.shards"} <= set(listed)
    assert "tinyalex.__main__" not in listed


def test_every_folder_of_the_package_has_a_page_that_the_index_links(pages):
    folders = {path.parent.name for path in (ROOT / "tinyalex").glob("*/__init__.py")}
    assert pages.keys() == folders | {"index", "package"}
    for name in pages.keys() - {"index"}:
        assert f"<{name}>`" in pages["index"] and f"\n   {name}\n" in pages["index"]


@pytest.mark.slow
def test_the_reference_shows_forward_and_backward_of_the_layers(tmp_path):
    pytest.importorskip("sphinx")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.rst").write_text("Reference\n=========\n\n.. toctree::\n\n   api/layers\n")
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "text", "-c", str(SITE), "-D", "html_theme=basic"]
    command += ["-D", "exclude_patterns=api/[!l]*"]  # the other pages take time
    command += ["-D", "extensions=sphinx.ext.autodoc,sphinx.ext.napoleon"]
    command += [str(tmp_path / "site"), str(tmp_path / "out")]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    text = (tmp_path / "out" / "api" / "layers.txt").read_text(encoding="utf-8")
    for layer in ("convolution.Conv2d", "linear.Linear", "pooling.MaxPool", "normalization.LRN", "dropout.Dropout"):
        described = text.split(f"class tinyalex.layers.{layer}(")[1].split("\nclass ")[0]
        assert re.search(r"^ +forward\(", described, re.M) and re.search(r"^ +backward\(", described, re.M), layer


def test_formulas_are_mathml_and_answers_open_on_a_click(tmp_path):
    pytest.importorskip("sphinx")
    (tmp_path / "index.rst").write_text(
        "Page\n====\n\n- Is :math:`x^2` positive?\n\n  .. answer::\n\n     Unless x = 0.\n\n"
        ".. math::\n\n   a = b \\\\\n   \\frac{a}{b} = 1\n"
    )
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-C", "-D", "extensions=pages"]
    command += ["-D", "html_math_renderer=mathml", "-D", "html_theme=basic", str(tmp_path), str(tmp_path / "out")]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(SITE)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert re.search(r"<details><summary>Answer</summary>.*Unless x = 0\..*</details>", page, re.S)
    assert page.count("<math") == 3 and page.count('display="block"') == 2 and "<mfrac>" in page
    assert not re.search(r"<script[^>]+src=\"https?:", page)


def test_every_formula_of_the_lessons_can_be_written_as_mathml():
    mathml = pytest.importorskip("docutils.utils.math.latex2mathml")
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "lessons").glob("[0-9][0-9]_*.py")]
    blocks = [block for text in texts for block in re.findall(r"^# \.\. math::\n#\n((?:#    .*\n)+)", text, re.M)]
    lines = [line for block in blocks for line in re.sub(r"^#", "", block, flags=re.M).split("\\\\\n")]
    assert len(blocks) >= 5 and len(lines) >= 18
    for line in lines:
        assert "<math" in mathml.tex2mathml(line.strip(), as_block=True), line
    with pytest.raises(mathml.MathError):
        mathml.tex2mathml(r"\unknown{a}")

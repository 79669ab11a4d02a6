"""Notebooks of the lessons bring the files that they read; what is written in reStructuredText becomes Markdown."""

import importlib.util
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
NEEDED = ["data/runs/shapes/kernels.png", "lessons/shared.py", "lessons/small.toml"]


@pytest.fixture
def notebooks(monkeypatch):
    spec = importlib.util.spec_from_file_location("notebooks", ROOT / "lessons" / "site" / "notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(cells, folder):
    """Run the cells as a notebook would, in a folder, and return what the last one prints."""
    script = "import sys\nsys.path = [path for path in sys.path if path]\n"
    for code in cells:
        if code.startswith("%%writefile "):
            first, text = code.split("\n", 1)
            code = f"open({first.split()[1]!r}, 'w', encoding='utf-8').write({text!r})"
        script += f"{code}\n"
    return subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True)


def test_the_cells_write_the_same_files(notebooks, tmp_path):
    done = run(notebooks.cells(NEEDED), tmp_path)
    assert done.returncode == 0, done.stderr
    for name in NEEDED:
        assert (tmp_path / notebooks.FOLDER / name).read_bytes() == (ROOT / name).read_bytes()
    written = {path.relative_to(tmp_path / notebooks.FOLDER).as_posix() for path in tmp_path.rglob("*.*")}
    assert written == set(NEEDED)


def test_after_the_cells_the_helpers_are_imported_and_read_their_files(notebooks, tmp_path):
    code = ["import shared; print(shared.small().name, shared.HERE)", "print(__import__('os').listdir('.'))"]
    done = run([*notebooks.cells(NEEDED), *code], tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path / notebooks.FOLDER / 'lessons'}" in done.stdout and "['tinyalex-lessons']" in done.stdout
    without = run([*notebooks.cells(["lessons/shared.py"]), *code], tmp_path / "..")
    assert without.returncode == 0 or "small.toml" in without.stderr


def test_a_lesson_needs_the_files_that_it_opened(notebooks):
    notebooks.trace({}, str(ROOT / "lessons" / "14_kernels.py"))
    opened = [
        ("data/runs/shapes/kernels.png", "rb"), ("lessons/small.toml", "r"), ("lessons/01_convolution.py", "r"),
        ("lessons/14_kernels.py", "r"), ("README.md", "r"), ("lessons/measured.json", "w"),
        ("data/runs/shapes/no such file", "r"),
    ]  # fmt: skip
    for name, mode in opened:
        notebooks._opened("open", (str(ROOT / name), mode, 0))
    notebooks._opened("open", (3, "r", 0))  # a descriptor
    assert notebooks.files("14_kernels") == NEEDED
    assert notebooks.files("15_neighbours") == ["lessons/shared.py"]


def test_a_notebook_is_completed_once_and_its_archive_has_the_same_files(notebooks, tmp_path):
    (tmp_path / "lessons").mkdir()
    path = tmp_path / "lessons" / "10_network.ipynb"
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["# Lesson 10\n\n:Paper: §3\n"]},
        {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": ["import shared"]},
    ]
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 0}))
    for _ in range(2):
        notebooks.complete(SimpleNamespace(srcdir=tmp_path))
        made = json.loads(path.read_text())
        kinds = ["".join(cell["source"]).split("\n")[0][:32] for cell in made["cells"]]
        assert kinds[0] == "# Lesson 10" and kinds[-1] == "import shared" and len(kinds) == 4
        assert made["cells"][0]["source"][-1] == "- **Paper:** §3\n"
    with zipfile.ZipFile(path.with_suffix(".zip")) as archive:
        assert archive.namelist() == [
            f"{notebooks.FOLDER}/lessons/10_network.py",
            f"{notebooks.FOLDER}/lessons/shared.py",
        ]


def test_answers_headers_and_formulas_become_markdown(notebooks):
    text = "- How many?\n\n  .. answer::\n\n     Two, as ``1 + 1``:\n     done.\n\n- Next.\n"
    made = notebooks.markdown(text)
    assert made == (
        "- How many?\n\n  <details><summary>Answer</summary>\n\n  Two, as ``1 + 1``:\n  done.\n\n  </details>\n"
        "- Next.\n"
    )
    assert notebooks.markdown(r"\begin{align}a \\ b\end{align}") == "$$\\begin{gathered}a \\\\ b\\end{gathered}$$"
    assert notebooks.markdown("see :doc:`lesson 4 <04_lrn>` and :math:`x`") == "see lesson 4 and x"


@pytest.mark.parametrize("path", sorted((ROOT / "lessons").glob("[0-9][0-9]_*.py")), ids=lambda path: path.stem)
def test_no_directive_of_a_lesson_is_left_in_its_notebook(notebooks, path):
    blocks = re.findall(r"\n# %%\n((?:#.*\n)+)", path.read_text(encoding="utf-8"))
    text = "\n".join(notebooks.markdown(re.sub(r"^# ?", "", block, flags=re.M)) for block in blocks)
    assert set(re.findall(r"^ *\.\. ([\w-]+)::", text, re.M)) <= {"math", "image", "note", "code-block"}

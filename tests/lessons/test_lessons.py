"""Each lesson runs in its own process, and prints the numbers that its text has in bold."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tinyalex.recipes import recipe

ROOT = Path(__file__).parents[2]
LESSONS = sorted((ROOT / "lessons").glob("[0-9][0-9]_*.py"))
TEXTS = {path.stem: path.read_text(encoding="utf-8") for path in LESSONS}
FIELDS = ("Question", "Paper", "At the end", "Takes", "Run")


def field(name, which):
    return re.search(rf"^:{which}: (.+(?:\n    .+)*)", TEXTS[name], re.M)[1]


def seconds(name):
    """Return the time in the lesson's header."""
    return int(re.match(r"(\d+) s on two cores", field(name, "Takes"))[1])


def prose(name):
    """Return the docstring and the comment block at the start of each cell."""
    docstring, code = TEXTS[name].split('"""')[1], TEXTS[name].split('"""', 2)[2]
    cells = [re.match(r"\n(?:#.*\n)*", cell)[0] for cell in code.split("\n# %%")[1:]]
    return docstring + "\n".join(re.sub(r"^# ?", "", cell, flags=re.M) for cell in cells)


PARAMETERS = [pytest.param(name, marks=[pytest.mark.lessons] if seconds(name) > 5 else []) for name in TEXTS]


def test_the_lessons_are_numbered():
    assert [name[:2] for name in TEXTS] == [f"{number:02d}" for number in range(1, 23)]


@pytest.mark.parametrize("name", TEXTS)
def test_a_lesson_has_a_complete_header(name):
    first, line = TEXTS[name].split("\n")[1:3]
    assert first.startswith(f"Lesson {int(name[:2])}: ") and line == "=" * len(first)
    for which in FIELDS:
        assert field(name, which)
    assert "§" in field(name, "Paper")
    assert field(name, "Run") == f"``python lessons/{name}.py``"
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"| `lessons/{name}.py` |" in readme
    assert seconds(name) <= 45 and "at most 45 seconds on two cores" in readme


@pytest.mark.parametrize("name", TEXTS)
def test_a_lesson_has_all_its_parts(name):
    text = TEXTS[name]
    assert 90 <= len(text.splitlines()) <= 350
    assert "assert " in text and f'keep(figure, "{name}")' in text
    assert re.search(r"^from tinyalex", text, re.M), "a lesson compares its code with the package"
    assert text.count("\n# %%\n") >= 5
    for heading in ("Try", "Exercise"):
        assert f"\n# {heading}\n# {'-' * len(heading)}\n" in text
    assert len(re.findall(r"^# - ", text.split("\n# Try\n")[1].split("\n# Exercise\n")[0], re.M)) >= 2


@pytest.mark.parametrize("name", TEXTS)
def test_the_underline_of_a_heading_is_as_long_as_the_heading(name):
    for title, line in re.findall(r"^# (.+)\n# (-{3,})$", TEXTS[name], re.M):
        assert len(title) == len(line), title


def run(name, folder):
    """Run a lesson in a folder with links to its files, so that its figure goes there."""
    lessons = folder / "lessons"
    lessons.mkdir()
    for file in ("shared.py", "small.toml", "measured.json", f"{name}.py"):
        (lessons / file).symlink_to(ROOT / "lessons" / file)
    (folder / "data").symlink_to(ROOT / "data")
    code = (
        f"import runpy, shared; shared.OUT = shared.Path({str(folder / 'out')!r}); "
        f"runpy.run_path({name + '.py'!r}, run_name='__main__')"
    )
    env = os.environ | {"PYTHONPATH": f"{lessons}{os.pathsep}{ROOT}"}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=lessons, env=env, capture_output=True, text=True, timeout=580
    )


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_lesson_runs_and_prints_the_bold_numbers_of_its_text(name, tmp_path):
    done = run(name, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr == ""
    picture = tmp_path / "out" / f"{name}.png"
    assert picture.stat().st_size > 20_000
    for number in re.findall(r"\*\*([\d,.]+ ?%?)\*\*", prose(name)):
        assert re.search(rf"(?<![\d.,]){re.escape(number)}(?![\d%])", done.stdout), (
            f"{number} is in bold in the text, but the lesson does not print it"
        )


def test_bold_numbers_are_found_in_the_text():
    found = {name: re.findall(r"\*\*([\d,.]+ ?%?)\*\*", prose(name)) for name in TEXTS}
    assert sum(len(numbers) > 0 for numbers in found.values()) >= 10
    assert "60,965,224" in found["10_network"] and "7.1" in found["01_convolution"]


def test_the_recipe_of_the_small_net_is_read_as_written():
    path = ROOT / "lessons" / "small.toml"
    assert tomllib.loads(path.read_text())["net"] == {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in vars(recipe.load(path).net).items()
        if key in tomllib.loads(path.read_text())["net"]
    }


def test_a_lesson_with_a_mistake_fails(tmp_path):
    (tmp_path / "lessons").mkdir()
    broken = TEXTS["10_network"].replace(
        "parameters[name] = k * k * depth * maps + maps", "parameters[name] = k * k * depth * maps", 1
    )
    assert broken != TEXTS["10_network"]
    path = tmp_path / "10_network.py"
    path.write_text(broken, encoding="utf-8")
    env = os.environ | {"PYTHONPATH": f"{ROOT / 'lessons'}{os.pathsep}{ROOT}"}
    done = subprocess.run([sys.executable, str(path)], env=env, capture_output=True, text=True)
    assert done.returncode == 1 and "AssertionError" in done.stderr
